"""Every shape in which people save a few records: how it is read, or by what name refused."""

import datetime
import gzip
import io
import json
import os
import pickle
import sqlite3
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clingpt.base.errors import DataError
from clingpt.data.readers import json_text, json_values, spreadsheet
from clingpt.data.readers.reading import Reading
from clingpt.data.sources import iter_rows, refuse
from tests.helpers.rows import Rows, peak_bytes, read, read_shape, refusal

ROWS: Rows = [
    {"id": "a1", "note": "The first note, which is long.", "summary": "First."},
    {"id": "b2", "note": 'The second, with "quotes"; and more.', "summary": "Second."},
    {"id": "c3", "note": "The third note\nin two lines.", "summary": None},
]
PLAIN = [row for row in ROWS if "\n" not in row["note"]]  # for formats without line breaks in cells
IN_CSV = "id,note,summary\n" + (
    'a1,"The first note, which is long.",First.\n'
    'b2,"The second, with ""quotes""; and more.",Second.\n'
    'c3,"The third note\nin two lines.",\n'
)
COLUMNS = {name: [row[name] for row in ROWS] for name in ROWS[0]}
BY_INDEX = {name: dict(enumerate(cells)) for name, cells in COLUMNS.items()}


def lines(*texts: str) -> bytes:
    return "".join(f"{text}\n" for text in texts).encode()


def as_json(value: object, **options: Any) -> bytes:
    return json.dumps(value, **options).encode()


def workbook(sheets: dict[str, list[list[object]]], change: Callable[[Any], None] = print) -> bytes:
    """Return an .xlsx with the cells of some sheets; `change` may edit it."""
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.remove(book.active)
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
    if change is not print:
        change(book)
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


def parquet(columns: dict[str, Any]) -> bytes:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file)
    return file.getvalue()


CELLS: list[list[object]] = [list(ROWS[0]), *(list(row.values()) for row in ROWS)]

WORDS = [["id", "note"], ["1", "a"], ["2", "b"]]
BY_NAME: Rows = [{"id": "1", "note": "a"}, {"id": "2", "note": "b"}]

