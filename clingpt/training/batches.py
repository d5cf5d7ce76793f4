"""Batches for training steps and for whole splits: this rank's share, assembled one ahead."""

import math
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from clingpt.data.packing import Ints, Rows
from clingpt.nn.kernels import mark_ragged
from clingpt.nn.runtime import Runtime
from model import Batch

Item = TypeVar("Item")
Made = TypeVar("Made")


@dataclass(frozen=True)
class Work:
    """Some rows, and this rank's part of them as forward passes."""

    rows: Ints  # of all ranks
    parts: list[Ints]  # rows of each of this rank's forwards; some may be empty
    batches: list[Batch]  # the same on the device, all of one shape


@dataclass(frozen=True)
class Feed:
    """Turns rows of a split into work."""

    data: Rows
    rt: Runtime
    micro_batch_size: int  # most rows of one forward on one rank
    compiled: bool = False  # then all batches have one shape, padding and all

    def work(self, rows: Ints) -> Work:
        """This rank's share in forwards of one size, as many and as large on every rank.

        A rank or a forward that has fewer rows is filled up with padding, which has no target; on
        a CPU without compilation there is no other padding, and no two sizes are alike.
        """
        most = self.rt.largest_share(len(rows))
        n_parts = math.ceil(most / self.micro_batch_size)
        size = math.ceil(most / n_parts)
        mine = self.rt.share(rows)
        parts = [mine[i * size : (i + 1) * size] for i in range(n_parts)]
        return Work(rows, parts, [self._batch(part, size) for part in parts])

    def _batch(self, rows: Ints, size: int) -> Batch:
        tight = self.rt.device.type == "cpu" and not self.compiled
        arrays = self.data.assemble(rows, n_rows=size, tight=tight)
        batch = Batch(*map(self.rt.put, arrays))
        mark_ragged(batch)
        return batch

    def works(self, rows: Iterable[Ints]) -> Iterator[Work]:
        """The same for one step after another; the next one's is assembled in the meantime."""
        return prefetched(self.work, rows)

    def whole_split(self) -> Iterator[Work]:
        """Every row once, one forward a rank at a time, all of one shape."""
        at_once = self.micro_batch_size * self.rt.n_ranks
        starts = range(0, len(self.data), at_once)
        ends = (min(start + at_once, len(self.data)) for start in starts)
        return self.works(np.arange(a, b) for a, b in zip(starts, ends, strict=True))


def prefetched(make: Callable[[Item], Made], items: Iterable[Item]) -> Iterator[Made]:
    """make(item) of each item in order, the next one made in a thread while one is used."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        waiting = None
        for item in items:
            following = pool.submit(make, item)
            if waiting is not None:
                yield waiting.result()
            waiting = following
        if waiting is not None:
            yield waiting.result()
