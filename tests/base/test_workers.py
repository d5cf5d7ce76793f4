"""Work in other processes: ordered results, bounded memory, and no process left running."""

import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from clingpt.base import workers as pool
from clingpt.base.errors import DataError
from clingpt.base.workers import (
    AHEAD,
    CHUNK_ITEMS,
    CHUNK_SIZE,
    count_workers,
    map_chunks,
    split_chunks,
)

ROOT = Path(__file__).parents[2]
MANY = [[n, n + 1] for n in range(0, 200, 2)]  # chunks


@dataclass(frozen=True)
class Doubling:
    """Doubles numbers and reports its process; chosen numbers kill it or raise an error."""

    deadly: int = -1
    wrong: int = -1

    def __call__(self, chunk: Sequence[int]) -> tuple[int, list[int]]:
        if self.deadly in chunk:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.wrong in chunk:
            raise ValueError(f"{self.wrong} is wrong")
        if chunk[0] % 3 == 0:
            time.sleep(0.002)  # so that chunks do not end in the order in which they began
        return os.getpid(), [2 * n for n in chunk]


class WithoutThreads(Doubling):
    """Work in a process that can start no thread once this has been unpickled."""

    def __reduce__(self) -> tuple[object, ...]:
        return forbid_threads, ()


def forbid_threads() -> Doubling:
    def fail(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    threading.Thread.start = fail  # type: ignore[method-assign, assignment]
    return Doubling()


@pytest.mark.parametrize("workers", [0, 1, 2, 3])
def test_results_are_in_order_with_their_chunks(workers: int) -> None:
    done = list(map_chunks(Doubling(), iter(MANY), workers=workers))
    assert [chunk for chunk, _ in done] == MANY
    assert [doubled for _, (_, doubled) in done] == [[2 * n for n in chunk] for chunk in MANY]
    processes = {process for _, (process, _) in done}
    assert (processes == {os.getpid()}) == (workers < 2)
    assert len(processes) <= max(workers, 1)
    assert not multiprocessing.active_children()


def test_a_small_input_starts_no_process() -> None:
    few = MANY[: pool.FEW_CHUNKS - 1]
    done = list(map_chunks(Doubling(), few, workers=2))
    assert {process for _, (process, _) in done} == {os.getpid()}
    assert len(done) == len(few)
    assert list(map_chunks(Doubling(), [], workers=2)) == []


def test_only_a_bounded_part_of_the_source_is_in_memory() -> None:
    taken = 0

    def source() -> Iterator[list[int]]:
        nonlocal taken
        for chunk in MANY:
            taken += 1
            yield chunk

    with closing(map_chunks(Doubling(), source(), workers=2)) as results:
        for given, _ in enumerate(results, start=1):
            assert taken <= max(pool.FEW_CHUNKS, given + 2 + AHEAD)
            if given == 40:
                break
    assert taken < len(MANY)
    assert not multiprocessing.active_children()  # left early, too


def test_chunks_are_bounded_by_number_and_size() -> None:
    sizes = [1] * 100 + [CHUNK_SIZE, 5, CHUNK_SIZE // 2, CHUNK_SIZE // 2, CHUNK_SIZE * 3, 7]
    chunks = list(split_chunks(sizes, lambda size: size))
    assert [size for chunk in chunks for size in chunk] == sizes
    assert max(map(len, chunks)) == CHUNK_ITEMS
    for chunk in chunks:
        assert sum(chunk[:-1]) < CHUNK_SIZE  # one item may be larger, and then ends it


def test_a_killed_worker_raises_instead_of_hanging() -> None:
    with pytest.raises(DataError, match="a worker process was killed.*fewer --workers") as told:
        list(map_chunks(Doubling(deadly=120), MANY, workers=2))
    assert "\n" not in str(told.value)
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("started", ["semaphores", "processes", "threads", "second process"])
def test_workers_that_cannot_be_started_are_reported(
    started: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where /dev/shm is full or missing, or with too many processes: it is not the disk."""

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    start_process = BaseProcess.start

    def fail_later(process: BaseProcess) -> None:
        if multiprocessing.active_children():
            fail()
        start_process(process)

    if started == "second process":
        monkeypatch.setattr(BaseProcess, "start", fail_later)
    elif started == "threads":
        monkeypatch.setattr("threading.Thread.start", fail)
    elif started == "processes":
        monkeypatch.setattr("multiprocessing.process.BaseProcess.start", fail)
    else:
        monkeypatch.setattr("multiprocessing.synchronize.SemLock.__init__", fail)
    said = r"worker processes cannot be started \(No space .*; see .*\); .* pass --workers=1"
    with pytest.raises(DataError, match=said):
        list(map_chunks(Doubling(), MANY, workers=2))
    assert not multiprocessing.active_children()


def test_a_pool_that_cannot_start_its_own_thread_is_reported(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The workers run, but nothing is ever sent to them, as with `ulimit -u 40`."""

    def fail(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("multiprocessing.queues.Queue._start_thread", fail)
    said = r"worker processes cannot be started \(.*ulimit -u\); .* pass --workers=1"
    with pytest.raises(DataError, match=said):
        list(map_chunks(Doubling(), MANY, workers=2))
    assert not multiprocessing.active_children()
    assert capfd.readouterr().err == ""


def test_a_worker_that_cannot_start_a_thread_ends_without_a_traceback(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(DataError, match=r"worker process was killed.*ulimit -u"):
        list(map_chunks(WithoutThreads(), MANY, workers=2))
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("workers", [0, 2])
def test_an_exception_in_a_worker_reaches_the_caller(workers: int) -> None:
    with pytest.raises(ValueError, match="120 is wrong"):
        list(map_chunks(Doubling(wrong=120), MANY, workers=workers))
    assert not multiprocessing.active_children()


ENDLESS = """
import itertools, sys
sys.path[:0] = [{root!r}]
from tests.base.test_workers import Doubling
from clingpt.base.workers import map_chunks

if __name__ == "__main__":
    try:
        for _, (process, _) in map_chunks(Doubling(), ([n] for n in itertools.count()), workers=2):
            print(process, flush=True)
    except KeyboardInterrupt:
        sys.exit(130)
"""


def lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{process}/stat")
    return not state.exists() or state.read_text().rpartition(")")[2].split()[0] != "Z"


def endless(tmp_path: Path) -> "subprocess.Popen[str]":
    """Work that never ends, in a separate process group, as in a terminal."""
    script = tmp_path / "endless.py"
    script.write_text(ENDLESS.format(root=str(ROOT)))
    return subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_workers_exit_when_their_parent_is_killed(tmp_path: Path) -> None:
    parent = endless(tmp_path)
    assert parent.stdout
    working = {int(parent.stdout.readline()) for _ in range(100)}
    parent.kill()
    parent.communicate(timeout=60)
    assert parent.pid not in working
    deadline = time.monotonic() + 30
    while any(map(lives, working)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(lives, working))


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="Linux alone lists children")
@pytest.mark.parametrize("moment", ["starting", "working"])
def test_only_the_parent_handles_an_interrupt(moment: str, tmp_path: Path) -> None:
    """Processes that are starting cannot ignore the signal yet, and would print tracebacks."""
    parent = endless(tmp_path)
    assert parent.stdout
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
    while len(found := children.read_text().split()) < 3:  # two, and multiprocessing's tracker
        time.sleep(0.001)
    if moment == "working":
        assert parent.stdout.readline()
    os.killpg(parent.pid, signal.SIGINT)
    _, said = parent.communicate(timeout=60)
    assert (parent.returncode, said) == (130, "")
    for _ in range(1000):  # they notice that it is gone, and go
        if not any(lives(int(child)) for child in found):
            return
        time.sleep(0.02)
    raise AssertionError("a process outlives its parent")


def test_count_workers_keeps_a_given_number_and_bounds_the_default() -> None:
    assert [count_workers(asked) for asked in (0, 1, 7)] == [0, 1, 7]
    assert 1 <= count_workers(None) <= min(pool.MOST_WORKERS, os.cpu_count() or 1)