# Name of the file, its bytes, what it is taken for; other rows than ROWS; options.
Case = tuple[str, Callable[[], bytes], list[str]] | tuple[str, Callable[[], bytes], list[str], Rows]
TABLES: list[Case] = [
    ("a.csv", lambda: IN_CSV.encode(), ["CSV", "separated by commas"]),
    ("A.CSV.GZ", lambda: gzip.compress(IN_CSV.encode()), ["CSV", "separated by commas"]),
    ("gzipped.csv", lambda: gzip.compress(IN_CSV.encode()), ["CSV", "separated by commas"]),
    ("sep.csv", lambda: ("sep=,\r\n" + IN_CSV).encode(), ["CSV", "separated by commas"]),
    (
        "odd.csv",
        lambda: lines("sep=^", "id^note", "1^a, b; c"),
        ["CSV", "separated by '^'"],
        [{"id": "1", "note": "a, b; c"}],
    ),
    (
        "quoted_sep.csv",
        lambda: lines('"sep=;"', "id;note", "1;a"),
        ["CSV", "separated by semicolons"],
        [{"id": "1", "note": "a"}],
    ),
    (
        "bars.csv",
        lambda: lines("id|note", "1|a, b; c", "2|d, e; f"),
        ["CSV", "separated by bars (|)"],
        [{"id": "1", "note": "a, b; c"}, {"id": "2", "note": "d, e; f"}],
    ),
    (
        "one.csv",
        lambda: lines("note", "a", '"b, c"'),
        ["CSV", "one column"],
        [{"note": "a"}, {"note": "b, c"}],
    ),
    (
        "bars.psv",
        lambda: lines("id|note", "1|a"),
        ["CSV", "separated by bars (|)"],
        [{"id": "1", "note": "a"}],
    ),
    (
        "commas.tsv",
        lambda: lines("id,note", "1,a"),
        ["TSV", "separated by commas"],
        [{"id": "1", "note": "a"}],
    ),
    (
        "trailing.csv",
        lambda: lines("id,note,,", "1,a,,", "2,b", "3,c,,,,"),
        ["CSV", "separated by commas"],
        [{"id": "1", "note": "a"}, {"id": "2", "note": "b"}, {"id": "3", "note": "c"}],
    ),
    (
        "remark.csv",
        lambda: lines("id,note,,", "1,a,,see 2", "2,b,,"),
        ["CSV", "separated by commas"],
        [{"id": "1", "note": "a", "column 3": None, "column 4": "see 2"}, {"id": "2", "note": "b"}],
    ),
    (
        "escaped.csv",
        lambda: lines("id,note", '1,"He said \\"better\\", and left."', "2,\\N"),
        ["CSV", "separated by commas", 'quotes in cells written as \\"'],
        [{"id": "1", "note": 'He said "better", and left.'}, {"id": "2", "note": None}],
    ),
    (
        "both.csv",  # also a CSV if backslashes mean nothing, and that is what most programs write
        lambda: lines("id,note", '1,"5\\"", x"', "2,\\N"),
        ["CSV", "separated by commas"],
        [{"id": "1", "note": '5\\", x'}, {"id": "2", "note": None}],
    ),
    (
        "unicode.txt",
        lambda: "id\tnote\r\n1\tFièvre\r\n2\tb\r\n".encode("utf-16"),
        ["TSV", "separated by tabs"],
        [{"id": "1", "note": "Fièvre"}, {"id": "2", "note": "b"}],
    ),
    ("commas.txt", lambda: lines(*map(",".join, WORDS)), ["CSV", "separated by commas"], BY_NAME),
    ("semi.txt", lambda: lines(*map(";".join, WORDS)), ["CSV", "separated by semicolons"], BY_NAME),
    ("bars.txt", lambda: lines(*map("|".join, WORDS)), ["CSV", "separated by bars (|)"], BY_NAME),
    ("a.jsonl", lambda: lines(*map(json.dumps, ROWS)), ["JSON lines"]),
    ("a.ndjson", lambda: lines(*map(json.dumps, ROWS)), ["JSON lines"]),
    ("lines.json", lambda: lines(*map(json.dumps, ROWS)), ["JSON", "one object per line"]),
    (
        "blocks.json",
        lambda: b"\n".join(as_json(row, indent=2) for row in ROWS),
        ["JSON", "one object after another"],
    ),
    (
        "blocks.jsonl",
        lambda: b"\n".join(as_json(row, indent=2) for row in ROWS),
        ["JSON", "one object after another"],
    ),
    ("list.json", lambda: as_json(ROWS), ["JSON", "a list of objects"]),
    ("list.jsonl", lambda: as_json(ROWS), ["JSON", "a list of objects"]),
    ("indented.jsonl", lambda: as_json(ROWS, indent=1), ["JSON", "a list of objects"]),
    ("list.csv", lambda: as_json(ROWS), ["JSON", "a list of objects"]),
    ("lines.csv", lambda: lines(*map(json.dumps, ROWS)), ["JSON", "one object per line"]),
    ("lines.txt", lambda: lines(*map(json.dumps, ROWS)), ["JSON", "one object per line"]),
    (
        "wrapped.json",
        lambda: as_json({"version": "1.0", "data": ROWS, "n": 3}),
        ["JSON", "a list of objects", "under data"],
    ),
    (
        "described.json",
        lambda: as_json(
            {"about": "A long description of what these records are and where from.", "data": ROWS}
        ),
        ["JSON", "a list of objects", "under data"],
    ),
    (
        "deeper.json",
        lambda: as_json({"status": 200, "result": {"hits": ROWS, "total": 3}}),
        ["JSON", "a list of objects", "under result.hits"],
    ),
    (
        "objects.json",
        lambda: as_json({row["id"]: {k: v for k, v in row.items() if k != "id"} for row in ROWS}),
        ["JSON", "an object of objects, whose keys are the ids"],
    ),
    (
        "under.json",
        lambda: as_json({"v": 1, "notes": {row["id"]: row for row in ROWS}}),
        ["JSON", "an object of objects, whose keys are the ids", "under notes"],
    ),
    (
        "columns.json",  # DataFrame.to_json(path)
        lambda: as_json(BY_INDEX),
        ["JSON", "an object of columns (pandas' columns)"],
    ),
    (
        "index.json",  # orient="index": the keys are places, not ids
        lambda: as_json({str(n): row for n, row in enumerate(ROWS)}),
        ["JSON", "an object of objects, whose keys are row numbers (pandas' index)"],
    ),
    (
        "index_no_id.json",
        lambda: as_json({str(n): {"note": f"Note {n}."} for n in range(3)}),
        ["JSON", "an object of objects, whose keys are row numbers (pandas' index)"],
        [{"note": f"Note {n}."} for n in range(3)],
    ),
    (
        "split.json",  # orient="split"
        lambda: as_json({"columns": list(COLUMNS), "index": [0, 1, 2], "data": CELLS[1:]}),
        ["JSON", "rows in lists, beside the names of the columns (pandas' split)"],
    ),
    (
        "split_ids.json",
        lambda: as_json({"columns": ["note"], "index": ["x", "y"], "data": [["a"], ["b"]]}),
        ["JSON", "rows in lists, beside the names of the columns (pandas' split)"],
        [{"index": "x", "note": "a"}, {"index": "y", "note": "b"}],
    ),
    (
        "table.json",  # orient="table"
        lambda: as_json(
            {
                "schema": {
                    "fields": [{"name": "index", "type": "integer"}],
                    "primaryKey": ["index"],
                    "pandas_version": "1.4.0",
                },
                "data": [{"index": n, **row} for n, row in enumerate(ROWS)],
            }
        ),
        ["JSON", "a list of objects", "under data"],
        [{"index": n, **row} for n, row in enumerate(ROWS)],
    ),
    ("lists.json", lambda: as_json(COLUMNS), ["JSON", "an object of lists, one per column"]),
    (
        "record.json",
        lambda: as_json(ROWS[0]),
        ["JSON", "one object, a single record"],
        [ROWS[0]],
    ),
    (
        "annotated.json",
        lambda: as_json(ROWS[0] | {"note": "word " * 9, "marks": [{"start": 3}]}),
        ["JSON", "one object, a single record"],
        [ROWS[0] | {"note": "word " * 9, "marks": [{"start": 3}]}],
    ),
    (
        "nan.json",
        lambda: b'[{"id": 1, "score": NaN, "low": -Infinity, "high": Infinity}]',
        ["JSON", "a list of objects"],
        [{"id": 1, "score": None, "low": None, "high": None}],
    ),
    (
        "nan.jsonl",
        lambda: b'{"id": 1, "score": NaN}\n',
        ["JSON lines"],
        [{"id": 1, "score": None}],
    ),
    ("a.parquet", lambda: parquet(COLUMNS), ["Parquet"]),
    ("parquet.csv", lambda: parquet(COLUMNS), ["Parquet"]),
    ("a.xlsx", lambda: workbook({"Notes": CELLS}), ["a spreadsheet", "sheet 'Notes'"]),
    ("a.XLSX.gz", lambda: gzip.compress(workbook({"x": CELLS})), ["a spreadsheet", "sheet 'x'"]),
    ("xlsx.csv", lambda: workbook({"Notes": CELLS}), ["a spreadsheet", "sheet 'Notes'"]),
    (
        "empty_sheets.xlsx",
        lambda: workbook({"Sheet1": [], "Sheet2": CELLS, "Sheet3": []}),
        ["a spreadsheet", "sheet 'Sheet2'"],
    ),
]


