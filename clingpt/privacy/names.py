"""How likely a word is to be part of a name, and how far a name that starts at a word extends.

The names are the US Census lists of 1990 (88,799 last names, 5,163 first names; public domain),
read from the data files of the package `names`, which is never imported. Whether a listed name is
also an ordinary word is decided by GPT-2's vocabulary, whose ids are ordered by frequency:
" brown" is a single token there, " smith" is not.

The words around a name that reveal it are in cue_words.txt; the rules that use them are in
name_rules.py.
"""

import enum
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from clingpt.base.errors import ConfigError
from clingpt.base.remember import remember_words
from clingpt.text.tokenizer import Tokenizer, packaged_file

CUE_FILES = ("cue_words.txt", "note_words.txt")
COMMONEST = 300  # this many of the commonest first names may precede any last name
EVERYDAY = 1000  # ids in GPT-2's vocabulary below this are words too common to be lower-case names
# A listed name is also a word unless its lower-case form is this many times rarer than its
# capitalised form.
RARER = 3
LONGEST = 5  # most words in a name: "Maria de la Cruz Santos"
MEDICAL_ENDINGS = (
    *("ology", "ologist", "itis", "osis", "ectomy", "otomy", "emia", "uria", "pathy", "algia"),
    *("plasty", "scopy", "graphy", "gram", "tion", "sion", "ment", "ness", "ical", "ular", "ious"),
    *("ated", "ized", "ised", "cillin", "mycin", "iatric", "iatrics", "ative", "ively", "ally"),
)
POSSESSIVE = ("'s", "’s", "'S", "’S")
AFTER_LABEL = re.compile(r"(?:\(s\))?\s?[:#=]\s{0,3}")

Span = tuple[int, int]  # index of a name's first word, and of the word after its last


# Word lists


@cache
def _cue_sections() -> dict[str, frozenset[str]]:
    sections: dict[str, list[str]] = {}
    folder = Path(__file__).parent
    texts = (folder.joinpath(name).read_text("utf-8") for name in CUE_FILES)
    for line in "\n".join(texts).splitlines():
        if line.startswith("["):
            words = sections[line.strip("[]")] = []
        elif line and not line.startswith("#"):
            words += line.split()
    return {name: frozenset(words) for name, words in sections.items()}


@cache
def cues(*sections: str) -> frozenset[str]:
    """Return the words of one or more sections of CUE_FILES."""
    return frozenset[str]().union(*(_cue_sections()[name] for name in sections))


@cache
def census(kind: str) -> tuple[str, ...]:
    """Return lower-cased names, commonest first; `kind` is female.first, male.first or all.last."""
    path = packaged_file("names", f"names/dist.{kind}")
    if path is None:
        raise ConfigError(
            "the census lists of names are not installed (package names); "
            "run: pip install -r requirements.txt"
        )
    return tuple(line.split()[0].lower() for line in path.read_text("ascii").splitlines())


@cache
def first_names() -> frozenset[str]:
    return frozenset(census("female.first")) | frozenset(census("male.first"))


@cache
def last_names() -> frozenset[str]:
    return frozenset(census("all.last"))


@cache
def common_first_names() -> frozenset[str]:
    """First names so common that the last name after them may be a word or unlisted."""
    return frozenset(census("female.first")[:COMMONEST] + census("male.first")[:COMMONEST])


class Standing(enum.IntEnum):
    """How likely a lower-cased word is to be a name, out of context."""

    NONE = 0  # an ordinary word, an abbreviation, a medical term
    UNLISTED = 1  # neither a listed name nor a known word
    WORD = 2  # a listed name that is also a word: Brown, Young
    CLEAR = 3  # a listed name and nothing else: Smith


@remember_words(1 << 16)
def standing(word: str) -> Standing:
    """Rate a lower-cased word; a double name is rated like the likelier of its parts."""
    bare = word.replace("'", "").replace("’", "")
    if "-" in bare:
        return max(standing(part) for part in bare.split("-"))
    if bare in first_names() or bare in last_names():
        rank, name_rank = _rank(bare), _rank(bare.capitalize())
        is_word = rank is not None and (name_rank is None or rank < RARER * name_rank)
        return Standing.WORD if is_word else Standing.CLEAR
    if len(bare) < 3 or bare.endswith(MEDICAL_ENDINGS) or _rank(bare) is not None:
        return Standing.NONE
    return Standing.UNLISTED


