"""Search numeric settings of train.py: the space, the shared study, and the results of its runs.

Every process that is started with the same command works on one Optuna study, which is kept in a
journal file in the sweep's folder. sweep.py starts the runs. A search never uses test records.
"""

import csv
import io
import json
import math
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal

from clingpt.base import console
from clingpt.base.errors import ConfigError, DataError
from clingpt.base.files import followed, try_lock, write_whole
from clingpt.base.settings import did_you_mean, read_json
from clingpt.evaluation.bootstrap import Spread, spread
from clingpt.evaluation.metrics import Interval
from clingpt.nn.checkpoint import LINKS, RunFolder, key_of, read_card, score
from clingpt.reports.report import LabelFigures, Report, label_figures
from clingpt.reports.tables import between, percent
from clingpt.text.records import LABELS

if TYPE_CHECKING:
    import optuna

FORMAT = 1
RESULT = "result.json"
JOURNAL = "study.log"
LOCK = ".lock"
POLL_S = 0.2
POOLED = ("accuracy", "macro_f1")  # criteria that are computed from all folds' labels together
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a cell that starts like this runs in a spreadsheet
N_BEFORE_PRUNING = 4  # points measured on all folds before another one may be stopped early


# ------------------------------------------------------------------------------------------------
# The space


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A numeric setting of train.py and the values that it may take: a list or a range."""

    name: str
    is_int: bool = False
    values: tuple[float, ...] = ()  # a list; empty for a range
    low: float = 0.0
    high: float = 0.0
    log: bool = False  # sample the range evenly in its logarithm
    step: float | None = None

    @property
    def grid(self) -> tuple[float, ...]:
        """All values, for a grid; raises ConfigError for a range without a step."""
        if self.values:
            return self.values
        if self.step is None:
            quarter = (self.high - self.low) / 4
            raise ConfigError(
                f"a grid needs the step of the range {self.name}, as in "
                f"{self.name}={self.low:g}..{self.high:g}:{quarter:g}; or pass --sampler=tpe"
            )
        n_steps = math.floor((self.high - self.low) / self.step + 1e-9)
        return tuple(self.low + i * self.step for i in range(n_steps + 1))

    def typed(self, value: float) -> float:
        """Return the value as passed to train.py: six digits, so that folder and flag agree."""
        return int(value) if self.is_int else float(f"{value:.6g}")

    def suggest(self, trial: "optuna.Trial", *, queued: bool) -> float:
        """Let the study choose a value for a trial, or repeat the one it was `queued` with."""
        low, high = (min(self.values), max(self.values)) if self.values else (self.low, self.high)
        step = None if self.values else self.step
        if self.values and not queued:
            return float(trial.suggest_categorical(self.name, [*map(self.typed, self.values)]))
        if self.is_int:
            return trial.suggest_int(
                self.name, int(low), int(high), step=int(step or 1), log=self.log
            )
        return trial.suggest_float(self.name, low, high, step=step, log=self.log)


def parse_setting(text: str, types: Mapping[str, type]) -> Setting:
    """Read `learning_rate=1e-5,3e-5` (a list) or `learning_rate=1e-5..1e-3:log` (a range).

    `types` maps the names of numeric settings to int or float. A range may end in `:log` or in a
    step (`dropout=0..0.3:0.1`). Raises ConfigError if malformed.
    """
    name, _, rest = text.partition("=")
    if name not in types:
        hint = did_you_mean(name, types)
        raise ConfigError(f"search: {name!r} is not a numeric setting of train.py{hint}")
    bounds, _, ending = rest.partition(":")
    low, dots, high = bounds.partition("..")
    try:
        numbers = [float(number) for number in ((low, high) if dots else rest.split(","))]
        step = float(ending) if dots and ending not in ("", "log") else None
    except ValueError:
        raise ConfigError(
            f"search: cannot read {text!r}; write {name}=1,2,4 or {name}=1..8, "
            f"optionally with :log or a step at the end, as in {name}=1..8:log"
        ) from None
    is_int = types[name] is int
    if not all(math.isfinite(number) for number in (*numbers, step or 0.0)):
        raise ConfigError(f"search: {name} takes finite numbers, got {rest}")
    if is_int and not all(number.is_integer() for number in (*numbers, step or 0.0)):
        raise ConfigError(f"search: {name} takes whole numbers, got {rest}")
    if not dots:
        if len(set(numbers)) < len(numbers):
            raise ConfigError(f"search: {name} names a value twice; keep one")
        return Setting(name=name, is_int=is_int, values=tuple(numbers))
    if numbers[0] >= numbers[1] or (step is not None and step <= 0):
        raise ConfigError(f"search: {text!r} is not a range; write {name}=LOW..HIGH:STEP")
    log = ending == "log"
    if log and numbers[0] <= 0:
        raise ConfigError(f"search: a logarithmic range of {name} must start above 0")
    return Setting(name=name, is_int=is_int, low=numbers[0], high=numbers[1], log=log, step=step)


@dataclass(frozen=True, order=True)
class Point:
    """One choice of the settings that are searched."""

    values: tuple[tuple[str, float], ...]  # (setting, value), in the order of the space

    @property
    def name(self) -> str:
        """The name of the point's folder."""
        return "_".join(f"{name}{value:g}" for name, value in self.values)

    @property
    def flags(self) -> list[str]:
        """The point as flags of train.py."""
        return [f"--{name}={value:g}" for name, value in self.values]


