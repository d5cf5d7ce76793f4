"""Reading names word by word: what may belong to one, where it ends, how convincing it is.

What introduces a name, and so where to begin, is clingpt/privacy/names.py.
"""

import re
from collections.abc import Callable, Sequence

from clingpt.privacy.census import Standing, first_names, is_everyday, last_names, standing
from clingpt.privacy.cue_words import LABELS, NEVER, NOT_PERSONS, PARTICLES, PLACES

LONGEST = 5  # words of a name: "Maria de la Cruz Santos"
AFTER_LABEL = re.compile(r"(?:\(s\))?\s?[:#=]\s{0,3}")
POSSESSIVE = ("'s", "’s", "'S", "’S")

Span = tuple[int, int]  # the first word of a name, and the word behind its last
Rule = Callable[["Reader", int], Span | None]


class Reader:
    """The words of one text, and how names are read from them."""

    def __init__(self, text: str, words: Sequence[re.Match[str]]) -> None:
        self.text, self.words = text, words

    def is_person(self, span: Span) -> bool:
        """Whether what follows does not make it a hospital, a disease or a test."""
        return not self.follows(span[1], NOT_PERSONS)

    def read(
        self, first: int, *, least: Standing = Standing.UNLISTED, comma: bool = False
    ) -> Span | None:
        """The name that starts at a word; the first of it stands at least so well for a name."""
        place = behind = first
        while place < len(self.words) and place - first < LONGEST:
            if place > first and not self.is_joined(place):
                if not (comma and self.gap(place) in (", ", ",")):
                    break
                comma = False
            word = self.words[place][0]
            if not (is_initial(word) or word.lower() in PARTICLES):
                if not self.continues(first, behind, place, least):
                    break
                behind = place + 1
            place += 1
        return (first, self.behind_initials(behind)) if behind > first else None

    def continues(self, first: int, behind: int, place: int, least: Standing) -> bool:
        """Whether a word is the next of a name that has been read so far."""
        word = self.words[place][0]
        name = plain(word)
        good = standing(name)
        if name in NEVER or good is Standing.NONE:
            return False
        if behind == first:
            small = word.islower() and good is not Standing.CLEAR
            return good >= least and not (small and is_everyday(name))
        if "," in self.gap(place):
            return good is not Standing.WORD or name in first_names()
        if word[0].islower() or good is Standing.CLEAR:
            return good is Standing.CLEAR and word[0].islower() == self.words[first][0][0].islower()
        # "Dr. Mary Brown" and "Dr. Adaeze Okonkwo", but "DR. SMITH WILL", "Dr. Smith Ultrasound".
        before = plain(self.words[behind - 1][0])
        open_still = before in first_names() or standing(before) is Standing.UNLISTED
        # "Gregory IIB" is no name.
        return open_still and case_of(word) == case_of(self.words[first][0])

    def is_full_name(self, span: Span) -> bool:
        """Whether it is a first and a last name by itself: not "Ventral Hernia", "Colon Cancer"."""
        names = [plain(word[0]) for word in self.words[slice(*span)] if len(word[0]) > 1]
        told = (
            len(names) > 1
            and names[0] not in PLACES
            and names[-1] not in NOT_PERSONS
            and self.is_person(span)
        )
        capitals = all(
            word[0][0].isupper() or word[0] in PARTICLES for word in self.words[slice(*span)]
        )
        return told and capitals and self.convinces(span, may_go_on=True)

    def convinces(self, span: Span, *, may_go_on: bool = False) -> bool:
        """Whether a name does without a title: not "Patient: White Female", "Name: Aspirin"."""
        names = [plain(word[0]) for word in self.words[slice(*span)] if len(word[0]) > 1]
        if Standing.CLEAR in map(standing, names):
            return True
        pair = names[0] in first_names() and names[-1] in last_names()
        unlisted = Standing.UNLISTED in map(standing, names)
        turned = any("," in self.gap(place) for place in range(span[0] + 1, span[1]))
        told = pair or turned or (unlisted and (may_go_on or self.is_field(span)))
        return len(names) > 1 and told

    def is_field(self, span: Span) -> bool:
        """Whether something else begins behind a name, and no sentence goes on."""
        behind = self.words[span[1]][0] if self.gap(span[1]) == " " else ""
        same = behind.islower() or behind.isupper() == self.words[span[0]][0].isupper()
        labels = bool(behind) and self.text.startswith(":", self.words[span[1]].end())
        return not behind or behind.lower() in NEVER or labels or not same

    def gap(self, place: int) -> str:
        """What stands between a word and the one before it; nothing at the text's ends."""
        if not 0 < place < len(self.words):
            return ""
        return self.text[self.words[place - 1].end() : self.words[place].start()]

    def behind(self, span: Span) -> tuple[str, int]:
        """The text, and where a name ends in it, for a pattern to match there."""
        return self.text, self.words[span[1] - 1].end()

    def follows(self, place: int, words: frozenset[str]) -> bool:
        """Whether the word there is one of these, right behind the one before."""
        return self.gap(place) == " " and self.words[place][0].lower() in words

    def before(self, place: int) -> str:
        """The word right before, in lower case."""
        return self.words[place - 1][0].lower() if self.gap(place) in (" ", ". ") else ""

    def first_before(self, place: int) -> int:
        """Where a name starts that ends before a word; that word itself where none does."""
        first = place
        while first > 0 and self.is_capital_name(first - 1):
            if self.words[first - 1][0].lower() in LABELS:
                break  # "Client Okonkwo, 54"
            first -= 1
            if place - first == LONGEST or not self.is_joined(first):
                break
        return first

    def name_before(self, place: int) -> Span:
        """The name that ends before a word, "Lee, Ann" as well; an empty span where none does."""
        first = self.first_before(place)
        if 0 < first < place and self.gap(first) == ", " and self.is_capital_name(first - 1):
            first -= 1
        return first, place

    def begins(self, place: int) -> bool:
        """Whether a word is the first of a sentence, of a field or behind a dash."""
        return place == 0 or self.gap(place).rstrip().endswith((".", ":", "?", ";", "-", "–", "|"))

    def before_label(self, place: int) -> bool:
        gap = self.gap(place)
        return bool(AFTER_LABEL.fullmatch(gap)) and self.words[place - 1][0].lower() in LABELS

    def is_joined(self, place: int) -> bool:
        """Whether a word can go on with the name that the word before belongs to."""
        gap, before = self.gap(place), self.words[place - 1][0]
        return gap == " " or (gap in (". ", ".") and (is_initial(before) or before == "St"))

    def is_capital_name(self, place: int) -> bool:
        word = self.words[place][0]
        name = plain(word)
        good = standing(name) is not Standing.NONE and name not in NEVER
        return word[0].isupper() and (good or is_initial(word))

    def behind_initials(self, place: int) -> int:
        """The place behind "Q." or "Q"; an A or an I needs its full stop to be one."""
        while place < len(self.words) and self.gap(place) in (" ", ". ", "."):
            word = self.words[place]
            stopped = self.text.startswith(".", word.end()) or self.follows(place + 1, NEVER)
            if not is_initial(word[0]) or (word[0] in "AI" and not stopped):
                break
            place += 1
        return place


def is_initial(word: str) -> bool:
    return len(word) == 1 and word.isupper()


def case_of(word: str) -> str:
    """Whether a word is in small letters, in capitals, or begins with one."""
    return "small" if word[0].islower() else "capitals" if word.isupper() else "title"


def is_title(word: str) -> bool:
    """Whether it has a capital, and not only capitals: Smith, McDonald."""
    return word[0].isupper() and not word.isupper()


def plain(word: str) -> str:
    """A word as the lists have it."""
    return (word[:-2] if word.endswith(POSSESSIVE) else word).lower()
