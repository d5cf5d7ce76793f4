"""Rows of a file, one by one: CSV, TSV, JSON lines, JSON, Parquet, or a folder of .txt.

A row is a mapping of names to values; what the names mean is clingpt/data/columns.py's to know.
Memory does not grow with the file. What is wrong with one row goes to `on_bad`, naming file and
line (the line where the row starts; in Parquet the row's number); what leaves open where the next
row starts ends the reading. An empty cell of a CSV is None, and so is a null."""

import csv
import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from clingpt.base.errors import DataError
from clingpt.data.json_stream import LONGEST_RECORD_CHARS, iter_json_items
from clingpt.data.text_files import AUTO, UNDECODED, TextFile, open_bytes, open_text
from clingpt.text.records import clean

OnBad = Callable[[DataError], None]  # raises, or counts and returns
Row = Mapping[str, object]
Placed = tuple[str, Row]  # file:line, row

LONGEST_CELL_CHARS = 16 << 20  # of a CSV; an unclosed quote is given up there
DELIMITERS = ",;\t"
SNIFFED_LINES, SNIFFED_CHARS = 20, 1 << 20
PARQUET_ROWS = 64  # held at a time: a cell may have 10 MB


def format_of(path: Path) -> str | None:
    """csv, tsv, jsonl, json, parquet or txt (a folder); None for anything else."""
    if path.is_dir():
        return "txt" if _is_text_folder(path) else None
    ending = Path(path.name.lower().removesuffix(".gz")).suffix
    return ending[1:] if ending in (".csv", ".tsv", ".jsonl", ".json", ".parquet") else None


def iter_rows(path: Path, on_bad: OnBad, *, encoding: str = AUTO) -> Iterator[Placed]:
    """The rows of a file or folder that `format_of` knows, each with its place for errors."""
    kind = format_of(path)
    if kind == "txt":
        yield from _iter_text_folder(path, on_bad, encoding)
        return
    if kind == "parquet":
        yield from _iter_parquet(path)
        return
    with open_text(path, encoding) as file:
        if kind == "jsonl":
            yield from _iter_json_lines(file, on_bad)
        elif kind == "json":
            yield from _iter_json(file, on_bad)
        else:
            yield from _iter_delimited(file, "\t" if kind == "tsv" else DELIMITERS, on_bad)


# CSV and TSV


def _iter_delimited(file: TextFile, delimiters: str, on_bad: OnBad) -> Iterator[Placed]:
    header: list[str] = []
    for line, cells in _iter_cells(file, delimiters):
        place = f"{file.path}:{line}"
        if not header:
            header = _header(cells, place)
        elif len(cells) != len(header):
            on_bad(
                DataError(
                    f"{place}: {len(cells)} cells under a header of {len(header)}; quote cells "
                    "that hold the separator"
                )
            )
        else:
            yield place, dict(zip(header, (cell or None for cell in cells), strict=True))
    if not header:
        raise DataError(f"{file.path} is empty; the first line of a table names its columns")


def _iter_cells(file: TextFile, delimiters: str) -> Iterator[tuple[int, list[str]]]:
    """Each record's first line and cells; blank lines are none."""
    pending: list[str] = []  # the lines of the record that is being read
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
            # Where the next record starts is anyone's guess now, so --skip_bad cannot help.
            opened = start + _lines_before_cell(pending if ended else pending[:-1], delimiter)
            seen = n_lines + len(pending)
            raise DataError(
                f"{file.path}:{opened}: a quoted cell that opens here is not closed as it should "
                f"be (seen in line {seen}), or has more than {LONGEST_CELL_CHARS:,} characters; "
                "close it, and double the quotes within it"
            ) from None
        if cells:
            yield start, cells


def _head(lines: Iterator[tuple[int, str]]) -> list[tuple[int, str]]:
    """The first few lines, as many as memory holds easily."""
    head: list[tuple[int, str]] = []
    for numbered in lines:
        head.append(numbered)
        if len(head) == SNIFFED_LINES or sum(len(text) for _, text in head) > SNIFFED_CHARS:
            break
    return head


def _find_delimiter(lines: list[str], delimiters: str) -> str:
    """The separator under which most of the first records have as many cells as the header."""

    def fit(delimiter: str) -> tuple[bool, int, int]:
        try:
            counts = [len(row) for row in _reader(lines, delimiter) if row]
        except csv.Error:  # a cell too long; reading will say so
            return False, 0, 0
        wanted = counts[0] if counts else 0
        return wanted > 1, counts.count(wanted), wanted

    return max(delimiters, key=fit)


def _reader(lines: Iterable[str], delimiter: str, *, strict: bool = False) -> Iterator[list[str]]:
    """Blanks around cells go anyway; skipped, a quote behind one still opens a quoted cell."""
    return csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=strict)


