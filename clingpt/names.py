"""Names of people in clinical text: by what stands around them, or by a first and a last name.

Most surnames are words, places or the names of diseases and tests too (Brown, Young, Parkinson's
disease, Cox regression), so a capital never suffices. A name needs a title ("Dr. Brown"), a label
("Pt: DOE, JOHN"), a relation ("her son Bob"), a degree ("Ann Lee, MD"), or a first name before a
last one; what was once found so is then found alone in the same text. Other names are missed.
"""

import re
import string
from collections.abc import Callable, Iterator, Sequence
from functools import cache

from clingpt.gazetteer import (
    Standing,
    common_first_names,
    first_names,
    last_names,
    standing,
)
from clingpt.name_reader import AFTER_LABEL, POSSESSIVE, Reader, Span, plain
from clingpt.name_words import (
    BEFORE_BY,
    DEGREES,
    DOUBTFUL_LABELS,
    EPONYMS,
    FIELDS,
    INTRODUCERS,
    LABELS,
    NEVER,
    NOT_PERSONS,
    PARTICLES,
    PLACES,
    PLAIN_LABELS,
    RELATIONS,
    TITLES,
    VERBS,
    WEAK_TITLES,
)

LONGEST_SHORT = 4  # letters of a title that may end in a full stop: "see your doctor. Hearing"
_AFTER_TITLE = re.compile(r"\.?\s{0,2}")
_AFTER_RELATION = re.compile(r"\s|\s?[:,(]\s?")
# A field of a form, or what a note says of a patient first.
_FIELD = re.compile(
    r"(?:mrns?|dob|ssn|acct|accession)\b|mr\b\s?#?\d|date\sof\sbirth|(?:is|was)\s(?:an?\s)?\d{1,3}[\s-]?(?:y|m\b|f\b)",
    re.IGNORECASE,
)
FIELD_GAPS = (" ", ", ", " (", "; ", " - ")
SPECIALISTS = ("ist", "ian")

Rule = Callable[[Reader, int], Span | None]


def find_names(
    text: str, words: Sequence[re.Match[str]], small: Sequence[str]
) -> Iterator[tuple[int, int]]:
    """(start, end) of names, some overlapping, given the text's words, in lower case as well."""
    reader, rules = Reader(text, words), _rules()
    found = []
    for place, word in enumerate(small):
        for rule in rules.get(word) or (_SPECIALIST if word.endswith(SPECIALISTS) else ()):
            if span := rule(reader, place):
                found.append(span)
    for first, behind in [*found, *again(reader, found)]:
        last = words[behind - 1]
        yield words[first].start(), last.end() - 2 * last[0].endswith(POSSESSIVE)


def behind_title(reader: Reader, place: int) -> Span | None:
    """Dr. Brown, mr jones; but not "MS patients", "to miss doses"."""
    title, gap = reader.words[place][0], reader.gap(place + 1)
    if not gap or not _AFTER_TITLE.fullmatch(gap) or ("." in gap and len(title) > LONGEST_SHORT):
        return None
    capital = reader.words[place + 1][0].istitle()
    if len(title) > LONGEST_SHORT:
        # "When To See the Doctor Be sure"; but "the nurse Oluwaseun" has a capital for a reason.
        doubtful = title[0].isupper() or not capital
    else:
        weak = title.lower() in WEAK_TITLES and not title.istitle()
        doubtful = weak and ("." not in gap or capital)  # "severe MR. Left atrium"
    return reader.read(place + 1, least=Standing.CLEAR if doubtful else Standing.UNLISTED)


def behind_second(reader: Reader, place: int) -> Span | None:
    """The Jones of "Drs. Smith and Jones"."""
    first = behind_title(reader, place)
    last = first[1] if first else len(reader.words)
    if reader.gap(last) != " " or reader.words[last][0] not in ("and", "AND"):
        return None
    return reader.read(last + 1) if reader.gap(last + 1) == " " else None


