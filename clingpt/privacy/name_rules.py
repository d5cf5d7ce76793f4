"""Names of people in clinical text, found by the words around them or as a first and a last name.

Most surnames are also words, places or the names of diseases and tests (Brown, Young, Parkinson's
disease, Cox regression), so a capital letter never suffices. A name needs a title ("Dr. Brown"), a
label ("Pt: DOE, JOHN"), a relation ("her son Bob"), a degree ("Ann Lee, MD"), or a first name
before a last name. Once found, a name is also found elsewhere in the same text without such a cue.
Other names are missed.

A rule is called with the place of a cue word and returns the name it reveals, or None. The table
of rules and their cues is `_rules` at the end.
"""

import re
import string
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterator, Sequence, Set
from functools import cache

from clingpt.privacy.names import (
    AFTER_LABEL,
    POSSESSIVE,
    Reader,
    Span,
    Standing,
    common_first_names,
    cues,
    first_names,
    is_title,
    last_names,
    plain,
    standing,
)

Rule = Callable[[Reader, int], Span | None]

SPECIALISTS = ("ist", "ian")  # "cardiologist: Ann Lee", "physician: Ann Lee"
LONGEST_SHORT = 4  # letters of a title that may end in a full stop: "see your doctor. Hearing"
MOST_DEGREES = 3  # degrees before the last one: "Ann Lee, MS, CGC"
FIELD_GAPS = (" ", ", ", " (", "; ", " - ", " / ", " | ", " -- ")

_AFTER_TITLE = re.compile(r"\.?\s{0,2}")
_AFTER_RELATION = re.compile(r"\s|\s?[:,(]\s?")
_AGED = re.compile(r",\s(?:\d{1,3}\s?(?:y|m\b|f\b|w|d)|ninety|twin|born)", re.IGNORECASE)
_AGE = re.compile(r",?\s(?:is\san?\s)?\d{1,3}[\s-]?(?:y|m\b|f\b)", re.IGNORECASE)
_AGE_GAP = re.compile(r"(?:,|\s?\()?\s\(?\d{1,3}[\s-]?")  # between a name and "years old"
# A form field, or what a note mentions first about a patient.
_FIELD = re.compile(
    r"(?:mrns?|dob|ssn|acct|accession|hicn|nhs|chi|b-?day|birthday|dea|npi)\b|d\.o\.b|ss#|mr\b\s?#?\d"
    r"|(?:id|b|born|number)\b\.?\s?[#:]?\s?\d|date\sof\sbirth"
    r"|fin\b|med(?:ical)?\srec|an?\s(?:\d{1,3}[\s-]?y|ninety)|ninety\b"
    r"|(?:hosp(?:ital)?|prison|inmate|unit|patient|chart)\s(?:id|no|number|#)"
    r"|(?:is|was)\s(?:an?\s)?(?:\d{1,3}[\s-]?(?:y|m\b|f\b)|ninety)",
    re.IGNORECASE,
)
# Numbers that follow a name without a label: a chart number, or a date of birth in brackets. The
# digit comes before its lookbehind, so that the search can skip ahead to digits.
_NUMBER = re.compile(
    r"\d(?<=[\s(].)(?:\d{5,8}(?![\w%.,-])|\d\d-\d\d-\d\d(?![\w-])"
    r"|\d{0,3}[./-]\d{1,2}[./-]\d{2,4}\)|\d,\s[a-z])"
)
# "Lee, Ann" at the start of a field or a sentence.
_LETTERS = r"[^\W\d_a-z](?:[^\W\d_]|['’-])+"
_REVERSED = re.compile(
    rf"(?:\A|[.:|/]\s|--?\s)(?=(?P<last>{_LETTERS}),\s(?P<first>{_LETTERS})"
    r"(?P<initial>\s[A-Z]\b\.?)?(?:\Z|[.,(/|]|\s[(/|]))"
)


