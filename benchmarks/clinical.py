"""Summarise the runs of `make clinical`: a table, a figure, and examples side by side.

Everything is computed from what train.py and eval.py have written. Runs that differ only in their
seed or fold belong to one task: their scores are averaged record by record, so that the interval
says how far other records could move the mean, and its spread is shown beside it.
"""

import json
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from clingpt.base import console, jsonl
from clingpt.base.errors import BenchError, DataError
from clingpt.base.files import write_whole
from clingpt.base.types import Floats
from clingpt.data.prepared import Prepared, Split, open_prepared
from clingpt.evaluation.baselines import NEAREST
from clingpt.evaluation.bootstrap import (
    Spread,
    bootstrap_labels,
    bootstrap_mean,
    mean_difference,
    spread,
)
from clingpt.evaluation.metrics import Interval, classification
from clingpt.reports.plots import BLUE, ORANGE, save_png
from clingpt.reports.report import MODEL, RARE, Report, text_baselines
from clingpt.reports.tables import Table, as_markdown, as_text, between, fixed
from clingpt.text.records import Record
from clingpt.text.tasks import source_text

BASE = "base"
TASKS = {  # run folder -> what people call it
    "cxr": "chest X-rays",
    "conclusions": "abstract conclusions",
    "mts_dialog": "dialogues to notes",
    "evidence": "trial outcomes",
    "pubmedqa": "PubMedQA",
}
REPEATS = re.compile(r"_(?:seed|fold)\d+")  # after the name of a task
SHOWN_CHARACTERS = 400  # of a source in the examples
LN_2 = float(np.log(2))

Scores = list[list[dict[str, Any]]]  # rows of scores.jsonl by run, with the same records in each


@dataclass(frozen=True)
class Run:
    """One evaluated run."""

    results: Path  # the folder that eval.py wrote
    report: Report
    scores: list[dict[str, Any]]  # rows of scores.jsonl, of one task

    @property
    def is_labels(self) -> bool:
        return "labels" in self.scores[0]


@dataclass(frozen=True, kw_only=True)
class Result:
    """A task's figure from 0 to 100, beside the best baseline on the same records."""

    task: str
    figure: str
    records: int
    model: float
    interval: Interval
    runs: Spread
    baseline: str
    floor: float
    difference: float
    difference_interval: Interval

    @property
    def verdict(self) -> str:
        if self.difference_interval.low > 0:
            return "above"
        return "below" if self.difference_interval.high < 0 else "not distinguishable"


def summarize(runs: Path, out: Path, split: str) -> None:
    """Write summary.md, summary.png and examples.md for the runs in a folder."""
    found, missing = read_runs(runs, split)
    curves, examples = None, list[Table]()
    try:
        curves = loss_curves(runs / BASE)
    except DataError as error:
        missing[BASE] = str(error)
    if not found and curves is None:
        raise BenchError(f"{runs} has no results to summarise: {'; '.join(missing.values())}")
    results = [result for name, each in found.items() for result in results_of(name, each)]
    for name, each in found.items():
        try:
            examples.append(example_table(name, each[0], split))
        except DataError as error:  # the figures need no prepared folder, the examples do
            missing[f"examples of {name}"] = str(error)
    table = result_table(results, found, missing, split, curves)
    out.mkdir(parents=True, exist_ok=True)
    write_whole(out / "summary.md", as_markdown([table]) + "\n")
    save_png(out / "summary.png", (11, 4.6), lambda figure: draw(figure, curves, results))
    write_whole(out / "examples.md", as_markdown(examples) + "\n")
    console.say(as_text([table]))
    console.say(f"\nWrote {out}: summary.md, summary.png and examples.md (other people's texts).")


# ------------------------------------------------------------------------------------------------
# Reading runs


def read_runs(folder: Path, split: str) -> tuple[dict[str, list[Run]], dict[str, str]]:
    """Return the evaluated runs of each task, and why other runs or tasks have no results."""
    found: dict[str, list[Run]] = {}
    missing: dict[str, str] = {}
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    for task in TASKS:
        for name in (name for name in names if REPEATS.sub("", name) == task):
            try:
                found.setdefault(task, []).append(read_run(folder / name, split))
            except DataError as error:
                missing[name] = str(error)
        if not found.get(task):
            found.pop(task, None)
            missing.setdefault(task, f"{folder / task} has not been trained and evaluated")
    return found, missing


