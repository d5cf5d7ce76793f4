"""Answer a file of questions, one reply per line and in order, so that it can be resumed.

Replies are appended in the order of the questions and fsynced batch by batch, so a killed run
continues after the last whole line. The settings that the replies were generated with are kept in a
file next to them, so that one file never mixes two models or settings. Memory does not grow with
the files.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from clingpt.base import console, jsonl
from clingpt.base.errors import DataError
from clingpt.base.files import write_whole
from clingpt.text.records import clean

Line = tuple[int, bytes]  # line number, from 1, and content
Answer = Callable[[Sequence[Line]], Sequence[Mapping[str, Any]]]  # one reply per line, in order


def answer_file(
    source: Path,
    target: Path,
    answer: Answer,
    *,
    settings: Mapping[str, Any],
    limit: int | None,
    at_once: int,
) -> tuple[int, int]:
    """Answer the lines of `source` that `target` does not answer yet, `at_once` at a time.

    Returns the number of replies and how many of them are errors. Raises DataError if `target`
    was written with different settings or by another program.
    """
    n_lines = sum(1 for _ in iter_lines(source, limit))
    n_done, n_failed = open_target(target, settings)
    if n_done > n_lines:
        raise DataError(
            f"{target} has {console.count(n_done, 'reply', 'replies')}, but {source} has "
            f"{console.count(n_lines, 'line')}; choose another --output"
        )
    if n_done:
        check_order(source, target, limit)
        console.note(
            f"{target} already answers {n_done} of {console.count(n_lines, 'line')}; continuing"
        )
    lines = islice(iter_lines(source, limit), n_done, None)
    with console.progress_bar(
        label="answering", total=n_lines, unit=" lines", initial=n_done
    ) as progress:
        while batch := list(islice(lines, at_once)):
            replies = answer(batch)
            n_failed += sum("error" in reply for reply in replies)
            if not target.exists():  # appending would make a new file without the first replies
                raise DataError(
                    f"{target} was removed or renamed while it was being written; run the same "
                    "command to start again"
                )
            jsonl.append(target, *replies, dumps=json_line, sync=True)
            progress.update(len(batch))
    return n_lines, n_failed


def iter_lines(path: Path, limit: int | None) -> Iterator[Line]:
    """Yield the first `limit` lines that are not blank, with their line numbers."""
    with path.open("rb") as file:
        numbered = ((n, line) for n, line in enumerate(file, start=1) if line.strip())
        yield from islice(numbered, limit)


def open_target(target: Path, settings: Mapping[str, Any]) -> tuple[int, int]:
    """Create a file of replies, or check an existing one and cut off a torn last line.

    Returns how many replies it has and how many of them are errors.
    """
    made_with = target.with_name(f"{target.name}.settings.json")
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        write_whole(made_with, json.dumps(settings, indent=2) + "\n")
        target.touch()  # after its settings: replies without settings could not be resumed
        return 0, 0
    if not made_with.exists():
        raise DataError(f"{target} exists and {made_with.name} does not; choose another --output")
    before = read_object(made_with.read_bytes(), made_with)
    if changed := [key for key, value in settings.items() if before.get(key) != value]:
        raise DataError(
            f"{target} was started with different settings ({', '.join(changed)}); use those in "
            f"{made_with.name}, or choose another --output"
        )
    n_done = n_failed = 0
    with target.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.endswith(b"\n"):
                n_done, n_failed = (
                    number,
                    n_failed + ("error" in read_object(line, f"{target}:{number}")),
                )
    jsonl.truncate_torn_line(target)
    return n_done, n_failed


def check_order(source: Path, target: Path, limit: int | None) -> None:
    """Raise DataError if a reply is not that of the line in its place, by the line's own id.

    Replies are matched to lines by their order, which the user may have changed between two runs.
    """
    with target.open("rb") as replies:
        for (number, line), reply in zip(iter_lines(source, limit), replies, strict=False):
            replied = read_object(reply, target)
            try:
                asked = json.loads(line.decode("utf-8-sig"))
            except (ValueError, RecursionError):
                continue  # not a record: the reply in its place is an error
            own = asked.get("id") if isinstance(asked, dict) else None
            if own is not None and "error" not in replied and "id" in replied:
                if clean(str(own)) != clean(str(replied["id"])):
                    raise DataError(
                        f"{source}:{number} is not the record that {target} answers in its place: "
                        "the lines were changed or moved; restore them, or choose another --output"
                    )


def read_object(content: bytes, place: object) -> dict[str, Any]:
    """Parse a JSON object written by an earlier run, or raise a DataError that names `place`."""
    try:
        fields = json.loads(content)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise DataError(
            f"{place} is not a JSON object written by sample.py; choose another --output"
        )
    return fields


def json_line(fields: Mapping[str, Any]) -> str:
    r"""Format a value as one line of JSON that is safe to print.

    Text stays readable (not ASCII-escaped), except for characters that control a terminal or that
    UTF-8 cannot encode, which become \uXXXX.
    """
    text = json.dumps(fields, ensure_ascii=False)
    return console.UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
