"""A record is known by its own id or its text: not by its line, its file or its order."""

import contextlib
import csv
import json
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clingpt.base.errors import DataError
from clingpt.data.columns import Columns
from clingpt.data.pipeline import Item, count_records, read_sources
from clingpt.data.sources import Source, choose_columns, refuse
from tests.helpers.preparing import prepared, random_text, refused

Rows = Sequence[dict[str, Any]]
FORMATS = ("one_line.json", "indented.json", "lines.jsonl", "table.csv", "table.tsv", "a.parquet")


def write(path: Path, rows: Rows) -> Path:
    """Write rows in the format that a file's name says."""
    if path.name == "one_line.json":
        path.write_text(json.dumps(rows), encoding="utf-8")
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    elif path.suffix == ".jsonl":
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    elif path.suffix == ".parquet":
        import pyarrow as pa  # type: ignore[import-untyped]
        from pyarrow import parquet

        parquet.write_table(pa.Table.from_pylist(list(rows)), path)
    else:
        with path.open("w", encoding="utf-8", newline="") as file:
            table = csv.DictWriter(
                file, list(rows[0]), delimiter="\t" if path.suffix == ".tsv" else ","
            )
            table.writeheader()
            table.writerows(rows)
    return path


def items_of(*paths: Path, given: Columns | None = None) -> list[Item]:
    sources = []
    for path in paths:
        chosen = choose_columns(str(path), "text", given=given)
        columns = chosen[0] if chosen else None
        sources.append(Source(name=str(path), columns=columns, val_share=0.3, test_share=0.3))
    with contextlib.suppress(DataError):  # it refuses sources without training records
        count_records(sources, skip_bad=False)
    return list(read_sources(sources, refuse))


def splits_of(items: Sequence[Item]) -> Counter[tuple[str, str, str]]:
    """Count the texts of each split, with what decides every draw."""
    return Counter((item.record.context(), item.split, item.key) for item in items)


def notes(n: int = 60, **more: Any) -> list[dict[str, Any]]:
    rng = random.Random(n)
    return [{"note": random_text(rng, 4)} | {k: f(i) for k, f in more.items()} for i in range(n)]


texts = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=9)


@given(data=st.data(), rows=st.lists(st.tuples(texts, texts), min_size=1, max_size=12))
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@pytest.mark.parametrize("known_by", ["text", "id", "group"])
def test_order_format_and_file_name_change_no_split(
    known_by: str, data: st.DataObject, rows: list[tuple[str, str]], tmp_path: Path
) -> None:
    # Letters around the texts: columns of yes or numbers would be chosen as something else.
    table = [{known_by: f"x{name}y", "note": f"A note {text}."} for name, text in rows]
    table = [{"note": row["note"]} if known_by == "text" else row for row in table]
    table = list({json.dumps(row): row for row in table}.values())
    given = Columns(input="note", group="group") if known_by == "group" else Columns(input="note")
    wanted = splits_of(items_of(write(tmp_path / "one_line.json", table), given=given))
    assert len({(item, split) for item, split, _ in wanted}) <= len(table)
    name = data.draw(st.sampled_from(FORMATS))
    shuffled = data.draw(st.permutations(table))
    folder = tmp_path / data.draw(st.sampled_from(["a", "b"]))
    folder.mkdir(exist_ok=True)
    assert splits_of(items_of(write(folder / name, shuffled), given=given)) == wanted


@pytest.mark.parametrize("name", FORMATS)
def test_a_table_without_ids_is_split_alike_in_every_format(name: str, tmp_path: Path) -> None:
    """A JSON list on one line once gave each record the id `file:1`, and all one split."""
    items = items_of(write(tmp_path / name, notes()))
    assert Counter(item.split for item in items) == {"train": 22, "val": 18, "test": 20}
    assert not any(item.renamed for item in items)
    assert [item.record.id.partition("-")[0] for item in items] == [str(n + 1) for n in range(60)]


def test_sources_that_share_a_file_name_share_no_record(tmp_path: Path) -> None:
    for folder in "ab":
        (tmp_path / folder).mkdir()
    first = write(tmp_path / "a/one_line.json", notes(40))
    second = write(tmp_path / "b/one_line.json", notes(30))
    items = items_of(first, second)
    assert len({item.record.id for item in items}) == len(items) == 70
    apart = splits_of(items_of(first)) + splits_of(items_of(second))
    assert splits_of(items) == apart


def test_groups_are_never_divided_written_or_printed(tmp_path: Path) -> None:
    table = notes(300, note_id=lambda n: f"n{n}", patient_id=lambda n: f"Zq{n % 40}kx")
    table[7]["patient_id"] = table[8]["patient_id"] = ""
    flags = ("--task=text", "--val_share=0.2", "--test_share=0.2", "--allow_phi", "--show=1")
    source, out = write(tmp_path / "table.csv", table), tmp_path / "data"
    printed = prepared(f"--source={source}", f"--out={out}", *flags)
    patient_of = {f"n{n}": row["patient_id"] or f"n{n}" for n, row in enumerate(table)}
    sides = [
        {patient_of[name] for name in (out / f"{split}.ids").read_text().split()}
        for split in ("train", "val", "test")
    ]
    assert sum(map(len, sides)) == 42 == len(set.union(*sides)) and all(sides)
    assert "Records with the same 'patient_id' stay in one split; --group= splits" in printed
    assert f"2 records of {source} without 'patient_id'" in printed
    head = next(line for line in printed.splitlines() if line.startswith("split"))
    assert head.split()[:3] == ["split", "records", "groups"]
    written = b"".join(path.read_bytes() for path in out.iterdir())
    assert b"Zq" not in written and "Zq" not in printed
    dry = prepared(f"--source={source}", f"--out={tmp_path / 'no'}", "--dry_run", *flags)
    assert "patient_id  group" in dry and "stay in one split" in dry and "Zq" not in dry