def read_run(folder: Path, split: str) -> Run:
    """Read the newest evaluation of a run; raise DataError if there is none."""
    # eval.py writes a folder per checkpoint if it evaluates several at once, as folds are.
    reports = sorted(
        [*folder.glob(f"eval_{split}/report.json"), *folder.glob(f"eval_{split}/*/report.json")],
        key=lambda path: path.stat().st_mtime,
    )
    if not reports:
        raise DataError(f"{folder} has no eval_{split}/report.json; run eval.py --split={split}")
    results = reports[-1].parent
    report = Report.from_json(json.loads(reports[-1].read_text("utf-8")), source=reports[-1])
    rows = jsonl.read(results / "scores.jsonl")
    labelled = [row for row in rows if "labels" in row]
    first_task = next(iter(report.texts), None)
    scores = labelled or [row for row in rows if row.get("task") == first_task]
    if not scores:
        raise DataError(f"{results / 'scores.jsonl'} has no scores; run eval.py again")
    return Run(results, report, sorted(scores, key=lambda row: str(row["record_id"])))


def aligned(runs: Sequence[Run]) -> Scores:
    """Return the scores of several runs on the same records; pool the records of disjoint folds."""
    ids = [{row["record_id"] for row in run.scores} for run in runs]
    if all(each == ids[0] for each in ids):
        return [run.scores for run in runs]
    if len(set().union(*ids)) == sum(map(len, ids)):
        return [[row for run in runs for row in run.scores]]
    raise DataError(
        f"{runs[0].results} and {runs[-1].results} were measured on different records of the same "
        "split; prepare their data alike, or give them names of different tasks"
    )


# ------------------------------------------------------------------------------------------------
# Figures of a task


def results_of(name: str, runs: Sequence[Run]) -> Iterator[Result]:
    """Yield a task's figures: accuracy and macro-F1 of labels, ROUGE-1 of texts."""
    scores, title = aligned(runs), TASKS[name]
    if runs[0].is_labels:
        yield from label_results(title, scores)
        return
    yield text_result(title, scores)
    if runs[0].report.texts[scores[0][0]["task"]].by_reference:
        rare = [[row for row in rows if row["reference"] == RARE] for rows in scores]
        yield text_result(f"{title}, rare references", rare)


def label_results(task: str, scores: Scores) -> Iterator[Result]:
    gold = [row["gold"] for row in scores[0]]
    model = [[row["labels"][MODEL][0] for row in rows] for rows in scores]
    systems = [system for system in scores[0][0]["labels"] if system != MODEL]
    fits = {
        system: list(zip(*(row["labels"][system] for row in scores[0]), strict=True))
        for system in systems
    }
    around = bootstrap_labels(gold, *model)
    for figure, key in (("accuracy", "accuracy"), ("macro-F1", "macro_f1")):

        def of(said: Sequence[str], key: str = key) -> float:
            value: float = getattr(classification(gold, said), key)
            return 100 * value

        floors = {system: fmean(map(of, each)) for system, each in fits.items()}
        baseline = max(floors, key=floors.__getitem__)
        between_both = mean_difference(gold, fits[baseline], model)
        yield Result(
            task=task,
            figure=figure,
            records=len(gold),
            model=fmean(map(of, model)),
            interval=in_percent(getattr(around, key)),
            runs=spread(list(map(of, model))),
            baseline=baseline,
            floor=floors[baseline],
            difference=100 * getattr(between_both, key),
            difference_interval=in_percent(getattr(between_both, f"{key}_interval")),
        )


def in_percent(interval: Interval) -> Interval:
    return Interval(low=100 * interval.low, high=100 * interval.high)


