"""Run a list of jobs on the ranks of a torchrun, for tests/training/test_parallel.py.

    torchrun --standalone --nproc_per_node=2 tests/helpers/ranks.py JOBS.json

A job names a function below and its arguments. Each rank writes its results to a file next to the
list.
"""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from clingpt.nn import runtime
from clingpt.nn.kernels import use_kernels
from clingpt.nn.runtime import Runtime, whole
from clingpt.training.batches import Feed
from clingpt.training.step import accumulate_gradients, mean_loss
from tests.helpers import commands, models

OFF = torch.amp.GradScaler("cpu", enabled=False)


def gradients(
    rt: Runtime,
    dtype: str,
    n_rows: int,
    micro_batch_size: int,
    shard: bool,
    label_weight: float = 1,
) -> Any:
    """Return how much gradient and loss differ from those of one process, row by row."""
    rows = models.rows_of_documents(models.make_documents(), 24)
    if label_weight != 1:
        rows = models.rows_of_labelled(models.make_labelled(), 24, label_weight=label_weight)
    chosen = np.arange(n_rows)
    total_weight = rows.total_weight(chosen)

    def found(model: torch.nn.Module, rt: Runtime, size: int) -> tuple[float, torch.Tensor]:
        work = Feed(rows, rt, size).work(chosen)
        losses = accumulate_gradients(model, work, total_weight, rt=rt, scaler=OFF)
        gradients = [whole(p.grad).flatten() for p in model.parameters() if p.grad is not None]
        return float(rt.total(losses.sum())) / total_weight, torch.cat(gradients)

    def model() -> Any:
        made = models.make_tiny_model(vocab_size=50257).to(getattr(torch, dtype))
        made.checkpoint_activations = shard and n_rows == 7
        return use_kernels(made)

    alone = Runtime(rt.device, rt.dtype)
    loss, gradient = found(model(), alone, 1)
    shared = model()
    replica = rt.replicate(shared, blocks=shared.h, shard=shard)
    loss_of_ranks, gradient_of_ranks = found(replica, rt, micro_batch_size)
    plain = models.rows_of_documents(models.make_documents(), 24)
    measured = [mean_loss(model(), Feed(plain, alone, 1)), mean_loss(replica, Feed(plain, rt, 5))]
    return {
        "gradient": float((gradient_of_ranks - gradient).norm() / gradient.norm()),
        "loss": abs(loss_of_ranks - loss) / loss,
        "measured": abs(measured[0] - measured[1]) / measured[0],  # type: ignore[operator]
    }


def train_run(
    rt: Runtime,
    flags: list[str],
    cut_back: list[str] | None = None,
    spoil_rank: int | None = None,
    memory_of_rank: list[int] | None = None,
    non_finite: list[Any] | None = None,
    signal_to_rank: list[int] | None = None,
) -> int:
    """Run train.py, perhaps resuming at step 13 or with a fault, and return its exit status."""

    def prepare() -> None:
        if cut_back:
            run = commands.cut_back(*map(Path, cut_back))
            if spoil_rank is not None:
                commands.replace_random_numbers(run / "step_000013", rank=spoil_rank)

    @contextmanager
    def joined(*, device: str, dtype: str, weights: str, seed: int) -> Iterator[Runtime]:
        torch.manual_seed(seed)
        yield rt

    rt.on_main(prepare)
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(runtime, "joined", joined))
        if memory_of_rank is not None:
            rank, most = memory_of_rank
            stack.enter_context(commands.memory_for_rows(most, here=rank == rt.rank))
        if signal_to_rank is not None:
            rank, step = signal_to_rank
            stack.enter_context(commands.signal_in_step(step, here=rank == rt.rank))
        if non_finite is not None:
            step, data, example = non_finite
            stack.enter_context(commands.non_finite_from(step, Path(data), example=example))
        return commands.train_here(*flags)


def main() -> None:
    plan = Path(sys.argv[1])
    with runtime.joined(device="cpu") as rt:
        found = [globals()[job.pop("do")](rt, **job) for job in json.loads(plan.read_text())]
    plan.with_name(f"found_{rt.rank}.json").write_text(json.dumps(found))
    # A rank was once seen to abort after all of its jobs ("terminate called without an active
    # exception"), when torch's threads were destroyed at the end of the interpreter.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