# ------------------------------------------------------------------------------------------------
# Results


@dataclass(frozen=True, kw_only=True)
class Result:
    """What the best checkpoint of one run scored on its validation fold."""

    select: str  # the criterion that chose it
    step: int
    figures: dict[str, float]  # val_loss and the others, as in its card
    confusion: list[list[int]]  # of labels, true ones in rows, in LABELS' order; may be empty


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The results of a point by fold, and why any fold has no result."""

    point: Point
    results: Mapping[int, Result]
    failures: Mapping[int, str]
    pruned: bool = False  # stopped early because its first folds were worse than other points'

    @property
    def is_whole(self) -> bool:
        """Whether every fold has a result: only such points can be compared."""
        return bool(self.results) and not self.failures and not self.pruned

    @property
    def reason(self) -> str:
        """Why the point cannot be compared; empty if it can."""
        if self.pruned:
            return f"stopped early, folds measured: {len(self.results)}"
        return "; ".join(f"fold {fold}: {why}" for fold, why in self.failures.items())

    @cached_property
    def spreads(self) -> dict[str, Spread]:
        """Return mean and standard deviation over the folds of each figure that all folds have."""
        found = [result.figures for result in self.results.values()]
        names = [name for name in found[0] if all(name in each for each in found)] if found else []
        return {name: spread([each[name] for each in found]) for name in names}

    @cached_property
    def labels(self) -> LabelFigures | None:
        """Return the scores of all folds' labels, pooled; None without labels.

        One fold's macro-F1 depends on the few records labelled maybe, and a mean of ten such
        figures is not the macro-F1 of all records.
        """
        pairs = [
            (gold, predicted)
            for result in self.results.values()
            for gold, row in zip(LABELS, result.confusion, strict=False)
            for predicted, n in zip(LABELS, row, strict=True)
            for _ in range(n)
        ]
        if not pairs:
            return None
        return label_figures([gold for gold, _ in pairs], [predicted for _, predicted in pairs])

    def pooled(self, select: str) -> tuple[float, Interval | None] | None:
        """Return accuracy or macro-F1 of the pooled labels with its 95 % interval, else None."""
        if self.labels is None or select not in POOLED:
            return None
        if select == "accuracy":
            return self.labels.accuracy, self.labels.accuracy_interval
        return self.labels.macro_f1, self.labels.macro_f1_interval

    def value(self, select: str) -> float | None:
        """Return the point's figure for a criterion, or None if it was not measured."""
        if pooled := self.pooled(select):
            return pooled[0]
        found = self.spreads.get(key_of(select))
        return found.mean if found else None

    def interval(self, select: str) -> tuple[float, float]:
        """Return bounds around the value: 95 % for pooled labels, else one deviation over folds."""
        if (pooled := self.pooled(select)) and pooled[1]:
            return pooled[1].low, pooled[1].high
        found = self.spreads[key_of(select)]
        sd = found.sd or 0.0
        return found.mean - sd, found.mean + sd

    def score(self, select: str) -> float | None:
        """Return the value on a scale where higher is better."""
        return score({key_of(select): self.value(select)}, select)


def read_best(run: Path) -> Result:
    """Collect the figures of a finished run's best checkpoint, with eval.py's labels if present.

    Raises DataError if the criterion is missing or not finite.
    """
    card = read_card(followed(run / "best"))
    found = {name: value for name, value in card.items() if name.startswith("val_")}
    figures = {name: value for name, value in found.items() if math.isfinite(value)}
    select = card["settings"]["select"]
    if key_of(select) not in figures:
        raise DataError(f"{run} has no finite {key_of(select)}; see its metrics.jsonl")
    confusion: list[list[int]] = []
    path = run / "eval_val" / "report.json"
    if path.exists():
        report = Report.from_json(json.loads(path.read_text("utf-8")), source=path)
        if report.labels and report.labels.model.confusion:
            confusion = [list(row) for row in report.labels.model.confusion]
    return Result(select=select, step=card["step"], figures=figures, confusion=confusion)


