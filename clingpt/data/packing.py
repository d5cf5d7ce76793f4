"""From a prepared split to the rows of a training step: packing, order and assembly, in numpy.

Every row is block_size tokens. Which rows make step s is a pure function of (seed, step), the same
for any number of processes, so that resuming is setting the step.
"""

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np

from clingpt.base.errors import DataError
from clingpt.base.types import Ints
from clingpt.data.prepared import Split
from clingpt.text.tokenizer import EOT

IGNORE = -100  # target of a padded position, as model.IGNORE
TARGETS_AT_ONCE = 4096  # of one chunk of logits: 0.8 GB of them in fp32
ALIGNED_TARGETS = 16  # a chunk is a multiple of these, as 16-bit matrix units like it


class Arrays(NamedTuple):
    """Rows as model.Batch wants them: same fields, same order, still on the host."""

    ids_BT: Ints
    positions_BT: Ints
    borders: Ints
    target_index_KM: Ints
    targets_KM: Ints


@dataclass(frozen=True)
class Rows:
    """The rows of a split: the examples of row r are order[starts[r] : starts[r + 1]]."""

    split: Split
    block_size: int
    order: Ints
    starts: Ints
    max_documents: int  # of any row, its padding included

    def __len__(self) -> int:
        return len(self.starts) - 1

    def examples(self, row: int) -> Ints:
        """The numbers of the examples in a row."""
        return self.order[self.starts[row] : self.starts[row + 1]]

    def records(self, rows: Ints) -> Ints:
        """The numbers of the records behind these rows' examples, in their order."""
        return self._index(rows)[:, 4]

    def _index(self, rows: Ints) -> Ints:
        parts = [self.examples(row) for row in rows]
        index: Ints = self.split.index[np.concatenate([np.empty(0, dtype=np.int64), *parts])]
        return index

    @cached_property
    def row_targets(self) -> Ints:
        """How many tokens of each row are trained on."""
        n_targets = (self.split.index[:, 2] - self.split.index[:, 1])[self.order]
        return np.asarray(np.add.reduceat(n_targets, self.starts[:-1]))

    @cached_property
    def _most_targets(self) -> Ints:
        """The most tokens to train on in any 1, 2, … rows."""
        return np.cumsum(np.sort(self.row_targets)[::-1])

    def n_targets(self, rows: Ints) -> int:
        """How many tokens of these rows are trained on."""
        return int(self.row_targets[rows].sum())

    def n_chunks(self, n_rows: int) -> int:
        """Chunks of targets that any n_rows of these rows fit in: one number for the whole run."""
        return math.ceil(int(self._most_targets[:n_rows][-1]) / TARGETS_AT_ONCE)

    def assemble(self, rows: Ints, *, n_rows: int | None = None, tight: bool = False) -> Arrays:
        """The tokens, positions, document borders and targets of some rows.

        Up to `n_rows` with rows of padding alone, so that a ragged batch has a full one's shape.
        `tight` leaves all padding out and lays the examples end to end in one row: less work,
        another shape each time.
        """
        n_rows = len(rows) if n_rows is None else n_rows
        tight = tight and len(rows) > 0
        index = self._index(rows)
        start, first_target, end = index[:, 0], index[:, 1], index[:, 2]
        length, n_targets = end - start, end - first_target
        place = np.cumsum(length) - length
        if not tight:
            row_of = np.repeat(np.arange(len(rows)), np.diff(self.starts)[rows])
            first = np.searchsorted(row_of, row_of)  # the first example of each example's row
            place += row_of * self.block_size - place[first]

        shape = (1, int(length.sum())) if tight else (n_rows, self.block_size)
        ids, positions = np.full(shape, EOT, dtype=np.int64), np.zeros(shape, dtype=np.int64)
        within = _ramps(length)
        target = np.repeat(place, length) + within
        ids.reshape(-1)[target] = self.split.tokens[np.repeat(start, length) + within]
        positions.reshape(-1)[target] = within
        before = np.repeat(place + first_target - start - 1, n_targets) + _ramps(n_targets)
        return Arrays(
            ids,
            positions,
            self._borders(place, length, *shape),
            *_in_chunks(before, ids.reshape(-1)[before + 1], self.n_chunks(n_rows)),
        )

    def _borders(self, place: Ints, length: Ints, n_rows: int, row_length: int) -> Ints:
        """Where documents start, paddings included; as many entries for any rows of this split."""
        size = n_rows * row_length
        rows = np.arange(0, size + 1, row_length)
        edges = np.unique(np.concatenate([place, place + length, rows]))
        spare = max(0, n_rows * self.max_documents + 1 - len(edges))
        return np.concatenate([edges, np.full(spare, size)])


