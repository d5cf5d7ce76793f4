"""Before the first step: compile what compiles, and find the micro-batch that fits the memory."""

import gc
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from clingpt.base import console
from clingpt.base.errors import ConfigError
from clingpt.training.batches import Feed
from clingpt.training.optim import allocate_all

TOO_LARGE = (
    "one row at a time does not fit into memory; try --checkpoint_activations=True, a smaller "
    "--block_size, --lora_rank=8, or --shard=True on several GPUs"
)


def fitting_feed(
    replica: nn.Module, feed: Feed, optimizer: torch.optim.Optimizer, *, batch_size: int
) -> Feed:
    """The feed, its micro-batch halved until a step fits, which is then said; batches stay whole.

    A step is tried with all its memory and none of its effects before the first real one, so that
    no rank runs out of memory while others wait for its gradients. Shards wait for one another in
    every block: where they do not fit, this is the end (ConfigError).
    """
    random_numbers = feed.rt.rng_state()
    fits = _rehearsal_fits(replica, feed, optimizer, batch_size)
    feed.rt.set_rng_state(random_numbers)
    if not feed.rt.agreed(not fits):
        return feed
    half = feed.micro_batch_size // 2
    if half == 0:
        raise ConfigError(TOO_LARGE)
    console.note(
        f"out of memory with {feed.micro_batch_size} rows at once: {half} at once from here on, in "
        f"twice as many forwards; a step keeps its {batch_size} rows"
    )
    torch.compiler.reset()  # the smaller shape gets a graph of its own, not one for all shapes
    smaller = replace(feed, micro_batch_size=half)
    return fitting_feed(replica, smaller, optimizer, batch_size=batch_size)


def rehearse_validation(replica: nn.Module, feed: Feed | None) -> None:
    """One forward as validations make them, so that nothing is left to compile between steps."""
    if feed is None:
        return
    replica.eval()
    with torch.no_grad(), feed.rt.autocast():
        replica(next(feed.whole_split()).batches[0])
    replica.train()
    feed.rt.reshard(replica)


def _rehearsal_fits(
    replica: nn.Module, feed: Feed, optimizer: torch.optim.Optimizer, batch_size: int
) -> bool:
    """Whether the forward with most targets, and its backward, leave memory for all the rest."""
    fullest_first = np.argsort(-feed.data.row_targets, kind="stable")
    rows = fullest_first[: min(batch_size, feed.micro_batch_size * feed.rt.n_ranks)]
    try:
        allocate_all(optimizer)
        [batch] = feed.work(rows).batches
        with feed.rt.gradients_averaged(replica, now=False):
            with feed.rt.autocast():
                loss = replica(batch)
            loss.backward()
        feed.rt.synchronize()
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        if feed.rt.is_sharded(replica):
            raise ConfigError(
                f"out of memory with {feed.micro_batch_size} rows at once; lower --micro_batch_size"
            ) from None
        return False
    finally:
        optimizer.zero_grad(set_to_none=True)
        gc.collect()
        if feed.rt.device.type == "cuda":
            torch.cuda.empty_cache()
    return True


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether a device, or the CPU's allocator, had no more to give."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
