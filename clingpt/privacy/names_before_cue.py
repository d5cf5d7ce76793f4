"""Names before what tells that they are some: a degree, an age, a field of a form, a number.

Each rule is given the place of a word, and gives the name that ends before it; RULES says which
words are tried with which.
"""

import re
import string
from bisect import bisect_left
from collections.abc import Iterator, Set

from clingpt.privacy.census import Standing, first_names, last_names, standing
from clingpt.privacy.cue_words import (
    BESIDE_DEGREE,
    DEGREES,
    DOINGS,
    EPONYMS,
    FIELD,
    FIELDS,
    NEVER,
    NOT_PERSONS,
    OLD,
    OWN,
    RELATIONS,
    ROLES,
    SAYING,
)
from clingpt.privacy.name_reader import POSSESSIVE, Reader, Rule, Span, is_title, plain

# A number between a name and "years old".
_AGE_GAP = re.compile(r"(?:,|\s?\()?\s\(?\d{1,3}[\s-]?")
FIELD_GAPS = (" ", ", ", " (", "; ", " - ", " / ", " | ", " -- ")
MOST_DEGREES = 3  # that one has beside the last
# What stands behind a name without a word: a chart's number, a birthday in brackets.
_NUMBER = re.compile(
    r"\d(?<=[\s(].)(?:\d{5,8}(?![\w%.,-])|\d\d-\d\d-\d\d(?![\w-])"
    r"|\d{0,3}[./-]\d{1,2}[./-]\d{2,4}\)|\d,\s[a-z])"
)


def before_numbers(reader: Reader) -> Iterator[Span]:
    """ANN LEE 5642486; Ann Lee (8/7/2005)."""
    for match, place in _matches(reader, _NUMBER):
        between = reader.text[reader.words[place - 1].end() : match.start()] if place else ""
        span = reader.name_before(place)
        joined = (", ",) if match[0][-1].islower() else (" ", " (", ". ", " | ", ", ")
        if between in joined and reader.is_full_name(span):
            yield span


def _matches(
    reader: Reader, pattern: re.Pattern[str], group: int | str = 0
) -> Iterator[tuple[re.Match[str], int]]:
    """Where a pattern matches, and the first word that begins no earlier than a group does."""
    starts: list[int] = []
    for match in pattern.finditer(reader.text):
        starts = starts or [word.start() for word in reader.words]
        yield match, bisect_left(starts, match.start(group))


# "Lee, Ann" at the beginning of a field or a sentence.
_LETTERS = r"[^\W\d_a-z](?:[^\W\d_]|['’-])+"
_TURNED = re.compile(
    rf"(?:\A|[.:|/]\s|--?\s)(?=(?P<last>{_LETTERS}),\s(?P<first>{_LETTERS})"
    r"(?P<initial>\s[A-Z]\b\.?)?(?:\Z|[.,(/|]|\s[(/|]))"
)


def turned(reader: Reader) -> Iterator[Span]:
    """PROGRESS NOTE. Lee, Ann. Visit 7; but not "Setting: Boston, Massachusetts."."""
    for match, place in _matches(reader, _TURNED, "first"):
        last, first = plain(match["last"]), plain(match["first"])
        named = last in last_names() or standing(last) is Standing.UNLISTED
        named = named and (first in first_names() or standing(first) is Standing.UNLISTED)
        # Two words of no list are as often a company and its town.
        told = first in first_names() or match["initial"] or not (last + first).isascii()
        if named and told and not {last, first} & (NEVER | NOT_PERSONS):
            yield place - 1, reader.behind_initials(place + 1)


def before_relation(reader: Reader, place: int) -> Span | None:
    """Ann Lee (neighbour); Ann Lee (the eldest daughter; Ann Lee, son."""
    bracket = place
    while place - bracket < 2 and reader.gap(bracket) == " ":
        bracket -= 1
    ends = reader.text[reader.words[place].end() :][:1] in ("", ".", ",", ")", ";")
    if reader.gap(bracket) != " (" and not (reader.gap(place) == ", " and ends):
        return None
    span = reader.first_before(bracket), bracket
    return span if reader.is_full_name(span) else None


def before_its_relation(reader: Reader, place: int) -> Span | None:
    """Dorothy's mother; but not "Parkinson's brother"."""
    word = reader.words[place - 1][0] if reader.gap(place) == " " else ""
    name = plain(word)
    told = word.endswith(POSSESSIVE) and word[0].isupper() and name not in NEVER | EPONYMS
    named = name in first_names() or standing(name) is Standing.UNLISTED
    return (place - 1, place) if told and named else None


