"""CSV and TSV: rows of cells separated by commas, semicolons or tabs, under a header."""

import csv
from collections.abc import Iterable, Iterator
from itertools import chain

from clingpt.base.errors import DataError
from clingpt.data.readers.text_file import (
    UNDECODED,
    OnBad,
    Placed,
    TextFile,
    check_unique,
)
from clingpt.text.records import clean

LONGEST_CELL_CHARS = 16 << 20  # of a CSV; reading ends there if a quote is never closed
DELIMITERS = ",;\t"
SNIFFED_LINES, SNIFFED_CHARS = 20, 1 << 20  # of a CSV, to find its delimiter


def iter_delimited(file: TextFile, delimiters: str, on_bad: OnBad) -> Iterator[Placed]:
    header: list[str] = []
    for line, cells in _iter_cells(file, delimiters):
        place = f"{file.path}:{line}"
        if not header:
            header = _header(cells, place)
        elif len(cells) != len(header):
            on_bad(
                DataError(
                    f"{place}: {len(cells)} cells under a header of {len(header)}; quote cells "
                    "that contain the separator"
                )
            )
        else:
            yield place, dict(zip(header, (cell or None for cell in cells), strict=True))
    if not header:
        raise DataError(f"{file.path} is empty; the first line of a table names its columns")


def _iter_cells(file: TextFile, delimiters: str) -> Iterator[tuple[int, list[str]]]:
    """Yield each record's first line and its cells; blank lines are not records."""
    pending: list[str] = []  # the lines of the record being read
    ended = False

    def feed(lines: Iterator[tuple[int, str]]) -> Iterator[str]:
        nonlocal ended
        for line, text in lines:
            if not text.isascii() and UNDECODED in text:
                raise file.undecoded(line)
            pending.append(text)
            yield text
        ended = True

    csv.field_size_limit(LONGEST_CELL_CHARS)
    lines = file.lines()
    head = _head(lines)
    delimiter = _find_delimiter([text for _, text in head], delimiters)
    reader = _reader(feed(chain(head, lines)), delimiter, strict=True)
    n_lines = 0
    while True:
        n_lines += len(pending)
        pending.clear()
        start = n_lines + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error:
            # Nobody can tell where the next record starts, so --skip_bad cannot help.
            opened = start + _lines_before_cell(pending if ended else pending[:-1], delimiter)
            seen = n_lines + len(pending)
            raise DataError(
                f"{file.path}:{opened}: the quoted cell that opens here is not closed properly "
                f"(noticed in line {seen}), or has more than {LONGEST_CELL_CHARS:,} characters; "
                "close it, and double the quotes within it"
            ) from None
        if cells:
            yield start, cells


def _head(lines: Iterator[tuple[int, str]]) -> list[tuple[int, str]]:
    """Take the first few lines, bounded in number and in characters."""
    head: list[tuple[int, str]] = []
    for numbered in lines:
        head.append(numbered)
        if len(head) == SNIFFED_LINES or sum(len(text) for _, text in head) > SNIFFED_CHARS:
            break
    return head


def _find_delimiter(lines: list[str], delimiters: str) -> str:
    """Choose the delimiter that splits most of the first records like the header."""

    def fit(delimiter: str) -> tuple[bool, int, int]:
        try:
            counts = [len(row) for row in _reader(lines, delimiter) if row]
        except csv.Error:  # a cell too long; reading will report it
            return False, 0, 0
        wanted = counts[0] if counts else 0
        return wanted > 1, counts.count(wanted), wanted

    return max(delimiters, key=fit)


def _reader(lines: Iterable[str], delimiter: str, *, strict: bool = False) -> Iterator[list[str]]:
    """Create a csv.reader that skips spaces before a cell, so that a quote after one opens it."""
    return csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=strict)


def _header(cells: list[str], place: str) -> list[str]:
    """Return the names of the columns; an unnamed one, like pandas' index, gets a number."""
    names = [clean(cell) for cell in cells]
    if not any(names):
        raise DataError(f"{place}: the header is empty; the first line names the columns")
    names = [name or f"column {number}" for number, name in enumerate(names, start=1)]
    check_unique(names, place)
    return names


def _lines_before_cell(lines: list[str], delimiter: str) -> int:
    """Count the lines of a record before the one where its last cell, still open, begins."""
    cells = next(_reader(lines, delimiter), [""])
    return "".join(lines).count("\n") - cells[-1].count("\n")
