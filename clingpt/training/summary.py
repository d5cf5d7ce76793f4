"""What a training run says of itself before its first step, at its steps and after its last."""

import shlex
import sys
from collections.abc import Mapping
from typing import Any

from clingpt.base import console
from clingpt.data.packing import Rows
from clingpt.nn.checkpoint import key_of, read_card
from clingpt.nn.runtime import Runtime
from clingpt.training.state import Trained
from model import GPT

ENDINGS = {"finished": "Trained", "settled": "No longer better", "stopped": "Stopped"}


def beginning(model: GPT, rows: Rows, rt: Runtime, steps: int, settings: Mapping[str, Any]) -> str:
    """What is about to happen, in numbers."""
    shape, sizes = model.config, {p: p.numel() for p in model.parameters()}
    parameters, trained = sum(sizes.values()), sum(sizes[p] for p in sizes if p.requires_grad)
    fill = int(rows.split.lengths.sum()) / (len(rows) * shape.block_size)
    size = f"{shape.n_layer} layers, {shape.n_head} heads, {shape.n_embd} channels"
    many = f"{rt.n_ranks} {'shards' if settings['shard'] else 'replicas'}, each on "
    where = f"{rt.name()}, {str(rt.dtype).removeprefix('torch.')}"
    at_once = settings["micro_batch_size"]
    return console.key_values(
        "Training",
        [
            ("model", f"{console.count(parameters)} parameters: {size}"),
            ("from", settings["init_from"]),
            ("trained", f"{console.count(trained)} of them ({trained / parameters:.2%})"),
            ("data", f"{settings['data']}: {console.count(len(rows.split.index))} examples"),
            ("rows", f"{console.count(len(rows))} of {shape.block_size}, {fill:.1%} full"),
            ("steps", f"{steps} of {settings['batch_size']} rows, at most {at_once} at once"),
            ("device", where if rt.n_ranks == 1 else many + where),
        ],
    )


def gist(row: Mapping[str, Any]) -> str:
    """Of a line of metrics.jsonl, for the progress bar."""
    mfu = f", MFU {row['mfu']:.1%}" if row["mfu"] is not None else ""
    return f"loss {row['train_loss']:.3f}, {row['tokens_per_s']:,.0f} tokens/s{mfu}"


def measured(figures: Mapping[str, float], *, is_best: bool) -> str:
    """What a validation found."""
    shown = ", ".join(f"{name} {value:.4f}" for name, value in figures.items())
    return (shown or "nothing was held out") + (" (best)" if is_best else "")


def end(run: Trained, steps: int, ending: str, select: str, elapsed_s: float) -> str:
    """What came out, where it is, and what to do next."""
    out, best = run.folder.path, run.folder.link_best(select)
    figure = read_card(best).get(key_of(select)) if best else None
    links = ", ".join(str(out / name) for name in ("best", "last") if (out / name).exists())
    found = console.key_values(
        f"\n{ENDINGS[ending]} at step {run.state.step} of {steps}",
        [
            ("time", console.duration(elapsed_s)),
            ("tokens", console.count(run.state.tokens)),
            (f"best validation {select}", "not measured" if figure is None else f"{figure:.4f}"),
            ("checkpoints", links or "none"),
            ("curves", f"{out}/curves.png" if (out / "curves.png").exists() else "none"),
        ],
    )
    if ending != "stopped":
        return f"{found}\n\nNext:  python eval.py --checkpoint={out}/best --split=test"
    saved = "Saved. To go on" if run.state.step else "Nothing to save yet. To begin again"
    return f"{found}\n\n{saved}:  {run.rt.launcher()} {shlex.join(sys.argv)}"
