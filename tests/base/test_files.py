"""Files: read as text, locked, replaced atomically."""

import contextlib
import errno
import io
import os
import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from clingpt.base import files, jsonl
from clingpt.base.errors import DataError
from clingpt.reports.plots import save_training_curve


def test_read_text_removes_the_byte_order_mark_and_trailing_newlines(tmp_path: Path) -> None:
    path = tmp_path / "note.txt"
    path.write_bytes("\ufeffPain fell.\n by 31 %\n\n".encode())
    assert files.read_text(path) == "Pain fell.\n by 31 %"


def test_read_text_reads_standard_input_without_a_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("Pain fell.\n"))
    assert files.read_text(None) == "Pain fell."


def test_read_text_names_a_file_in_another_encoding(tmp_path: Path) -> None:
    path = tmp_path / "note.txt"
    path.write_bytes(b"a\xff")
    with pytest.raises(DataError, match=r"note\.txt is not UTF-8 \(byte 1\); convert it first"):
        files.read_text(path)


def no_symlinks(*_: object, **__: object) -> None:
    raise OSError(errno.EOPNOTSUPP, "Operation not supported")


@pytest.mark.parametrize("symlinks", [True, False])
def test_a_link_leads_to_the_folder_that_it_was_last_pointed_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, symlinks: bool
) -> None:
    if not symlinks:
        monkeypatch.setattr("os.symlink", no_symlinks)
    for name in ("step_000001", "step_000002"):
        (tmp_path / name).mkdir()
        files.point(tmp_path / "best", name)
        assert (tmp_path / "best").is_symlink() == symlinks
        assert files.followed(tmp_path / "best") == tmp_path / name
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "best",
        "step_000001",
        "step_000002",
    ]
    monkeypatch.undo()
    files.point(tmp_path / "best", "step_000001")  # on a file system of the other kind
    assert (tmp_path / "best").is_symlink()
    assert files.followed(tmp_path / "best") == tmp_path / "step_000001"


@pytest.mark.parametrize(
    "content", [b"", b"gone", b"../other", b"..", b"\xff\xfe", b"x" * 300, b"step_1\nstep_2"]
)
def test_a_file_that_names_no_folder_beside_it_is_not_followed(
    tmp_path: Path, content: bytes
) -> None:
    for folder in (tmp_path / "other", tmp_path / "run" / "step_1"):
        folder.mkdir(parents=True)
    path = tmp_path / "run" / "best"
    path.write_bytes(content)
    assert files.followed(path) == path
    for unchanged in (tmp_path / "run", tmp_path / "nowhere"):
        assert files.followed(unchanged) == unchanged


def test_a_file_system_that_cannot_fsync_is_reported_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fsync(_: int) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    files.note_once.cache_clear()
    monkeypatch.setattr("os.fsync", fsync)
    for _ in range(2):
        files.sync(tmp_path)
    assert capsys.readouterr().err == (
        "this file system cannot fsync: a power failure may lose what was just written\n"
    )


def test_an_fsync_that_fails_for_another_reason_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fsync(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("os.fsync", fsync)
    with pytest.raises(OSError, match="Input/output error"):
        files.sync(tmp_path)


def test_a_lock_is_held_until_its_file_is_closed(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    with path.open("w") as mine, path.open("w") as other:
        assert files.try_lock(mine)
        assert not files.try_lock(other)
        mine.close()
        assert files.try_lock(other)


def test_a_file_system_without_locks_lets_every_writer_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", flock)
    with (tmp_path / ".lock").open("w") as file:
        assert files.try_lock(file)


def test_write_json_replaces_the_file(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text("old")
    files.write_json(path, {"name": "µ"})
    assert path.read_text("utf-8") == '{\n "name": "µ"\n}\n'
    assert [each.name for each in tmp_path.iterdir()] == ["report.json"]


@contextlib.contextmanager
def full_after(n_bytes: int) -> Iterator[None]:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize(
    "write",
    [
        lambda path: files.write_whole(path, "new" * 1000),
        lambda path: jsonl.write(path, [{"n": n} for n in range(10_000)]),
        lambda path: save_training_curve([{"step": 1, "train_loss": 2.0}], path),
    ],
    ids=["text", "lines", "curve"],
)
def test_a_full_disk_leaves_the_old_file_and_no_scratch_file(
    write: Callable[[Path], None], tmp_path: Path
) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with full_after(1000), pytest.raises(OSError, match="File too large") as failed:
        write(path)
    assert failed.value.filename == str(path)
    assert path.read_text() == "old"
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_a_file_that_cannot_be_replaced_is_named_and_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def replace(scratch: Path, target: Path) -> None:
        raise OSError(errno.EPERM, "Operation not permitted", str(scratch), None, str(target))

    path = tmp_path / "file"
    path.write_text("old")
    monkeypatch.setattr("os.replace", replace)
    with pytest.raises(OSError, match="Operation not permitted") as failed:
        files.write_whole(path, "new")
    assert (failed.value.filename, failed.value.filename2) == (str(path), None)
    assert path.read_text() == "old"
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_an_error_in_another_file_keeps_its_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as failed, files.replacing(tmp_path / "file"):
        (tmp_path / "source").read_text()
    assert failed.value.filename == str(tmp_path / "source")


def test_two_processes_may_replace_one_file_at_the_same_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, replace = tmp_path / "README.md", os.replace

    def meanwhile(scratch: Path, target: Path) -> None:
        monkeypatch.setattr("os.replace", replace)
        monkeypatch.setattr("os.getpid", lambda: 0)
        files.write_whole(path, "another process's")
        replace(scratch, target)

    monkeypatch.setattr("os.replace", meanwhile)
    files.write_whole(path, "mine")
    assert path.read_text() == "mine"
    assert [each.name for each in tmp_path.iterdir()] == ["README.md"]