def write_result(run: Path, result: Result) -> None:
    """Keep a finished run's figures; afterwards its weights may be deleted."""
    text = json.dumps({"format": FORMAT, **asdict(result)}, indent=1)
    write_whole(run / RESULT, text + "\n")


def read_result(run: Path) -> Result | None:
    """Read a finished run's figures, or None before that; raise DataError if malformed."""
    path = run / RESULT
    if not path.exists():
        return None
    advice = f"remove {run}"
    return read_json(Result, path, version=FORMAT, error=DataError, advice=advice)


def drop_checkpoints(run: Path) -> None:
    """Delete a run's weights; its figures and curves stay."""
    for link in LINKS:
        (run / link).unlink(missing_ok=True)
    for folder in RunFolder(run).steps().values():
        shutil.rmtree(folder)


# ------------------------------------------------------------------------------------------------
# The study


class Trial:
    """A point reserved by this process; leaving the `with` block releases its folder."""

    def __init__(self, point: Point, trial: "optuna.Trial", lock: IO[str]) -> None:
        self.point = point
        self._trial, self._lock = trial, lock

    @property
    def lock(self) -> int:
        """The lock's file descriptor, for child processes to inherit."""
        return self._lock.fileno()

    def __enter__(self) -> "Trial":
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.close()

    def is_hopeless(self, outcome: Outcome) -> bool:
        """Report the folds measured so far; return whether the pruner would stop here."""
        select = next(iter(outcome.results.values())).select
        value = outcome.score(select)
        if value is None:
            return False
        self._trial.report(value, step=len(outcome.results) - 1)
        return self._trial.should_prune()

    def finish(self, outcome: Outcome) -> None:
        """Tell the study how the point ended."""
        from optuna.trial import TrialState

        study = self._trial.study
        if outcome.failures:
            reasons = {str(fold): reason for fold, reason in outcome.failures.items()}
            self._trial.set_user_attr("failures", reasons)
            study.tell(self._trial, state=TrialState.FAIL)
        elif outcome.pruned:
            study.tell(self._trial, state=TrialState.PRUNED)
        else:
            select = next(iter(outcome.results.values())).select
            study.tell(self._trial, outcome.score(select))


