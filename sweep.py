"""Try learning rates, epochs and batches on validation folds; test records are never looked at.

    python sweep.py config/pubmedqa.py --learning_rate 1e-5 3e-5 1e-4 --epochs 3 5 --folds 0 1 2
    python sweep.py config/pubmedqa.py --out=out/sweep_macro_f1 \\
        --prepare_flags="--source=ori_pqal.json" \\
        --train_flags="--select=macro_f1 --eval_records=50 --device=cuda:1"
    python sweep.py config/pubmedqa_xl.py --launcher="torchrun --standalone --nproc_per_node=8"

Every point of the grid is trained by train.py on each fold, which prepare.py writes once, and is
judged by what train.py selects by: the validation loss, or all folds' labels together. Ctrl-C
saves; the same command goes on and tries failed points again, and more points may be added. The
folder gets sweep.csv, sweep.svg, a log a run, and result.json and curves in each run's folder.
"""

import hashlib
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from clingpt.base import console
from clingpt.base import settings as config
from clingpt.base.errors import ClingptError, ConfigError, DataError
from clingpt.base.files import try_lock, write_whole
from clingpt.base.signals import StopSignals
from clingpt.data.prepared import MANIFEST
from clingpt.data.splits import N_FOLDS
from clingpt.reports import plots
from clingpt.training.search import (
    POOLED,
    Outcome,
    Point,
    Result,
    as_csv,
    curves,
    drop_checkpoints,
    grid,
    ranked,
    read_best,
    read_result,
    table,
    write_result,
)

POLL_S = 0.2


@dataclass(frozen=True, kw_only=True)
class SweepConfig:
    preset: Path  # of train.py; may stand first, without its name
    learning_rate: tuple[float, ...] = (1e-5, 3e-5, 1e-4)  # peaks; each ends at a tenth of itself
    epochs: tuple[float, ...] = (5.0,)  # passes over the training rows
    batch_size: tuple[int, ...] = (16,)  # rows of an optimizer step
    folds: tuple[int, ...] = (0, 1, 2)  # of PubMedQA's ten that validate in turn; 0 for other data
    out: Path = Path("out/sweep")  # folder of the folds' data, the runs and what they gave
    keep_checkpoints: bool = False  # keep every run's weights; False deletes them once measured
    launcher: str = ""  # what starts train.py, such as torchrun and its flags; empty: this Python
    train_flags: str = ""  # more flags for every train.py, in one text
    prepare_flags: str = ""  # likewise for prepare.py: --source and --tasks, say

    def __post_init__(self) -> None:
        for name in ("learning_rate", "epochs", "batch_size", "folds"):
            values = getattr(self, name)
            config.check(bool(values), f"{name} is empty; give one value or several")
            config.check(len(set(values)) == len(values), f"{name} names a value twice; keep one")
        config.check(min(self.learning_rate) > 0, "learning_rate must be above 0")
        config.check(min(self.epochs) > 0, "epochs must be above 0")
        config.check(min(self.batch_size) >= 1, "batch_size must be at least 1")
        folds = 0 <= min(self.folds) and max(self.folds) < N_FOLDS
        config.check(folds, f"folds must be at least 0 and below {N_FOLDS}")

    def flags(self, point: Point) -> list[str]:
        """What a point's train.py is given, but for its data and its folder."""
        more = shlex.split(self.train_flags)
        if not any(flag.startswith(("--min_lr", "--min-lr")) for flag in more):
            more.append(f"--min_lr={point.learning_rate / 10:g}")
        return [str(self.preset), *point.flags, *more]


class Failed(ClingptError):
    """A command that ended badly, by its own last words."""


