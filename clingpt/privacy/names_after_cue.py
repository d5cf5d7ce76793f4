"""Names behind what announces them: a title, a label, a relation, who was met.

Each rule is given the place of a word, and gives the name that it announces; RULES says which words
are tried with which.
"""

import re
from collections.abc import Set

from clingpt.privacy.census import Standing, common_first_names, first_names, last_names, standing
from clingpt.privacy.cue_words import (
    ABOUT,
    AFTER_SLASH,
    BEFORE_BY,
    BEFORE_WITH,
    CALLED,
    CLIENTS,
    CLOSINGS,
    DOCUMENTS,
    DOUBTFUL_LABELS,
    FIELD,
    GOES_ON,
    INTRODUCERS,
    LABELS,
    MEETS,
    NEVER,
    PAGED,
    PARTS_OF_NAMES,
    PLAIN_LABELS,
    RELATIONS,
    SPECIALTIES,
    TITLES,
    TO,
    WEAK_TITLES,
)
from clingpt.privacy.name_reader import AFTER_LABEL, POSSESSIVE, Reader, Rule, Span, is_title, plain

LONGEST_SHORT = 4  # letters of a title that may end in a full stop: "see your doctor. Hearing"
_AFTER_TITLE = re.compile(r"\.?\s{0,2}")
_AFTER_RELATION = re.compile(r"\s|\s?[:,(]\s?")
_AGED = re.compile(r",\s(?:\d{1,3}\s?(?:y|m\b|f\b|w|d)|ninety|twin|born)", re.IGNORECASE)
_AGE = re.compile(r",?\s(?:is\san?\s)?\d{1,3}[\s-]?(?:y|m\b|f\b)", re.IGNORECASE)


def behind_title(reader: Reader, place: int) -> Span | None:
    """Dr. Brown, mr jones; but not "MS patients", "to miss doses"."""
    title, gap = reader.words[place][0], reader.gap(place + 1)
    if not gap or not _AFTER_TITLE.fullmatch(gap) or ("." in gap and len(title) > LONGEST_SHORT):
        return None
    capital = is_title(reader.words[place + 1][0])
    if len(title) > LONGEST_SHORT:
        # "When To See the Doctor Be sure"; but "the nurse Oluwaseun" has a capital for a reason.
        doubtful = title[0].isupper() or not capital
    else:
        weak = title.lower() in WEAK_TITLES and not is_title(title)
        doubtful = weak and ("." not in gap or capital)  # "severe MR. Left atrium"
    sure = reader.read(place + 1, least=Standing.CLEAR if doubtful else Standing.UNLISTED)
    if sure and (title.lower() not in WEAK_TITLES or reader.is_person(sure)):
        return sure  # not "Sister Mary Joseph nodule"
    if not gap.startswith(" "):
        return None
    # "Nurse Oluwaseun Adeyemi will call", "mr brown 58m".
    full = reader.read(place + 1)
    if full and reader.is_full_name(full):
        return full
    small = reader.words[place + 1]
    named = small[0].islower() and standing(plain(small[0])) is not Standing.NONE
    return (place + 1, place + 2) if named and _AGE.match(reader.text, small.end()) else None


def behind_second(reader: Reader, place: int) -> Span | None:
    """The Jones of "Drs. Smith and Jones"."""
    first = behind_title(reader, place)
    last = first[1] if first else len(reader.words)
    if reader.gap(last) != " " or reader.words[last][0] not in ("and", "AND"):
        return None
    return reader.read(last + 1) if reader.gap(last + 1) == " " else None


def behind_label(reader: Reader, place: int) -> Span | None:
    """Pt: DOE, JOHN Q.; Dear Ann; but not "Patient: White male"."""
    label, first = reader.words[place][0].lower(), place + 1
    if reader.gap(first) == "(" and reader.words[first][0] == "s":
        first += 1  # "Physician(s): Ann Lee"
    gap, span = reader.gap(first), reader.read(first, comma=True)
    if not span:
        return None
    if not AFTER_LABEL.fullmatch(gap.lstrip(")")) and not (
        label in PLAIN_LABELS and gap in (" ", ", ")
    ):
        return span if _does_without_colon(reader, place, span) else None
    if reader.convinces(span):
        return span
    # "Attending: Okonkwo" and "Dear Oluwaseun,", but "Patient: Ambulatory", "Name: Aspirin".
    word = reader.words[span[0]][0]
    dear = label in PLAIN_LABELS and plain(word) in first_names()
    unlisted = word[0].isupper() and standing(plain(word)) is Standing.UNLISTED
    named = unlisted or (is_title(word) and plain(word) in common_first_names())
    told = label not in DOUBTFUL_LABELS and named and reader.is_field(span)
    return span if dear or told else None


