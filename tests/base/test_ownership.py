"""One writer at a time: the second learns who the first is, and a dead one blocks nobody."""

import errno
import json
import multiprocessing
import os
import random
import re
import resource
import shutil
import signal
import time
from pathlib import Path
from typing import IO

import pytest

from clingpt.base import files
from clingpt.base.errors import BusyError, CheckpointError
from clingpt.base.files import Owner, check_still_owned, one_writer

SPAWN = multiprocessing.get_context("spawn")
ELSEWHERE = {"command": "train.py", "pid": 12, "host": "node7", "since": "2026-11-30 08:00:00"}
DAY = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("inside", [True, False])
def test_the_second_writer_learns_who_the_first_is_and_what_to_do(
    tmp_path: Path, inside: bool
) -> None:
    target = tmp_path / "out" / "run"
    with one_writer(target, inside=inside):
        with pytest.raises(BusyError) as refused, one_writer(target, inside=inside, flag="--to"):
            pass
        me = Owner()
        assert re.fullmatch(
            rf"{target} is being written by {me.command}, process {me.pid} on {me.host}, since "
            rf"{DAY}; wait until it ends, stop it \(kill {me.pid}\), or choose another --to",
            str(refused.value),
        )
    with one_writer(target, inside=inside):  # the first has ended
        pass


def test_the_lock_file_and_folders_without_content_are_removed_at_the_end(tmp_path: Path) -> None:
    with one_writer(tmp_path / "out" / "run", inside=True):
        assert names(tmp_path / "out" / "run") == [".lock"]
    assert names(tmp_path) == []
    with one_writer(tmp_path / "new" / "replies.jsonl"):
        assert names(tmp_path / "new") == [".replies.jsonl.lock"]
        (tmp_path / "new" / "replies.jsonl").touch()
    assert names(tmp_path / "new") == ["replies.jsonl"]


def test_a_lock_that_does_not_fit_on_the_disk_leaves_nothing(tmp_path: Path) -> None:
    target, limits = tmp_path / "out" / "run", resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large") as failed, one_writer(target):
            pass
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert failed.value.filename == str(target)
    assert names(tmp_path) == []


FULL = OSError(errno.ENOSPC, "No space left on device")


def because_of(cause: Exception, error: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "named"),
    [
        (FULL, True),
        (RuntimeError("I/O error: No space left on device (os error 28)"), True),
        (OSError(errno.ENOSPC, "No space left on device", "standard output"), False),
        (OSError(errno.EIO, "Input/output error"), False),  # perhaps of the source
        (ValueError("a bug"), False),
        (because_of(FULL, CheckpointError("could not be written; earlier ones are intact")), False),
    ],
    ids=repr,
)
def test_a_full_disk_names_what_was_being_written(
    error: Exception, named: bool, tmp_path: Path
) -> None:
    with pytest.raises(Exception) as failed, one_writer(tmp_path / "run"):
        raise error
    if named:
        assert isinstance(failed.value, OSError) and failed.value.errno == errno.ENOSPC
        assert failed.value.filename == str(tmp_path / "run")
    else:
        assert failed.value is error
    assert names(tmp_path) == []


def test_a_folder_that_is_renamed_as_a_whole_stays_locked(tmp_path: Path) -> None:
    target = tmp_path / "data"
    with one_writer(target):
        (tmp_path / ".data.partial").mkdir()
        (tmp_path / ".data.partial").rename(target)
        with pytest.raises(BusyError), one_writer(target):
            pass


def test_a_lock_on_a_file_that_the_last_owner_has_just_removed_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / ".lock"

    def removed(file: IO[str]) -> bool:
        monkeypatch.undo()
        path.unlink()  # the last owner ends, after this process has opened the file …
        path.touch()  # … and a third process makes a new one
        return files.try_lock(file)

    monkeypatch.setattr("clingpt.base.files.try_lock", removed)
    with (
        one_writer(tmp_path, inside=True),
        pytest.raises(BusyError),
        one_writer(tmp_path, inside=True),
    ):
        pass


def test_links_to_a_file_share_its_lock(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "replies.jsonl").symlink_to(tmp_path / "there" / "replies.jsonl")
    with (
        one_writer(tmp_path / "replies.jsonl"),
        pytest.raises(BusyError),
        one_writer(tmp_path / "there" / "replies.jsonl"),
    ):
        pass


