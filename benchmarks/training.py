"""Contenders that train GPT-2 on the same examples: ours, transformers and nanoGPT.

Each is built in a separate process and takes optimizer steps: forward, backward, clipping, fused
AdamW. Only the contenders that need them import `transformers` or a checkout of nanoGPT.
"""

import contextlib
import importlib.util
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from clingpt.base.errors import ConfigError
from clingpt.base.types import Ints
from clingpt.data.packing import IGNORE, Rows, build_rows
from clingpt.evaluation.scorer import split_of_examples
from clingpt.nn.kernels import use_kernels
from clingpt.nn.lora import Lora, adapt
from clingpt.nn.runtime import Runtime, choose_dtype, compile_in_place, start
from clingpt.text.tasks import Example
from clingpt.text.tokenizer import EOT
from clingpt.training.batches import Feed
from clingpt.training.step import Schedule, Updater, accumulate_gradients, build_optimizer
from model import GPT, GPTConfig

RATE, CLIP = 1e-4, 1.0
NANOGPT_IGNORE = -1  # the target that nanoGPT's model.py ignores
SIZES = {
    "tiny": GPTConfig(n_layer=2, n_head=2, n_embd=64),
    "124M": GPTConfig(),
    "355M": GPTConfig(n_layer=24, n_head=16, n_embd=1024),
    "774M": GPTConfig(n_layer=36, n_head=20, n_embd=1280),
    "1558M": GPTConfig(n_layer=48, n_head=25, n_embd=1600),
}


@dataclass(frozen=True, kw_only=True)
class Placed:
    """Where and how a contender runs."""

    device: str
    dtype: str
    nanogpt: Path | None  # a checkout of nanoGPT

    def runtime(self) -> Runtime:
        """Return a runtime with only device and precision, without our process-wide settings."""
        device = torch.device(self.device)
        return Runtime(device, choose_dtype(self.dtype, device))


@dataclass(frozen=True, kw_only=True)
class Job(Placed):
    """The examples and settings that all contenders share."""

    shape: GPTConfig
    examples: Sequence[Example]
    rows: int  # of block_size tokens in one forward pass

    @property
    def n_targets(self) -> int:
        """Target tokens of all examples."""
        return sum(len(example.target_ids) for example in self.examples)

    def packed(self) -> Rows:
        """Pack the examples into rows, as train.py does."""
        return build_rows(
            split_of_examples(self.examples, EOT), self.shape.block_size, pack=True, seed=0
        )


def random_example(rng: np.random.Generator, length: int, target_share: float) -> Example:
    """Return random tokens, of which the last share are targets."""
    ids = rng.integers(0, EOT, length).tolist()
    n_prompt = min(length - 1, max(1, round(length * (1 - target_share))))
    return Example(prompt_ids=ids[:n_prompt], target_ids=ids[n_prompt:], trimmed_tokens=0)


Batch = tuple[Tensor, ...]
LossOf = Callable[..., Tensor]  # of a batch's tensors
Step = Callable[[], Tensor | float]  # takes one step on all examples; returns the loss


def ours(job: Job, *, compiled: bool, recompute: bool = False, lora: Lora | None = None) -> Step:
    """Train as train.py does: packed rows, attention within documents, logits only at targets."""
    rt, rows = start(device=job.device, dtype=job.dtype), job.packed()
    model = use_kernels(GPT(job.shape)).to(rt.device)
    if lora is not None:
        adapt(model, lora)
    model.checkpoint_activations = recompute
    if compiled and not compile_in_place(model, rt, wanted=True):
        raise ConfigError("torch.compile is not available here; leave out the compiled contenders")
    optimizer = build_optimizer(model, learning_rate=RATE, betas=(0.9, 0.95), weight_decay=0.1)
    constant = Schedule(kind="constant", peak=RATE, floor=0, warmup_steps=0, steps=1)
    scaler = rt.scaler()
    updater = Updater(optimizer, scaler, constant, rt, CLIP)
    feed, everything = Feed(rows, rt, job.rows, compiled), np.arange(len(rows))
    n_targets = rows.n_targets(everything)

    def step() -> Tensor:
        work = feed.work(everything)
        losses = accumulate_gradients(model, work, n_targets, rt=rt, scaler=scaler)
        return updater.step(0, losses, n_targets).loss

    return step


