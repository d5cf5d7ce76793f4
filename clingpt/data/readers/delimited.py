"""CSV and TSV: rows of cells separated by commas, semicolons, tabs or bars, under a header."""

import csv
import re
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from clingpt.base import console
from clingpt.base.errors import DataError
from clingpt.data.readers.reading import Quoting, Reading
from clingpt.data.readers.text_file import (
    UNDECODED,
    LeftOut,
    Placed,
    Row,
    TextFile,
    check_unique,
    open_text,
)
from clingpt.text.records import clean

LONGEST_CELL_CHARS = 16 << 20  # of a CSV; reading ends there if a quote is never closed
DELIMITERS = ",;\t|"
NAMES = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars (|)"}
SNIFFED_LINES, SNIFFED_CHARS = 20, 1 << 20  # of a CSV, to find its delimiter
EMPTY_ROW = "a row of empty cells"

_SEP_LINE = re.compile(r'"?sep=(.)"?\s*$', re.IGNORECASE)  # Excel's first line
_NULL = r"\N"  # a missing value in exports of MySQL and PostgreSQL


def read_delimited(path: Path, reading: Reading) -> Iterator[Placed]:
    """Read a CSV whose delimiter is the one that fits its first lines best."""
    return _read(path, reading, DELIMITERS)


def read_tabbed(path: Path, reading: Reading) -> Iterator[Placed]:
    """Read a TSV: separated by tabs, unless its first lines have none."""
    return _read(path, reading, "\t,;|")


def _read(path: Path, reading: Reading, delimiters: str) -> Iterator[Placed]:
    header: Header | None = None
    with open_text(path, reading.options.encoding) as file:
        for line, cells in _iter_cells(file, reading, delimiters):
            place = f"{path}:{line}"
            if not any(cells):
                reading.on_bad(LeftOut(f"{place}: {EMPTY_ROW}"))
            elif header is None:
                header = Header(cells, place)
            else:
                try:
                    row = header.row([None if cell in ("", _NULL) else cell for cell in cells])
                except DataError as error:
                    reading.on_bad(DataError(f"{place}: {error}"))
                else:
                    yield place, row
    if header is None:
        raise DataError(f"{path} is empty; the first line of a table names its columns")


class Header:
    """The names of a table's columns.

    A column without a name, like pandas' index, gets a number as its name. Unnamed columns at the
    end of the rows are usually empty leftovers of a spreadsheet; their empty cells are left out.
    """

    def __init__(self, cells: list[str], place: str) -> None:
        names = [clean(cell) for cell in cells]
        if not any(names):
            raise DataError(f"{place}: the header is empty; the first line names the columns")
        self.n_named = max(n for n, name in enumerate(names, start=1) if name)
        self.names = [name or f"column {number}" for number, name in enumerate(names, start=1)]
        check_unique(self.names, place)

    def row(self, cells: list[Any]) -> Row:
        """Return cells by name; empty ones beyond the named columns are left out."""
        n_cells = len(cells)
        while len(cells) > self.n_named and cells[-1] is None:
            cells.pop()
        if len(cells) > len(self.names) or n_cells < self.n_named:
            raise DataError(
                f"{console.count(n_cells, 'cell')} under a header of {len(self.names)}; quote "
                "cells that contain the separator"
            )
        return dict(zip(self.names, cells, strict=False))


def _iter_cells(
    file: TextFile, reading: Reading, delimiters: str
) -> Iterator[tuple[int, list[str]]]:
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
    n_lines = 0
    if head and (said := _SEP_LINE.match(head[0][1])):
        delimiters, n_lines = said[1], 1
        del head[0]
    delimiter, quoting = _dialect([text for _, text in head], delimiters, reading)
    reader = _reader(feed(chain(head, lines)), delimiter, quoting, strict=True)
    while True:
        n_lines += len(pending)
        pending.clear()
        start = n_lines + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error:
            # Where the next record starts is unknown, so --skip_bad cannot help.
            before = pending if ended else pending[:-1]
            opened = start + _lines_before_cell(before, delimiter, quoting)
            raise _open_quote(f"{file.path}:{opened}", n_lines + len(pending), pending) from None
        if cells:
            yield start, cells


