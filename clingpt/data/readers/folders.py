"""Read a folder: its files of one format, as records or as the parts of one table."""

import mimetypes
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from clingpt.base import console
from clingpt.base.errors import DataError
from clingpt.data.readers import contents
from clingpt.data.readers.formats import (
    READABLE,
    Format,
    content_of,
    describe,
    ending_of,
    format_by_name,
    format_of,
    iter_file,
    refusal,
)
from clingpt.data.readers.reading import Reading, Shape
from clingpt.data.readers.text_file import Placed, shown_name

# Files that come with a data set and are not records, whatever their ending.
NOTICES = frozenset(
    "license licence copying copyright readme citation notice authors contributors contributing "
    "changelog changes code_of_conduct disclaimer requirements dataset_info dataset_infos "
    "dataset_dict state".split()  # the last of these are written by `datasets`
)
MOST_LISTED = 5  # files that a message names


@dataclass
class Folder:
    """What is in a folder: the files to read, which are of one format, and the others."""

    path: Path
    files: list[Path] = field(default_factory=list)  # sorted
    format: Format | None = None
    left_out: Counter[str] = field(default_factory=Counter)  # ".pdf" -> files


def find_files(folder: Path) -> Folder:
    """Choose the files of a folder; raise DataError if none can be read, or if two formats can.

    Hidden files and folders do not count (._note.txt, .ipynb_checkpoints), and neither do notices.
    """
    found = Folder(folder)
    kinds: dict[str, list[Path]] = {}  # name of the format -> files
    for path in sorted(_walk(folder)):
        each = format_by_name(path)
        if not path.is_file():
            found.left_out["broken links or pipes"] += 1
        elif path.name.split(".")[0].lower() in NOTICES:
            found.left_out[path.name.split(".")[0]] += 1
        elif each is None:
            found.left_out[_shown_ending(path)] += 1
        else:
            kinds.setdefault(each.name, []).append(path)
    if not kinds:
        raise _nothing_to_read(found)
    if len(kinds) > 1:
        raise _several_formats(found, kinds)
    [found.files] = kinds.values()
    found.format = format_by_name(found.files[0])
    return found


def _shown_ending(path: Path) -> str:
    """Return a well-known ending; others may be part of a name or a date (Novak.12.3.1968)."""
    ending = ending_of(path)
    known = ending in contents.ENDINGS or ending in mimetypes.types_map
    return ending if known else "of other kinds"


def _walk(folder: Path) -> Iterator[Path]:
    def fail(error: OSError) -> None:  # by default, os.walk skips folders that it cannot read
        raise error

    for place, folders, names in os.walk(folder, onerror=fail):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(place, name) for name in names if not name.startswith("."))


def _nothing_to_read(folder: Folder) -> DataError:
    if not folder.left_out:
        return DataError(f"{folder.path} is an empty folder; {READABLE}")
    known = [name for name, _ in folder.left_out.most_common() if name in contents.ENDINGS]
    kind = contents.UNREADABLE[contents.ENDINGS[known[0]]] if known else None
    advice = f"{known[0]} is {kind.name}: {kind.advice}" if kind else READABLE
    return DataError(
        f"{folder.path} contains no readable file, only {counted(folder.left_out)}; {advice}"
    )


def _several_formats(folder: Folder, kinds: Mapping[str, list[Path]]) -> DataError:
    counts = Counter({ending_of(files[0]): len(files) for files in kinds.values()})
    choices = [
        f"pass --source={files[0]}"
        if len(files) == 1
        else f"move the {ending_of(files[0])} files to a separate folder"
        for files in kinds.values()
    ]
    return DataError(
        f"{folder.path} contains several kinds of files: {counted(counts)}; {', or '.join(choices)}"
    )


def counted(counts: Mapping[str, int]) -> str:
    """Format counts, as in "20 .txt, 1 .csv"."""
    return ", ".join(f"{console.count(n)} {name}" for name, n in sorted(counts.items()))


def iter_folder(path: Path, reading: Reading) -> Iterator[Placed]:
    """Yield the rows of all files that `find_files` finds."""
    folder = find_files(path)
    assert folder.format
    n_files, plural = len(folder.files), "s" * (len(folder.files) > 1)
    facts = reading.shape.facts
    facts.append(f"{console.count(n_files)} file{plural} of {folder.format.name}")
    if folder.format.read_in_folder:
        describe(folder.format, reading.shape)
        yield from _iter_records(folder, folder.format, reading)
    else:
        yield from _iter_parts(folder, reading)
    if folder.left_out:
        facts.append(f"left out: {counted(folder.left_out)}")


def _iter_records(folder: Folder, kind: Format, reading: Reading) -> Iterator[Placed]:
    """Read files that are a record each, whose id is the path in the folder, without the ending."""
    assert kind.read_in_folder
    for path in folder.files:
        reading.file = path
        try:
            if content := content_of(path):
                raise refusal(path, content)
            rows = list(kind.read_in_folder(path, reading))
        except DataError as error:
            reading.on_bad(error)
            continue
        name = path.relative_to(folder.path).as_posix()
        stem = name[: len(name.lower().removesuffix(".gz")) - len(ending_of(path))]
        yield from ((place, {**row, "id": stem}) for place, row in rows)


def _iter_parts(folder: Folder, reading: Reading) -> Iterator[Placed]:
    """Read files that are parts of one table and must have the same columns."""
    first: tuple[Path, frozenset[str]] | None = None
    for path in folder.files:
        reading.file = path
        part = Reading(reading.on_bad, reading.options)
        kind, is_new = format_of(path, reading.options.encoding), True
        for place, row in iter_file(path, kind, part):
            if is_new:
                is_new = False
                first = first or (path, frozenset(row))
                _check_alike(first, path, frozenset(row), all_equal=kind.has_header)
                _add(reading.shape, part.shape)
            yield place, row


def _add(whole: Shape, part: Shape) -> None:
    """Add the properties of one file to those of its folder."""
    whole.facts += [fact for fact in part.facts if fact not in whole.facts]
    whole.known, whole.flat, whole.plain = part.known, part.flat, part.plain
    whole.published = part.published


def _check_alike(
    first: tuple[Path, frozenset[str]], path: Path, names: frozenset[str], *, all_equal: bool
) -> None:
    """Raise DataError if the columns of a file differ from those of the first file.

    Objects may omit keys, so JSON files need only half of their columns in common.
    """
    shared, fewest = len(names & first[1]), min(len(names), len(first[1]))
    if names != first[1] and (all_equal or 2 * shared < fewest):
        raise DataError(
            f"{path} has other columns ({_names(names)}) than {first[0]} ({_names(first[1])}); "
            "pass one of these files as --source, or several with --mix"
        )


def _names(names: frozenset[str]) -> str:
    more = f" and {len(names) - MOST_LISTED} more" if len(names) > MOST_LISTED else ""
    return ", ".join(map(shown_name, sorted(names)[:MOST_LISTED])) + more
