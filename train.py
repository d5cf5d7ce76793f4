"""Train a GPT-2 on prepared data: from random weights, from OpenAI's weights, or
from a checkpoint.

    python train.py config/quickstart.py
    python train.py config/pubmedqa.py --batch_size=16 --epochs=3
    python train.py config/pubmedqa.py --select=macro_f1 --eval_records=50
    python train.py config/pubmedqa.py --init_from=out/artificial
    torchrun --standalone --nproc_per_node=8 train.py config/pubmedqa.py

Ctrl-C saves a checkpoint, and the same command resumes from it. The loss is the
sum over target tokens divided by their number, which is the same for any number
of micro-batches and processes.
"""

import math
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from clingpt.base import console
from clingpt.base.files import one_writer
from clingpt.base.settings import check, check_range, is_flag_given, parse, to_json
from clingpt.base.signals import StopSignals


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    # --- data ---
    data: Path = Path("data/pubmedqa")  # prepared folder, written by prepare.py
    # Pack several examples into one row; attention never crosses from one to the next. False pads
    # each example to a separate row.
    pack: bool = True

    # --- model ---
    # Where the weights come from: scratch (random), gpt2, gpt2-medium, gpt2-large or gpt2-xl, a
    # Hugging Face Hub id, a checkpoint folder, or a run folder (its best checkpoint).
    init_from: str = "gpt2"
    n_layer: int = 12  # transformer blocks, with --init_from=scratch
    n_head: int = 12  # attention heads per block, with --init_from=scratch
    n_embd: int = 768  # width of the residual stream, with --init_from=scratch
    block_size: int = 1024  # context in tokens; a longer pretrained context is cropped to it
    dropout: float = 0.1  # dropout probability after embeddings and in residual branches

    # --- LoRA ---
    # Rank of low-rank updates (LoRA) that are trained instead of the weights; 0 trains the weights.
    lora_rank: int = 0
    lora_alpha: float = 16.0  # scale of the updates: they are multiplied by alpha / rank
    lora_dropout: float = 0.0  # dropout probability on the input of each update
    lora_targets: tuple[str, ...] = ("c_attn", "c_proj", "c_fc")  # matrices that get an update

    # --- optimiser ---
    # Muon learns faster from random weights (--init_from=scratch): it updates the matrices of the
    # blocks, and AdamW the rest. Use AdamW to fine-tune trained weights such as GPT-2's. The same
    # --learning_rate suits both.
    optimizer: Literal["adamw", "muon"] = "adamw"
    batch_size: int = 8  # rows per optimizer step, over all processes
    # Most rows per forward pass and process; halved until they fit into memory. Smaller values
    # accumulate gradients and do not change the result.
    micro_batch_size: int = 4
    epochs: float = 5.0  # passes over the training rows
    steps: int | None = None  # optimizer steps; None takes as many as --epochs needs
    learning_rate: float = 3e-5  # peak learning rate, reached after --warmup_steps
    min_lr: float = 3e-6  # learning rate at the last step of a cosine or linear schedule
    warmup_steps: int = 20  # optimizer steps of linear warm-up
    schedule: Literal["cosine", "linear", "constant"] = "cosine"  # decay after the warm-up
    weight_decay: float = 0.1  # weight decay of matrices and embeddings, not of biases and norms
    beta1: float = 0.9  # AdamW decay rate of the mean of the gradients (Muon's is always 0.95)
    beta2: float = 0.95  # AdamW decay rate of the mean of the squared gradients
    # Weight of the label's tokens (yes, no or maybe) in the training loss of the task answer; 1
    # counts every target token alike. The validation loss always does, so that runs with different
    # weights can be compared.
    label_weight: float = 1.0
    grad_clip: float = 1.0  # largest gradient norm, beyond which gradients are scaled down; 0: off

    # --- evaluation ---
    eval_every: int = 50  # optimizer steps between validations; each also saves a checkpoint
    # Validation records to answer at each validation, to measure accuracy, macro-F1 and ROUGE-L.
    eval_records: int = 0
    sample: bool = True  # print what the model writes for one validation record each time
    max_new_tokens: int = 160  # longest answer, in tokens, for --eval_records and --sample
    # Criterion for the checkpoint called best; all but loss need --eval_records.
    select: Literal["loss", "accuracy", "macro_f1", "rougeL"] = "loss"
    # Stop after this many validations in a row without improvement; None never stops early.
    patience: int | None = None

    # --- output ---
    out: Path = Path("out/pubmedqa")  # run folder for checkpoints, metrics.jsonl and curves.png
    resume: Literal["auto", "never"] = "auto"  # auto resumes from the newest checkpoint in --out
    force_resume: bool = False  # resume even if the data, the seed or the model's shape differ
    log_every: int = 5  # optimizer steps between rows of metrics.jsonl
    keep: int = 2  # recent checkpoints to keep, in addition to best and last
    # Tracker to log to in addition to metrics.jsonl.
    tracker: Literal["none", "tensorboard", "wandb", "mlflow"] = "none"

    # --- hardware ---
    device: str = "auto"  # auto, cpu, cuda, cuda:1 or mps
    # Precision of matrix products; the weights and the optimizer stay in float32.
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    compile: bool | None = None  # use torch.compile; None does on CUDA only (no gain on a CPU)
    # Precision in which the frozen base of --lora_rank is kept. 16 bits halve its memory, and are
    # then multiplied in that precision, too; the trained updates stay in float32.
    weights: Literal["float32", "bfloat16", "float16"] = "float32"
    # Recompute activations in the backward pass: less memory, about 24% more time.
    checkpoint_activations: bool = False
    # Shard the model, its gradients and the optimizer over all GPUs (FSDP2); without it, every GPU
    # keeps them all (DDP).
    shard: bool = False
    seed: int = 1337  # seed of initial weights, packing, data order and dropout

    def __post_init__(self) -> None:
        positive = "n_layer n_head n_embd batch_size micro_batch_size steps eval_every log_every"
        check_range(self, *positive.split(), "max_new_tokens", "patience", at_least=1)
        check_range(self, "block_size", at_least=16)
        check_range(self, "keep", at_least=2)
        check_range(self, "epochs", "learning_rate", "lora_alpha", "label_weight", above=0)
        check_range(self, "min_lr", "warmup_steps", "weight_decay", at_least=0)
        check_range(self, "grad_clip", "seed", "eval_records", "lora_rank", at_least=0)
        check_range(self, "dropout", "lora_dropout", "beta1", "beta2", at_least=0, below=1)
        check(self.min_lr <= self.learning_rate, "min_lr must not exceed learning_rate")
        check(self.n_embd % self.n_head == 0, "n_embd must be a multiple of n_head")
        check(
            self.select == "loss" or self.eval_records > 0,
            f"select={self.select} needs answers to measure; set --eval_records, for example to 50",
        )
        adapts = "lora_rank adapts a trained model, not random weights; use --init_from=gpt2"
        check(self.lora_rank == 0 or self.init_from != "scratch", adapts)
        check(
            self.optimizer == "adamw" or not (self.lora_rank or self.shard),
            "optimizer=muon needs whole matrices, without --lora_rank and --shard; use "
            "--optimizer=adamw",
        )
        whole = f"weights={self.weights} is too coarse to train all weights; set --lora_rank=8"
        check(self.weights == "float32" or self.lora_rank > 0, whole)

    @property
    def shape(self) -> "GPTConfig":
        """Return the shape of a model trained from scratch."""
        names = ("block_size", "n_layer", "n_head", "n_embd", "dropout")
        return GPTConfig(**{name: getattr(self, name) for name in names})

    @property
    def lora(self) -> "Lora | None":
        """Return the LoRA settings, or None if all weights are trained."""
        names = ("rank", "alpha", "dropout", "targets")
        values = {name: getattr(self, f"lora_{name}") for name in names}
        if not self.lora_rank:
            return None
        return Lora(**values, base=self.init_from, base_dtype=self.weights)