def find_names(
    text: str, words: Sequence[re.Match[str]], small: Sequence[str]
) -> Iterator[tuple[int, int]]:
    """Yield (start, end) of names, possibly overlapping.

    `words` are the matches of the text's words, `small` the same words in lower case.
    """
    reader, rules = Reader(text, words), _rules()
    found = []
    for place, word in enumerate(small):
        for rule in rules.get(word) or ((after_label,) if word.endswith(SPECIALISTS) else ()):
            if span := rule(reader, place):
                found.append(span)
    found += [*before_numbers(reader), *reversed_names(reader)]
    found += list(joined_names(reader, found))
    for span in [*found, *repeated(reader, found)]:
        last = reader.word(span[1] - 1)
        yield words[span[0]].start(), reader.end(span) - 2 * last.endswith(POSSESSIVE)


# After a cue


def after_title(reader: Reader, place: int) -> Span | None:
    """Match "Dr. Brown" and "mr jones", but not "MS patients" or "to miss doses"."""
    title, gap = reader.word(place), reader.gap(place + 1)
    if not gap or not _AFTER_TITLE.fullmatch(gap) or ("." in gap and len(title) > LONGEST_SHORT):
        return None
    capital = is_title(reader.word(place + 1))
    weak = title.lower() in cues("weak_titles")
    if len(title) > LONGEST_SHORT:
        # "When To See the Doctor Be sure"; but "the nurse Oluwaseun" has a capital for a reason.
        doubtful = title[0].isupper() or not capital
    else:
        # "severe MR. Left atrium"
        doubtful = weak and not is_title(title) and ("." not in gap or capital)
    sure = reader.read(place + 1, least=Standing.CLEAR if doubtful else Standing.UNLISTED)
    if sure and (not weak or reader.is_person(sure)):
        return sure  # not "Sister Mary Joseph nodule"
    if not gap.startswith(" "):
        return None
    # "Nurse Oluwaseun Adeyemi will call", "mr brown 58m".
    full = reader.read(place + 1)
    if full and reader.is_full_name(full):
        return full
    small = reader.word(place + 1)
    named = small.islower() and standing(plain(small)) is not Standing.NONE
    span = place + 1, place + 2
    return span if named and _AGE.match(reader.text, reader.end(span)) else None


def after_second_title(reader: Reader, place: int) -> Span | None:
    """Match the Jones of "Drs. Smith and Jones"."""
    first = after_title(reader, place)
    last = first[1] if first else len(reader.words)
    if reader.gap(last) != " " or reader.word(last) not in ("and", "AND"):
        return None
    return reader.read(last + 1, gap=" ")


def after_label(reader: Reader, place: int) -> Span | None:
    """Match "Pt: DOE, JOHN Q." and "Dear Ann", but not "Patient: White male"."""
    label, first = reader.word(place).lower(), place + 1
    if label == "cc" and reader.gap(place).rstrip()[-1:].isdigit():
        return None  # "58 cc, PVR 210"
    if reader.gap(first) == "(" and reader.word(first) == "s":
        first += 1  # "Physician(s): Ann Lee"
    gap, span = reader.gap(first), reader.read(first, comma=True)
    if not span:
        return None
    is_plain = label in cues("plain_labels")
    if not AFTER_LABEL.fullmatch(gap.lstrip(")")) and not (is_plain and gap in (" ", ", ")):
        return span if _needs_no_colon(reader, place, span) else None
    if reader.convinces(span):
        return span
    # "Attending: Okonkwo" and "Dear Oluwaseun,", but "Patient: Ambulatory", "Name: Aspirin".
    word = reader.word(span[0])
    if is_plain and plain(word) in first_names():
        return span
    unlisted = word[0].isupper() and standing(plain(word)) is Standing.UNLISTED
    named = unlisted or (is_title(word) and plain(word) in common_first_names())
    sure = label not in cues("doubtful_labels") and named and reader.is_field(span)
    return span if sure else None


