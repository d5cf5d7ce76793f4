"""Search settings of train.py on validation folds. The test split is never read.

    python sweep.py config/pubmedqa.py --learning_rate 1e-5 3e-5 --epochs 3 5
    python sweep.py config/pubmedqa.py --sampler=tpe --trials=30 --prune \\
        --search learning_rate=1e-5..1e-3:log dropout=0..0.3 batch_size=8,16,32
    python sweep.py config/pubmedqa.py --out=out/sweep_macro_f1 \\
        --prepare_flags="--source=ori_pqal.json" \\
        --train_flags="--select=macro_f1 --eval_records=50 --device=cuda:1"
    python sweep.py config/pubmedqa_xl.py \\
        --launcher="torchrun --standalone --nproc_per_node=8"

train.py trains every point on each fold, which prepare.py writes once. A point is judged by
train.py's criterion for checkpoints: the mean validation loss, or the labels of all folds together.

Start the same command again, at the same time or after Ctrl-C: every process
takes points from the same search (Optuna, kept in study.log), so two GPUs need
two commands. Points that failed are tried again, and more points may be added.
The folder contains sweep.csv, sweep.svg and a log of each run; each run's
folder contains result.json and the curves.
"""

import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TextIO, get_args, get_type_hints

from clingpt.base import console
from clingpt.base import settings as config
from clingpt.base.errors import ClingptError, ConfigError, DataError
from clingpt.base.files import write_whole
from clingpt.base.signals import StopSignals
from clingpt.text.records import N_FOLDS


@dataclass(frozen=True, kw_only=True)
class SweepConfig:
    # --- search ---
    preset: Path  # preset of train.py; may come first, without the flag's name
    learning_rate: tuple[float, ...] = (1e-5, 3e-5, 1e-4)  # peaks; each decays to a tenth of itself
    epochs: tuple[float, ...] = (5.0,)  # passes over the training rows
    batch_size: tuple[int, ...] = (16,)  # rows per optimizer step
    search: tuple[str, ...] = ()  # more settings: NAME=1,2,4 or NAME=1..8, with :log or :STEP
    sampler: Literal["grid", "tpe"] = "grid"  # every combination, or Optuna's TPE
    trials: int = 20  # points that TPE tries in all, over all processes
    prune: bool = False  # stop a point whose first folds are worse than the median point's
    seed: int = 0  # seed of TPE's proposals

    # --- data ---
    # PubMedQA folds that validate in turn. Other data have none; there the validation split of the
    # preset's own folder is used.
    folds: tuple[int, ...] = (0, 1, 2)

    # --- run ---
    launcher: str = ""  # command that starts train.py, such as torchrun; empty is this Python
    train_flags: str = ""  # more flags for every train.py, as one string
    # Flags for prepare.py, which writes the folds; empty repeats those of the preset's folder.
    prepare_flags: str = ""

    # --- output ---
    out: Path = Path("out/sweep")  # folder for the folds' data, the runs and their results
    keep_checkpoints: bool = False  # keep the weights of every run once it is measured

    def __post_init__(self) -> None:
        for name in ("learning_rate", "epochs", "batch_size", "folds"):
            values = getattr(self, name)
            config.check(bool(values), f"{name} is empty; specify one or more values")
            config.check(len(set(values)) == len(values), f"{name} names a value twice; keep one")
        config.check(min(self.learning_rate) > 0, "learning_rate must be above 0")
        config.check(min(self.epochs) > 0, "epochs must be above 0")
        config.check(min(self.batch_size) >= 1, "batch_size must be at least 1")
        folds = 0 <= min(self.folds) and max(self.folds) < N_FOLDS
        config.check(folds, f"folds must be at least 0 and below {N_FOLDS}")
        config.check_range(self, "trials", at_least=1)
        config.check_range(self, "seed", at_least=0)

    def space(self) -> "list[Setting]":
        """The settings to search; raises ConfigError for one that cannot be searched."""
        from train import TrainConfig  # loads torch, which --help need not wait for

        types: dict[str, type] = {}
        for name, hint in get_type_hints(TrainConfig).items():
            for kind in (int, float):
                if hint is kind or kind in get_args(hint):
                    types[name] = kind
        space = {
            name: Setting(name=name, is_int=types[name] is int, values=getattr(self, name))
            for name in ("learning_rate", "epochs", "batch_size")
        }
        for text in self.search:
            setting = parse_setting(text, types)
            space[setting.name] = setting
        if self.sampler == "grid":
            for setting in space.values():
                _ = setting.grid  # refuses a range without a step
        return list(space.values())

    def check_flags(self, searched: Iterable[str]) -> None:
        """Refuse train.py flags that the sweep sets itself, before any run is started."""
        given = shlex.split(self.train_flags)
        for name in (*searched, "data", "out"):
            config.check(
                not config.is_flag_given(name, given),
                f"--train_flags sets --{name}, which the sweep sets for each run; leave it out"
                + (f", or pass --{name} to sweep.py" if hasattr(self, name) else ""),
            )
        config.check(
            len(self.epochs) == 1 or not config.is_flag_given("steps", given),
            "--train_flags sets --steps, so that --epochs would change nothing; leave one out",
        )

    def flags(self, point: "Point") -> list[str]:
        """Return the train.py flags of a point, except its data and its folder."""
        more, values = shlex.split(self.train_flags), dict(point.values)
        if not (config.is_flag_given("steps", more) or "steps" in values):
            more.append("--steps=None")  # epochs decide, whatever the preset says
        if not (config.is_flag_given("min_lr", more) or "min_lr" in values):
            more.append(f"--min_lr={values['learning_rate'] / 10:g}")
        return [str(self.preset), *point.flags, *more]


