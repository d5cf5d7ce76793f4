"""One optimizer step, from batches to updated weights, and the same loss on a whole split.

The loss of a step is the sum over its target tokens divided by their number, over all micro-batches
and all ranks. A mean of micro-batch means would differ from it as soon as micro-batches have
different numbers of target tokens, and gradients would then depend on --micro_batch_size. With
--label_weight, each token's loss is multiplied by its weight, and their sum is divided by that of
the weights.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from clingpt.base.errors import TrainingError
from clingpt.base.types import Ints
from clingpt.data.packing import Rows
from clingpt.data.prepared import Prepared
from clingpt.nn.runtime import Runtime
from clingpt.training.batches import Feed, Work
from clingpt.training.muon import MuonAdamW
from model import GPT

MAX_NAMED_RECORDS = 20  # in one error message


# ------------------------------------------------------------------------------------------------
# Gradients


def accumulate_gradients(
    replica: nn.Module,
    work: Work,
    total_weight: float,
    *,
    rt: Runtime,
    scaler: torch.amp.GradScaler,
) -> Tensor:
    """Run forward and backward over this rank's micro-batches; return the summed loss of each.

    `total_weight` is that of the target tokens of the whole step, over all micro-batches and ranks:
    their number, unless labels weigh more. The gradients left in `.grad` are those of the mean loss
    over these tokens, times the loss scale.
    """
    losses = []
    for number, batch in enumerate(work.batches, start=1):
        # The last micro-batch syncs gradients; the others skip the all-reduce.
        with rt.gradients_averaged(replica, now=(number == len(work.batches))):
            with rt.autocast():
                loss = replica(batch)  # summed over this micro-batch's target tokens
            # DDP and FSDP average over the ranks, but we need the sum: the factor n_ranks cancels
            # their division. Only the division by total_weight remains.
            scaler.scale(loss * (rt.n_ranks / total_weight)).backward()
        losses.append(loss.detach())  # no .item() here: the host must not wait for the device
    return torch.stack(losses)


# ------------------------------------------------------------------------------------------------
# Update


def build_optimizer(
    model: GPT,
    *,
    kind: str = "adamw",
    learning_rate: float,
    betas: tuple[float, float],
    weight_decay: float,
) -> torch.optim.AdamW:
    """Build AdamW (Loshchilov & Hutter 2019) over the trainable parameters.

    Matrices and embeddings decay. Biases and LayerNorm weights, which are all one-dimensional, do
    not. Frozen parameters are left out, so they cost no moments. With the kind "muon", Muon updates
    the matrices of the blocks, and AdamW the rest (training/muon.py).

    To offer another optimizer, build it here, add a flag to train.py, and name the flag in IDENTITY
    (training/state.py), since a run cannot be resumed with moments of another kind. One without a
    fused kernel works, but the host then waits for the device at every step (`step_unless`).
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    matrices = [p for p in parameters if p.dim() >= 2]
    vectors = {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0}
    fused = parameters[0].device.type in ("cpu", "cuda")
    if kind == "adamw":
        groups = [{"params": matrices, "weight_decay": weight_decay}, vectors]
        return torch.optim.AdamW(groups, lr=learning_rate, betas=betas, fused=fused)
    in_blocks = set(model.h.parameters())
    embeddings = [p for p in matrices if p not in in_blocks]
    groups = [{"params": embeddings, "weight_decay": weight_decay}, vectors]
    groups.append({"params": [p for p in matrices if p in in_blocks], "weight_decay": weight_decay})
    return MuonAdamW(groups, lr=learning_rate, betas=betas, fused=fused)


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Linear warm-up to `peak`, then constant, or linear or cosine decay to `floor` at the end."""

    kind: str
    peak: float
    floor: float
    warmup_steps: int
    steps: int

    def rate(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0; it is never 0 during warm-up."""
        if step < self.warmup_steps:
            return self.peak * (step + 1) / self.warmup_steps
        if self.kind == "constant":
            return self.peak
        done = min(1.0, (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps))
        share = 1 - done if self.kind == "linear" else 0.5 * (1 + math.cos(math.pi * done))
        return self.floor + (self.peak - self.floor) * share


@dataclass(frozen=True)
class StepResult:
    """Measurements of one step, still on the device: reading one waits for the step to finish."""

    loss: Tensor  # mean over the target tokens of all ranks, by their weights, in nats
    grad_norm: Tensor  # of the gradients averaged over all ranks, before clipping
    micro_batch_losses: Tensor  # summed loss of each of this rank's micro-batches
    broken: Tensor  # 1 if this step or an earlier one was not finite, else 0
    learning_rate: float


