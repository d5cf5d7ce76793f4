"""Work on records in other processes: results in order, memory bounded, no hang where one dies.

Processes are spawned, not forked: a fork of a process with threads (datasets, pyarrow) may hang; on
macOS that is the rule. A little work never starts them.
"""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from itertools import chain, islice
from typing import Any, Protocol, TypeVar

from clingpt.base.errors import DataError

Item = TypeVar("Item", contravariant=True)
Result = TypeVar("Result", covariant=True)
T = TypeVar("T")
R = TypeVar("R")

CHUNK_ITEMS, CHUNK_SIZE = 64, 1 << 18  # a chunk ends where it has as many, or as large ones
FEW_CHUNKS = 16  # done before other processes would have started
AHEAD = 2  # chunks that wait, beside one for each process
MOST_WORKERS = 16  # one process reads and writes, and keeps no more than that busy


class Work(Protocol[Item, Result]):
    """What is done with a chunk: an object that can be pickled, sent to each process once."""

    def __call__(self, chunk: Sequence[Item]) -> Result: ...


def count_workers(asked: int | None) -> int:
    """How many processes to work with: as asked, or one for each CPU that this one may use."""
    if asked is not None:
        return asked
    usable = getattr(os, "sched_getaffinity", None)  # not on macOS
    return min(len(usable(0)) if usable else os.cpu_count() or 1, MOST_WORKERS)


def split_chunks(items: Iterable[T], size: Callable[[T], int]) -> Generator[list[T], None, None]:
    """Items in groups of about equal work and bounded size."""
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
    """Each chunk with what `work` makes of it, in order; in this process where workers is 0 or 1.

    To be closed where it may be left early, so that nothing works on behind it.
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
    executor = ProcessPoolExecutor(workers, context, initializer=_start, initargs=(work,))
    waiting: deque[tuple[list[T], Future[R]]] = deque()
    try:
        for chunk in chunks:
            with _interrupts_held():
                waiting.append((chunk, executor.submit(_work_here, chunk)))
            if len(waiting) >= workers + AHEAD:
                yield _finished(waiting)
        while waiting:
            yield _finished(waiting)
    except BrokenProcessPool:
        raise DataError(
            "a working process was killed, most likely because memory ran out; nothing was "
            "written; pass fewer --workers (1 works without others)"
        ) from None
    finally:
        executor.shutdown(cancel_futures=True)


@contextmanager
def _interrupts_held() -> Generator[None, None, None]:
    """Ctrl-C waits while a process may be started; what is started never hears of it.

    A terminal interrupts all its processes; that this one ends is enough to end the others.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _finished(waiting: deque[tuple[list[T], "Future[R]"]]) -> tuple[list[T], R]:
    chunk, future = waiting.popleft()
    return chunk, future.result()


# In a working process

_work: Work[Any, Any] | None = None


def _start(work: Work[Any, Any]) -> None:
    """Be ready for chunks; and end with the parent, however it ends."""
    global _work
    _work = work
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _work_here(chunk: Sequence[Any]) -> Any:
    assert _work is not None
    return _work(chunk)