def parse_flags() -> SweepConfig:
    argv = sys.argv[1:]
    if argv and not argv[0].startswith("-"):
        argv[0] = f"--preset={argv[0]}"  # of train.py; this command itself has no presets
    return config.parse(SweepConfig, argv, prog="sweep.py", description=__doc__ or "")


if __name__ == "__main__":
    # Answer --help and refuse mistaken flags before the imports below, which take seconds.
    console.run(parse_flags, requirements="requirements-search.txt")

from clingpt.data.prepared import MANIFEST, read_manifest
from clingpt.reports import plots
from clingpt.training.search import (
    POLL_S,
    POOLED,
    Outcome,
    Point,
    Result,
    Setting,
    Study,
    Trial,
    as_csv,
    drop_checkpoints,
    locked,
    panels,
    parse_setting,
    ranked,
    read_best,
    read_result,
    table,
    write_result,
)

# What Ctrl-C waits for, and what a second one would lose.
UNTIL = "as soon as the command that is running has saved its work"
LOSS = "losing its steps since its last checkpoint"


class Failed(ClingptError):
    """A command that failed; the message is the last line it printed."""


@dataclass(frozen=True)
class Commands:
    """Runs prepare.py, train.py and eval.py, one at a time, and forwards stop signals to them."""

    launcher: str
    stop: StopSignals

    def run(self, script: str, arguments: Sequence[str], log: Path, *, lock: int) -> None:
        """Run a command and append its output to a log.

        The command inherits `lock`: a run that outlives this process keeps its folder locked.
        Raises Failed with the command's last words, SystemExit if this process received a signal,
        and ConfigError if the command's flags are wrong, since then all runs would fail.
        """
        starter = shlex.split(self.launcher) if script == "train.py" else []
        path = str(Path(__file__).with_name(script))
        command = [*(starter or [sys.executable]), path, *arguments]
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a+", encoding="utf-8", errors="replace") as file:
            start = file.seek(0, os.SEEK_END)
            status = self._wait_for(command, file, lock)
            if self.stop():
                console.say(f"\nStopped. To continue:  {console.command(*sys.argv)}")
                raise SystemExit(self.stop.exit_status)
            if status:
                file.seek(start)
                words = last_words(file.read(), status)
                kind = ConfigError if status == ConfigError.exit_status else Failed
                raise kind(f"{script}: {words} (its output: {log})")

    def _wait_for(self, command: Sequence[str], output: TextIO, lock: int) -> int:
        """Wait for a command; forward the first signal to it, so that it saves and exits."""
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # Ctrl-C reaches it only through this process
            pass_fds=(lock,),
        )
        forwarded, said_at, start = False, time.monotonic(), output.tell()
        try:
            while True:
                try:
                    return process.wait(timeout=POLL_S)
                except subprocess.TimeoutExpired:
                    if self.stop.received and not forwarded:
                        process.send_signal(self.stop.received)
                        forwarded = True
                    if time.monotonic() - said_at >= console.LINE_EVERY_S:
                        said_at = time.monotonic()
                        output.seek(start)
                        console.note(progress_in(output.read()))
        finally:
            process.kill()  # a second signal ended the wait
            process.wait()


def progress_in(output: str) -> str:
    """Return a command's last line about its progress, and none of the texts that it may print."""
    lines = re.findall(r"^[\w :]+\d.*\[\d\d:\d\d.*\]$", output, re.MULTILINE)
    return lines[-1] if lines else "still running"


def last_words(output: str, status: int) -> str:
    """Return why a command failed, in one line: its error, or the last line it printed."""
    if status < 0:
        return f"killed by signal {-status}"
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return (errors or lines or [f"exit status {status}"])[-1]


