"""Train a GPT-2 on prepared data: from scratch, from OpenAI's weights or from a checkpoint.

    python train.py config/quickstart.py
    python train.py config/pubmedqa.py --batch_size=16 --select=macro_f1 --eval_records=50
    python train.py config/pubmedqa.py --init_from=out/artificial
    torchrun --standalone --nproc_per_node=8 train.py config/pubmedqa.py

Ctrl-C saves; the same command again goes on where it stopped. The loss is the sum over target
tokens divided by their number, whatever the micro-batches and however many processes there are.
"""

import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from clingpt.base import console
from clingpt.base import settings as config
from clingpt.base.signals import StopSignals


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    data: Path = Path("data/pubmedqa")  # folder that prepare.py wrote
    out: Path = Path("out/pubmedqa")  # run folder: checkpoints, metrics.jsonl, curves.png
    init_from: str = "gpt2"  # scratch, gpt2 … gpt2-xl, a Hub id, a checkpoint or a run folder
    resume: Literal["auto", "never"] = "auto"  # go on from the newest checkpoint in out, if any
    force_resume: bool = False  # go on even with other data, another seed or another shape
    n_layer: int = 12  # blocks; for init_from=scratch
    n_head: int = 12  # attention heads; for init_from=scratch
    n_embd: int = 768  # channels; for init_from=scratch
    block_size: int = 1024  # tokens in a row; crops a longer pretrained context
    dropout: float = 0.1  # of embeddings and residual branches
    lora_rank: int = 0  # of updates trained in place of the weights (LoRA); 0: the weights
    lora_alpha: float = 16.0  # those updates are scaled by lora_alpha / lora_rank
    lora_dropout: float = 0.0  # of what the updates read
    lora_targets: tuple[str, ...] = (
        "c_attn",
        "c_proj",
        "c_fc",
    )  # matrices that get an update
    pack: bool = True  # several examples a row, apart; False pads each to a row of its own
    batch_size: int = 8  # rows of an optimizer step, over all processes
    micro_batch_size: int = 4  # most rows of one forward pass; halved where memory runs out
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
    eval_records: int = 0  # held-out records answered at each: accuracy, macro-F1, ROUGE-L
    sample: bool = True  # show at each what the model makes of a held-out record
    max_new_tokens: int = 160  # longest such answer
    select: Literal["loss", "accuracy", "macro_f1", "rougeL"] = "loss"  # what `best` is best at
    patience: int | None = None  # validations without a better one that end training; None: never
    log_every: int = 5  # optimizer steps between lines of metrics.jsonl
    keep: int = 2  # newest checkpoints kept, best and last aside
    device: str = "auto"  # auto, cpu, cuda, cuda:1, mps
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"  # of matrix products
    compile: bool | None = None  # torch.compile; None: on CUDA alone, it gains nothing on a CPU
    checkpoint_activations: bool = False  # recompute blocks in the backward: less memory, +24% time
    shard: bool = False  # FSDP2 in place of DDP: for a model whose training exceeds one GPU
    tracker: Literal["none", "tensorboard"] = "none"  # beside metrics.jsonl
    seed: int = 1337  # of weights, packing, order and dropout

    def __post_init__(self) -> None:
        positive = "n_layer n_head n_embd batch_size micro_batch_size steps eval_every log_every"
        config.check_range(self, *positive.split(), "max_new_tokens", "patience", at_least=1)
        config.check_range(self, "block_size", at_least=16)
        config.check_range(self, "keep", at_least=2)
        config.check_range(self, "epochs", "learning_rate", "lora_alpha", above=0)
        config.check_range(self, "min_lr", "warmup_steps", "weight_decay", at_least=0)
        config.check_range(self, "grad_clip", "seed", "eval_records", "lora_rank", at_least=0)
        config.check_range(self, "dropout", "lora_dropout", "beta1", "beta2", at_least=0, below=1)
        config.check(self.min_lr <= self.learning_rate, "min_lr must not exceed learning_rate")
        config.check(self.n_embd % self.n_head == 0, "n_embd must be a multiple of n_head")
        config.check(
            self.select == "loss" or self.eval_records > 0,
            f"select={self.select} needs answers to measure; give --eval_records=50, say",
        )
        adapts = "lora_rank adapts a trained model, not random weights; give --init_from=gpt2, say"
        config.check(self.lora_rank == 0 or self.init_from != "scratch", adapts)

    @property
    def shape(self) -> "GPTConfig":
        """Of a model from scratch."""
        names = ("block_size", "n_layer", "n_head", "n_embd", "dropout")
        return GPTConfig(**{name: getattr(self, name) for name in names})

    @property
    def lora(self) -> "Lora | None":
        """What is trained in place of the weights, if not they themselves."""
        names = ("rank", "alpha", "dropout", "targets")
        values = {name: getattr(self, f"lora_{name}") for name in names}
        return Lora(**values, base=self.init_from) if self.lora_rank else None


