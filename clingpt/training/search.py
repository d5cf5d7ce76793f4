"""A grid of settings judged on validation folds: its points, and what their runs gave, pooled.

Not how the runs are made (sweep.py). Test records play no part in it.
"""

import csv
import io
import json
import math
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from clingpt.base import console
from clingpt.base.errors import DataError
from clingpt.base.files import write_whole
from clingpt.evaluation.bootstrap import Spread, spread
from clingpt.nn.checkpoint import RunFolder, key_of, read_card, score
from clingpt.reports.aggregate import label_entry
from clingpt.reports.tables import between, percent
from clingpt.text.records import LABELS

FORMAT = 1
RESULT = "result.json"
POOLED = ("accuracy", "macro_f1")  # criteria that are worked out from all folds' labels together
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # how a cell begins that a spreadsheet would carry out


@dataclass(frozen=True, order=True, kw_only=True)
class Point:
    """One choice of the settings that are searched."""

    learning_rate: float
    epochs: float
    batch_size: int

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"lr{self.learning_rate:g}_epochs{self.epochs:g}_batch{self.batch_size}"

    @property
    def series(self) -> str:
        """What it shares with the points that differ in their learning rate alone."""
        return f"{self.epochs:g} epochs, batch {self.batch_size}"

    @property
    def flags(self) -> list[str]:
        """For train.py; `epochs` decides, whatever number of steps a preset names."""
        return [f"--{name}={value:g}" for name, value in asdict(self).items()] + ["--steps=None"]


@dataclass(frozen=True, kw_only=True)
class Result:
    """What the best checkpoint of one run was worth on its validation fold."""

    select: str  # what it was best at
    step: int
    figures: dict[str, float]  # val_loss and the others, as its card has them
    confusion: list[list[int]]  # of labels, a row a true one, in LABELS' order; empty without


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A point after its runs: results by fold, and why the other folds have none."""

    point: Point
    results: Mapping[int, Result]
    failures: Mapping[int, str]

    @property
    def is_whole(self) -> bool:
        """Whether every fold gave a result: others cannot be compared."""
        return bool(self.results) and not self.failures

    @cached_property
    def spreads(self) -> dict[str, Spread]:
        """Mean and deviation over the folds of each figure that all of them have."""
        found = [result.figures for result in self.results.values()]
        names = [name for name in found[0] if all(name in each for each in found)] if found else []
        return {name: spread([each[name] for each in found]) for name in names}

    @cached_property
    def labels(self) -> dict[str, Any]:
        """Scores of all folds' labels as one set, as in report.json; empty without labels.

        A fold's own macro-F1 hangs on its few maybe, and a mean of ten such is not that of all.
        """
        pairs = [
            (gold, said)
            for result in self.results.values()
            for gold, row in zip(LABELS, result.confusion, strict=False)
            for said, n in zip(LABELS, row, strict=True)
            for _ in range(n)
        ]
        return (
            label_entry([gold for gold, _ in pairs], [said for _, said in pairs]) if pairs else {}
        )

    def value(self, select: str) -> float | None:
        """How good it is by a criterion; None where that was not measured."""
        if select in self.labels:
            return float(self.labels[select])
        found = self.spreads.get(key_of(select))
        return found.mean if found else None

    def reach(self, select: str) -> tuple[float, float]:
        """Around a value: 95 % of one from pooled labels, else a deviation over folds each way."""
        if select in self.labels:
            interval = self.labels[f"{select}_interval"]
            return interval["low"], interval["high"]
        found = self.spreads[key_of(select)]
        sd = found.sd or 0.0
        return found.mean - sd, found.mean + sd


def grid(
    learning_rates: Iterable[float], epochs: Iterable[float], batch_sizes: Iterable[int]
) -> list[Point]:
    """Every combination, in order."""
    return sorted(
        Point(learning_rate=rate, epochs=passes, batch_size=rows)
        for rate in set(learning_rates)
        for passes in set(epochs)
        for rows in set(batch_sizes)
    )


def read_best(run: Path) -> Result:
    """What a finished run's best checkpoint says of itself, and eval.py of its labels, if it did.

    DataError where it has no figure that is a number.
    """
    card = read_card(run / "best")
    found = {name: value for name, value in card.items() if name.startswith("val_")}
    figures = {name: value for name, value in found.items() if math.isfinite(value)}
    if key_of(card["settings"]["select"]) not in figures:
        raise DataError(f"{run} measured nothing to judge it by; look at its metrics.jsonl")
    report = run / "eval_val" / "report.json"
    labels = json.loads(report.read_text("utf-8"))["labels"] if report.exists() else {}
    confusion = labels["systems"]["model"]["confusion"] if labels else []
    select = card["settings"]["select"]
    return Result(select=select, step=card["step"], figures=figures, confusion=confusion)


def write_result(run: Path, result: Result) -> None:
    """Keep a finished run's figures; from here on its weights may go."""
    text = json.dumps({"format": FORMAT, **asdict(result)}, indent=1)
    write_whole(run / RESULT, text + "\n")


