"""The prepared folder is written completely or not at all, and any change to it is noticed."""

import errno
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from clingpt.base.errors import DataError
from clingpt.data import prepared
from clingpt.data.prepared import (
    FILES,
    FORMAT,
    INDEX_COLUMNS,
    MANIFEST,
    FolderWriter,
    open_prepared,
)
from clingpt.text.records import Record, make_record
from clingpt.text.tasks import TASKS, Example, make_example, target_text, text_windows
from clingpt.text.tokenizer import EOT_TEXT, Tokenizer
from tests.helpers.folders import add_record

ROOT = Path(__file__).parents[2]
GPT2 = Tokenizer.load()
SETTINGS = {"source": "some.json", "tasks": ["answer"]}


def record(n: int) -> Record:
    return make_record(
        record_id=f"case {n} ±",
        question=f"Does drug {n} help?",
        sections=[("AIM", f"We asked {n} adults."), ("RESULTS", f"{n}\u2009µg helped (β > {n}).")],
        long_answer=f"Drug {n} helped.",
        decision=("yes", "no", "maybe")[n % 3],
    )


def examples(each: Record) -> list[tuple[str, Example]]:
    made = [(task, make_example(task, each, GPT2, budget=512)) for task in ("answer", "document")]
    return made + [("text", window) for window in text_windows(each, GPT2, budget=16)]


def write(folder: Path, numbers: range = range(9), *, finish: bool = True) -> Path:
    """Split three records: two for training, the third for test, none for validation."""
    with FolderWriter(folder, GPT2) as writer:
        for n in numbers:
            add_record(writer, "test" if n % 3 == 2 else "train", record(n), examples(record(n)))
        if finish:
            writer.finish(SETTINGS)
    return folder


def contents(folder: Path) -> dict[str, str]:
    """Return the names in a folder and the hashes of their contents."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.iterdir())
    }


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# Round trip


def test_a_folder_survives_a_round_trip_to_disk(tmp_path: Path) -> None:
    data = open_prepared(write(tmp_path / "data"), GPT2)
    for name, numbers in (("train", [0, 1, 3, 4, 6, 7]), ("val", []), ("test", [2, 5, 8])):
        split = data.split(name)
        wanted = [(n, *made) for n in numbers for made in examples(record(n))]
        assert split.index.shape == (len(wanted), len(INDEX_COLUMNS))
        end_before = 0
        for row, (n, task, example) in zip(split.index.tolist(), wanted, strict=True):
            start, first_target, end, task_number, record_number = row
            assert (start, TASKS[task_number]) == (end_before, task)
            assert numbers[record_number] == n
            assert split.tokens[start:first_target].tolist() == example.prompt_ids
            assert split.tokens[first_target:end].tolist() == example.target_ids
            if task != "text":
                said = GPT2.decode(split.tokens[first_target:end].tolist())
                assert said == target_text(task, record(n)) + EOT_TEXT
            end_before = end
        assert len(split.tokens) == end_before
        assert split.lengths.sum() == end_before
        assert data.record_ids(name) == [record(n).id for n in numbers]
        counts = data.manifest["counts"][name]
        assert (counts["records"], counts["tokens"]) == (len(numbers), end_before)
        assert sum(counts["examples"].values()) == len(wanted)
        if name != "train":
            assert list(data.records(name)) == [record(n) for n in numbers]
    assert data.manifest["settings"] == SETTINGS
    assert Tokenizer.load(data.folder).fingerprint == data.manifest["tokenizer"]
    tokenizer_files = {"vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json"}
    assert set(names(data.folder)) == {MANIFEST, *FILES, *tokenizer_files}
    assert data.manifest["files"].keys() == {*FILES, *tokenizer_files}


def test_nanogpt_reads_the_tokens(tmp_path: Path) -> None:
    folder = write(tmp_path / "data")
    tokens = np.memmap(folder / "train.bin", dtype=np.uint16, mode="r")
    assert len(tokens) == open_prepared(folder, GPT2).manifest["counts"]["train"]["tokens"]
    text = GPT2.decode(tokens.astype(np.int64).tolist())
    assert text.startswith("Context:\nAIM: We asked 0 adults.\nRESULTS: 0 µg helped (β > 0).\n")


def test_a_token_beyond_uint16_raises_instead_of_wrapping(tmp_path: Path) -> None:
    with pytest.raises(OverflowError), FolderWriter(tmp_path / "data", GPT2) as writer:
        example = Example(prompt_ids=[1], target_ids=[1 << 16], trimmed_tokens=0)
        add_record(writer, "train", record(1), [("text", example)])
    assert names(tmp_path) == []


def test_a_dry_writer_counts_but_keeps_no_text(tmp_path: Path) -> None:
    """Whatever moment a dry run is killed in, it leaves no record's text."""
    with FolderWriter(tmp_path / "data", GPT2, dry=True) as writer:
        for n in range(9):
            add_record(writer, "test", record(n), examples(record(n)))
        for file in writer.files.values():
            file.flush()
        assert all(path.stat().st_size == 0 for path in writer.partial.iterdir())
        assert writer.counts()["test"]["records"] == 9 and writer.n_tokens["test"] > 100
    assert names(tmp_path) == []


