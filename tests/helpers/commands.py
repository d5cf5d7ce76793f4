"""Run the commands, in a subprocess or in this process, and stage what happens to their runs."""

import contextlib
import hashlib
import io
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from clingpt.base import console, jsonl
from clingpt.base.files import sha256
from clingpt.data.prepared import open_prepared
from clingpt.evaluation.calibration import Calibration
from clingpt.nn.checkpoint import RunFolder, load_trainer
from clingpt.text.tokenizer import Tokenizer
from clingpt.training.step import accumulate_gradients
from model import GPT, Batch

Done = subprocess.CompletedProcess[str]

ROOT = Path(__file__).parents[2]

# The smallest run of train.py.
TINY_RUN = ["--init_from=scratch", "--n_layer=2", "--n_head=2", "--n_embd=32", "--compile=False"]

TINY_RUN += ["--block_size=256", "--batch_size=2", "--micro_batch_size=2", "--device=cpu"]


def run(*args: object, stdin: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own, offline."""
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
    """The smallest run's flags, or those given in their place."""
    chosen = {text.split("=")[0]: text for text in [*TINY_RUN, *map(str, flags)]}
    return list(chosen.values())


def exit_status(main: Callable[[], None], *flags: object) -> int:
    """Of a command that runs in this process."""
    with mock.patch.object(sys, "argv", ["command", *map(str, flags)]):
        try:
            console.run(main)
        except SystemExit as end:
            return int(end.code or 0)
    return 0


def here(main: Callable[[], None], *flags: object, stdin: str = "") -> Done:
    """A command in this process, as `run` gives one of its own: seconds faster."""
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
    """train.py in this process; gives its exit status."""
    import train

    random_numbers = torch.get_rng_state()
    try:
        return exit_status(train.main, *run_flags(*flags))
    finally:
        console.mute(unless=True)
        torch.set_rng_state(random_numbers)


def make_calibration(*, temperature: float = 2.5, threshold: float = 0.5) -> Calibration:
    """As eval.py leaves one beside the weights."""
    return Calibration(
        temperature=temperature,
        threshold=threshold,
        coverage=0.8,
        fitted_on={"split": "val", "records": 50, "fingerprint": "5eed"},
        ece_before=0.2,
        ece_after=0.1,
        nll_before=1.1,
        nll_after=0.9,
    )


def train_losses(run: Path) -> dict[int, float]:
    """What metrics.jsonl says of each step, which stands there once."""
    rows = [row for row in jsonl.read(run / "metrics.jsonl") if "train_loss" in row]
    losses = {row["step"]: row["train_loss"] for row in rows}
    assert len(losses) == len(rows)
    return losses


def cut_back(run: Path, copy: Path, *, step: int = 13) -> Path:
    """A run as it was at this step."""
    shutil.copytree(run, copy, symlinks=True)
    folder = RunFolder(copy)
    for later, checkpoint in folder.steps().items():
        if later > step:
            shutil.rmtree(checkpoint)
    folder.point("last", copy / f"step_{step:06d}")
    folder.link_best()
    return copy


def write_sums(checkpoint: Path) -> None:
    """SHA256SUMS as they would be, had the checkpoint been written like this."""
    names = sorted(path.name for path in checkpoint.iterdir() if path.name != "SHA256SUMS")
    sums = "".join(f"{sha256(checkpoint / name)}  {name}\n" for name in names)
    (checkpoint / "SHA256SUMS").write_text(sums)


def other_random_numbers(checkpoint: Path, *, rank: int) -> None:
    """A checkpoint as if a rank had drawn other random numbers."""
    state = torch.load(checkpoint / "trainer.pt", weights_only=True)
    state["rng"][rank] = {"cpu": torch.Generator().manual_seed(5).get_state()}
    torch.save(state, checkpoint / "trainer.pt")
    write_sums(checkpoint)


def only_rows(most: int, *, here: bool = True) -> Any:
    """A machine whose memory trains on so many rows' tokens at once; `here` or on another rank."""
    plain = GPT.forward

    def forward(self: GPT, inputs: Any) -> torch.Tensor:
        too_many = isinstance(inputs, Batch) and inputs.ids_BT.numel() > most * 256
        if too_many and here and torch.is_grad_enabled():
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
        return plain(self, inputs)

    return mock.patch.object(GPT, "forward", forward)


def struck_in_step(step: int, *, here: bool) -> Any:
    """Send SIGTERM to this process in the given step of a new run, unless it is not `here`."""
    plain, steps = accumulate_gradients, 0

    def struck(*args: Any, **kwargs: Any) -> Any:
        nonlocal steps
        steps += 1
        if here and steps == step:
            os.kill(os.getpid(), signal.SIGTERM)
        return plain(*args, **kwargs)

    return mock.patch("train.accumulate_gradients", struck)


def no_number_from(step: int, data: Path, *, example: int) -> Any:
    """A model whose loss is no number for an example of the training split from a forward on."""
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
    """sha256 over weights and optimizer moments, bit for bit."""
    digest = hashlib.sha256((checkpoint / "model.safetensors").read_bytes())
    moments = load_trainer(checkpoint)["optimizer"]
    for name in sorted(moments):
        for key in sorted(moments[name]):
            digest.update(f"{name} {key}".encode() + moments[name][key].numpy().tobytes())
    return digest.hexdigest()
