"""What a training loop does with rows: gradients of the exact mean loss, an update, measuring it.

The loss is the sum over target tokens divided by their number, so that it is the same for any split
into micro-batches and ranks (a mean of means is not, where their target counts differ).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from clingpt.base.errors import TrainingError
from clingpt.data.packing import Ints, Rows
from clingpt.data.prepared import Prepared
from clingpt.nn.runtime import Runtime
from clingpt.training.batches import Feed, Work
from clingpt.training.optim import Schedule, set_learning_rate, step_unless

MOST_NAMES = 20  # of records in an error


@dataclass(frozen=True)
class StepResult:
    """What a step found, still on the device: reading it waits for the step."""

    loss: Tensor  # mean over the target tokens of all ranks, in nats
    grad_norm: Tensor  # of all ranks' gradients, before clipping
    part_losses: Tensor  # summed losses of this rank's forwards
    broken: Tensor  # 1 where this step or an earlier one was not finite
    learning_rate: float


def accumulate_gradients(
    replica: nn.Module, work: Work, n_targets: int, *, rt: Runtime, scaler: torch.amp.GradScaler
) -> Tensor:
    """Add the (scaled) gradients of the mean loss over all ranks' n_targets target tokens.

    Gives the summed loss of each of this rank's forwards.
    """
    losses = []
    for number, batch in enumerate(work.batches, start=1):
        with rt.gradients_averaged(replica, now=number == len(work.batches)):
            with rt.autocast():
                loss = replica(batch)
            # Ranks are averaged: n_ranks times a rank's share of the mean makes the whole.
            scaler.scale(loss * (rt.n_ranks / n_targets)).backward()
        losses.append(loss.detach())
    return torch.stack(losses)


class Updater:
    """Takes optimizer steps, and none any more once a loss or a gradient was not finite.

    The device decides that for itself: the host learns of it later, and weights and moments are
    still those of the last good step.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler,
        schedule: Schedule,
        rt: Runtime,
        clip: float,
    ) -> None:
        self._optimizer, self._scaler, self._schedule, self._rt = optimizer, scaler, schedule, rt
        self._limit = clip or math.inf  # of the gradient's norm
        self._parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self._broken = torch.zeros((), device=rt.device)

    def step(self, step: int, part_losses: Tensor, n_targets: int) -> StepResult:
        """Clip the accumulated gradients, apply them at this step's rate, and forget them."""
        scaler, optimizer, rate = self._scaler, self._optimizer, self._schedule.rate(step)
        set_learning_rate(optimizer, rate)
        loss = self._rt.total(part_losses.sum()) / n_targets
        scaler.unscale_(optimizer)
        grad_norm = self._rt.clip_gradients(self._parameters, self._limit)
        # Under loss scaling gradients overflow now and then; the scaler skips such a step itself.
        finite = loss if scaler.is_enabled() else loss + grad_norm
        self._broken = torch.maximum(self._broken, 1 - finite.isfinite().float())
        if scaler.is_enabled():
            scaler.step(optimizer)
            scaler.update()
        else:
            step_unless(self._broken, optimizer)
        optimizer.zero_grad(set_to_none=True)
        return StepResult(loss, grad_norm, part_losses, self._broken, rate)


class Watch:
    """Ends a run on all ranks once a step was not finite, naming it and the records behind it.

    It looks a step late, so that the host never waits for the device.
    """

    def __init__(self, rt: Runtime, data: Prepared, rows: Rows) -> None:
        self._rt, self._data, self._rows = rt, data, rows  # of the training split
        self._last: tuple[int, Work, StepResult, Callable[[], Tensor]] | None = None

    def see(self, step: int, work: Work, result: StepResult) -> None:
        """Judge the step before, and remember this one."""
        self.check()
        self._last = step, work, result, self._rt.later(result.broken)

    def check(self) -> None:
        """Judge the last step that was seen; before anything is saved."""
        last, self._last = self._last, None
        if last is None or not last[3]():
            return
        step, work, result, _ = last
        finite = result.part_losses.isfinite().tolist()
        bad = [p for p, fine in zip(work.parts, finite, strict=True) if not fine]
        found = self._rt.gathered(self._names(np.concatenate(bad)) if bad else [])
        # Where every loss is finite, any record may have sent a gradient out of bounds.
        names = [name for names in found for name in names] or self._names(work.rows)
        self._rt.on_main(lambda: self._end(step, result, names))

    def _names(self, rows: Ints) -> list[str]:
        ids = self._data.record_ids("train")
        return [ids[number] for number in self._rows.records(rows).tolist()]

    def _end(self, step: int, result: StepResult, names: list[str]) -> None:
        more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
        raise TrainingError(
            f"step {step}: loss {float(result.loss):.4g}, gradient norm "
            f"{float(result.grad_norm):.4g}; no weight was changed by it and the last checkpoint "
            f"is intact. Records: {', '.join(names[:MOST_NAMES])}{more}. Look at them, or lower "
            "learning_rate"
        )


def mean_loss(
    replica: nn.Module, feed: Feed, *, stop: Callable[[], bool] = lambda: False
) -> float | None:
    """Mean loss over every target token of a split, in nats; None where `stop` cut it short.

    Exact over any number of ranks, and draws no random number: measuring more often changes nothing
    in training. `stop` must answer alike on all ranks.
    """
    was_training = replica.training
    replica.eval()
    losses = []
    with torch.no_grad(), feed.rt.autocast():
        for work in feed.whole_split():
            if stop():
                break
            losses.append(replica(work.batches[0]))
    replica.train(was_training)
    feed.rt.reshard(replica)
    if stop():
        return None
    total = feed.rt.total(torch.stack(losses).cpu().double().sum())
    return float(total) / int(feed.data.row_targets.sum())
