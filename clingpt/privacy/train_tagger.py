"""Train the tagger that ships with this project, or measure it on writers it was not trained on.

    python -m clingpt.privacy.train_tagger            # writes tagger.crfsuite, in about a minute
    python -m clingpt.privacy.train_tagger --measure  # leaves out one writer at a time

The notes are those of annotated_notes/. Each is seen as it was written and twice with other names
and numbers in its marks, once with line breaks and once without, as most fields of a record are
cleaned to one line. In these variants some of the rules' findings are left out: the rules were
written with some of these notes in view, and know them better than they will know a stranger's.
"""

import argparse
import random
import re
import string
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from clingpt.base import console
from clingpt.base.errors import DataError
from clingpt.privacy.annotated import NEUTRAL, Note, read_marked, read_notes, score
from clingpt.privacy.identifiers import Found, find_identifiers, search
from clingpt.privacy.names import census
from clingpt.privacy.tagger import MODEL, OUTSIDE, Span, Tagger, features, tokenize

FOLDER = Path(__file__).with_name("annotated_notes")
TEMPLATES = "templates"  # notes of the rules' own tests, whose forms the rules know
SEED = 1
VARIANTS = 2  # of each note, besides the note as it was written
REPLACED = 0.7  # share of the marks that a variant changes
UNSEEN_SURE, UNSEEN_LIKELY = 0.4, 0.2  # shares of the rules' findings that a variant leaves out
COMMON_LAST_NAMES = 20_000
THRESHOLDS = (0.9, 0.7, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05)
SETTINGS = {
    "c1": 0.7,  # L1: drives most weights to 0, which keeps the file below 1 MB
    "c2": 0.3,  # L2
    "max_iterations": 120,
    "feature.possible_transitions": True,
}

Rows = tuple[list[list[str]], list[str]]  # features and labels of a note's tokens


def read_writers(folder: Path = FOLDER) -> dict[str, list[Note]]:
    """Read the annotated notes, by writer."""
    return {path.stem: read_notes(path) for path in sorted(folder.glob("*.txt"))}


def train(notes: Iterable[Note], path: Path) -> None:
    """Train on notes and write the model; equal notes give an equal model."""
    import pycrfsuite

    trainer = pycrfsuite.Trainer(verbose=False)
    for rows, labels in training_rows(notes):
        trainer.append(rows, labels)
    trainer.set_params(SETTINGS)
    trainer.train(str(path))


def training_rows(notes: Iterable[Note]) -> Iterator[Rows]:
    """Yield the features and labels of each note and of its variants."""
    rng = random.Random(SEED)
    for note in notes:
        for number in range(VARIANTS + 1):
            shown = with_other_marks(note, rng) if number else note
            shown = shown.on_one_line() if number % 2 else shown
            spans, rules = tokenize(shown.text), search(shown.text)
            sure, likely = rules.sure, rules.likely
            if number:
                sure = [one for one in sure if rng.random() >= UNSEEN_SURE]
                likely = [one for one in likely if rng.random() >= UNSEEN_LIKELY]
            yield features(shown.text, spans, sure, likely), labels_of(shown, spans)


def labels_of(note: Note, spans: Sequence[Span]) -> list[str]:
    """Return the kind of mark around each token, or OUTSIDE."""
    labels = [OUTSIDE] * len(spans)
    for mark in note.marks:
        if mark.kind != NEUTRAL:
            for at, (start, end) in enumerate(spans):
                if start >= mark.start and end <= mark.end:
                    labels[at] = mark.kind
    return labels


def with_other_marks(note: Note, rng: random.Random) -> Note:
    """Return a note with other names and numbers of the same shapes in most of its marks."""
    parts, end = [], 0
    for kind, start, stop in note.marks:
        value = note.text[start:stop]
        if kind in _CHANGES and rng.random() < REPLACED:
            value = _CHANGES[kind](value, rng)
        parts += [note.text[end:start], f"[[{kind}|{value}]]"]
        end = stop
    return read_marked("".join([*parts, note.text[end:]]))


def _other_name(name: str, rng: random.Random) -> str:
    return re.sub(r"[^\W\d_]+", lambda match: _other_word(match[0], rng), name)