def _needs_no_colon(reader: Reader, place: int, span: Span) -> bool:
    """Whether a label needs no colon: "Attending Ann Lee", "Surname BELL", "Patient Lee, Ann"."""
    label, gap = reader.word(place).lower(), reader.gap(span[0])
    if label in cues("parts_of_names") and gap == " ":
        return not reader.word(span[0]).islower()
    if label not in cues("labels") or gap not in (" ", ", ") or not reader.is_full_name(span):
        return False
    is_reversed = gap == " " and "," in reader.gap(span[0] + 1)
    if is_reversed and reader.gap(span[1])[:1] in ("", ".", ",", "(", ";"):
        return True
    sure = label not in cues("doubtful_labels") or (
        label == "name" and reader.before(place) in cues("clients")
    )
    return sure and is_title(reader.word(span[0]))


def after_relation(reader: Reader, place: int) -> Span | None:
    """Match "her son Bob" and "wife (Oluwaseun)", but not "mother had"."""
    gap = reader.gap(place + 1)
    span = reader.read(place + 1) if _AFTER_RELATION.fullmatch(gap) else None
    if not span or not reader.is_person(span):
        return None
    word = reader.word(span[0])
    if word.islower():
        return span if plain(word) in common_first_names() else None
    # "Father: Melanoma" is an answer; "her father Adewale" has no colon.
    unlisted = is_title(word) and ":" not in gap
    return span if plain(word) in first_names() or reader.convinces(span) or unlisted else None


def after_by(reader: Reader, place: int) -> Span | None:
    """Match "seen by Ann Lee", but not "treated by Billroth's operation"."""
    if reader.gap(place + 1) != " ":
        return None
    word, joint = reader.word(place).lower(), reader.word(place + 1).lower()
    if joint not in ("by", "with") or word not in cues("met", f"before_{joint}"):
        return None
    span = reader.read(place + 2, gap=" ")
    if not span or not reader.is_person(span) or not reader.convinces(span, may_go_on=True):
        return None
    last = reader.word(span[1] - 1)
    eponym = span[1] - span[0] == 1 and ("-" in last or last.endswith(POSSESSIVE))
    return None if eponym or last.islower() else span


def after_introducer(reader: Reader, place: int) -> Span | None:
    """Match "referring Ann Brown" and "daughter of Ann Brown", but not "patient Brown"."""
    word = reader.word(place).lower()
    if word == "of" and reader.before(place) not in cues("relations"):
        return None
    span = reader.read(place + 1, gap=" ", comma=True)
    if not span:
        return None
    is_client = word in cues("clients")
    if span[1] - span[0] == 1:  # "Client Okonkwo, 94 yrs", "Infant Hunt, twin B"
        return span if is_client and _AGED.match(reader.text, reader.end(span)) else None
    if not reader.is_person(span):
        return None
    if not is_title(reader.word(span[0])) or "," in reader.gap(span[0] + 1):
        after = reader.words[span[1]].start() if reader.gap(span[1]) else len(reader.text)
        return span if is_client and _FIELD.match(reader.text, after) else None
    return span if reader.convinces(span, may_go_on=True) else None


def after_bare_by(reader: Reader, place: int) -> Span | None:
    """Match "By Ann Lee" and "BY FRANK RIVERS", but not "by Transcranial Doppler"."""
    span = reader.read(place + 1, gap=" ")
    if not span or not reader.is_full_name(span):
        return None
    names = reader.names(span)
    return span if names[0] in first_names() and names[-1] in last_names() else None


def after_called(reader: Reader, place: int) -> Span | None:
    """Match "called to Brown, read back", but not "called to see"."""
    if not reader.follows(place + 1, cues("to")):
        return None
    span = reader.read(place + 2, gap=" ")
    if not span or not is_title(reader.word(span[0])) or not reader.is_person(span):
        return None
    ends = reader.gap(span[1])[:1] in (",", ".", ";", "(", "")
    ends = ends or reader.follows(span[1], cues("goes_on"))
    last = reader.word(span[1] - 1)
    listed = plain(last) in last_names() and reader.word(place + 1) == "to"
    return span if ends and (listed or not last.isascii() or reader.is_full_name(span)) else None