def usual_step(
    model: nn.Module, rt: Runtime, batches: Callable[[], Iterator[Batch]], loss_of: LossOf
) -> Step:
    """Return an ordinary training step: backward through each batch's loss, clipping, AdamW."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, fused=True)

    def step() -> Tensor:
        total = torch.zeros((), device=rt.device)
        for batch in batches():
            with rt.autocast():
                loss = loss_of(*batch)
            loss.backward()  # type: ignore[no-untyped-call]
            total = total + loss.detach()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return total

    return step


def transformers_gpt2(job: Job, rt: Runtime) -> nn.Module:
    """Build transformers' model with random weights: eager mode, PyTorch's fused attention."""
    try:
        from transformers import GPT2Config, GPT2LMHeadModel, logging
    except ImportError:
        raise ConfigError("transformers is not installed: pip install transformers") from None
    logging.set_verbosity_error()
    shape, off = job.shape, {"attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0}
    sizes = {"n_layer": shape.n_layer, "n_head": shape.n_head, "n_embd": shape.n_embd}
    config = GPT2Config(vocab_size=shape.vocab_size, n_positions=shape.block_size, **sizes, **off)
    model: nn.Module = GPT2LMHeadModel(config).to(rt.device).train()
    return model


def transformers_padded(job: Job, *, to_longest: bool) -> Step:
    """Train as transformers' Trainer does: one padded row per example, full logits.

    With `to_longest`, examples are sorted by length (its group_by_length), rows are padded to the
    longest of each forward, and a forward has about as many tokens as one of ours. Otherwise every
    row has block_size tokens.
    """
    rt, n_targets = job.runtime(), job.n_targets
    model = transformers_gpt2(job, rt)
    full, longest_first = job.shape.block_size, sorted(job.examples, key=lambda x: -length_of(x))
    mean = float(np.mean([length_of(example) for example in job.examples]))
    at_once = max(1, round(job.rows * full / mean)) if to_longest else job.rows

    def batches() -> Iterator[Batch]:
        for first in range(0, len(longest_first), at_once):
            part = longest_first[first : first + at_once]
            yield tuple(map(rt.put, padded(part, length_of(part[0]) if to_longest else full)))

    def loss_of(ids: Tensor, mask: Tensor, labels: Tensor) -> Any:
        return model(ids, attention_mask=mask, labels=labels, num_items_in_batch=n_targets).loss

    return usual_step(model, rt, batches, loss_of)


def length_of(example: Example) -> int:
    """Return the number of tokens of prompt and target."""
    return len(example.prompt_ids) + len(example.target_ids)


def padded(examples: Sequence[Example], length: int) -> tuple[Ints, Ints, Ints]:
    """Return ids, attention mask and labels, with one row per example."""
    ids = np.full((len(examples), length), EOT, dtype=np.int64)
    mask, labels = np.zeros_like(ids), np.full_like(ids, IGNORE)
    for row, example in enumerate(examples):
        end = length_of(example)
        ids[row, :end], mask[row, :end] = [*example.prompt_ids, *example.target_ids], 1
        labels[row, len(example.prompt_ids) : end] = example.target_ids
    return ids, mask, labels


def packed_batches(job: Job, rows: Rows, rt: Runtime, *, ignore: int) -> Iterator[Batch]:
    """Yield ids and next tokens (B, T) for models that attend across documents."""
    for first in range(0, len(rows), job.rows):
        arrays = rows.assemble(np.arange(first, min(first + job.rows, len(rows))))
        targets = np.full(arrays.ids_BT.size, ignore)
        real = arrays.targets_KM != IGNORE
        targets[arrays.target_index_KM[real]] = arrays.targets_KM[real]
        yield rt.put(arrays.ids_BT), rt.put(targets.reshape(arrays.ids_BT.shape))


def transformers_packed(job: Job) -> Step:
    """Train transformers' model on our packed rows, with full logits."""
    rt, rows, n = job.runtime(), job.packed(), job.n_targets
    model = transformers_gpt2(job, rt)

    def loss_of(ids: Tensor, targets: Tensor) -> Any:
        return model(ids, shift_labels=targets, labels=targets, num_items_in_batch=n).loss

    return usual_step(model, rt, lambda: packed_batches(job, rows, rt, ignore=IGNORE), loss_of)


def nanogpt_model(checkout: Path | None, shape: GPTConfig, vocab_size: int) -> Any:
    """Build the model of a nanoGPT checkout, with random weights."""
    if checkout is None:
        raise ConfigError("set --nanogpt=FOLDER to a checkout of github.com/karpathy/nanoGPT")
    spec = importlib.util.spec_from_file_location("nanogpt_model", checkout / "model.py")
    if spec is None or spec.loader is None or not (checkout / "model.py").exists():
        raise ConfigError(f"{checkout} contains no model.py; it must be a checkout of nanoGPT")
    module = importlib.util.module_from_spec(spec)
    sys.modules["nanogpt_model"] = module
    spec.loader.exec_module(module)
    config = module.GPTConfig(
        block_size=shape.block_size, vocab_size=vocab_size, n_layer=shape.n_layer,
        n_head=shape.n_head, n_embd=shape.n_embd, dropout=0.0,
    )  # fmt: skip
    with contextlib.redirect_stdout(None):  # it prints its size
        return module.GPT(config)


def nanogpt(job: Job, *, compiled: bool) -> Step:
    """Train nanoGPT's model on our packed rows; prompts get the target that it ignores."""
    rt, rows = job.runtime(), job.packed()
    model = nanogpt_model(job.nanogpt, job.shape, job.shape.padded_vocab_size).to(rt.device)
    called = torch.compile(model) if compiled else model

    def batches() -> Iterator[Batch]:
        return packed_batches(job, rows, rt, ignore=NANOGPT_IGNORE)

    return usual_step(model, rt, batches, lambda ids, targets: called(ids, targets)[1])


CONTENDERS: dict[str, Callable[[Job], Step]] = {
    "ours": partial(ours, compiled=False),
    "ours-compiled": partial(ours, compiled=True),
    "ours-recompute": partial(ours, compiled=False, recompute=True),
    "ours-compiled-recompute": partial(ours, compiled=True, recompute=True),
    "ours-lora": partial(ours, compiled=False, lora=Lora(rank=8, alpha=16, base="random weights")),
    "hf-sorted": partial(transformers_padded, to_longest=True),
    "hf-padded": partial(transformers_padded, to_longest=False),
    "hf-packed": transformers_packed,
    "nanogpt": partial(nanogpt, compiled=False),
    "nanogpt-compiled": partial(nanogpt, compiled=True),
}