def before_age(reader: Reader, place: int) -> Span | None:
    """Ann Lee, 54 y/o; Lee, Ann (54M)."""
    gap = reader.gap(place)
    letter = len(reader.words[place][0]) == 1 and reader.words[place][0].lower() != "y"
    if not _AGE_GAP.fullmatch(gap) or (letter and not gap[-1].isdigit()):
        return None
    span = reader.name_before(place)
    return span if reader.is_full_name(span) else None


def before_doing(reader: Reader, place: int) -> Span | None:
    """Oluwaseun Adeyemi attended; Oluwaseun lives in; but not "Son lives"."""
    if reader.gap(place) != " ":
        return None
    first = reader.first_before(place)
    if reader.is_full_name((first, place)):
        return first, place
    alone = place - first == 1 and reader.begins(first) and reader.words[place][0] in SAYING
    return (first, place) if alone and reader.before(place) not in RELATIONS else None


def before_role(reader: Reader, place: int) -> Span | None:
    """Oluwaseun Adeyemi, Consultant Paediatrician."""
    span = reader.first_before(place), place
    told = reader.gap(place) == ", " and is_title(reader.words[place][0])
    return span if told and reader.is_full_name(span) else None


def before_degree(reader: Reader, place: int) -> Span | None:
    """Ann Lee, MD; J. Brown M.D.; but not "Bethesda, MD"."""
    degree, word = reader.words[place][0], reader.words[place]
    for _ in range(MOST_DEGREES):  # "Ann Lee, MS, CGC"
        if reader.gap(place) in (" ", ", ") and reader.words[place - 1][0] in BESIDE_DEGREE:
            place -= 1
    gap = reader.gap(place)
    dotted = degree in "MD" and re.match(r"\.[DO]\b", reader.text[word.end() :][:3])
    if gap not in (" ", ", ", ",") or not (degree in DEGREES or dotted):
        return None
    first = reader.first_before(place)
    names = [plain(word[0]) for word in reader.words[first:place] if len(word[0]) > 1]
    told = Standing.CLEAR in map(standing, names) or len(names) > 1
    signed = place - first == 1 and reader.gap(first).rstrip().endswith(("-", "–"))
    return (first, place) if signed or (told and (place - first > 1 or gap == " ")) else None


def before_field(reader: Reader, place: int) -> Span | None:
    """ANN LEE MRN 12; Ann Lee (date of birth …); Ann Lee is a 54-year-old; LEE, DOB 1931."""
    if reader.gap(place) not in FIELD_GAPS:
        return None
    if not FIELD.match(reader.text, reader.words[place].start()):
        return None
    first, _ = reader.name_before(place)
    names = [plain(word[0]) for word in reader.words[first:place] if len(word[0]) > 1]
    if len(names) > 1:
        return first, place
    if not names:
        return None
    alone = reader.gap(place) == ", " and reader.words[place][0].lower() in OWN
    alone = alone and standing(names[0]) is not Standing.WORD
    # "ED VISIT. Robert is a 3 y.o. girl"
    begins = reader.begins(first) and reader.words[place][0] in ("is", "was")
    begins = begins and names[0] not in RELATIONS
    return (first, place) if alone or (begins and is_title(reader.words[first][0])) else None


def around_initial(reader: Reader, place: int) -> Span | None:
    """Oluwaseun N. Adeyemi; but not "hepatitis C. Patients"."""
    inside = 0 < place < len(reader.words) - 1 and reader.gap(place + 1) == ". "
    if not inside or reader.gap(place) != " " or not reader.words[place][0].isupper():
        return None
    before = plain(reader.words[place - 1][0])
    graded = "-" in before or (before in last_names() and before not in first_names())
    if graded and reader.words[place][0] in "ABCD":
        return None  # "Child-Pugh A. Old fracture", "Weber B. Talar shift"
    for side in (place - 1, place + 1):
        if not is_title(reader.words[side][0]) or not reader.is_capital_name(side):
            return None
    return (place - 1, place + 2) if reader.is_person((place, place + 2)) else None


RULES: tuple[tuple[Set[str], Rule], ...] = (
    (RELATIONS, before_relation),
    (RELATIONS, before_its_relation),
    (OLD, before_age),
    (DOINGS, before_doing),
    (ROLES, before_role),
    ({degree.lower() for degree in DEGREES} | {"m", "d"}, before_degree),
    (FIELDS, before_field),
    (set(string.ascii_lowercase), around_initial),
)