def parse_flags() -> TrainConfig:
    return parse(TrainConfig, sys.argv[1:], prog="train.py", description=__doc__ or "", preset=True)


if __name__ == "__main__":
    # Answer --help and refuse mistaken flags before the imports below, which take seconds.
    console.run(parse_flags)

from torch import nn

from clingpt.data.packing import Rows, build_rows, rows_of_step
from clingpt.data.prepared import (
    Prepared,
    TrainedTasks,
    after_training,
    carried,
    open_prepared,
    trained_tasks,
)
from clingpt.nn import runtime
from clingpt.nn.checkpoint import RunFolder, load_model, load_or_new, load_trainer, read_card
from clingpt.nn.lora import Lora, adapter_weights
from clingpt.nn.runtime import Runtime, compile_in_place
from clingpt.text.tasks import label_ids
from clingpt.text.tokenizer import Tokenizer
from clingpt.training import summary
from clingpt.training.batches import Feed
from clingpt.training.memory_fit import choose_micro_batch, fit_micro_batch, rehearse_validation
from clingpt.training.state import (
    State,
    begin_or_resume_lora,
    capture,
    check_same_run,
    plain_copy,
    restore,
    whole_weights,
)
from clingpt.training.step import (
    Schedule,
    Updater,
    Watch,
    accumulate_gradients,
    build_optimizer,
)
from clingpt.training.summary import Meter, Pace, peak_flops
from clingpt.training.tracker import Tracker
from clingpt.training.validation import Validator, check_measurable, lacks_improvement
from model import GPTConfig


