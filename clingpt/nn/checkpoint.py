"""Checkpoints and run folders.

A checkpoint is a Hugging Face GPT-2 folder with hashes, a card (clingpt.json) and the training
state (trainer.pt). A run folder contains checkpoints named step_000500/, written atomically, and
the links `best` and `last`, which files.followed reads. Weights are read from safetensors and
training state with weights_only=True, so that nothing from disk is executed.
"""

import errno
import json
import math
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from clingpt.base import console, settings
from clingpt.base.errors import CheckpointError, ConfigError, hub_reason, why_not_read
from clingpt.base.files import (
    SUMS,
    check_still_owned,
    followed,
    note_once,
    point,
    sha256,
    verify_sums,
    write_whole,
    written_whole,
)
from clingpt.data.prepared import read_manifest, warning
from clingpt.nn.foreign import (
    check_loadable,
    check_no_pickle,
    newest_of_trainer,
    read_nanogpt,
)
from clingpt.nn.kernels import use_kernels
from clingpt.nn.lora import (
    ADAPTER,
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    Lora,
    check_base,
    merge_adapter,
    merging,
    read_lora,
    read_peft,
    write_adapter,
)
from clingpt.nn.runtime import DTYPES
from clingpt.text.tokenizer import Tokenizer
from model import GPT, SIZES, GPTConfig, hub_folder

FORMAT = 1
CARD = "clingpt.json"  # settings, data and figures of a checkpoint
# Written later by eval.py, so SHA256SUMS does not cover them. clingpt/evaluation, which this layer
# must not import, names them again.
CALIBRATION, TERMS = "calibration.json", "terms.json"
TRAINER = "trainer.pt"
STEP_FOLDER = re.compile(r"step_(\d{6,})")
HUB_ID = re.compile(r"(?!out/)\w[\w.-]*/\w[\w.-]*")
LINKS = ("best", "last")  # in a run folder: the names of two of its checkpoints
# Parts of a path that say nothing about the run.
NAMELESS = re.compile(r"best|last|step_\d+|checkpoint-\d+|ckpt\.pt|adapter|/")


@dataclass(frozen=True)
class Loaded:
    """A model with the tokenizer and the card that came with it."""

    model: GPT
    tokenizer: Tokenizer
    card: dict[str, Any]  # empty if another tool wrote the folder
    folder: Path


def load_model(
    source: str | Path,
    *,
    block_size: int | None = None,
    dropout: float = 0,
    verified: bool = False,
    pickles: bool = True,
    dtype: torch.dtype = torch.float32,
    adapter: str | None = None,
) -> Loaded:
    """Load a checkpoint or run folder, `gpt2` … `gpt2-xl`, a Hub id or a Hugging Face GPT-2 folder.

    nanoGPT's ckpt.pt and PEFT's adapters are loaded too. A run folder means its best checkpoint. If
    `source` is an adapter, it is merged into the base that it names; a separate `adapter` is merged
    into `source`. Files are compared with SHA256SUMS if the folder has it, unless the caller has
    just `verified` them. The weights are kept in `dtype`. Without `pickles`, only safetensors are
    opened. Raises CheckpointError, which says in one line what a folder is that cannot be loaded.
    """
    on_base = partial(
        _load_on_base, block_size=block_size, dropout=dropout, pickles=pickles, dtype=dtype
    )
    if adapter is not None:
        return on_base(locate(adapter), str(source))
    path = locate(str(source))
    if is_adapter(path):
        return on_base(path, None)
    folder = path if path.is_dir() else path.parent
    is_ours = (folder / SUMS).exists()
    if is_ours and not verified:
        verify(folder)
    if not is_ours:
        check_loadable(path)
    if not pickles:
        check_no_pickle(path)
    try:
        if (folder / "config.json").exists() and path.is_dir():
            model = GPT.from_pretrained(folder, block_size=block_size, dropout=dropout, dtype=dtype)
        else:
            config, tensors = read_nanogpt(path, block_size=block_size, dropout=dropout)
            model = GPT.from_tensors(config, tensors, dtype)
    except CheckpointError:
        raise
    except (ValueError, KeyError, TypeError, OSError, SafetensorError) as error:
        raise CheckpointError(f"cannot load {source}: {error}") from error
    except Exception as error:  # torch.load of a broken file raises private types
        raise CheckpointError(f"cannot load {source}: {why_not_read(error)}") from error
    tokenizer = Tokenizer.load(folder).fitting(model.config.vocab_size, folder)
    return Loaded(use_kernels(model), tokenizer, read_card(folder), folder)


