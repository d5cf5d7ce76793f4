"""Checkpoints: a Hugging Face GPT-2 folder with hashes, and beside the weights what training needs.

A run folder holds step_000500/ folders, each there whole or not at all, and the relative links
`best` and `last`. Weights load from safetensors, training state with weights_only: nothing from
disk is executed.
"""

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from clingpt.disk import sha256, sync
from clingpt.errors import CheckpointError
from clingpt.kernels import use_kernels
from clingpt.tokenizer import Tokenizer
from model import GPT, SIZES, hub_folder

FORMAT = 1
CARD = "clingpt.json"  # what clinGPT knows about a checkpoint, beside Hugging Face's files
TRAINER = "trainer.pt"
SUMS = "SHA256SUMS"
STEP_FOLDER = re.compile(r"step_(\d{6,})")


@dataclass(frozen=True)
class Loaded:
    """A model with the tokenizer and the card that came with it."""

    model: GPT
    tokenizer: Tokenizer
    card: dict[str, Any]  # empty where clinGPT did not write the folder
    folder: Path


def load_model(source: str | Path, *, block_size: int | None = None, dropout: float = 0) -> Loaded:
    """A checkpoint folder, `gpt2` … `gpt2-xl`, a Hub id or any Hugging Face GPT-2 folder."""
    folder = _locate(str(source))
    if (folder / SUMS).exists():
        verify(folder)
    try:
        model = use_kernels(GPT.from_pretrained(folder, block_size=block_size, dropout=dropout))
    except (ValueError, KeyError, TypeError, OSError, SafetensorError) as error:
        raise CheckpointError(f"cannot load {source}: {error}") from error
    except Exception as error:  # torch.load on a broken pytorch_model.bin: several private kinds
        raise CheckpointError(f"cannot load {source}: {type(error).__name__}: {error}") from error
    return Loaded(model, Tokenizer.load(folder), read_card(folder), folder)


def _locate(source: str) -> Path:
    if Path(source).is_dir():
        return Path(source)
    looks_local = source not in SIZES and (
        source.startswith((".", "/", "~", "out/")) or not re.fullmatch(r"[\w.-]+/[\w.-]+", source)
    )
    if looks_local:
        raise CheckpointError(f"{source} is not a folder; give a checkpoint, gpt2 or a Hub id")
    try:
        return hub_folder(source)
    except (OSError, ValueError, RuntimeError) as error:  # no network, no such repository, no space
        reason = " ".join(str(error).split())[:150]
        name = f"openai-community/{source}" if source in SIZES else source
        raise CheckpointError(
            f"the weights of {source} are not in the cache and cannot be downloaded ({reason}); "
            f"where there is a network run: hf download {name} --local-dir={source}  and copy the "
            f"folder {source} here, or pass another folder as --init_from or --checkpoint"
        ) from error


def read_card(folder: Path) -> dict[str, Any]:
    """What clinGPT wrote about a checkpoint; empty for another tool's folder."""
    if not (folder / CARD).exists():
        return {}
    try:
        card: dict[str, Any] = json.loads((folder / CARD).read_text("utf-8"))
        version = card["format"]
    except (ValueError, KeyError, TypeError):
        raise CheckpointError(f"{folder / CARD} is not a checkpoint's card; use another") from None
    if version != FORMAT:
        raise CheckpointError(f"{folder} has format {version}, this version reads {FORMAT}")
    return card


def verify(folder: Path) -> None:
    """Compare every file with SHA256SUMS; CheckpointError names the first that differs."""
    for line in (folder / SUMS).read_text("utf-8").splitlines():
        wanted, _, name = line.partition("  ")
        path = folder / name
        if not path.exists():
            raise CheckpointError(f"{path} is missing; use another checkpoint of the run")
        if sha256(path) != wanted:
            raise CheckpointError(f"{path} is damaged (its hash differs); use another checkpoint")


@contextmanager
def written_whole(folder: Path) -> Iterator[Path]:
    """A scratch folder that becomes `folder`, with SHA256SUMS and synced, if the block succeeds."""
    scratch = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        yield scratch
        names = sorted(path.name for path in scratch.iterdir())
        sums = "".join(f"{sha256(scratch / name)}  {name}\n" for name in names)
        (scratch / SUMS).write_text(sums)
        for path in (*scratch.iterdir(), scratch):
            sync(path)
        if folder.exists():
            raise CheckpointError(f"{folder} exists already; nothing was overwritten")
        scratch.rename(folder)
        sync(folder.parent)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@dataclass(frozen=True)
class RunFolder:
    """The checkpoints of one training run."""

    path: Path

    def steps(self) -> dict[int, Path]:
        """Step -> checkpoint folder, oldest first."""
        if not self.path.is_dir():
            return {}
        found = [(STEP_FOLDER.fullmatch(path.name), path) for path in self.path.iterdir()]
        return dict(sorted((int(match[1]), path) for match, path in found if match))

    def newest(self) -> Path | None:
        """The newest checkpoint, if there is one."""
        return next(reversed(self.steps().values()), None)

    def save(
        self,
        step: int,
        *,
        model: GPT,
        tokenizer: Tokenizer,
        card: dict[str, Any],
        trainer: dict[str, Any],
    ) -> Path:
        """Write step_…/ whole, and point `last` at it."""
        folder = self.path / f"step_{step:06d}"
        try:
            with written_whole(folder) as scratch:
                model.save_pretrained(scratch)
                tokenizer.save(scratch)
                text = json.dumps({"format": FORMAT, "step": step, **card}, indent=1)
                (scratch / CARD).write_text(text + "\n", encoding="utf-8")
                torch.save(trainer, scratch / TRAINER)
        except (OSError, RuntimeError, SafetensorError) as error:  # a full disk, by any writer
            raise CheckpointError(
                f"{folder} could not be written ({error}); earlier checkpoints are intact: make "
                "room, then give the same command again"
            ) from error
        self.point("last", folder)
        return folder

    def point(self, name: str, folder: Path) -> None:
        """Make the link `name` lead to a checkpoint, without a moment when it leads nowhere."""
        scratch = self.path / f".{name}.partial"
        scratch.unlink(missing_ok=True)
        scratch.symlink_to(folder.name)
        os.replace(scratch, self.path / name)

    def link_best(self) -> tuple[Path | None, float | None]:
        """Point `best` at the checkpoint with the lowest validation loss, the oldest of equals.

        Read off the checkpoints themselves, so that no crash can leave the link wrong for long.
        Where no loss was measured, the newest is as good as any.
        """
        losses = {folder: read_card(folder).get("val_loss") for folder in self.steps().values()}
        measured = {folder: loss for folder, loss in losses.items() if loss is not None}
        best = min(measured, key=lambda folder: measured[folder]) if measured else self.newest()
        if best is not None:
            self.point("best", best)
        return best, losses.get(best) if best else None

    def prune(self, keep: int) -> None:
        """Delete old checkpoints but the newest `keep` and those that `best` and `last` lead to."""
        linked = {(self.path / name).resolve() for name in ("best", "last")}
        for folder in list(self.steps().values())[:-keep]:
            if folder.resolve() not in linked:
                shutil.rmtree(folder)


def load_trainer(folder: Path) -> dict[str, Any]:
    """The training state beside the weights."""
    path = folder / TRAINER
    if not path.exists():
        raise CheckpointError(f"{folder} has no {TRAINER}: it can be used but not resumed")
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises several private kinds on broken files
        raise CheckpointError(f"{path} cannot be read: {type(error).__name__}: {error}") from error
    return state