def behind_label(reader: Reader, place: int) -> Span | None:
    """Pt: DOE, JOHN Q.; Dear Ann; but not "Patient: White male"."""
    label, gap = reader.words[place][0].lower(), reader.gap(place + 1)
    if not AFTER_LABEL.fullmatch(gap) and not (label in PLAIN_LABELS and gap in (" ", ", ")):
        return None
    span = reader.read(place + 1, comma=True)
    if not span or reader.convinces(span):
        return span
    # "Attending: Okonkwo" and "Dear Oluwaseun,", but "Patient: Ambulatory", "Name: Aspirin".
    word = reader.words[span[0]][0]
    dear = label in PLAIN_LABELS and plain(word) in first_names()
    unlisted = word[0].isupper() and standing(plain(word)) is Standing.UNLISTED
    told = label not in DOUBTFUL_LABELS and unlisted and reader.is_field(span)
    return span if dear or told else None


def behind_relation(reader: Reader, place: int) -> Span | None:
    """Her son Bob; wife (Oluwaseun); but not "mother had"."""
    gap = reader.gap(place + 1)
    span = reader.read(place + 1) if _AFTER_RELATION.fullmatch(gap) else None
    if not span or not reader.is_person(span):
        return None
    word = reader.words[span[0]][0]
    if word.islower():
        return span if plain(word) in common_first_names() else None
    # "Father: Melanoma" is an answer; "her father Adewale" has no colon.
    unlisted = word.istitle() and ":" not in gap
    return span if plain(word) in first_names() or reader.convinces(span) or unlisted else None


def behind_by(reader: Reader, place: int) -> Span | None:
    """Seen by Ann Lee; but not "tested by Mann-Whitney", "treated by Billroth's operation"."""
    if reader.gap(place + 1) != " " or reader.gap(place + 2) != " ":
        return None
    if reader.words[place + 1][0].lower() not in ("by", "with"):
        return None
    span = reader.read(place + 2)
    if not span or not reader.is_person(span) or not reader.convinces(span, may_go_on=True):
        return None
    last = reader.words[span[1] - 1][0]
    alone = span[1] - span[0] == 1
    doubtful = alone and ("-" in last or last.endswith(POSSESSIVE))
    return None if doubtful or last.islower() else span


def behind_introducer(reader: Reader, place: int) -> Span | None:
    """Thank you for referring Ann Brown; daughter of Ann Brown; but not "patient Brown"."""
    word = reader.words[place][0].lower()
    if reader.gap(place + 1) != " " or (word == "of" and reader.before(place) not in RELATIONS):
        return None
    span = reader.read(place + 1, comma=True)
    if not span or span[1] - span[0] < 2 or not reader.is_person(span):
        return None
    if not reader.words[span[0]][0].istitle() or "," in reader.gap(span[0] + 1):
        behind = reader.words[span[1]].start() if reader.gap(span[1]) else len(reader.text)
        return span if word in ("pt", "patient") and _FIELD.match(reader.text, behind) else None
    return span if reader.convinces(span, may_go_on=True) else None


def before_degree(reader: Reader, place: int) -> Span | None:
    """Ann Lee, MD; J. Brown M.D.; but not "Bethesda, MD"."""
    degree, gap = reader.words[place][0], reader.gap(place)
    dotted = degree in "MD" and re.match(r"\.[DO]\b", reader.text[reader.words[place].end() :][:3])
    if gap not in (" ", ", ", ",") or not (degree in DEGREES or dotted):
        return None
    first = reader.first_before(place)
    names = [plain(word[0]) for word in reader.words[first:place] if len(word[0]) > 1]
    told = Standing.CLEAR in map(standing, names) or len(names) > 1
    return (first, place) if told and (place - first > 1 or gap == " ") else None


def before_field(reader: Reader, place: int) -> Span | None:
    """ANN LEE MRN 12; Ann Lee (date of birth …); Ann Lee is a 54-year-old."""
    if reader.gap(place) not in FIELD_GAPS:
        return None
    if not _FIELD.match(reader.text, reader.words[place].start()):
        return None
    first = reader.first_before(place)
    if 0 < first < place and reader.gap(first) == ", " and reader.is_capital_name(first - 1):
        first -= 1  # "LEE, ANN MRN 12"
    return (
        (first, place) if sum(len(word[0]) > 1 for word in reader.words[first:place]) > 1 else None
    )


def around_initial(reader: Reader, place: int) -> Span | None:
    """Oluwaseun N. Adeyemi; but not "hepatitis C. Patients"."""
    inside = 0 < place < len(reader.words) - 1 and reader.gap(place + 1) == ". "
    if not inside or reader.gap(place) != " " or not reader.words[place][0].isupper():
        return None
    for side in (place - 1, place + 1):
        if not reader.words[side][0].istitle() or not reader.is_capital_name(side):
            return None
    return (place - 1, place + 2) if reader.is_person((place, place + 2)) else None


