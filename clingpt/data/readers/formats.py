"""The table of formats: the endings of each, what messages call it, and its reader.

The content of a file takes precedence over its ending: a spreadsheet renamed to .csv is read as a
spreadsheet, and a message about a file that cannot be read says what it is (contents.py).
"""

import gzip
import re
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from clingpt.base.errors import DataError
from clingpt.data.readers import contents
from clingpt.data.readers.conversations import (
    CONVERSATION_COLUMNS,
    is_bioasq,
    is_conversation,
    is_squad,
    iter_bioasq,
    iter_conversations,
    iter_squad,
)
from clingpt.data.readers.delimited import read_delimited, read_tabbed
from clingpt.data.readers.fhir import is_fhir, iter_fhir
from clingpt.data.readers.hl7 import read_hl7
from clingpt.data.readers.json_values import read_json, read_json_lines
from clingpt.data.readers.parquet import read_parquet
from clingpt.data.readers.pubmed import read_medline, read_pubmed
from clingpt.data.readers.reading import Reading, Shape
from clingpt.data.readers.rtf import read_rtf
from clingpt.data.readers.spreadsheet import read_spreadsheet
from clingpt.data.readers.text_file import (
    AUTO,
    BYTE_ORDER_MARKS,
    HEAD_BYTES,
    OnBad,
    Placed,
    Row,
    check_encoding,
    open_bytes,
    shown_name,
)
from clingpt.data.readers.texts import read_passages, read_text

Reader = Callable[[Path, Reading], Iterator[Placed]]


@dataclass(frozen=True, kw_only=True)
class Format:
    """A kind of file that can be read."""

    name: str  # in messages
    endings: tuple[str, ...]  # in lower case, without .gz
    read: Reader
    flags: tuple[str, ...] = ()  # flags of prepare.py that are for this format
    is_text: bool = True  # rather than binary, so that it has an encoding
    has_header: bool = True  # so that all rows have the same columns
    flat: bool = False  # all cells are texts
    # Whether the format defines the meaning of its parts: rows then have the columns `id`, `group`,
    # `question`, `sections` or `text`, `target`, `keywords`, and there is nothing to guess.
    known: bool = False
    published: bool = False  # open to anyone: a name in it is an author's, not a patient's
    starts: re.Pattern[str] | None = None  # how such a text begins, whatever its ending
    # Reader for the files of a folder that are one record each; the record's id is the file's path.
    # None: the files of a folder are parts of one table.
    read_in_folder: Reader | None = None


CSV = Format(
    name="CSV",
    endings=(".csv", ".psv"),
    read=read_delimited,
    flags=("quoting",),
    flat=True,
)
TSV = Format(
    name="TSV",
    endings=(".tsv", ".tab"),
    read=read_tabbed,
    flags=("quoting",),
    flat=True,
)
JSON_LINES = Format(
    name="JSON lines",
    endings=(".jsonl", ".ndjson", ".jsonlines"),
    read=read_json_lines,
    has_header=False,
)
JSON = Format(
    name="JSON",
    endings=(".json",),
    read=read_json,
    flags=("records",),
    has_header=False,
    starts=contents.JSON,
)
PARQUET = Format(
    name="Parquet",
    endings=(".parquet", ".pq", ".parq"),
    read=read_parquet,
    is_text=False,
)
SPREADSHEET = Format(
    name="a spreadsheet",
    endings=(".xlsx", ".xlsm"),
    read=read_spreadsheet,
    flags=("sheet",),
    flat=True,
    is_text=False,
)
TEXT = Format(
    name="plain text",
    endings=(".txt", ".text"),
    read=read_passages,
    read_in_folder=read_text,
)
RTF = Format(
    name="RTF",
    endings=(".rtf",),
    read=read_rtf,
    known=True,
    starts=re.compile(r"\s*\{\\rtf"),
    read_in_folder=read_rtf,
)
HL7 = Format(
    name="HL7 v2",
    endings=(".hl7",),
    read=read_hl7,
    has_header=False,
    known=True,
    starts=re.compile(r"\s*(MSH|FHS|BHS)[^\w\s]"),
)
PUBMED = Format(
    name="PubMed XML",
    endings=(".xml",),
    read=read_pubmed,
    known=True,
    published=True,
    starts=re.compile(r"\s*<(\?xml|!DOCTYPE\s+Pubmed|Pubmed)"),
)
MEDLINE = Format(
    name="MEDLINE text",
    endings=(".nbib", ".medline"),
    read=read_medline,
    known=True,
    published=True,
    starts=re.compile(r"\s*PMID- ?\d"),
)
# Their order decides only the order of names in messages.
FORMATS = (CSV, TSV, JSON_LINES, JSON, PARQUET, SPREADSHEET, TEXT, RTF, HL7, PUBMED, MEDLINE)
BY_ENDING = {ending: each for each in FORMATS for ending in each.endings}
BY_CONTENT = {"xlsx": SPREADSHEET, "parquet": PARQUET}