def main() -> None:
    cfg = parse_flags()
    import optuna  # noqa: F401  # before any work, to report now if it is not installed

    with StopSignals() as stop:
        stop.wait_for_steps(lambda: (UNTIL, LOSS))
        commands = Commands(cfg.launcher, stop)
        with locked(cfg.out) as lock:  # one process prepares while the others wait here
            whole, flags = data_of(cfg)
            space = begin(cfg)
            if whole is not None:
                cfg = replace(cfg, folds=(0,))
            data = {
                fold: whole or prepared_fold(cfg, fold, flags, commands, lock)
                for fold in sorted(cfg.folds)
            }
            check_folds(data)
            study = Study(
                cfg.out,
                space,
                folds=cfg.folds,
                sampler=cfg.sampler,
                n_trials=cfg.trials,
                prune=cfg.prune,
                seed=cfg.seed,
            )
            study.queue()
        while trial := study.take():
            with trial:
                trial.finish(measure_point(cfg, trial, data, commands))
    report(cfg, study, data)


def data_of(cfg: SweepConfig) -> tuple[Path | None, list[str]]:
    """Return the preset's prepared folder if it has no folds; else the flags that prepare folds."""
    from clingpt.data.prepared import official_folds
    from train import TrainConfig

    if not cfg.preset.is_file():
        raise ConfigError(f"preset {cfg.preset} does not exist; choose one in config/")
    if cfg.prepare_flags:
        return None, shlex.split(cfg.prepare_flags)
    argv = [str(cfg.preset), *shlex.split(cfg.train_flags)]
    folder = config.parse(TrainConfig, argv, prog="train.py", description="", preset=True).data
    if not (folder / MANIFEST).exists():
        if folder == TrainConfig.data:  # PubMedQA's, and the Hub has it
            return None, []
        raise ConfigError(
            f"{folder}, the data of {cfg.preset}, is not prepared; prepare it first, as the preset "
            "says, or name a source of PubMedQA's records: --prepare_flags=--source=ori_pqal.json"
        )
    if official_folds((folder / "val.ids").read_text("utf-8").split()) is None:
        console.note(
            f"{folder} has none of PubMedQA's folds: each point is trained on it once and judged "
            "by its validation split"
        )
        return folder, []
    made = read_manifest(folder)["settings"]
    flags = [f"--source={made['source']}", f"--block_size={made['block_size']}"]
    return None, [*flags, "--tasks", *made["tasks"]]


def begin(cfg: SweepConfig) -> list[Setting]:
    """Refuse a folder of runs with other settings, store these, and return the search space."""
    space = cfg.space()
    cfg.check_flags(setting.name for setting in space)
    path = cfg.out / "sweep.json"
    settings = {
        "format": 2,
        "preset": hashlib.sha256(cfg.preset.read_bytes()).hexdigest(),
        "train_flags": shlex.split(cfg.train_flags),
        "prepare_flags": shlex.split(cfg.prepare_flags),
        "searched settings": [setting.name for setting in space],
    }
    before = settings_before(path) or settings
    if changed := [name for name in settings if before.get(name) != settings[name]]:
        raise ConfigError(
            f"{cfg.out} was started with different {' and '.join(changed)}, so its runs cannot "
            "be compared with new ones; choose another --out"
        )
    write_whole(path, json.dumps(settings, indent=1) + "\n")
    return space


def settings_before(path: Path) -> dict[str, Any] | None:
    """Return the settings that the folder was started with; None for a new folder."""
    if not path.exists():
        return None
    try:
        before = json.loads(path.read_text("utf-8"))
    except ValueError:
        before = None
    if not isinstance(before, dict):
        raise DataError(f"{path} is damaged; remove it if {path.parent} has these settings")
    return before


def prepared_fold(
    cfg: SweepConfig, fold: int, flags: Sequence[str], commands: Commands, lock: int
) -> Path:
    """Prepare a fold's data, unless an earlier command did."""
    folder = cfg.out / "data" / f"fold{fold}"
    if not (folder / MANIFEST).exists():
        console.note(f"preparing fold {fold}")
        flags = [f"--fold={fold}", f"--out={folder}", "--show=0", *flags]
        commands.run("prepare.py", flags, folder.with_suffix(".log"), lock=lock)
    return folder


def check_folds(data: Mapping[int, Path]) -> None:
    """Refuse folds without validation records, or with records in common."""
    seen = dict[str, int]()
    for fold, folder in data.items():
        ids = set((folder / "val.ids").read_text("utf-8").split("\n")[:-1])
        if not ids:
            raise DataError(f"{data[fold]} contains no validation record; nothing can be compared")
        if both := ids & seen.keys():
            raise DataError(
                f"folds {seen[min(both)]} and {fold} both hold out record {min(both)}: only "
                "PubMedQA's labelled records have folds; pass --folds 0"
            )
        seen |= dict.fromkeys(ids, fold)


