"""A report's plots as SVG for the inside of a page; not what is measured, and no files.

Words stay words and take the page's colour, nothing reaches beyond its own drawing, and the same
figures give the same bytes. None where the figures of a plot are missing.
"""

import io
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clingpt.evaluation.metrics import wilson_interval
from clingpt.text.records import LABELS

INK = "#010203"  # stands for the colour of the page's text
BLUE, ORANGE = "#2f7ed8", "#d9730d"  # seen on white, on dark and in grey print
STYLE = {
    "svg.fonttype": "none",
    "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib, so that the layout never shifts
    "axes.grid": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.alpha": 0.15,
    "legend.frameon": False,
    **{f"{part}.color": INK for part in ("text", "grid", "xtick", "ytick")},
    **{f"axes.{part}": INK for part in ("edgecolor", "labelcolor")},
}
LOWEST_CONFIDENCE = 100 / len(LABELS)  # of the most probable label, in percent

# Scores that validation may add to the loss: their names in the plot, and the factor to percent.
ANSWER_SCORES = {
    "val_accuracy": ("accuracy", 100),
    "val_macro_f1": ("macro-F1", 100),
    "val_rougeL": ("ROUGE-L", 1),
}
SMOOTHING_POINTS = 50  # the training loss is smoothed over a fiftieth of the run

Floats = NDArray[np.float64]
Draw = Callable[[Any], object]  # on a matplotlib Figure


def reliability(report: Mapping[str, Any]) -> str | None:
    """Accuracy of the records in each bin of confidence; below, how many there are."""
    found = report.get("calibration") or {}
    bins = [one for one in found.get("reliability", []) if one["n"]]

    def draw(figure: Any) -> None:
        top, bottom = figure.subplots(2, sharex=True, height_ratios=(4, 1))
        confidence, accuracy = (
            100 * np.array([one[key] for one in bins]) for key in ("confidence", "accuracy")
        )
        around = [wilson_interval(hits=round(b["accuracy"] * b["n"]), n=b["n"]) for b in bins]
        reach = np.array([[100 * one.low, 100 * one.high] for one in around]).T
        top.plot((0, 100), (0, 100), "--", color=INK, alpha=0.5, label="as sure as right")
        top.errorbar(
            confidence,
            accuracy,
            yerr=np.abs(reach - accuracy),
            fmt="o-",
            color=BLUE,
            elinewidth=1,
            label="the model, with 95 %",
        )
        top.set(ylabel="right (%)", ylim=(0, 102), xlim=(LOWEST_CONFIDENCE - 3, 102))
        top.legend(loc="upper left")
        middles = [50 * (one["low"] + one["high"]) for one in bins]
        widths = [90 * (one["high"] - one["low"]) for one in bins]
        bottom.bar(middles, [one["n"] for one in bins], width=widths, color=BLUE, alpha=0.6)
        bottom.set(xlabel="probability of the label (%)", ylabel="records")

    return _svg("reliability", "Reliability diagram", draw) if bins else None


def risk_coverage(report: Mapping[str, Any]) -> str | None:
    """Share of wrong labels among the surest records, and where the threshold stands."""
    found = report.get("calibration") or {}
    points = found.get("risk_coverage", [])

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        coverage, risk = (100 * np.array([p[key] for p in points]) for key in ("coverage", "risk"))
        axes.plot(coverage, risk, color=BLUE, label=f"surest records, area {found['aurc']:.3f}")
        if found["accuracy_kept"] is not None:
            there = (100 - 100 * found["abstained"], 100 - 100 * found["accuracy_kept"])
            said = "threshold {:.2f}: {:.0f} % answered, {:.0f} % wrong"
            said = said.format(found["threshold"], *there)
            axes.plot(*there, "o", color=ORANGE, markersize=8, label=said)
        axes.set(xlabel="records answered (%)", ylabel="of these wrong (%)")
        axes.set(xlim=(0, 102), ylim=(0, 1.3 * risk.max() + 1))
        axes.legend(loc="upper left")

    return _svg("risk-coverage", "Risk-coverage curve", draw) if points else None


def confusion(report: Mapping[str, Any]) -> str | None:
    """What was said of the records of each label: numbers, and shares as shades."""
    systems = (report.get("labels") or {}).get("systems", {})

    def draw(figure: Any) -> None:
        from matplotlib.patches import Rectangle

        axes, counts = figure.subplots(), np.array(systems["model"]["confusion"])
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        for (row, column), share in np.ndenumerate(shares):
            corner = (column - 0.5, row - 0.5)
            axes.add_patch(Rectangle(corner, 1, 1, facecolor=BLUE, alpha=0.75 * share))
            words = f"{counts[row, column]:,}\n{share:.0%}".replace("%", " %")
            axes.text(column, row, words, ha="center", va="center")
        axes.set(xlim=(-0.5, 2.5), ylim=(2.5, -0.5), xlabel="said", ylabel="truth")
        axes.set_xticks(range(3), LABELS)
        axes.set_yticks(range(3), LABELS)
        axes.grid(visible=False)
        axes.tick_params(length=0)

    return _svg("confusion", "Confusion matrix", draw) if systems else None


