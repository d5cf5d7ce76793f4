"""Folders of text files, one record a file."""

import re
from collections.abc import Iterator
from pathlib import Path

from clingpt.base.errors import DataError
from clingpt.data.readers.text_file import LONGEST_RECORD_CHARS, OnBad, Placed, open_text


def is_text_folder(path: Path) -> bool:
    """Return whether a folder contains texts but no Parquet, as a copy of a Hub data set does."""
    return any(_texts_in(path)) and not any(path.rglob("*.parquet"))


def _texts_in(folder: Path) -> Iterator[Path]:
    """Yield .txt and .txt.gz files except hidden ones (._note.txt, .ipynb_checkpoints/a.txt)."""
    for path in folder.rglob("*"):
        is_text = path.name.lower().removesuffix(".gz").endswith(".txt") and path.is_file()
        if is_text and not any(part.startswith(".") for part in path.relative_to(folder).parts):
            yield path


def iter_text_folder(folder: Path, on_bad: OnBad, encoding: str) -> Iterator[Placed]:
    """Yield each file's text; its path within the folder, without the ending, is the id."""
    for path in sorted(_texts_in(folder)):
        name = path.relative_to(folder).as_posix()
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
            stem = re.sub(r"\.txt(\.gz)?$", "", name, flags=re.IGNORECASE)
            yield str(path), {"id": stem, "text": text}
