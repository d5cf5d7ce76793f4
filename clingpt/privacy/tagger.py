"""Find identifiers in notes that no rule knows, with a small statistical tagger.

A linear-chain CRF (Lafferty et al. 2001, by python-crfsuite) reads a note token by token. It sees
each token's shape and neighbours, lists of names, and what the rules found, and returns how likely
the token is to be part of an identifier. So it finds what no title or label introduces ("report
from keisha"), in a note of any layout.

    Tagger.load().read(text, sure, likely).find()  →  [Found("name", 12, 18), …]

The shipped model, tagger.crfsuite, was trained by `python -m clingpt.privacy.train_tagger` on the
project's own invented notes (annotated_notes/), never on anybody's data: weights that belong to
words could reveal them. It is shipped rather than trained on first use, because training takes a
minute, which every process of an air-gapped cluster would spend again, and because two users then
surely have the same detector.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from clingpt.base.errors import ConfigError
from clingpt.privacy.dates import MONTH_WORDS
from clingpt.privacy.identifiers import Found
from clingpt.privacy.names import MEDICAL_ENDINGS, census, cues
from clingpt.text.tokenizer import Tokenizer

MODEL = Path(__file__).with_name("tagger.crfsuite")
WORDS = Path(__file__).with_name("tagger_words.txt")
OUTSIDE = "O"
# Chosen on tests/privacy/unseen_notes.txt: 87 % of its identifiers instead of 83 % by rules alone,
# at 4.3 false alarms in 1,000 words instead of 3.1 (docs/results.md).
THRESHOLD = 0.7
LEAST = 0.02  # likelihood below which a token's kind is not looked up

# What a token's label means among the kinds of identifiers.KINDS. The labels are the kinds of
# annotated.MARKS without org.
KIND_OF = {
    "name": "name",
    "date": "date",
    "id": "record_number",
    "place": "address",
    "phone": "phone",
    "email": "email",
    "url": "url",
    "age": "age",
}

FAR = 6  # tokens after a label's sign that still see the label
REACH = 4  # neighbours seen on each side
CUES = (
    *("titles", "labels", "relations", "degrees", "never", "eponyms", "places", "called", "saying"),
    *("clients", "fields", "met", "paged", "roles", "specialties", "particles", "not_persons"),
    "verbs",
)

_TOKEN = re.compile(r"[^\W\d_]+|\d+|[^\w\s\0]|_")
_REPEATED = re.compile(r"(.)\1+")
_LABEL_SIGNS = frozenset(":#=|^")

Span = tuple[int, int]


class Word(NamedTuple):
    """The features of a token that do not depend on its neighbours."""

    features: tuple[str, ...]
    small: str  # the token as its neighbours see it: a word in lower case, a number as its length
    shape: str  # its case and the lists of names that contain it


def tokenize(text: str) -> list[Span]:
    """Split a text into runs of letters, runs of digits and single signs."""
    return [match.span() for match in _TOKEN.finditer(text)]


@cache
def _known_words() -> dict[str, frozenset[str]]:
    sections: dict[str, set[str]] = {}
    for line in WORDS.read_text("utf-8").splitlines():
        if line.startswith("["):
            words = sections[line.strip("[]")] = set()
        elif line and not line.startswith("#"):
            words.update(line.split())
    return {name: frozenset(words) for name, words in sections.items()}


@cache
def _name_ranks(kind: str) -> dict[str, int]:
    return {name: rank for rank, name in enumerate(census(kind))}


@cache
def _tokenizer() -> Tokenizer:
    return Tokenizer.load()


def _frequency(word: str) -> str:
    """Rate how common a word is by GPT-2's vocabulary, whose ids are ordered by frequency."""
    ids = _tokenizer().encode(" " + word)
    return f"rank{(ids[0] >> 6).bit_length()}" if len(ids) == 1 else f"pieces{min(len(ids), 4)}"


def _shape(text: str) -> str:
    """Return "Xx-99" for "Mary-12": the same for all words and numbers of two or more signs."""
    shape = re.sub(r"\d", "9", re.sub(r"[^\W\d_]", lambda m: "Xx"[m[0].islower()], text))
    return _REPEATED.sub(r"\1\1", shape)


@lru_cache(maxsize=1 << 16)
def read_word(token: str) -> Word:
    """Return the features that depend only on a token."""
    if token.isdecimal():  # isdigit() also takes "³", which int() refuses
        return _read_number(token)
    if not token.isalpha():
        return Word(("w=" + token,), token, token)
    small = token.lower()
    case = _case(token)
    usual, as_name = _frequency(small), "t" + _frequency(small.capitalize())
    listed, lists = _lists(small)
    features = [*lists, *(name + case for name in lists)]
    features += ["w=" + small, case, f"n{min(len(token), 12)}", usual, as_name]
    features += [usual + as_name, case + usual, f"in{listed}", f"in{listed}{case}"]
    features.append(f"in{listed}{case}{usual}")
    if len(small) > 2:
        features += ["p2" + small[:2], "p3" + small[:3], "s2" + small[-2:], "s3" + small[-3:]]
    if small in MONTH_WORDS:
        features.append("month")
    if small.endswith(MEDICAL_ENDINGS):
        features.append("medical")
    features += ["cue " + section for section in CUES if small in cues(section)]
    return Word(tuple(features), small, case + listed)


