"""What a training run must put back, beside the weights, to go on as if it had never stopped."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch

from clingpt import console
from clingpt.checkpoint import Loaded
from clingpt.errors import CheckpointError
from clingpt.optim import load_optimizer_state, optimizer_state
from clingpt.prepared import Prepared
from clingpt.runtime import Runtime
from model import GPT

# Two runs that differ in one of these settings, or in their data, are not the same run.
IDENTITY = ("init_from", "n_layer", "n_head", "n_embd", "block_size", "pack", "batch_size", "seed")


@dataclass
class State:
    """Where a run stands: what changes with the steps, weights and moments aside."""

    step: int = 0
    tokens: int = 0  # seen so far, padding not counted


@dataclass(frozen=True, kw_only=True)
class Trained:
    """The parts of a run that hold state."""

    model: GPT
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    state: State
    rt: Runtime

    def capture(self) -> dict[str, Any]:
        """All of it but the weights, in types that load with weights_only."""
        return {
            **asdict(self.state),
            "optimizer": optimizer_state(self.model, self.optimizer),
            "scaler": self.scaler.state_dict(),
            "rng": self.rt.rng_state(),
        }

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Put back what `capture` gave."""
        try:
            load_optimizer_state(self.model, self.optimizer, saved["optimizer"])
            self.scaler.load_state_dict(saved["scaler"])
            self.rt.set_rng_state(saved["rng"])
            for name in asdict(self.state):
                setattr(self.state, name, saved[name])
        except KeyError as missing:
            raise CheckpointError(
                f"the training state lacks {missing}; use the weights alone, by --init_from"
            ) from None


def check_same_run(loaded: Loaded, settings: Mapping[str, Any], data: Prepared) -> None:
    """Refuse to go on with other data or another model; say what else changed."""
    before = loaded.card.get("settings", {})
    changed = {
        key: f"{key} {before[key]} -> {value}"
        for key, value in settings.items()
        if before.get(key, value) != value
    }
    essential = [text for key, text in changed.items() if key in IDENTITY]
    if loaded.card.get("data", {}).get("fingerprint") != data.fingerprint:
        essential.append(f"the data in {data.folder}")
    if essential:
        raise CheckpointError(
            f"{loaded.folder} belongs to another run ({', '.join(essential)}); choose another "
            "--out, or give the same settings again"
        )
    for text in changed.values():
        console.note(f"resuming with {text}")
