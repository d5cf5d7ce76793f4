"""Train a GPT-2 on prepared data: from scratch, from OpenAI's weights or from a checkpoint.

    python train.py config/quickstart.py
    python train.py config/pubmedqa.py --batch_size=16 --compile=False
    python train.py config/pubmedqa.py --init_from=out/artificial/best

Ctrl-C saves; the same command again goes on where it stopped. The loss is the sum over target
tokens divided by their number, whatever the micro-batches.
"""

import math
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from clingpt import config, console, runtime
from clingpt.checkpoint import CARD, Loaded, RunFolder, load_model, load_trainer
from clingpt.curves import append_metrics, draw_curves, drop_after
from clingpt.dataset import Ints, Rows, build_rows, rows_of_step
from clingpt.errors import CheckpointError, ConfigError
from clingpt.hardware import peak_flops, training_flops
from clingpt.optim import (
    build_optimizer,
    load_optimizer_state,
    optimizer_state,
    scheduled_rate,
    set_learning_rate,
)
from clingpt.prepared import Prepared, open_prepared
from clingpt.runtime import Runtime, StopSignals
from clingpt.tokenizer import Tokenizer
from model import GPT, Batch, GPTConfig


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    data: Path = Path("data/pubmedqa")  # folder that prepare.py wrote
    out: Path = Path("out/pubmedqa")  # run folder: checkpoints, metrics.jsonl, curves.png
    init_from: str = "gpt2"  # scratch, gpt2, gpt2-medium, gpt2-large, gpt2-xl, a Hub id or a folder
    resume: Literal["auto", "never"] = "auto"  # go on from the newest checkpoint in out, if any
    n_layer: int = 12  # blocks; for init_from=scratch
    n_head: int = 12  # attention heads; for init_from=scratch
    n_embd: int = 768  # channels; for init_from=scratch
    block_size: int = 1024  # tokens in a row; crops a longer pretrained context
    dropout: float = 0.1  # of embeddings and residual branches
    pack: bool = True  # several examples a row, apart; False pads each to a row of its own
    batch_size: int = 8  # rows of an optimizer step
    micro_batch_size: int = 4  # rows of one forward pass; lower it where memory runs out
    epochs: float = 5.0  # passes over the training rows
    steps: int | None = None  # optimizer steps; None: as many as epochs need
    learning_rate: float = 3e-5  # peak, reached after warmup_steps
    min_lr: float = 3e-6  # where linear and cosine schedules end
    warmup_steps: int = 20  # optimizer steps of linear warm-up
    schedule: Literal["cosine", "linear", "constant"] = "cosine"  # after the warm-up
    weight_decay: float = 0.1  # of weights and embeddings; biases and norms do not decay
    beta1: float = 0.9  # AdamW
    beta2: float = 0.95  # AdamW
    grad_clip: float = 1.0  # largest gradient norm; 0 switches clipping off
    eval_every: int = 50  # optimizer steps between validations, each with a checkpoint
    log_every: int = 5  # optimizer steps between lines of metrics.jsonl
    keep: int = 2  # newest checkpoints kept, best and last aside
    device: str = "auto"  # auto, cpu, cuda, cuda:1, mps
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"  # of matrix products
    compile: bool = True  # torch.compile, where the machine has a compiler
    checkpoint_activations: bool = False  # recompute blocks in the backward: less memory, +33% time
    seed: int = 1337  # of weights, packing, order and dropout

    def __post_init__(self) -> None:
        positive = ("n_layer", "n_head", "n_embd", "batch_size", "micro_batch_size", "steps")
        config.check_range(self, *positive, "eval_every", "log_every", at_least=1)
        config.check_range(self, "block_size", at_least=16)
        config.check_range(self, "keep", at_least=2)
        config.check_range(self, "epochs", "learning_rate", above=0)
        config.check_range(self, "min_lr", "warmup_steps", "weight_decay", at_least=0)
        config.check_range(self, "grad_clip", "seed", at_least=0)
        config.check_range(self, "dropout", "beta1", "beta2", at_least=0, below=1)
        config.check(self.min_lr <= self.learning_rate, "min_lr must not exceed learning_rate")
        config.check(
            self.n_embd % self.n_head == 0,
            f"n_embd must be a multiple of n_head, got {self.n_embd} and {self.n_head}",
        )


# Two runs that differ in one of these are not the same run.
IDENTITY = ("init_from", "n_layer", "n_head", "n_embd", "block_size", "pack", "batch_size", "seed")


@dataclass
class State:
    """Where a run stands: everything that changes with the steps but weights and optimizer."""

    step: int = 0
    best_val_loss: float = math.inf
    tokens: int = 0  # seen so far, padding not counted