@dataclass(frozen=True)
class Commands:
    """Starts other commands, one at a time, and stops with them."""

    launcher: str
    stop: StopSignals
    lock: int  # inherited, so that nobody else works in the folder while a command still does

    def run(self, script: str, arguments: Sequence[str], log: Path) -> None:
        """A command whose output goes behind a log's; Failed, or SystemExit where it was stopped.

        ConfigError where its flags cannot be used: then those of all other runs cannot either.
        """
        starter = shlex.split(self.launcher) if script == "train.py" else []
        path = str(Path(__file__).with_name(script))
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a+", encoding="utf-8", errors="replace") as file:
            begun = file.seek(0, os.SEEK_END)
            status = self._wait_for([*(starter or [sys.executable]), path, *arguments], file)
            if self.stop():
                console.say(f"\nStopped. To go on:  python {shlex.join(sys.argv)}")
                raise SystemExit(self.stop.exit_status)
            if status:
                file.seek(begun)
                words = last_words(file.read(), status)
                kind = ConfigError if status == ConfigError.exit_status else Failed
                raise kind(f"{script}: {words} (its output: {log})")

    def _wait_for(self, command: Sequence[str], output: TextIO) -> int:
        """A signal to this process goes on to the command, once, which saves and then ends."""
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # so that Ctrl-C reaches it by this process alone
            pass_fds=(self.lock,),
        )
        told = False
        try:
            while True:
                try:
                    return process.wait(timeout=POLL_S)
                except subprocess.TimeoutExpired:
                    if self.stop.received and not told:
                        process.send_signal(self.stop.received)
                        told = True
        finally:
            process.kill()  # where a second signal ended the waiting
            process.wait()


def last_words(output: str, status: int) -> str:
    """Why a command ended, in one line: its error, or else whatever it said last."""
    if status < 0:
        return f"killed by signal {-status}"
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return (errors or lines or [f"exit status {status}"])[-1]


def main() -> None:
    argv = named_preset(sys.argv[1:])
    cfg = config.parse(SweepConfig, argv, prog="sweep.py", description=__doc__ or "")
    with StopSignals() as stop, locked(cfg.out) as lock:
        stop.wait_for_steps()
        begin(cfg)
        commands = Commands(cfg.launcher, stop, lock)
        data = {fold: prepared_fold(cfg, fold, commands) for fold in sorted(cfg.folds)}
        check_folds(data)
        outcomes = measure_all(cfg, data, commands)
    report(cfg, outcomes)


def named_preset(argv: list[str]) -> list[str]:
    """The preset, which is train.py's and not this command's, as a flag."""
    has_preset = bool(argv) and not argv[0].startswith("-")
    return [f"--preset={argv[0]}", *argv[1:]] if has_preset else argv


@contextmanager
def locked(folder: Path) -> Iterator[int]:
    """The folder, for one sweep at a time; gives the lock's descriptor."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        if not try_lock(file):
            reason = "is being worked in by another sweep.py, or by a run that one left behind"
            raise ConfigError(f"{folder} {reason}; wait for it or choose another --out")
        yield file.fileno()


def begin(cfg: SweepConfig) -> None:
    """Refuse a folder in which other settings than the grid's were tried."""
    if not cfg.preset.is_file():
        raise ConfigError(f"preset {cfg.preset} does not exist; name one of config/")
    path = cfg.out / "sweep.json"
    settings = {
        "format": 1,
        "preset": hashlib.sha256(cfg.preset.read_bytes()).hexdigest(),
        "train_flags": shlex.split(cfg.train_flags),
        "prepare_flags": shlex.split(cfg.prepare_flags),
    }
    before = settings_before(path) or settings
    if changed := [name for name in settings if before.get(name) != settings[name]]:
        raise ConfigError(
            f"{cfg.out} was begun with another {' and '.join(changed)}; its runs cannot be "
            "compared with new ones: choose another --out"
        )
    write_whole(path, json.dumps(settings, indent=1) + "\n")


def settings_before(path: Path) -> dict[str, Any] | None:
    """Those that the folder was begun with; None of a new one."""
    if not path.exists():
        return None
    try:
        before = json.loads(path.read_text("utf-8"))
    except ValueError:
        before = None
    if not isinstance(before, dict):
        raise DataError(f"{path} is damaged; remove it if {path.parent} is of these settings")
    return before


