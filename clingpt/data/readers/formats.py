"""The table of formats, and the rows of a file or folder in any of them, one by one.

A row maps names to values. Where a format says what its parts are (KNOWN), the names are those of a
record's fields; for other rows clingpt/data/columns.py decides what the names mean. Memory does not
grow with the file. An error in one row goes to `on_bad` with the file and the line where the row
starts (in Parquet the row's number). An error that hides where the next row starts stops the
reading. An empty cell of a CSV becomes None, like a null.
"""

from collections.abc import Iterator
from pathlib import Path

from clingpt.data.readers.delimited import DELIMITERS, iter_delimited
from clingpt.data.readers.hl7 import iter_hl7
from clingpt.data.readers.json_values import iter_json, iter_json_lines
from clingpt.data.readers.parquet import iter_parquet
from clingpt.data.readers.rtf import iter_rtf
from clingpt.data.readers.text_file import AUTO, OnBad, Placed, TextFile, open_text
from clingpt.data.readers.text_folder import files_in, is_text_folder, iter_text_folder

KNOWN = {"rtf": "RTF", "hl7": "HL7 v2"}  # format -> its name in a message


def format_of(path: Path) -> str | None:
    """Return csv, tsv, jsonl, json, parquet, rtf, hl7 or txt (a folder); None for anything else."""
    if path.is_dir():
        if is_text_folder(path):
            return "txt"
        return next((kind for kind in KNOWN if any(files_in(path, [f".{kind}"]))), None)
    ending = Path(path.name.lower().removesuffix(".gz")).suffix
    kinds = (".csv", ".tsv", ".jsonl", ".json", ".parquet", *(f".{kind}" for kind in KNOWN))
    return ending[1:] if ending in kinds else None


def iter_rows(path: Path, on_bad: OnBad, *, encoding: str = AUTO) -> Iterator[Placed]:
    """Yield the rows of a file or folder that `format_of` knows, each with its place."""
    kind = format_of(path)
    if kind == "txt":
        yield from iter_text_folder(path, on_bad, encoding)
        return
    if kind == "parquet":
        yield from iter_parquet(path)
        return
    files = sorted(files_in(path, [f".{kind}"])) if path.is_dir() else [path]
    if kind == "rtf":
        folder = path if path.is_dir() else path.parent
        yield from iter_rtf(folder, files, on_bad, encoding)
        return
    for each in files:
        with open_text(each, encoding) as file:
            yield from _iter_text_rows(kind, file, on_bad)


def _iter_text_rows(kind: str | None, file: TextFile, on_bad: OnBad) -> Iterator[Placed]:
    if kind == "jsonl":
        yield from iter_json_lines(file, on_bad)
    elif kind == "json":
        yield from iter_json(file, on_bad)
    elif kind == "hl7":
        yield from iter_hl7(file, on_bad)
    else:
        yield from iter_delimited(file, "\t" if kind == "tsv" else DELIMITERS, on_bad)
