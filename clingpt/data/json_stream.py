"""The items of one big JSON object or list, read one by one: memory holds a chunk, or one item.

It knows nothing of what the items are: the standard library's decoder reads each of them.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

from clingpt.base.errors import DataError
from clingpt.data.text_files import TextFile

LONGEST_RECORD_CHARS = 64 << 20
_DECODER = json.JSONDecoder()
_SEPARATOR = re.compile(r"[ \t\n\r]*([\[\]{},:])[ \t\n\r]*")


def iter_json_items(
    file: TextFile, *, chunk_chars: int = 1 << 20
) -> Iterator[tuple[int, str | None, Any]]:
    """Line, key (None in a list) and value of each item of one big JSON object or list.

    Holds about one chunk of the file, or one item, at a time.
    """
    buffer, start, line, closing, first = "", 0, 1, "", True
    while True:
        try:
            closing = closing or _opening(buffer)
            at, key, value, end = _next_item(buffer, start, closing, first=first)
        except (ValueError, RecursionError) as error:  # malformed, or goes on in the next chunk
            held = len(buffer) - start
            more = file.read(max(chunk_chars, held))  # doubled: decoding anew stays cheap
            if not more or held > LONGEST_RECORD_CHARS:
                line += buffer.count("\n", start, getattr(error, "pos", start))
                raise DataError(f"{file.path}:{line}: it is not valid JSON near here") from None
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
                f"{file.path}:{line}: it goes on behind its JSON, which ends here; give one "
                "object a line as .jsonl, or one list"
            )
        rest = ""


def _opening(buffer: str) -> str:
    """What closes the whole: } of an object, ] of a list."""
    return "}" if _match("{[", buffer, 0)[1] == "{" else "]"


def _next_item(
    buffer: str, start: int, closing: str, *, first: bool
) -> tuple[int | None, str | None, Any, int]:
    """Where the item behind `start` begins, its key and value, and its end; None at the close."""
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
    _match(f",{closing}", buffer, end)  # without it a number may go on in the next chunk
    return at, key, value, end


def _match(separators: str, buffer: str, start: int) -> re.Match[str]:
    found = _SEPARATOR.match(buffer, start)
    if not found or found[1] not in separators:
        raise json.JSONDecodeError(f"expected one of {separators}", buffer, start)
    return found