def _ramps(lengths: Ints) -> Ints:
    """0, 1, …, n - 1 for each n, laid end to end."""
    ends = np.cumsum(lengths)
    return np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - lengths, lengths)


def _in_chunks(index: Ints, targets: Ints, n_chunks: int) -> tuple[Ints, Ints]:
    """Both as (K, M), the last chunk filled up with targets that are ignored."""
    width = max(1, math.ceil(len(index) / n_chunks / ALIGNED_TARGETS)) * ALIGNED_TARGETS
    spare = n_chunks * width - len(index)
    padded = np.pad(index, (0, spare)), np.pad(targets, (0, spare), constant_values=IGNORE)
    return padded[0].reshape(n_chunks, width), padded[1].reshape(n_chunks, width)


def build_rows(split: Split, block_size: int, *, pack: bool, seed: int) -> Rows:
    """Pack the examples into rows, or (`pack` off) pad each to a row of its own."""
    lengths = split.lengths
    if not len(lengths):
        raise DataError(f"{split.name} holds no example; prepare more records or other --tasks")
    if lengths.max() > block_size:
        raise DataError(
            f"{split.name} holds examples of up to {lengths.max()} tokens, block_size is "
            f"{block_size}; run prepare.py --block_size={block_size}"
        )
    if pack:
        order, starts = pack_best_fit(lengths, block_size, seed=seed)
    else:
        order, starts = np.arange(len(lengths)), np.arange(len(lengths) + 1)
    max_documents = int(np.diff(starts).max()) + 1
    return Rows(split, block_size, order, starts, max_documents)


def pack_best_fit(lengths: Ints, capacity: int, *, seed: int) -> tuple[Ints, Ints]:
    """Best-fit decreasing (Johnson 1974): longest first, each into the fullest row with room.

    Gives the examples row by row and where each row starts. Equal lengths are ordered by `seed`.
    """
    shuffled = np.random.default_rng(seed).permutation(len(lengths))
    decreasing = shuffled[np.argsort(-lengths[shuffled], kind="stable")]
    rows: list[list[int]] = []
    by_room: list[list[int]] = [[] for _ in range(capacity + 1)]
    rooms = 0  # bit r is set where some row has room for exactly r more tokens
    for example in decreasing.tolist():
        length = int(lengths[example])
        fitting = rooms >> length << length
        if fitting:
            room = (fitting & -fitting).bit_length() - 1
            row = by_room[room].pop()
            if not by_room[room]:
                rooms ^= 1 << room
        else:
            room, row = capacity, len(rows)
            rows.append([])
        rows[row].append(example)
        by_room[room - length].append(row)
        rooms |= 1 << room - length
    starts = np.cumsum([0, *map(len, rows)])
    return np.array([example for row in rows for example in row], dtype=np.int64), starts


@lru_cache(maxsize=2)  # a step reads from one epoch, or from two at an edge
def _permutation(seed: int, epoch: int, n_rows: int) -> Ints:
    return np.random.default_rng([seed, epoch]).permutation(n_rows)


def rows_of_step(step: int, *, batch_size: int, n_rows: int, seed: int) -> Ints:
    """Rows [step * batch_size, (step + 1) * batch_size) of the epochs' permutations end to end."""
    epoch, offset = np.divmod(np.arange(step * batch_size, (step + 1) * batch_size), n_rows)
    picked = [_permutation(seed, e, n_rows)[offset[epoch == e]] for e in np.unique(epoch).tolist()]
    return np.concatenate(picked)