@cache
def _tokenizer() -> Tokenizer:
    return Tokenizer.load()


def _rank(word: str) -> int | None:
    """Return the id of a word that is a single GPT-2 token, else None."""
    ids = _tokenizer().encode(" " + word)
    return ids[0] if len(ids) == 1 else None


# Single words as written


def is_initial(word: str) -> bool:
    return len(word) == 1 and word.isupper()


def is_title(word: str) -> bool:
    """Whether a word starts with a capital but is not all capitals: Smith, McDonald."""
    return word[0].isupper() and not word.isupper()


def _case(word: str) -> str:
    return "small" if word[0].islower() else "capitals" if word.isupper() else "title"


def plain(word: str) -> str:
    """Return a word as the lists spell it: lower-cased, without a possessive ending."""
    return (word[:-2] if word.endswith(POSSESSIVE) else word).lower()


# Names of several words


class Reader:
    """The words of one text, and methods that read names from them.

    A place is the index of a word. Places before the first and after the last word are allowed
    where only the gap next to them is needed.
    """

    def __init__(self, text: str, words: Sequence[re.Match[str]]) -> None:
        self.text, self.words = text, words

    def word(self, place: int) -> str:
        return self.words[place][0]

    def names(self, span: Span) -> list[str]:
        """Return the words of a span as the lists spell them, without initials."""
        return [plain(word[0]) for word in self.words[slice(*span)] if len(word[0]) > 1]

    def gap(self, place: int) -> str:
        """Return the text between a word and the word before it; empty at the text's ends."""
        if not 0 < place < len(self.words):
            return ""
        return self.text[self.words[place - 1].end() : self.words[place].start()]

    def end(self, span: Span) -> int:
        """Return the position in the text where a span ends."""
        return self.words[span[1] - 1].end()

    def follows(self, place: int, words: frozenset[str]) -> bool:
        """Whether the word at a place is one of these, one space after the word before it."""
        return self.gap(place) == " " and self.word(place).lower() in words

    def before(self, place: int) -> str:
        """Return the word directly before a place, in lower case; empty if none is adjacent."""
        return self.word(place - 1).lower() if self.gap(place) in (" ", ". ") else ""

    def is_person(self, span: Span) -> bool:
        """Whether the next word does not make the name that of a hospital, a disease or a test."""
        return not self.follows(span[1], cues("not_persons"))

    def read(
        self,
        first: int,
        *,
        gap: str | None = None,
        least: Standing = Standing.UNLISTED,
        comma: bool = False,
    ) -> Span | None:
        """Read the name that starts at a word.

        `gap`: the text required before the name; None allows any. `least`: the minimum standing of
        its first word. `comma`: allow "Lee, Ann".
        """
        if gap is not None and self.gap(first) != gap:
            return None
        place = end = first
        while place < len(self.words) and place - first < LONGEST:
            if place > first and not self.is_joined(place):
                if not (comma and self.gap(place) in (", ", ",")):
                    break
                comma = False
            word = self.word(place)
            if not (is_initial(word) or word.lower() in cues("particles")):
                if not self._continues(first, end, place, least):
                    break
                end = place + 1
            place += 1
        return (first, self.after_initials(end)) if end > first else None

    def _continues(self, first: int, end: int, place: int, least: Standing) -> bool:
        """Whether a word continues the name read so far, from `first` to `end`."""
        word = self.word(place)
        name = plain(word)
        good = standing(name)
        if name in cues("never") or good is Standing.NONE:
            return False
        if end == first:
            small = word.islower() and good is not Standing.CLEAR
            rank = _rank(name) if small else None
            return good >= least and not (rank is not None and rank < EVERYDAY)
        if "," in self.gap(place):
            return good is not Standing.WORD or name in first_names()
        if word[0].islower() or good is Standing.CLEAR:
            return good is Standing.CLEAR and word[0].islower() == self.word(first)[0].islower()
        # "Dr. Mary Brown" and "Dr. Adaeze Okonkwo", but "DR. SMITH WILL", "Dr. Smith Ultrasound".
        before = plain(self.word(end - 1))
        expects_more = before in first_names() or standing(before) is Standing.UNLISTED
        return expects_more and _case(word) == _case(self.word(first))  # not "Gregory IIB"

    def is_joined(self, place: int) -> bool:
        """Whether a word can continue the name that the word before it belongs to."""
        gap, before = self.gap(place), self.word(place - 1)
        return gap == " " or (gap in (". ", ".") and (is_initial(before) or before == "St"))

    def after_initials(self, place: int) -> int:
        """Skip initials ("Q." or "Q"); A and I count only with a full stop, as they are words."""
        while place < len(self.words) and self.gap(place) in (" ", ". ", "."):
            word = self.words[place]
            stopped = self.text.startswith(".", word.end()) or self.follows(
                place + 1, cues("never")
            )
            if not is_initial(word[0]) or (word[0] in "AI" and not stopped):
                break
            place += 1
        return place

    def is_full_name(self, span: Span) -> bool:
        """Whether a span is convincing by itself: not "Ventral Hernia", not "Colon Cancer"."""
        names = self.names(span)
        return (
            len(names) > 1
            and names[0] not in cues("places")
            and names[-1] not in cues("not_persons")
            and self.is_person(span)
            and all(
                word[0][0].isupper() or word[0] in cues("particles")
                for word in self.words[slice(*span)]
            )
            and self.convinces(span, may_go_on=True)
        )

    def convinces(self, span: Span, *, may_go_on: bool = False) -> bool:
        """Whether a name needs no title: not "Patient: White Female", not "Name: Aspirin".

        `may_go_on`: accept unlisted names even if a sentence continues after them.
        """
        names = self.names(span)
        ratings = [standing(name) for name in names]
        if Standing.CLEAR in ratings:
            return True
        if len(names) < 2:
            return False
        return (
            (names[0] in first_names() and names[-1] in last_names())
            or any("," in self.gap(place) for place in range(span[0] + 1, span[1]))
            or (Standing.UNLISTED in ratings and (may_go_on or self.is_field(span)))
        )

    def is_field(self, span: Span) -> bool:
        """Whether something new starts after a name, rather than the sentence continuing."""
        after = self.word(span[1]) if self.gap(span[1]) == " " else ""
        same_case = after.islower() or after.isupper() == self.word(span[0]).isupper()
        is_label = bool(after) and self.text.startswith(":", self.words[span[1]].end())
        return not after or after.lower() in cues("never") or is_label or not same_case

    def begins(self, place: int) -> bool:
        """Whether a word starts the text, a sentence or a field, or follows a dash."""
        return place == 0 or self.gap(place).rstrip().endswith((".", ":", "?", ";", "-", "–", "|"))

    def after_label(self, place: int) -> bool:
        """Whether a label and its colon precede a word."""
        gap = self.gap(place)
        return bool(AFTER_LABEL.fullmatch(gap)) and self.word(place - 1).lower() in cues("labels")

    def is_capital_name(self, place: int) -> bool:
        """Whether a word is capitalised and may be part of a name."""
        word = self.word(place)
        name = plain(word)
        good = standing(name) is not Standing.NONE and name not in cues("never")
        return word[0].isupper() and (good or is_initial(word))

    def first_before(self, place: int) -> int:
        """Return where the name that ends before a word starts, or else the word's own place."""
        first = place
        while first > 0 and self.is_capital_name(first - 1):
            if self.word(first - 1).lower() in cues("labels"):
                break  # "Client Okonkwo, 54"
            first -= 1
            if place - first == LONGEST or not self.is_joined(first):
                break
        return first

    def name_before(self, place: int) -> Span:
        """Return the name ("Lee, Ann" too) that ends before a word, or else an empty span."""
        first = self.first_before(place)
        if 0 < first < place and self.gap(first) == ", " and self.is_capital_name(first - 1):
            first -= 1
        return first, place
