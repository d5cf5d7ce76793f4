"""The arguments of a reader: options, a handler for unusable rows, and a place for its findings."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from clingpt.data.readers.text_file import AUTO, OnBad

Quoting = Literal["auto", "none", "backslash"]


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """How to read a file, as far as the file itself does not determine it."""

    encoding: str = AUTO  # of text files
    quoting: Quoting = "auto"  # of cells in a CSV or TSV; see prepare.py
    sheet: str | None = None  # of a spreadsheet; None: the only one
    records: str | None = None  # key of the records in JSON, dotted; None: find it, "": the file


AS_IT_IS = ReadOptions()


@dataclass
class Shape:
    """What a source was recognised as, to show to the user; filled in while it is read."""

    facts: list[str] = field(default_factory=list)  # "CSV", "separated by commas"
    known: str = ""  # name of the format or layout, if it defines the meaning of its parts
    published: bool = False  # open to anyone
    flat: bool = False  # a table of texts, whose columns are always to be chosen
    plain: bool = False  # whole texts, without columns


@dataclass
class Reading:
    """One reading of a source."""

    on_bad: OnBad  # gets the error of each unusable row
    options: ReadOptions = AS_IT_IS
    shape: Shape = field(default_factory=Shape)
    file: Path | None = None  # the file of a folder that is being read
