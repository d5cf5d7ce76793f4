"""Process records in worker processes, with ordered results and bounded memory.

If a worker dies, the map fails instead of hanging. Workers are spawned and not forked, because a
fork of a process with threads (datasets, pyarrow) can deadlock. Small inputs start no workers.
"""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager, suppress
from itertools import chain, islice
from typing import Any, Protocol, TypeVar

from clingpt.base import console
from clingpt.base.errors import DataError

Item = TypeVar("Item", contravariant=True)
Result = TypeVar("Result", covariant=True)
T = TypeVar("T")
R = TypeVar("R")

CHUNK_ITEMS, CHUNK_SIZE = 64, 1 << 18  # a chunk is full at this many items, or at this total size
FEW_CHUNKS = 16  # so few are finished sooner than workers have started
POLL_S = 1.0  # between looks at whether the pool's own thread still runs
AHEAD = 2  # chunks in the queue, in addition to one per worker
MOST_WORKERS = 16  # the parent reads and writes too slowly to keep more of them busy


class Work(Protocol[Item, Result]):
    """What to do with a chunk: a picklable callable, sent to each worker once."""

    def __call__(self, chunk: Sequence[Item]) -> Result: ...


def count_workers(asked: int | None) -> int:
    """Return the number of workers: as requested, or one per CPU that this process may use."""
    if asked is not None:
        return asked
    usable = getattr(os, "sched_getaffinity", None)  # not on macOS
    return min(len(usable(0)) if usable else os.cpu_count() or 1, MOST_WORKERS)


def split_chunks(items: Iterable[T], size: Callable[[T], int]) -> Generator[list[T], None, None]:
    """Group items into chunks of about equal work and bounded size."""
    chunk: list[T] = []
    total = 0
    for item in items:
        chunk.append(item)
        total += size(item)
        if len(chunk) == CHUNK_ITEMS or total >= CHUNK_SIZE:
            yield chunk
            chunk, total = [], 0
    if chunk:
        yield chunk


def map_chunks(
    work: Work[T, R], chunks: Iterable[list[T]], *, workers: int
) -> Generator[tuple[list[T], R], None, None]:
    """Yield each chunk with the result of `work` on it, in order.

    With 0 or 1 workers, `work` runs in this process. A caller that may stop early must close the
    generator, or the workers continue in the background.
    """
    chunks = iter(chunks)
    first = list(islice(chunks, FEW_CHUNKS))
    chunks = chain(first, chunks)
    if workers > 1 and len(first) == FEW_CHUNKS:
        with closing(_map_elsewhere(work, chunks, workers)) as results:
            yield from results
    else:
        for chunk in chunks:
            yield chunk, work(chunk)


def _map_elsewhere(
    work: Work[T, R], chunks: Iterable[list[T]], workers: int
) -> Generator[tuple[list[T], R], None, None]:
    context = multiprocessing.get_context("spawn")
    with _starting():
        executor = ProcessPoolExecutor(workers, context, initializer=_start, initargs=(work,))
    waiting: deque[tuple[list[T], Future[R]]] = deque()
    try:
        with _thread_failures() as failures:
            for chunk in chunks:
                with _interrupts_held(), _starting():
                    waiting.append((chunk, executor.submit(_work_here, chunk)))
                if len(waiting) >= workers + AHEAD:
                    yield _finished(waiting, failures)
            while waiting:
                yield _finished(waiting, failures)
    except BrokenProcessPool:
        raise DataError(
            "a worker process was killed, most likely because memory or the number of processes "
            "(ulimit -u) ran out; nothing was written: use fewer --workers (1 starts none)"
        ) from None
    except _NotStarted:
        # The pool has no thread that would end them, and this process would wait for them for ever.
        for process in multiprocessing.active_children():
            process.kill()
            process.join()
        raise
    finally:
        with suppress(RuntimeError):  # the pool's thread was never started, so it has none to join
            executor.shutdown(cancel_futures=True)


class _NotStarted(DataError):
    """Not all processes and threads of the pool could be started."""


@contextmanager
def _starting() -> Generator[None, None, None]:
    """Say that workers cannot be started: no semaphores in /dev/shm, or too many processes."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        if (cause := console.os_error_in(error)) is None:
            raise
        raise _NotStarted(
            f"worker processes cannot be started ({console.describe_os_error(cause)}; see df "
            "/dev/shm and ulimit -u); nothing was written: pass --workers=1, which starts none"
        ) from None


@contextmanager
def _interrupts_held() -> Generator[None, None, None]:
    """Block SIGINT while a worker may be started, so that workers inherit the block.

    A terminal sends Ctrl-C to the whole process group. Only the parent should react: the workers
    exit when it does, and print no tracebacks of their own.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _thread_failures() -> Generator[list[BaseException], None, None]:
    """Collect failures to start a thread in the pool's own thread, instead of their tracebacks.

    The pool's futures are then never finished, and waiting for one would last for ever.
    """
    failures: list[BaseException] = []
    before = threading.excepthook

    def collect(args: threading.ExceptHookArgs) -> None:
        if args.exc_value is not None and console.os_error_in(args.exc_value):
            failures.append(args.exc_value)
        else:
            before(args)

    threading.excepthook = collect
    try:
        yield failures
    finally:
        threading.excepthook = before


def _finished(
    waiting: deque[tuple[list[T], "Future[R]"]], failures: Sequence[BaseException]
) -> tuple[list[T], R]:
    chunk, future = waiting.popleft()
    while not future.done():
        wait([future], timeout=POLL_S)
        if failures and not future.done():
            with _starting():
                raise failures[0]
    return chunk, future.result()


# Code that runs in a worker

_work: Work[Any, Any] | None = None


def _start(work: Work[Any, Any]) -> None:
    """Initialise a worker, and make it exit when the parent process dies, even if killed."""
    global _work
    _work = work
    try:
        threading.Thread(target=_end_with_parent, daemon=True).start()
    except RuntimeError:  # too many threads: the parent says so, in one line
        os._exit(1)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _work_here(chunk: Sequence[Any]) -> Any:
    assert _work is not None
    return _work(chunk)
