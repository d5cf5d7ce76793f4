"""Draw the training curve of a run: metrics.jsonl as curves.png."""

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clingpt.base import jsonl

Floats = NDArray[np.float64]
# What validations may hold besides the loss: what it is called, and what makes it a percentage.
ANSWER_SCORES = {
    "val_accuracy": ("accuracy", 100),
    "val_macro_f1": ("macro-F1", 100),
    "val_rougeL": ("ROUGE-L", 1),
}
SMOOTHING_POINTS = 50  # the drawn training loss is a mean over about a 50th of the run


def draw_curves(metrics: Path, picture: Path) -> None:
    """Losses over the steps in nats a target token; below, what answers were worth, where known."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = jsonl.read(metrics)
    answered = [name for name in ANSWER_SCORES if any(name in row for row in rows)]
    n_panels = 2 if answered else 1
    figure, panels = pyplot.subplots(
        n_panels, figsize=(7, 4 * n_panels), layout="constrained", sharex=True, squeeze=False
    )
    _draw_losses(panels[0, 0], rows)
    for name in answered:
        label, scale = ANSWER_SCORES[name]
        steps, values = _points(rows, name)
        panels[1, 0].plot(steps, values * scale, "o-", markersize=4, label=label)
    if answered:
        panels[1, 0].set(ylabel="held-out records answered (%)", ylim=(0, 100))
    panels[-1, 0].set(xlabel="optimizer step")
    for panel in panels[:, 0]:
        panel.grid(alpha=0.3)
        if panel.get_legend_handles_labels()[0]:
            panel.legend()
    scratch = picture.with_name(f".{picture.name}")
    figure.savefig(scratch, format="png", dpi=120)
    pyplot.close(figure)
    os.replace(scratch, picture)


def _points(rows: list[dict[str, Any]], name: str) -> tuple[Floats, Floats]:
    """Steps and values of a figure, where it was measured."""
    points = [(row["step"], row[name]) for row in rows if row.get(name) is not None]
    steps, values = np.array(points, dtype=np.float64).reshape(-1, 2).T
    return steps, values


def _draw_losses(axes: Any, rows: list[dict[str, Any]]) -> None:
    steps, losses = _points(rows, "train_loss")
    if len(steps):
        axes.plot(steps, losses, color="tab:blue", alpha=0.25, linewidth=1)
        width = max(1, len(losses) // SMOOTHING_POINTS)
        smooth = np.convolve(losses, np.ones(width) / width, mode="valid")
        axes.plot(steps[width - 1 :], smooth, color="tab:blue", label="training")
    steps, losses = _points(rows, "val_loss")
    if len(steps):
        axes.plot(steps, losses, "o-", color="tab:orange", markersize=4, label="validation")
        best = int(losses.argmin())
        axes.plot(steps[best], losses[best], "*", color="tab:red", markersize=14)
        axes.annotate(
            f"lowest {losses[best]:.3f}",
            (steps[best], losses[best]),
            xytext=(0, 12),
            textcoords="offset points",
            ha="right",
        )
    axes.set(ylabel="loss (nats per target token)", ylim=(0, None))
