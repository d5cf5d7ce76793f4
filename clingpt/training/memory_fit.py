"""Before the first step: find a micro-batch size that fits into memory, and compile validation.

A GPU reports that its memory is full, so a step is rehearsed there. On a CPU the system kills the
process instead, or swaps, so the memory of a step is estimated before anything is allocated.
"""

import contextlib
import gc
import os
import re
import resource
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from clingpt.base import console
from clingpt.base.errors import ConfigError
from clingpt.training.batches import Feed
from clingpt.training.step import step_unless
from model import GPT, Batch

TO_SAVE_MEMORY = (
    "try --checkpoint_activations=True, a smaller --block_size, --lora_rank=8, or --shard=True on "
    "several GPUs"
)
TOO_LARGE = f"out of memory even with one row at a time; {TO_SAVE_MEMORY}"
FP32_BYTES = 4
# Numbers that the backward pass of one block computes at once for each token, or that
# --checkpoint_activations computes again: per channel, and per channel of the MLP.
PER_CHANNEL, PER_MLP_CHANNEL = 12, 2
# Memory taken beyond what is counted, such as the allocator's gaps: measured (docs/results.md), and
# more with LoRA, whose layers allocate and free many tensors beside those that they keep.
SLACK, SLACK_OF_LORA = 1.1, 1.4


# ------------------------------------------------------------------------------------------------
# A CPU: estimate


def choose_micro_batch(
    model: GPT,
    feed: Feed,
    optimizer: torch.optim.Optimizer,
    *,
    batch_size: int,
    is_explicit: bool,
) -> Feed:
    """Return the feed with its micro-batch size halved until a step should fit into a CPU's memory.

    A note says what was chosen. With `is_explicit`, a size that will not fit is kept and warned
    about. Does nothing on other devices, which rehearse a step, and for sharded weights.
    """
    rt = feed.rt
    if rt.device.type != "cpu" or rt.is_sharded(model):
        return feed
    free = available_memory()
    if free is not None:
        free //= rt.n_ranks_here()  # each process needs as much
    most = min(feed.micro_batch_size, rt.largest_share(batch_size))
    random_numbers = rt.rng_state()
    with rt.autocast():  # a base in 16 bits computes only there
        per_token, per_target = _saved_bytes(model)
    rt.set_rng_state(random_numbers)  # dropout drew from them
    needs = {
        rows: _bytes_to_train(model, feed, optimizer, rows, per_token, per_target)
        for rows in (most >> n for n in range(most.bit_length()))
    }
    fitting = max((rows for rows in needs if free is None or needs[rows] <= free), default=0)
    fitting = min(rt.gathered(fitting))  # all ranks must run the same number of micro-batches
    now = resident_bytes()
    room = "" if free is None else f"; {console.size(now + free)} are available"
    totals = {rows: f"about {console.size(now + need)}" for rows, need in needs.items()}
    if fitting == most:
        console.note(f"memory: {totals[most]} with {console.count(most, 'row')} at a time{room}")
    elif is_explicit:
        instead = f"{fitting} would take {totals[fitting]}" if fitting else TO_SAVE_MEMORY
        console.note(
            f"memory: --micro_batch_size={feed.micro_batch_size} will probably not fit, with "
            f"{totals[most]}{room}; {instead}"
        )
        return feed
    elif fitting:
        console.note(
            f"memory: {totals[fitting]} with {console.count(fitting, 'row')} at a time, since "
            f"{most} would take {totals[most]}{room} (a step still has "
            f"{console.count(batch_size, 'row')})"
        )
    else:
        console.note(
            f"memory: even one row at a time will probably not fit, with {totals[1]}{room}; "
            f"{TO_SAVE_MEMORY}"
        )
    return replace(feed, micro_batch_size=fitting or 1)