def test_an_empty_group_flag_splits_record_by_record(tmp_path: Path) -> None:
    table = notes(80, patient_id=lambda n: f"p{n % 3}")
    path = write(tmp_path / "table.csv", table)
    assert {item.record.group for item in items_of(path)} == {"p0", "p1", "p2"}
    items = items_of(path, given=Columns(group=""))
    assert {item.record.group for item in items} == {None}
    without = write(tmp_path / "a.parquet", [{"note": row["note"]} for row in table])
    assert splits_of(items) == splits_of(items_of(without))


@pytest.mark.parametrize(
    ("spelt", "wanted"),
    [
        (("train", "validation", "test"), ("train", "val", "test")),
        (("Training", " dev", "TESTING"), ("train", "val", "test")),
        (("train", "valid", "test1"), ("train", "val", "test")),
        (("train", "val", "test_2"), ("train", "val", "test")),
        (("phase_I_train", "phase_I_valid", "TestSet"), ("train", "val", "test")),
    ],
)
def test_official_splits_are_taken_as_they_are(
    spelt: Sequence[str], wanted: Sequence[str], tmp_path: Path
) -> None:
    path = write(tmp_path / "table.csv", notes(30, split=lambda n: spelt[n % 3]))
    items = items_of(path)
    assert [item.split for item in items] == [wanted[n % 3] for n in range(30)]
    assert all(item.official for item in items)
    hashed = items_of(path, given=Columns(split=""))
    assert not any(item.official for item in hashed)


def test_unknown_splits_are_refused_by_name_and_count(tmp_path: Path) -> None:
    names = ["train", "phase_II", "", "train"]
    path = write(tmp_path / "table.csv", notes(40, split=lambda n: names[n % 4]))
    flags = (f"--source={path}", f"--out={tmp_path / 'data'}", "--task=text")
    error = refused(*flags)
    assert f"column 'split' of {path} has unknown splits: (empty) (10 records), " in error
    assert "phase_II (10 records); rename them to train (train training), val (" in error
    prepared(*flags, "--split=", "--val_share=0.3", "--test_share=0.3", "--dry_run")


def test_official_splits_that_divide_a_group_are_refused_with_counts(tmp_path: Path) -> None:
    names = ["train", "train", "val", "test"]
    table = notes(80, split=lambda n: names[n % 4], mrn=lambda n: f"Zq{n if n > 11 else n % 10}")
    path = write(tmp_path / "table.csv", table)
    flags = (f"--source={path}", f"--out={tmp_path / 'data'}", "--task=text", "--allow_phi")
    error = refused(*flags)
    assert "the official splits divide 2 groups of 'mrn', whose records are in " in error
    assert "train and test (1)" in error or "train and val (1)" in error
    assert "pass --split= to keep groups together, or --group= to keep the official" in error
    assert "Zq" not in error
    prepared(*flags, "--group=", "--show=0")


@pytest.mark.parametrize("dry", [True, False])
def test_an_empty_split_is_refused_with_the_reason(dry: bool, tmp_path: Path) -> None:
    path = write(tmp_path / "table.csv", notes(40, subject_id=lambda n: f"q{n % 2}"))
    flags = (f"--source={path}", f"--out={tmp_path / 'data'}", "--task=text", f"--dry_run={dry}")
    error = refused(*flags)
    assert (
        "the val split is empty: none of 40 records (in 2 groups, the largest of 20) fell into a "
        "share of 5.0%; pass a larger --val_share, --group= to divide groups, or --val_share=0 to "
        "do without it" in error
    )
    assert "the test split is empty" in error
    assert not (tmp_path / "data").exists()
    prepared(*flags, "--val_share=0", "--test_share=0")

    path = write(tmp_path / "lines.jsonl", notes(40, split=lambda n: "train" if n else "test"))
    error = refused(f"--source={path}", *flags[1:])
    assert (
        "the val split is empty: none of 40 records is in it by the source's own splits; pass "
        "--split= to split by a hash, or --val_share=0 to do without it" in error
    )


def test_a_split_far_from_its_share_is_noted_with_the_reason(tmp_path: Path) -> None:
    table = notes(600, patient_id=lambda n: f"c{n % 4}")
    path = write(tmp_path / "table.csv", table)
    shares = ("--val_share=0.3", "--test_share=0.4")
    flags = (f"--source={path}", f"--out={tmp_path / 'data'}", "--task=text", "--dry_run", *shares)
    note = "split has 50.0% of 600 records (in 4 groups, the largest of 150) instead of 30.0%"
    assert note in prepared(*flags)
    assert "and not 30.0%" not in prepared(*flags, "--group=")


def test_a_source_without_training_records_is_refused_with_the_reason(tmp_path: Path) -> None:
    flags = (f"--out={tmp_path / 'data'}", "--task=text", "--dry_run", "--val_share=0.5")
    held_out = notes(30, split=lambda n: "dev" if n % 3 else "test")
    error = refused(f"--source={write(tmp_path / 'table.csv', held_out)}", *flags)
    assert "no record to train on; the official splits have 20 in val and 10 in test; " in error
    one_patient = write(tmp_path / "lines.jsonl", notes(30, mrn=lambda n: "a0"))
    error = refused(f"--source={one_patient}", *flags)
    assert "a hash put 30 in val and 0 in test; pass smaller shares, or --group= to" in error