def _read_number(token: str) -> Word:
    size = f"d{min(len(token), 12)}"
    features = [size]
    if len(token) <= 2:
        value = int(token)
        features += ["w=" + token, "month" if 1 <= value <= 12 else "day" if value <= 31 else "no"]
    elif len(token) == 4 and token[:2] in ("19", "20"):
        features.append("year")
    if token[0] == "0":
        features.append("zero")
    return Word(tuple(features), size, size)


def _case(word: str) -> str:
    if word.islower():
        return "small"
    if word.isupper():
        return "capitals" if len(word) > 1 else "initial"
    return "title" if word[1:].islower() else "mixed"


def _lists(small: str) -> tuple[str, list[str]]:
    """Return which lists contain a word, as a short code and as features."""
    known, features = _known_words(), list[str]()
    first, last = small in known["first_names"], small in known["last_names"]
    for kind in ("female.first", "male.first", "all.last"):
        if (rank := _name_ranks(kind).get(small)) is not None:
            features.append(f"{kind}{min((rank >> 5).bit_length(), 9)}")
            first, last = first or kind != "all.last", last or kind == "all.last"
    features += [f"list {name}" for name, words in known.items() if small in words]
    code = ("F" if first else "") + ("L" if last else "") or "U"
    code += ("E" if small in known["eponyms"] else "") + ("P" if small in known["products"] else "")
    return code, features


class _Chunks:
    """The runs of a text without white space, by token."""

    def __init__(self, words: Sequence[str], gaps: Sequence[str]) -> None:
        self.texts: list[str] = []
        self.of: list[int] = []  # token -> chunk
        self.place: list[int] = []  # token -> its place in the chunk
        for word, gap in zip(words, gaps, strict=True):
            if gap or not self.texts:
                self.texts.append(word)
                self.place.append(0)
            else:
                self.texts[-1] += word
                self.place.append(self.place[-1] + 1)
            self.of.append(len(self.texts) - 1)
        self.small = ["<", *(text[:40].lower() for text in self.texts), ">"]
        self.shapes = ["<", *(_shape(text[:40]) for text in self.texts), ">"]

    def features(self, at: int) -> Iterator[str]:
        """Yield the shape of a token's chunk ("99/99"), beside the chunks around it."""
        chunk = self.of[at] + 1
        shape = self.shapes[chunk]
        yield f"c{shape}"
        yield f"c{shape}@{min(self.place[at], 6)}"
        yield f"c-{self.shapes[chunk - 1]}"
        yield f"c+{self.shapes[chunk + 1]}"
        yield f"c-{self.small[chunk - 1]}|{shape}"
        yield f"c+{shape}|{self.small[chunk + 1]}"


def features(
    text: str, spans: Sequence[Span], sure: Iterable[Found], likely: Iterable[Found]
) -> list[list[str]]:
    """Return the features of each token of a text.

    `sure` and `likely` are findings of the rules: those of any text, and those that only a note's
    rules took, which overlap each other.
    """
    words = [read_word(text[start:end]) for start, end in spans]
    gaps = list(_gaps(text, spans))
    chunks = _Chunks([text[start:end] for start, end in spans], gaps[:-1])
    pad = ["<"] * REACH
    small = [*pad, *(word.small for word in words), *pad]
    shapes = [*pad, *(word.shape for word in words), *pad]
    kinds, hints = _kinds_at(spans, sure), _kinds_at(spans, likely)
    capitals = sum(map(str.isupper, text)) / max(1, sum(map(str.isalpha, text)))
    whole = f"up{int(capitals * 10)}"
    rows: list[list[str]] = []
    label, since, in_line = "", FAR, 0
    for at, word in enumerate(words):
        if gaps[at] == "\n":
            since, in_line = FAR, 0
        shape = word.shape
        gap = f"{gaps[at] or '_'}{gaps[at + 1] or '_'}"
        row = [*word.features, "g" + gap, f"g{gap}{shape}", f"l{min(in_line, 3)}", whole]
        row.append(whole + shape)
        row += _around(small, shapes, at + REACH)
        row += chunks.features(at)
        row += _found_around("k", kinds, at, shape)
        row += _found_around("q", hints, at, shape)
        if since < FAR:
            row += [f"L{label}", f"L{label}|{shape}", f"L{since}"]
        rows.append(row)
        since, in_line = since + 1, in_line + 1
        if word.small in _LABEL_SIGNS and at:
            label, since = words[at - 1].small, 0
    return rows


