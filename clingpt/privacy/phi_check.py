"""Measure the detectors of identifiers on a user's own annotated notes (prepare.py --phi_check).

The notes are a .txt in the form of annotated.py, or JSON lines whose `text` has marks inline. The
report shows recall by kind, false alarms, what each detector adds, and what was missed. Because
the notes may be real, text is masked unless --phi_show is given.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from clingpt.base import console
from clingpt.base.errors import DataError
from clingpt.base.files import read_text
from clingpt.privacy.annotated import CONTEXT, Note, Score, read_marked, read_notes, score, table
from clingpt.privacy.identifiers import Detector, Found, masked
from clingpt.text.records import clean

ENOUGH = 200  # marks; with fewer, the interval of the recall is wide
GOAL = 0.9  # recall below which the report warns and suggests what to add
MOST_SHOWN = 100  # missed identifiers and false alarms


def read_annotated(path: Path) -> list[Note]:
    """Read annotated notes; raise DataError, naming the note, if a mark is malformed."""
    try:
        if path.suffix == ".txt":
            notes = read_notes(path)
        else:
            notes = _read_lines(path)
    except OSError as error:
        raise DataError(f"cannot read --phi_check={path}: {error.strerror}") from None
    if not any(note.marks for note in notes):
        raise DataError(
            f"--phi_check={path} has no marks; mark every identifier as [[kind|text]], for example "
            "Dr. [[name|Amara Osei]] on [[date|6/23]]"
        )
    return notes


def _read_lines(path: Path) -> list[Note]:
    notes = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            raise DataError(
                f'{path}:{number}: not JSON; write one {{"text": …}} a line, or a .txt with '
                "lines of ===== between the notes"
            ) from None
        text = row.get("text") if isinstance(row, dict) else None
        if not isinstance(text, str):
            raise DataError(f'{path}:{number}: the line has no "text" with the marked note')
        try:
            notes.append(read_marked(text))
        except DataError as error:
            raise DataError(f"{path}:{number}: {error}") from None
    return notes


def report(notes: Sequence[Note], steps: Sequence[tuple[str, Detector]], *, show: bool) -> str:
    """Describe how well detectors do; each step includes the detectors of the steps before it.

    The tables of kinds and places are those of the last step. `show` leaves their text unmasked.
    """
    # Most fields of a record are on one line too.
    notes = [note.on_one_line() for note in notes]
    scores = [(name, score(notes, detect)) for name, detect in steps]
    counts = scores[-1][1]
    rows = [
        (name, one.found.total() / max(1, one.marks.total()), one.alarms_per_1000_words())
        for name, one in scores
    ]
    title = (
        f"Identifiers in {console.count(len(notes), 'annotated note')}, "
        f"{console.count(counts.words, 'word')} outside marks"
    )
    parts = [
        table(counts, title),
        console.table("By detector", ("detectors", "recall", "false alarms per 1,000 words"), rows),
        *_places("Missed", notes, counts.missed_at, show=show),
        *_places("False alarms", notes, counts.alarms_at, show=show),
        advice(counts, [name for name, _ in steps]),
    ]
    return "\n\n".join(parts)


def _places(
    title: str, notes: Sequence[Note], places: Sequence[tuple[Note, Found]], *, show: bool
) -> list[str]:
    if not places:
        return []
    numbers = {id(note): number for number, note in enumerate(notes, 1)}
    rows = []
    for note, one in places[:MOST_SHOWN]:
        text = masked(note.text, one)
        if show:
            before, after = note.text[max(0, one.start - CONTEXT) : one.start], note.text[one.end :]
            text = clean(f"{before}⟦{note.text[one.start : one.end]}⟧{after[:CONTEXT]}")
        rows.append((numbers[id(note)], one.kind.replace("_", " "), text))
    if len(places) > MOST_SHOWN:
        title += f", the first {MOST_SHOWN} of {console.count(len(places))}"
    return [console.table(title, ("note", "kind", "text" if show else "masked"), rows)]


def advice(counts: Score, detectors: Sequence[str]) -> str:
    """Say what to do next."""
    lines = []
    if (n := counts.marks.total()) < ENOUGH:
        lines.append(
            f"With {console.count(n, 'mark')}, the intervals are wide: annotate notes until there "
            f"are {ENOUGH}."
        )
    missed = counts.marks - counts.found
    if missed["name"] + missed["id"] and not any("roster" in name for name in detectors):
        lines.append(
            "Names or numbers were missed: list the known ones in a file for --phi_known=FILE, and "
            "keep columns such as patient_name and mrn in the table, which are then searched for."
        )
    if counts.found.total() < GOAL * n:
        lines.append(
            "More than one in ten was missed: do not share models trained on such notes. You can "
            "add your own detector with --phi_engine=rules+tagger+MODULE:function."
        )
    lines.append(
        "A missed identifier stands out next to tags, but can hardly be told from surrogates: "
        "redact notes with --redact=surrogates."
    )
    return "\n".join(lines)