def _does_without_colon(reader: Reader, place: int, span: Span) -> bool:
    """Attending Ann Lee was told; his dentist, Ann Lee; Pt name Ann Lee; Patient Lee, Ann."""
    label, gap = reader.words[place][0].lower(), reader.gap(span[0])
    if label in PARTS_OF_NAMES and gap == " ":
        return not reader.words[span[0]][0].islower()
    if label not in LABELS or gap not in (" ", ", ") or not reader.is_full_name(span):
        return False
    turned = gap == " " and "," in reader.gap(span[0] + 1)
    if turned and reader.gap(span[1])[:1] in ("", ".", ",", "(", ";"):
        return True
    told = label not in DOUBTFUL_LABELS or (label == "name" and reader.before(place) in CLIENTS)
    return told and is_title(reader.words[span[0]][0])


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
    unlisted = is_title(word) and ":" not in gap
    return span if plain(word) in first_names() or reader.convinces(span) or unlisted else None


def behind_by(reader: Reader, place: int) -> Span | None:
    """Seen by Ann Lee; but not "tested by Mann-Whitney", "treated by Billroth's operation"."""
    if reader.gap(place + 1) != " " or reader.gap(place + 2) != " ":
        return None
    word, joint = (each[0].lower() for each in reader.words[place : place + 2])
    if word not in {"by": BEFORE_BY, "with": BEFORE_WITH}.get(joint, ()):
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
    if span and word in CLIENTS and span[1] - span[0] == 1 and _AGED.match(*reader.behind(span)):
        return span  # "Client Okonkwo, 94 yrs", "Infant Hunt, twin B"
    if not span or span[1] - span[0] < 2 or not reader.is_person(span):
        return None
    if not is_title(reader.words[span[0]][0]) or "," in reader.gap(span[0] + 1):
        behind = reader.words[span[1]].start() if reader.gap(span[1]) else len(reader.text)
        return span if word in CLIENTS and FIELD.match(reader.text, behind) else None
    return span if reader.convinces(span, may_go_on=True) else None


def behind_bare_by(reader: Reader, place: int) -> Span | None:
    """By Ann Lee, BY FRANK RIVERS; but not "by Transcranial Doppler"."""
    span = reader.read(place + 1) if reader.gap(place + 1) == " " else None
    if not span or not reader.is_full_name(span):
        return None
    names = [plain(word[0]) for word in reader.words[slice(*span)] if len(word[0]) > 1]
    return span if names[0] in first_names() and names[-1] in last_names() else None


def behind_called(reader: Reader, place: int) -> Span | None:
    """Called to Brown, read back; but not "called to see"."""
    if reader.gap(place + 1) != " " or not reader.follows(place + 1, TO):
        return None
    span = reader.read(place + 2) if reader.gap(place + 2) == " " else None
    if not span or not is_title(reader.words[span[0]][0]) or not reader.is_person(span):
        return None
    ends = reader.gap(span[1])[:1] in (",", ".", ";", "(", "") or reader.follows(span[1], GOES_ON)
    last = reader.words[span[1] - 1][0]
    listed = plain(last) in last_names() and reader.words[place + 1][0] == "to"
    named = listed or not last.isascii() or reader.is_full_name(span)
    return span if ends and named else None


def behind_closing(reader: Reader, place: int) -> Span | None:
    """Thanks a lot, Wei; but only where the text ends."""
    if reader.gap(place + 1) != ", ":
        return None
    span = reader.read(place + 1)
    ends = span is not None and span[1] == len(reader.words)
    return span if span and ends and is_title(reader.words[span[0]][0]) else None