@dataclass(kw_only=True)
class Run:
    """The loaded parts of a training run."""

    cfg: TrainConfig
    rt: Runtime
    stop: StopSignals
    folder: RunFolder
    data: Prepared
    rows: Rows  # of the training split
    val_rows: Rows | None  # of the validation split; None if it is empty
    steps: int  # optimizer steps of the whole run
    tokenizer: Tokenizer
    lora: Lora | None
    receipts: list[Mapping[str, Any]]  # hygiene receipts of all data that shaped these weights
    tasks: TrainedTasks  # of this run and of those that its weights come from
    state: State  # model, optimizer, loss scale, counters
    replica: nn.Module  # the model as it is called: itself, or wrapped in DDP or FSDP

    def asked_to_stop(self) -> bool:
        """Return whether any process received a signal; all ranks must call this together."""
        return self.rt.agreed(self.stop())


def main() -> None:
    cfg = parse_flags()
    with (
        StopSignals() as stop,
        runtime.joined(
            device=cfg.device, dtype=cfg.dtype, weights=cfg.weights, seed=cfg.seed
        ) as rt,
        rt.held_by_main(one_writer(cfg.out, inside=True)),
    ):
        ending = train(start_or_resume(cfg, rt, stop))
    if ending == "stopped":
        raise SystemExit(stop.exit_status)


def start_or_resume(cfg: TrainConfig, rt: Runtime, stop: StopSignals) -> Run:
    """Load data, model and optimizer, from the run's newest intact checkpoint if it has one."""
    # --- Weights: random, pretrained, or those of this run's newest checkpoint.
    folder, settings = RunFolder(cfg.out), to_json(cfg)
    lora = cfg.lora  # raises ConfigError for unknown targets, before anything is loaded
    newest = rt.on_main(lambda: folder.newest_whole(may_exist=cfg.resume == "auto"))
    if newest is None or lora:  # a LoRA run loads its base again, and A and B below
        loaded = load_or_new(cfg.init_from, cfg.shape, cfg.data, rt.weights)
    else:
        loaded = load_model(newest, dropout=cfg.dropout, verified=True)
    model = loaded.model

    # --- Data: examples, packed into rows of block_size tokens.
    data = open_prepared(cfg.data, loaded.tokenizer, checkpoint=str(newest or cfg.init_from))
    held_out = len(data.split("val").index) > 0
    check_measurable(cfg.select, tasks=data.tasks, held_out=held_out)
    if newest is not None:
        check_same_run(newest, settings, data, force=cfg.force_resume)
    block_size = model.config.block_size
    rows = build_rows(
        data.split("train"),
        block_size,
        pack=cfg.pack,
        seed=cfg.seed,
        label_weight=cfg.label_weight,
        label_ids=label_ids(data.tokenizer),
    )
    val_rows = None
    if held_out:
        val_rows = build_rows(data.split("val"), block_size, pack=cfg.pack, seed=cfg.seed)

    # --- Model, on its device and replicated or sharded over the ranks.
    if lora:
        lora = begin_or_resume_lora(model, lora, newest)
    # The first write of the run: a folder that cannot be written fails here, not after an hour.
    rt.on_main(lambda: folder.begin({"settings": settings, "processes": rt.n_ranks}))
    model = model.to(rt.device).train()
    model.checkpoint_activations = cfg.checkpoint_activations
    replica = rt.replicate(model, blocks=model.h, shard=cfg.shard)
    # FSDP has replaced the parameters, so the optimizer is built after it, over this rank's shards.
    optimizer = build_optimizer(
        model,
        kind=cfg.optimizer,
        learning_rate=cfg.learning_rate,
        betas=(cfg.beta1, cfg.beta2),
        weight_decay=cfg.weight_decay,
    )

    # --- What the card says about the weights: all data and tasks that shaped them.
    before = read_card(newest) if newest else loaded.card
    receipts = carried(before, data.receipt)
    tasks = after_training(trained_tasks(before, cfg.init_from), data)

    # --- State: moments, loss scale, counters, random numbers.
    state = State(model, optimizer, rt.scaler())
    rt.seed_rank(cfg.seed)  # all ranks have initialised the same weights; their dropout must differ
    if newest is not None:
        restore(state, load_trainer(newest), rt, seed=cfg.seed)
        console.note(f"resuming {cfg.out} at step {state.step}")
    return Run(
        cfg=cfg,
        rt=rt,
        stop=stop,
        folder=folder,
        data=data,
        rows=rows,
        val_rows=val_rows,
        steps=cfg.steps or math.ceil(cfg.epochs * len(rows) / cfg.batch_size),
        tokenizer=loaded.tokenizer,
        lora=lora,
        receipts=receipts,
        tasks=tasks,
        state=state,
        replica=replica,
    )