@dataclass(frozen=True)
class Run:
    """What a run is made of, once it stands."""

    cfg: TrainConfig
    rt: Runtime
    data: Prepared
    train: Rows
    val: Rows
    model: GPT
    tokenizer: Tokenizer
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    folder: RunFolder
    state: State

    @property
    def steps(self) -> int:
        by_epochs = math.ceil(self.cfg.epochs * len(self.train) / self.cfg.batch_size)
        return self.cfg.steps or by_epochs

    @property
    def metrics(self) -> Path:
        return self.cfg.out / "metrics.jsonl"


def main() -> None:
    cfg = config.parse(
        TrainConfig, sys.argv[1:], prog="train.py", description=__doc__ or "", preset=True
    )
    rt = runtime.start(device=cfg.device, dtype=cfg.dtype, seed=cfg.seed)
    with StopSignals() as stop:
        run = begin_or_resume(cfg, rt)
        announce(run)
        compile_model(run)
        started_at = time.perf_counter()
        finished = train(run, stop)
    draw_curves(run.metrics, cfg.out / "curves.png")
    summarise(run, time.perf_counter() - started_at, finished)
    if not finished:
        raise SystemExit(stop.exit_status)


def begin_or_resume(cfg: TrainConfig, rt: Runtime) -> Run:
    """Load everything a run needs; from its newest checkpoint, if it has one."""
    folder = RunFolder(cfg.out)
    newest = folder.newest()
    if newest is not None and cfg.resume == "never":
        raise ConfigError(f"{cfg.out} holds a run already; choose another --out or remove it")
    loaded = load_model(newest, dropout=cfg.dropout) if newest else initialise(cfg)
    data = open_prepared(cfg.data, loaded.tokenizer)
    if newest is not None:
        check_same_run(cfg, loaded, data)
    cfg.out.mkdir(parents=True, exist_ok=True)
    model = loaded.model.to(rt.device).train()
    model.checkpoint_activations = cfg.checkpoint_activations
    block_size = model.config.block_size
    run = Run(
        cfg=cfg,
        rt=rt,
        data=data,
        train=build_rows(data.split("train"), block_size, pack=cfg.pack, seed=cfg.seed),
        val=build_rows(data.split("val"), block_size, pack=cfg.pack, seed=cfg.seed),
        model=model,
        tokenizer=loaded.tokenizer,
        optimizer=build_optimizer(
            model,
            learning_rate=cfg.learning_rate,
            betas=(cfg.beta1, cfg.beta2),
            weight_decay=cfg.weight_decay,
        ),
        scaler=rt.scaler(),
        folder=folder,
        state=State(),
    )
    if newest is not None:
        restore(run, load_trainer(newest))
    return run


def initialise(cfg: TrainConfig) -> Loaded:
    """A model with random weights, or another's weights cropped to this run's block size."""
    if cfg.init_from != "scratch":
        return load_model(cfg.init_from, block_size=cfg.block_size, dropout=cfg.dropout)
    shape = GPTConfig(
        block_size=cfg.block_size,
        n_layer=cfg.n_layer,
        n_head=cfg.n_head,
        n_embd=cfg.n_embd,
        dropout=cfg.dropout,
    )
    return Loaded(GPT(shape), Tokenizer.load(), {}, cfg.out)


def check_same_run(cfg: TrainConfig, loaded: Loaded, data: Prepared) -> None:
    """Refuse to go on with other data or another model; say what else changed."""
    before = loaded.card.get("settings", {})
    now = config.to_json(cfg)
    changed = {key: (before[key], now[key]) for key in now if before.get(key, now[key]) != now[key]}
    essential = [f"{key} {old} -> {new}" for key, (old, new) in changed.items() if key in IDENTITY]
    if loaded.card.get("data", {}).get("fingerprint") != data.fingerprint:
        essential.append(f"the data in {data.folder}")
    if essential:
        raise CheckpointError(
            f"{loaded.folder} belongs to another run: {', '.join(essential)}; choose another "
            "--out, or give the same settings again"
        )
    for key, (old, new) in changed.items():
        console.note(f"resuming with {key} {new}, it was {old}")


def restore(run: Run, saved: dict[str, Any]) -> None:
    """Put back everything that the weights do not hold."""
    try:
        load_optimizer_state(run.model, run.optimizer, saved["optimizer"])
        run.scaler.load_state_dict(saved["scaler"])
        run.rt.set_rng_state(saved["rng"])
        run.state.step, run.state.tokens = saved["step"], saved["tokens"]
        run.state.best_val_loss = saved["best_val_loss"]
    except KeyError as missing:
        raise CheckpointError(f"the training state lacks {missing}; it cannot be resumed") from None
    drop_after(run.metrics, run.state.step)
    console.note(f"resuming {run.cfg.out} at step {run.state.step}")


