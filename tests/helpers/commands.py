"""Run commands in a subprocess or in this process, and inject faults into their runs."""

import contextlib
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from clingpt.base import console, jsonl
from clingpt.base.files import sha256
from clingpt.data.prepared import open_prepared
from clingpt.evaluation.calibration import FEWEST_PROMPTS, Calibration, Familiarity, FittedOn
from clingpt.nn.checkpoint import RunFolder, load_trainer
from clingpt.text.tokenizer import Tokenizer
from clingpt.training.step import accumulate_gradients
from model import GPT, Batch
from tests.helpers.patience import PATIENCE

Done = subprocess.CompletedProcess[str]

ROOT = Path(__file__).parents[2]

# The smallest run of train.py.
TINY_RUN = ["--init_from=scratch", "--n_layer=2", "--n_head=2", "--n_embd=32", "--compile=False"]

TINY_RUN += ["--block_size=256", "--batch_size=2", "--micro_batch_size=2", "--device=cpu"]


def run(*args: object, stdin: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a command in a subprocess, offline."""
    result = subprocess.run(
        [sys.executable, *map(str, args)],
        cwd=ROOT,
        input=stdin,
        capture_output=True,
        text=True,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "NO_COLOR": "1"},
        check=False,
    )
    assert not check or result.returncode == 0, result.stderr
    return result


def prepare_thirteen(folder: Path, task: str) -> Path:
    flags = ["--source=synthetic", "--synthetic_records=13", "--synthetic_held_out=4"]
    run("prepare.py", *flags, f"--out={folder}", f"--tasks={task}", "--block_size=256")
    return folder


def run_flags(*flags: object) -> list[str]:
    """Return the flags of the smallest run, overridden by the given ones."""
    chosen = {text.split("=")[0]: text for text in [*TINY_RUN, *map(str, flags)]}
    return list(chosen.values())


def exit_status(main: Callable[[], None], *flags: object) -> int:
    """Run a command in this process and return its exit status."""
    with mock.patch.object(sys, "argv", ["command", *map(str, flags)]):
        try:
            console.run(main)
        except SystemExit as end:
            return int(end.code or 0)
    return 0


def here(main: Callable[[], None], *flags: object, stdin: str = "") -> Done:
    """Run a command in this process, with the result type of `run`; seconds faster."""
    out, err, random_numbers = io.StringIO(), io.StringIO(), torch.get_rng_state()
    with (
        mock.patch.object(sys, "stdin", io.StringIO(stdin)),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        status = exit_status(main, *flags)
    torch.set_rng_state(random_numbers)
    return Done([], status, out.getvalue(), err.getvalue())


def train_here(*flags: object) -> int:
    """Run train.py in this process and return its exit status."""
    import train

    random_numbers = torch.get_rng_state()
    try:
        return exit_status(train.main, *run_flags(*flags))
    finally:
        console.mute(unless=True)
        torch.set_rng_state(random_numbers)


def train_killed(times: int, *flags: str) -> list[dict[str, Any]]:
    """Return what tests/helpers/kills.py reports of a run that it kills so many times."""
    result = subprocess.run(
        [sys.executable, "tests/helpers/kills.py", str(times), "5", *run_flags(*flags)],
        cwd=ROOT, capture_output=True, text=True, check=True, timeout=240 * PATIENCE,
    )  # fmt: skip
    return [json.loads(line) for line in result.stdout.splitlines()]


def make_calibration(
    *, temperature: float = 2.5, threshold: float = 0.5, familiarity: Familiarity | None = None
) -> Calibration:
    """Build a calibration as eval.py writes it next to the weights."""
    return Calibration(
        temperature=temperature,
        calibrated=True,
        threshold=threshold,
        coverage=0.8,
        fitted_on=FittedOn(split="val", records=50, mistakes=20, fingerprint="5eed"),
        ece_before=0.2,
        ece_after=0.1,
        nll_before=1.1,
        nll_after=0.9,
        familiarity=familiarity,
    )


def make_familiarity(*, limit: float = -1.0) -> Familiarity:
    """Count one short prompt as the training data; texts about other subjects are unlike it."""
    text = "Context:\nRESULTS: It was safe in adults.\nQuestion: Was it safe?\nAnswer:"
    ids = Tokenizer.load().encode(text)
    found = Familiarity.fit([ids], [ids] * FEWEST_PROMPTS)
    assert found is not None
    return replace(found, limit=limit)


def train_losses(run: Path) -> dict[int, float]:
    """Return the training loss of each step, checking that none is logged twice."""
    rows = [row for row in jsonl.read(run / "metrics.jsonl") if "train_loss" in row]
    losses = {row["step"]: row["train_loss"] for row in rows}
    assert len(losses) == len(rows)
    return losses


def cut_back(run: Path, copy: Path, *, step: int = 13) -> Path:
    """Copy a run as it was at this step."""
    shutil.copytree(run, copy, symlinks=True)
    folder = RunFolder(copy)
    for later, checkpoint in folder.steps().items():
        if later > step:
            shutil.rmtree(checkpoint)
    folder.point("last", copy / f"step_{step:06d}")
    folder.link_best()
    return copy


def write_sums(checkpoint: Path) -> None:
    """Rewrite SHA256SUMS for a checkpoint's present files."""
    names = sorted(path.name for path in checkpoint.iterdir() if path.name != "SHA256SUMS")
    sums = "".join(f"{sha256(checkpoint / name)}  {name}\n" for name in names)
    (checkpoint / "SHA256SUMS").write_text(sums)


def replace_random_numbers(checkpoint: Path, *, rank: int) -> None:
    """Replace a rank's random numbers in a checkpoint."""
    state = torch.load(checkpoint / "trainer.pt", weights_only=True)
    state["rng"][rank] = {"cpu": torch.Generator().manual_seed(5).get_state()}
    torch.save(state, checkpoint / "trainer.pt")
    write_sums(checkpoint)


def memory_for_rows(most: int, *, here: bool = True) -> Any:
    """Simulate memory for only so many rows at once, unless it is not `here`."""
    plain = GPT.forward

    def forward(self: GPT, inputs: Any) -> torch.Tensor:
        # Short passes fit always: they tell how much memory a row takes (training/memory_fit.py).
        too_many = isinstance(inputs, Batch) and inputs.ids_BT.numel() > most * 256 + 48
        if too_many and here and torch.is_grad_enabled():
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
        return plain(self, inputs)

    return mock.patch.object(GPT, "forward", forward)


def signal_in_step(step: int, *, here: bool) -> Any:
    """Send SIGTERM to this process in the given step of a new run, unless it is not `here`."""
    plain, steps = accumulate_gradients, 0

    def struck(*args: Any, **kwargs: Any) -> Any:
        nonlocal steps
        steps += 1
        if here and steps == step:
            os.kill(os.getpid(), signal.SIGTERM)
        return plain(*args, **kwargs)

    return mock.patch("train.accumulate_gradients", struck)


def non_finite_from(step: int, data: Path, *, example: int) -> Any:
    """Make a training example's loss NaN from the given forward pass on."""
    plain, seen = GPT.forward, 0
    split = open_prepared(data, Tokenizer.load()).split("train")
    first, _, end = split.index[example, :3]
    marker = split.tokens[first:end].tolist()

    def forward(self: GPT, inputs: Any) -> torch.Tensor:
        nonlocal seen
        loss = plain(self, inputs)
        if isinstance(inputs, Batch) and self.training:
            seen += 1
            if seen > step and inputs.ids_BT.flatten().tolist()[: len(marker)] == marker:
                return loss * torch.nan
        return loss

    return mock.patch.object(GPT, "forward", forward)


def fingerprint(checkpoint: Path) -> str:
    """Hash weights and optimizer moments."""
    digest = hashlib.sha256((checkpoint / "model.safetensors").read_bytes())
    moments = load_trainer(checkpoint)["optimizer"]
    for name in sorted(moments):
        for key in sorted(moments[name]):
            digest.update(f"{name} {key}".encode() + moments[name][key].numpy().tobytes())
    return digest.hexdigest()
