"""Text files as other systems write them: gzip, byte-order marks, encodings, line ends.

Nothing is guessed: a file is UTF-8, or what its byte-order mark says, or what the user says. Bytes
that do not fit become UNDECODED, which no text holds otherwise, so that whoever reads can name the
line. It knows nothing of what stands in the lines.
"""

import codecs
import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TextIO, cast

from clingpt.base.errors import ConfigError, DataError

AUTO = "auto"
UNDECODED = "\udfff"  # half a surrogate pair: no decoder gives it
LONGEST_LINE_CHARS = 64 << 20
HEAD_BYTES = 4096
BYTE_ORDER_MARKS = (  # UTF-32's first: it begins as UTF-16's does
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


class TextFile:
    """A text read once from its start, line ends as \\n; `line` is where the next read begins."""

    def __init__(self, file: TextIO, path: Path, encoding: str) -> None:
        self.path, self.encoding, self.line = path, encoding, 1
        self._file = file
        self._maybe_utf8 = not encoding.startswith("utf")  # the user said otherwise
        self._utf8 = codecs.getincrementaldecoder("utf-8")()
        self._all_ascii = True

    def lines(self) -> Iterator[tuple[int, str]]:
        """Each line's number and text."""
        while line := self._read(self._file.readline, LONGEST_LINE_CHARS):
            if len(line) == LONGEST_LINE_CHARS:
                raise DataError(
                    f"{self.path}:{self.line}: a line of more than {LONGEST_LINE_CHARS:,} "
                    "characters; is this the right file?"
                )
            yield self.line - line.endswith("\n"), line

    def read(self, n_chars: int = -1) -> str:
        """The next so many characters, or all; DataError where they are not text."""
        line = self.line
        text = self._read(self._file.read, n_chars)
        if not text.isascii() and UNDECODED in text:
            raise self.undecoded(line + text.count("\n", 0, text.index(UNDECODED)))
        return text

    def undecoded(self, line: int) -> DataError:
        """What to say of a line that holds UNDECODED."""
        if self.encoding.startswith("utf-8"):
            said = "UTF-8 text; --encoding=cp1252 reads what Windows programs save"
        else:
            said = f"{self.encoding} text; give another --encoding, or none for UTF-8"
        return DataError(f"{self.path}:{line}: it is not {said}")

    def _read(self, call: Callable[[int], str], n_chars: int) -> str:
        try:
            text = call(n_chars)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise DataError(
                f"{self.path}:{self.line}: it is damaged or cut short from about here on "
                f"({error}); copy or compress it again"
            ) from None
        self.line += text.count("\n")
        if self._maybe_utf8 and UNDECODED not in text:
            self._look_for_utf8(text)
        return text

    def _look_for_utf8(self, text: str) -> None:
        """Refuse, at its end, a file that is UTF-8 throughout though another encoding was told.

        "Größe" would become "GrÃ¶ÃŸe". That a text in another encoding is UTF-8 in every line is
        next to impossible; in one line it is not ("É…" in Windows-1252).
        """
        try:
            self._utf8.decode(text.encode(self.encoding), final=not text)
        except UnicodeError:
            self._maybe_utf8 = False
            return
        self._all_ascii &= text.isascii()
        if not text and not self._all_ascii:
            raise DataError(
                f"{self.path} is UTF-8, not {self.encoding}; leave --encoding out for it"
            )


@contextmanager
def open_text(path: Path, encoding: str = AUTO) -> Iterator[TextFile]:
    """A text file, through gzip where its name ends in .gz; a byte-order mark overrules `encoding`.

    Windows-1252 is never tried unasked: any bytes at all would pass for it.
    """
    codecs.register_error("clingpt.undecoded", lambda error: (UNDECODED, _end_of(error)))
    with open_bytes(path) as raw:
        found = _find_encoding(raw, path, encoding)
        with io.TextIOWrapper(raw, found, errors="clingpt.undecoded") as file:
            yield TextFile(file, path, found)


def open_bytes(path: Path) -> BinaryIO:
    """A file's bytes, unpacked where its name ends in .gz."""
    zipped = path.suffix.lower() == ".gz"
    return cast(BinaryIO, gzip.open(path, "rb")) if zipped else path.open("rb")


def check_encoding(name: str) -> None:
    """ConfigError where Python knows no such text encoding."""
    try:
        "".encode("utf-8" if name == AUTO else name)
    except LookupError:
        raise ConfigError(
            f"unknown encoding {name!r}; give auto (UTF-8, or what a byte-order mark says), "
            "cp1252, latin-1, utf-16-le or another that Python knows"
        ) from None


def _find_encoding(raw: BinaryIO, path: Path, told: str) -> str:
    check_encoding(told)
    try:
        head = raw.read(HEAD_BYTES)
        raw.seek(0)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path} is damaged or not gzip ({error}); copy it again") from None
    for mark, encoding in BYTE_ORDER_MARKS:
        if head.startswith(mark):
            return encoding
    if told != AUTO:
        return codecs.lookup(told).name
    # As UTF-8 this would pass: NULs are dropped, and what is left is wrong beyond ASCII.
    for encoding, zeros in (("utf-16-le", head[1::2]), ("utf-16-be", head[::2])):
        if len(zeros) > 1 and zeros.count(0) > len(zeros) / 2:
            raise DataError(
                f"{path}:1: every other byte is zero: it looks like UTF-16 without a byte-order "
                f"mark; say --encoding={encoding}"
            )
    return "utf-8"


def _end_of(error: UnicodeError) -> int:
    assert isinstance(error, UnicodeDecodeError)  # files are only read
    return error.end
