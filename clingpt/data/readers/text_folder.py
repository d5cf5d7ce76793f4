"""Folders of files with one ending, such as .txt: which files they hold, and reading texts."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from clingpt.base.errors import DataError
from clingpt.data.readers.text_file import LONGEST_RECORD_CHARS, OnBad, Placed, open_text


def is_text_folder(path: Path) -> bool:
    """Return whether a folder contains texts but no Parquet, as a copy of a Hub data set does."""
    return any(files_in(path, [".txt"])) and not any(path.rglob("*.parquet"))


def files_in(folder: Path, endings: Sequence[str]) -> Iterator[Path]:
    """Yield the files with one of these endings, also as .gz, in a folder and in its subfolders.

    Hidden ones are left out (._note.txt, .ipynb_checkpoints/a.txt).
    """
    for path in folder.rglob("*"):
        is_one = path.name.lower().removesuffix(".gz").endswith(tuple(endings)) and path.is_file()
        if is_one and not any(part.startswith(".") for part in path.relative_to(folder).parts):
            yield path


def stem_in(folder: Path, path: Path) -> str:
    """Return a file's path within a folder, without the ending: the id of its record."""
    return re.sub(r"\.\w+(\.gz)?$", "", path.relative_to(folder).as_posix(), flags=re.IGNORECASE)


def iter_text_folder(folder: Path, on_bad: OnBad, encoding: str) -> Iterator[Placed]:
    """Yield each file's text; its path within the folder, without the ending, is the id."""
    for path in sorted(files_in(folder, [".txt"])):
        try:
            with open_text(path, encoding) as file:
                text = file.read(LONGEST_RECORD_CHARS)
                if file.read(1):
                    raise DataError(
                        f"{path}: more than {LONGEST_RECORD_CHARS:,} characters; split it"
                    )
        except DataError as error:
            on_bad(error)
        else:
            yield str(path), {"id": stem_in(folder, path), "text": text}