def after_closing(reader: Reader, place: int) -> Span | None:
    """Match "Thanks a lot, Wei" at the end of the text."""
    span = reader.read(place + 1, gap=", ")
    at_end = span and span[1] == len(reader.words) and is_title(reader.word(span[0]))
    return span if at_end else None


def after_specialty(reader: Reader, place: int) -> Span | None:
    """Match "GI (Chen) wants", but not "ICU (Massachusetts, USA)"."""
    span = reader.read(place + 1, gap=" (")
    closed = span and reader.text.startswith(")", reader.end(span))
    return span if span and closed and is_title(reader.word(span[0])) else None


def after_preposition(reader: Reader, place: int) -> Span | None:
    """Match "spoke with Oluwaseun Adeyemi today": only names are capitalised mid-sentence."""
    span = reader.read(place + 1, gap=" ")
    if not span or span[1] - span[0] < 2 or not reader.word(place).islower():
        return None
    capitals = all(is_title(reader.word(at)) for at in range(*span))
    goes_on = reader.gap(span[1]) == " " and not reader.word(span[1]).islower()
    return span if capitals and not goes_on and reader.is_full_name(span) else None


def after_paged(reader: Reader, place: int) -> Span | None:
    """Match "paged McDonald at" and "notified Okonkwo of"."""
    span = reader.read(place + 1, gap=" ")
    if not span or not is_title(reader.word(span[0])) or not reader.is_person(span):
        return None
    last = plain(reader.word(span[1] - 1))
    named = last in last_names() or standing(last) is Standing.UNLISTED
    return span if named and reader.follows(span[1], cues("about")) else None


def after_is(reader: Reader, place: int) -> Span | None:
    """Match "pt is smith, john, 54 y" and "pt is adaeze okonkwo, 19 m"."""
    if reader.before(place) not in cues("clients") or place + 2 >= len(reader.words):
        return None
    span = place + 1, place + 3
    small = all(reader.word(at).islower() for at in range(*span))
    joined = reader.gap(place + 1) == " " and reader.gap(place + 2) in (" ", ", ")
    names = [plain(reader.word(at)) for at in range(*span)]
    named = all(standing(name) and name not in cues("never") for name in names)
    return (
        span if small and joined and named and _AGED.match(reader.text, reader.end(span)) else None
    )


def after_married(reader: Reader, place: int) -> Span | None:
    """Match "married to Wei"."""
    span = reader.read(place + 2, gap=" ") if reader.follows(place + 1, cues("to")) else None
    return span if span and is_title(reader.word(span[0])) else None


def after_slash(reader: Reader, place: int) -> Span | None:
    """Match "f/u Ann Lee" and "d/w Ann Lee"."""
    if reader.gap(place) not in ("/", " ") or reader.gap(place + 1) not in (" ", "/ "):
        return None
    span = reader.read(place + 1)
    if not span or reader.is_full_name(span):
        return span
    # "d/w Okonkwo, no malignancy", "in am w/ Schmidt, hold"; but not "w/ Ativan, then".
    word = reader.word(span[0])
    sure = reader.gap(place) == "/" or standing(plain(word)) is Standing.CLEAR
    ends = is_title(word) and reader.gap(span[1])[:1] in (",", ".", ";")
    return span if sure and ends and reader.word(place) == "w" else None


def after_document(reader: Reader, place: int) -> Span | None:
    """Match "discharge instructions for Ann Lee"."""
    span = reader.read(place + 1, gap=" ") if reader.before(place) in cues("documents") else None
    return span if span and reader.is_full_name(span) else None


# Before a cue


