"""Compare the speed of training, decoding and serving with other programs.

    python -m benchmarks train  # ours and transformers, GPT-2 124M
    python -m benchmarks train --data=data/pubmedqa --examples=32 --repeats=3
    python -m benchmarks train --contenders ours hf-packed nanogpt \\
        --nanogpt=../nanoGPT
    python -m benchmarks floor  # matrix products, memory, loss, optimizer
    python -m benchmarks decode  # prefill, decoding, label scores
    python -m benchmarks decode --batches 1 --contenders ours hf nanogpt \\
        --nanogpt=../nanoGPT
    python -m benchmarks export  # decode with PyTorch, ONNX and llama.cpp
    python -m benchmarks export --batches 1 --threads=1
    python -m benchmarks serve  # serve.py and `transformers serve`
    python -m benchmarks serve --batches 16 --contenders ours-int8
    python -m benchmarks clinical  # no benchmark: the results of make clinical

Contenders take turns on the same examples, each in its own process; the median
turn counts.

Contenders of train:
    ours, ours-compiled        train.py's own step on packed rows
    …-recompute                the same with --checkpoint_activations
    ours-lora                  the same with --lora_rank=8
    hf-sorted                  transformers like its Trainer: full logits, rows
                               sorted by length, padded to the longest one
    hf-padded                  the same, every row padded to block_size
    hf-packed                  transformers on our packed rows, with attention
                               across documents
    nanogpt, nanogpt-compiled  nanoGPT's model.py on the same rows
Contenders of decode:
    ours, ours-int8            sample.py's engine, with CUDA graphs on a GPU
    hf                         transformers' generate with its KV cache, and one
                               forward pass per label prompt
    nanogpt                    nanoGPT's generate, which has no cache
    onnx, onnx-int8            clingpt/export/onnx_runner.py on exported models
    llama.cpp, …-f16, …-q8_0   llama.cpp's server (in the package xllamacpp,
                               whose build is for any CPU) on GGUF files
Contenders of serve, on a CPU:
    ours, ours-int8            serve.py, 16 replies at once
    ours-one, ours-int8-one    serve.py, one reply at a time
    hf                         `transformers serve` (needs accelerate)

Every figure comes with its spread. Measure on a quiet machine: the CPU share of
other processes is printed.
"""

import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

from clingpt.base import console, settings
from clingpt.base.errors import ConfigError

MEASURES = ("train", "floor", "decode", "serve", "export", "clinical")
CLINICAL = """Summarise the runs of `make clinical` from what train.py and eval.py wrote.

    python -m benchmarks clinical --runs=out/clinical --out=out/clinical/summary

Writes summary.md (each task beside the best baseline that costs nothing),
summary.png (the base's loss, and the tasks) and examples.md (six records per
task side by side; other people's texts, so keep them local). Runs that are not
there yet are named. NAME_seed2, NAME_fold3 and the like count as repeats of
NAME.
"""