def text_result(task: str, scores: Scores) -> Result:
    def column(rows: list[dict[str, Any]], system: str) -> Floats:
        return np.array([row["rouge"][system]["rouge1"] for row in rows])

    systems = [system for system in scores[0][0]["rouge"] if system != MODEL]
    by_run = [column(rows, MODEL) for rows in scores]
    model = np.mean(by_run, axis=0)
    floors = {system: column(scores[0], system) for system in systems}
    baseline = max(floors, key=lambda system: floors[system].mean())
    gaps = model - floors[baseline]
    return Result(
        task=task,
        figure="ROUGE-1",
        records=len(model),
        model=float(model.mean()),
        interval=bootstrap_mean(model),
        runs=spread([float(each.mean()) for each in by_run]),
        baseline=baseline,
        floor=float(floors[baseline].mean()),
        difference=float(gaps.mean()),
        difference_interval=bootstrap_mean(gaps),
    )


def result_table(
    results: Sequence[Result],
    found: Mapping[str, Sequence[Run]],
    missing: Mapping[str, str],
    split: str,
    curves: "Curves | None",
) -> Table:
    """A row per figure, and what a reader must know of it."""
    columns = ["task", "records", "model", "runs", "best baseline", "difference", "verdict"]
    rows: list[list[console.Cell]] = [
        [
            f"{each.task}: {each.figure}",
            each.records,
            f"{fixed(each.model)} ({between(each.interval)})",
            str(each.runs.n) + ("" if each.runs.sd is None else f" ({each.runs.sd:.1f})"),
            f"{fixed(each.floor)}, {each.baseline}",
            f"{each.difference:+.1f} ({between(each.difference_interval)})",
            each.verdict,
        ]
        for each in results
    ]
    notes = [
        "Figures from 0 to 100, with 95 % intervals of the bootstrap over records; differences "
        "draw the same records for both systems. Several runs, such as seeds, are averaged record "
        "by record; the standard deviation of their figures is in brackets.",
        "The best baseline is the one with the highest figure on these very records, which favours "
        "the baseline. Verdict: whether the interval of the difference is above 0, below 0, or "
        "contains it.",
    ]
    if curves and len(curves.val):
        notes.append(
            f"Base language model: {curves.val[-1, 1]:.3f} bits per byte of held-out text after "
            f"{console.duration(60 * curves.train[-1, 0])} of training."
        )
    for name, runs in found.items():
        if looks := max(run.report.look or 0 for run in runs) - 1:
            more = console.count(looks, "earlier time")
            if split == "test" and looks > 0:
                notes.append(f"{name} was evaluated on the test split {more}.")
    notes += [f"Missing: {name} ({reason})." for name, reason in missing.items()]
    return Table(f"Tasks on the {split} split, beside what costs nothing", columns, rows, notes)


# ------------------------------------------------------------------------------------------------
# The figure


@dataclass(frozen=True)
class Curves:
    """Losses of the base in bits per byte: rows of (minutes of training, loss)."""

    train: Floats
    val: Floats


def loss_curves(run: Path) -> Curves:
    """Convert the losses of a run from nats per token to bits per byte, over training time.

    Time is that of optimizer steps, from their tokens and tokens per second: validation, saving and
    pauses between resumed parts do not count. Raise DataError if the run or its data are missing.
    """
    rows = jsonl.read(run / "metrics.jsonl")
    steps = [row for row in rows if row.get("tokens_per_s")]
    if not steps:
        raise DataError(f"{run} has no metrics.jsonl with training steps")
    settings = json.loads((run / "config.json").read_text("utf-8"))["settings"]
    data = open_prepared(Path(settings["data"]))
    counts = [0, *(row["tokens"] for row in steps)]
    seconds = [
        (after - before) / row["tokens_per_s"]
        for before, after, row in zip(counts[:-1], counts[1:], steps, strict=True)
    ]
    minutes = [total / 60 for total in accumulate(seconds)]
    numbers = [row["step"] for row in steps]

    def points(key: str, split: str) -> Floats:
        chosen = [row for row in rows if row.get(key) is not None]
        if not chosen:
            return np.empty((0, 2))
        scale = LN_2 * bytes_per_target(data, data.split(split))
        at = np.interp([row["step"] for row in chosen], [0, *numbers], [0, *minutes])
        return np.stack([at, np.array([row[key] for row in chosen]) / scale], axis=1)

    return Curves(points("train_loss", "train"), points("val_loss", "val"))