def before_relation(reader: Reader, place: int) -> Span | None:
    """Match "Ann Lee (neighbour)", "Ann Lee (the eldest daughter" and "Ann Lee, son"."""
    bracket = place
    while place - bracket < 2 and reader.gap(bracket) == " ":
        bracket -= 1
    ends = reader.text[reader.words[place].end() :][:1] in ("", ".", ",", ")", ";")
    if reader.gap(bracket) != " (" and not (reader.gap(place) == ", " and ends):
        return None
    span = reader.first_before(bracket), bracket
    return span if reader.is_full_name(span) else None


def before_possessed_relation(reader: Reader, place: int) -> Span | None:
    """Match "Dorothy's mother", but not "Parkinson's brother"."""
    word = reader.word(place - 1) if reader.gap(place) == " " else ""
    name = plain(word)
    if not word.endswith(POSSESSIVE) or not word[0].isupper() or name in cues("never", "eponyms"):
        return None
    named = name in first_names() or standing(name) is Standing.UNLISTED
    return (place - 1, place) if named else None


def before_age(reader: Reader, place: int) -> Span | None:
    """Match "Ann Lee, 54 y/o" and "Lee, Ann (54M)"."""
    gap, word = reader.gap(place), reader.word(place)
    letter = len(word) == 1 and word.lower() != "y"
    if not _AGE_GAP.fullmatch(gap) or (letter and not gap[-1].isdigit()):
        return None
    span = reader.name_before(place)
    return span if reader.is_full_name(span) else None


def before_doing(reader: Reader, place: int) -> Span | None:
    """Match "Oluwaseun Adeyemi attended" and "Oluwaseun lives in", but not "Son lives"."""
    if reader.gap(place) != " ":
        return None
    span = first, _ = reader.first_before(place), place
    if reader.is_full_name(span):
        return span
    alone = place - first == 1 and reader.begins(first) and reader.word(place) in cues("saying")
    return span if alone and reader.before(place) not in cues("relations") else None


def before_role(reader: Reader, place: int) -> Span | None:
    """Match "Oluwaseun Adeyemi, Consultant Paediatrician"."""
    if reader.gap(place) != ", " or not is_title(reader.word(place)):
        return None
    span = reader.first_before(place), place
    return span if reader.is_full_name(span) else None


def before_degree(reader: Reader, place: int) -> Span | None:
    """Match "Ann Lee, MD" and "J. Brown M.D.", but not "Bethesda, MD"."""
    degree, end = reader.word(place), reader.words[place].end()
    for _ in range(MOST_DEGREES):
        beside = reader.gap(place) in (" ", ", ")
        if beside and reader.word(place - 1) in cues("degrees", "beside_degree"):
            place -= 1
    gap = reader.gap(place)
    dotted = degree in "MD" and re.match(r"\.[DO]\b", reader.text[end:][:3])
    if gap not in (" ", ", ", ",") or not (degree in cues("degrees") or dotted):
        return None
    span = first, _ = reader.first_before(place), place
    names = reader.names(span)
    named = Standing.CLEAR in map(standing, names) or len(names) > 1
    signed = place - first == 1 and reader.gap(first).rstrip().endswith(("-", "–"))
    return span if signed or (named and (place - first > 1 or gap == " ")) else None


def before_field(reader: Reader, place: int) -> Span | None:
    """Match "ANN LEE MRN 12", "Ann Lee is a 54-year-old" and "LEE, DOB 1931"."""
    gap, cue = reader.gap(place), reader.word(place)
    if gap not in FIELD_GAPS or not _FIELD.match(reader.text, reader.words[place].start()):
        return None
    span = first, _ = reader.name_before(place)
    names = reader.names(span)
    if len(names) != 1:
        return span if names else None
    alone = gap == ", " and cue.lower() in cues("own") and standing(names[0]) is not Standing.WORD
    # "ED VISIT. Robert is a 3 y.o. girl"
    begins = reader.begins(first) and cue in ("is", "was") and names[0] not in cues("relations")
    return span if alone or (begins and is_title(reader.word(first))) else None


