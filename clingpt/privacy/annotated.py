"""Read notes whose identifiers are marked inline, and measure how many a detector finds.

    Seen by Dr. [[name|Amara Osei]] on [[date|6/23]], chart [[id|QT-310955]].

A mark counts as found if findings cover all its letters and digits, except titles, degrees,
weekdays and clock times, which identify nobody. A finding that touches no mark is a false alarm.
Organisations (`org`) are neutral, because HIPAA does not list them: one that is not found is not
missed, and one that is found is not a false alarm.

    python -m clingpt.privacy.annotated [--one_line] [--show] FILE…

prints a table for files of notes that are separated by lines of "=====". The first line of a note
may describe it ("# style: …") and is not part of it. --one_line replaces line breaks with spaces,
as in most fields of a record. --show also prints what was missed and what was a false alarm, so
use it only on invented notes.
"""

import argparse
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from clingpt.base import console
from clingpt.base.errors import DataError
from clingpt.base.files import read_text
from clingpt.privacy.identifiers import Detector, Found, find_identifiers
from clingpt.text.records import clean, clean_lines

# The kinds of the marks, each with the kinds of find_identifiers that it stands for. A mark counts
# as found whatever the kind of the finding; only the table needs these.
MARKS = {
    "name": ("name",),
    "date": ("date", "month_year"),
    "id": ("record_number", "ssn", "vehicle", "licence", "device"),
    "place": ("address",),
    "phone": ("phone",),
    "email": ("email",),
    "url": ("url", "ip"),
    "age": ("age",),
    "org": (),
}
NEUTRAL = "org"
CONTEXT = 30  # characters that --show prints on each side

_MARK = re.compile(r"\[\[(?P<kind>\w+)\|(?P<value>[^\[\]|\n]+)\]\]")
_SEPARATOR = re.compile(r"^=====\s*$", re.MULTILINE)
_WORD = re.compile(r"\w+")
# Parts of a mark that a detector may leave out.
_OPTIONAL = {
    "name": re.compile(
        r"\b(?:dr|drs|doctor|prof|professor|mr|mrs|ms|miss|mx|sir|nurse|sister|rev"
        r"|md|m\.d|do|d\.o|rn|r\.n|np|pa|pa-c|phd|lpn|mbbs)\b",
        re.IGNORECASE,
    ),
    "date": re.compile(
        r"\b(?:(?:mon|tues|wednes|thurs|fri|satur|sun)day|mon|tue|wed|thu|fri|sat|sun)\b"
        r"|\b\d{1,2}:\d\d(?::\d\d)?\s?(?:[ap]\.?m\b)?",
        re.IGNORECASE,
    ),
}


class Note(NamedTuple):
    """A note's text without the markup, and its marks; their kinds are those of MARKS."""

    text: str
    marks: tuple[Found, ...]

    def on_one_line(self) -> "Note":
        """Return the note as in most fields of a record: cleaned, with spaces for line breaks."""
        return read_marked(clean(self.marked()))

    def marked(self) -> str:
        """Return the text with its marks."""
        parts, end = [], 0
        for kind, start, stop in self.marks:
            parts += [self.text[end:start], f"[[{kind}|{self.text[start:stop]}]]"]
            end = stop
        return "".join([*parts, self.text[end:]])


@dataclass
class Score:
    """Counts by kind of mark; false alarms are counted by kind of finding."""

    marks: Counter[str] = field(default_factory=Counter)
    found: Counter[str] = field(default_factory=Counter)
    alarms: Counter[str] = field(default_factory=Counter)
    words: int = 0  # outside marks
    missed_at: list[tuple[Note, Found]] = field(default_factory=list)
    alarms_at: list[tuple[Note, Found]] = field(default_factory=list)

    def alarms_per_1000_words(self, kind: str | None = None) -> float:
        kinds = MARKS[kind] if kind else tuple(self.alarms)
        return 1000 * sum(self.alarms[each] for each in kinds) / max(1, self.words)


def read_marked(marked: str) -> Note:
    """Read one note with marks; raise DataError, without showing any text, if one is malformed."""
    text, end, marks = "", 0, []
    for match in _MARK.finditer(marked):
        kind, value = match["kind"], match["value"]
        if kind not in MARKS:
            # Not shown: it may be the identifier, if somebody wrote [[Ann|name]].
            line = 1 + marked.count("\n", 0, match.start())
            raise DataError(
                f"line {line} of a note has an unknown kind of mark; choose from {', '.join(MARKS)}"
            )
        text += marked[end : match.start()]
        marks.append(Found(kind, len(text), len(text) + len(value)))
        text, end = text + value, match.end()
    text += marked[end:]
    if "[[" in text or "]]" in text:
        line = 1 + text.count("\n", 0, max(text.find("[["), text.find("]]")))
        raise DataError(f"line {line} of a note has a malformed mark; write [[kind|text]]")
    return Note(text, tuple(marks))


