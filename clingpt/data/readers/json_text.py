"""A JSON text that is decoded value by value, so that a file of any size fits in memory."""

import json
import re
from collections.abc import Iterator
from typing import Any

from clingpt.base.errors import DataError
from clingpt.data.readers.text_file import LONGEST_RECORD_CHARS, TextFile

SKIPPED_CHARS = 4 << 20  # of a value to be skipped: a longer one is skipped item by item

DECODER = json.JSONDecoder(parse_constant=lambda _: None)  # NaN and Infinity count as missing
_BLANK = re.compile(r"[ \t\n\r]*")


class JsonText:
    """A JSON text, read value by value; about one chunk or one value of it is in memory."""

    def __init__(self, file: TextFile, *, chunk_chars: int = 1 << 20) -> None:
        self.path, self.line = file.path, 1
        self.n_chars = 0  # that were read so far
        self._file, self._chunk_chars = file, chunk_chars
        self._buffer, self._at = "", 0

    def peek(self) -> str:
        """Return the next character that is not white space; "" at the end of the file."""
        while True:
            found = _BLANK.match(self._buffer, self._at)
            assert found
            self._advance(found.end())
            if self._at < len(self._buffer):
                return self._buffer[self._at]
            if not self._more():
                return ""

    def items(self) -> Iterator[tuple[int, str | None]]:
        """Yield line and key (None in a list) of each item of the next value, a list or an object.

        The caller reads the item's value, by `value`, `skip` or `items`, before it goes on.
        """
        closing = "}" if self._take("{[") == "{" else "]"
        if self.peek() == closing:
            self._advance(self._at + 1)
            return
        while True:
            key = None
            start, line = self.peek(), self.line
            if closing == "}":
                if start != '"':
                    raise self._malformed()
                key = self.value()
                self._take(":")
            yield line, key
            if self._take(f",{closing}") == closing:
                return

    def value(self) -> Any:
        """Decode the next value."""
        self.peek()
        while True:
            try:
                value, end = DECODER.raw_decode(self._buffer, self._at)
                following = self._buffer[end : end + 1]
                # A number may continue in the next chunk.
                if isinstance(value, int | float) and following not in tuple(",]} \t\n\r"):
                    if self._more():
                        continue
            # Malformed, or continued in the next chunk.
            except (ValueError, RecursionError) as error:
                offset = getattr(error, "pos", self._at) - self._at
                if len(self._buffer) - self._at > LONGEST_RECORD_CHARS:
                    raise DataError(
                        f"{self.path}:{self.line}: a value of more than "
                        f"{LONGEST_RECORD_CHARS:,} characters, or not valid JSON"
                    ) from None
                if not self._more():
                    raise self._malformed(offset) from None
                continue
            self._advance(end)
            return value

    def skip(self) -> None:
        """Pass over the next value, whatever its size."""
        if self.peek() not in ("{", "["):
            self.value()
            return
        while True:
            try:
                _, end = DECODER.raw_decode(self._buffer, self._at)
            except (ValueError, RecursionError):
                if len(self._buffer) - self._at > SKIPPED_CHARS or not self._more():
                    break
            else:
                self._advance(end)
                return
        for _ in self.items():
            self.skip()

    def end(self) -> None:
        """Raise DataError unless only white space is left."""
        line = self.line
        if self.peek():
            raise DataError(
                f"{self.path}:{line}: text after the end of the JSON value; write one object per "
                "line as .jsonl, or one list"
            )

    def _take(self, characters: str) -> str:
        found = self.peek()
        if not found or found not in characters:
            raise self._malformed()
        self._advance(self._at + 1)
        return found

    def _advance(self, end: int) -> None:
        self.line += self._buffer.count("\n", self._at, end)
        self._at = end

    def _more(self) -> bool:
        held = len(self._buffer) - self._at
        more = self._file.read(max(self._chunk_chars, held))  # doubled: decoding again stays cheap
        self._buffer, self._at = self._buffer[self._at :] + more, 0
        self.n_chars += len(more)
        return bool(more)

    def _malformed(self, offset: int = 0) -> DataError:
        place = self._at + offset
        line = self.line + self._buffer.count("\n", self._at, place)
        hint = ""
        if self._buffer[place : place + 1] == "'":
            hint = "; Python prints single quotes, but JSON has double ones: save it with json.dump"
        return DataError(f"{self.path}:{line}: not valid JSON near here{hint}")
