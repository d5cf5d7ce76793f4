"""JSON lines, and JSON as one list of objects or one object of objects."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from clingpt.base.errors import DataError
from clingpt.data.readers.text_file import (
    LONGEST_RECORD_CHARS,
    UNDECODED,
    OnBad,
    Placed,
    TextFile,
)

_DECODER = json.JSONDecoder()
_SEPARATOR = re.compile(r"[ \t\n\r]*([\[\]{},:])[ \t\n\r]*")


def iter_json_lines(file: TextFile, on_bad: OnBad) -> Iterator[Placed]:
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


def iter_json(file: TextFile, on_bad: OnBad) -> Iterator[Placed]:
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