class Study:
    """The points of a sweep, shared by every process that works in its folder.

    A point is taken, and its own folder locked, while the sweep's folder is locked, so no
    two processes run the same point. The kernel drops the locks of a process that dies. The next
    process that takes a point then finds one that is running but not locked, and queues it again.
    """

    def __init__(
        self,
        folder: Path,
        space: Sequence[Setting],
        *,
        folds: Sequence[int],
        sampler: Literal["grid", "tpe"] = "grid",
        n_trials: int = 0,
        prune: bool = False,
        seed: int = 0,
    ) -> None:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.folder, self.space, self._folds = folder, list(space), sorted(folds)
        self._sampler, self._n_trials, self._seed = sampler, n_trials, seed
        path = str(folder / JOURNAL)
        # O_EXCL locks the journal if there are neither symbolic links nor flock.
        backend = JournalFileBackend(path, lock_obj=JournalFileOpenLock(path))
        pruner: optuna.pruners.BasePruner = optuna.pruners.NopPruner()
        if prune:
            pruner = optuna.pruners.MedianPruner(n_startup_trials=N_BEFORE_PRUNING)
        # Figures over other folds are not comparable, so they get a separate study. Results of
        # folds that were measured before are read from disk: adding a fold does not repeat any run.
        name = f"{sampler} on folds {' '.join(map(str, self._folds))}"
        if sampler == "tpe":  # whose past proposals say nothing about another space
            name += f" over {self.space}"
        self._study = optuna.create_study(
            study_name=name,
            storage=JournalStorage(backend),
            direction="maximize",
            pruner=pruner,
            load_if_exists=True,
        )

    def queue(self) -> None:
        """Queue a grid's new points, those that failed before, and those whose results are gone."""
        states = self.points()
        grid = self._grid() if self._sampler == "grid" else []
        for point in grid:
            if point not in states:
                self._enqueue(point)
        for point, found in states.items():
            files = [self.folder / point.name / f"fold{fold}" / RESULT for fold in self._folds]
            is_gone = found == {"COMPLETE"} and not all(path.exists() for path in files)
            if (found == {"FAIL"} or is_gone) and (self._sampler == "tpe" or point in grid):
                self._enqueue(point)

    def take(self) -> Trial | None:
        """Reserve the next point for this process; return None if no point is left."""
        while True:
            with locked(self.folder):
                self._requeue_abandoned()
                if (trial := self._ask()) is None:
                    return None
                point = self._suggest(trial)
                lock = self._open_lock(point)
                if try_lock(lock):
                    return Trial(point, trial, lock)
                # TPE proposed a point that another process is running.
                lock.close()
                self._fail(trial)
            time.sleep(POLL_S)

    def points(self) -> dict[Point, set[str]]:
        """Return every point so far with its trials' states, by Optuna's names ("COMPLETE")."""
        states: dict[Point, set[str]] = {}
        for trial in self._study.get_trials(deepcopy=False):
            if (point := self._point_of(trial)) is not None:
                states.setdefault(point, set()).add(trial.state.name)
        return states

    def failures(self, point: Point) -> dict[int, str]:
        """Return why a point's runs failed the last time, by fold."""
        for trial in reversed(self._study.get_trials(deepcopy=False)):
            if trial.state.name == "FAIL" and self._point_of(trial) == point:
                failures = trial.user_attrs.get("failures", {})
                return {int(fold): reason for fold, reason in failures.items()}
        return {}

    def importances(self) -> dict[str, float]:
        """Return each setting's share in how much the points differ; empty if it means nothing.

        Computed by PED-ANOVA (Watanabe et al. 2023), Optuna's default, over the points that were
        measured on all folds.
        """
        import optuna

        values: dict[str, set[float]] = {}
        for point, states in self.points().items():
            for name, value in point.values if "COMPLETE" in states else ():
                values.setdefault(name, set()).add(value)
        varied = sorted(name for name, found in values.items() if len(found) > 1)
        whole = [trial for trial in self._study.get_trials(deepcopy=False) if trial.values]
        if len(varied) < 2 or len(whole) < N_BEFORE_PRUNING:
            return {}
        found = optuna.importance.get_param_importances(self._study, params=varied)
        return {name: float(share) for name, share in found.items()}

    def _grid(self) -> list[Point]:
        """Return every combination of the settings' values, in order."""
        names = [setting.name for setting in self.space]
        values = [[*map(setting.typed, setting.grid)] for setting in self.space]
        return sorted(Point(tuple(zip(names, row, strict=True))) for row in product(*values))

    def _ask(self) -> "optuna.Trial | None":
        """Start the oldest queued trial or, for TPE, a new one while the budget lasts."""
        from optuna.samplers import TPESampler

        states = [trial.state.name for trial in self._study.get_trials(deepcopy=False)]
        n_used = len(states) - states.count("FAIL")
        if "WAITING" not in states and (self._sampler == "grid" or n_used >= self._n_trials):
            return None
        trial = self._study.ask()
        # Seeded by the trial's number: an interrupted search proposes the points that an
        # uninterrupted one would, and processes that share it propose different ones.
        self._study.sampler = TPESampler(seed=self._seed + trial.number)
        return trial

    def _suggest(self, trial: "optuna.Trial") -> Point:
        """Return the trial's point.

        A grid is only ever queued, so its lists may grow between commands, which Optuna does not
        allow for a choice among categories.
        """
        queued = self._sampler == "grid"
        values = ((each, each.suggest(trial, queued=queued)) for each in self.space)
        return Point(tuple((each.name, each.typed(value)) for each, value in values))

    def _enqueue(self, point: Point) -> None:
        self._study.enqueue_trial(dict(point.values))

    def _requeue_abandoned(self) -> None:
        """Queue the points of dead processes: those marked as running whose lock is free."""
        for trial in self._study.get_trials(deepcopy=False):
            if trial.state.name != "RUNNING" or (point := self._point_of(trial)) is None:
                continue
            with self._open_lock(point) as lock:
                if try_lock(lock):
                    self._fail(trial.number)
                    self._enqueue(point)

    def _fail(self, trial: "optuna.Trial | int") -> None:
        from optuna.trial import TrialState

        self._study.tell(trial, state=TrialState.FAIL)

    def _point_of(self, trial: "optuna.trial.FrozenTrial") -> Point | None:
        """Return the point of a stored trial; None if it died before it had one."""
        values = {**trial.system_attrs.get("fixed_params", {}), **trial.params}
        if any(setting.name not in values for setting in self.space):
            return None
        return Point(tuple((each.name, each.typed(values[each.name])) for each in self.space))

    def _open_lock(self, point: Point) -> IO[str]:
        folder = self.folder / point.name
        folder.mkdir(parents=True, exist_ok=True)
        return (folder / LOCK).open("w")