def _gaps(text: str, spans: Sequence[Span]) -> Iterator[str]:
    """Yield what precedes each token, and what follows the last: nothing, a blank or a line end."""
    end = 0
    for start, stop in (*spans, (len(text), len(text))):
        gap = text[end:start]
        # NUL characters stand between the fields of a record and in place of placeholders.
        yield "\n" if "\n" in gap or "\0" in gap or not end else " " if gap else ""
        end = stop


def _around(small: Sequence[str], shapes: Sequence[str], at: int) -> list[str]:
    """Return the features of the tokens around one, alone and joined to its own shape."""
    before, after, shape = small[at - 1], small[at + 1], shapes[at]
    return [
        *(f"{step}{small[at + step]}" for step in (-4, -3, -2, -1, 1, 2, 3, 4)),
        *(f"{step}s{shapes[at + step]}" for step in (-2, -1, 1, 2)),
        f"b-{before}|{shape}",
        f"b+{shape}|{after}",
        f"B-{small[at - 2]}|{before}|{shape}",
        f"B+{shape}|{after}|{small[at + 2]}",
        f"t{shapes[at - 1]}|{shape}|{shapes[at + 1]}",
        f"t-{shapes[at - 2]}|{shapes[at - 1]}|{shape}",
        f"t+{shape}|{shapes[at + 1]}|{shapes[at + 2]}",
    ]


def _kinds_at(spans: Sequence[Span], found: Iterable[Found]) -> list[str]:
    """Return the kinds of the findings that cover each token, with a pad at both ends."""
    kinds: list[set[str]] = [set() for _ in spans]
    first = 0
    for one in sorted(found, key=lambda each: each.start):
        while first < len(spans) and spans[first][1] <= one.start:
            first += 1
        at = first
        while at < len(spans) and spans[at][0] < one.end:
            kinds[at].add(one.kind)
            at += 1
    return ["", *("+".join(sorted(each)) for each in kinds), ""]


def _found_around(name: str, kinds: Sequence[str], at: int, shape: str) -> tuple[str, ...]:
    before, here, after = kinds[at : at + 3]
    return (
        f"{name}{here}",
        f"{name}-{before}",
        f"{name}+{after}",
        f"{name}{before}|{here}|{after}",
        f"{name}{here}|{shape}",
    )


class Tagger:
    """A trained model."""

    def __init__(self, path: Path) -> None:
        try:
            import pycrfsuite
        except ImportError as error:
            raise ConfigError(
                "the tagger needs the package python-crfsuite; run: pip install -r requirements.txt"
            ) from error
        self._model: Any = pycrfsuite.Tagger()
        self._model.open(str(path))
        self._labels = [label for label in self._model.labels() if label != OUTSIDE]

    @staticmethod
    @cache
    def load() -> "Tagger":
        """Return the shipped model, read once in each process."""
        return Tagger(MODEL)

    def read(self, text: str, sure: Iterable[Found], likely: Iterable[Found]) -> "Reading":
        """Rate each token of a text. `sure` and `likely`: see `features`."""
        # The model takes UTF-8, which has no lone surrogates; each is replaced by one "?".
        text = text.encode("utf-8", "replace").decode()
        spans = tokenize(text)
        reading = Reading(text, spans, [], [])
        if not spans:
            return reading
        model = self._model
        model.set(features(text, spans, sure, likely))
        for at in range(len(spans)):
            likelihood = 1 - model.marginal(OUTSIDE, at)
            label = ""
            if likelihood >= LEAST:
                label = max(self._labels, key=lambda each: model.marginal(each, at))
            reading.likelihoods.append(likelihood)
            reading.kinds.append(KIND_OF.get(label, ""))
        return reading


class Reading(NamedTuple):
    """What a tagger predicts for each token of a text."""

    text: str
    spans: list[Span]
    likelihoods: list[float]  # to be part of an identifier
    kinds: list[str]  # the likeliest; empty if the likelihood is below LEAST

    def find(self, threshold: float = THRESHOLD) -> list[Found]:
        """Return runs of tokens of one kind that are likelier than a threshold."""
        found: list[Found] = []
        for at, (start, end) in enumerate(self.spans):
            if self.likelihoods[at] < max(threshold, LEAST):
                continue
            last = found[-1] if found else None
            # Only blanks may stand between two tokens of one identifier.
            near = last and at and last.end == self.spans[at - 1][1]
            near = near and not self.text[found[-1].end : start].strip(" ")
            if last and near and last.kind == self.kinds[at]:
                found[-1] = last._replace(end=end)
            else:
                found.append(Found(self.kinds[at], start, end))
        return [cut for one in found if (cut := trimmed(self.text, one))]


def trimmed(text: str, one: Found) -> Found | None:
    """Cut signs off the ends of a finding; None if it has no letter and no digit."""
    start, end = one.start, one.end
    while start < end and not text[start].isalnum() and text[start] not in "(+@#":
        start += 1
    while start < end and not text[end - 1].isalnum() and text[end - 1] not in ".)":
        end -= 1
    return Found(one.kind, start, end) if any(map(str.isalnum, text[start:end])) else None