def _header(cells: list[str], place: str) -> list[str]:
    """The names of the columns; one without a name, as pandas writes its index, gets a number."""
    names = [clean(cell) for cell in cells]
    if not any(names):
        raise DataError(f"{place}: the header is empty; the first line names the columns")
    names = [name or f"column {number}" for number, name in enumerate(names, start=1)]
    _check_unique(names, place)
    return names


def _check_unique(names: Sequence[str], place: str) -> None:
    for name in names:
        if names.count(name) > 1:
            raise DataError(f"{place}: the column {name[:40]!r} stands twice; rename one of them")


def _lines_before_cell(lines: list[str], delimiter: str) -> int:
    """How many lines of a record stand before the one where its last cell, still open, begins."""
    cells = next(_reader(lines, delimiter), [""])
    return "".join(lines).count("\n") - cells[-1].count("\n")


# JSON lines and JSON


def _iter_json_lines(file: TextFile, on_bad: OnBad) -> Iterator[Placed]:
    for line, text in file.lines():
        if text.isspace():
            continue
        place = f"{file.path}:{line}"
        if not text.isascii() and UNDECODED in text:
            on_bad(file.undecoded(line))
            continue
        try:
            row = json.loads(text.lstrip("\ufeff"))  # where files were strung together
        except json.JSONDecodeError as error:
            on_bad(DataError(f"{place}: it is not JSON ({error.msg} at column {error.colno})"))
        except (ValueError, RecursionError) as error:  # a number too long, or nested too deep
            on_bad(DataError(f"{place}: it cannot be read as JSON ({error})"))
        else:
            yield from _checked(place, row, on_bad)


def _checked(place: str, row: object, on_bad: OnBad) -> Iterator[Placed]:
    if isinstance(row, Mapping):
        yield place, row
    else:
        kind = type(row).__name__
        on_bad(DataError(f"{place}: a record must be a JSON object, not {kind}"))


def _iter_json(file: TextFile, on_bad: OnBad) -> Iterator[Placed]:
    """A list of objects, or one object of objects, whose keys become their ids."""
    for line, key, value in iter_json_items(file):
        if key is not None and isinstance(value, Mapping):
            value = {**value, "id": key}
        yield from _checked(f"{file.path}:{line}", value, on_bad)


# Parquet


def _iter_parquet(path: Path) -> Iterator[Placed]:
    """Row by row; only a batch of them is ever decoded."""
    import pyarrow  # type: ignore[import-untyped]
    from pyarrow import parquet

    n_rows = 0
    with open_bytes(path) as file:
        try:
            table = parquet.ParquetFile(file, pre_buffer=False, buffer_size=1 << 20)
            names = table.schema_arrow.names
            _check_unique(names, str(path))
            for batch in table.iter_batches(batch_size=PARQUET_ROWS, use_threads=False):
                columns = [_plain(column).to_pylist() for column in batch.columns]
                for cells in zip(*columns, strict=True):
                    n_rows += 1
                    yield f"{path}:{n_rows}", dict(zip(names, cells, strict=True))
        except (OSError, EOFError, zlib.error, pyarrow.ArrowException, UnicodeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise DataError(
                f"{path}: it is damaged or not Parquet (behind row {n_rows}: {reason}); copy it "
                "again"
            ) from None


def _plain(column: Any) -> Any:
    """Times and decimals as texts, as a CSV has them; Python has no nanoseconds."""
    import pyarrow

    kinds = pyarrow.types
    if kinds.is_duration(column.type):
        column = column.cast(pyarrow.int64())
    elif kinds.is_temporal(column.type) or kinds.is_decimal(column.type):
        column = column.cast(pyarrow.string())
    return column


# Folders of text


def _is_text_folder(path: Path) -> bool:
    """A copy of a Hub data set holds Parquet, and maybe some .txt beside it."""
    return any(_texts_in(path)) and not any(path.rglob("*.parquet"))


def _texts_in(folder: Path) -> Iterator[Path]:
    """Its .txt and .txt.gz; what is hidden (._note.txt, .ipynb_checkpoints/note.txt) is no note."""
    for path in folder.rglob("*"):
        is_text = path.name.lower().removesuffix(".gz").endswith(".txt") and path.is_file()
        if is_text and not any(part.startswith(".") for part in path.relative_to(folder).parts):
            yield path


def _iter_text_folder(folder: Path, on_bad: OnBad, encoding: str) -> Iterator[Placed]:
    """Each file's name without its ending (and its subfolder, if any) as id, and its text."""
    for path in sorted(_texts_in(folder)):
        name = path.relative_to(folder).as_posix()
        try:
            with open_text(path, encoding) as file:
                text = file.read(LONGEST_RECORD_CHARS)
                if file.read(1):
                    raise DataError(
                        f"{path}: more than {LONGEST_RECORD_CHARS:,} characters; split it"
                    )
        except DataError as error:
            on_bad(error)
        else:
            stem = re.sub(r"\.txt(\.gz)?$", "", name, flags=re.IGNORECASE)
            yield str(path), {"id": stem, "text": text}
