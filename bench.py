"""Measure training beside peers, and this machine's floor beneath it.

    python bench.py train                                ours and transformers, GPT-2 124M
    python bench.py train --data=data/pubmedqa --examples=32 --repeats=3
    python bench.py train --contenders ours hf-packed nanogpt --nanogpt=../nanoGPT
    python bench.py floor              matrix products, memory, loss, optimizer, assembling batches

Contenders take turns on the same examples, each in a process of its own; the median decides.
    ours, ours-compiled           train.py's own step: packed rows, documents apart
    …-recompute                   the same with --checkpoint_activations=True
    hf-sorted                     transformers as its Trainer does: full logits, rows sorted by
                                  length and padded to the longest of each forward
    hf-padded                     the same, every row padded to block_size
    hf-packed                     transformers on our packed rows, attending across documents
    nanogpt, nanogpt-compiled     likewise, by nanoGPT's model.py

A figure counts with its spread and on a quiet machine: others' share of the CPU is printed.
"""

import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from clingpt import config, console
from clingpt.contenders import CONTENDERS, Job, length_of
from clingpt.errors import ConfigError
from clingpt.floor import PARTS, READ_BYTES, product_flops
from clingpt.hardware import peak_flops, training_flops
from clingpt.prepared import open_prepared
from clingpt.race import race
from clingpt.runtime import choose_dtype, start
from clingpt.tasks import Example
from clingpt.tokenizer import EOT, Tokenizer
from model import GPTConfig

SIZES = {
    "tiny": GPTConfig(n_layer=2, n_head=2, n_embd=64),
    "124M": GPTConfig(),
    "355M": GPTConfig(n_layer=24, n_head=16, n_embd=1024),
    "774M": GPTConfig(n_layer=36, n_head=20, n_embd=1280),
    "1558M": GPTConfig(n_layer=48, n_head=25, n_embd=1600),
}


@dataclass(frozen=True, kw_only=True)
class BenchConfig:
    contenders: tuple[str, ...] = ("ours", "hf-sorted", "hf-packed")  # for train: who takes part
    size: Literal["tiny", "124M", "355M", "774M", "1558M"] = "124M"  # of the model
    rows: int = 2  # of block_size tokens in a forward
    block_size: int = 1024  # tokens in a row
    data: Path | None = None  # prepared folder whose training examples are used; None: random ones
    examples: int | None = None  # how many a step; None: as many as fill a forward
    document_tokens: int = 341  # of a random example at the most, a tenth less at the least
    target_share: float = 0.2  # of a random example's tokens
    repeats: int = 5  # turns of each, one warm-up aside
    steps: int = 1  # optimizer steps a turn; 10 and more on a GPU
    nanogpt: Path | None = None  # a checkout of github.com/karpathy/nanoGPT
    device: str = "auto"  # auto, cpu, cuda, cuda:1
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"  # of matrix products
    seed: int = 1337  # of the examples

    def __post_init__(self) -> None:
        config.check_range(self, "rows", "examples", "repeats", "steps", at_least=1)
        config.check_range(self, "document_tokens", "block_size", at_least=16)
        config.check_range(self, "target_share", above=0, at_most=1)
        config.check_range(self, "seed", at_least=0)
        config.check(self.document_tokens <= self.block_size, "document_tokens exceed block_size")
        known, unknown = ", ".join(CONTENDERS), set(self.contenders) - set(CONTENDERS)
        config.check(not unknown, f"there is no {min(unknown, default='')}, but {known}")
        config.check(bool(self.contenders), f"name some contenders: {known}")


def main() -> None:
    measures = {"train": bench_train, "floor": bench_floor}
    what, *flags = [*sys.argv[1:], "--help"] if len(sys.argv) == 1 else sys.argv[1:]
    if what in ("-h", "--help"):
        what, flags = "train", ["--help"]
    if what not in measures:
        raise ConfigError(f"bench.py measures {' or '.join(measures)}, not {what!r}")
    cfg = config.parse(BenchConfig, flags, prog=f"bench.py {what}", description=__doc__ or "")
    rt = start(device=cfg.device, dtype=cfg.dtype)
    job = Job(
        shape=replace(SIZES[cfg.size], block_size=cfg.block_size),
        examples=choose_examples(cfg),
        rows=cfg.rows,
        device=str(rt.device),
        dtype=cfg.dtype,
        nanogpt=cfg.nanogpt,
    )
    measures[what](cfg, job)


