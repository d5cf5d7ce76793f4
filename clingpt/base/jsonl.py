"""JSON Lines files that survive a killed process: one JSON object per line, appended in one write.

A process that is killed while it appends leaves at most one line without a newline at the end of
the file. Readers skip that line, and the next `append` closes it first so that the two never run
together.
"""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from clingpt.base.files import fsync, naming, replacing

Row = dict[str, Any]


def append(
    path: Path,
    *rows: Mapping[str, Any],
    dumps: Callable[[Mapping[str, Any]], str] = json.dumps,
    sync: bool = False,
) -> None:
    """Append rows to a file, creating it if necessary; with `sync`, fsync them before returning."""
    lines = "".join(f"{dumps(row)}\n" for row in rows).encode()
    with naming(path), path.open("ab+") as file:
        if file.seek(0, os.SEEK_END) > 0:
            file.seek(-1, os.SEEK_END)
            if file.read() != b"\n":
                lines = b"\n" + lines
        file.write(lines)
        if sync:
            file.flush()
            fsync(file.fileno())


def read(path: Path) -> list[Row]:
    """Return all complete rows of a file; an empty list if it does not exist."""
    return [row for _, row in scan(path)] if path.exists() else []


def scan(path: Path) -> Iterator[tuple[int, Row]]:
    """Yield each complete row with the byte offset of its line, in constant memory.

    Malformed lines are skipped, and so is a last line without a newline: its writer was killed, or
    has not finished.
    """
    start = 0
    with path.open("rb") as file:
        for line in file:
            try:
                row = json.loads(line) if line.endswith(b"\n") else None
            except (ValueError, RecursionError):
                row = None
            if isinstance(row, dict):
                yield start, row
            start += len(line)


def write(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Replace a file as a whole, in constant memory; text is written as it is, not escaped."""
    with replacing(path) as scratch, scratch.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def keep(path: Path, wanted: Callable[[Row], bool]) -> None:
    """Rewrite a file with only those of its complete rows that are `wanted`."""
    write(path, [row for row in read(path) if wanted(row)])


def truncate_torn_line(path: Path) -> None:
    """Cut off a last line without a newline, left by a process that was killed.

    Needed only where lines are counted, or where another program reads the file.
    """
    with path.open("rb+") as file:
        whole = 0
        for line in file:
            if line.endswith(b"\n"):
                whole += len(line)
        file.truncate(whole)