def announce(run: Run) -> None:
    """What is about to happen, in numbers."""
    cfg, shape = run.cfg, run.model.config
    parameters = sum(p.numel() for p in run.model.parameters())
    tokens = int(run.train.split.lengths.sum())
    fill = tokens / (len(run.train) * shape.block_size)
    size = f"{shape.n_layer} layers, {shape.n_head} heads, {shape.n_embd} channels"
    console.say(
        console.key_values(
            "Training",
            [
                ("model", f"{console.count(parameters)} parameters: {size}"),
                ("from", cfg.init_from),
                ("data", f"{cfg.data}: {console.count(len(run.train.split.index))} examples"),
                ("rows", f"{console.count(len(run.train))} of {shape.block_size}, {fill:.1%} full"),
                ("steps", f"{run.steps} of {cfg.batch_size} rows, {cfg.micro_batch_size} at once"),
                ("device", f"{run.rt.name()}, {str(run.rt.dtype).removeprefix('torch.')}"),
            ],
        )
    )


def compile_model(run: Run) -> None:
    if run.cfg.compile and (reason := runtime.compile_in_place(run.model, run.rt)):
        console.note(f"torch.compile is not available here, training eagerly: {reason}")


def train(run: Run, stop: StopSignals) -> bool:
    """Step until the end; False where a signal ended it first. Saves in either case."""
    cfg, state = run.cfg, run.state
    meter = Meter(run)
    with console.progress_bar(
        label="training", total=run.steps, unit="step", initial=state.step
    ) as bar:
        while state.step < run.steps and not stop.received:
            rows = rows_of_step(
                state.step, batch_size=cfg.batch_size, n_rows=len(run.train), seed=cfg.seed
            )
            result = train_step(run, rows)
            state.step += 1
            meter.count(rows)
            bar.update(1)
            if state.step % cfg.log_every == 0 or state.step == run.steps:
                row = meter.read(result)
                append_metrics(run.metrics, row)
                bar.set_postfix_str(describe(row))
            if state.step % cfg.eval_every == 0 or state.step == run.steps:
                evaluate_and_save(run, stop)
                meter.restart()
        if stop.received and state.step not in run.folder.steps() and state.step:
            save(run)
    return state.step >= run.steps


@dataclass(frozen=True)
class StepResult:
    """Tensors still on the device: reading them waits for the step."""

    loss: torch.Tensor
    grad_norm: torch.Tensor
    learning_rate: float


def train_step(run: Run, rows: Ints) -> StepResult:
    """One optimizer step on the exact mean loss over the rows' target tokens."""
    cfg, optimizer, scaler = run.cfg, run.optimizer, run.scaler
    rate = scheduled_rate(
        run.state.step,
        schedule=cfg.schedule,
        peak=cfg.learning_rate,
        floor=cfg.min_lr,
        warmup_steps=cfg.warmup_steps,
        steps=run.steps,
    )
    set_learning_rate(optimizer, rate)
    n_targets = run.train.n_targets(rows)
    total = torch.zeros((), device=run.rt.device)
    for batch in micro_batches(run.train, rows, run):
        with run.rt.autocast():
            loss = run.model(batch).sum() / n_targets
        scaler.scale(loss).backward()
        total += loss.detach()
    scaler.unscale_(optimizer)
    limit = cfg.grad_clip or math.inf
    grad_norm = torch.nn.utils.clip_grad_norm_(run.model.parameters(), limit)
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad(set_to_none=True)
    return StepResult(total, grad_norm, rate)


def micro_batches(data: Rows, rows: Ints, run: Run) -> Iterator[Batch]:
    """The rows in forwards of at most micro_batch_size, the last one perhaps smaller."""
    for start in range(0, len(rows), run.cfg.micro_batch_size):
        arrays = data.assemble(rows[start : start + run.cfg.micro_batch_size])
        yield Batch(*map(run.rt.put, arrays))


