"""Read records from JSON: one object per line, or one value in a layout of json_layouts.py.

Only the columns of pandas' default layout are held in memory as a whole.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

from clingpt.base import console
from clingpt.base.errors import DataError
from clingpt.data.readers.json_layouts import LAYOUTS, Layout, are_positions, find_layout
from clingpt.data.readers.json_text import DECODER, JsonText
from clingpt.data.readers.reading import Reading, ReadOptions
from clingpt.data.readers.text_file import (
    UNDECODED,
    OnBad,
    Placed,
    TextFile,
    check_unique,
    open_text,
    shown_name,
)

LARGEST_COLUMNS_CHARS = 256 << 20  # of a file whose columns are held in memory


def read_json(path: Path, reading: Reading) -> Iterator[Placed]:
    """Read a JSON file in the layout that `find_layout` finds."""
    stat = path.stat()
    layout = _layout_of(path, reading.options, (stat.st_size, stat.st_mtime_ns))
    reading.shape.facts.append(LAYOUTS[layout.name])
    if layout.keys:
        reading.shape.facts.append(f"under {'.'.join(map(shown_name, layout.keys))}")
    if layout.name == "lines":
        yield from read_json_lines(path, reading)
        return
    with open_text(path, reading.options.encoding) as file:
        text = JsonText(file)
        if layout.name == "sequence":
            while text.peek():
                yield from _checked(f"{path}:{text.line}", text.value(), reading.on_bad)
        else:
            yield from _iter_under(text, layout.keys, layout.name, reading.on_bad)
            text.end()


@lru_cache(maxsize=8)  # the first pass has to read all of a wrapped file, the others need not
def _layout_of(path: Path, options: ReadOptions, _stat: tuple[int, int]) -> Layout:
    with open_text(path, options.encoding) as file:
        return find_layout(JsonText(file), options.records)


def read_json_lines(path: Path, reading: Reading) -> Iterator[Placed]:
    """Read one object per line."""
    with open_text(path, reading.options.encoding) as file:
        yield from _iter_lines(file, reading.on_bad)


def _iter_lines(file: TextFile, on_bad: OnBad) -> Iterator[Placed]:
    for line, text in file.lines():
        if text.isspace():
            continue
        place = f"{file.path}:{line}"
        if not text.isascii() and UNDECODED in text:
            on_bad(file.undecoded(line))
            continue
        try:
            # A byte-order mark inside a file: files were concatenated.
            row = DECODER.decode(text.lstrip("\ufeff"))
        except json.JSONDecodeError as error:
            on_bad(DataError(f"{place}: not valid JSON ({error.msg} at column {error.colno})"))
        except (ValueError, RecursionError) as error:  # a number too long, or nested too deep
            on_bad(DataError(f"{place}: cannot be read as JSON ({error})"))
        else:
            yield from _checked(place, row, on_bad)


def _iter_under(
    text: JsonText, keys: Sequence[str], layout: str, on_bad: OnBad
) -> Iterator[Placed]:
    """Read the records under some keys, and skip the rest of the file, which must be JSON too."""
    if not keys:
        yield from _READERS[layout](text, on_bad)
        return
    for _, key in text.items():
        if key == keys[0]:
            yield from _iter_under(text, keys[1:], layout, on_bad)
        else:
            text.skip()


def _iter_list(text: JsonText, on_bad: OnBad) -> Iterator[Placed]:
    for line, _ in text.items():
        yield from _checked(f"{text.path}:{line}", text.value(), on_bad)


def _iter_objects(text: JsonText, on_bad: OnBad) -> Iterator[Placed]:
    """Read an object of objects, whose keys become ids unless the objects have their own."""
    for line, key in text.items():
        value = text.value()
        row = {"id": key, **value} if isinstance(value, Mapping) else value
        yield from _checked(f"{text.path}:{line}", row, on_bad)


def _iter_record(text: JsonText, on_bad: OnBad) -> Iterator[Placed]:
    text.peek()
    yield from _checked(f"{text.path}:{text.line}", text.value(), on_bad)


def _iter_columns(text: JsonText, _on_bad: OnBad) -> Iterator[Placed]:
    """Read an object of columns, each an object (row → cell): all of them are held in memory."""
    columns: dict[str, dict[str | None, Any]] = {}
    for _, name in text.items():
        columns[str(name)] = {key: _held(text) for _, key in text.items()}
    rows = dict.fromkeys(chain.from_iterable(columns.values()))
    unnamed = are_positions([str(key) for key in rows])
    for number, key in enumerate(rows, start=1):
        row = {name: cells.get(key) for name, cells in columns.items()}
        # The rows' own names may be ids.
        yield f"{text.path}:{number}", row if unnamed else {"index": key, **row}


def _iter_lists(text: JsonText, _on_bad: OnBad) -> Iterator[Placed]:
    """Read an object of columns, each a list of cells: all of them are held in memory."""
    columns = {str(name): [_held(text) for _ in text.items()] for _, name in text.items()}
    [(first, cells), *others] = columns.items()
    for name, other in others:
        if len(other) != len(cells):
            raise DataError(
                f"{text.path}: {shown_name(first)!r} has {console.count(len(cells), 'cell')} and "
                f"{shown_name(name)!r} has {len(other)}; the lists of an object of lists are "
                "columns and must be of one length"
            )
    for number, row in enumerate(zip(*columns.values(), strict=True), start=1):
        yield f"{text.path}:{number}", dict(zip(columns, row, strict=True))


def _held(text: JsonText) -> Any:
    """Read a cell that is held in memory until the whole file is read."""
    if text.n_chars > LARGEST_COLUMNS_CHARS:
        raise DataError(
            f"{text.path} has more than {LARGEST_COLUMNS_CHARS:,} characters, and columns are held "
            "in memory; save it row by row, in pandas with "
            'to_json(path, orient="records", lines=True)'
        )
    return text.value()


def _iter_split(text: JsonText, on_bad: OnBad) -> Iterator[Placed]:
    """Read pandas' split layout: columns, index and data, in this order."""
    names: list[str] = []
    index: list[Any] = []
    for _, key in text.items():
        if key == "columns":
            names = list(map(str, text.value()))
            check_unique(names, str(text.path))
        elif key == "index" and text.peek() == "[":
            index = text.value()
        elif key == "data":
            if not names:
                raise DataError(
                    f"{text.path}: 'columns' must come before 'data'; save it with "
                    'orient="records"'
                )
            has_ids = any(value != number for number, value in enumerate(index))
            for number, (line, _) in enumerate(text.items()):
                cells, place = text.value(), f"{text.path}:{line}"
                if not isinstance(cells, list) or len(cells) != len(names):
                    n = len(cells) if isinstance(cells, list) else 0
                    on_bad(
                        DataError(
                            f"{place}: {console.count(n, 'cell')} under a header of {len(names)}"
                        )
                    )
                    continue
                row = dict(zip(names, cells, strict=True))
                yield (
                    place,
                    {"index": index[number], **row} if has_ids and number < len(index) else row,
                )
        else:
            text.skip()


def _checked(place: str, row: object, on_bad: OnBad) -> Iterator[Placed]:
    if isinstance(row, Mapping):
        yield place, row
    else:
        kind = type(row).__name__
        on_bad(DataError(f"{place}: a record must be a JSON object, not {kind}"))


_READERS: dict[str, Callable[[JsonText, OnBad], Iterator[Placed]]] = {
    "list": _iter_list,
    "positions": _iter_list,
    "objects": _iter_objects,
    "record": _iter_record,
    "columns": _iter_columns,
    "lists": _iter_lists,
    "split": _iter_split,
}