def curve(report: Mapping[str, Any]) -> str | None:
    """Plot the losses of the run up to the checkpoint."""
    rows = report.get("curve") or []
    return (
        _svg("curve", "Training curve", lambda figure: draw_training(figure, rows))
        if rows
        else None
    )


def save_training_curve(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write the training curve of the rows of metrics.jsonl as a PNG file, replacing it whole."""
    scored = any(name in row for row in rows for name in ANSWER_SCORES)
    figure = _figure((7, 8 if scored else 4), lambda figure: draw_training(figure, rows))
    scratch = path.with_name(f".{path.name}")
    figure.savefig(scratch, format="png", dpi=120)
    os.replace(scratch, path)


def draw_training(figure: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    """Draw losses over optimizer steps and, below them, the scores of generated answers, if any."""
    scores = [name for name in ANSWER_SCORES if any(row.get(name) is not None for row in rows)]
    panels = figure.subplots(2 if scores else 1, sharex=True, squeeze=False)[:, 0]
    steps, losses = _points(rows, "train_loss")
    if len(steps):
        width = max(1, len(steps) // SMOOTHING_POINTS)
        smooth = np.convolve(losses, np.ones(width) / width, mode="valid")
        panels[0].plot(steps, losses, color=BLUE, alpha=0.3, linewidth=1)
        panels[0].plot(steps[width - 1 :], smooth, color=BLUE, label="training")
    steps, losses = _points(rows, "val_loss")
    if len(steps):
        best = int(losses.argmin())
        label = f"validation, lowest {losses[best]:.3f}"
        panels[0].plot(steps, losses, "o-", color=ORANGE, markersize=4, label=label)
        panels[0].plot(steps[best], losses[best], "*", color=ORANGE, markersize=12)
    panels[0].set(ylabel="loss (nats per target token)", ylim=(0, None))
    for name in scores:
        label, scale = ANSWER_SCORES[name]
        steps, values = _points(rows, name)
        panels[1].plot(steps, scale * values, "o-", markersize=4, label=label)
    if scores:
        panels[1].set(ylabel="score on held-out records (%)", ylim=(0, 100))
    panels[-1].set(xlabel="optimizer step")
    for panel in panels:
        if panel.get_legend_handles_labels()[0]:
            panel.legend()


def _points(rows: Sequence[Mapping[str, Any]], name: str) -> tuple[Floats, Floats]:
    """Steps at which a figure was measured, and its values there."""
    points = [(row["step"], row[name]) for row in rows if row.get(name) is not None]
    steps, values = np.array(points, dtype=np.float64).reshape(-1, 2).T
    return steps, values


def search(
    panels: Mapping[str, Sequence[tuple[float, float, float, float]]], ylabel: str
) -> str | None:
    """Draw a panel for each searched setting: (setting's value, figure, low, high) per point."""

    def draw(figure: Any) -> None:
        for axes, (name, points) in zip(
            figure.subplots(1, len(panels), sharey=True, squeeze=False)[0],
            panels.items(),
            strict=True,
        ):
            values, figures, low, high = np.array(points).T
            error = np.abs([figures - low, high - figures])
            axes.errorbar(values, figures, yerr=error, fmt="o", capsize=3, markersize=4)
            # Learning rates and the like are tried over orders of magnitude.
            wide = values.min() > 0 and values.max() > 5 * values.min()
            axes.set(xlabel=name.replace("_", " "), xscale="log" if wide else "linear")
        figure.axes[0].set(ylabel=ylabel)

    return _svg("search", f"{ylabel} by setting", draw) if panels else None


def _figure(size: tuple[float, float], draw: Draw) -> Any:
    """Draw on a new figure of `size` inches, in the one style of all plots."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        # A Figure of its own, without pyplot, needs no display and leaves no global state.
        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
    return figure


def _svg(name: str, title: str, draw: Draw) -> str:
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    figure = _figure((5, 3.6), draw)
    for patch in (figure.patch, *(axes.patch for axes in figure.axes)):
        patch.set_visible(False)
    target = io.StringIO()
    # Without a fixed salt and with a date, the same figures would give different bytes.
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with matplotlib.rc_context(STYLE | {"svg.hashsalt": name}):
        FigureCanvasSVG(figure).print_svg(target, metadata=nothing)
    svg = target.getvalue()
    # Inside a page, matplotlib's style sheet and ids would apply to all of it.
    svg = re.sub(r"<style.*?</style>", "", svg[svg.index("<svg ") :], flags=re.DOTALL)
    svg = re.sub(r'(?<= id=")|(?<=url\(#)|(?<=href="#)', f"{name}-", svg)
    head = f'<svg role="img" aria-label="{title}" stroke-linejoin="round" stroke-linecap="butt" '
    return svg.replace("<svg ", head, 1).replace(INK, "currentColor")
