"""Names of people in clinical text: by what stands around them, or by a first and a last name.

Most surnames are words, places or the names of diseases and tests too (Brown, Young, Parkinson's
disease, Cox regression), so a capital never suffices. A name needs a title ("Dr. Brown"), a label
("Pt: DOE, JOHN"), a relation ("her son Bob"), a degree ("Ann Lee, MD"), or a first name before a
last one; what was once found so is then found alone in the same text. Other names are missed.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache

from clingpt.gazetteer import (
    Standing,
    common_first_names,
    first_names,
    is_everyday,
    last_names,
    standing,
)
from clingpt.name_words import (
    BEFORE_BY,
    DEGREES,
    EPONYMS,
    INTRODUCERS,
    LABELS,
    NEVER,
    NOT_PERSONS,
    PARTICLES,
    PLACES,
    PLAIN_LABELS,
    RELATIONS,
    TITLES,
    WEAK_TITLES,
)

LONGEST_SHORT = 4  # letters of a title that may end in a full stop: "see your doctor. Hearing"
LONGEST = 5  # words of a name: "Maria de la Cruz Santos"


_AFTER_TITLE = re.compile(r"\.?\s{0,2}")
_AFTER_LABEL = re.compile(r"(?:\(s\))?\s?[:#=]\s{0,3}")
_AFTER_RELATION = re.compile(r"\s|\s?[:,(]\s?")
_POSSESSIVE = ("'s", "’s", "'S", "’S")

Span = tuple[int, int]  # the first word of a name, and the word behind its last
Rule = Callable[["_Reader", int], Span | None]


def find_names(text: str, words: Sequence[re.Match[str]]) -> Iterator[Span]:
    """(start, end) of names, some overlapping, given the words of the text."""
    reader, rules = _Reader(text, words), _rules()
    found = []
    for place, word in enumerate(words):
        for rule in rules.get(word[0].lower(), ()):
            if span := rule(reader, place):
                found.append(span)
    for first, behind in [*found, *reader.again(found)]:
        last = words[behind - 1]
        yield words[first].start(), last.end() - 2 * last[0].endswith(_POSSESSIVE)


class _Reader:
    """The words of one text, and how names are read from them."""

    def __init__(self, text: str, words: Sequence[re.Match[str]]) -> None:
        self.text, self.words = text, words

    def behind_title(self, place: int) -> Span | None:
        """Dr. Brown, mr jones; but not "MS patients", "to miss doses"."""
        title, gap = self.words[place][0], self._gap(place + 1)
        if (
            not gap
            or not _AFTER_TITLE.fullmatch(gap)
            or ("." in gap and len(title) > LONGEST_SHORT)
        ):
            return None
        capital = title.isupper() and self.words[place + 1][0].istitle()  # "severe MR. Left atrium"
        doubtful = title.lower() in WEAK_TITLES and not title.istitle()
        doubtful = (doubtful and ("." not in gap or capital)) or len(title) > LONGEST_SHORT
        return self._read(place + 1, least=Standing.CLEAR if doubtful else Standing.UNLISTED)

    def behind_second(self, place: int) -> Span | None:
        """The Jones of "Drs. Smith and Jones"."""
        first = self.behind_title(place)
        last = first[1] if first else len(self.words)
        if self._gap(last) != " " or self.words[last][0] not in ("and", "AND"):
            return None
        return self._read(last + 1) if self._gap(last + 1) == " " else None

    def behind_label(self, place: int) -> Span | None:
        """Pt: DOE, JOHN Q.; Dear Ann; but not "Patient: White male"."""
        label, gap = self.words[place][0].lower(), self._gap(place + 1)
        if not _AFTER_LABEL.fullmatch(gap) and not (label in PLAIN_LABELS and gap in (" ", ", ")):
            return None
        span = self._read(place + 1, comma=True)
        dear = label in PLAIN_LABELS and span and _plain(self.words[span[0]][0]) in first_names()
        return span if span and (dear or self._convinces(span)) else None

    def behind_relation(self, place: int) -> Span | None:
        """Her son Bob; wife (Oluwaseun); but not "mother had"."""
        gap = self._gap(place + 1)
        span = self._read(place + 1) if _AFTER_RELATION.fullmatch(gap) else None
        if not span or not self._is_person(span):
            return None
        word = self.words[span[0]][0]
        if word.islower():
            return span if _plain(word) in common_first_names() else None
        # "Father: Melanoma" is an answer; "her father Adewale" has no colon.
        unlisted = word.istitle() and ":" not in gap
        return span if _plain(word) in first_names() or self._convinces(span) or unlisted else None

    def behind_by(self, place: int) -> Span | None:
        """Seen by Ann Lee; but not "tested by Mann-Whitney", "treated by Billroth's operation"."""
        if self._gap(place + 1) != " " or self._gap(place + 2) != " ":
            return None
        if self.words[place + 1][0].lower() not in ("by", "with"):
            return None
        span = self._read(place + 2)
        if not span or not self._is_person(span) or not self._convinces(span, may_go_on=True):
            return None
        last = self.words[span[1] - 1][0]
        alone = span[1] - span[0] == 1
        doubtful = alone and ("-" in last or last.endswith(_POSSESSIVE))
        return None if doubtful or last.islower() else span

    def behind_introducer(self, place: int) -> Span | None:
        """Thank you for referring Ann Brown; daughter of Ann Brown; but not "patient Brown"."""
        word = self.words[place][0].lower()
        if self._gap(place + 1) != " " or (word == "of" and self._before(place) not in RELATIONS):
            return None
        span = self._read(place + 1)
        if not span or span[1] - span[0] < 2 or not self.words[span[0]][0].istitle():
            return None
        return span if self._is_person(span) and self._convinces(span, may_go_on=True) else None

    def before_degree(self, place: int) -> Span | None:
        """Ann Lee, MD; J. Brown M.D.; but not "Bethesda, MD"."""
        degree, gap = self.words[place][0], self._gap(place)
        dotted = degree in "MD" and re.match(r"\.[DO]\b", self.text[self.words[place].end() :][:3])
        if gap not in (" ", ", ", ",") or not (degree in DEGREES or dotted):
            return None
        first = place
        while first > 0 and self._is_capital_name(first - 1):
            first -= 1
            if place - first == LONGEST or not self._is_joined(first):
                break
        names = [_plain(word[0]) for word in self.words[first:place] if len(word[0]) > 1]
        told = Standing.CLEAR in map(standing, names) or len(names) > 1
        return (first, place) if told and (place - first > 1 or gap == " ") else None

    def at_first_name(self, place: int) -> Span | None:
        """Mary K. Jones; DOE, JOHN; john smith; but not "Grace Young", "St. John"."""
        word = self.words[place][0]
        first = _plain(word)
        if standing(first) is not Standing.CLEAR or self._before(place) in PLACES:
            return None
        if self._gap(place) == ", " and (span := self._behind_last_name(place)):
            return span
        span = self._read(place) or (place, place)
        names = [_plain(each[0]) for each in self.words[slice(*span)] if len(each[0]) > 1]
        if len(names) < 2 or names[-1] in NOT_PERSONS or not self._is_person(span):
            return None
        listed = any(standing(name) >= Standing.WORD for name in names[1:])
        if word.islower() or not listed:
            return span if first in common_first_names() and (listed or word.istitle()) else None
        return span

    def _behind_last_name(self, place: int) -> Span | None:
        """DOE, JOHN; Doe, John Q.; but not "in Boston, Houston, and Austin"."""
        before, word = self.words[place - 1][0], self.words[place][0]
        behind = self._behind_initials(place + 1)
        if self._before_label(place - 1) and _plain(before) in last_names():
            return place - 1, behind
        if standing(_plain(before)) is not Standing.CLEAR or not self._is_capital_name(place - 1):
            return None
        alone = self._gap(place - 1) != ", " and not self._gap(behind).startswith(",")
        capitals = before.isupper() and word.isupper()
        return (place - 1, behind) if alone and (capitals or behind > place + 1) else None

    def again(self, found: Sequence[Span]) -> Iterator[Span]:
        """Words of names found by what stood around them, where they stand alone."""
        names = {_plain(self.words[at][0]) for span in found for at in range(*span)}
        names = {
            name for name in names if len(name) > 2 and name not in NEVER | PARTICLES | EPONYMS
        }
        for place, word in enumerate(self.words if names else ()):
            name = _plain(word[0])
            if name not in names or not word[0][0].isupper():
                continue
            doubtful = standing(name) is Standing.WORD
            begins = self._gap(place).strip() or word[0].isupper()
            if not (doubtful and begins) and self._is_person((place, place + 1)):
                yield place, place + 1

    def _is_person(self, span: Span) -> bool:
        """Whether what follows does not make it a hospital, a disease or a test."""
        return not self._follows(span[1], NOT_PERSONS)

    def _read(
        self, first: int, *, least: Standing = Standing.UNLISTED, comma: bool = False
    ) -> Span | None:
        """The name that starts at a word; the first of it stands at least so well for a name."""
        place = behind = first
        while place < len(self.words) and place - first < LONGEST:
            if place > first and not self._is_joined(place):
                if not (comma and self._gap(place) in (", ", ",")):
                    break
                comma = False
            word = self.words[place][0]
            if not (_is_initial(word) or word.lower() in PARTICLES):
                if not self._continues(first, behind, place, least):
                    break
                behind = place + 1
            place += 1
        return (first, self._behind_initials(behind)) if behind > first else None

    def _continues(self, first: int, behind: int, place: int, least: Standing) -> bool:
        """Whether a word is the next of a name that has been read so far."""
        word = self.words[place][0]
        name = _plain(word)
        good = standing(name)
        if name in NEVER or good is Standing.NONE:
            return False
        if behind == first:
            small = word.islower() and good is not Standing.CLEAR
            return good >= least and not (small and is_everyday(name))
        if "," in self._gap(place):
            return good is not Standing.WORD or name in first_names()
        if word[0].islower() or good is Standing.CLEAR:
            return good is Standing.CLEAR and word[0].islower() == self.words[first][0][0].islower()
        # "Dr. Mary Brown" and "Dr. Adaeze Okonkwo", but "DR. SMITH WILL", "Dr. Smith Ultrasound".
        before = _plain(self.words[behind - 1][0])
        open_still = before in first_names() or standing(before) is Standing.UNLISTED
        return open_still and (word[0].isupper() == self.words[first][0][0].isupper())

    def _convinces(self, span: Span, *, may_go_on: bool = False) -> bool:
        """Whether a name does without a title: not "Patient: White Female", "Name: Aspirin"."""
        names = [_plain(word[0]) for word in self.words[slice(*span)] if len(word[0]) > 1]
        if Standing.CLEAR in map(standing, names):
            return True
        pair = names[0] in first_names() and names[-1] in last_names()
        unlisted = Standing.UNLISTED in map(standing, names)
        turned = any("," in self._gap(place) for place in range(span[0] + 1, span[1]))
        told = pair or turned or (unlisted and (may_go_on or self._is_field(span)))
        return len(names) > 1 and told

    def _is_field(self, span: Span) -> bool:
        """Whether something else begins behind a name, and no sentence goes on."""
        behind = self.words[span[1]][0] if self._gap(span[1]) == " " else ""
        same = behind.islower() or behind.isupper() == self.words[span[0]][0].isupper()
        return not behind or behind.lower() in NEVER or not same

    def _gap(self, place: int) -> str:
        """What stands between a word and the one before it; nothing at the text's ends."""
        if not 0 < place < len(self.words):
            return ""
        return self.text[self.words[place - 1].end() : self.words[place].start()]

    def _follows(self, place: int, words: frozenset[str]) -> bool:
        """Whether the word there is one of these, right behind the one before."""
        return self._gap(place) == " " and self.words[place][0].lower() in words

    def _before(self, place: int) -> str:
        """The word right before, in lower case."""
        return self.words[place - 1][0].lower() if self._gap(place) in (" ", ". ") else ""

    def _before_label(self, place: int) -> bool:
        gap = self._gap(place)
        return bool(_AFTER_LABEL.fullmatch(gap)) and self.words[place - 1][0].lower() in LABELS

    def _is_joined(self, place: int) -> bool:
        """Whether a word can go on with the name that the word before belongs to."""
        gap, before = self._gap(place), self.words[place - 1][0]
        return gap == " " or (gap in (". ", ".") and (_is_initial(before) or before == "St"))

    def _is_capital_name(self, place: int) -> bool:
        word = self.words[place][0]
        name = _plain(word)
        good = standing(name) is not Standing.NONE and name not in NEVER
        return word[0].isupper() and (good or _is_initial(word))

    def _behind_initials(self, place: int) -> int:
        """The place behind "Q." or "Q"; an A or an I needs its full stop to be one."""
        while place < len(self.words) and self._gap(place) in (" ", ". ", "."):
            word = self.words[place]
            stopped = self.text.startswith(".", word.end()) or self._follows(place + 1, NEVER)
            if not _is_initial(word[0]) or (word[0] in "AI" and not stopped):
                break
            place += 1
        return place


def _is_initial(word: str) -> bool:
    return len(word) == 1 and word.isupper()


def _plain(word: str) -> str:
    """A word as the lists have it."""
    return (word[:-2] if word.endswith(_POSSESSIVE) else word).lower()


@cache
def _rules() -> dict[str, tuple[Rule, ...]]:
    """Which words begin, end or introduce a name, and how it is read from there."""
    rules: dict[str, tuple[Rule, ...]] = {}
    for words, rule in (
        (TITLES, _Reader.behind_title),
        ({"drs"}, _Reader.behind_second),
        (LABELS | PLAIN_LABELS, _Reader.behind_label),
        (RELATIONS, _Reader.behind_relation),
        (BEFORE_BY, _Reader.behind_by),
        (INTRODUCERS, _Reader.behind_introducer),
        ({degree.lower() for degree in DEGREES} | {"m", "d"}, _Reader.before_degree),
        (first_names(), _Reader.at_first_name),
    ):
        for word in words:
            rules[word] = (*rules.get(word, ()), rule)
    return rules
