"""Folders: what is read, what is left out and said, and what is refused."""

import json
from pathlib import Path

import pytest

from clingpt.base.errors import DataError
from clingpt.data.columns import Columns
from clingpt.data.readers.folders import find_files
from clingpt.data.sources import Source, check_source, is_on_hub, refuse, splits_by_file
from tests.helpers.rows import read, read_shape, refusal

NOTE = "A note about a cough.\n"
TABLE = "id,note\n1,a\n"


def make(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


CLONE = {
    "LICENSE": "MIT",
    "LICENSE.txt": "MIT",
    "CITATION.cff": "cff-version: 1.2.0",
    "README.md": "# Notes",
    "NOTICE.txt": "Some notice.",
    ".git/config.txt": "[core]",
    "requirements.txt": "torch",
    "load.py": "import os",
    "data/train.csv": TABLE,
}


def test_a_cloned_repository_is_its_table(tmp_path: Path) -> None:
    rows, errors, shape = read_shape(make(tmp_path, CLONE))
    assert (rows, errors) == ([{"id": "1", "note": "a"}], [])
    left_out = "left out: 1 .py, 1 CITATION, 2 LICENSE, 1 NOTICE, 1 README, 1 requirements"
    assert shape == ["1 file of CSV", "separated by commas", left_out]


def test_notices_beside_texts_are_not_records(tmp_path: Path) -> None:
    files = {"readme.TXT": "Read me.", "License.txt": "MIT", "n1.txt": NOTE, "é 2/n2.txt": NOTE}
    make(tmp_path, files | {"scan.pdf": "%PDF", "old.pdf": "%PDF", "3.4.Novak": "x"})
    rows, errors, shape = read_shape(tmp_path)
    assert [row["id"] for row in rows] == ["n1", "é 2/n2"]
    assert errors == []
    left_out = "left out: 2 .pdf, 1 License, 1 of other kinds, 1 readme"
    assert shape == ["2 files of plain text", left_out]


@pytest.mark.parametrize("ending", ["csv", "jsonl", "json", "xlsx", "parquet"])
def test_files_with_the_same_columns_are_one_source(tmp_path: Path, ending: str) -> None:
    pd = pytest.importorskip("pandas")
    for n in range(3):
        frame = pd.DataFrame({"id": [f"{n}a", f"{n}b"], "note": ["x", "y"]})
        path = tmp_path / f"part{n}.{ending}"
        if ending == "jsonl":
            frame.to_json(path, orient="records", lines=True)
        elif ending == "json":
            frame.to_json(path, orient="records")
        elif ending == "xlsx":
            frame.to_excel(path, index=False)
        else:
            write = frame.to_csv if ending == "csv" else frame.to_parquet
            write(path, index=False)
    rows, errors, shape = read_shape(tmp_path)
    assert [row["id"] for row in rows] == ["0a", "0b", "1a", "1b", "2a", "2b"]
    assert errors == [] and shape[0].startswith("3 files of ")
    assert len(shape) == len(set(shape))


def test_single_records_in_json_files_are_one_source(tmp_path: Path) -> None:
    for n in range(3):
        row = {"note": f"Note {n}.", "day": n} | ({"remark": "x"} if n else {})
        (tmp_path / f"{n}.json").write_text(json.dumps(row, indent=1))
    rows, errors, shape = read_shape(tmp_path)
    assert [row["note"] for row in rows] == ["Note 0.", "Note 1.", "Note 2."]
    assert (errors, shape) == ([], ["3 files of JSON", "one object, a single record"])


READS = "; supported formats are .csv, .tsv,"
REFUSED: list[tuple[dict[str, str], str]] = [
    ({}, f"x is an empty folder{READS}"),
    ({".hidden.txt": NOTE}, f"x is an empty folder{READS}"),
    (
        {"README.txt": "x", "LICENSE": "MIT"},
        f"x contains no readable file, only 1 LICENSE, 1 README{READS}",
    ),
    (
        {"a.pdf": "%PDF", "b.pdf": "%PDF", "README.md": "#"},
        "x contains no readable file, only 2 .pdf, 1 README; .pdf is a PDF document: extra",
    ),
    (
        {"data.arrow": "ARROW1", "state.json": "{}", "dataset_info.json": "{}"},
        "x contains no readable file, only 1 .arrow, 1 dataset_info, 1 state; .arrow is an",
    ),
    (
        {"n1.txt": NOTE, "n2.txt": NOTE, "extra.csv": TABLE, "README.txt": "x"},
        "x contains several kinds of files: 1 .csv, 2 .txt; pass --source=x/extra.csv, or move th"
        "e .txt files to a separate folder",
    ),
    (
        {"notes.csv": TABLE, "people.csv": "id,born\n1,1968\n"},
        "x/people.csv has other columns (born, id) than x/notes.csv (id, note); pass one of these",
    ),
    (
        {"a.jsonl": '{"note": "x"}\n', "b.jsonl": '{"drug": "y"}\n'},
        "x/b.jsonl has other columns (drug) than x/a.jsonl (note); pass one of these files as --s",
    ),
]


@pytest.mark.parametrize(("files", "said"), REFUSED)
def test_other_folders_are_refused(tmp_path: Path, files: dict[str, str], said: str) -> None:
    folder = make(tmp_path / "x", files)
    folder.mkdir(exist_ok=True)
    found = refusal(folder)
    assert found.startswith(said)
    assert "PubMedQA" not in found and "Hub" not in found


def test_a_folder_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="contains several kinds of files"):
        check_source(str(make(tmp_path, {"a.txt": NOTE, "b.csv": TABLE})))


