"""Text files: plain or compressed with gzip, in any encoding, with an error that names the line.

The encoding is never guessed: a file is read as UTF-8 unless its byte-order mark or the user says
otherwise.
"""

import codecs
import gzip
import io
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TextIO, cast

from clingpt.base import console
from clingpt.base.errors import ConfigError, DataError

OnBad = Callable[[DataError], None]  # raises, or counts and returns


class LeftOut(DataError):
    """A part of a source that is not a record by design; counted, and never a reason to stop."""


Row = Mapping[str, object]
Placed = tuple[str, Row]  # file:line, row

# Limits that stop the reading of a file that is not what its name says.
LONGEST_LINE_CHARS = 64 << 20
LONGEST_RECORD_CHARS = 64 << 20

SHOWN_CHARS = 40  # of a name in a message

AUTO = "auto"  # the encoding if the user specified none
UNDECODED = "\udfff"  # replaces undecodable bytes: half a surrogate pair, which no decoder returns
HEAD_BYTES = 4096
GZIP = b"\x1f\x8b"
BYTE_ORDER_MARKS = (  # UTF-32 first, because its mark starts with UTF-16's
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


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
        except UnicodeError:  # the codec gives up: UTF-16 without a byte-order mark, UTF-7, …
            raise self.undecoded(self.line) from None
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
    """Open a file's bytes, decompressed if its name ends in .gz or if it begins like gzip."""
    file = path.open("rb")
    zipped = path.suffix.lower() == ".gz" or file.read(len(GZIP)) == GZIP
    file.seek(0)
    if not zipped:
        return file
    file.close()
    return cast(BinaryIO, gzip.open(path, "rb"))


def read_bytes(path: Path) -> bytes:
    """Return the bytes of a file of one record; raise DataError if it is damaged or too long."""
    try:
        with open_bytes(path) as file:
            data = file.read(LONGEST_RECORD_CHARS + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"the file is damaged or truncated ({error}); copy it again") from None
    if len(data) > LONGEST_RECORD_CHARS:
        raise DataError(f"more than {LONGEST_RECORD_CHARS:,} bytes; split it")
    return data


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


# Names


def shown_name(name: str) -> str:
    """Shorten a record's id or a column's name for a message; mask it if it may identify somebody.

    Where a table has no header, the names of its columns are the cells of a record.
    """
    from clingpt.privacy.redaction import masked_name  # loads all detectors

    return masked_name(console.safe_line(name))[:SHOWN_CHARS]


def check_unique(names: Sequence[str], place: str) -> None:
    """Raise DataError if two columns have the same name."""
    for name in names:
        if names.count(name) > 1:
            raise DataError(f"{place}: duplicate column {shown_name(name)!r}; rename one of them")