def parse_flags() -> TrainConfig:
    return config.parse(
        TrainConfig, sys.argv[1:], prog="train.py", description=__doc__ or "", preset=True
    )


if __name__ == "__main__":
    # Answer --help and refuse mistaken flags before the imports below, which take seconds.
    console.run(parse_flags)

from torch import nn

from clingpt.data.packing import build_rows, rows_of_step
from clingpt.data.prepared import Prepared, open_prepared
from clingpt.data.receipt import carried
from clingpt.nn import runtime
from clingpt.nn.checkpoint import RunFolder, load_model, load_or_new, load_trainer, read_card
from clingpt.nn.compile import compile_in_place
from clingpt.nn.flops import peak_flops
from clingpt.nn.lora import Lora
from clingpt.nn.runtime import Runtime
from clingpt.text.tokenizer import Tokenizer
from clingpt.training import summary
from clingpt.training.batches import Feed, Work
from clingpt.training.memory_fit import fitting_feed, rehearse_validation
from clingpt.training.optim import Schedule, build_optimizer
from clingpt.training.selection import check_measurable, is_settled
from clingpt.training.state import State, Trained, begin_or_resume_lora, check_same_run
from clingpt.training.step import StepResult, Updater, Watch, accumulate_gradients
from clingpt.training.throughput import Meter
from clingpt.training.tracker import Tracker
from clingpt.training.validation import Examiner, Validator
from model import GPTConfig


@dataclass(frozen=True, kw_only=True)
class Run(Trained):
    """A training run, once it stands: its state, and what it is made of."""

    cfg: TrainConfig
    steps: int  # where it ends
    data: Prepared
    feed: Feed  # of the training rows
    replica: nn.Module  # the model as it is called, for one process or many
    updater: Updater
    watch: Watch
    validator: Validator
    tokenizer: Tokenizer
    tracker: Tracker
    stop: Callable[[], bool]  # whether this process was told to stop

    def told_to_stop(self) -> bool:
        """Whether any process was; all must ask, and get the same answer."""
        return self.rt.agreed(self.stop())


def main() -> None:
    cfg = parse_flags()
    with (
        StopSignals() as stop,
        runtime.joined(device=cfg.device, dtype=cfg.dtype, seed=cfg.seed) as rt,
    ):
        run = warm_up(begin_or_resume(cfg, rt, stop))
        stop.wait_for_steps()
        started_at = time.perf_counter()
        ending = train(run)
        elapsed_s = time.perf_counter() - started_at
        rt.on_main(lambda: console.say(summary.end(run, run.steps, ending, cfg.select, elapsed_s)))
    if ending == "stopped":
        raise SystemExit(stop.exit_status)


