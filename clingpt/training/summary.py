"""What a training run reports: a description at the start, throughput, and results at the end."""

import shlex
import sys
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from clingpt.base import console
from clingpt.base.types import Ints
from clingpt.data.packing import Rows
from clingpt.nn.checkpoint import RunFolder, key_of, read_card
from clingpt.nn.runtime import Runtime
from clingpt.training.state import State
from model import GPT, GPTConfig

ENDINGS = {"finished": "Trained", "out of patience": "Stopped improving", "stopped": "Stopped"}

# Dense peak FLOP/s of 16-bit matrix products with fp32 accumulation, by a part of the device's
# name; the first match counts. Vendors' figures without sparsity.
PEAK_FLOPS = {
    "H200": 989e12,  # NVIDIA H200 data sheet (1,979 with sparsity)
    "H100 PCIe": 756e12,  # NVIDIA H100 data sheet (1,513 with sparsity)
    "H100": 989e12,  # NVIDIA H100 data sheet, SXM5 (1,979 with sparsity)
    "A100": 312e12,  # NVIDIA A100 data sheet
    "L40S": 362e12,  # NVIDIA L40S data sheet
    "L4": 121e12,  # NVIDIA L4 data sheet (242 with sparsity)
    "A10G": 70e12,  # NVIDIA A10G data sheet (140 with sparsity)
    "A10": 125e12,  # NVIDIA A10 data sheet
    "V100": 125e12,  # NVIDIA V100 data sheet, SXM2, fp16
    "T4": 65e12,  # NVIDIA T4 data sheet, fp16
    "RTX 4090": 165e12,  # NVIDIA Ada GPU architecture white paper, appendix A
    "RTX 3090": 71e12,  # NVIDIA Ampere GA102 white paper, appendix A
}


# ------------------------------------------------------------------------------------------------
# Throughput


def peak_flops(device_name: str, dtype: torch.dtype) -> float | None:
    """Return the peak FLOP/s of a known GPU in a 16-bit type, or None."""
    if dtype == torch.float32:
        return None
    return next((flops for name, flops in PEAK_FLOPS.items() if name in device_name), None)


def training_flops(config: GPTConfig, *, tokens: int, targets: int, attended_pairs: float) -> float:
    """Return the FLOPs that a forward and backward pass needs, without recomputed activations.

    2 FLOPs per weight and token forward, twice that backward (Kaplan et al. 2020, section 2.1). The
    head, and all of the last block after its attention, are computed at target positions only.
    Attention takes 4 C FLOPs per visible pair of tokens and layer forward.
    """
    C = config.n_embd
    mlp = 2 * C * config.mlp_size
    of_last = C**2 + mlp
    blocks = config.n_layer * (4 * C**2 + mlp) * tokens + of_last * (targets - tokens)
    head = C * config.vocab_size * targets
    attention = 2 * config.n_layer * C * attended_pairs
    return 6.0 * (blocks + head + attention)


class Meter:
    """Measures tokens per second and model FLOP/s utilisation (MFU) since its last reading.

    Padding does not count as work. `peak_flops` is that of one device, None if unknown.
    """

    def __init__(
        self, rows: Rows, config: GPTConfig, peak_flops: float | None, n_devices: int = 1
    ) -> None:
        self._rows, self._config = rows, config
        self._peak_flops = peak_flops and peak_flops * n_devices
        self.restart()

    def count(self, rows: Ints) -> int:
        """Add a step on these rows; return how many tokens they contain."""
        examples = np.concatenate([self._rows.examples(row) for row in rows])
        lengths = self._rows.split.lengths[examples]
        tokens = int(lengths.sum())
        self.tokens += tokens
        self.flops += training_flops(
            self._config,
            tokens=tokens,
            targets=self._rows.n_targets(rows),
            # Under causal attention the n-th token of an example sees n tokens.
            attended_pairs=float((lengths * (lengths + 1)).sum()) / 2,
        )
        return tokens

    def read(self) -> dict[str, float | None]:
        """Return the figures since the last reading, and start the next one."""
        elapsed_s = time.perf_counter() - self._started_at
        flops_per_s = self.flops / elapsed_s
        speeds = {
            "tokens_per_s": self.tokens / elapsed_s,
            "mfu": flops_per_s / self._peak_flops if self._peak_flops else None,
        }
        self.restart()
        return speeds

    def restart(self) -> None:
        """Forget what was counted, for example because a validation took the time."""
        self.tokens, self.flops, self._started_at = 0, 0.0, time.perf_counter()