def choose_examples(cfg: BenchConfig) -> list[Example]:
    """Examples of a prepared folder, or random ones; as many as asked for, or as fill a forward."""
    rng = np.random.default_rng(cfg.seed)
    room = cfg.rows * cfg.block_size
    if cfg.data is None:
        n = cfg.examples or max(1, cfg.rows * (cfg.block_size // cfg.document_tokens))
        lengths = np.rint(cfg.document_tokens * rng.uniform(0.9, 1.0, n)).astype(int)
        return [random_example(rng, length, cfg.target_share) for length in lengths.tolist()]
    split = open_prepared(cfg.data, Tokenizer.load()).split("train")
    index = split.index[rng.permutation(len(split.index))]
    index = index[index[:, 2] - index[:, 0] <= cfg.block_size]
    n = cfg.examples or max(1, int((np.cumsum(index[:, 2] - index[:, 0]) <= room).sum()))
    if len(index) < n:
        raise ConfigError(f"{cfg.data} has {len(index)} examples that fit, {n} are asked for")
    return [
        Example(
            prompt_ids=split.tokens[begin:first].tolist(),
            target_ids=split.tokens[first:end].tolist(),
            trimmed_tokens=0,
        )
        for begin, first, end, _, _ in index[:n].tolist()
    ]


def random_example(rng: np.random.Generator, length: int, target_share: float) -> Example:
    ids = rng.integers(0, EOT, length).tolist()
    n_prompt = min(length - 1, max(1, round(length * (1 - target_share))))
    return Example(prompt_ids=ids[:n_prompt], target_ids=ids[n_prompt:], trimmed_tokens=0)


def bench_train(cfg: BenchConfig, job: Job) -> None:
    """Contenders on the same examples, and the machine's matrix products in the same run."""
    title = "matrix products"
    builders = {name: CONTENDERS[name] for name in cfg.contenders} | {title: PARTS[title]}
    timings, others = race(builders, job, repeats=cfg.repeats, steps=cfg.steps)
    peak = product_flops(job) / timings.pop(title).median_s
    describe(cfg, job, others)
    lengths = [length_of(example) for example in job.examples]
    targets = sum(len(example.target_ids) for example in job.examples)
    pairs = sum(length * (length + 1) for length in lengths) / 2
    flops = training_flops(job.shape, tokens=sum(lengths), targets=targets, attended_pairs=pairs)
    first = next(iter(timings.values()))
    rows: list[list[console.Cell]] = []
    for name, timing in timings.items():
        faster = timing.times_as_long(first)
        rows.append([
            name, spread(timing.steps_s), f"{sum(lengths) / timing.median_s:,.0f}",
            f"{len(lengths) / timing.median_s:.3g}", spread(faster),
            f"{flops / timing.median_s / peak:.0%}", console.size(timing.peak_bytes),
            f"{timing.first_step_s:.1f}",
        ])  # fmt: skip
    columns = ["contender", "s a step", "tokens/s", "examples/s", f"times {cfg.contenders[0]}"]
    columns += ["of matrix peak", "peak memory", "first step, s"]
    console.say(console.table("", columns, rows))
    known = peak_flops(device_name(job), choose_dtype(job.dtype, torch.device(job.device)))
    mfu = f", {flops / first.median_s / known:.1%} of the data sheet's" if known else ""
    console.say(
        f"\nMatrix peak, measured in the same run: {rate(peak, 'FLOP/s')}{mfu}. Work counted: "
        f"{flops / sum(lengths) / 1e6:,.0f} MFLOP a token, what these examples need at the least."
    )


def bench_floor(cfg: BenchConfig, job: Job) -> None:
    """The parts of a step alone, and the time that no step can be below."""
    timings, others = race(PARTS, job, repeats=cfg.repeats, steps=cfg.steps)
    describe(cfg, job, others)
    rates = {
        "matrix products": rate(product_flops(job) / timings["matrix products"].median_s, "FLOP/s"),
        "reading memory": rate(READ_BYTES / timings["reading memory"].median_s, "B/s"),
    }
    rows: list[list[console.Cell]] = [
        [
            name, spread([s * 1e3 for s in timing.steps_s]), rates.get(name),
            console.size(max(0, timing.peak_bytes - timing.built_bytes)),
        ]
        for name, timing in timings.items()
    ]  # fmt: skip
    console.say(console.table("", ["part", "ms", "rate", "memory on top"], rows))
    everywhere, at_targets = (timings[f"loss, logits {x}"] for x in ("everywhere", "at targets"))
    memory = [t.peak_bytes - t.built_bytes for t in (everywhere, at_targets)]
    console.say(
        f"\nLogits at targets alone: {spread(everywhere.times_as_long(at_targets))} times as fast, "
        f"{memory[0] / max(1, memory[1]):.2g} times less memory."
    )


def describe(cfg: BenchConfig, job: Job, others: float) -> None:
    """What was run, where, and how quiet it was there."""
    lengths = [length_of(example) for example in job.examples]
    targets = sum(len(example.target_ids) for example in job.examples) / sum(lengths)
    console.say(
        f"GPT-2 {cfg.size}, {len(lengths)} examples of {statistics.mean(lengths):.0f} tokens, "
        f"{targets:.0%} of them targets, {cfg.rows} rows of {cfg.block_size} a forward; "
        f"{device_name(job)}, {str(choose_dtype(job.dtype, torch.device(job.device)))[6:]}, "
        f"torch {torch.__version__}; medians (and range) of {cfg.repeats} turns; other processes "
        f"used {others:.0%} of the CPU at most.\n"
    )


def device_name(job: Job) -> str:
    return start(device=job.device, dtype=job.dtype).name()


def rate(per_s: float, unit: str) -> str:
    """12.3 GFLOP/s, 1.5 TB/s."""
    prefix, size = ("T", 1e12) if per_s >= 1e12 else ("G", 1e9)
    return f"{per_s / size:.3g} {prefix}{unit}"


def spread(values: Sequence[float]) -> str:
    """Median and range."""
    return f"{statistics.median(values):.3g} ({min(values):.3g}–{max(values):.3g})"


if __name__ == "__main__":
    console.run(main)