def prepared_fold(cfg: SweepConfig, fold: int, commands: Commands) -> Path:
    """The fold's data, written unless it is there."""
    folder = cfg.out / "data" / f"fold{fold}"
    if not (folder / MANIFEST).exists():
        console.note(f"preparing fold {fold}")
        flags = [f"--fold={fold}", f"--out={folder}", "--show=0", *shlex.split(cfg.prepare_flags)]
        commands.run("prepare.py", flags, folder.with_suffix(".log"))
    return folder


def check_folds(data: Mapping[int, Path]) -> None:
    """Refuse folds that hold out no record, or the same ones: then a hash chose each time."""
    seen = dict[str, int]()
    for fold, folder in data.items():
        ids = set((folder / "val.ids").read_text("utf-8").split("\n")[:-1])
        if not ids:
            raise DataError(f"{data[fold]} holds no validation record; nothing can be compared")
        if twice := ids & seen.keys():
            raise DataError(
                f"folds {seen[min(twice)]} and {fold} both hold out record {min(twice)}: only "
                "PubMedQA's labelled records have folds; give --folds 0"
            )
        seen |= dict.fromkeys(ids, fold)


def measure_all(cfg: SweepConfig, data: Mapping[int, Path], commands: Commands) -> list[Outcome]:
    """Every point on every fold; what failed is said, and left for the next time."""
    points = grid(cfg.learning_rate, cfg.epochs, cfg.batch_size)
    number, total, outcomes = 0, len(points) * len(data), []
    for point in points:
        results, failures = dict[int, Result](), dict[int, str]()
        for fold, folder in data.items():
            number += 1
            console.note(f"run {number} of {total}: {point.name}, fold {fold}")
            try:
                results[fold] = measure(cfg, point, folder, commands)
            except (Failed, DataError) as error:
                console.note(f"failed: {error}")
                failures[fold] = str(error)
        outcomes.append(Outcome(point=point, results=results, failures=failures))
    return outcomes


def measure(cfg: SweepConfig, point: Point, data: Path, commands: Commands) -> Result:
    """What a point gives on a fold: found before, or trained for now and labelled by eval.py."""
    run = cfg.out / point.name / data.name
    result = read_result(run)
    if result is None:
        log = run.with_suffix(".log")
        flags = [*cfg.flags(point), f"--data={data}", f"--out={run}"]
        commands.run("train.py", flags, log)
        if read_best(run).select in POOLED:
            flags = [f"--checkpoint={run / 'best'}", "--split=val", "--texts=0"]
            commands.run("eval.py", flags, log)
        result = read_best(run)
        write_result(run, result)
        figures = ", ".join(f"{name} {value:.4f}" for name, value in result.figures.items())
        console.note(f"best at step {result.step}: {figures}")
    if not cfg.keep_checkpoints:
        drop_checkpoints(run)
    return result


def report(cfg: SweepConfig, outcomes: Sequence[Outcome]) -> None:
    """The table, its files, and the command that trains the best point."""
    found = [result for each in outcomes for result in each.results.values()]
    if not found:
        raise Failed(f"none of {len(outcomes)} points gave a result; the logs in {cfg.out} say why")
    select = found[0].select
    order = ranked(outcomes, select)
    write_whole(cfg.out / "sweep.csv", as_csv(order))
    console.say(table(order, select))
    if plot := plots.learning_rates(curves(order, select), select):
        write_whole(cfg.out / "sweep.svg", plot)
    best = order[0]
    if best.is_whole:
        n = sum(each.is_whole for each in order)
        flags = [*cfg.flags(best.point), f"--data={cfg.out}/data/fold{min(cfg.folds)}"]
        command = shlex.join(["train.py", *flags, f"--out={cfg.out}_best"])
        console.say(
            f"\nWrote {cfg.out}: sweep.csv, sweep.svg. The best of {n} points is flattered by the "
            f"choice; score it once on records that chose nothing.\nNext:  python {command}"
        )
    if failed := sum(len(each.failures) for each in order):
        total = len(order) * len(cfg.folds)
        raise Failed(f"{failed} of {total} runs failed; the same command tries them again")


if __name__ == "__main__":
    console.run(main)