def behind_specialty(reader: Reader, place: int) -> Span | None:
    """GI (Chen) wants; but not "ICU (Massachusetts, USA)"."""
    span = reader.read(place + 1) if reader.gap(place + 1) == " (" else None
    if not span or not reader.text.startswith(")", reader.words[span[1] - 1].end()):
        return None
    return span if is_title(reader.words[span[0]][0]) else None


def behind_preposition(reader: Reader, place: int) -> Span | None:
    """I spoke with Oluwaseun Adeyemi today: in a sentence, with capitals that only a name has."""
    span = reader.read(place + 1) if reader.gap(place + 1) == " " else None
    if not span or span[1] - span[0] < 2 or not reader.words[place][0].islower():
        return None
    behind = reader.words[span[1]][0] if reader.gap(span[1]) == " " else "."
    capitals = all(is_title(word[0]) for word in reader.words[slice(*span)])
    alone = behind.islower() or behind == "."
    return span if capitals and alone and reader.is_full_name(span) else None


def behind_paged(reader: Reader, place: int) -> Span | None:
    """Paged McDonald at, notified Okonkwo of."""
    span = reader.read(place + 1) if reader.gap(place + 1) == " " else None
    if not span or not is_title(reader.words[span[0]][0]) or not reader.is_person(span):
        return None
    last = plain(reader.words[span[1] - 1][0])
    named = last in last_names() or standing(last) is Standing.UNLISTED
    return span if named and reader.follows(span[1], ABOUT) else None


def behind_is(reader: Reader, place: int) -> Span | None:
    """Pt is smith, john; pt is adaeze okonkwo, 19 m."""
    if reader.before(place) not in CLIENTS or place + 2 >= len(reader.words):
        return None
    span = place + 1, place + 3
    names = [plain(word[0]) for word in reader.words[slice(*span)]]
    small = all(word[0].islower() for word in reader.words[slice(*span)])
    joined = reader.gap(place + 1) == " " and reader.gap(place + 2) in (" ", ", ")
    named = Standing.NONE not in map(standing, names) and not NEVER & {*names}
    return span if small and joined and named and _AGED.match(*reader.behind(span)) else None


def behind_married(reader: Reader, place: int) -> Span | None:
    """Married to Wei."""
    if not reader.follows(place + 1, TO) or reader.gap(place + 2) != " ":
        return None
    span = reader.read(place + 2)
    return span if span and is_title(reader.words[span[0]][0]) else None


def behind_slash(reader: Reader, place: int) -> Span | None:
    """F/u Ann Lee, d/w Ann Lee."""
    if reader.gap(place) not in ("/", " ") or reader.gap(place + 1) not in (" ", "/ "):
        return None
    span = reader.read(place + 1)
    if not span or reader.is_full_name(span):
        return span
    # "d/w Okonkwo, no malignancy", "in am w/ Schmidt, hold"; but not "w/ Ativan, then".
    known = standing(plain(reader.words[span[0]][0]))
    sure = reader.gap(place) == "/" or known is Standing.CLEAR
    last = is_title(reader.words[span[0]][0]) and reader.gap(span[1])[:1] in (",", ".", ";")
    return span if sure and last and reader.words[place][0] == "w" else None


def behind_document(reader: Reader, place: int) -> Span | None:
    """Discharge instructions for Ann Lee."""
    if reader.before(place) not in DOCUMENTS or reader.gap(place + 1) != " ":
        return None
    span = reader.read(place + 1)
    return span if span and reader.is_full_name(span) else None


RULES: tuple[tuple[Set[str], Rule], ...] = (
    (TITLES, behind_title),
    ({"drs"}, behind_second),
    (LABELS | PLAIN_LABELS, behind_label),
    (RELATIONS, behind_relation),
    (BEFORE_BY | BEFORE_WITH, behind_by),
    ({"by"}, behind_bare_by),
    (CALLED, behind_called),
    (SPECIALTIES, behind_specialty),
    (MEETS, behind_preposition),
    (PAGED, behind_paged),
    ({"is"}, behind_is),
    ({"married", "engaged"}, behind_married),
    (CLOSINGS, behind_closing),
    (AFTER_SLASH, behind_slash),
    ({"for"}, behind_document),
    (INTRODUCERS, behind_introducer),
)