def test_only_pubmedqas_own_copy_is_read_in_its_layout(tmp_path: Path) -> None:
    make(tmp_path, {"mine/data/train.parquet": "", "hub/pqa_labeled/train.parquet": ""})
    assert is_on_hub(str(tmp_path / "hub"))
    assert not is_on_hub(str(tmp_path / "mine"))
    assert find_files(tmp_path / "mine").files == [tmp_path / "mine/data/train.parquet"]


def test_damaged_texts_are_counted_and_the_others_read(tmp_path: Path) -> None:
    make(tmp_path, {"a.txt": NOTE, "b.txt": "%PDF-1.7"})
    (tmp_path / "c.txt").write_bytes(b"5 \xb5g")
    rows, errors = read(tmp_path)
    assert [row["id"] for row in rows] == ["a"]
    assert [error.rpartition("/")[2][:24] for error in errors] == [
        "b.txt is a PDF document;",
        "c.txt:1: not UTF-8 text;",
    ]


# Splits


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (["train.csv", "valid.csv", "test.csv"], ["test", "train", "val"]),
        (
            ["MTS-TrainingSet.csv", "MTS-TestSet-1.csv", "MTS-TestSet-2.csv"],
            ["test"] * 2 + ["train"],
        ),
        (
            ["train-00000-of-00002.csv", "train-00001-of-00002.csv", "dev.csv"],
            ["val", "train", "train"],
        ),
        (["train/a.csv", "test/a.csv"], ["test", "train"]),
        (["train.csv", "more.csv"], []),
        (["train-0.csv", "train-1.csv"], []),
        (["test_a.csv", "dev_a.csv"], []),
        (["test_2019.csv", "test_2020.csv"], []),  # laboratory tests
        (["contest.csv", "trainees.csv"], []),
    ],
)
def test_splits_may_be_in_the_names_of_files(
    tmp_path: Path, names: list[str], splits: list[str]
) -> None:
    make(tmp_path, {name: f"note\nNote of {name}.\n" for name in names})
    found = splits_by_file(str(tmp_path))
    assert list(found.values()) == splits
    source = Source(
        name=str(tmp_path), columns=Columns(input="note"), split_files=found, test_share=0
    )
    kinds = {"tr": "train", "te": "test", "va": "val", "de": "val"}
    for each in source.read(refuse):
        assert each.official == bool(splits)
        name = each.record.sections[0][1].removeprefix("Note of ").removeprefix("MTS-")
        assert not splits or each.split == kinds[name[:2].lower()]