def _open_quote(place: str, noticed: int, lines: list[str]) -> DataError:
    """Build the error for a quote that is not closed properly, or not meant as one."""
    escaped = ', or --quoting=backslash if they are written as \\"' * _escapes_quotes(lines)
    return DataError(
        f"{place}: the quoted cell that opens here is not closed properly (noticed in line "
        f"{noticed}), or has more than {LONGEST_CELL_CHARS:,} characters; close it and double the "
        f"quotes within it, or pass --quoting=none if quotes are ordinary characters here{escaped}"
    )


def _head(lines: Iterator[tuple[int, str]]) -> list[tuple[int, str]]:
    """Take the first few lines, bounded in number and in characters."""
    head: list[tuple[int, str]] = []
    for numbered in lines:
        head.append(numbered)
        if len(head) == SNIFFED_LINES or sum(len(text) for _, text in head) > SNIFFED_CHARS:
            break
    return head


def _dialect(lines: list[str], delimiters: str, reading: Reading) -> tuple[str, Quoting]:
    """Choose the delimiter and the quoting by the first lines, and note what was chosen."""
    quoting = reading.options.quoting
    delimiter = _find_delimiter(lines, delimiters, quoting)
    if any(delimiter in line for line in lines[:1]):
        reading.shape.facts.append(f"separated by {NAMES.get(delimiter, repr(delimiter))}")
    else:
        reading.shape.facts.append("one column")
    if quoting == "auto" and _needs_backslashes(lines, delimiter):
        quoting = "backslash"
    if quoting == "backslash":
        reading.shape.facts.append('quotes in cells written as \\"')
    if quoting == "none":
        reading.shape.facts.append("quotes are ordinary characters")
    return delimiter, quoting


def _find_delimiter(lines: list[str], delimiters: str, quoting: Quoting) -> str:
    """Choose the delimiter that splits most of the first records like the header."""

    def fit(delimiter: str) -> tuple[bool, int, int]:
        try:
            counts = [len(row) for row in _reader(lines, delimiter, quoting) if row]
        except csv.Error:  # a cell too long; reading will report it
            return False, 0, 0
        wanted = counts[0] if counts else 0
        return wanted > 1, counts.count(wanted), wanted

    return max(delimiters, key=fit)


def _escapes_quotes(lines: list[str]) -> bool:
    return any(r"\"" in line for line in lines)


def _needs_backslashes(lines: list[str], delimiter: str) -> bool:
    r"""Return whether the first records make sense only if quotes are written as \" (MySQL)."""
    return (
        _escapes_quotes(lines)
        and not _is_well_quoted(lines, delimiter, "auto")
        and _is_well_quoted(lines, delimiter, "backslash")
    )


def _is_well_quoted(lines: list[str], delimiter: str, quoting: Quoting) -> bool:
    """Return whether every quote that closes a cell is followed by a delimiter or a line end."""
    try:
        for _ in _reader(lines, delimiter, quoting, strict=True):
            pass
    except csv.Error as error:
        return "expected after" not in str(error)  # other errors: the sample ends within a cell
    return True


def _reader(
    lines: Iterable[str], delimiter: str, quoting: Quoting, *, strict: bool = False
) -> Iterator[list[str]]:
    """Create a csv.reader that skips spaces before a cell, so that a quote after them opens it."""
    if quoting == "backslash":  # csv would read \\N, MySQL's null, as an N
        edge = re.escape(delimiter)
        null = re.compile(rf"(?<![^{edge}])\\N(?=[{edge}\r\n]|$)")
        lines = (null.sub("", text) for text in lines)
    return csv.reader(
        lines,
        delimiter=delimiter,
        quoting=csv.QUOTE_NONE if quoting == "none" else csv.QUOTE_MINIMAL,
        escapechar="\\" if quoting == "backslash" else None,
        skipinitialspace=quoting != "none",
        strict=strict,
    )


def _lines_before_cell(lines: list[str], delimiter: str, quoting: Quoting) -> int:
    """Count the lines of a record before the one where its last cell, still open, begins."""
    cells = next(_reader(lines, delimiter, quoting), [""])
    return "".join(lines).count("\n") - cells[-1].count("\n")
