"""Read the rows of a file, and damage files to see that every damage is refused in one line."""

from pathlib import Path
from typing import Any

import pytest

from clingpt.base.errors import DataError
from clingpt.data.readers.formats import iter_rows

Rows = list[dict[str, Any]]


def read(path: Path, encoding: str = "auto") -> tuple[Rows, list[str]]:
    """Return rows and errors, without the folder's path."""
    bad: list[DataError] = []
    rows = [dict(row) for _, row in iter_rows(path, bad.append, encoding=encoding)]
    return rows, [str(error).replace(f"{path.parent}/", "") for error in bad]


def refusal(path: Path, encoding: str = "auto") -> str:
    with pytest.raises(DataError) as refused:
        read(path, encoding)
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
