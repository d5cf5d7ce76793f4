"""A report's plots as SVG for the inside of a page; not what is measured, and no files.

Words stay words and take the page's colour, nothing reaches beyond its own drawing, and the same
figures give the same bytes. None where the figures of a plot are missing.
"""

import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from clingpt.evaluation.metrics import wilson_interval
from clingpt.text.records import LABELS
from clingpt.training.curves import SMOOTHING_POINTS

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
    """Losses over the steps of the run, up to the checkpoint."""
    rows = report.get("curve") or []
    losses = {
        key: np.array([(row["step"], row[key]) for row in rows if row.get(key) is not None])
        for key in ("train_loss", "val_loss")
    }

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        if len(train := losses["train_loss"]):
            width = max(1, len(train) // SMOOTHING_POINTS)
            smooth = np.convolve(train[:, 1], np.ones(width) / width, mode="valid")
            axes.plot(*train.T, color=BLUE, alpha=0.3, linewidth=1)
            axes.plot(train[width - 1 :, 0], smooth, color=BLUE, label="training")
        if len(val := losses["val_loss"]):
            lowest = f"validation, lowest {val[:, 1].min():.3f}"
            axes.plot(*val.T, "o-", color=ORANGE, markersize=4, label=lowest)
        axes.set(xlabel="optimizer step", ylabel="loss (nats per target token)")
        axes.set_ylim(bottom=0)
        axes.legend(loc="upper right")

    return _svg("curve", "Training curve", draw) if any(map(len, losses.values())) else None


def learning_rates(
    curves: Mapping[str, Sequence[tuple[float, float, float, float]]], ylabel: str
) -> str | None:
    """A figure over the learning rate, a line a series: rate, value, from where to where."""

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        for name, points in curves.items():
            rates, values, low, high = np.array(points).T
            around = np.abs([values - low, high - values])
            axes.errorbar(rates, values, yerr=around, fmt="o-", capsize=3, markersize=4, label=name)
        axes.set(xlabel="peak learning rate", ylabel=ylabel, xscale="log")
        axes.legend()

    return _svg("learning-rates", ylabel + " over the learning rate", draw) if curves else None


def _svg(name: str, title: str, draw: Draw) -> str:
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE | {"svg.hashsalt": name}):
        figure = Figure(figsize=(5, 3.6), layout="constrained")
        figure.patch.set_visible(False)
        draw(figure)
        for axes in figure.axes:
            axes.patch.set_visible(False)
        target = io.StringIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        FigureCanvasSVG(figure).print_svg(target, metadata=nothing)
    svg = target.getvalue()
    # matplotlib's style sheet would hold for the whole page, and so would its ids.
    svg = re.sub(r"<style.*?</style>", "", svg[svg.index("<svg ") :], flags=re.DOTALL)
    svg = re.sub(r'(?<= id=")|(?<=url\(#)|(?<=href="#)', f"{name}-", svg)
    head = f'<svg role="img" aria-label="{title}" stroke-linejoin="round" stroke-linecap="butt" '
    return svg.replace("<svg ", head, 1).replace(INK, "currentColor")