def held_by_child(target: Path, ready: Path) -> None:
    with one_writer(target, inside=True):
        ready.touch()
        time.sleep(60)


def test_a_killed_owner_does_not_block_the_next(tmp_path: Path) -> None:
    child = SPAWN.Process(target=held_by_child, args=(tmp_path / "run", tmp_path / "ready"))
    child.start()
    while not (tmp_path / "ready").exists():
        time.sleep(0.005)
    with (
        pytest.raises(BusyError, match=f"process {child.pid} on "),
        one_writer(tmp_path / "run", inside=True),
    ):
        pass
    assert child.pid
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    assert (tmp_path / "run" / ".lock").exists()
    with one_writer(tmp_path / "run", inside=True):
        pass


def test_the_lock_of_a_dead_process_on_another_host_is_taken_over_with_a_note(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / ".lock").write_text(json.dumps(ELSEWHERE))
    with one_writer(tmp_path, inside=True):
        assert json.loads((tmp_path / ".lock").read_text())["pid"] == os.getpid()
    assert capsys.readouterr().err == (
        f"{tmp_path} was last written by train.py, process 12 on node7, since 2026-11-30 08:00:00, "
        "which did not finish and no longer holds its lock; if it is still running there, stop "
        "this command\n"
    )


@pytest.mark.parametrize("left", ["", "{", '{"pid": 1}', "[]"])
def test_a_lock_file_without_a_name_is_taken_over(tmp_path: Path, left: str) -> None:
    (tmp_path / ".lock").write_text(left)
    with one_writer(tmp_path, inside=True):
        pass


def test_a_file_system_without_locks_is_noted_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def flock(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    files.note_once.cache_clear()
    monkeypatch.setattr("fcntl.flock", flock)
    for name in ("a", "b"):
        with one_writer(tmp_path / name, inside=True):
            assert (tmp_path / name / ".lock").exists()
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and said.startswith("this file system does not support locks")


def test_a_folder_that_cannot_be_written_is_named_as_the_user_did(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(OSError, match=re.escape(f"'{tmp_path}/file/run'")),
        one_writer(tmp_path / "file" / "run", inside=True),
    ):
        pass


def test_a_process_notices_that_its_folder_was_removed_or_taken_over(tmp_path: Path) -> None:
    target = tmp_path / "run"
    check_still_owned(target)  # not locked by this process, so nothing to lose
    with one_writer(target, inside=True):
        check_still_owned(target)
        shutil.rmtree(target)
        with pytest.raises(BusyError, match=f"^{target} was removed while this process was"):
            check_still_owned(target)
        target.mkdir()
        (target / ".lock").write_text(json.dumps(ELSEWHERE))
        with pytest.raises(BusyError, match=r"now being written by train\.py, process 12 on node7"):
            check_still_owned(target)
    assert names(target) == [".lock"]  # the other process's


# Two processes at once


def count_up(target: Path, refusals: Path, seed: int) -> None:
    """Read a number, wait, and write it plus one, unless another process owns the file."""
    moments = random.Random(seed)
    for _ in range(15):
        time.sleep(moments.uniform(0, 0.004))
        try:
            with one_writer(target):
                n = int(target.read_text())
                time.sleep(moments.uniform(0, 0.004))
                target.write_text(str(n + 1))
                with (refusals.parent / f"done{seed}").open("a") as done:
                    done.write("x")
        except BusyError as error:
            with refusals.open("a") as file:
                file.write(f"{error}\n")


def test_processes_that_compete_write_one_after_the_other(tmp_path: Path) -> None:
    target, refusals = tmp_path / "counter", tmp_path / "refusals"
    target.write_text("0")
    refusals.touch()
    children = [SPAWN.Process(target=count_up, args=(target, refusals, seed)) for seed in range(4)]
    for child in children:
        child.start()
    for child in children:
        child.join()
        assert child.exitcode == 0
    written = sum(len(path.read_text()) for path in tmp_path.glob("done*"))
    assert int(target.read_text()) == written > 0
    pids = {str(child.pid) for child in children}
    for line in refusals.read_text().splitlines():
        assert (found := re.search(r", process (\d+) on ", line)) and found[1] in pids, line
    assert ".counter.lock" not in names(tmp_path)