def load_to_use(
    source: str | Path,
    *,
    adapter: str | None = None,
    pickles: bool = True,
    dtype: torch.dtype = torch.float32,
) -> Loaded:
    """Load a model, and warn if its training data contained personal identifiers."""
    loaded = load_model(source, adapter=adapter, pickles=pickles, dtype=dtype)
    if said := warning(loaded.card):
        console.note(f"{source}: {said}")
    return loaded


def check_servable(path: Path) -> None:
    """Raise CheckpointError if a folder or file cannot be loaded without opening a pickle.

    An adapter's base is checked when it is loaded.
    """
    if not is_adapter(path):
        check_loadable(path)
        check_no_pickle(path)


def is_adapter(folder: Path) -> bool:
    """Return whether a folder contains an adapter and no model."""
    names = (ADAPTER_WEIGHTS, ADAPTER_CONFIG)
    return any((folder / name).exists() for name in names) and not (folder / "config.json").exists()


def from_weights(config: GPTConfig, weights: Mapping[str, Tensor]) -> GPT:
    """Build a model around existing tensors without copying them."""
    model = GPT.without_weights(config)
    model.load_state_dict(weights, assign=True)
    return use_kernels(model)


def _load_on_base(
    folder: Path,
    base_source: str | None,
    *,
    block_size: int | None,
    dropout: float,
    pickles: bool,
    dtype: torch.dtype,
) -> Loaded:
    """Load an adapter's base, given or as it names it, and merge the adapter into it."""
    if not is_adapter(folder):
        raise CheckpointError(f"{folder} is not an adapter; pass it as --checkpoint")
    if (folder / SUMS).exists():
        verify(folder)
    card, peft = read_card(folder), read_peft(folder)
    lora = read_lora(card, folder) if card else None
    named = base_source or (lora.base if lora else peft.get("base_model_name_or_path"))
    if not named:
        raise CheckpointError(
            f"{folder} does not name its base; pass it as --checkpoint=BASE --adapter={folder}"
        )
    try:
        base_folder = locate(named)
        if base_folder.resolve() == folder.resolve():
            raise CheckpointError(
                "that is the adapter's own folder; move the adapter, and put its base there"
            )
        base = load_model(
            base_folder,
            block_size=block_size or (lora.block_size if lora else None),
            dropout=dropout,
            pickles=pickles,
            # As in training, since rounded weights have another hash.
            dtype=DTYPES[lora.base_dtype] if lora else dtype,
        )
    except CheckpointError as error:
        other = (
            "" if base_source or lora else "; if it is elsewhere, pass --checkpoint=BASE --adapter"
        )
        raise CheckpointError(f"{folder} is an adapter of {named}: {error}{other}") from None
    if lora:
        check_base(base.model, lora, folder)
    model = base.model.to(dtype)
    merge_adapter(model, folder, peft, pickles=pickles)
    return replace(base, model=model, card=card, folder=folder)


def identity(folder: Path) -> str:
    """Return a hash that identifies a folder's weights: of SHA256SUMS, or else of the weights."""
    if (folder / SUMS).exists():
        return sha256(folder / SUMS)
    files = sorted(
        path for kind in ("safetensors", "bin", "pt") for path in folder.glob(f"*.{kind}")
    )
    return " ".join(sha256(path) for path in files)