def _bytes_to_train(
    model: GPT,
    feed: Feed,
    optimizer: torch.optim.Optimizer,
    rows: int,
    per_token: float,
    per_target: float,
) -> int:
    """Estimate what training on so many rows at a time allocates beyond what is allocated now."""
    data, shape = feed.data, model.config
    kept = 0  # gradients and, unless resumed, moments: two, but Muon has one
    for group in optimizer.param_groups:
        copies = 1 if optimizer.state else 1 + group.get("moments", 2)
        kept += copies * sum(p.numel() for p in group["params"])
    lengths = np.add.reduceat(data.split.lengths[data.order], data.starts[:-1])
    tokens = int(np.sort(lengths)[-rows:].sum())  # of the longest rows: the padding is left out
    if feed.compiled:
        tokens = rows * shape.block_size
    targets = int(np.sort(data.row_targets)[-rows:].sum())
    # The loss of a chunk: logits, and the gradient of the output head beside the sum so far.
    head = model.wte.weight.numel()
    loss = targets / data.n_chunks(rows) * shape.padded_vocab_size + 2 * head
    block = (PER_CHANNEL * shape.n_embd + PER_MLP_CHANNEL * shape.mlp_size) * tokens
    activations = per_token * tokens + per_target * targets
    slack = SLACK if all(p.requires_grad for p in model.parameters()) else SLACK_OF_LORA
    return int(slack * (activations + FP32_BYTES * (kept + loss + block)))


def _saved_bytes(model: GPT) -> tuple[float, float]:
    """Measure what a forward pass keeps for the backward pass: bytes per token and per target.

    Both are linear in the length, so short passes are enough. They depend on dropout, LoRA and
    checkpointing.
    """
    sizes = dict[int, int]()
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}

    def see(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    def saved(tokens: int, targets: int) -> int:
        ids_BT = torch.zeros(1, tokens, dtype=torch.int64)
        positions_BT = torch.arange(tokens)[None] % model.config.block_size
        index_KM = torch.arange(targets)[None]
        batch = Batch(ids_BT, positions_BT, torch.tensor([0, tokens]), index_KM, index_KM)
        sizes.clear()
        with torch.autograd.graph.saved_tensors_hooks(see, lambda tensor: tensor):
            loss = model.forward(batch)  # not compiled
        del loss  # until here, no storage may be freed and its address used again
        return sum(sizes.values())

    fewest, n_targets = 16, 16
    base = saved(fewest, n_targets)
    per_token = (saved(3 * fewest, n_targets) - base) / (2 * fewest)
    per_target = (saved(3 * fewest, 3 * n_targets) - base) / (2 * n_targets) - per_token
    if model.checkpoint_activations:  # the inputs of blocks are kept elsewhere
        per_token += FP32_BYTES * model.config.n_layer * model.config.n_embd
    return per_token, per_target


def resident_bytes() -> int:
    """Return this process's resident memory; where /proc is missing, its peak so far."""
    try:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
        return pages * resource.getpagesize()
    except OSError:
        unit = 1 if sys.platform == "darwin" else 1024  # getrusage(2) of each system
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def available_memory() -> int | None:
    """Return how many bytes can be allocated without swapping, within a container's limits.

    Without /proc (macOS) that is all of the machine's memory, or None if it is not known.
    """
    try:
        found = re.search(r"MemAvailable: +(\d+) kB", Path("/proc/meminfo").read_text("ascii"))
    except OSError:
        if "SC_PHYS_PAGES" not in os.sysconf_names:
            return None
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    free = [int(found[1]) * 1024] if found else []
    return min(free + _left_in_containers(), default=None)


def _left_in_containers(
    root: Path = Path("/sys/fs/cgroup"), groups: Path = Path("/proc/self/cgroup")
) -> list[int]:
    """Return what each limit on this process's control groups leaves, in bytes."""
    left = []
    for line in groups.read_text("utf-8").splitlines() if groups.exists() else []:
        _, kind, path = line.split(":", 2)
        # Version 1 has a hierarchy for memory, version 2 one for everything.
        limit, used = ("max", "current") if not kind else ("limit_in_bytes", "usage_in_bytes")
        top = root / kind
        group = top / path.lstrip("/")
        for folder in [group, *group.parents]:
            if not folder.is_relative_to(top) or kind not in ("", "memory"):
                break
            with contextlib.suppress(OSError, ValueError):  # no such file; no limit is "max"
                most, now = (int((folder / f"memory.{x}").read_text()) for x in (limit, used))
                stat = (folder / "memory.stat").read_text()
                # Cached files count as used, but make room when memory is short.
                cached = re.search(r"^(?:total_)?inactive_file (\d+)", stat, re.MULTILINE)
                left.append(max(0, most - now + int(cached[1] if cached else 0)))
    return left


# ------------------------------------------------------------------------------------------------
# Any device: rehearse


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
            f"(a step still has {console.count(batch_size, 'row')})"
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
