"""What a training run must put back, beside the weights, to go on as if it had never stopped."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from clingpt import console
from clingpt.checkpoint import Loaded, RunFolder
from clingpt.errors import CheckpointError
from clingpt.kernels import use_kernels
from clingpt.optim import load_optimizer_state, optimizer_state
from clingpt.prepared import Prepared
from clingpt.runtime import Runtime, whole
from clingpt.tokenizer import Tokenizer
from model import GPT

# Two runs that differ in one of these settings, or in their data, are not the same run.
IDENTITY = ("init_from", "n_layer", "n_head", "n_embd", "block_size", "pack", "batch_size", "seed")


@dataclass
class State:
    """Where a run stands: what changes with the steps, weights and moments aside."""

    step: int = 0
    tokens: int = 0  # seen so far, padding not counted
    examples: int = 0  # likewise; one seen in two epochs counts twice


@dataclass(frozen=True)
class Trained:
    """The parts of a run that hold state."""

    model: GPT
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    state: State
    rt: Runtime
    seed: int

    def capture(self) -> dict[str, Any]:
        """All of it but the weights, in types that load with weights_only.

        Every rank must call, the main rank's is complete: each has random numbers of its own, and
        perhaps a shard of the moments.
        """
        return {
            **asdict(self.state),
            "optimizer": optimizer_state(self.model, self.optimizer, keep=self.rt.is_main),
            "scaler": self.scaler.state_dict(),
            "rng": self.rt.gathered(self.rt.rng_state()),
        }

    def save(self, folder: RunFolder, tokenizer: Tokenizer, card: dict[str, Any]) -> Path:
        """A checkpoint of this step, from which the same run can go on; every rank must call."""
        state, weights = self.capture(), plain_copy(self.model, self.rt)
        step = self.state.step
        return self.rt.on_main(
            lambda: folder.save(step, model=weights, tokenizer=tokenizer, card=card, trainer=state)
        )

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Put back what `capture` gave.

        On another number of ranks the rows and their order stay; dropout begins other numbers.
        """
        try:
            load_optimizer_state(self.model, self.optimizer, saved["optimizer"])
            self.scaler.load_state_dict(saved["scaler"])
            for name in asdict(self.state):
                setattr(self.state, name, saved[name])
            if len(saved["rng"]) == self.rt.n_ranks:
                self.rt.set_rng_state(saved["rng"][self.rt.rank])
            else:
                self.rt.seed_rank(self.seed, self.state.step)
                console.note(
                    f"resuming on {self.rt.n_ranks} processes what {len(saved['rng'])} began: the "
                    "same rows in the same order, other dropout"
                )
        except KeyError as missing:
            raise CheckpointError(
                f"the training state lacks {missing}; use the weights alone, by --init_from"
            ) from None


def plain_copy(model: GPT, rt: Runtime) -> GPT:
    """The model as it would be on one process, uncompiled, in evaluation mode.

    It shares its weights with a model that is not sharded. Of one that is, every rank must call,
    and gets all weights.
    """
    weights = {name: whole(tensor.detach()) for name, tensor in model.state_dict().items()}
    with torch.device("meta"):
        copy = GPT(model.config)
    copy.load_state_dict(weights, assign=True)
    return use_kernels(copy).eval()


def check_same_run(
    loaded: Loaded, settings: Mapping[str, Any], data: Prepared, *, force: bool
) -> None:
    """Refuse to go on with other data or another model, unless forced; say what else changed."""
    before = loaded.card.get("settings", {})
    changed = {
        key: f"{key} {before[key]} -> {value}"
        for key, value in settings.items()
        if before.get(key, value) != value
    }
    essential = [text for key, text in changed.items() if key in IDENTITY]
    was = loaded.card.get("data", {}).get("fingerprint", "unknown")
    if was != data.fingerprint:
        essential.append(f"data {was[:12]} -> {data.fingerprint[:12]} ({data.folder})")
    if essential and not force:
        raise CheckpointError(
            f"{loaded.folder} belongs to another run ({', '.join(essential)}); choose another "
            "--out, give the same settings again, or insist with --force_resume=True"
        )
    for text in [*changed.values(), *essential]:
        console.note(f"resuming with {text}")
