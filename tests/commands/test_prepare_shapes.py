"""prepare.py on files of many shapes: what was read is shown, in dry runs and in real ones."""

import json
from pathlib import Path

import pytest

from tests.helpers.preparing import cells, in_process, made_records, prepared

ROWS = [
    {"note_id": f"n{i}", "note": each["sections"][0][1], "summary": each["long_answer"]}
    for i, each in enumerate(made_records(60))
]
FLAGS = ("--task=summarize", "--val_share=0.2", "--test_share=0.2", "--show=0", "--workers=0")
COLUMNS = "'note_id' as id, 'note' as input, 'summary' as target"


def csv_text(rows: list[dict[str, str]], separator: str = ",") -> str:
    lines = [separator.join(rows[0]), *(separator.join(row.values()) for row in rows)]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("name", "text", "shape"),
    [
        ("a.csv", "sep=|\n" + csv_text(ROWS, "|"), "CSV, separated by bars (|)"),
        ("b.csv", csv_text(ROWS) + ",,\n", "CSV, separated by commas"),
        ("a.ndjson", "\n".join(map(json.dumps, ROWS)), "JSON lines"),
        ("a.json", json.dumps({"v": 1, "data": ROWS}), "JSON, a list of objects, under data"),
        (
            "b.json",
            json.dumps({key: {str(i): row[key] for i, row in enumerate(ROWS)} for key in ROWS[0]}),
            "JSON, an object of columns (pandas' columns)",
        ),
    ],
)
def test_the_shape_is_shown_by_both_runs(name: str, text: str, shape: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(text)
    flags = (f"--source={path}", f"--out={tmp_path / 'out'}", *FLAGS)
    said = f"Read {path} as {shape}.\nColumns of {path}: {COLUMNS}.\n"
    assert said in prepared(*flags, "--dry_run")
    printed = prepared(*flags)
    assert said in printed
    assert sum(int(row[0]) for row in cells(printed, "Records of").values()) == 60
    if name == "b.csv":
        assert cells(printed, "Dropped")["record"][-1] == "1"
        assert "b.csv:62: a row of" in printed


def test_a_spreadsheet_is_prepared_like_its_csv(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.active.title = "2020"
    for row in [list(ROWS[0]), *(list(row.values()) for row in ROWS)]:
        book.active.append(row)
    book.create_sheet("Remarks").append(["remark"])
    book.save(tmp_path / "a.xlsx")
    (tmp_path / "a.csv").write_text(csv_text(ROWS))
    flags = (f"--source={tmp_path / 'a.xlsx'}", f"--out={tmp_path / 'x'}", *FLAGS)
    done = in_process(*flags)
    said = "a.xlsx has several sheets: '2020', 'Remarks'; choose one with --sheet='2020'\n"
    assert done.returncode == 2 and done.stderr.endswith(said)
    printed = prepared(*flags, "--sheet=2020")
    assert "a.xlsx as a spreadsheet, sheet '2020'.\n" in printed
    prepared(f"--source={tmp_path / 'a.csv'}", f"--out={tmp_path / 'c'}", *FLAGS)
    for file in ("train.bin", "val.bin", "test.bin", "train.ids"):
        assert (tmp_path / "x" / file).read_bytes() == (tmp_path / "c" / file).read_bytes()


def test_the_names_of_files_are_the_splits(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    parts = {"train.csv": ROWS[:40], "valid.csv": ROWS[40:48], "test.csv": ROWS[48:]}
    for name, rows in parts.items():
        (folder / name).write_text(csv_text(rows))
    (folder / "README.md").write_text("# Notes")
    flags = (f"--source={folder}", *FLAGS, "--dry_run")
    printed = prepared(*flags)
    records = cells(printed, "Records of")
    assert [records[split][0] for split in ("train", "val", "test")] == ["40", "8", "12"]
    assert "as 3 files of CSV, separated by commas, left out: 1 README.\n" in printed
    assert "The splits are those in the files' names: train (1), val (1), test (1);" in printed
    printed = prepared(*flags, "--split=")
    assert "files' names" not in printed
    assert cells(printed, "Records of")["train"][0] != "40"


def test_a_flag_for_another_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(csv_text(ROWS[:30]))
    (tmp_path / "a.json").write_text(json.dumps({"data": ROWS[30:]}))
    for flag, file, usable in [
        ("--sheet=x", "a.csv", "a spreadsheet"),
        ("--records=data", "a.csv", "JSON"),
        ("--quoting=none", "a.json", "CSV and TSV"),
    ]:
        done = in_process(f"--source={tmp_path / file}", flag, *FLAGS, "--dry_run")
        assert done.returncode == 2
        name = flag.partition("=")[0]
        said = f"error: {name} is for {usable}, and {tmp_path / file} is not; omit it\n"
        assert done.stderr == said
    for flag in ("--sheet=x", "--records=data", "--quoting=none"):
        done = in_process("--source=synthetic", flag, "--dry_run")
        assert done.returncode == 2 and "synthetic is not; omit it" in done.stderr
    mix = [f"{tmp_path / 'a.csv'}=1", f"{tmp_path / 'a.json'}=1"]
    assert in_process("--mix", *mix, "--records=data", *FLAGS, "--dry_run").returncode == 0