def measure_point(
    cfg: SweepConfig, trial: Trial, data: Mapping[int, Path], commands: Commands
) -> Outcome:
    """Run a point fold by fold; note what fails, and with --prune stop a hopeless point early."""
    results, failures = dict[int, Result](), dict[int, str]()
    for fold, folder in data.items():
        console.note(f"{trial.point.name}, fold {fold}")
        try:
            results[fold] = measure(cfg, trial, fold, folder, commands)
        except (Failed, DataError) as error:
            console.note(f"failed: {error}")
            failures[fold] = str(error)
            continue
        outcome = Outcome(point=trial.point, results=results, failures=failures)
        if trial.is_hopeless(outcome) and fold != max(data):
            console.note(f"stopped after {len(results)} of {len(data)} folds: below the median")
            return replace(outcome, pruned=True)
    return Outcome(point=trial.point, results=results, failures=failures)


def measure(cfg: SweepConfig, trial: Trial, fold: int, data: Path, commands: Commands) -> Result:
    """Return a point's result on one fold: from an earlier run, or trained and measured now."""
    run = cfg.out / trial.point.name / f"fold{fold}"
    result = read_result(run)
    if result is None:
        log = run.with_suffix(".log")
        flags = [*cfg.flags(trial.point), f"--data={data}", f"--out={run}"]
        commands.run("train.py", flags, log, lock=trial.lock)
        if read_best(run).select in POOLED:
            flags = [f"--checkpoint={run / 'best'}", "--split=val", "--texts=0"]
            commands.run("eval.py", flags, log, lock=trial.lock)
        result = read_best(run)
        write_result(run, result)
        figures = ", ".join(f"{name} {value:.4f}" for name, value in result.figures.items())
        console.note(f"best at step {result.step}: {figures}")
    if not cfg.keep_checkpoints:
        drop_checkpoints(run)
    return result


def collect(cfg: SweepConfig, study: Study) -> list[Outcome]:
    """Gather the results of every point from its runs' folders, and its failures."""
    outcomes = []
    for point, states in study.points().items():
        results = dict[int, Result]()
        failures = {} if states & {"COMPLETE", "PRUNED"} else study.failures(point)
        for fold in sorted(cfg.folds):
            try:
                if found := read_result(cfg.out / point.name / f"fold{fold}"):
                    results[fold] = found
            except DataError as error:
                console.note(f"failed: {error}")
                failures[fold] = str(error)
        if results or failures:
            pruned = "PRUNED" in states and len(results) < len(cfg.folds)
            outcome = Outcome(point=point, results=results, failures=failures, pruned=pruned)
            outcomes.append(outcome)
    return outcomes


def report(cfg: SweepConfig, study: Study, data: Mapping[int, Path]) -> None:
    """Print the table, write its files, and name the command that trains the best point."""
    outcomes, states = collect(cfg, study), study.points()
    found = [result for each in outcomes for result in each.results.values()]
    if not found:
        raise Failed(
            f"none of {console.count(len(states), 'point')} has a result; see the logs in {cfg.out}"
        )
    select = found[0].select
    order = ranked(outcomes, select)
    console.say(table(order, select))
    if shares := study.importances():
        rows = [[name.replace("_", " "), f"{share:.0%}"] for name, share in shares.items()]
        title = "Importance of each setting: its share of the variation between points (PED-ANOVA)"
        console.say("\n" + console.table(title, ["setting", "share"], rows))
    write_whole(cfg.out / "sweep.csv", as_csv(order))
    if plot := plots.search(panels(order, select), select):
        write_whole(cfg.out / "sweep.svg", plot)
    if n_open := sum(bool(names & {"RUNNING", "WAITING"}) for names in states.values()):
        console.say(
            f"\nOther processes are running {console.count(n_open, 'more point')}; the last one "
            "reports all."
        )
    best = order[0]
    if best.is_whole:
        n = sum(each.is_whole for each in order)
        flags = [*cfg.flags(best.point), f"--data={data[min(data)]}"]
        command = console.command("train.py", *flags, f"--out={cfg.out}_best")
        console.say(
            f"\nWrote {cfg.out}: sweep.csv, sweep.svg. The figure of the best of "
            f"{console.count(n, 'point')} is optimistic, because it chose the point; score it "
            "once on records that did not."
            f"\nNext:  {command}"
        )
    if failed := sum(len(each.failures) for each in order):
        total = len(order) * len(cfg.folds)
        raise Failed(
            f"{failed} of {console.count(total, 'run')} failed; run the same command to try again"
        )


if __name__ == "__main__":
    console.run(main, requirements="requirements-search.txt")