def at_first_name(reader: Reader, place: int) -> Span | None:
    """Mary K. Jones; DOE, JOHN; john smith; but not "Grace Young", "St. John"."""
    word = reader.words[place][0]
    first = plain(word)
    if reader.before(place) in PLACES:
        return None
    if reader.gap(place) == ", " and (span := _behind_last_name(reader, place)):
        return span
    if standing(first) is not Standing.CLEAR and first not in common_first_names():
        return None
    span = reader.read(place) or (place, place)
    names = [plain(each[0]) for each in reader.words[slice(*span)] if len(each[0]) > 1]
    if len(names) == 1 and word.istitle() and standing(first) is Standing.CLEAR:
        return span if first in common_first_names() and _stands_alone(reader, span) else None
    if len(names) < 2 or names[-1] in NOT_PERSONS or not reader.is_person(span):
        return None
    best = max(standing(name) for name in names[1:])
    if standing(first) is not Standing.CLEAR:  # Grace Young, but not GRACE YOUNG or grace young
        return span if word.istitle() and best >= Standing.WORD else None
    if word.islower() or best < Standing.WORD:
        return span if first in common_first_names() and (best > 1 or word.istitle()) else None
    return span


def _stands_alone(reader: Reader, span: Span) -> bool:
    """Brings Kenneth for; but not "the Morris maze", "Harris, Henry, Liu", "Victoria Road"."""
    before, behind = reader.before(span[0]), reader.gap(span[1])
    if before in ("the", "a", "an") or (reader.gap(span[0]) == ", " and behind.startswith(",")):
        return False
    beside = [reader.words[span[0] - 1][0]] if before else []
    beside += [reader.words[span[1]][0]] if behind == " " else []
    return all(word.islower() for word in beside) and reader.is_person(span)


def _behind_last_name(reader: Reader, place: int) -> Span | None:
    """DOE, JOHN; Doe, John Q.; but not "in Boston, Houston, and Austin"."""
    before, word = reader.words[place - 1][0], reader.words[place][0]
    behind = reader.behind_initials(place + 1)
    if reader.before_label(place - 1) and plain(before) in last_names():
        return place - 1, behind
    clear = standing(plain(before)) is standing(plain(word)) is Standing.CLEAR
    if not clear or not reader.is_capital_name(place - 1):
        return None
    alone = reader.gap(place - 1) != ", " and not reader.gap(behind).startswith(",")
    capitals = before.isupper() and word.isupper()
    return (place - 1, behind) if alone and (capitals or behind > place + 1) else None


def again(reader: Reader, found: Sequence[Span]) -> Iterator[Span]:
    """Words of names found by what stood around them, where they stand alone."""
    names = {plain(reader.words[at][0]) for span in found for at in range(*span)}
    names = {name for name in names if len(name) > 2 and name not in NEVER | PARTICLES | EPONYMS}
    for place, word in enumerate(reader.words if names else ()):
        name = plain(word[0])
        if name not in names or not word[0][0].isupper():
            continue
        doubtful = standing(name) is Standing.WORD
        begins = reader.gap(place).strip() or word[0].isupper()
        begins = begins and not reader.follows(place + 1, VERBS)
        if not (doubtful and begins) and reader.is_person((place, place + 1)):
            yield place, place + 1


_SPECIALIST = (behind_label,)


@cache
def _rules() -> dict[str, tuple[Rule, ...]]:
    """Which words begin, end or introduce a name, and how it is read from there."""
    rules: dict[str, tuple[Rule, ...]] = {}
    for words, rule in (
        (TITLES, behind_title),
        ({"drs"}, behind_second),
        (LABELS | PLAIN_LABELS, behind_label),
        (RELATIONS, behind_relation),
        (BEFORE_BY, behind_by),
        (INTRODUCERS, behind_introducer),
        ({degree.lower() for degree in DEGREES} | {"m", "d"}, before_degree),
        (FIELDS, before_field),
        (string.ascii_lowercase, around_initial),
        (first_names(), at_first_name),
    ):
        for word in words:
            rules[word] = (*rules.get(word, ()), rule)
    return rules