def around_initial(reader: Reader, place: int) -> Span | None:
    """Match "Oluwaseun N. Adeyemi", but not "hepatitis C. Patients"."""
    inside = 0 < place < len(reader.words) - 1 and reader.gap(place + 1) == ". "
    if not inside or reader.gap(place) != " " or not reader.word(place).isupper():
        return None
    before = plain(reader.word(place - 1))
    graded = "-" in before or (before in last_names() and before not in first_names())
    if graded and reader.word(place) in "ABCD":
        return None  # "Child-Pugh A. Old fracture", "Weber B. Talar shift"
    for side in (place - 1, place + 1):
        if not is_title(reader.word(side)) or not reader.is_capital_name(side):
            return None
    return (place - 1, place + 2) if reader.is_person((place, place + 2)) else None


def before_numbers(reader: Reader) -> Iterator[Span]:
    """Yield names before bare numbers: "ANN LEE 5642486", "Ann Lee (8/7/2005)"."""
    for match, place in _matches(reader, _NUMBER):
        between = reader.text[reader.words[place - 1].end() : match.start()] if place else ""
        span = reader.name_before(place)
        joined = (", ",) if match[0][-1].islower() else (" ", " (", ". ", " | ", ", ")
        if between in joined and reader.is_full_name(span):
            yield span


# Without a cue


def at_first_name(reader: Reader, place: int) -> Span | None:
    """Match "Mary K. Jones", "DOE, JOHN" and "john smith", but not "GRACE YOUNG" or "St. John"."""
    word = reader.word(place)
    first = plain(word)
    if reader.before(place) in cues("places"):
        return None
    if reader.gap(place) == ", " and (span := _after_last_name(reader, place)):
        return span
    clear = standing(first) is Standing.CLEAR
    if not clear and first not in common_first_names():
        return None
    span = reader.read(place) or (place, place)
    names = reader.names(span)
    if len(names) == 1 and word.istitle() and clear:
        return span if first in common_first_names() and _stands_alone(reader, span) else None
    if len(names) < 2 or names[-1] in cues("not_persons") or not reader.is_person(span):
        return None
    best = max(standing(name) for name in names[1:])
    if not clear:  # Grace Young, but not GRACE YOUNG or grace young
        return span if word.istitle() and best >= Standing.WORD else None
    if word.islower() or best < Standing.WORD:
        sure = first in common_first_names() and (best >= Standing.WORD or word.istitle())
        return span if sure else None
    return span


def _stands_alone(reader: Reader, span: Span) -> bool:
    """Whether a first name is a person: "brings Kenneth for", but not "the Morris maze"."""
    before, after = reader.before(span[0]), reader.gap(span[1])
    if before in ("the", "a", "an") or (reader.gap(span[0]) == ", " and after.startswith(",")):
        return False
    neighbors = [reader.word(span[0] - 1)] if before else []
    neighbors += [reader.word(span[1])] if after == " " else []
    return all(word.islower() for word in neighbors) and reader.is_person(span)


def _after_last_name(reader: Reader, place: int) -> Span | None:
    """Match "DOE, JOHN" and "Doe, John Q.", but not "in Boston, Houston, and Austin"."""
    last, first = reader.word(place - 1), reader.word(place)
    end = reader.after_initials(place + 1)
    if reader.after_label(place - 1) and plain(last) in last_names():
        return place - 1, end
    clear = standing(plain(last)) is Standing.CLEAR
    if last.islower():  # "log - smith, john, 54"
        common = first.islower() and plain(first) in common_first_names()
        begins = reader.gap(place - 1) not in (" ", ", ") and reader.gap(place + 1).startswith(",")
        return (place - 1, end) if common and begins and clear else None
    clear = clear and standing(plain(first)) is Standing.CLEAR
    if not clear or not reader.is_capital_name(place - 1):
        return None
    alone = reader.gap(place - 1) != ", " and not reader.gap(end).startswith(",")
    capitals = last.isupper() and first.isupper()
    return (place - 1, end) if alone and (capitals or end > place + 1) else None