@pytest.mark.parametrize("case", TABLES, ids=lambda case: str(case[0]))
def test_every_shape_yields_its_rows(case: Case, tmp_path: Path) -> None:
    name, content, shape, *others = case
    path = tmp_path / name
    path.write_bytes(content())
    rows, errors, found = read_shape(path)
    assert rows == (others[0] if others else ROWS)
    assert (errors, found) == ([], shape)


# Refusals

OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 99
ODS = b"application/vnd.oasis.opendocument.spreadsheet"
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
SEVERAL = {"train": ROWS, "test": ROWS[:1]}
NAMED: list[tuple[str, Callable[[], bytes], str]] = [
    (
        "texts.json",
        lambda: b'["one", "two"]',
        "texts.json is a list of texts; records are read fro",
    ),
    (
        "lists.json",
        lambda: b'[["a", 1], ["b", 2]]',
        "lists.json is a list of lists; records are re",
    ),
    ("numbers.json", lambda: b"[1, 2]", "numbers.json is a list of numbers; records are read from"),
    (
        "empty.json",
        lambda: b"[]",
        "empty.json is an empty list and contains no record; is it the r",
    ),
    (
        "none.json",
        lambda: b"{}",
        "none.json is an empty object and contains no record; is it the ri",
    ),
    ("blank.json", lambda: b" ", "blank.json is an empty file and contains no record; is it the r"),
    (
        "printed.json",
        lambda: str(ROWS).encode(),
        "printed.json:1: not valid JSON near here; Python prints single quotes, but JSON has doub",
    ),
    (
        "texts_by_id.json",
        lambda: as_json({f"n{n}": f"Note {n}." for n in range(50)}),
        'texts_by_id.json is an object of 50 texts, and each has to be {"id": …, "text": …};',
    ),
    (
        "sorted.json",
        lambda: as_json({"data": [["a"]], "columns": ["note"]}),
        "sorted.json: 'columns' must come before 'data'; save it with orient=\"records\"",
    ),
    (
        "text.json",
        lambda: b'"text"',
        "text.json is neither a list nor an object; records are read ",
    ),
    ("nulls.json", lambda: b"[null]", "nulls.json is a list of nulls; records are read"),
    ("csv.json", lambda: IN_CSV.encode(), "csv.json is neither a list nor an object; records ar"),
    (
        "data.json",
        lambda: b'{"data": [], "n": 0}',
        "data.json is an object of data (an empty list), n (a number); records are read from",
    ),
    (
        "several.json",
        lambda: as_json(SEVERAL),
        "several.json has several lists of records: train, test; choose one with --records=train",
    ),
    (
        "unlike.json",
        lambda: as_json({"patient": {"name": "x"}, "visit": {"day": 3}}),
        "unlike.json is an object of patient (an object), visit (an object); records are read fro",
    ),
    (
        "uneven.json",
        lambda: as_json({"note": ["a", "b"], "summary": ["a"]}),
        "uneven.json: 'note' has 2 cells and 'summary' has 1; the lists of an object of lists are",
    ),
    (
        "quote.tsv",
        lambda: lines("id\tnote", '1\t"Better" he said', "2\tb"),
        "quote.tsv:2: the quoted cell that opens here is not closed properly",
    ),
    (
        "sheets.xlsx",
        lambda: workbook({"2019": CELLS, "2020": CELLS}),
        "sheets.xlsx has several sheets: '2019', '2020'; choose one with --sheet='2019'",
    ),
    ("blank.xlsx", lambda: workbook({"a": []}), "blank.xlsx has no sheet with anything in it"),
    ("cut.xlsx", lambda: workbook({"a": CELLS})[:-99], "cut.xlsx: damaged or not a spreadsheet"),
    ("old.xls", lambda: OLE, "old.xls is an old or password-protected Office file; save it as .xl"),
    ("locked.xlsx", lambda: OLE, "locked.xlsx is an old or password-protected Office file; save "),
    ("a.xls", lambda: b"x", "a.xls is an old Excel workbook (.xls); save it as .xlsx or .csv"),
    (
        "a.ods",
        lambda: zipped(mimetype=ODS),
        "a.ods is an OpenDocument spreadsheet (.ods); save it ",
    ),
    (
        "ods.csv",
        lambda: zipped(mimetype=ODS),
        "ods.csv is an OpenDocument spreadsheet (.ods); save",
    ),
    (
        "a.docx",
        lambda: zipped(**{"word/document.xml": b""}),
        "a.docx is a Word document (.docx); s",
    ),
    (
        "docx.txt",
        lambda: zipped(**{"word/document.xml": b""}),
        "docx.txt is a Word document (.docx",
    ),
    ("a.csv.zip", lambda: zipped(a=b"1"), "a.csv.zip is a zip archive; unpack it and pass the fi"),
    ("zip.csv", lambda: zipped(a=b"1"), "zip.csv is a zip archive; unpack it and pass the file or"),
    ("a.pdf", lambda: b"%PDF-1.7", "a.pdf is a PDF document; extract its text, for instance with"),
    ("pdf.txt", lambda: b"%PDF-1.7", "pdf.txt is a PDF document; extract its text"),
    (
        "a.pkl",
        lambda: pickle.dumps(ROWS),
        "a.pkl is a Python pickle, which can run any program whe",
    ),
    ("a.arrow", lambda: b"ARROW1\0\0", "a.arrow is an Arrow or Feather file; load it in Python"),
    (
        "a.feather",
        lambda: b"ARROW1\0\0",
        "a.feather is an Arrow or Feather file; load it in Python",
    ),
    ("a.sav", lambda: b"$FL2@(#) SPSS", "a.sav is an SPSS file (.sav); open it in the program tha"),
    ("a.dta", lambda: b"x", "a.dta is a Stata file (.dta); open it in the program that wrote it"),
    ("a.sas7bdat", lambda: b"x", "a.sas7bdat is a SAS file; open it in the program that wrote it"),
    ("a.rds", lambda: b"x", "a.rds is an R data file; save it in R with write.csv"),
    ("a.db", lambda: b"SQLite format 3\0", "a.db is a SQLite database; export the table as .csv"),
    ("db.csv", lambda: b"SQLite format 3\0", "db.csv is a SQLite database; export the table as .c"),
    (
        "a.csv.bz2",
        lambda: b"BZh91",
        "a.csv.bz2 is compressed with bzip2; run bunzip2 on it, or com",
    ),
    ("a.tar.gz", lambda: gzip.compress(b"x"), "a.tar.gz is a tar archive; unpack it and pass the "),
    ("twice.csv.gz", lambda: gzip.compress(gzip.compress(b"x")), "twice.csv.gz is compressed with"),
    (
        "page.csv",
        lambda: b"<!DOCTYPE html><html>",
        "page.csv is a web page (HTML); it may be a logi",
    ),
    ("page.json", lambda: b" <html>", "page.json is a web page (HTML); it may be a login or error"),
    (
        "lfs.csv",
        lambda: LFS,
        "lfs.csv is a Git LFS pointer, not the data; run git lfs pull to get ",
    ),
    ("a.md", lambda: b"# Notes", "a.md is Markdown; rename it to .txt if it is the text to train"),
    ("scan.png", lambda: b"\x89PNG\r\n", "scan.png is an image; only text can be read"),
    (
        "a.dat",
        lambda: b"text",
        "a.dat has the ending .dat, and its content is not in a known format; ",
    ),
    (
        "notes",
        lambda: b"text",
        "notes has no ending, and its content is not in a known format; supported ",
    ),
]


