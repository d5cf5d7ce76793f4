"""Read the rows of a file one by one: CSV, TSV, JSON lines, JSON, Parquet, or a folder of texts.

A row maps names to values; clingpt/data/columns.py decides what the names mean. Memory does not
grow with the file. An error in one row goes to `on_bad` with the file and the line where the row
starts (in Parquet the row's number). An error that hides where the next row starts stops the
reading. An empty cell of a CSV becomes None, like a null.

Text files may be compressed with gzip and come in any encoding, which is never guessed: a file is
read as UTF-8 unless its byte-order mark or the user says otherwise.
"""

import codecs
import csv
import gzip
import io
import json
import re
import textwrap
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, TextIO, cast

from clingpt.base import console
from clingpt.base.errors import ConfigError, DataError
from clingpt.text.records import clean

OnBad = Callable[[DataError], None]  # raises, or counts and returns
Row = Mapping[str, object]
Placed = tuple[str, Row]  # file:line, row

# Limits that stop the reading of a file that is not what its name says.
LONGEST_CELL_CHARS = 16 << 20  # of a CSV; reading ends there if a quote is never closed
LONGEST_LINE_CHARS = 64 << 20
LONGEST_RECORD_CHARS = 64 << 20

DELIMITERS = ",;\t"
SNIFFED_LINES, SNIFFED_CHARS = 20, 1 << 20  # of a CSV, to find its delimiter
PARQUET_ROWS = 64  # decoded at a time: a cell may have 10 MB

SHOWN_CHARS = 40  # of a name in a message

AUTO = "auto"  # the encoding if the user specified none
UNDECODED = "\udfff"  # replaces undecodable bytes: half a surrogate pair, which no decoder returns
HEAD_BYTES = 4096
BYTE_ORDER_MARKS = (  # UTF-32 first, because its mark starts with UTF-16's
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_DECODER = json.JSONDecoder()
_SEPARATOR = re.compile(r"[ \t\n\r]*([\[\]{},:])[ \t\n\r]*")


def format_of(path: Path) -> str | None:
    """Return csv, tsv, jsonl, json, parquet or txt (a folder of texts); None for anything else."""
    if path.is_dir():
        return "txt" if _is_text_folder(path) else None
    ending = Path(path.name.lower().removesuffix(".gz")).suffix
    return ending[1:] if ending in (".csv", ".tsv", ".jsonl", ".json", ".parquet") else None


def iter_rows(path: Path, on_bad: OnBad, *, encoding: str = AUTO) -> Iterator[Placed]:
    """Yield the rows of a file or folder that `format_of` knows, each with its place."""
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


# Text files


class TextFile:
    """A text that is read once, with line ends as \\n; `line` is the number of the next line."""

    def __init__(self, file: TextIO, path: Path, encoding: str) -> None:
        self.path, self.encoding, self.line = path, encoding, 1
        self._file = file
        self._maybe_utf8 = not encoding.startswith("utf")  # only if the user gave a different one
        self._utf8 = codecs.getincrementaldecoder("utf-8")()
        self._all_ascii = True

    def lines(self) -> Iterator[tuple[int, str]]:
        """Yield the number and the text of each line; undecodable bytes are UNDECODED."""
        while line := self._read(self._file.readline, LONGEST_LINE_CHARS):
            if len(line) == LONGEST_LINE_CHARS:
                raise DataError(
                    f"{self.path}:{self.line}: a line of more than {LONGEST_LINE_CHARS:,} "
                    "characters; is this the right file?"
                )
            yield self.line - line.endswith("\n"), line

    def read(self, n_chars: int = -1) -> str:
        """Return the next characters, or all; raises DataError if some cannot be decoded."""
        line = self.line
        text = self._read(self._file.read, n_chars)
        if not text.isascii() and UNDECODED in text:
            raise self.undecoded(line + text.count("\n", 0, text.index(UNDECODED)))
        return text

    def undecoded(self, line: int) -> DataError:
        """Build the error for a line that contains UNDECODED."""
        if self.encoding.startswith("utf-8"):
            problem = "not UTF-8 text; --encoding=cp1252 reads what Windows programs save"
        else:
            problem = f"not {self.encoding} text; pass another --encoding, or omit it for UTF-8"
        return DataError(f"{self.path}:{line}: {problem}")

    def _read(self, call: Callable[[int], str], n_chars: int) -> str:
        try:
            text = call(n_chars)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise DataError(
                f"{self.path}:{self.line}: the file is damaged or truncated near here "
                f"({error}); copy or compress it again"
            ) from None
        self.line += text.count("\n")
        if self._maybe_utf8 and UNDECODED not in text:
            self._look_for_utf8(text)
        return text

    def _look_for_utf8(self, text: str) -> None:
        """Reject, at its end, a file that is valid UTF-8 throughout although --encoding differs.

        "Größe" would become "GrÃ¶ÃŸe". A whole file in another encoding is practically never valid
        UTF-8, although a single line may be ("É…" in Windows-1252).
        """
        try:
            self._utf8.decode(text.encode(self.encoding), final=not text)
        except UnicodeError:
            self._maybe_utf8 = False
            return
        self._all_ascii &= text.isascii()
        if not text and not self._all_ascii:
            raise DataError(
                f"{self.path} is UTF-8, not {self.encoding}; leave out --encoding for it"
            )


@contextmanager
def open_text(path: Path, encoding: str = AUTO) -> Iterator[TextFile]:
    """Open a text file, through gzip if it ends in .gz. A byte-order mark overrides `encoding`.

    Windows-1252 is never tried unasked, because any bytes at all decode as Windows-1252.
    """
    codecs.register_error("clingpt.undecoded", lambda error: (UNDECODED, _end_of(error)))
    with open_bytes(path) as raw:
        found = _find_encoding(raw, path, encoding)
        with io.TextIOWrapper(raw, found, errors="clingpt.undecoded") as file:
            yield TextFile(file, path, found)


def open_bytes(path: Path) -> BinaryIO:
    """Open a file's bytes, decompressed if its name ends in .gz."""
    zipped = path.suffix.lower() == ".gz"
    return cast(BinaryIO, gzip.open(path, "rb")) if zipped else path.open("rb")


def check_encoding(name: str) -> None:
    """Raise ConfigError unless Python knows a text encoding of this name."""
    try:
        "".encode("utf-8" if name == AUTO else name)
    except LookupError:
        raise ConfigError(
            f"unknown encoding {name!r}; use auto (UTF-8, or what a byte-order mark says), "
            "cp1252, latin-1, utf-16-le or another that Python knows"
        ) from None


def _find_encoding(raw: BinaryIO, path: Path, given: str) -> str:
    check_encoding(given)
    try:
        head = raw.read(HEAD_BYTES)
        raw.seek(0)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path} is damaged or not gzip ({error}); copy it again") from None
    for mark, encoding in BYTE_ORDER_MARKS:
        if head.startswith(mark):
            return encoding
    if given != AUTO:
        return codecs.lookup(given).name
    # Such a file is valid UTF-8: its NULs would be dropped, and the rest is wrong beyond ASCII.
    for encoding, zeros in (("utf-16-le", head[1::2]), ("utf-16-be", head[::2])):
        if len(zeros) > 1 and zeros.count(0) > len(zeros) / 2:
            raise DataError(
                f"{path}:1: every other byte is zero: it looks like UTF-16 without a byte-order "
                f"mark; pass --encoding={encoding}"
            )
    return "utf-8"


