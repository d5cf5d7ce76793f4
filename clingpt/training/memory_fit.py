"""Before the first step: find a micro-batch size that fits into memory, and compile validation."""

import gc
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from clingpt.base import console
from clingpt.base.errors import ConfigError
from clingpt.training.batches import Feed
from clingpt.training.step import step_unless

TOO_LARGE = (
    "out of memory even with one row at a time; try --checkpoint_activations=True, a smaller "
    "--block_size, --lora_rank=8, or --shard=True on several GPUs"
)


def fit_micro_batch(
    replica: nn.Module, feed: Feed, optimizer: torch.optim.Optimizer, *, batch_size: int
) -> Feed:
    """Return the feed with its micro-batch size halved until a step fits into memory.

    A step keeps its rows, and takes more forward passes. The largest step is rehearsed before
    the first real one, without side effects, because a rank that ran out of memory later would
    leave the others waiting for its gradients. Raises ConfigError if nothing fits, and under FSDP
    at the first failure: its ranks wait for each other in every block and cannot agree to retry.
    """
    while True:
        random_numbers = feed.rt.rng_state()
        fits = _rehearsal_fits(replica, feed, optimizer, batch_size)
        feed.rt.set_rng_state(random_numbers)  # dropout drew from them
        if not feed.rt.agreed(not fits):
            return feed
        half = feed.micro_batch_size // 2
        if half == 0:
            raise ConfigError(TOO_LARGE)
        console.note(
            f"out of memory with micro_batch_size={feed.micro_batch_size}; using {half} instead "
            f"(a step keeps its {batch_size} rows)"
        )
        torch.compiler.reset()  # a second static shape, not one slower graph for both
        feed = replace(feed, micro_batch_size=half)


def _rehearsal_fits(
    replica: nn.Module, feed: Feed, optimizer: torch.optim.Optimizer, batch_size: int
) -> bool:
    """Return whether a forward and backward fit next to weights, gradients and moments.

    The rows with most target tokens are used, since logits are the largest tensors of a step.
    """
    had_state = set(optimizer.state)  # moments of a resumed run
    fullest_first = np.argsort(-feed.data.row_targets, kind="stable")
    rows = fullest_first[: min(batch_size, feed.micro_batch_size * feed.rt.n_ranks)]
    try:
        allocate_gradients_and_moments(optimizer)
        [batch] = feed.work(rows).batches
        # Skip the all-reduce: if another rank is out of memory, it would never take part in it.
        with feed.rt.gradients_averaged(replica, now=False):
            with feed.rt.autocast():
                loss = replica(batch)
            loss.backward()
        feed.rt.synchronize()  # errors of asynchronous kernels surface here
    except RuntimeError as error:
        # The CPU's allocator raises a plain RuntimeError.
        is_out_of_memory = isinstance(error, torch.OutOfMemoryError)
        if not is_out_of_memory and "can't allocate memory" not in str(error):
            raise
        if feed.rt.is_sharded(replica):
            raise ConfigError(
                f"out of memory with micro_batch_size={feed.micro_batch_size}; lower it"
            ) from None
        return False
    finally:
        optimizer.zero_grad(set_to_none=True)
        # What a skipped step leaves in new moments depends on the optimizer (a fused SGD does not
        # initialise its momentum), so the first real step allocates them again.
        for parameter in set(optimizer.state) - had_state:
            del optimizer.state[parameter]
        gc.collect()  # reference cycles may keep activations alive
        if feed.rt.device.type == "cuda":
            torch.cuda.empty_cache()
    return True


def allocate_gradients_and_moments(optimizer: torch.optim.Optimizer) -> None:
    """Allocate what later steps keep, without changing a weight: activations get the rest.

    An optimizer without a fused kernel allocates no moments here, because its step is not run.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
    step_unless(torch.ones((), device=parameters[0].device), optimizer)


def rehearse_validation(replica: nn.Module, feed: Feed) -> None:
    """Run one validation forward, so that its compilation does not interrupt training later."""
    replica.eval()
    with torch.no_grad(), feed.rt.autocast():
        replica(next(feed.whole_split()).batches[0])
    replica.train()
    feed.rt.reshard(replica)
