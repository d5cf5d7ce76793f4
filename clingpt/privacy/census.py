"""Which words are first and last names, and which of those are words, places or tests as well.

The lists are the US Census' of 1990 (88,799 last names, 5,163 first ones; public domain), from the
data files of the package `names`, which is never imported. Whether a name is a word too is asked
of GPT-2's vocabulary, whose order is that of frequency: " smith" is no token there, " brown" is.
"""

import enum
from functools import cache, lru_cache

from clingpt.base.errors import ConfigError
from clingpt.text.tokenizer import Tokenizer, packaged_file

COMMONEST = 300  # first names, of women and of men, that any last name may follow
EVERYDAY = 1000  # rank in GPT-2's vocabulary; commoner words are no names without a capital
# A name is a word as well if its small letters are not that many times rarer than its capital.
RARER = 3
MEDICAL_ENDINGS = (
    *("ology", "ologist", "itis", "osis", "ectomy", "otomy", "emia", "uria", "pathy", "algia"),
    *("plasty", "scopy", "graphy", "gram", "tion", "sion", "ment", "ness", "ical", "ular", "ious"),
    *("ated", "ized", "ised", "cillin", "mycin", "iatric", "iatrics", "ative", "ively", "ally"),
)


class Standing(enum.IntEnum):
    """How much a word alone speaks for a name; its letters' case has been looked at already."""

    NONE = 0  # a word, an abbreviation, a medical term
    UNLISTED = 1  # neither a listed name nor a known word
    WORD = 2  # a listed name that is a word as well: Brown, Young
    CLEAR = 3  # a listed name and nothing else: Smith


@cache
def census(kind: str) -> tuple[str, ...]:
    """Names in lower case, the commonest first; kinds are female.first, male.first, all.last."""
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
    """Those before which a last name may be a word, or stand on no list."""
    return frozenset(census("female.first")[:COMMONEST] + census("male.first")[:COMMONEST])


@lru_cache(maxsize=1 << 16)
def standing(word: str) -> Standing:
    """Of a word in lower case; a double name is as good as its better half."""
    plain = word.replace("'", "").replace("’", "")
    if "-" in plain:
        return max(standing(part) for part in plain.split("-"))
    if plain in first_names() or plain in last_names():
        return Standing.WORD if is_word(plain) else Standing.CLEAR
    if len(plain) < 3 or plain.endswith(MEDICAL_ENDINGS) or _rank(plain) is not None:
        return Standing.NONE
    return Standing.UNLISTED


def is_word(name: str) -> bool:
    """Whether a name is not much commoner than the same letters without a capital."""
    rank, name_rank = _rank(name), _rank(name.capitalize())
    return rank is not None and (name_rank is None or rank < RARER * name_rank)


def is_everyday(word: str) -> bool:
    rank = _rank(word)
    return rank is not None and rank < EVERYDAY


@cache
def _tokenizer() -> Tokenizer:
    return Tokenizer.load()


def _rank(word: str) -> int | None:
    """A word's place in GPT-2's vocabulary; None where it is no single token."""
    ids = _tokenizer().encode(" " + word)
    return ids[0] if len(ids) == 1 else None