def _end_of(error: UnicodeError) -> int:
    assert isinstance(error, UnicodeDecodeError)  # files are never written here
    return error.end


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
    _check_unique(names, place)
    return names


def _check_unique(names: Sequence[str], place: str) -> None:
    for name in names:
        if names.count(name) > 1:
            raise DataError(f"{place}: duplicate column {shown_name(name)!r}; rename one of them")


def shown_name(name: str) -> str:
    """Shorten a record's id or a column's name for a message; mask it if it may identify somebody.

    Where a table has no header, the names of its columns are the cells of a record.
    """
    from clingpt.privacy.redaction import masked_name  # loads all detectors

    return masked_name(console.safe_line(name))[:SHOWN_CHARS]


def _lines_before_cell(lines: list[str], delimiter: str) -> int:
    """Count the lines of a record before the one where its last cell, still open, begins."""
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
            row = json.loads(text.lstrip("\ufeff"))  # a mark inside a file: files were concatenated
        except json.JSONDecodeError as error:
            on_bad(DataError(f"{place}: not valid JSON ({error.msg} at column {error.colno})"))
        except (ValueError, RecursionError) as error:  # a number too long, or nested too deep
            on_bad(DataError(f"{place}: cannot be read as JSON ({error})"))
        else:
            yield from _checked(place, row, on_bad)


def _checked(place: str, row: object, on_bad: OnBad) -> Iterator[Placed]:
    if isinstance(row, Mapping):
        yield place, row
    else:
        kind = type(row).__name__
        on_bad(DataError(f"{place}: a record must be a JSON object, not {kind}"))


