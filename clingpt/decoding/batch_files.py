"""A file of questions answered into a file of replies, a line each: in order, and resumed.

A reply is written once those before it are, and synced; a run that was killed goes on behind the
last whole line. Beside the replies stands what they were made with, so that no file ever mixes two
models or settings. Memory does not grow with the files.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from clingpt.base import console
from clingpt.base.errors import DataError
from clingpt.base.files import write_whole

Line = tuple[int, bytes]  # its number in the file, from 1, and its content
Answer = Callable[[Sequence[Line]], list[Mapping[str, Any]]]  # replies to lines, in their order


def answer_file(
    source: Path,
    target: Path,
    answer: Answer,
    *,
    settings: Mapping[str, Any],
    limit: int | None,
    at_once: int,
) -> tuple[int, int]:
    """Answer the lines of `source` that `target` does not answer yet; replies and failures in all.

    DataError where the target was made with other settings, or with none that are known.
    """
    n_lines = sum(1 for _ in iter_lines(source, limit))
    n_done, n_failed = begin(target, settings)
    if n_done > n_lines:
        raise DataError(f"{target} holds {n_done} replies, {source} {n_lines} lines; remove one")
    if n_done:
        console.note(f"{target} answers {n_done} of {n_lines} lines already; going on")
    lines = islice(iter_lines(source, limit), n_done, None)
    with (
        target.open("ab") as file,
        console.progress_bar(
            label="answering", total=n_lines, unit=" lines", initial=n_done
        ) as progress,
    ):
        while batch := list(islice(lines, at_once)):
            replies = answer(batch)
            n_failed += sum("error" in reply for reply in replies)
            file.write("".join(f"{json_line(reply)}\n" for reply in replies).encode())
            file.flush()
            os.fsync(file.fileno())
            progress.update(len(batch))
    return n_lines, n_failed


def iter_lines(path: Path, limit: int | None) -> Iterator[Line]:
    """The lines that hold something, with their numbers."""
    with path.open("rb") as file:
        numbered = ((n, line) for n, line in enumerate(file, start=1) if line.strip())
        yield from islice(numbered, limit)


def begin(target: Path, settings: Mapping[str, Any]) -> tuple[int, int]:
    """How many whole lines a file of replies has, and how many of them are failures.

    Half a line at its end, of a run that was killed, is cut off.
    """
    made_with = target.with_name(f"{target.name}.settings.json")
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        write_whole(made_with, json.dumps(settings, indent=2) + "\n")
        return 0, 0
    if not made_with.exists():
        raise DataError(f"{target} exists and {made_with.name} does not; choose another --output")
    before = read_object(made_with.read_bytes(), made_with)
    if changed := [key for key, value in settings.items() if before.get(key) != value]:
        raise DataError(
            f"{target} was begun with other settings ({', '.join(changed)}); give those of "
            f"{made_with.name}, or another --output"
        )
    n_done = n_failed = whole = 0
    with target.open("rb+") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                break
            n_done, whole = n_done + 1, whole + len(line)
            n_failed += "error" in read_object(line, f"{target}:{number}")
        file.truncate(whole)
    return n_done, n_failed


def read_object(content: bytes, place: object) -> dict[str, Any]:
    """A JSON object that an earlier run wrote."""
    try:
        fields = json.loads(content)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise DataError(f"{place} is not a JSON object as sample.py writes it; choose another file")
    return fields


def json_line(fields: Mapping[str, Any]) -> str:
    """JSON in one line; what would drive a terminal or is no UTF-8 stands there by its number."""
    text = json.dumps(fields, ensure_ascii=False)
    return console.UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