class Meter:
    """Speed since the last reading, validation left out."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.peak_flops = peak_flops(run.rt.name(), run.rt.dtype)
        self.restart()

    def restart(self) -> None:
        self.tokens, self.flops, self.started_at = 0, 0.0, time.perf_counter()

    def count(self, rows: Ints) -> None:
        """Add a step's work."""
        train = self.run.train
        lengths = train.split.lengths[np.concatenate([train.examples(row) for row in rows])]
        tokens = int(lengths.sum())
        self.tokens += tokens
        self.run.state.tokens += tokens
        self.flops += training_flops(
            self.run.model.config,
            tokens=tokens,
            targets=train.n_targets(rows),
            attended_pairs=float((lengths * (lengths + 1)).sum()) / 2,
        )

    def read(self, result: StepResult) -> dict[str, Any]:
        """A line of metrics.jsonl; ends the run where the loss is no number."""
        run, state = self.run, self.run.state
        loss = float(result.loss)
        if not math.isfinite(loss):
            raise CheckpointError(
                f"the loss of step {state.step} is {loss}; the last checkpoint is intact: lower "
                "learning_rate, or look at the data of that step"
            )
        run.rt.synchronize()
        elapsed_s = time.perf_counter() - self.started_at
        row = {
            "step": state.step,
            "epoch": state.step * run.cfg.batch_size / len(run.train),
            "train_loss": loss,
            "learning_rate": result.learning_rate,
            "grad_norm": float(result.grad_norm),
            "tokens": state.tokens,
            "tokens_per_s": self.tokens / elapsed_s,
            "mfu": self.flops / elapsed_s / self.peak_flops if self.peak_flops else None,
        }
        self.restart()
        return row


def describe(row: dict[str, Any]) -> str:
    mfu = f", MFU {row['mfu']:.1%}" if row["mfu"] is not None else ""
    return f"loss {row['train_loss']:.3f}, {row['tokens_per_s']:,.0f} tokens/s{mfu}"


def evaluate_and_save(run: Run, stop: StopSignals) -> None:
    """Measure the whole validation split, save, and move `best` if it is."""
    val_loss = validate(run, stop)
    if val_loss is None:
        return
    improved = val_loss < run.state.best_val_loss
    run.state.best_val_loss = min(val_loss, run.state.best_val_loss)
    append_metrics(run.metrics, {"step": run.state.step, "val_loss": val_loss})
    folder = save(run, val_loss)
    if improved:
        run.folder.point("best", folder)
    run.folder.prune(run.cfg.keep)
    draw_curves(run.metrics, run.cfg.out / "curves.png")
    mark = " (best)" if improved else ""
    console.note(f"step {run.state.step}/{run.steps}: validation loss {val_loss:.4f}{mark}")


@torch.no_grad()
def validate(run: Run, stop: StopSignals) -> float | None:
    """Mean loss over every target token of the split; None where a signal cut it short.

    Draws no random number, so that measuring more often changes nothing in training.
    """
    run.model.eval()
    total = torch.zeros((), device=run.rt.device, dtype=torch.float64)
    rows = np.arange(len(run.val))
    for batch in micro_batches(run.val, rows, run):
        if stop.received:
            break
        with run.rt.autocast():
            total += run.model(batch).sum()
    run.model.train()
    return None if stop.received else float(total) / run.val.n_targets(rows)


def save(run: Run, val_loss: float | None = None) -> Path:
    """A checkpoint of this step, from which the same run can go on."""
    state = run.state
    card = {
        "val_loss": val_loss,
        "data": {"folder": str(run.cfg.data), "fingerprint": run.data.fingerprint},
        "tokenizer": run.tokenizer.fingerprint,
        "settings": config.to_json(run.cfg),
    }
    trainer = {
        "step": state.step,
        "tokens": state.tokens,
        "best_val_loss": state.best_val_loss,
        "optimizer": optimizer_state(run.model, run.optimizer),
        "scaler": run.scaler.state_dict(),
        "rng": run.rt.rng_state(),
    }
    return run.folder.save(
        state.step, model=run.model, tokenizer=run.tokenizer, card=card, trainer=trainer
    )


def summarise(run: Run, elapsed_s: float, finished: bool) -> None:
    """What came out, where it is, and what to do next."""
    out, state = run.cfg.out, run.state
    best = f"{state.best_val_loss:.4f}" if math.isfinite(state.best_val_loss) else "not measured"
    console.say(
        console.key_values(
            f"\n{'Trained' if finished else 'Stopped'} at step {state.step} of {run.steps}",
            [
                ("time", console.duration(elapsed_s)),
                ("tokens", console.count(state.tokens)),
                ("best validation loss", best),
                ("checkpoints", f"{out}/best, {out}/last ({CARD} says which step)"),
                ("curves", f"{out}/curves.png"),
            ],
        )
    )
    if finished:
        console.say(f"\nNext:  python eval.py --checkpoint={out}/best --split=test")
    else:
        console.say(f"\nSaved. To go on:  python {' '.join(sys.argv)}")


if __name__ == "__main__":
    console.run(main)