class RowLayout(NamedTuple):
    """A published layout whose rows contain records within objects and lists."""

    name: str  # in messages
    fits: Callable[[Row], bool]  # whether the first row of a file has this layout
    convert: Callable[[Iterable[Placed], OnBad], Iterator[Placed]]  # rows to rows of records
    known: bool = True  # as for Format
    printed: frozenset[str] = frozenset()  # columns in which it is also read if printed there


# The first that fits is taken, for rows of JSON and of Parquet.
ROW_LAYOUTS: tuple[RowLayout, ...] = (
    RowLayout("FHIR", is_fhir, iter_fhir),
    RowLayout(
        "conversations",
        is_conversation,
        iter_conversations,
        known=False,
        printed=CONVERSATION_COLUMNS,
    ),
    RowLayout("SQuAD", is_squad, iter_squad, known=False),
    RowLayout("BioASQ", is_bioasq, iter_bioasq, known=False),
)


def ending_of(path: Path) -> str:
    """Return the ending of a file's name in lower case, without .gz; "" if it has none."""
    return Path(path.name.lower().removesuffix(".gz")).suffix


def format_by_name(path: Path) -> Format | None:
    """Return the format of a file's ending; None if none has it."""
    return BY_ENDING.get(ending_of(path))


def format_of(path: Path, encoding: str = AUTO) -> Format:
    """Return the format of a file by its content and its ending.

    Raises DataError, which says what the file is, if it cannot be read.
    """
    _check_regular(path)
    named, ending = format_by_name(path), ending_of(path)
    content = content_of(path)
    if content in BY_CONTENT:
        return BY_CONTENT[content]
    if content and not (content == "zip" and named is SPREADSHEET):  # a damaged one: let it say so
        raise refusal(path, content)
    if named is None and ending in contents.ENDINGS:
        raise refusal(path, contents.ENDINGS[ending])
    if named and not named.is_text:
        return named
    head = head_of_text(path, encoding)
    if content := content_of_text(head):
        raise refusal(path, content)
    found = next((each for each in FORMATS if each.starts and each.starts.match(head)), None)
    if found is JSON and named is JSON_LINES and not contents.JSON_NOT_BY_LINE.match(head):
        found = None
    if named is TEXT and not found:
        head = head_of_text(path, encoding, contents.TABLE_HEAD_BYTES)
        kinds = (("\t", TSV), ("|", CSV), (",", CSV), (";", CSV))
        found = next((kind for delimiter, kind in kinds if is_table(head, delimiter)), None)
    if chosen := found or named:
        return chosen
    raise refusal(path, None)


def _check_regular(path: Path) -> None:
    if not path.exists():
        raise DataError(f"{path}: no such file or folder; check the path")
    if not path.is_file():  # a pipe, for instance
        raise DataError(
            f"{path} is not a regular file, and sources are read several times; save it"
        )


def refusal(path: Path, kind: str | None) -> DataError:
    """Build the error for a file of a kind in contents.UNREADABLE, or of none that is known."""
    if kind is not None:
        name, advice = contents.UNREADABLE[kind]
        return DataError(f"{path} is {name}; {advice}")
    return DataError(
        f"{path} has {shown_ending(path)}, and its content is not in a known format; {READABLE}"
    )