def bytes_per_target(data: Prepared, split: Split) -> float:
    """Return the UTF-8 bytes per target token; the end of text is a token without bytes.

    So its loss is in the numerator of bits per byte and no byte of it in the denominator.
    """
    tokenizer = data.tokenizer
    ids = range(tokenizer.size)
    sizes = np.array([len(tokenizer.decode_bytes([i])) if tokenizer.has([i]) else 0 for i in ids])
    sizes[tokenizer.eot] = 0
    edges = np.zeros(len(split.tokens) + 1, dtype=np.int32)
    np.add.at(edges, split.index[:, 1], 1)
    np.add.at(edges, split.index[:, 2], -1)
    counts = np.bincount(split.tokens[np.cumsum(edges)[:-1] > 0], minlength=len(sizes))
    return float((counts * sizes).sum() / counts.sum())


def draw(figure: Any, curves: Curves | None, results: Sequence[Result]) -> None:
    """Draw the base's loss on the left and the tasks beside their best baselines on the right."""
    left, right = figure.subplots(1, 2, width_ratios=(4, 6))
    draw_loss(left, curves)
    draw_results(right, results)


def draw_loss(axes: Any, curves: Curves | None) -> None:
    axes.set_title("base language model", fontsize=11)
    axes.set(xlabel="minutes of training on CPU", ylabel="loss (bits per byte)")
    if curves is None:
        leave_empty(axes, "not trained yet")
        return
    axes.plot(*curves.train.T, color=BLUE, alpha=0.45, linewidth=1.2, label="training")
    if len(curves.val):
        label = f"held-out text, last {curves.val[-1, 1]:.2f}"
        axes.plot(*curves.val.T, "o-", color=ORANGE, markersize=4, label=label)
    axes.set(xlim=(0, None))
    axes.legend()


def leave_empty(axes: Any, why: str) -> None:
    axes.set(xticks=[], yticks=[])
    axes.text(0.5, 0.5, why, ha="center", transform=axes.transAxes)


def draw_results(axes: Any, results: Sequence[Result]) -> None:
    axes.set_title("tasks beside the best baseline that costs nothing", fontsize=11)
    axes.set(xlabel="score (0 to 100)")
    if not results:
        leave_empty(axes, "no task evaluated yet")
        return
    names = [f"{each.task}\n{each.figure}, n = {each.records:,}" for each in results]
    axes.set_yticks(range(len(results)), names, fontsize=9)
    axes.set_ylim(len(results) - 0.4, -0.6)  # the first one on top
    axes.grid(visible=False, axis="y")
    places = np.arange(len(results))
    values = np.array([each.model for each in results])
    ends = np.array([[each.interval.low, each.interval.high] for each in results]).T
    axes.errorbar(
        values,
        places - 0.12,
        xerr=np.abs(ends - values),
        fmt="o",
        color=BLUE,
        capsize=3,
        markersize=6,
        label="model, with 95 % interval",
    )
    floors = [each.floor for each in results]
    axes.plot(floors, places + 0.12, "D", color=ORANGE, markersize=5, label="best baseline")
    for place, each in enumerate(results):
        edge = max(each.interval.high, each.floor)
        words = f"{each.difference:+.1f}, {each.verdict}"
        axes.annotate(
            words, (edge, place), (8, 0), textcoords="offset points", va="center", fontsize=9
        )  # fmt: skip
    lowest = min(ends[0].min(), *floors)
    highest = max(ends[1].max(), *floors)
    width = max(highest - lowest, 10)
    axes.set_xlim(max(0, lowest - 0.08 * width), highest + 0.55 * width)
    axes.legend(loc="upper center", bbox_to_anchor=(0.4, -0.14), ncols=2)


# ------------------------------------------------------------------------------------------------
# Examples