def reversed_names(reader: Reader) -> Iterator[Span]:
    """Yield "Lee, Ann" at the start of a field, but not "Setting: Boston, Massachusetts"."""
    for match, place in _matches(reader, _REVERSED, "first"):
        last, first = plain(match["last"]), plain(match["first"])
        named = last in last_names() or standing(last) is Standing.UNLISTED
        named = named and (first in first_names() or standing(first) is Standing.UNLISTED)
        # Two unlisted words are as often a company and its town.
        sure = first in first_names() or match["initial"] or not (last + first).isascii()
        if named and sure and not {last, first} & cues("never", "not_persons"):
            yield place - 1, reader.after_initials(place + 1)


def _matches(
    reader: Reader, pattern: re.Pattern[str], group: int | str = 0
) -> Iterator[tuple[re.Match[str], int]]:
    """Yield matches, each with the first word that starts at or after one of its groups."""
    starts: list[int] = []
    for match in pattern.finditer(reader.text):
        starts = starts or [word.start() for word in reader.words]
        yield match, bisect_left(starts, match.start(group))


# From names already found


def joined_names(reader: Reader, found: Sequence[Span]) -> Iterator[Span]:
    """Yield full names joined to a found one by "and" or a comma."""
    known = {first for first, _ in found}
    ends = deque(end for _, end in found)
    while ends:
        place = ends.popleft()
        joint = reader.gap(place)
        if joint in (" ", ", ") and place < len(reader.words) and reader.word(place) == "and":
            place, joint = place + 1, ", "
        span = reader.read(place) if joint == ", " and reader.gap(place)[-1:] == " " else None
        if span and span[0] not in known and reader.is_full_name(span):
            yield span
            known.add(span[0])
            ends.append(span[1])


def repeated(reader: Reader, found: Sequence[Span]) -> Iterator[Span]:
    """Yield single words of found names wherever else they occur in the text."""
    names = {plain(reader.word(at)) for span in found for at in range(*span)}
    names = {name for name in names if len(name) > 2}
    names -= cues("never", "particles", "eponyms")
    for place, match in enumerate(reader.words if names else ()):
        word = match[0]
        name = plain(word)
        if name not in names or not word[0].isupper():
            continue
        # At the start of a sentence, "Brown" may be a word; "Brown was" is not.
        begins = reader.gap(place).strip() or word.isupper()
        begins = begins and not reader.follows(place + 1, cues("verbs"))
        doubtful = begins and standing(name) is Standing.WORD
        if not doubtful and reader.is_person((place, place + 1)):
            yield place, place + 1


@cache
def _rules() -> dict[str, tuple[Rule, ...]]:
    """Return the rules to try at each cue word, in order."""
    table: tuple[tuple[Set[str], Rule], ...] = (
        (cues("titles"), after_title),
        ({"drs"}, after_second_title),
        (cues("labels", "plain_labels"), after_label),
        (cues("relations"), after_relation),
        (cues("met", "before_by", "before_with"), after_by),
        ({"by"}, after_bare_by),
        (cues("called"), after_called),
        (cues("specialties"), after_specialty),
        (cues("meets"), after_preposition),
        (cues("paged"), after_paged),
        ({"is"}, after_is),
        ({"married", "engaged"}, after_married),
        (cues("closings"), after_closing),
        (cues("after_slash"), after_slash),
        ({"for"}, after_document),
        (cues("clients", "introducers"), after_introducer),
        (cues("relations"), before_relation),
        (cues("relations"), before_possessed_relation),
        (cues("old"), before_age),
        (cues("saying", "doings"), before_doing),
        (cues("roles"), before_role),
        ({degree.lower() for degree in cues("degrees")} | {"m", "d"}, before_degree),
        (cues("fields"), before_field),
        (set(string.ascii_lowercase), around_initial),
        (first_names(), at_first_name),
    )
    rules: dict[str, tuple[Rule, ...]] = {}
    for words, rule in table:
        for word in words:
            rules[word] = (*rules.get(word, ()), rule)
    return rules
