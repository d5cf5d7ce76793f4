"""Read the rows of a file, and damage files to see that every damage is refused in one line."""

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clingpt.base.errors import ClingptError, DataError
from clingpt.data.readers.reading import Reading, ReadOptions
from clingpt.data.sources import iter_rows

Rows = list[dict[str, Any]]


def read(path: Path, encoding: str = "auto", **options: Any) -> tuple[Rows, list[str]]:
    """Return rows and errors, without the folder's path."""
    rows, errors, _ = read_shape(path, encoding=encoding, **options)
    return rows, errors


def read_shape(path: Path, **options: Any) -> tuple[Rows, list[str], list[str]]:
    """Return rows, errors without the folder's path, and what the file was taken for."""
    bad: list[DataError] = []
    reading = Reading(bad.append, ReadOptions(**options))
    rows = [dict(row) for _, row in iter_rows(path, reading)]
    errors = [str(error).replace(f"{path.parent}/", "") for error in bad]
    return rows, errors, reading.shape.facts


def refusal(path: Path, encoding: str = "auto", **options: Any) -> str:
    with pytest.raises(ClingptError) as refused:
        read(path, encoding, **options)
    return str(refused.value).replace(f"{path.parent}/", "")


def read_truncated(path: Path, step: int = 50) -> list[str]:
    """Cut a file at every `step`th byte and read what is left; return what was said of each.

    Anything but a DataError fails the test, and so does a message of several lines.
    """
    data = path.read_bytes()
    told = []
    for end in range(0, len(data), step):
        path.write_bytes(data[:end])
        try:
            errors = read(path)[1]
        except DataError as error:
            errors = [str(error)]
        assert all(error and error.isprintable() for error in errors)
        told.append("; ".join(errors))
    path.write_bytes(data)
    return told


def peak_bytes(work: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