def read_notes(path: Path) -> list[Note]:
    """Read a file of notes separated by lines of "=====".

    Raises DataError for a malformed mark or a file that is not UTF-8.
    """
    notes = []
    for number, part in enumerate(_SEPARATOR.split(read_text(path)), 1):
        first, _, rest = part.strip("\n").partition("\n")
        body = rest if first.startswith("# style:") else part
        try:
            if body.strip():
                notes.append(read_marked(clean_lines(body)))
        except DataError as error:
            raise DataError(f"{path}, note {number}: {error}") from None
    return notes


def score(notes: Iterable[Note], detect: Detector = find_identifiers) -> Score:
    """Compare a detector's findings with the marks of some notes."""
    counts = Score()
    for note in notes:
        everything = detect(note.text)
        covered = {place for one in everything for place in range(one.start, one.end)}
        marked = {place for mark in note.marks for place in range(mark.start, mark.end)}
        counts.words += sum(match.start() not in marked for match in _WORD.finditer(note.text))
        for mark in note.marks:
            if mark.kind == NEUTRAL:
                continue
            counts.marks[mark.kind] += 1
            if covered.issuperset(_needed(note.text, mark)):
                counts.found[mark.kind] += 1
            else:
                counts.missed_at.append((note, mark))
        for one in everything:
            if marked.isdisjoint(range(one.start, one.end)):
                counts.alarms[one.kind] += 1
                counts.alarms_at.append((note, one))
    return counts


def _needed(text: str, mark: Found) -> Iterator[int]:
    """Yield the positions of a mark's letters and digits that a detector must cover."""
    optional = _OPTIONAL.get(mark.kind)
    skipped = {
        place
        for match in (optional.finditer(text, mark.start, mark.end) if optional else ())
        for place in range(*match.span())
    }
    for place in range(mark.start, mark.end):
        if text[place].isalnum() and place not in skipped:
            yield place


def table(counts: Score, title: str = "") -> str:
    """Lay out recall with 95 % intervals (Wilson) and false alarms per 1,000 words, by kind."""
    from scipy.stats import binomtest  # 0.8 s to import

    rows: list[tuple[str | int | float, ...]] = []
    for kind in (*MARKS, None):
        if kind == NEUTRAL:
            continue
        n = counts.marks[kind] if kind else counts.marks.total()
        hits = counts.found[kind] if kind else counts.found.total()
        recall = "–"
        if n:
            low, high = binomtest(hits, n).proportion_ci(method="wilson")
            recall = f"{hits / n:.3f} ({low:.3f}–{high:.3f})"
        per_1000 = f"{counts.alarms_per_1000_words(kind):.2f}"
        rows.append((kind or "all", n, hits, recall, per_1000))
    columns = ("kind", "marks", "found", "recall (95 %)", "false alarms per 1,000 words")
    return console.table(
        title or f"{console.count(counts.words, 'word')} outside marks", columns, rows
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m clingpt.privacy.annotated",
        description="Measure how many marked identifiers the rules find, without the tagger.",
    )
    parser.add_argument("files", nargs="+", type=Path, help="notes separated by lines of =====")
    parser.add_argument(
        "--one_line",
        action="store_true",
        help="replace line breaks with spaces, as in most fields of a record",
    )
    parser.add_argument(
        "--show",
        action="store_true",
        help="print missed identifiers and false alarms unmasked; only for invented notes",
    )
    flags = parser.parse_args()
    notes = [note for path in flags.files for note in read_notes(path)]
    counts = score(note.on_one_line() if flags.one_line else note for note in notes)
    title = (
        f"{console.count(len(notes), 'note')}, {console.count(counts.words, 'word')} outside marks"
    )
    console.say(table(counts, title))
    for what, places in (("missed", counts.missed_at), ("alarm", counts.alarms_at)):
        for note, (kind, start, end) in places if flags.show else ():
            before, after = note.text[max(0, start - CONTEXT) : start], note.text[end:][:CONTEXT]
            line = f"{before}⟦{note.text[start:end]}⟧{after}".replace("\n", "⏎")
            console.say(f"{what} {kind:14} {line}")


if __name__ == "__main__":
    console.run(main)
