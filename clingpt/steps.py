"""What a training loop does with rows: gradients of the exact mean loss, and measuring it.

The loss is the sum over target tokens divided by their number, so that it is the same for any split
into micro-batches (a mean of micro-batch means is not, where their target counts differ).
"""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from clingpt.dataset import Ints, Rows
from clingpt.runtime import Runtime
from model import GPT, Batch


def iter_batches(data: Rows, rows: Ints, size: int, rt: Runtime) -> Iterator[Batch]:
    """The rows in forwards of at most `size`, the last one perhaps smaller, on the device."""
    for start in range(0, len(rows), size):
        yield Batch(*map(rt.put, data.assemble(rows[start : start + size])))


def accumulate_gradients(
    model: GPT,
    data: Rows,
    rows: Ints,
    *,
    micro_batch_size: int,
    rt: Runtime,
    scaler: torch.amp.GradScaler,
) -> Tensor:
    """Add the (scaled) gradients of the rows' mean loss; gives that loss, still on the device."""
    n_targets = data.n_targets(rows)
    total = torch.zeros((), device=rt.device)
    for batch in iter_batches(data, rows, micro_batch_size, rt):
        with rt.autocast():
            loss = model(batch) / n_targets
        scaler.scale(loss).backward()
        total = total + loss.detach()
    return total


@torch.no_grad()
def mean_loss(
    model: GPT,
    data: Rows,
    *,
    micro_batch_size: int,
    rt: Runtime,
    stop: Callable[[], bool] = lambda: False,
) -> float | None:
    """Mean loss over every target token of a split, in nats; None where `stop` cut it short.

    Draws no random number, so that measuring more often changes nothing in training.
    """
    was_training = model.training
    model.eval()
    total, rows = 0.0, np.arange(len(data))
    for batch in iter_batches(data, rows, micro_batch_size, rt):
        if stop():
            break
        with rt.autocast():
            total += float(model(batch))
    model.train(was_training)
    return None if stop() else total / data.n_targets(rows)
