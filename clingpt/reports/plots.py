"""The plots of a report as SVG inside report.html, and the training curve as a PNG file.

Text in the SVG stays text and takes the page's colour, ids do not clash between plots, and the same
figures produce the same bytes. A plotting function returns None if its figures were not measured.
matplotlib is imported only when something is drawn: train.py imports this module and starts faster
without it.
"""

import io
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from clingpt.base.files import replacing
from clingpt.base.types import Floats
from clingpt.evaluation.calibration import shown_threshold
from clingpt.evaluation.metrics import wilson_interval
from clingpt.text.records import LABELS

if TYPE_CHECKING:
    from clingpt.reports.report import Report

INK = "#010203"  # a placeholder for currentColor, which matplotlib cannot write
BLUE, ORANGE = "#2f7ed8", "#d9730d"  # readable on white, on dark and in grey print
STYLE = {
    "svg.fonttype": "none",
    "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib: the same layout everywhere
    "axes.grid": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.alpha": 0.15,
    "legend.frameon": False,
    **{f"{part}.color": INK for part in ("text", "grid", "xtick", "ytick")},
    **{f"axes.{part}": INK for part in ("edgecolor", "labelcolor")},
}
LOWEST_CONFIDENCE = 100 / len(LABELS)  # the most probable label has at least this, in percent

# Scores that validation may add to the loss: their names in the plot, and the factor to percent.
ANSWER_SCORES = {
    "val_accuracy": ("accuracy", 100),
    "val_macro_f1": ("macro-F1", 100),
    "val_rougeL": ("ROUGE-L", 1),
}
SMOOTHING_POINTS = 50  # the training loss is smoothed over a fiftieth of the run

Draw = Callable[[Any], object]  # draws on a matplotlib Figure


def reliability(report: "Report") -> str | None:
    """Plot the accuracy in each bin of confidence and, below it, the number of records."""
    if report.calibration is None or not report.calibration.reliability:
        return None
    bins = report.calibration.reliability
    confidence = np.array([100 * one.confidence for one in bins])
    accuracy = np.array([100 * one.accuracy for one in bins])
    intervals = [wilson_interval(hits=round(b.accuracy * b.n), n=b.n) for b in bins]
    ends = np.array([[100 * one.low, 100 * one.high] for one in intervals]).T

    def draw(figure: Any) -> None:
        top, bottom = figure.subplots(2, sharex=True, height_ratios=(4, 1))
        top.plot((0, 100), (0, 100), "--", color=INK, alpha=0.5, label="perfectly calibrated")
        top.errorbar(
            confidence,
            accuracy,
            yerr=np.abs(ends - accuracy),
            fmt="o-",
            color=BLUE,
            elinewidth=1,
            label="model, with 95 % intervals",
        )
        top.set(ylabel="accuracy (%)", ylim=(0, 102), xlim=(LOWEST_CONFIDENCE - 3, 102))
        top.legend(loc="upper left")
        middles = [50 * (one.low + one.high) for one in bins]
        widths = [90 * (one.high - one.low) for one in bins]
        bottom.bar(middles, [one.n for one in bins], width=widths, color=BLUE, alpha=0.6)
        bottom.set(xlabel="probability of the label (%)", ylabel="records")

    return _svg("reliability", "Reliability diagram", draw)


def risk_coverage(report: "Report") -> str | None:
    """Plot the share of wrong labels among the most confident records, and mark the threshold."""
    if report.calibration is None or not report.calibration.risk_coverage:
        return None
    found = report.calibration
    coverage = np.array([100 * point.coverage for point in found.risk_coverage])
    risk = np.array([100 * point.risk for point in found.risk_coverage])

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        label = f"most confident records, area {found.aurc:.3f}"
        axes.plot(coverage, risk, color=BLUE, label=label)
        if found.accuracy_kept is not None:
            answered, wrong = 100 - 100 * found.abstained, 100 - 100 * found.accuracy_kept
            label = (
                f"{shown_threshold(found.threshold)}: {answered:.0f} % answered, "
                f"{wrong:.0f} % wrong"
            )
            axes.plot(answered, wrong, "o", color=ORANGE, markersize=8, label=label)
        axes.set(xlabel="records answered (%)", ylabel="wrong among these (%)")
        axes.set(xlim=(0, 102), ylim=(0, 1.3 * risk.max() + 1))
        axes.legend(loc="upper left")

    return _svg("risk-coverage", "Risk-coverage curve", draw)


def confusion(report: "Report") -> str | None:
    """Plot the predictions for each gold label: counts, and the share of the row as the shade."""
    if report.labels is None or report.labels.model.confusion is None:
        return None
    counts = np.array(report.labels.model.confusion)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)

    def draw(figure: Any) -> None:
        from matplotlib.patches import Rectangle

        axes = figure.subplots()
        for (row, column), share in np.ndenumerate(shares):
            corner = (column - 0.5, row - 0.5)
            # A rectangle per cell instead of imshow, which would put a bitmap into the SVG.
            axes.add_patch(Rectangle(corner, 1, 1, facecolor=BLUE, alpha=0.75 * share))
            words = f"{counts[row, column]:,}\n{share:.0%}".replace("%", " %")
            axes.text(column, row, words, ha="center", va="center")
        axes.set(xlim=(-0.5, 2.5), ylim=(2.5, -0.5), xlabel="predicted label", ylabel="gold label")
        axes.set_xticks(range(3), LABELS)
        axes.set_yticks(range(3), LABELS)
        axes.grid(visible=False)
        axes.tick_params(length=0)

    return _svg("confusion", "Confusion matrix", draw)


def curve(report: "Report") -> str | None:
    """Plot the losses of the run up to the checkpoint."""
    rows = [vars(point) for point in report.curve]
    if not any(loss is not None for row in rows for key, loss in row.items() if key != "step"):
        return None
    return _svg("curve", "Training curve", lambda figure: draw_training(figure, rows))


def save_training_curve(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write the training curve of the rows of metrics.jsonl to a PNG file, atomically."""
    scored = any(name in row for row in rows for name in ANSWER_SCORES)
    save_png(path, (7, 8 if scored else 4), lambda figure: draw_training(figure, rows))


def save_png(path: Path, size: tuple[float, float], draw: Draw) -> None:
    """Draw on a figure of `size` inches and write it to a PNG file, atomically."""
    drawn = io.BytesIO()  # writing a file itself, Pillow would not say why that fails
    _figure(size, draw).savefig(drawn, format="png", dpi=120)
    with replacing(path) as scratch:
        scratch.write_bytes(drawn.getvalue())


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
    """Return the steps at which a figure was measured, and its values there."""
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
    """Draw on a new figure of `size` inches, in the style shared by all plots."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        # A Figure made without pyplot needs no display and leaves no global state.
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
    # Without a fixed salt and with a date, the same figures would produce different bytes.
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with matplotlib.rc_context(STYLE | {"svg.hashsalt": name}):
        FigureCanvasSVG(figure).print_svg(target, metadata=nothing)
    svg = target.getvalue()
    # Inside a page, matplotlib's style sheet and ids would apply to all of it.
    svg = re.sub(r"<style.*?</style>", "", svg[svg.index("<svg ") :], flags=re.DOTALL)
    svg = re.sub(r'(?<= id=")|(?<=url\(#)|(?<=href="#)', f"{name}-", svg)
    head = f'<svg role="img" aria-label="{title}" stroke-linejoin="round" stroke-linecap="butt" '
    return svg.replace("<svg ", head, 1).replace(INK, "currentColor")