@dataclass(frozen=True, kw_only=True)
class BenchConfig:
    # --- contenders ---
    contenders: tuple[str, ...] = ()  # which to measure; none named: ours and transformers
    nanogpt: Path | None = None  # checkout of github.com/karpathy/nanoGPT, for its contenders
    repeats: int = 5  # measured turns of each contender, after one warm-up

    # --- model ---
    size: Literal["tiny", "124M", "355M", "774M", "1558M"] = "124M"  # GPT-2 size, in parameters
    block_size: int = 1024  # context in tokens

    # --- train ---
    rows: int = 2  # rows of block_size tokens per forward pass
    steps: int = 1  # optimizer steps per turn; use 10 or more on a GPU
    data: Path | None = None  # prepared folder with training examples; None: random examples
    examples: int | None = None  # examples per step; None: as many as fill a forward pass
    document_tokens: int = 341  # longest random example, in tokens; the shortest has a tenth less
    target_share: float = 0.2  # share of target tokens in a random example

    # --- decode and serve ---
    batches: tuple[int, ...] = (1, 8, 32)  # decode: prompts at once; serve: concurrent clients
    prompt_tokens: int = 256  # tokens per prompt
    mixed: bool = False  # serve: mix prompts of a quarter, a half and all of --prompt_tokens
    new_tokens: int = 65  # tokens per reply; prefill produces the first
    label_prompts: int = 16  # decode: prompts whose labels are scored; 0: none
    label_tokens: int = 350  # decode: tokens per such prompt

    # --- hardware ---
    device: str = "auto"  # auto, cpu, cuda or cuda:1
    threads: int = 0  # decode, export: CPU threads of each contender; 0 uses all cores
    # Precision of matrix products.
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    seed: int = 1337  # seed of the random examples

    def __post_init__(self) -> None:
        settings.check_range(self, "rows", "examples", "repeats", "steps", at_least=1)
        settings.check_range(self, "document_tokens", "block_size", at_least=16)
        settings.check_range(self, "target_share", above=0, at_most=1)
        settings.check_range(self, "seed", "label_prompts", "threads", at_least=0)
        settings.check_range(self, "prompt_tokens", "label_tokens", at_least=1)
        settings.check_range(self, "new_tokens", at_least=2)
        settings.check(min(self.batches, default=0) > 0, "batches must be at least 1")
        settings.check(self.document_tokens <= self.block_size, "document_tokens exceed block_size")


@dataclass(frozen=True, kw_only=True)
class ClinicalConfig:
    runs: Path = Path("out/clinical")  # folder of run folders: base, cxr, pubmedqa_fold0 …
    out: Path = Path("out/clinical/summary")  # folder to write
    # Split whose evaluations are summarised. Choose settings on val.
    split: Literal["val", "test"] = "test"


def parse_flags() -> tuple[str, BenchConfig | ClinicalConfig]:
    """Return the benchmark's name and the settings."""
    what, *flags = sys.argv[1:] or ["--help"]
    if what in ("-h", "--help"):
        what, flags = "train", ["--help"]
    if what not in MEASURES:
        raise ConfigError(f"unknown benchmark {what!r}; choose from {', '.join(MEASURES)}")
    prog = f"python -m benchmarks {what}"
    if what == "clinical":
        return what, settings.parse(ClinicalConfig, flags, prog=prog, description=CLINICAL)
    return what, settings.parse(BenchConfig, flags, prog=prog, description=__doc__ or "")


if __name__ == "__main__":
    # Answer --help and refuse mistaken flags before the imports below, which take seconds.
    console.run(parse_flags, requirements="requirements-dev.txt")

import numpy as np
import torch

from benchmarks import clinical, server_load
from benchmarks.decoding import GGUF_KINDS, LABELS, REPLIES, DecodeJob, prepare_gguf, prepare_onnx
from benchmarks.floor import PARTS, READ_BYTES, product_flops, read
from benchmarks.timing import race, rate, spread
from benchmarks.training import (
    CONTENDERS,
    SIZES,
    Job,
    Placed,
    Step,
    length_of,
    random_example,
)
from clingpt.data.prepared import open_prepared
from clingpt.nn.runtime import start
from clingpt.text.tasks import Example
from clingpt.text.tokenizer import EOT, Tokenizer
from clingpt.training.summary import peak_flops, training_flops
from model import GPT

T = TypeVar("T")
WEIGHT_FILES = {".safetensors", ".data", ".onnx", ".gguf"}
# The default contenders of `export`.
ENGINES = ("ours", "ours-int8", "onnx", "onnx-int8", "llama.cpp", "llama.cpp-f16", "llama.cpp-q8_0")
# Others as in --dtype. Q8_0 has a scale of two bytes for 32 weights.
BYTES_PER_WEIGHT = {
    "ours-int8": 1,
    "onnx-int8": 1,
    "llama.cpp": 4,
    "llama.cpp-f16": 2,
    "llama.cpp-q8_0": 34 / 32,
}


def main() -> None:
    measures = {"train": bench_train, "floor": bench_floor}
    measures |= {"decode": bench_decode, "serve": bench_serve, "export": bench_decode}
    what, cfg = parse_flags()
    if isinstance(cfg, ClinicalConfig):
        clinical.summarize(cfg.runs, cfg.out, cfg.split)
        return
    if what == "export" and not cfg.contenders:
        cfg = replace(cfg, contenders=ENGINES, label_prompts=0)
    measures[what](cfg)