def load_or_new(source: str, shape: GPTConfig, data: Path, dtype: torch.dtype) -> Loaded:
    """Load a model with the context and dropout of `shape`, its weights kept in `dtype`.

    `scratch` draws random weights for the tokenizer of the prepared folder `data`.
    """
    if source == "scratch":
        read_manifest(data)  # raises DataError if these are not prepared data
        tokenizer = Tokenizer.load(data)
        shape = replace(shape, vocab_size=tokenizer.size)
        return Loaded(use_kernels(GPT(shape)), tokenizer, {}, Path())
    return load_model(source, block_size=shape.block_size, dropout=shape.dropout, dtype=dtype)


def locate(source: str) -> Path:
    """Return the folder that a checkpoint's name refers to, downloading a Hub repository.

    Also a file, since nanoGPT's checkpoints are files.
    """
    folder = followed(Path(source))
    best = followed(folder / "best")
    if best.is_dir() and not (folder / SUMS).exists():
        return best
    if folder.is_dir():
        if any((folder / name).exists() for name in ("config.json", ADAPTER_CONFIG)):
            return folder
        return newest_of_trainer(folder) or folder
    if folder.is_file():
        return folder
    looks_local = source not in SIZES and (
        source.startswith((".", "/", "~", "out/")) or not re.fullmatch(r"[\w.-]+/[\w.-]+", source)
    )
    if looks_local:
        raise CheckpointError(f"{source} is not a folder; specify a checkpoint, gpt2 or a Hub id")
    try:
        return hub_folder(source)
    except (OSError, ValueError, RuntimeError) as error:  # no network, no such name, a full disk
        name, reason = _name_elsewhere(source), hub_reason(error)
        raise CheckpointError(
            f"the weights of {source} are not in the cache and cannot be downloaded ({reason}); on "
            f"a machine with network access, run: hf download {name} --local-dir={source}  and "
            f"copy the folder {source} here, or pass another one as --init_from or --checkpoint"
        ) from error


def _name_elsewhere(source: str) -> str:
    """Return the name or path under which other tools find a checkpoint."""
    if followed(Path(source)).is_dir():
        return str(locate(source))
    return f"openai-community/{source}" if source in SIZES else source


def read_card(folder: Path) -> dict[str, Any]:
    """Read a checkpoint's card; empty for a folder written by another tool."""
    if not (folder / CARD).exists():
        return {}
    try:
        card: dict[str, Any] = json.loads((folder / CARD).read_text("utf-8"))
        version = card["format"]
    except (ValueError, KeyError, TypeError):
        raise CheckpointError(
            f"{folder / CARD} is not a checkpoint's card; use another checkpoint"
        ) from None
    if version != FORMAT:
        raise CheckpointError(
            f"{folder} has format {version}, but this version of clinGPT reads format {FORMAT}"
        )
    return card


def write_card(folder: Path, card: dict[str, Any]) -> None:
    """Write a checkpoint's card."""
    (folder / CARD).write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")


def verify(folder: Path) -> None:
    """Compare a checkpoint with SHA256SUMS; raise CheckpointError if a file differs."""
    whole = {ADAPTER_WEIGHTS, ADAPTER_CONFIG} if is_adapter(folder) else {"model.safetensors"}
    verify_sums(folder, required={CARD} | whole, exempt={CALIBRATION, TERMS})


def key_of(select: str) -> str:
    """Return the name under which a validation reports a selection criterion."""
    return f"val_{select}"


def score(figures: Mapping[str, Any], select: str) -> float | None:
    """Return a validation's score (higher is better), or None if it was not measured."""
    value = figures.get(key_of(select))
    if value is None or math.isnan(value):
        return None
    return -float(value) if select == "loss" else float(value)