def begin_or_resume(cfg: TrainConfig, rt: Runtime, stop: Callable[[], bool]) -> Run:
    """Load everything a run needs; from its newest whole checkpoint, if it has one."""
    folder, settings = RunFolder(cfg.out), config.to_json(cfg)
    newest = rt.on_main(lambda: folder.newest_whole(wanted=cfg.resume == "auto"))
    if newest is None or cfg.lora:  # whose base is loaded anew
        loaded = load_or_new(cfg.init_from, cfg.shape)
    else:
        loaded = load_model(newest, dropout=cfg.dropout, verified=True)
    data = open_prepared(cfg.data, loaded.tokenizer)
    if newest is not None:
        check_same_run(newest, settings, data, force=cfg.force_resume)
    lora = begin_or_resume_lora(loaded.model, cfg.lora, newest) if cfg.lora else None
    rt.on_main(lambda: folder.begin({"settings": settings, "processes": rt.n_ranks}))
    model = loaded.model.to(rt.device).train()
    model.checkpoint_activations = cfg.checkpoint_activations
    replica = rt.replicate(model, blocks=model.h, shard=cfg.shard)
    optimizer = build_optimizer(
        model,
        learning_rate=cfg.learning_rate,
        betas=(cfg.beta1, cfg.beta2),
        weight_decay=cfg.weight_decay,
    )
    state, scaler = State(), rt.scaler()
    receipts = carried(read_card(newest) if newest else loaded.card, data.receipt)
    trained = Trained(folder, model, optimizer, scaler, state, rt, cfg.seed, lora, receipts)
    rt.seed_rank(cfg.seed)  # weights begin alike on all ranks, dropout does not
    if newest is not None:
        trained.restore(load_trainer(newest))
        console.note(f"resuming {cfg.out} at step {state.step}")
    return assemble(cfg, trained, replica, loaded.tokenizer, data, stop)


def assemble(
    cfg: TrainConfig,
    trained: Trained,
    replica: nn.Module,
    tokenizer: Tokenizer,
    data: Prepared,
    stop: Callable[[], bool],
) -> Run:
    """What holds no state, around what does."""
    rt, held_out = trained.rt, len(data.split("val").index) > 0
    check_measurable(cfg.select, tasks=data.tasks, held_out=held_out)

    def feed(split: str) -> Feed:
        block_size = trained.model.config.block_size
        rows = build_rows(data.split(split), block_size, pack=cfg.pack, seed=cfg.seed)
        return Feed(rows, rt, cfg.micro_batch_size)

    train_feed = feed("train")
    steps = cfg.steps or math.ceil(cfg.epochs * len(train_feed.data) / cfg.batch_size)
    schedule = Schedule(
        kind=cfg.schedule,
        peak=cfg.learning_rate,
        floor=cfg.min_lr,
        warmup_steps=cfg.warmup_steps,
        steps=steps,
    )
    records = list(islice(data.records("val"), max(cfg.eval_records, int(cfg.sample))))
    return Run(
        **vars(trained),
        cfg=cfg,
        steps=steps,
        data=data,
        feed=train_feed,
        replica=replica,
        updater=Updater(trained.optimizer, trained.scaler, schedule, rt, cfg.grad_clip),
        watch=Watch(rt, data, train_feed.data),
        validator=Validator(
            feed=feed("val") if held_out else None,
            examiner=Examiner(records, data.tasks, cfg.max_new_tokens, rt, stop),
            tokenizer=tokenizer,
            n_records=cfg.eval_records,
            sample=cfg.sample,
        ),
        tokenizer=tokenizer,
        tracker=Tracker(cfg.out, board=cfg.tracker, step=trained.state.step, active=rt.is_main),
        stop=stop,
    )


def warm_up(run: Run) -> Run:
    """Say what is about to happen, compile, and find the micro-batch that fits."""
    cfg, rt = run.cfg, run.rt
    console.say(summary.beginning(run.model, run.feed.data, rt, run.steps, config.to_json(cfg)))
    if settled(run) or run.state.step >= run.steps:
        return run  # whoever gives a finished run's command again is not kept waiting
    compiled = compile_in_place(run.model, rt, wanted=cfg.compile)
    feed = replace(run.feed, compiled=compiled)
    feed = fitting_feed(run.replica, feed, run.optimizer, batch_size=cfg.batch_size)
    validator = run.validator.in_forwards_like(feed)
    if compiled:
        rehearse_validation(run.replica, validator.feed)
    return replace(run, feed=feed, validator=validator)