def example_table(name: str, run: Run, split: str) -> Table:
    """Show six records of a task side by side, chosen by a rule that includes failures."""
    data = open_prepared(Path(run.report.data.folder))
    rule, chosen = chosen_labels(run) if run.is_labels else chosen_texts(run)
    records = {r.id: r for r in data.records(split) if r.id in chosen}
    task = "answer" if run.is_labels else run.scores[0]["task"]
    outputs = {
        row["record_id"]: row
        for row in jsonl.read(run.results / "outputs.jsonl")
        if row["task"] == task and row["record_id"] in chosen
    }
    baselines, _ = text_baselines(task, data, data.tokenizer, records.values())
    scores = {row["record_id"]: row for row in run.scores}
    rows: list[list[console.Cell]] = []
    for record_id, why in chosen.items():
        record, score = records[record_id], scores[record_id]
        source = source_text(record, task) or record.question
        texts = example_texts(record, score, outputs.get(record_id), baselines.get(NEAREST))
        rows.append([f"{why} ({record_id})", textwrap.shorten(source, SHOWN_CHARACTERS), *texts])
    columns = ["chosen as (record)", "source, shortened", "reference", "model", NEAREST]
    title = f"{TASKS[name]}: {run.report.data.name}"
    return Table(title, columns, rows, [rule])


def example_texts(
    record: Record,
    score: Mapping[str, Any],
    output: Mapping[str, Any] | None,
    look_up: Callable[[Record], str] | None,
) -> tuple[str, str, str]:
    """Return reference, model's text and nearest training record's; labels before explanations."""
    wanted, said = (output["reference"], output["text"]) if output else ("", "")
    nearby = look_up(record) if look_up else ""
    if "labels" not in score:
        return wanted, said, nearby
    label, closest = (score["labels"][system][0] for system in (MODEL, NEAREST))
    # The label that is scored highest is the model's; the one in its text can differ.
    said = said.partition("\n")[2]
    return (
        wanted or str(score["gold"]),
        f"{label}\n{said}".strip(),
        f"{closest}\n{nearby}".strip(),
    )


def chosen_texts(run: Run) -> tuple[str, dict[str, str]]:
    """Choose two of the best texts, two around the median and two of the worst, by ROUGE-1."""
    words = {
        row["record_id"]: len(row["reference"].split())
        for row in jsonl.read(run.results / "outputs.jsonl")
    }
    found = {row["record_id"]: row["rouge"][MODEL]["rouge1"] for row in run.scores}

    def order(name: str) -> tuple[float, int, str]:
        return found[name], -words.get(name, 0), name

    best = sorted(found, key=lambda name: (-found[name], *order(name)[1:]))[:2]
    lowest_first = sorted(found.keys() - set(best), key=order)
    worst, rest = lowest_first[:2], lowest_first[2:]
    middle = rest[max(0, len(rest) // 2 - 1) :][:2]
    groups = {"best": best, "median": middle, "worst": worst}
    rule = (
        "Chosen by the model's ROUGE-1: the two best, the two around the median, the two worst; of "
        "equal scores, the longest references first."
    )
    return rule, named(groups, lambda name: f"R1 {found[name]:.0f}")


def chosen_labels(run: Run) -> tuple[str, dict[str, str]]:
    """Choose two right and two wrong labels, the most certain ones, and the two least certain."""
    shares = json.loads((run.results / "probabilities.json").read_text("utf-8"))
    is_right = {row["record_id"]: row["labels"][MODEL][0] == row["gold"] for row in run.scores}
    highest = {name: max(shares[name].values()) for name in is_right}
    certain = sorted(is_right, key=lambda name: (-highest[name], name))
    right = [name for name in certain if is_right[name]][:2]
    wrong = [name for name in certain if not is_right[name]][:2]
    rest = [name for name in certain if name not in (*right, *wrong)]
    groups = {"right": right, "wrong": wrong, "least certain": rest[-2:]}
    rule = (
        "Chosen by the probability of the predicted label: the two most certain right ones, the "
        "two most certain wrong ones, and the two least certain."
    )
    return rule, named(groups, lambda name: f"{100 * highest[name]:.0f} %")


def named(groups: Mapping[str, Sequence[str]], score: Callable[[str], str]) -> dict[str, str]:
    """Map each chosen record to why it was chosen."""
    return {name: f"{why}: {score(name)}" for why, names in groups.items() for name in names}
