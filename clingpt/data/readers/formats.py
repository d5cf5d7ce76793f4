"""Read the rows of a file one by one: CSV, TSV, JSON lines, JSON, Parquet, or a folder of texts.

A row maps names to values; clingpt/data/columns.py decides what the names mean. Memory does not
grow with the file. An error in one row goes to `on_bad` with the file and the line where the row
starts (in Parquet the row's number). An error that hides where the next row starts stops the
reading. An empty cell of a CSV becomes None, like a null.
"""

from collections.abc import Iterator
from pathlib import Path

from clingpt.data.readers.delimited import DELIMITERS, iter_delimited
from clingpt.data.readers.json_values import iter_json, iter_json_lines
from clingpt.data.readers.parquet import iter_parquet
from clingpt.data.readers.text_file import AUTO, OnBad, Placed, open_text
from clingpt.data.readers.text_folder import is_text_folder, iter_text_folder


def format_of(path: Path) -> str | None:
    """Return csv, tsv, jsonl, json, parquet or txt (a folder of texts); None for anything else."""
    if path.is_dir():
        return "txt" if is_text_folder(path) else None
    ending = Path(path.name.lower().removesuffix(".gz")).suffix
    return ending[1:] if ending in (".csv", ".tsv", ".jsonl", ".json", ".parquet") else None


def iter_rows(path: Path, on_bad: OnBad, *, encoding: str = AUTO) -> Iterator[Placed]:
    """Yield the rows of a file or folder that `format_of` knows, each with its place."""
    kind = format_of(path)
    if kind == "txt":
        yield from iter_text_folder(path, on_bad, encoding)
        return
    if kind == "parquet":
        yield from iter_parquet(path)
        return
    with open_text(path, encoding) as file:
        if kind == "jsonl":
            yield from iter_json_lines(file, on_bad)
        elif kind == "json":
            yield from iter_json(file, on_bad)
        else:
            yield from iter_delimited(file, "\t" if kind == "tsv" else DELIMITERS, on_bad)