def shown_ending(path: Path) -> str:
    """Return a file's ending for a message, masked if it may be part of a person's name."""
    ending = ending_of(path)
    return f"the ending {shown_name(ending)}" if ending else "no ending"


ENDINGS = ", ".join(each.endings[0] for each in FORMATS)
READABLE = f"supported formats are {ENDINGS} (also as .gz)"


# Reading


def iter_file(path: Path, kind: Format, reading: Reading) -> Iterator[Placed]:
    """Yield the rows of a file; rows of a known layout come out as the records within them."""
    rows = kind.read(path, reading)
    first = next(rows, None)
    if first is None:
        return
    describe(kind, reading.shape)
    rows = chain([first], rows)
    for layout in () if kind.known else ROW_LAYOUTS:
        has_key = not layout.printed or not layout.printed.isdisjoint(first[1])
        if (layout.printed or not kind.flat) and has_key and layout.fits(first[1]):
            reading.shape.facts.append(layout.name)
            reading.shape.known = layout.name if layout.known else ""
            rows = layout.convert(rows, reading.on_bad)
            break
    yield from rows


def describe(kind: Format, shape: Shape) -> None:
    """Copy the properties of a format into the shape of a source."""
    shape.known = kind.name if kind.known else ""
    shape.published = kind.published
    shape.flat = kind.flat
    shape.plain = kind.read_in_folder is not None and not kind.known


# Contents


def content_of(path: Path) -> str | None:
    """Return what a file is by its first bytes: parquet, xlsx or a key of UNREADABLE; else None.

    A compressed file is decompressed first.
    """
    try:
        with open_bytes(path) as file:
            head = file.read(HEAD_BYTES)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        return None  # reading will report it
    for offset, magic, kind in contents.MAGIC:
        if head.startswith(magic, offset):
            return _content_of_zip(path) if kind == "zip" else kind
    return "pickle" if contents.PICKLE.match(head) else None


def _content_of_zip(path: Path) -> str:
    try:
        with open_bytes(path) as file, zipfile.ZipFile(file) as archive:
            names = archive.namelist()
            for name, kind in contents.PARTS_OF_ZIP.items():
                if name in names:
                    return kind
            if "mimetype" in names:
                return contents.OPEN_DOCUMENT.get(archive.read("mimetype")[:60].strip(), "zip")
    except (zipfile.BadZipFile, EOFError, OSError, zlib.error, RuntimeError):
        pass  # damaged: its reader says so, if its ending tells which
    return "zip"


def content_of_text(head: str) -> str | None:
    """Return which key of UNREADABLE a text is by its beginning; None for anything else."""
    return "html" if contents.HTML.match(head) else "lfs" if head.startswith(contents.LFS) else None


def head_of_text(path: Path, encoding: str, n_bytes: int = HEAD_BYTES) -> str:
    """Return the beginning of a text without its byte-order mark; bad bytes are replaced."""
    check_encoding(encoding)
    try:
        with open_bytes(path) as file:
            head = file.read(n_bytes)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        return ""  # reading will report it
    marked = (name for mark, name in BYTE_ORDER_MARKS if head.startswith(mark))
    name = next(marked, "utf-8" if encoding == AUTO else encoding)
    try:
        return head.decode(name, "replace").lstrip("\ufeff")
    except UnicodeError:  # some codecs replace nothing
        return ""  # reading will report it


def is_table(head: str, delimiter: str) -> bool:
    """Return whether a text is a table that was saved as .txt, as Excel does, by its first lines.

    Tabs and bars are rare in prose: it is enough that all lines have the same number of them. With
    commas and semicolons, the first line must consist of names, and no line may have fewer of them.
    """
    lines = [line for line in head.split("\n")[:-1] if line.strip()][: contents.TABLE_LINES]
    if len(lines) < 2 or delimiter not in lines[0]:
        return False
    first, *others = lines
    n, names = first.count(delimiter), first.split(delimiter)
    if delimiter in "\t|":
        are_names = all(0 < len(name.strip()) <= contents.NAME_CHARS for name in names)
        return are_names and all(line.count(delimiter) == n for line in others)
    are_names = all(contents.NAME.fullmatch(name.strip()) for name in names)
    return are_names and all(line.count(delimiter) >= n for line in others)