def training_job(cfg: BenchConfig) -> Job:
    """Choose the examples and the device of a training benchmark."""
    return Job(
        shape=replace(SIZES[cfg.size], block_size=cfg.block_size),
        examples=choose_examples(cfg),
        rows=cfg.rows,
        device=str(start(device=cfg.device, dtype=cfg.dtype).device),
        dtype=cfg.dtype,
        nanogpt=cfg.nanogpt,
    )


def chosen(cfg: BenchConfig, known: Mapping[str, T], *default: str) -> dict[str, T]:
    """Return the contenders that the flags name, or the default ones."""
    if unknown := set(cfg.contenders) - set(known):
        raise ConfigError(f"unknown contender {min(unknown)!r}; choose from {', '.join(known)}")
    return {name: known[name] for name in cfg.contenders or default}


def choose_examples(cfg: BenchConfig) -> list[Example]:
    """Return examples of a prepared folder, or random ones; by default enough for one forward."""
    rng = np.random.default_rng(cfg.seed)
    if cfg.data is None:
        n = cfg.examples or max(1, cfg.rows * (cfg.block_size // cfg.document_tokens))
        lengths = np.rint(cfg.document_tokens * rng.uniform(0.9, 1.0, n)).astype(int)
        return [random_example(rng, length, cfg.target_share) for length in lengths.tolist()]
    split = open_prepared(cfg.data, Tokenizer.load(), checkpoint="gpt2").split("train")
    index = split.index[rng.permutation(len(split.index))]
    index = index[index[:, 2] - index[:, 0] <= cfg.block_size]
    n_tokens = np.cumsum(index[:, 2] - index[:, 0])
    n = cfg.examples or max(1, int((n_tokens <= cfg.rows * cfg.block_size).sum()))
    if len(index) < n:
        raise ConfigError(
            f"{cfg.data} has {len(index)} examples that fit, fewer than the {n} requested"
        )
    return [split.example(row) for row in index[:n]]


def bench_train(cfg: BenchConfig) -> None:
    """Time optimizer steps on the same examples, and matrix products in the same run."""
    title = "matrix products"
    builders = chosen(cfg, CONTENDERS, "ours", "hf-sorted", "hf-packed") | {title: PARTS[title]}
    job = training_job(cfg)
    timings, others = race(builders, job, repeats=cfg.repeats, steps=cfg.steps)
    peak = product_flops(job) / timings.pop(title).median_s
    describe(cfg, job, others)
    lengths = [length_of(example) for example in job.examples]
    pairs = sum(length * (length + 1) for length in lengths) / 2
    flops = training_flops(
        job.shape, tokens=sum(lengths), targets=job.n_targets, attended_pairs=pairs
    )
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
    columns = ["contender", "s per step", "tokens/s", "examples/s", f"times {next(iter(timings))}"]
    columns += ["of matrix peak", "peak memory", "first step, s"]
    console.say(console.table("", columns, rows))
    rt = job.runtime()
    known = peak_flops(rt.name(), rt.dtype)
    mfu = f", {flops / first.median_s / known:.1%} of the data sheet's" if known else ""
    console.say(
        f"\nMatrix peak, measured in the same run: {rate(peak, 'FLOP/s')}{mfu}. Counted work: "
        f"{flops / sum(lengths) / 1e6:,.0f} MFLOP per token, the minimum for these examples."
    )


def bench_floor(cfg: BenchConfig) -> None:
    """Time the parts of a training step alone: a lower bound for any implementation."""
    job = training_job(cfg)
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
    console.say(console.table("", ["part", "ms", "rate", "extra memory"], rows))
    everywhere, at_targets = (timings[f"loss, logits {x}"] for x in ("everywhere", "at targets"))
    memory = [t.peak_bytes - t.built_bytes for t in (everywhere, at_targets)]
    console.say(
        f"\nLogits only at targets: {spread(everywhere.times_as_long(at_targets))} times as fast, "
        f"{memory[0] / max(1, memory[1]):.2g} times less memory."
    )


def bench_decode(cfg: BenchConfig) -> None:
    """Time prefill, decoding and label scores with the same prompts and weights."""
    longest = max(cfg.prompt_tokens + cfg.new_tokens, cfg.label_tokens)
    settings.check(longest <= cfg.block_size, f"{longest} tokens exceed block_size")
    builders = chosen(cfg, REPLIES, "ours", "ours-int8", "hf")
    rng, rt = np.random.default_rng(cfg.seed), start(device=cfg.device, dtype=cfg.dtype)
    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(cfg.seed)
        model = GPT(replace(SIZES[cfg.size], block_size=cfg.block_size))
        model.save_pretrained(Path(folder))
        weights = sum(parameter.numel() for parameter in model.parameters())
        del model
        if any(name.startswith("onnx") for name in builders):
            prepare_onnx(Path(folder))
        prepare_gguf(Path(folder), [GGUF_KINDS[name] for name in builders if name in GGUF_KINDS])
        sizes = exported_sizes(Path(folder))
        job = DecodeJob(
            weights=Path(folder), prompts=[], new_tokens=cfg.new_tokens,
            device=str(rt.device), dtype=cfg.dtype, nanogpt=cfg.nanogpt, threads=cfg.threads,
        )  # fmt: skip
        console.say(console.key_values("Files", sizes) + "\n")
        for batch in cfg.batches:
            prompts = rng.integers(0, EOT, (batch, cfg.prompt_tokens)).tolist()
            bench_replies(cfg, replace(job, prompts=prompts), builders, weights)
        if cfg.label_prompts:
            prompts = rng.integers(0, EOT, (cfg.label_prompts, cfg.label_tokens)).tolist()
            bench_labels(cfg, replace(job, prompts=prompts))


def exported_sizes(folder: Path) -> list[tuple[str, str]]:
    """Return the weight files of each engine and their sizes."""
    paths = [path for path in folder.rglob("*") if path.suffix in WEIGHT_FILES]
    return [(path.name, console.size(path.stat().st_size)) for path in sorted(paths)]


def bench_replies(
    cfg: BenchConfig,
    job: DecodeJob,
    builders: Mapping[str, Callable[..., Step]],
    weights: int,
) -> None:
    """Time each contender to the first token and to the end; the difference is decoding."""
    lanes = {f"{name} first": partial(build, new=1) for name, build in builders.items()}
    lanes |= {f"{name} whole": partial(build, new=None) for name, build in builders.items()}
    title = "reading memory"
    timings, others = race({**lanes, title: read}, job, repeats=cfg.repeats, steps=cfg.steps)
    bandwidth, n_steps = READ_BYTES / timings.pop(title).median_s, cfg.new_tokens - 1
    firsts = {name: timings[f"{name} first"] for name in builders}
    wholes = {name: timings[f"{name} whole"] for name in builders}
    decode_s = {
        name: [(b - a) / n_steps for a, b in zip(firsts[name].steps_s, whole.steps_s, strict=True)]
        for name, whole in wholes.items()
    }
    yardstick = "hf" if "hf" in builders else next(iter(builders))
    rows: list[list[console.Cell]] = []
    for name, whole in wholes.items():
        first, step_s = firsts[name], statistics.median(decode_s[name])
        slower = [a / b for a, b in zip(decode_s[yardstick], decode_s[name], strict=True)]
        n_bytes = weights * BYTES_PER_WEIGHT.get(name, job.runtime().dtype.itemsize)
        rows.append([
            name, spread(firsts[yardstick].times_as_long(first)), f"{first.median_s:.3f}",
            spread(slower), spread([s * 1e3 for s in decode_s[name]]),
            f"{len(job.prompts) / step_s:,.0f}", f"{n_bytes / bandwidth / step_s:.0%}",
            spread(wholes[yardstick].times_as_long(whole)), console.size(whole.peak_bytes),
            f"{whole.load_s:.1f}", "yes" if whole.loss == wholes[yardstick].loss else "no",
        ])  # fmt: skip
    what = f"{len(job.prompts)} prompts of {cfg.prompt_tokens} tokens, {n_steps} steps after the"
    announce(cfg, job, others, f"{what} first token")
    columns = ["contender", f"prefill: {yardstick} / it", "s", f"step: {yardstick} / it", "ms"]
    columns += ["tokens/s", "of bandwidth", f"whole: {yardstick} / it", "peak memory", "load, s"]
    columns += ["same text"]
    console.say(console.table("", columns, rows))
    console.say(f"\nMemory bandwidth, measured in the same run: {rate(bandwidth, 'B/s')}.\n")


def bench_labels(cfg: BenchConfig, job: DecodeJob) -> None:
    """Time label scores in prompts per second."""
    builders = {name: LABELS[name] for name in cfg.contenders or LABELS if name in LABELS}
    timings, others = race(builders, job, repeats=cfg.repeats, steps=cfg.steps)
    yardstick = timings["hf" if "hf" in timings else next(iter(timings))]
    rows: list[list[console.Cell]] = [
        [
            name, spread(yardstick.times_as_long(timing)), spread(timing.steps_s),
            f"{len(job.prompts) / timing.median_s:.3g}", f"{timing.loss - yardstick.loss:.1e}",
        ]
        for name, timing in timings.items()
    ]  # fmt: skip
    announce(cfg, job, others, f"labels of {len(job.prompts)} prompts of {cfg.label_tokens} tokens")
    columns = ["contender", "times as fast", "s", "prompts/s", "difference of summed log-probs"]
    console.say(console.table("", columns, rows))


def bench_serve(cfg: BenchConfig) -> None:
    """Measure servers under the same load: tokens per second, and latencies."""
    servers = chosen(cfg, server_load.CONTENDERS, "ours", "ours-int8", "ours-one", "hf")
    lengths = [cfg.prompt_tokens // part for part in ((4, 2, 1) if cfg.mixed else (1,))]
    n_prompts = max(4, 2 * max(cfg.batches))
    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(cfg.seed)
        GPT(replace(SIZES[cfg.size], block_size=cfg.block_size)).save_pretrained(Path(folder))
        Tokenizer.load().save(Path(folder))
        found, others = server_load.measure(
            servers,
            Path(folder),
            clients=cfg.batches,
            prompts=server_load.make_prompts(n_prompts, lengths, seed=cfg.seed),
            new_tokens=cfg.new_tokens,
            repeats=cfg.repeats,
        )
    for n in cfg.batches:
        console.say(server_load.table(n, {name: found[n, name] for name in servers}))
    console.say(
        f"\nGPT-2 {cfg.size} on the CPU, prompts of {' or '.join(map(str, lengths))} tokens, "
        f"{cfg.new_tokens} new tokens each, streamed; torch {torch.__version__}; medians (and "
        f"range) of {cfg.repeats} turns; other processes used {others:.0%} of the CPU at most."
    )


def describe(cfg: BenchConfig, job: Job, others: float) -> None:
    """Print the examples of a training benchmark and its conditions."""
    lengths = [length_of(example) for example in job.examples]
    targets = job.n_targets / sum(lengths)
    what = (
        f"{len(lengths)} examples of {statistics.mean(lengths):.0f} tokens, {targets:.0%} of them "
        f"targets, {cfg.rows} rows of {cfg.block_size} per forward"
    )
    announce(cfg, job, others, what)


def announce(cfg: BenchConfig, job: Placed, others: float, what: str) -> None:
    """Print what was measured, where, and how busy the machine was."""
    rt = job.runtime()
    console.say(
        f"GPT-2 {cfg.size}, {what}; {rt.name()}, {str(rt.dtype).removeprefix('torch.')}, "
        f"torch {torch.__version__}; medians (and range) of {cfg.repeats} turns; other processes "
        f"used {others:.0%} of the CPU at most.\n"
    )


if __name__ == "__main__":
    console.run(main, requirements="requirements-dev.txt")
