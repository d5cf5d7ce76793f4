"""Train a GPT-2 on prepared data: from scratch, from OpenAI's weights or from a checkpoint.

    python train.py config/quickstart.py
    python train.py config/pubmedqa.py --batch_size=16 --compile=False
    python train.py config/pubmedqa.py --init_from=out/artificial/best

Ctrl-C saves; the same command again goes on where it stopped. The loss is the sum over target
tokens divided by their number, whatever the micro-batches.
"""

import math
import shlex
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from clingpt import config, console, runtime
from clingpt.checkpoint import Loaded, RunFolder, load_model, load_trainer
from clingpt.curves import append_metrics, draw_curves, drop_after
from clingpt.dataset import Ints, Rows, build_rows, rows_of_step
from clingpt.errors import CheckpointError, ConfigError
from clingpt.hardware import peak_flops
from clingpt.kernels import use_kernels
from clingpt.meter import Meter
from clingpt.optim import build_optimizer, scheduled_rate, set_learning_rate
from clingpt.prepared import Prepared, open_prepared
from clingpt.resume import State, Trained, check_same_run
from clingpt.runtime import Runtime, StopSignals
from clingpt.steps import accumulate_gradients, mean_loss
from clingpt.tokenizer import Tokenizer
from model import GPT, GPTConfig


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
        config.check(self.n_embd % self.n_head == 0, "n_embd must be a multiple of n_head")


@dataclass(frozen=True, kw_only=True)
class Run(Trained):
    """A training run, once it stands: its state, and what it is made of."""

    cfg: TrainConfig
    data: Prepared
    train: Rows
    val: Rows | None  # None where nothing was held out
    tokenizer: Tokenizer
    folder: RunFolder

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
        check_same_run(loaded, config.to_json(cfg), data)
    cfg.out.mkdir(parents=True, exist_ok=True)
    model = loaded.model.to(rt.device).train()
    model.checkpoint_activations = cfg.checkpoint_activations
    block_size, val = model.config.block_size, data.split("val")
    run = Run(
        cfg=cfg,
        rt=rt,
        data=data,
        train=build_rows(data.split("train"), block_size, pack=cfg.pack, seed=cfg.seed),
        val=build_rows(val, block_size, pack=cfg.pack, seed=cfg.seed) if len(val.index) else None,
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
        run.restore(load_trainer(newest))
        folder.link_best()  # a crash may have come between a checkpoint and its link
        console.note(f"resuming {cfg.out} at step {run.state.step}")
    drop_after(run.metrics, run.state.step)
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
    return Loaded(use_kernels(GPT(shape)), Tokenizer.load(), {}, cfg.out)


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
    meter = Meter(run.train, run.model.config, peak_flops(run.rt.name(), run.rt.dtype))
    with console.progress_bar(
        label="training", total=run.steps, unit="step", initial=state.step
    ) as bar:
        while state.step < run.steps and not stop.received:
            rows = rows_of_step(
                state.step, batch_size=cfg.batch_size, n_rows=len(run.train), seed=cfg.seed
            )
            result = train_step(run, rows)
            state.step += 1
            state.tokens += meter.count(rows)
            bar.update(1)
            if state.step % cfg.log_every == 0 or state.step == run.steps:
                bar.set_postfix_str(log_step(run, result, meter))
            if state.step % cfg.eval_every == 0 or state.step == run.steps:
                evaluate_and_save(run, stop)
                meter.restart()
        if stop.received and state.step and state.step not in run.folder.steps():
            save(run)
    return state.step >= run.steps and not stop.received


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
    loss = accumulate_gradients(
        run.model,
        run.train,
        rows,
        micro_batch_size=cfg.micro_batch_size,
        rt=run.rt,
        scaler=scaler,
    )
    scaler.unscale_(optimizer)
    limit = cfg.grad_clip or math.inf
    grad_norm = torch.nn.utils.clip_grad_norm_(run.model.parameters(), limit)
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad(set_to_none=True)
    return StepResult(loss, grad_norm, rate)


def log_step(run: Run, result: StepResult, meter: Meter) -> str:
    """Write a line of metrics.jsonl and give its gist; ends the run where the loss is no number."""
    loss = float(result.loss)
    if not math.isfinite(loss):
        raise CheckpointError(
            f"the loss of step {run.state.step} is {loss}; the last checkpoint is intact: lower "
            "learning_rate, or look at the data of that step"
        )
    row: dict[str, Any] = {
        "step": run.state.step,
        "epoch": run.state.step * run.cfg.batch_size / len(run.train),
        "train_loss": loss,
        "learning_rate": result.learning_rate,
        "grad_norm": float(result.grad_norm),
        "tokens": run.state.tokens,
        **meter.read(),
    }
    append_metrics(run.metrics, row)
    mfu = f", MFU {row['mfu']:.1%}" if row["mfu"] is not None else ""
    return f"loss {loss:.3f}, {row['tokens_per_s']:,.0f} tokens/s{mfu}"


def evaluate_and_save(run: Run, stop: StopSignals) -> None:
    """Measure the whole validation split, save, and let `best` follow."""
    val_loss = None
    if run.val is not None:
        size = run.cfg.micro_batch_size
        val_loss = mean_loss(run.model, run.val, micro_batch_size=size, rt=run.rt, stop=stop)
    if stop.received:
        return
    if val_loss is not None:
        append_metrics(run.metrics, {"step": run.state.step, "val_loss": val_loss})
    folder = save(run, val_loss)
    best, _ = run.folder.link_best()
    run.folder.prune(run.cfg.keep)
    draw_curves(run.metrics, run.cfg.out / "curves.png")
    measured = "not measured" if val_loss is None else f"{val_loss:.4f}"
    mark = " (best)" if folder == best else ""
    console.note(f"step {run.state.step}/{run.steps}: validation loss {measured}{mark}")


def save(run: Run, val_loss: float | None = None) -> Path:
    """A checkpoint of this step, from which the same run can go on."""
    card = {
        "val_loss": val_loss,
        "data": {"folder": str(run.cfg.data), "fingerprint": run.data.fingerprint},
        "tokenizer": run.tokenizer.fingerprint,
        "settings": config.to_json(run.cfg),
    }
    return run.folder.save(
        run.state.step,
        model=run.model,
        tokenizer=run.tokenizer,
        card=card,
        trainer=run.capture(),
    )


def summarise(run: Run, elapsed_s: float, finished: bool) -> None:
    """What came out, where it is, and what to do next."""
    out, state = run.cfg.out, run.state
    _, val_loss = run.folder.link_best()
    console.say(
        console.key_values(
            f"\n{'Trained' if finished else 'Stopped'} at step {state.step} of {run.steps}",
            [
                ("time", console.duration(elapsed_s)),
                ("tokens", console.count(state.tokens)),
                ("best validation loss", "not measured" if val_loss is None else f"{val_loss:.4f}"),
                ("checkpoints", ", ".join(map(str, sorted(out.glob("[bl]*st")))) or "none"),
                ("curves", f"{out}/curves.png"),
            ],
        )
    )
    if finished:
        console.say(f"\nNext:  python eval.py --checkpoint={out}/best --split=test")
    else:
        saved = "Saved. To go on" if state.step else "Nothing to save yet. To begin again"
        console.say(f"\n{saved}:  python {shlex.join(sys.argv)}")


if __name__ == "__main__":
    console.run(main)