class Pace:
    """What the training loop is doing, and how long the same took the last time."""

    def __init__(self) -> None:
        self._doing, self._began_at = "step", time.perf_counter()
        self._last_s: dict[str, float] = {}

    def begin(self, doing: str) -> None:
        """Begin a "step" or a "validation", which ends whatever was being done."""
        now = time.perf_counter()
        self._last_s[self._doing] = now - self._began_at
        self._doing, self._began_at = doing, now

    def until(self) -> str:
        """Say what must end before the run can stop, and in how many seconds that will be."""
        if self._doing == "validation":  # it looks for a signal after every batch and every token
            return "as soon as this validation can be interrupted"
        left_s = self._last_s.get("step", 0) - (time.perf_counter() - self._began_at)
        return "after this step" + (f" (about {left_s:.0f} s)" if left_s >= 1 else "")


# ------------------------------------------------------------------------------------------------
# Text


def at_stake(folder: RunFolder, step: int) -> str:
    """Say which steps a run would lose if it ended without saving."""
    saved = max(folder.steps(), default=0)
    since = f" since step_{saved:06d}" if saved else ""
    if step == saved:
        return "losing this step"
    n_lost = step - saved
    return f"losing {console.count(n_lost)} step{'s' if n_lost > 1 else ''}{since}"


def beginning(model: GPT, rows: Rows, rt: Runtime, steps: int, settings: Mapping[str, Any]) -> str:
    """Describe the run that is about to start."""
    shape, sizes = model.config, {p: p.numel() for p in model.parameters()}
    parameters, trained = sum(sizes.values()), sum(sizes[p] for p in sizes if p.requires_grad)
    fill = int(rows.split.lengths.sum()) / (len(rows) * shape.block_size)
    size = f"{console.count(shape.n_layer, 'layer')}, {console.count(shape.n_head, 'head')}, "
    size += console.count(shape.n_embd, "channel")
    device = f"{rt.name()}, {str(rt.dtype).removeprefix('torch.')}"
    if rt.n_ranks > 1:
        device = f"{rt.n_ranks} {'shards' if settings['shard'] else 'replicas'}, each on {device}"
    micro_batch = f"micro-batches of up to {settings['micro_batch_size']}"
    return console.key_values(
        "Training",
        [
            ("model", f"{console.count(parameters)} parameters: {size}"),
            ("initialised from", settings["init_from"]),
            ("trained", f"{console.count(trained)} parameters ({trained / parameters:.2%})"),
            ("data", f"{settings['data']}: {console.count(len(rows.split.index), 'example')}"),
            ("rows", f"{console.count(len(rows))} of {shape.block_size} tokens, {fill:.1%} full"),
            (
                "steps",
                f"{steps} of {console.count(settings['batch_size'], 'row')}, in {micro_batch}",
            ),
            ("device", device),
        ],
    )


def gist(row: Mapping[str, Any]) -> str:
    """Shorten a line of metrics.jsonl for the progress bar."""
    mfu = f", MFU {row['mfu']:.1%}" if row["mfu"] is not None else ""
    return f"loss {row['train_loss']:.3f}, {row['tokens_per_s']:,.0f} tokens/s{mfu}"


def measured(figures: Mapping[str, float], *, is_best: bool) -> str:
    """Describe the result of a validation.

    The loss covers the whole split, and the scores only some records of --eval_records.
    """
    shown = {name: f"{name} {value:.4f}" for name, value in figures.items()}
    parts = [shown[name] for name in ("val_loss",) if name in shown]
    for names, counted, unit in (
        (("val_accuracy", "val_macro_f1"), "scored_labels", "records"),
        (("val_rougeL",), "scored_texts", "texts"),
    ):
        if counted in figures:
            scores = ", ".join(shown[name] for name in names)
            parts.append(f"{scores} on {console.count(int(figures[counted]))} {unit}")
    return ("; ".join(parts) or "no validation split") + (" (best so far)" if is_best else "")


def end(
    folder: RunFolder,
    state: State,
    *,
    steps: int,
    ending: str,
    select: str,
    elapsed_s: float,
    launcher: str,
) -> str:
    """Describe what the run produced, where it is, and what to do next."""
    out, best = folder.path, folder.link_best(select)
    figure = read_card(best).get(key_of(select)) if best else None
    links = ", ".join(str(out / name) for name in ("best", "last") if (out / name).exists())
    found = console.key_values(
        f"\n{ENDINGS[ending]} at step {state.step} of {steps}",
        [
            ("time", console.duration(elapsed_s)),
            ("tokens", console.count(state.tokens)),
            (f"best validation {select}", "not measured" if figure is None else f"{figure:.4f}"),
            ("checkpoints", links or "none"),
            ("curves", f"{out}/curves.png" if (out / "curves.png").exists() else "none"),
        ],
    )
    if ending != "stopped":
        # Without --split=test: repeated looks at the test split would make its figures optimistic.
        script = "sample.py" if figure is None else "eval.py"
        return f"{found}\n\nNext:  {console.command(script, f'--checkpoint={out}/best')}"
    saved = "Saved. To resume" if state.step else "Nothing to save yet. To start again"
    return f"{found}\n\n{saved}:  {launcher} {shlex.join(sys.argv)}"
