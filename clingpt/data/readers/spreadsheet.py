"""Read one sheet of a spreadsheet (.xlsx), with its cells as text, as in a CSV."""

import datetime
import errno
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from clingpt.base import console
from clingpt.base.errors import ClingptError, ConfigError, DataError
from clingpt.data.readers.delimited import EMPTY_ROW, Header
from clingpt.data.readers.reading import Reading
from clingpt.data.readers.text_file import LeftOut, Placed, open_bytes, shown_name

# Limit of a workbook's table of texts, which openpyxl holds in memory while it streams the rows.
LARGEST_TEXTS_BYTES = 256 << 20
TEXTS = "xl/sharedStrings.xml"
LOOKED_AT_ROWS = 100  # of a sheet, to see whether it is empty
UNCOMPUTED = "formulas without a stored value count as empty (a spreadsheet program stores it)"


def read_spreadsheet(path: Path, reading: Reading) -> Iterator[Placed]:
    """Read the only sheet, or the one that --sheet names; its first row names the columns."""
    import openpyxl

    warnings.filterwarnings("ignore", module="openpyxl")  # of features that do not concern text
    with open_bytes(path) as file:
        try:
            _check_size(path)
            book = openpyxl.load_workbook(file, read_only=True, data_only=True)
            sheet = _choose_sheet(path, book.worksheets, reading)
            if _has_formulas(sheet):
                formulas = openpyxl.load_workbook(file, read_only=True)[sheet.title]
                formulas.reset_dimensions()
                if n := _count_uncomputed(sheet, formulas):
                    reading.shape.facts.append(f"{console.count(n)} {UNCOMPUTED}")
            yield from _iter_rows(path, sheet, reading)
        except (ClingptError, MemoryError):
            raise
        except Exception as error:  # of a damaged file, openpyxl's errors have no common base class
            if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
                raise  # an error of the disk; EINVAL means a seek beyond the end of the file
            raise DataError(
                f"{path}: damaged or not a spreadsheet ({type(error).__name__}); copy it again"
            ) from None


def _check_size(path: Path) -> None:
    with open_bytes(path) as file, zipfile.ZipFile(file) as archive:
        sizes = {info.filename: info.file_size for info in archive.infolist()}
    if sizes.get(TEXTS, 0) > LARGEST_TEXTS_BYTES:
        raise DataError(
            f"{path} has more than {LARGEST_TEXTS_BYTES >> 20} MB of text, which is held in memory "
            "for a spreadsheet; save it as .csv"
        )


def _choose_sheet(path: Path, sheets: Sequence[Any], reading: Reading) -> Any:
    """Return the sheet that the user named, or the only one that is visible and not empty."""
    wanted = reading.options.sheet
    by_name = {sheet.title: sheet for sheet in sheets}
    for sheet in sheets:
        sheet.reset_dimensions()  # programs write wrong ones, and rows beyond them would be lost
    if wanted is not None:
        if wanted not in by_name:
            raise ConfigError(f"no sheet {wanted!r} in {path}; its sheets are {_listed(by_name)}")
        reading.shape.facts.append(f"sheet {shown_name(wanted)!r}")
        return by_name[wanted]
    full = [sheet for sheet in sheets if sheet.sheet_state == "visible" and not _is_empty(sheet)]
    if not full:
        raise DataError(f"{path} has no sheet with anything in it; is it the right file?")
    if len(full) > 1:
        names = [sheet.title for sheet in full]
        raise ConfigError(
            f"{path} has several sheets: {_listed(names)}; choose one with --sheet={names[0]!r}"
        )
    reading.shape.facts.append(f"sheet {shown_name(full[0].title)!r}")
    return full[0]


def _listed(names: Iterable[str]) -> str:
    return ", ".join(repr(shown_name(name)) for name in names)


def _is_empty(sheet: Any) -> bool:
    rows = islice(sheet.iter_rows(values_only=True), LOOKED_AT_ROWS)
    return not any(value is not None for row in rows for value in row)


def _has_formulas(sheet: Any) -> bool:
    """Search the sheet's XML: openpyxl shows either its formulas or their values."""
    with sheet._get_source() as xml:
        end = b""
        while chunk := xml.read(1 << 20):
            if b"<f>" in (text := end + chunk) or b"<f " in text:
                return True
            end = chunk[-2:]
    return False


def _count_uncomputed(values: Any, formulas: Any) -> int:
    """Count formulas without a value, which are written by programs that do not compute them."""
    n = 0
    for row, computed in zip(formulas.iter_rows(), values.iter_rows(), strict=True):
        for cell, value in zip(row, computed, strict=True):
            # The type of an empty text that was computed is "str".
            n += cell.data_type == "f" and value.value is None and value.data_type != "str"
    return n


def _iter_rows(path: Path, sheet: Any, reading: Reading) -> Iterator[Placed]:
    header: Header | None = None
    for number, values in enumerate(sheet.iter_rows(values_only=True), start=1):
        cells = list(map(_text, values))
        place = f"{path}:{number}"
        if not any(cells):
            if cells:  # [] is a row that the file omits
                reading.on_bad(LeftOut(f"{place}: {EMPTY_ROW}"))
        elif header is None:
            header = Header([cell or "" for cell in cells], place)
        else:
            cells += [None] * (header.n_named - len(cells))  # the file omits empty cells at the end
            yield place, header.row(cells)


def _text(value: object) -> str | None:
    """Return a cell as Excel writes it to a CSV, but a date in ISO format; None if it is empty."""
    if value is None or value == "":
        return None
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, float):
        return f"{value:.15g}"  # Excel has 15 digits: 0.1 + 0.2 is 0.3
    if isinstance(value, datetime.datetime):
        is_date = value.time() == datetime.time()
        return str(value.date() if is_date else value.replace(microsecond=0))
    return str(value)