def _other_word(word: str, rng: random.Random) -> str:
    """Return another name in the same case: a common or a rare one, or one that is on no list."""
    if len(word) <= 2:
        return "".join(_like(rng.choice(string.ascii_lowercase), letter) for letter in word)
    last, draw = census("all.last"), rng.random()
    if draw < 0.35:
        return _like(rng.choice(last[:COMMON_LAST_NAMES]), word)
    if draw < 0.55:
        return _like(rng.choice(last), word)
    if draw < 0.75:
        return _like(rng.choice(census(rng.choice(("female.first", "male.first")))), word)
    one, other = rng.choice(last), rng.choice(last)
    return _like(one[: max(2, len(one) // 2)] + other[len(other) // 2 :], word)


def _like(name: str, word: str) -> str:
    if word.isupper() and len(word) > 1:
        return name.upper()
    return name.lower() if word.islower() else name.capitalize()


def _other_digits(value: str, rng: random.Random) -> str:
    return re.sub(r"\d", lambda _: rng.choice(string.digits), value)


def _other_code(value: str, rng: random.Random) -> str:
    if sum(map(str.isalpha, value)) <= 3:
        value = re.sub(r"[A-Z]", lambda _: rng.choice(string.ascii_uppercase), value)
    return _other_digits(value, rng)


def _other_date(value: str, rng: random.Random) -> str:
    def number(match: re.Match[str]) -> str:
        digits = match[0]
        if len(digits) > 2:
            return digits
        if len(digits) == 1 or int(digits) <= 12:
            low, high = 1, 12 if len(digits) == 2 else 9
        else:
            low, high = (13, 28) if int(digits) <= 31 else (50, 99)
        return str(rng.randint(low, high)).zfill(len(digits))

    return re.sub(r"\d+", number, value)


_CHANGES: dict[str, Callable[[str, random.Random], str]] = {
    "name": _other_name,
    "id": _other_code,
    "phone": _other_digits,
    "date": _other_date,
}


# Measuring


def measure(writers: dict[str, list[Note]], *, one_line: bool) -> str:
    """Train without one writer at a time, and lay out what is found in that writer's notes."""
    from clingpt.privacy.detectors import with_tagged

    rows: list[tuple[str | float | None, ...]] = []
    for writer in writers:
        if writer == TEMPLATES:
            continue
        others = [note for name, notes in writers.items() if name != writer for note in notes]
        unseen = [note.on_one_line() if one_line else note for note in writers[writer]]
        with TemporaryDirectory() as folder:
            train(others, Path(folder) / "model")
            tagger = Tagger(Path(folder) / "model")

        def alone(text: str, threshold: float, tagger: Tagger = tagger) -> list[Found]:
            rules = search(text)
            return tagger.read(rules.text, rules.sure, rules.likely).find(threshold)

        def union(text: str, threshold: float, tagger: Tagger = tagger) -> list[Found]:
            return with_tagged(search(text), tagger, threshold=threshold)

        counts = score(unseen, find_identifiers)
        recall, alarms = counts.found.total() / counts.marks.total(), counts.alarms_per_1000_words()
        rows.append((writer, "rules", None, recall, alarms))
        for name, detect in (("tagger", alone), ("both", union)):
            for threshold in THRESHOLDS:
                counts = score(unseen, lambda text, d=detect, t=threshold: d(text, t))
                recall = counts.found.total() / counts.marks.total()
                rows.append((writer, name, threshold, recall, counts.alarms_per_1000_words()))
    columns = ("left out", "detector", "threshold", "recall", "false alarms per 1,000 words")
    return console.table("Each writer's notes, by a tagger trained on the others", columns, rows)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m clingpt.privacy.train_tagger")
    parser.add_argument("--out", type=Path, default=MODEL, help="where to write the model")
    parser.add_argument("--measure", action="store_true", help="leave out one writer at a time")
    parser.add_argument("--one_line", action="store_true", help="measure without line breaks")
    flags = parser.parse_args()
    writers = read_writers()
    if not writers:
        raise DataError(f"{FOLDER} has no annotated notes")
    if flags.measure:
        console.say(measure(writers, one_line=flags.one_line))
        return
    train((note for notes in writers.values() for note in notes), flags.out)
    console.say(f"wrote {flags.out} ({flags.out.stat().st_size / 1e6:.2f} MB)")


if __name__ == "__main__":
    console.run(main)