def train(run: Run) -> str:
    """Train until the last step, until patience runs out, or until a signal; save in each case.

    Returns "finished", "out of patience" or "stopped".
    """
    cfg, rt, state, rows, replica = run.cfg, run.rt, run.state, run.rows, run.replica
    console.say(summary.beginning(state.model, rows, rt, run.steps, to_json(cfg)))
    tracker = Tracker(
        cfg.out,
        board=cfg.tracker,
        step=state.step,
        active=rt.is_main,
        settings=to_json(cfg),
    )
    done = (
        is_out_of_patience(run, tracker) or state.step >= run.steps
    )  # the run had finished before

    # --- Compile, and find the micro-batch size that fits into memory.
    feed = Feed(rows, rt, cfg.micro_batch_size)
    if not done:
        feed = replace(feed, compiled=compile_in_place(state.model, rt, wanted=cfg.compile))
        feed = choose_micro_batch(
            state.model,
            feed,
            state.optimizer,
            batch_size=cfg.batch_size,
            is_explicit=is_flag_given("micro_batch_size", sys.argv),
        )
        feed = fit_micro_batch(replica, feed, state.optimizer, batch_size=cfg.batch_size)
    val_feed = None
    if run.val_rows is not None:
        val_feed = replace(feed, data=run.val_rows)
        if feed.compiled and not done:
            rehearse_validation(replica, val_feed)
    n_records = max(cfg.eval_records, int(cfg.sample))
    validator = Validator(
        feed=val_feed,
        records=list(islice(run.data.records("val"), n_records)),
        tasks=run.data.tasks,
        tokenizer=run.tokenizer,
        rt=rt,
        form=run.data.document_form,
        max_new_tokens=cfg.max_new_tokens,
        answer=cfg.eval_records > 0,
        sample=cfg.sample,
        mask=run.data.receipt is not None and run.data.receipt["done"] == "allowed",
        lora=run.lora is not None,
        stop=run.stop,
    )

    schedule = Schedule(
        kind=cfg.schedule,
        peak=cfg.learning_rate,
        floor=cfg.min_lr,
        warmup_steps=cfg.warmup_steps,
        steps=run.steps,
    )
    updater = Updater(state.optimizer, state.scaler, schedule, rt, cfg.grad_clip)
    watch = Watch(rt, run.data, rows)
    meter = Meter(rows, state.model.config, peak_flops(rt.name(), rt.dtype), rt.n_ranks)
    # Which rows a step takes depends only on (seed, step): to resume is to start at another step.
    rows_ahead = (
        rows_of_step(step, batch_size=cfg.batch_size, n_rows=len(rows), seed=cfg.seed)
        for step in range(state.step, state.step if done else run.steps)
    )

    # --- The training loop.
    started_at, was_interrupted = time.perf_counter(), False
    pace = Pace()
    # From here on, a signal lets the current step finish and be saved.
    run.stop.wait_for_steps(lambda: (pace.until(), summary.at_stake(run.folder, state.step)))
    with console.progress_bar(
        label="training", total=run.steps, unit=" steps", initial=state.step
    ) as bar:
        for work in feed.works(rows_ahead):  # a thread assembles the next step's batches meanwhile
            if run.asked_to_stop():
                was_interrupted = True
                break
            pace.begin("step")

            # Forward and backward, micro-batch by micro-batch. Every loss is divided by the target
            # tokens of the whole step, over all micro-batches and ranks, so that the gradient is
            # that of the mean over these tokens, however the step is split. A token counts by
            # its weight, which is 1 unless --label_weight gives labels another.
            total_weight = rows.total_weight(work.rows)
            losses = accumulate_gradients(replica, work, total_weight, rt=rt, scaler=state.scaler)
            # Clip the gradients, update the weights at this step's learning rate, free gradients.
            result = updater.step(state.step, losses, total_weight)
            state.step += 1
            state.examples += len(rows.records(work.rows))
            state.tokens += meter.count(work.rows)
            watch.see(state.step, work, result)  # ends the run if the step before was not finite
            bar.update(1)
            is_last = state.step == run.steps

            if state.step % cfg.log_every == 0 or is_last:
                # float() waits for the device, so only logged steps call it.
                row: dict[str, Any] = {
                    "step": state.step,
                    "epoch": state.step * cfg.batch_size / len(rows),
                    "train_loss": float(result.loss),
                    "learning_rate": result.learning_rate,
                    "grad_norm": float(result.grad_norm),
                    "tokens": state.tokens,
                    "examples": state.examples,
                    **meter.read(),
                }
                tracker.write(row)
                bar.set_postfix_str(summary.gist(row), refresh=False)

            if state.step % cfg.eval_every == 0 or is_last:
                watch.check()  # this step too: weights after a broken step are never saved
                pace.begin("validation")
                figures = validator.measure(state.model, replica)
                was_interrupted = figures is None  # a signal arrived meanwhile
                if figures is not None:
                    tracker.write({"step": state.step, **figures})
                    save(run, figures)
                    tracker.draw()
                if is_out_of_patience(run, tracker):
                    break
                meter.restart()  # validation time is not training time

    # --- Save the last step, unless the last validation already did.
    watch.check()
    if rt.on_main(lambda: state.step > 0 and state.step not in run.folder.steps()):
        save(run, None)
    tracker.draw()
    tracker.close()
    # A signal that arrived later than the last validation has interrupted nothing.
    ending = "finished" if state.step >= run.steps else "out of patience"
    if was_interrupted:
        ending = "stopped"
    elapsed_s = time.perf_counter() - started_at
    rt.on_main(
        lambda: console.say(
            summary.end(
                run.folder,
                state,
                steps=run.steps,
                ending=ending,
                select=cfg.select,
                elapsed_s=elapsed_s,
                launcher=rt.launcher(),
            )
        )
    )
    return ending


