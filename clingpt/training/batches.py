"""Batches of this rank for training steps and for whole splits, assembled one step ahead."""

import math
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from clingpt.base.types import Ints
from clingpt.data.packing import Rows
from clingpt.nn.kernels import mark_ragged
from clingpt.nn.runtime import Runtime
from model import Batch

Item = TypeVar("Item")
Made = TypeVar("Made")


@dataclass(frozen=True)
class Work:
    """The rows of a step, and this rank's micro-batches of them."""

    rows: Ints  # of all ranks
    parts: list[Ints]  # rows of each of this rank's micro-batches; some may be empty
    batches: list[Batch]  # the same on the device, filled up to one shape


@dataclass(frozen=True)
class Feed:
    """Turns rows of a split into batches on the device."""

    data: Rows
    rt: Runtime
    micro_batch_size: int  # rows of one forward pass on one rank, at most
    compiled: bool = False  # a compiled model needs batches of one shape, with padding

    def work(self, rows: Ints) -> Work:
        """Divide a step's rows among ranks and micro-batches, the same number on every rank.

        A rank or micro-batch that gets fewer rows is filled up with padding, which has no targets:
        all ranks must take part in every all-reduce, and a new shape would trigger another
        compilation. An uncompiled model on the CPU needs no fixed shape, so all other padding is
        left out there.
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
        if self.data.label_weight != 1:
            weights = self.data.target_weights(rows, n_rows=size)
            batch = batch._replace(target_weight_KM=self.rt.put(weights))
        mark_ragged(batch)
        return batch

    def works(self, rows: Iterable[Ints]) -> Iterator[Work]:
        """Yield the work of each step while a thread assembles the next one."""
        return prefetched(self.work, rows)

    def whole_split(self) -> Iterator[Work]:
        """Yield every row of the split once, with one batch per rank at a time."""
        at_once = self.micro_batch_size * self.rt.n_ranks
        starts = range(0, len(self.data), at_once)
        ends = (min(start + at_once, len(self.data)) for start in starts)
        return self.works(np.arange(a, b) for a, b in zip(starts, ends, strict=True))


def prefetched(make: Callable[[Item], Made], items: Iterable[Item]) -> Iterator[Made]:
    """Yield make(item) for each item in order, while a thread makes the next one."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        waiting = None
        for item in items:
            following = pool.submit(make, item)
            if waiting is not None:
                yield waiting.result()
            waiting = following
        if waiting is not None:
            yield waiting.result()
