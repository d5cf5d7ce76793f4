"""Names of people in clinical text: by what stands around them, or by a first and a last name.

Most surnames are words, places or the names of diseases and tests too (Brown, Young, Parkinson's
disease, Cox regression), so a capital never suffices. A name needs a title ("Dr. Brown"), a label
("Pt: DOE, JOHN"), a relation ("her son Bob"), a degree ("Ann Lee, MD"), or a first name before a
last one; what was once found so is then found alone in the same text. Other names are missed.
"""

import re
from collections import deque
from collections.abc import Iterator, Sequence
from functools import cache

from clingpt.privacy import names_after_cue, names_before_cue
from clingpt.privacy.census import Standing, common_first_names, first_names, last_names, standing
from clingpt.privacy.cue_words import EPONYMS, NEVER, NOT_PERSONS, PARTICLES, PLACES, VERBS
from clingpt.privacy.name_reader import POSSESSIVE, Reader, Rule, Span, plain

SPECIALISTS = ("ist", "ian")


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
    found += [*names_before_cue.before_numbers(reader), *names_before_cue.turned(reader)]
    found += list(beside(reader, found))
    for first, behind in [*found, *again(reader, found)]:
        last = words[behind - 1]
        yield words[first].start(), last.end() - 2 * last[0].endswith(POSSESSIVE)


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
    if before.islower():  # "log - smith, john, 54"
        common = word.islower() and plain(word) in common_first_names()
        begins = reader.gap(place - 1) not in (" ", ", ") and reader.gap(place + 1).startswith(",")
        named = standing(plain(before)) is Standing.CLEAR
        return (place - 1, behind) if common and begins and named else None
    clear = standing(plain(before)) is standing(plain(word)) is Standing.CLEAR
    if not clear or not reader.is_capital_name(place - 1):
        return None
    alone = reader.gap(place - 1) != ", " and not reader.gap(behind).startswith(",")
    capitals = before.isupper() and word.isupper()
    return (place - 1, behind) if alone and (capitals or behind > place + 1) else None


def beside(reader: Reader, found: Sequence[Span]) -> Iterator[Span]:
    """Full names that "and" or a comma joins to one that was found."""
    known = {first for first, _ in found}
    ends = deque(behind for _, behind in found)
    while ends:
        place = ends.popleft()
        joint = reader.gap(place)
        if joint in (" ", ", ") and place < len(reader.words) and reader.words[place][0] == "and":
            place, joint = place + 1, ", "
        span = reader.read(place) if joint == ", " and reader.gap(place)[-1:] == " " else None
        if span and span[0] not in known and reader.is_full_name(span):
            yield span
            known.add(span[0])
            ends.append(span[1])


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


_SPECIALIST = (names_after_cue.behind_label,)


@cache
def _rules() -> dict[str, tuple[Rule, ...]]:
    """Which words begin, end or introduce a name, and how it is read from there."""
    rules: dict[str, tuple[Rule, ...]] = {}
    for words, rule in (
        *names_after_cue.RULES,
        *names_before_cue.RULES,
        (first_names(), at_first_name),
    ):
        for word in words:
            rules[word] = (*rules.get(word, ()), rule)
    return rules