def _iter_json(file: TextFile, on_bad: OnBad) -> Iterator[Placed]:
    """Read a list of objects, or one object of objects, whose keys become their ids."""
    for line, key, value in iter_json_items(file):
        if key is not None and isinstance(value, Mapping):
            value = {**value, "id": key}
        yield from _checked(f"{file.path}:{line}", value, on_bad)


def iter_json_items(
    file: TextFile, *, chunk_chars: int = 1 << 20
) -> Iterator[tuple[int, str | None, Any]]:
    """Yield line, key (None in a list) and value of each item of one big JSON object or list.

    Keeps about one chunk of the file, or one item, in memory at a time. The standard library
    decodes each item; only the separators between items are handled here.
    """
    buffer, start, line, closing, first = "", 0, 1, "", True
    while True:
        try:
            closing = closing or _opening(buffer)
            at, key, value, end = _next_item(buffer, start, closing, first=first)
        except (ValueError, RecursionError) as error:  # malformed, or continued in the next chunk
            held = len(buffer) - start
            more = file.read(max(chunk_chars, held))  # doubled: decoding again stays cheap
            if not more or held > LONGEST_RECORD_CHARS:
                line += buffer.count("\n", start, getattr(error, "pos", start))
                raise DataError(f"{file.path}:{line}: not valid JSON near here") from None
            buffer, start = buffer[start:] + more, 0
            continue
        if at is None:
            break
        yield line + buffer.count("\n", start, at), key, value
        line += buffer.count("\n", start, end)
        start, first = end, False
    line += buffer.count("\n", start, end)
    rest = buffer[end:]
    while rest or (rest := file.read(chunk_chars)):
        if rest.strip():
            raise DataError(
                f"{file.path}:{line}: text after the end of the JSON value; write one "
                "object per line as .jsonl, or one list"
            )
        rest = ""


def _opening(buffer: str) -> str:
    """Read the opening bracket and return the closing one: } for an object, ] for a list."""
    return "}" if _match("{[", buffer, 0)[1] == "{" else "]"


def _next_item(
    buffer: str, start: int, closing: str, *, first: bool
) -> tuple[int | None, str | None, Any, int]:
    """Return the next item's start, key, value and end; start is None at the closing bracket."""
    separator = _match("{[" if first else f",{closing}", buffer, start)
    at = separator.end()
    if separator[1] == closing:
        return None, None, None, separator.end(1)
    if first and buffer.startswith(closing, at):
        return None, None, None, at + 1
    key, value_at = None, at
    if closing == "}":
        key, end = _DECODER.raw_decode(buffer, at)
        if not isinstance(key, str):
            raise json.JSONDecodeError("expected a key", buffer, at)
        value_at = _match(":", buffer, end).end()
    value, end = _DECODER.raw_decode(buffer, value_at)
    _match(f",{closing}", buffer, end)  # without it, a number may continue in the next chunk
    return at, key, value, end


def _match(separators: str, buffer: str, start: int) -> re.Match[str]:
    found = _SEPARATOR.match(buffer, start)
    if not found or found[1] not in separators:
        raise json.JSONDecodeError(f"expected one of {separators}", buffer, start)
    return found


# Parquet


def _iter_parquet(path: Path) -> Iterator[Placed]:
    """Yield row by row; only one batch is decoded at a time."""
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
            reason = textwrap.shorten(str(error), 200, placeholder=" …")
            raise DataError(
                f"{path}: damaged or not Parquet (after row {n_rows}: {reason}); copy the file "
                "again"
            ) from None


def _plain(column: Any) -> Any:
    """Convert times and decimals to text as in a CSV; Python has no nanoseconds."""
    import pyarrow

    kinds = pyarrow.types
    if kinds.is_duration(column.type):
        column = column.cast(pyarrow.int64())
    elif kinds.is_temporal(column.type) or kinds.is_decimal(column.type):
        column = column.cast(pyarrow.string())
    return column


# Folders of text


def _is_text_folder(path: Path) -> bool:
    """Return whether a folder contains texts but no Parquet, as a copy of a Hub data set does."""
    return any(_texts_in(path)) and not any(path.rglob("*.parquet"))


def _texts_in(folder: Path) -> Iterator[Path]:
    """Yield .txt and .txt.gz files except hidden ones (._note.txt, .ipynb_checkpoints/a.txt)."""
    for path in folder.rglob("*"):
        is_text = path.name.lower().removesuffix(".gz").endswith(".txt") and path.is_file()
        if is_text and not any(part.startswith(".") for part in path.relative_to(folder).parts):
            yield path


def _iter_text_folder(folder: Path, on_bad: OnBad, encoding: str) -> Iterator[Placed]:
    """Yield each file's text; its path within the folder, without the ending, is the id."""
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
