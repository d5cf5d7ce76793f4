"""What a training run says of itself before its first step and after its last, as text."""

from collections.abc import Mapping
from typing import Any

from clingpt import console
from clingpt.checkpoint import RunFolder, read_card
from clingpt.dataset import Rows
from clingpt.resume import State
from clingpt.runtime import Runtime
from clingpt.selection import key_of
from model import GPT


def beginning(model: GPT, rows: Rows, rt: Runtime, steps: int, settings: Mapping[str, Any]) -> str:
    """What is about to happen, in numbers."""
    shape, parameters = model.config, sum(p.numel() for p in model.parameters())
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
            ("data", f"{settings['data']}: {console.count(len(rows.split.index))} examples"),
            ("rows", f"{console.count(len(rows))} of {shape.block_size}, {fill:.1%} full"),
            ("steps", f"{steps} of {settings['batch_size']} rows, at most {at_once} at once"),
            ("device", where if rt.n_ranks == 1 else many + where),
        ],
    )


def end(folder: RunFolder, state: State, title: str, elapsed_s: float, select: str) -> str:
    """What came out, and where it is."""
    out, best = folder.path, folder.link_best(select)
    figure = read_card(best).get(key_of(select)) if best else None
    links = ", ".join(str(out / name) for name in ("best", "last") if (out / name).exists())
    return console.key_values(
        title,
        [
            ("time", console.duration(elapsed_s)),
            ("tokens", console.count(state.tokens)),
            (f"best validation {select}", "not measured" if figure is None else f"{figure:.4f}"),
            ("checkpoints", links or "none"),
            ("curves", f"{out}/curves.png" if (out / "curves.png").exists() else "none"),
        ],
    )