def zipped(**parts: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return file.getvalue()


@pytest.mark.parametrize("case", NAMED, ids=lambda case: str(case[0]))
def test_what_cannot_be_read_is_named(
    case: tuple[str, Callable[[], bytes], str], tmp_path: Path
) -> None:
    name, content, start = case
    path = tmp_path / name
    path.write_bytes(content())
    said = refusal(path)
    assert said.startswith(start)
    assert "\n" not in said and "PubMedQA" not in said and "Hub" not in said


def test_the_databases_and_pickles_of_this_python_are_recognised(tmp_path: Path) -> None:
    """The bytes above are what the programs write."""
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        (tmp_path / "a.csv").write_bytes(pickle.dumps(ROWS, protocol))
        assert "a.csv is a Python pickle" in refusal(tmp_path / "a.csv")
    with sqlite3.connect(tmp_path / "b.csv") as database:
        database.execute("create table notes (note text)")
    assert "b.csv is a SQLite database" in refusal(tmp_path / "b.csv")


def test_a_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.csv")
    said = "a.csv is not a regular file, and sources are read several times; save it"
    assert refusal(tmp_path / "a.csv") == said


def test_a_damaged_workbook_is_refused_in_one_line(tmp_path: Path) -> None:
    whole, path = workbook({"a": CELLS}), tmp_path / "a.xlsx"
    for start in range(0, len(whole), 97):
        for damaged in (whole[:start], whole[start:], whole[:start] + whole[start + 50 :]):
            path.write_bytes(damaged)
            try:
                found = read(path)
            except DataError as error:
                assert str(error).isprintable()
            else:
                assert found == (ROWS, [])


# Options


def test_unquoted_cells_may_begin_with_a_quote(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_bytes(lines("id\tnote", '1\t"Better" he said', "2\t 5 \\"))
    assert "pass --quoting=none if quotes are ordinary characters here" in refusal(path)
    rows, errors, shape = read_shape(path, quoting="none")
    assert rows == [{"id": "1", "note": '"Better" he said'}, {"id": "2", "note": " 5 \\"}]
    assert (errors, shape[-1]) == ([], "quotes are ordinary characters")


def test_backslashes_that_the_first_rows_do_not_show_are_proposed(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(lines("id,note", *(f'{n},"a"' for n in range(30)), '30,"a \\"b\\" c"'))
    assert refusal(path).endswith(', or --quoting=backslash if they are written as \\"')
    assert read(path, quoting="backslash")[0][-1] == {"id": "30", "note": 'a "b" c'}
    path.write_bytes(lines("id,note", '1,"C:\\"', '2,"a ""b"" \\"'))  # not escapes
    assert [row["note"] for row in read(path)[0]] == ["C:\\", 'a "b" \\']


def test_a_sheet_is_chosen_by_name(tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    path.write_bytes(workbook({"2019": CELLS[:2], "2020": CELLS}))
    assert read(path, sheet="2020") == (ROWS, [])
    said = "no sheet '2021' in a.xlsx; its sheets are '2019', '2020'"
    assert refusal(path, sheet="2021") == said


def test_cells_of_a_sheet_become_the_texts_of_a_csv(tmp_path: Path) -> None:
    date, moment = datetime.date(2020, 1, 2), datetime.datetime(2020, 1, 2, 3, 4, 5)
    cells = [1, 2.5, 3.0, 0.1 + 0.2, True, date, moment, datetime.time(6, 7), "x", None, "#N/A"]
    names = [f"c{n}" for n in range(len(cells))]
    path = tmp_path / "a.xlsx"
    path.write_bytes(workbook({"a": [[], list(names), [], cells, ["1"], [None, None]]}))
    rows, errors = read(path)
    wanted = "1 2.5 3 0.3 TRUE 2020-01-02 2020-01-02|03:04:05 06:07:00 x - #N/A".split()
    texts = [None if text == "-" else text.replace("|", " ") for text in wanted]
    assert rows == [
        dict(zip(names, texts, strict=True)),
        dict(zip(names, ["1"] + [None] * 10, strict=True)),
    ]


def test_numbers_have_the_digits_that_excel_shows() -> None:
    numbers = [0.1 + 0.2, 1e20, 123456789.125, -0.5]
    assert list(map(spreadsheet._text, numbers)) == ["0.3", "1e+20", "123456789.125", "-0.5"]


def test_formulas_have_their_stored_values(tmp_path: Path) -> None:
    """openpyxl stores none, so the file is edited: B2 has a value, B3 an empty text, B4 nothing."""
    path = tmp_path / "a.xlsx"
    rows: list[list[object]] = [["id", "note"], [1, "=A2"], [2, "=A3"], [3, "=A4"]]
    source = zipfile.ZipFile(io.BytesIO(workbook({"a": rows})))
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in source.namelist():
            text = source.read(name)
            if name == "xl/worksheets/sheet1.xml":
                assert text.count(b"</f><v></v>") == 3
                text = text.replace(b"<f>A2</f><v></v>", b"<f>A2</f><v>7</v>")
                text = text.replace(b'<c r="B3">', b'<c r="B3" t="str">')
            archive.writestr(name, text)
    path.write_bytes(file.getvalue())
    found, errors, shape = read_shape(path)
    assert [row["note"] for row in found] == ["7", None, None]
    assert shape[-1].startswith("1 formulas without a stored value")


def test_a_sheet_with_wrong_dimensions_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    source = zipfile.ZipFile(io.BytesIO(workbook({"a": CELLS})))
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in source.namelist():
            archive.writestr(name, source.read(name).replace(b'ref="A1:C4"', b'ref="A1"'))
    path.write_bytes(file.getvalue())
    assert read(path) == (ROWS, [])


def test_the_key_of_the_records_is_chosen(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(as_json({"n": 2, "sets": {"train.1": ROWS, "test": ROWS[:1]}, "by": SEVERAL}))
    assert read(path, records="sets.test") == (ROWS[:1], [])
    assert read(path, records="sets.train.1") == (ROWS, [])
    assert "several.json" not in refusal(path, records="by")
    assert refusal(path, records="by").startswith(
        "a.json has several lists of records: by.train, by.test; choose one with --records=by.trai"
    )
    said = "no key 'dev' in a.json: sets; its keys are train.1, test"
    assert refusal(path, records="sets.dev") == said
    assert refusal(path, records="n.x") == "--records=n.x: a.json: n is not an object"
    assert refusal(path, records="n").startswith("a.json: n is neither a list nor an object")
    [row], _ = read(path, records="")
    assert row["n"] == 2  # the whole file as one record


def test_columns_of_a_frame_are_held_in_memory_only_up_to_a_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_values, "LARGEST_COLUMNS_CHARS", 100)
    for name, value in (("a.json", BY_INDEX), ("b.json", COLUMNS)):
        (tmp_path / name).write_bytes(as_json(value))
        said = f"{name} has more than 100 characters, and columns are held in memory; save it row b"
        assert refusal(tmp_path / name).startswith(said)


def test_wrapped_records_and_what_is_skipped_are_streamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_text, "SKIPPED_CHARS", 1 << 18)
    path = tmp_path / "a.json"
    row = json.dumps({"id": 1, "note": "x" * 5000})
    many = ",\n".join([row] * 1500)  # 7.5 MB
    path.write_text(
        f'{{"index": [["{"x" * 99}", {many}]], "data": [{many}], "n": {{"a": [[{many}]]}}}}'
    )

    def count() -> None:
        rows = iter_rows(path, Reading(refuse))
        assert sum(1 for _ in rows) == 1500

    assert peak_bytes(count) < 6 << 20 < path.stat().st_size / 3