@dataclass(frozen=True)
class RunFolder:
    """The checkpoints of one training run."""

    path: Path

    def steps(self) -> dict[int, Path]:
        """Return checkpoint folders by step, oldest first."""
        if not self.path.is_dir():
            return {}
        found = [(STEP_FOLDER.fullmatch(path.name), path) for path in self.path.iterdir()]
        return dict(sorted((int(match[1]), path) for match, path in found if match))

    def newest(self) -> Path | None:
        """Return the newest checkpoint, intact or not, or None."""
        return next(reversed(self.steps().values()), None)

    def newest_whole(self, *, may_exist: bool = True) -> Path | None:
        """Return the newest intact checkpoint, or None in a run without checkpoints.

        Newer damaged ones are reported and moved aside, so that their steps can be repeated. If no
        checkpoint is intact, nothing is touched and CheckpointError is raised. Unless one
        `may_exist` (--resume=never), any checkpoint raises ConfigError, so it is never overwritten.
        """
        if self.newest() is not None and not may_exist:
            raise ConfigError(
                f"{self.path} already contains a run; choose another --out or remove it"
            )
        damaged: dict[Path, str] = {}
        for folder in reversed(self.steps().values()):
            try:
                verify(folder)
            except (CheckpointError, OSError) as error:
                damaged[folder] = str(error).partition(";")[0]
                continue
            for broken, reason in damaged.items():
                aside = broken.with_name(f"damaged_{broken.name}")
                shutil.rmtree(aside, ignore_errors=True)
                broken.rename(aside)
                console.note(f"{reason}; moved to {aside.name}, using {folder.name}")
            return folder
        if damaged:
            raise CheckpointError(
                f"no checkpoint of {self.path} is intact ({', '.join(damaged.values())}); nothing "
                "was changed: restore one from a backup, or start again with another --out"
            )
        return None

    def begin(self, facts: dict[str, Any]) -> None:
        """Create the folder, write config.json, and remove what a crash left half-written.

        Called before the first step, so that a folder that cannot be written fails early.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"format": FORMAT, **facts}, indent=1)
        write_whole(self.path / "config.json", text + "\n")
        for left in (*self.path.glob(".step_*.partial"), *self.path.glob(".step_*.deleted")):
            shutil.rmtree(left)
        self._try_file_system()

    def _try_file_system(self) -> None:
        """Try what saving needs: renaming a folder, fsync, and replacing a link."""
        for name in LINKS:
            if (self.path / name).is_dir() and not (self.path / name).is_symlink():
                raise CheckpointError(
                    f"{self.path / name} is a folder instead of a link, as when a run is copied "
                    "without its links; remove it: the checkpoint is also in a folder step_…"
                )
        trial, link = self.path / ".trial", self.path / ".trial_link"
        shutil.rmtree(trial, ignore_errors=True)
        try:
            with written_whole(trial) as scratch:
                (scratch / "file").touch()
            for _ in range(2):  # the second replaces the first
                point(link, trial.name)
            if followed(link) != trial:
                raise OSError(errno.EIO, "a link cannot be read back")
            if not link.is_symlink():
                note_once(
                    f"{self.path}: this file system has no symbolic links, so best and last are "
                    "small files that name a checkpoint; every command follows them"
                )
        except OSError as error:
            raise CheckpointError(
                f"{self.path} cannot hold checkpoints ({error.strerror}); choose an --out on "
                "another file system"
            ) from error
        finally:
            link.unlink(missing_ok=True)
            shutil.rmtree(trial, ignore_errors=True)

    def save(
        self,
        step: int,
        *,
        model: GPT,
        tokenizer: Tokenizer,
        card: dict[str, Any],
        trainer: dict[str, Any],
        adapter: tuple[Lora, dict[str, Tensor]] | None = None,
    ) -> Path:
        """Write step_…/ atomically, and point `last` at it.

        With an adapter, `model` is its base, and each matrix is merged as it is written, so that
        no second copy of the weights is needed. The adapter goes into a subfolder, which is a
        checkpoint too: next to the merged model, PEFT would apply it a second time, and vLLM would
        take it for weights.
        """
        check_still_owned(self.path)
        folder = self.path / f"step_{step:06d}"
        try:
            with written_whole(folder) as scratch:
                if adapter is None:
                    model.save_pretrained(scratch, ends=tokenizer.ends)
                else:
                    merge = merging(*adapter)
                    model.save_pretrained(scratch, ends=tokenizer.ends, change=merge)
                tokenizer.save(scratch)
                with (scratch / TRAINER).open("wb") as file:  # else errors do not give the reason
                    torch.save(trainer, file)
                card = {"format": FORMAT, "step": step, **card}
                if adapter is not None:
                    lora, weights = adapter
                    card["lora"] = settings.to_json(lora)
                    with written_whole(scratch / ADAPTER) as alone:
                        write_adapter(alone, weights, lora, base=_name_elsewhere(lora.base))
                        write_card(alone, card)
                write_card(scratch, card)
        # A full disk raises OSError here, RuntimeError in torch.save, SafetensorError in save_file.
        except (OSError, RuntimeError, SafetensorError) as error:
            reason, advice = console.why_not_written(error)
            raise CheckpointError(
                f"{folder} could not be written ({reason}); earlier checkpoints are intact: "
                f"{advice}, then run the same command again"
            ) from error
        self.point("last", folder)
        return folder

    def point(self, name: str, folder: Path) -> None:
        """Point the link `name` at a checkpoint; the old target stays valid until the rename."""
        point(self.path / name, folder.name)

    def link_best(self, select: str = "loss") -> Path | None:
        """Point `best` at the checkpoint with the best validation, and return it.

        Among equals the oldest counts; without validations, the newest. The figures are read from
        the checkpoints themselves, so that a link left wrong by a crash is soon corrected.
        """
        scores = {folder: score(read_card(folder), select) for folder in self.steps().values()}
        measured = {folder: found for folder, found in scores.items() if found is not None}
        best = max(measured, key=lambda folder: measured[folder]) if measured else self.newest()
        if best is not None:
            self.point("best", best)
        return best

    def keep_best(self, select: str, *, keep: int) -> Path | None:
        """Point `best` at the best checkpoint, prune the others, and return the best one."""
        best = self.link_best(select)
        self.prune(keep)
        return best

    def prune(self, keep: int) -> None:
        """Delete all checkpoints except the newest `keep` and the targets of `best` and `last`."""
        linked = {followed(self.path / name).resolve() for name in LINKS}
        for folder in list(self.steps().values())[:-keep]:
            if folder.resolve() not in linked:
                # Renamed first: a crash while deleting must not leave half a checkpoint under a
                # checkpoint's name.
                doomed = folder.with_name(f".{folder.name}.deleted")
                folder.rename(doomed)
                shutil.rmtree(doomed)


def load_trainer(folder: Path) -> dict[str, Any]:
    """Load the training state of a checkpoint."""
    path = folder / TRAINER
    if not path.exists():
        raise CheckpointError(f"{folder} has no {TRAINER}: it can be used but not resumed")
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # torch.load of a broken file raises private types
        raise CheckpointError(f"{path} cannot be read: {why_not_read(error)}") from error
    return state


def run_name(source: str) -> str:
    """Return the name of a model without any path, fit for a model card or a server.

    A Hub model keeps its id. A folder is named by its run: the last part of its path that is
    not just best, last or a step.
    """
    if source in SIZES or (HUB_ID.fullmatch(source) and not followed(Path(source)).is_dir()):
        return source
    # abspath and not resolve(): `best` is a link, and its target's name says less.
    parts = reversed(Path(os.path.abspath(source)).parts)
    return next((part for part in parts if not NAMELESS.fullmatch(part)), "clingpt")


def results_folder(checkpoint: Path) -> Path:
    """Return where results about a checkpoint go: its run folder, or out/NAME for other models."""
    return checkpoint.parent if (checkpoint / CARD).exists() else Path("out") / checkpoint.name


def newest_best(runs: Path) -> str:
    """Return the best checkpoint of the run with the latest checkpoint."""
    found = [path for path in runs.glob("*/best") if (followed(path) / "config.json").exists()]
    if not found:
        raise CheckpointError(
            f"no trained run in {runs}/; train one (make quickstart), or pass --checkpoint=gpt2"
        )
    newest = max(found, key=lambda path: (RunFolder(path.parent).newest() or path).stat().st_mtime)
    return str(newest)