def test_the_fingerprint_depends_only_on_the_data(tmp_path: Path, small: Path) -> None:
    one = open_prepared(small, GPT2)
    two = open_prepared(write(tmp_path / "deep" / "two", range(3)), GPT2)
    other = open_prepared(write(tmp_path / "other", range(1, 4)), GPT2)
    moved = open_prepared(shutil.copytree(one.folder, tmp_path / "moved"), GPT2)
    assert one.fingerprint == two.fingerprint == moved.fingerprint != other.fingerprint
    assert re.fullmatch("[0-9a-f]{64}", one.fingerprint)
    assert contents(one.folder) == contents(two.folder)


# Atomicity


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("small") / "data", range(3))


@pytest.fixture
def old(tmp_path: Path, small: Path) -> Path:
    """A folder that exists already and must not lose anything."""
    return shutil.copytree(small, tmp_path / "data")


def test_a_new_folder_replaces_the_old_one(old: Path) -> None:
    before = contents(old)
    write(old)
    assert contents(old) != before
    assert names(old.parent) == ["data"]
    assert len(open_prepared(old, GPT2).record_ids("train")) == 6


def test_an_unfinished_folder_is_removed(tmp_path: Path) -> None:
    write(tmp_path / "data", finish=False)
    assert names(tmp_path) == []


FAILURES = [KeyboardInterrupt(), DataError("a bad record"), OSError(errno.ENOSPC, "No space left")]


@pytest.mark.parametrize("failure", FAILURES, ids=repr)
def test_a_failure_midway_leaves_the_old_folder(old: Path, failure: BaseException) -> None:
    before = contents(old)
    with pytest.raises(type(failure)), FolderWriter(old, GPT2) as writer:
        add_record(writer, "train", record(1), examples(record(1)))
        assert len(names(old.parent)) == 2
        raise failure
    assert contents(old) == before
    assert names(old.parent) == ["data"]