class Updater:
    """Clips gradients and steps the optimizer until a loss or a gradient is not finite.

    From then on weights and moments stay those of the last good step. The device decides this by
    itself; the host reads the flag later (see Watch), so that it never waits between steps. With
    loss scaling (fp16) only the broken step itself is skipped: one more may follow before the host
    reads the flag and ends the run, but nothing is saved after a broken step.
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
        self._max_norm = clip or math.inf  # 0 switches clipping off; the norm is measured anyway
        self._parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self._broken = torch.zeros((), device=rt.device)

    def step(self, step: int, losses: Tensor, total_weight: float) -> StepResult:
        """Clip the accumulated gradients, apply them at this step's rate, and free them.

        `losses` and `total_weight` are those of `accumulate_gradients`.
        """
        scaler, optimizer = self._scaler, self._optimizer
        learning_rate = self._schedule.rate(step)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate
        loss = self._rt.total(losses.sum()) / total_weight
        scaler.unscale_(optimizer)  # clipping needs the true norm
        grad_norm = self._rt.clip_gradients(self._parameters, self._max_norm)
        # With loss scaling (fp16) scaled gradients overflow now and then. The scaler skips such a
        # step and lowers the scale, so only a non-finite loss, which is not scaled, counts as
        # broken. The scaler skips that step too, because the gradients of such a loss are not
        # finite either.
        watched = loss if scaler.is_enabled() else loss + grad_norm
        self._broken = torch.maximum(self._broken, 1 - watched.isfinite().float())
        if scaler.is_enabled():
            scaler.step(optimizer)
            scaler.update()
        else:
            step_unless(self._broken, optimizer)
        optimizer.zero_grad(set_to_none=True)
        return StepResult(loss, grad_norm, losses, self._broken, learning_rate)


def step_unless(broken: Tensor, optimizer: torch.optim.Optimizer) -> None:
    """Step the optimizer, but leave weights and moments unchanged if `broken` is 1.

    The fused kernels read `found_inf` on the device, as they do for a GradScaler, so that the host
    does not wait. The attribute is private to PyTorch (docs/architecture.md lists all of these).
    """
    if optimizer.defaults.get("fused"):
        optimizer.found_inf = broken  # type: ignore[attr-defined]
        optimizer.step()
        del optimizer.found_inf  # type: ignore[attr-defined]
    elif not broken:
        optimizer.step()


# ------------------------------------------------------------------------------------------------
# Non-finite losses


class Watch:
    """Ends the run on all ranks after a non-finite step, naming the step and its records.

    Each step is checked while the next one runs: its flag has then been copied to the host in the
    background, and the host never waits for the device.
    """

    def __init__(self, rt: Runtime, data: Prepared, rows: Rows) -> None:
        self._rt, self._data, self._rows = rt, data, rows
        self._last: tuple[int, Work, StepResult, Callable[[], Tensor]] | None = None

    def see(self, step: int, work: Work, result: StepResult) -> None:
        """Check the previous step and remember this one."""
        self.check()
        self._last = step, work, result, self._rt.later(result.broken)

    def check(self) -> None:
        """Check the last step seen; must be called before anything is saved."""
        last, self._last = self._last, None
        if last is None or not last[3]():
            return
        step, work, result, _ = last
        finite = result.micro_batch_losses.isfinite().tolist()
        bad = [rows for rows, fine in zip(work.parts, finite, strict=True) if not fine]
        names_by_rank = self._rt.gathered(self._record_ids(np.concatenate(bad)) if bad else [])
        names = [name for names in names_by_rank for name in names]
        # If every loss is finite, the gradient overflowed, and any record may have caused it.
        names = names or self._record_ids(work.rows)
        self._rt.on_main(lambda: self._fail(step, result, names))

    def _record_ids(self, rows: Ints) -> list[str]:
        ids = self._data.record_ids("train")
        return [ids[number] for number in self._rows.records(rows).tolist()]

    def _fail(self, step: int, result: StepResult, names: list[str]) -> None:
        more = len(names) - MAX_NAMED_RECORDS
        shown = ", ".join(names[:MAX_NAMED_RECORDS]) + (f" and {more} more" if more > 0 else "")
        raise TrainingError(
            f"step {step} is not finite: loss {float(result.loss):.4g}, gradient norm "
            f"{float(result.grad_norm):.4g}. It changed no weight, and the last checkpoint is "
            f"intact. Check these records, or lower --learning_rate: {shown}"
        )


# ------------------------------------------------------------------------------------------------
# Validation loss


def mean_loss(
    replica: nn.Module, feed: Feed, *, stop: Callable[[], bool] = lambda: False
) -> float | None:
    """Return the mean loss over every target token of a split, in nats; None if stopped early.

    Exact for any number of ranks. Draws no random numbers, so that validating more often does not
    change training. `stop` must return the same answer on all ranks.
    """
    was_training = replica.training
    replica.eval()
    losses = []
    with torch.no_grad(), feed.rt.autocast():
        for work in feed.whole_split():
            if stop():
                break
            losses.append(replica(work.batches[0]))  # validation never splits into micro-batches
    replica.train(was_training)
    feed.rt.reshard(replica)  # FSDP gathers weights in a forward pass and frees them in a backward
    if stop():
        return None
    # In float64: fp32 would lose digits over the many thousand tokens of a split.
    total = feed.rt.total(torch.stack(losses).cpu().double().sum())
    return float(total) / int(feed.data.row_targets.sum())