def train(run: Run) -> str:
    """Step until the last one, a validation that settles it, or a signal; save in any case."""
    cfg, state, rows = run.cfg, run.state, run.feed.data
    meter = Meter(rows, run.model.config, peak_flops(run.rt.name(), run.rt.dtype), run.rt.n_ranks)
    ahead = (
        rows_of_step(step, batch_size=cfg.batch_size, n_rows=len(rows), seed=cfg.seed)
        for step in range(state.step, run.steps if not settled(run) else 0)
    )
    with console.progress_bar(
        label="training", total=run.steps, unit="step", initial=state.step
    ) as bar:
        for work in run.feed.works(ahead):
            if run.told_to_stop():
                break
            result = train_step(run, work)
            state.tokens += meter.count(work.rows)
            bar.update(1)
            if state.step % cfg.log_every == 0 or state.step == run.steps:
                bar.set_postfix_str(log_step(run, result, meter))
            if state.step % cfg.eval_every == 0 or state.step == run.steps:
                validate_and_save(run)
                meter.restart()
                if settled(run):
                    break
    if run.rt.on_main(lambda: state.step > 0 and state.step not in run.folder.steps()):
        save(run, {})
    run.tracker.draw()
    if run.told_to_stop():
        return "stopped"
    return "finished" if state.step >= run.steps else "settled"


def settled(run: Run) -> bool:
    """Whether validations have not become better for as long as the run has patience."""
    select, patience = run.cfg.select, run.cfg.patience
    return run.rt.on_main(lambda: is_settled(run.tracker.read(), select, patience))


def train_step(run: Run, work: Work) -> StepResult:
    """One optimizer step on the exact mean loss over the rows' target tokens."""
    n_targets = run.feed.data.n_targets(work.rows)
    part_losses = accumulate_gradients(run.replica, work, n_targets, rt=run.rt, scaler=run.scaler)
    result = run.updater.step(run.state.step, part_losses, n_targets)
    run.state.step += 1
    run.state.examples += len(run.feed.data.records(work.rows))
    run.watch.see(run.state.step, work, result)
    return result


def log_step(run: Run, result: StepResult, meter: Meter) -> str:
    """Write a line of metrics.jsonl and give its gist."""
    row: dict[str, Any] = {
        "step": run.state.step,
        "epoch": run.state.step * run.cfg.batch_size / len(run.feed.data),
        "train_loss": float(result.loss),
        "learning_rate": result.learning_rate,
        "grad_norm": float(result.grad_norm),
        "tokens": run.state.tokens,
        "examples": run.state.examples,
        **meter.read(),
    }
    run.tracker.write(row)
    return summary.gist(row)


def validate_and_save(run: Run) -> None:
    """Measure, save, and let `best` follow; nothing of it once the run was told to stop."""
    run.watch.check()
    cfg, step = run.cfg, run.state.step
    figures = run.validator.figures(run.model, run.replica, told_to_stop=run.told_to_stop)
    if figures is None:
        return
    run.tracker.write({"step": step, **figures})
    folder = save(run, figures)

    best = run.rt.on_main(lambda: run.folder.keep_best(cfg.select, keep=cfg.keep))
    run.tracker.draw()
    console.note(f"step {step}/{run.steps}: {summary.measured(figures, is_best=folder == best)}")


def save(run: Run, figures: dict[str, float]) -> Path:
    """A checkpoint of this step, from which the same run can go on."""
    run.watch.check()
    card = {
        **figures,
        "data": {"folder": str(run.cfg.data), "fingerprint": run.data.fingerprint},
        "settings": config.to_json(run.cfg),
    }
    return run.save(run.tokenizer, card)


if __name__ == "__main__":
    console.run(main)