def is_out_of_patience(run: Run, tracker: Tracker) -> bool:
    """Return whether `patience` validations in a row brought no improvement, on the main rank."""
    select, patience = run.cfg.select, run.cfg.patience
    return run.rt.on_main(lambda: lacks_improvement(tracker.read(), select, patience))


def save(run: Run, figures: Mapping[str, float] | None) -> None:
    """Write a checkpoint of this step, with a validation's figures if there was one.

    All ranks take part: each has its own random numbers and, under FSDP, a shard of the weights.
    The main rank writes, and the others wait until it has.
    """
    cfg, rt, state = run.cfg, run.rt, run.state
    trainer = capture(state, rt)
    plain = plain_copy(state.model, lora=run.lora is not None, merged=False)
    adapter = None
    if run.lora:
        adapter = run.lora, whole_weights(adapter_weights(state.model.state_dict()))
    card = {
        **(figures or {}),
        "data": {"folder": str(cfg.data), "fingerprint": run.data.fingerprint},
        **run.tasks.to_card(),
        "settings": to_json(cfg),
        "receipts": run.receipts,
        "tokenizer": run.tokenizer.fingerprint,
    }
    saved = rt.on_main(
        lambda: run.folder.save(
            state.step,
            model=plain,
            tokenizer=run.tokenizer,
            card=card,
            trainer=trainer,
            adapter=adapter,
        )
    )
    if figures is not None:
        best = rt.on_main(lambda: run.folder.keep_best(cfg.select, keep=cfg.keep))
        found = summary.measured(figures, is_best=saved == best)
        console.note(f"step {state.step}/{run.steps}: {found}")


if __name__ == "__main__":
    console.run(main)
