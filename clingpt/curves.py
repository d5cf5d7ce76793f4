"""The training curve of a run: metrics.jsonl written, read, and drawn as curves.png."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from clingpt.disk import write_whole

SMOOTHING_POINTS = 50  # the drawn training loss is a mean over about a 50th of the run


def append_metrics(path: Path, row: Mapping[str, Any]) -> None:
    """One event as one JSON line."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """All whole lines; a line cut short by a crash is left out."""
    if not path.exists():
        return []
    rows = []
    for line in path.read_text("utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows


def drop_after(path: Path, step: int) -> None:
    """Forget what came after `step`, which a resumed run will do again."""
    rows = [row for row in read_metrics(path) if row["step"] <= step]
    write_whole(path, "".join(json.dumps(row) + "\n" for row in rows))


def draw_curves(metrics: Path, picture: Path) -> None:
    """Training and validation loss over the steps, in nats a target token."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = read_metrics(metrics)
    train = [(row["step"], row["train_loss"]) for row in rows if "train_loss" in row]
    val = [(row["step"], row["val_loss"]) for row in rows if "val_loss" in row]
    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    if train:
        steps, losses = np.array(train).T
        axes.plot(steps, losses, color="tab:blue", alpha=0.25, linewidth=1)
        width = max(1, len(losses) // SMOOTHING_POINTS)
        smooth = np.convolve(losses, np.ones(width) / width, mode="valid")
        axes.plot(steps[width - 1 :], smooth, color="tab:blue", label="training")
    if val:
        steps, losses = np.array(val).T
        axes.plot(steps, losses, "o-", color="tab:orange", markersize=4, label="validation")
        best = int(losses.argmin())
        axes.plot(steps[best], losses[best], "*", color="tab:red", markersize=14)
        axes.annotate(
            f"best {losses[best]:.3f}",
            (steps[best], losses[best]),
            xytext=(0, 12),
            textcoords="offset points",
            ha="right",
        )
    axes.set(xlabel="optimizer step", ylabel="loss (nats per target token)", ylim=(0, None))
    axes.grid(alpha=0.3)
    if train or val:
        axes.legend()
    scratch = picture.with_name(f".{picture.name}")
    figure.savefig(scratch, format="png", dpi=120)
    pyplot.close(figure)
    os.replace(scratch, picture)
