"""Pack examples of different lengths into the rows of a training step, in numpy.

A GPU works on rows of equal length. Padding every example to `block_size` would waste most of that
work, so several examples share a row:

    row 0   [ example 7 ············ ][ example 2 ······ ][ example 9 ][pad]
    row 1   [ example 4 ··································· ][ example 1 ]

Each example still trains exactly as if it were alone: its positions start at 0, attention never
crosses its borders, and only its target tokens have a loss. `--pack=False` puts one example in each
row and must produce the same losses and gradients.

    build_rows      once     decides which examples share a row
    rows_of_step    a step   picks the rows of an optimizer step: a function of seed and step alone
    Rows.assemble   a step   lays their tokens out as the arrays that the model reads

The rows of a step depend only on (seed, step), so that a run resumes by setting the step, and any
number of processes can divide the same step among themselves.

Shape suffixes, as in model.py: B rows of a batch, T tokens of a row (block_size), K chunks of M
targets.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from clingpt.base.errors import DataError
from clingpt.base.types import Floats, Ints
from clingpt.data.prepared import INDEX_COLUMNS, Split
from clingpt.text.tasks import TASKS

# The target of padding, which the loss skips. Equals model.IGNORE, and is repeated because data
# never imports torch.
IGNORE = -100
# Columns of a split's index.
START, FIRST_TARGET, END, TASK, RECORD = range(len(INDEX_COLUMNS))
# The loss computes logits of one chunk of targets at a time: 4096 × 50,257 fp32 logits are 0.8 GB.
TARGETS_AT_ONCE = 4096
ALIGNED_TARGETS = 16  # chunks are multiples of this, which 16-bit matrix units need for full speed

Number = TypeVar("Number", np.int64, np.float32)


# Once per run: which examples share a row


def build_rows(
    split: Split,
    block_size: int,
    *,
    pack: bool,
    seed: int,
    label_weight: float = 1.0,
    label_ids: Sequence[Sequence[int]] = (),
) -> "Rows":
    """Distribute the examples of a split over rows; without `pack`, one example per row.

    `label_weight` is the weight in the loss of the tokens of yes, no and maybe, which are
    `label_ids`; all other targets have the weight 1.
    """
    lengths = split.lengths
    if not len(lengths):
        raise DataError(f"{split.name} has no examples; prepare more records or other --tasks")
    if lengths.max() > block_size:
        raise DataError(
            f"{split.name} has examples of up to {lengths.max()} tokens, but block_size is "
            f"{block_size}; run prepare.py --block_size={block_size}"
        )
    if pack:
        order, starts = pack_best_fit(lengths, block_size, seed=seed)
    else:
        order, starts = np.arange(len(lengths)), np.arange(len(lengths) + 1)
    # Padding at the end of a row is one more document: no loss, and no example attends to it.
    max_documents = int(np.diff(starts).max()) + 1
    n_label = np.zeros(len(lengths), dtype=np.int64)
    if label_weight != 1:
        n_label = count_label_tokens(split, label_ids)
        if not n_label.any():
            raise DataError(
                f"{split.name} has no labels to weigh, because no record of it was prepared for "
                "the task answer; use --label_weight=1"
            )
    return Rows(split, block_size, order, starts, max_documents, label_weight, n_label)


def count_label_tokens(split: Split, label_ids: Sequence[Sequence[int]]) -> Ints:
    """Count the tokens of yes, no or maybe with which each example's target begins.

    Only the task `answer` has a label: a summary that begins with "no" has none.
    """
    n_label = np.zeros(len(split.index), dtype=np.int64)
    answers = np.flatnonzero(split.index[:, TASK] == TASKS.index("answer"))
    for ids in label_ids:
        # A target that is too short repeats its last token, the end of text, which no label has.
        place = split.index[answers, FIRST_TARGET, None] + np.arange(len(ids))
        place = np.minimum(place, split.index[answers, END, None] - 1)
        n_label[answers[(split.tokens[place] == ids).all(axis=1)]] = len(ids)
    return n_label


def pack_best_fit(lengths: Ints, capacity: int, *, seed: int) -> tuple[Ints, Ints]:
    """Pack by best-fit decreasing (Johnson 1974): longest first, each into the fullest row it fits.

    Returns the examples in the order of rows, and where each row starts in that order. `seed`
    shuffles examples of equal length, so that a row does not collect neighbours of the source file.
    Takes O(n) steps of Python after one sort.
    """
    shuffled = np.random.default_rng(seed).permutation(len(lengths))
    decreasing = shuffled[np.argsort(-lengths[shuffled], kind="stable")]
    rows: list[list[int]] = []
    rows_with_room: list[list[int]] = [[] for _ in range(capacity + 1)]  # by tokens left
    # One integer as a set of ints: bit r is set if some row has room for exactly r more tokens. The
    # fullest row that fits `length` tokens is then the lowest set bit from bit `length` upwards.
    rooms = 0
    for example in decreasing.tolist():
        length = int(lengths[example])
        fitting = rooms >> length << length
        if fitting:
            room = (fitting & -fitting).bit_length() - 1  # x & -x isolates the lowest set bit
            row = rows_with_room[room].pop()
            if not rows_with_room[room]:
                rooms ^= 1 << room
        else:
            room, row = capacity, len(rows)
            rows.append([])
        rows[row].append(example)
        rows_with_room[room - length].append(row)
        rooms |= 1 << room - length
    starts = np.cumsum([0, *map(len, rows)])
    return np.array([example for row in rows for example in row], dtype=np.int64), starts


# Every step: which rows


def rows_of_step(step: int, *, batch_size: int, n_rows: int, seed: int) -> Ints:
    """Pick the rows of an optimizer step.

    Epochs are permutations of all rows, laid end to end; step s takes entries
    [s * batch_size, (s + 1) * batch_size). A step may thus reach from one epoch into the next, and
    no row is skipped at the end of an epoch.
    """
    epoch, offset = np.divmod(np.arange(step * batch_size, (step + 1) * batch_size), n_rows)
    picked = [_permutation(seed, e, n_rows)[offset[epoch == e]] for e in np.unique(epoch).tolist()]
    return np.concatenate(picked)


@lru_cache(maxsize=2)  # a step reads from one epoch, or from two at their edge
def _permutation(seed: int, epoch: int, n_rows: int) -> Ints:
    return np.random.default_rng([seed, epoch]).permutation(n_rows)


# Every step: their tokens, positions, borders and targets


class Arrays(NamedTuple):
    """A batch for model.Batch: the same fields in the same order, still numpy arrays.

    Places count through the flattened rows: token t of row b is at b * T + t.
    """

    ids_BT: Ints
    positions_BT: Ints  # restart at 0 with each example
    borders: Ints  # place where each document starts, then B * T; spare entries are B * T
    target_index_KM: Ints  # place whose next token is predicted
    targets_KM: Ints  # that token, or IGNORE


@dataclass(frozen=True)
class Rows:
    """The rows of a split: row r has the examples order[starts[r] : starts[r + 1]]."""

    split: Split
    block_size: int
    order: Ints
    starts: Ints
    max_documents: int  # of any row, its padding included
    label_weight: float  # of a label's tokens in the loss; all other targets have the weight 1
    n_label: Ints  # how many of each example's targets are its label's; 0 if these weigh no more

    def __len__(self) -> int:
        return len(self.starts) - 1

    def examples(self, row: int) -> Ints:
        """Return the numbers of the examples in a row."""
        return self.order[self.starts[row] : self.starts[row + 1]]

    def records(self, rows: Ints) -> Ints:
        """Return the numbers of the records that the examples of some rows belong to, in order."""
        records: Ints = self.split.index[self._all_examples(rows), RECORD]
        return records

    def _all_examples(self, rows: Ints) -> Ints:
        """Return the numbers of the examples in some rows, in order."""
        parts = [self.examples(row) for row in rows]
        return np.concatenate([np.empty(0, dtype=np.int64), *parts])

    def assemble(self, rows: Ints, *, n_rows: int | None = None, tight: bool = False) -> Arrays:
        """Lay out the tokens, positions, document borders and targets of some rows.

        A ragged last batch is filled up to `n_rows` with rows of padding, so that all batches of a
        run have one shape and compiled code is never compiled again. `tight` leaves out all padding
        and lays the examples end to end in a single row: less work if shapes may vary.
        """
        n_rows = len(rows) if n_rows is None else n_rows
        tight = tight and len(rows) > 0
        index = self.split.index[self._all_examples(rows)]
        start, first_target, end = (index[:, column] for column in (START, FIRST_TARGET, END))
        length, n_targets = end - start, end - first_target

        # Where each example goes in the flattened rows. End to end first ...
        place = np.cumsum(length) - length
        if not tight:  # ... then shifted so that the first example of each row starts the row
            row_of = np.repeat(np.arange(len(rows)), np.diff(self.starts)[rows])
            first = np.searchsorted(row_of, row_of)  # the first example of each example's row
            place += row_of * self.block_size - place[first]

        # Padding is an end of text at position 0; examples are copied over it, all at once.
        shape = (1, int(length.sum())) if tight else (n_rows, self.block_size)
        ids = np.full(shape, self.split.eot, dtype=np.int64)
        positions = np.zeros(shape, dtype=np.int64)
        within = _ramps(length)  # the position of each token in its example
        token_place = np.repeat(place, length) + within
        ids.reshape(-1)[token_place] = self.split.tokens[np.repeat(start, length) + within]
        positions.reshape(-1)[token_place] = within

        # A token is predicted at the place before it, so targets start one place early: the last
        # prompt token predicts the first target. Prompt tokens themselves are never predicted.
        predicted_at = np.repeat(place + first_target - start - 1, n_targets) + _ramps(n_targets)
        targets = ids.reshape(-1)[predicted_at + 1]
        n_chunks = self.n_chunks(n_rows)
        return Arrays(
            ids,
            positions,
            self._borders(place, length, *shape),
            _in_chunks(predicted_at, n_chunks, spare=0),
            _in_chunks(targets, n_chunks, spare=IGNORE),
        )

    def _borders(self, place: Ints, length: Ints, n_rows: int, row_length: int) -> Ints:
        """Return where documents start, padding included; (n_rows * max_documents + 1,) or longer.

        The spare entries at the end make the shape the same for any rows of this split.
        """
        size = n_rows * row_length
        rows = np.arange(0, size + 1, row_length)
        edges = np.unique(np.concatenate([place, place + length, rows]))
        spare = max(0, n_rows * self.max_documents + 1 - len(edges))
        return np.concatenate([edges, np.full(spare, size)])

    # Targets per row: the loss is normalised by their weights, and their number decides that of the
    # chunks.

    @cached_property
    def row_targets(self) -> Ints:
        """Count the target tokens of each row."""
        n_targets = (self.split.index[:, END] - self.split.index[:, FIRST_TARGET])[self.order]
        return np.asarray(np.add.reduceat(n_targets, self.starts[:-1]))

    @cached_property
    def _most_targets(self) -> Ints:
        """Bound the target tokens of any 1, 2, … rows: the sums of the fullest ones."""
        return np.cumsum(np.sort(self.row_targets)[::-1])

    def n_targets(self, rows: Ints) -> int:
        """Count the target tokens of some rows."""
        return int(self.row_targets[rows].sum())

    @cached_property
    def _row_weights(self) -> Floats:
        """Sum the weights of each row's target tokens."""
        n_label = np.add.reduceat(self.n_label[self.order], self.starts[:-1])
        return self.row_targets + (self.label_weight - 1) * n_label

    def total_weight(self, rows: Ints) -> float:
        """Sum the weights of the target tokens of some rows: their number if all weights are 1."""
        return float(self._row_weights[rows].sum())

    def target_weights(self, rows: Ints, *, n_rows: int) -> NDArray[np.float32]:
        """Return the weight of each target of `assemble`, in the same places; 0 where ignored."""
        examples = self._all_examples(rows)
        n_targets = (self.split.index[:, END] - self.split.index[:, FIRST_TARGET])[examples]
        is_label = _ramps(n_targets) < np.repeat(self.n_label[examples], n_targets)
        weights = np.where(is_label, np.float32(self.label_weight), np.float32(1))
        return _in_chunks(weights, self.n_chunks(n_rows), spare=0)

    def n_chunks(self, n_rows: int) -> int:
        """Return how many chunks of targets any `n_rows` rows need: one number for a whole run.

        The compiled loss unrolls its loop over the chunks, so another number would be compiled
        again. The size M of a chunk may differ from batch to batch.
        """
        return math.ceil(int(self._most_targets[:n_rows][-1]) / TARGETS_AT_ONCE)


def _ramps(lengths: Ints) -> Ints:
    """Concatenate 0, 1, …, n - 1 for each n: [2, 3] → [0, 1, 0, 1, 2]."""
    ends = np.cumsum(lengths)
    return np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - lengths, lengths)


def _in_chunks(values: NDArray[Number], n_chunks: int, *, spare: int) -> NDArray[Number]:
    """Reshape one number per target to (K, M); the places left over at the end get `spare`."""
    width = max(1, math.ceil(len(values) / n_chunks / ALIGNED_TARGETS)) * ALIGNED_TARGETS
    padded = np.full(n_chunks * width, spare, dtype=values.dtype)
    padded[: len(values)] = values
    return padded.reshape(n_chunks, width)