def read_result(run: Path) -> Result | None:
    """A finished run's figures; None of one that is not finished. DataError: another's file."""
    path = run / RESULT
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text("utf-8"))
        if content.pop("format") != FORMAT:
            raise ValueError
        return Result(**content)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise DataError(f"{path} is not a result of this version; remove {run}") from None


def drop_checkpoints(run: Path) -> None:
    """Delete a run's weights; its figures and curves stay."""
    for link in ("best", "last"):
        (run / link).unlink(missing_ok=True)
    for folder in RunFolder(run).steps().values():
        shutil.rmtree(folder)


def ranked(outcomes: Iterable[Outcome], select: str) -> list[Outcome]:
    """The best first, of equals that of lower loss; last what lacks a fold or the criterion."""

    def rank(outcome: Outcome) -> tuple[bool, float, float]:
        found = score({key_of(select): outcome.value(select)}, select)
        if not outcome.is_whole or found is None:
            return True, 0.0, 0.0
        return False, -found, outcome.value("loss") or 0.0

    return sorted(outcomes, key=rank)


def table(outcomes: Sequence[Outcome], select: str) -> str:
    """For the terminal, in the order given."""
    figures, labelled = measured(outcomes)
    failed = any(each.failures for each in outcomes)
    columns = ["learning rate", "epochs", "batch", "folds", *figures]
    columns += ["accuracy", "95 %", "macro-F1", "95 %"] if labelled else []
    rows: list[list[console.Cell]] = []
    for each in outcomes:
        point, spreads, labels = each.point, each.spreads, each.labels
        row: list[console.Cell] = [f"{point.learning_rate:g}", f"{point.epochs:g}"]
        row += [point.batch_size, len(each.results)]
        row += [plus_minus(spreads[name]) if name in spreads else None for name in figures]
        for name in POOLED if labelled else ():
            interval = labels.get(f"{name}_interval")
            row += [percent(labels.get(name)), between(interval, 100)]
        row += [reasons(each)] if failed else []
        rows.append(row)
    return console.table(f"Points, the best by {select} first", columns + ["failed"] * failed, rows)


def as_csv(outcomes: Sequence[Outcome]) -> str:
    """The same with all digits; text that a spreadsheet would carry out has a ' before it."""
    figures, labelled = measured(outcomes)
    columns = [*(field.name for field in fields(Point)), "folds"]
    columns += [column for name in figures for column in (name, f"{name}_sd")]
    for name in POOLED if labelled else ():
        columns += [name, f"{name}_low", f"{name}_high"]
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([*columns, "failed_folds", "reason"])
    for each in outcomes:
        row: list[object] = [*astuple(each.point), len(each.results)]
        for name in figures:
            found = each.spreads.get(name)
            row += [found.mean, found.sd] if found else [None, None]
        for name in POOLED if labelled else ():
            row += [each.labels[name], *each.reach(name)] if each.labels else [None] * 3
        reason = next(iter(each.failures.values()), "")
        writer.writerow([*row, len(each.failures), harmless(reason)])
    return file.getvalue()


def measured(outcomes: Iterable[Outcome]) -> tuple[list[str], bool]:
    """Which figures to show, and whether pooled labels stand in for the folds' own scores."""
    outcomes = list(outcomes)
    labelled = any(each.labels for each in outcomes)
    names = dict.fromkeys(name for each in outcomes for name in each.spreads)
    pooled = {key_of(name) for name in POOLED} if labelled else set[str]()
    return [name for name in names if name not in pooled], labelled


def plus_minus(found: Spread) -> str:
    """Mean and deviation."""
    return f"{found.mean:.4f}" + (f" ± {found.sd:.4f}" if found.sd is not None else "")


def reasons(outcome: Outcome) -> str:
    """Why folds have no result."""
    return "; ".join(f"fold {fold}: {why}" for fold, why in outcome.failures.items())


def harmless(text: str) -> str:
    """A text that no spreadsheet takes for a formula (OWASP, CSV injection)."""
    return f"'{text}" if text.startswith(FORMULA) else text


def curves(
    outcomes: Iterable[Outcome], select: str
) -> dict[str, list[tuple[float, float, float, float]]]:
    """Of each series its points by learning rate: the rate, the value, and from where to where."""
    found: dict[str, list[tuple[float, float, float, float]]] = {}
    for each in sorted(outcomes, key=lambda outcome: outcome.point):
        if each.is_whole and (value := each.value(select)) is not None:
            row = (each.point.learning_rate, value, *each.reach(select))
            found.setdefault(each.point.series, []).append(row)
    return found
