"""Where prepare.py reads and writes: odd places, and sources that change while they are read."""

import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import prepare
from clingpt.data.prepared import open_prepared
from tests.helpers.preparing import (
    GPT2,
    in_process,
    made_records,
    prepared,
    random_text,
    refused,
    write_lines,
)

SHARES = ("--val_share=0.2", "--test_share=0.2", "--workers=0", "--show=0")


def notes(folder: Path, n: int = 30) -> Path:
    folder.mkdir()
    for i in range(n):
        (folder / f"{i}.txt").write_text(random_text(random.Random(i)))
    return folder


@pytest.mark.parametrize("name", ["my dätä", "two\nlines", os.fsdecode(b"not \xff utf-8")])
def test_names_may_contain_anything(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    path = write_lines(tmp_path / name / f"{name}.jsonl", made_records(30))
    prepared(f"--source={path}", f"--out={tmp_path / name / 'out'}", *SHARES)
    assert open_prepared(tmp_path / name / "out", GPT2).record_ids("train")


def test_a_folder_inside_the_source_is_refused(tmp_path: Path) -> None:
    """The next run would take its files for records."""
    source = notes(tmp_path / "notes")
    (tmp_path / "link").symlink_to(source)
    for out in (source / "deep" / "out", tmp_path / "link" / "out"):
        done = in_process(f"--source={source}", f"--out={out}", "--task=text", *SHARES)
        assert done.returncode == 2
        said = f"error: --out={out} is inside the source {source}, so the next run would read it"
        assert done.stderr.startswith(said) and done.stderr.count("\n") == 1
    assert len(list(source.iterdir())) == 30


@pytest.mark.parametrize(
    ("out", "said"),
    [
        ("/", "/ is the root of a file system; choose another --out"),
        ("/proc/clingpt", "/proc/clingpt: No such file or directory; check the path"),
        ("/dev/null", "/dev/null is not a folder; choose another --out"),
    ],
)
def test_a_place_that_cannot_hold_a_folder_is_refused(out: str, said: str, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", made_records(5))
    assert refused(f"--source={path}", f"--out={out}", *SHARES) == said


def test_broken_links_and_pipes_in_a_folder_are_left_out_and_counted(tmp_path: Path) -> None:
    source = notes(tmp_path / "notes")
    (source / "self.txt").symlink_to("self.txt")
    (source / "gone.txt").symlink_to("nowhere.txt")
    (source / "loop").symlink_to(source)
    os.mkfifo(source / "pipe.txt")
    out = f"--out={tmp_path / 'out'}"
    printed = prepared(f"--source={source}", out, "--task=text", *SHARES)
    assert "30 files of plain text" in printed
    assert "left out: 3 broken links or pipes" in printed


def test_a_subfolder_that_cannot_be_read_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a part of the source would be missing without a word."""
    source, scandir = notes(tmp_path / "notes"), os.scandir
    (source / "locked").mkdir()

    def refusing(path: Any) -> Any:
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr("os.scandir", refusing)
    said = refused(f"--source={source}", f"--out={tmp_path / 'out'}", "--task=text", *SHARES)
    assert said == f"{source / 'locked'}: Permission denied; check its owner and permissions"


def add(path: Path) -> None:
    with path.open("a") as file:
        file.write(json.dumps({**made_records(31)[-1], "id": "late"}) + "\n")


CHANGES: dict[str, Callable[[Path], object]] = {
    "appended to": add,
    "replaced": lambda path: write_lines(path, made_records(30, seed=9)),
    "shortened": lambda path: write_lines(path, made_records(15)),
    "cut": lambda path: os.truncate(path, 5000),
    "removed": lambda path: path.unlink(),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("step", ["inspect_records", "write_examples"])
def test_a_source_that_changes_while_it_is_read_is_refused(
    change: str, step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Records that were not inspected for identifiers must not be written."""
    path = write_lines(tmp_path / "a.jsonl", made_records(30))
    plain = getattr(prepare, step)

    def meanwhile(*args: Any, **kwargs: Any) -> Any:
        CHANGES[change](path)
        return plain(*args, **kwargs)

    monkeypatch.setattr(prepare, step, meanwhile)
    said = refused(f"--source={path}", f"--out={tmp_path / 'out'}", *SHARES)
    if change == "removed":
        assert said == f"{path}: no such file or folder; check the path"
    else:
        assert said == (
            f"{path} was changed while it was read; run the same command again when no other "
            "program writes to it"
        )
    assert [each.name for each in tmp_path.iterdir() if each.name != "a.jsonl"] == []


def test_advice_is_given_once_for_a_file_of_a_folder(tmp_path: Path) -> None:
    source = tmp_path / "notes"
    source.mkdir()
    for i in range(5):
        text = random_text(random.Random(i))
        (source / f"{i}.rtf").write_text(f"{{\\rtf1 {text}" + "}" * (i < 4))
    said = refused(f"--source={source}", f"--out={tmp_path / 'out'}", "--task=text", *SHARES)
    assert said.count("--skip_bad") == 1


def test_a_source_of_the_same_name_never_replaces_prepared_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without --out, a/notes.jsonl and b/notes.jsonl would share data/notes."""
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        Path(name).mkdir()
        write_lines(Path(name) / "notes.jsonl", made_records(30))
    prepared("--source=a/notes.jsonl", *SHARES)
    prepared(f"--source={tmp_path}/a/notes.jsonl", "--seed=2", *SHARES)  # the same file
    before = Path("data/notes/manifest.json").read_bytes()
    said = (
        f"error: data/notes was prepared from {tmp_path}/a/notes.jsonl; choose another folder with "
        "--out, or pass --out=data/notes to replace it\n"
    )
    for flags in ((), ("--dry_run",)):
        done = in_process("--source=b/notes.jsonl", *flags, *SHARES)
        assert (done.returncode, done.stderr) == (2, said)
    assert Path("data/notes/manifest.json").read_bytes() == before
    prepared("--source=b/notes.jsonl", "--out=data/notes", *SHARES)


def test_mixes_of_different_sources_never_replace_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate("abc"):
        records = [record | {"id": f"{name}-{record['id']}"} for record in made_records(30, seed)]
        write_lines(Path(f"{name}.jsonl"), records)
    prepared("--mix", "a.jsonl=1", "b.jsonl=1", *SHARES)
    prepared("--mix", "a.jsonl=1", "b.jsonl=0.5", *SHARES)  # other weights of the same sources
    done = in_process("--mix", "a.jsonl=1", "c.jsonl=1", *SHARES)
    assert done.returncode == 2
    assert "data/mix was prepared from a.jsonl=1 b.jsonl=0.5; choose another" in done.stderr


def test_prepared_data_that_name_no_source_are_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_lines(Path("notes.jsonl"), made_records(30))
    prepared("--source=notes.jsonl", *SHARES)
    path = Path("data/notes/manifest.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"settings": {}}))
    done = in_process("--source=notes.jsonl", *SHARES)
    assert done.returncode == 2
    assert done.stderr.startswith("error: data/notes was prepared from another source; choose")