def test_a_failure_at_the_start_leaves_the_old_folder(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(old)
    monkeypatch.setattr(prepared, "FILES", {"test.bin", "none/train.bin"})
    with pytest.raises(FileNotFoundError):
        write(old)
    assert contents(old) == before
    assert names(old.parent) == ["data"]


@pytest.mark.parametrize("function", ["Tokenizer.save", "prepared.file_entry", "prepared.sync"])
def test_a_failure_at_the_end_leaves_the_old_folder(
    old: Path, function: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    before = contents(old)
    where = {"Tokenizer": Tokenizer, "prepared": prepared}
    module, name = function.split(".")
    monkeypatch.setattr(where[module], name, fail)
    with pytest.raises(OSError, match="Input/output error"):
        write(old)
    assert contents(old) == before
    assert names(old.parent) == ["data"]


def test_a_folder_that_cannot_be_moved_is_kept(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if --out is a mount point, or the new folder cannot be moved into place."""
    before = contents(old)
    rename = Path.rename
    for stuck in (old, old.with_name(".data.partial")):

        def fail(path: Path, target: Path, stuck: Path = stuck) -> Path:
            if path == stuck:
                raise OSError(errno.EBUSY, "Device or resource busy")
            return rename(path, target)

        monkeypatch.setattr(Path, "rename", fail)
        with pytest.raises(DataError, match=r"data cannot be replaced \(Device or resource busy\)"):
            write(old)
        assert contents(old) == before
        assert names(old.parent) == ["data"]


def in_subprocess(code: str) -> "subprocess.Popen[str]":
    """Run code that may use this file's names."""
    head = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
    head += "from tests.data.test_prepared import *\n"
    return subprocess.Popen(
        [sys.executable, "-c", head + code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_full_disk_leaves_the_old_folder(old: Path) -> None:
    """With RLIMIT_FSIZE, writes and the flush at close fail as they do on a full disk."""
    before = contents(old)
    for limit, n in ((0, 20_000), (4096, 20_000), (300_000, 9)):  # … then the tokenizer's files
        child = in_subprocess(
            "import resource\nfrom clingpt.base import console\n"
            f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
            f"console.run(lambda: write(Path({str(old)!r}), range({n})))\n"
        )
        _, said = child.communicate(timeout=60)
        assert child.returncode == 1
        assert re.fullmatch(r"error: .*File too large; choose a disk that .*\n", said), said
        assert contents(old) == before
        assert names(old.parent) == ["data"]


KILLED_WHILE_WRITING = (
    "with FolderWriter(Path(OLD), GPT2) as writer:\n"
    "    for n in range(3000):\n"
    "        add_record(writer, 'train', record(n), [('text', examples(record(1))[-1][1])])\n"
    "    os.kill(os.getpid(), signal.SIGKILL)\n"
)
KILLED_BETWEEN_RENAMES = (
    "rename = Path.rename\n"
    "def die(path, target):\n"
    "    if path.name == '.data.partial': os.kill(os.getpid(), signal.SIGKILL)\n"
    "    return rename(path, target)\n"
    "Path.rename = die\n"
    "write(Path(OLD))\n"
)


@pytest.mark.parametrize("code", [KILLED_WHILE_WRITING, KILLED_BETWEEN_RENAMES])
def test_a_killed_writer_loses_nothing(old: Path, code: str) -> None:
    before = contents(old)
    child = in_subprocess(code.replace("OLD", repr(str(old))))
    child.communicate(timeout=60)
    assert child.returncode == -signal.SIGKILL
    if old.exists():
        assert contents(old) == before
        assert names(old.parent) == [".data.partial", "data"]
    write(old, finish=False)  # the next writer tidies up, even one that fails
    assert contents(old) == before
    assert names(old.parent) == ["data"]
    write(old)
    assert len(open_prepared(old, GPT2).record_ids("train")) == 6


# The place of the folder


def test_parent_folders_are_created_and_links_are_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "a" / "b" / "data")
    (tmp_path / "link").symlink_to(tmp_path / "a", target_is_directory=True)
    write(tmp_path / "link" / "b" / "data")
    assert names(tmp_path / "a" / "b") == ["data"]
    (tmp_path / "straight").symlink_to(Path("a", "b", "data"), target_is_directory=True)
    write(tmp_path / "straight", range(3))
    assert (tmp_path / "straight").is_symlink()
    assert len(open_prepared(tmp_path / "a/b/data", GPT2).record_ids("train")) == 2
    assert names(tmp_path) == ["a", "link", "straight"]
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    write(Path("."))
    assert len(open_prepared(tmp_path / "here", GPT2).record_ids("train")) == 6


def strange(folder: Path, kind: str, small: Path) -> Path:
    if kind == "a file":
        folder.write_text("mine")
    elif kind == "a folder of mine":
        (folder / "sub").mkdir(parents=True)
    elif kind == "another's manifest":
        folder.mkdir()
        (folder / MANIFEST).write_text('{"name": "an app", "icons": []}')
    else:
        shutil.copytree(small, folder)
        (folder / "notes.txt").write_text("mine")
    return folder


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("a file", "is not a folder; choose another --out"),
        ("a folder of mine", "exists and is not prepared data; remove it or choose another --out"),
        ("another's manifest", "exists and is not prepared data; remove it or choose another"),
        (
            "a file beside ours",
            "contains notes.txt, which prepare.py did not write; choose another",
        ),
    ],
)
def test_a_folder_that_prepare_did_not_write_is_not_replaced(
    tmp_path: Path, kind: str, message: str, small: Path
) -> None:
    folder = strange(tmp_path / "data", kind, small)
    before = names(tmp_path / "data") if folder.is_dir() else folder.read_text()
    with pytest.raises(DataError, match=re.escape(f"{folder} {message}")):
        write(folder)
    assert before == (names(tmp_path / "data") if folder.is_dir() else folder.read_text())
    assert names(tmp_path) == ["data"]


def test_an_empty_folder_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    assert open_prepared(write(tmp_path / "data"), GPT2).record_ids("val") == []


# Damage


def set_key(key: str, value: object) -> Callable[[Path], object]:
    def edit(folder: Path) -> None:
        manifest = json.loads((folder / MANIFEST).read_text())
        (folder / MANIFEST).write_text(json.dumps(manifest | {key: value}))

    return edit


def put(text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / MANIFEST).write_text(text)


def flip_byte(folder: Path) -> None:
    content = bytearray((folder / "train.bin").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "train.bin").write_bytes(content)


NOT_A_MANIFEST = "manifest.json is not a valid manifest; remove {folder} and run prepare.py again"
DAMAGE: list[tuple[str, Callable[[Path], object], str]] = [
    ("gone", shutil.rmtree, "{folder} is not prepared data (it has no manifest.json)"),
    ("no manifest", lambda f: (f / MANIFEST).unlink(), "it has no manifest.json); run prepare.py"),
    (
        "truncated",
        lambda f: os.truncate(f / "train.bin", 100),
        "{folder}/train.bin has 100 bytes instead of ",
    ),
    ("emptied", lambda f: os.truncate(f / "test.idx", 0), "/test.idx has 0 bytes instead of "),
    ("changed", flip_byte, "{folder}/train.bin differs from its manifest; run prepare"),
    ("missing", lambda f: (f / "val.ids").unlink(), "{folder}/val.ids is missing; run prepare.py"),
    ("no merges", lambda f: (f / "merges.txt").unlink(), "{folder}/merges.txt is missing; run"),
    (
        "another tokenizer",
        set_key("tokenizer", "0123456789abcdef"),
        "{folder} was prepared with GPT-2's tokenizer (01234567), but CHECKPOINT has GPT-2's "
        "tokenizer (a05c98a9); prepare the data again for it: ",
    ),
    (
        "another format",
        set_key("format", FORMAT + 1),
        f"has format {FORMAT + 1}, but this version reads {FORMAT}; run prepare.py again",
    ),
    (
        "no files",
        set_key("files", {}),
        "{folder}/manifest.json does not list test.bin; run prepare.py again",
    ),
    *(
        (f"garbage {text[:20]!r}", put(text), NOT_A_MANIFEST)
        for text in ("", "{", "[]", "null", '"text"', "7", "{}", '{"format": 1}', "[" * 100_000)
    ),
    ("format", set_key("format", "1"), NOT_A_MANIFEST),
    ("tokenizer", set_key("tokenizer", None), NOT_A_MANIFEST),
    ("files", set_key("files", ["train.bin"]), NOT_A_MANIFEST),
    ("file", set_key("files", {"train.bin": 5}), NOT_A_MANIFEST),
    ("hash", set_key("files", {"train.bin": {"bytes": 5}}), NOT_A_MANIFEST),
    ("counts", set_key("counts", None), NOT_A_MANIFEST),
    ("settings", set_key("settings", []), NOT_A_MANIFEST),
    ("bytes", lambda f: (f / MANIFEST).write_bytes(b"\xff\xfe"), NOT_A_MANIFEST),
]


@pytest.mark.parametrize(("damage", "message"), [d[1:] for d in DAMAGE], ids=[d[0] for d in DAMAGE])
def test_a_damaged_file_is_reported_by_name(
    old: Path, damage: Callable[[Path], object], message: str
) -> None:
    damage(old)
    with pytest.raises(DataError, match=re.escape(message.format(folder=old))) as refused:
        open_prepared(old, GPT2)
    assert "\n" not in str(refused.value)


def test_a_change_in_any_byte_is_detected(old: Path) -> None:
    rng = random.Random(7)
    for name in sorted(FILES):
        content = (old / name).read_bytes()
        for place in rng.sample(range(len(content)), k=min(3, len(content))):
            changed = bytearray(content)
            changed[place] ^= 1 << rng.randrange(8)
            (old / name).write_bytes(changed)
            with pytest.raises(DataError, match=f"{name} differs from its manifest"):
                open_prepared(old, GPT2)
        (old / name).write_bytes(content)
    assert open_prepared(old, GPT2).folder == old