@contextmanager
def locked(folder: Path) -> Iterator[int]:
    """Wait until no other process holds a sweep's folder; yield the lock's file descriptor."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("w") as file:
        while not try_lock(file):
            time.sleep(POLL_S)
        yield file.fileno()


# ------------------------------------------------------------------------------------------------
# Table and files


def ranked(outcomes: Iterable[Outcome], select: str) -> list[Outcome]:
    """Sort points, best first, ties by lower loss; those without a fold or criterion come last."""

    def rank(outcome: Outcome) -> tuple[bool, float, float]:
        found = outcome.score(select)
        if not outcome.is_whole or found is None:
            return True, 0.0, 0.0
        return False, -found, outcome.value("loss") or 0.0

    return sorted(outcomes, key=rank)


def table(outcomes: Sequence[Outcome], select: str) -> str:
    """Format the points as a table for the terminal, in the given order."""
    figures, labelled = measured(outcomes)
    incomplete = any(not each.is_whole for each in outcomes)
    columns = [name.replace("_", " ") for name, _ in outcomes[0].point.values]
    columns += ["folds", *figures]
    columns += ["accuracy", "95 %", "macro-F1", "95 %"] if labelled else []
    columns += ["incomplete"] if incomplete else []
    rows: list[list[console.Cell]] = []
    for each in outcomes:
        row: list[console.Cell] = [f"{value:g}" for _, value in each.point.values]
        row.append(len(each.results))
        for name in figures:
            found = each.spreads.get(name)
            deviation = f" ± {found.sd:.4f}" if found and found.sd is not None else ""
            row.append(f"{found.mean:.4f}{deviation}" if found else None)
        for name in POOLED if labelled else ():
            figure, interval = each.pooled(name) or (None, None)
            row += [percent(figure), between(interval, 100)]
        rows.append([*row, each.reason] if incomplete else row)
    return console.table(f"Points, the best by {select} first", columns, rows)


def as_csv(outcomes: Sequence[Outcome]) -> str:
    """Write the table with all digits; text that a spreadsheet would execute gets an apostrophe."""
    figures, labelled = measured(outcomes)
    columns = [*(name for name, _ in outcomes[0].point.values), "folds"]
    columns += [column for name in figures for column in (name, f"{name}_sd")]
    for name in POOLED if labelled else ():
        columns += [name, f"{name}_low", f"{name}_high"]
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([*columns, "failed_folds", "pruned", "reason"])
    for each in outcomes:
        row: list[object] = [*(value for _, value in each.point.values), len(each.results)]
        for name in figures:
            found = each.spreads.get(name)
            row += [found.mean, found.sd] if found else [None, None]
        for name in POOLED if labelled else ():
            row += [each.value(name), *each.interval(name)] if each.labels else [None] * 3
        reason = next(iter(each.failures.values()), "")
        writer.writerow([*row, len(each.failures), int(each.pruned), harmless(reason)])
    return file.getvalue()


def measured(outcomes: Iterable[Outcome]) -> tuple[list[str], bool]:
    """Return the figures to show, and whether pooled labels replace each fold's label scores."""
    outcomes = list(outcomes)
    labelled = any(each.labels for each in outcomes)
    names = dict.fromkeys(name for each in outcomes for name in each.spreads)
    pooled = {key_of(name) for name in POOLED} if labelled else set[str]()
    return [name for name in names if name not in pooled], labelled


def harmless(text: str) -> str:
    """Return the text in a form that no spreadsheet takes for a formula (OWASP, CSV injection)."""
    return f"'{text}" if text.startswith(FORMULA) else text


def panels(
    outcomes: Iterable[Outcome], select: str
) -> dict[str, list[tuple[float, float, float, float]]]:
    """Return, for each setting that varies, its points as (setting's value, figure, low, high)."""
    found: dict[str, list[tuple[float, float, float, float]]] = {}
    for each in outcomes:
        if each.is_whole and (value := each.value(select)) is not None:
            for name, x in each.point.values:
                found.setdefault(name, []).append((x, value, *each.interval(select)))
    return {name: sorted(rows) for name, rows in found.items() if len({row[0] for row in rows}) > 1}
