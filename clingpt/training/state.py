"""What a training run must put back, beside the weights, to go on as if it had never stopped."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from clingpt.base import console
from clingpt.base.errors import CheckpointError
from clingpt.data.prepared import Prepared
from clingpt.nn.checkpoint import RunFolder, read_card
from clingpt.nn.kernels import use_kernels
from clingpt.nn.lora import (
    ADAPTER,
    Lora,
    adapt,
    adapter_weights,
    check_base,
    load_adapter,
    merged,
    read_lora,
    weights_sha256,
)
from clingpt.nn.runtime import Runtime, whole
from clingpt.text.tokenizer import Tokenizer
from clingpt.training.optim import load_optimizer_state, optimizer_state
from model import GPT

# Two runs that differ in one of these settings, or in their data, are not the same run.
IDENTITY = "init_from n_layer n_head n_embd block_size pack batch_size seed".split()
IDENTITY += "lora_rank lora_alpha lora_targets".split()


@dataclass
class State:
    """Where a run stands: what changes with the steps, weights and moments aside."""

    step: int = 0
    tokens: int = 0  # seen so far, padding not counted
    examples: int = 0  # likewise; one seen in two epochs counts twice


@dataclass(frozen=True)
class Trained:
    """The parts of a run that hold state, and where they are kept."""

    folder: RunFolder
    model: GPT
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    state: State
    rt: Runtime
    seed: int
    lora: Lora | None  # what is trained in place of the weights, if not they themselves
    receipts: list[Mapping[str, Any]]  # of all data that went into these weights

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

    def save(self, tokenizer: Tokenizer, card: dict[str, Any]) -> Path:
        """A checkpoint of this step, from which the same run can go on; every rank must call."""
        trainer, weights = self.capture(), whole_weights(self.model)
        card = {**card, "receipts": self.receipts, "tokenizer": tokenizer.fingerprint}
        return self.rt.on_main(
            lambda: self.folder.save(
                self.state.step,
                model=merged(self.model, weights),
                tokenizer=tokenizer,
                card=card,
                trainer=trainer,
                adapter=(self.lora, adapter_weights(weights)) if self.lora else None,
            )
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
    """The model as it would be on one process, uncompiled and merged, in evaluation mode.

    It shares its weights with a model that is not sharded, but those that LoRA changes. Of one that
    is, every rank must call, and gets all weights.
    """
    return use_kernels(merged(model, whole_weights(model))).eval()


def whole_weights(model: GPT) -> dict[str, Tensor]:
    """A model's state by name, put together where it is sharded; then every rank must call."""
    return {name: whole(tensor.detach()) for name, tensor in model.state_dict().items()}


def begin_or_resume_lora(model: GPT, lora: Lora, newest: Path | None) -> Lora:
    """Make a base ready to be adapted, its A and B those of the newest checkpoint if there is one.

    Gives what is known of the base from here on. CheckpointError where the base is not the one that
    the checkpoint was trained on: the same steps would lead elsewhere.
    """
    known = replace(lora, base_sha256=weights_sha256(model), block_size=model.config.block_size)
    if newest is not None:
        if not (newest / ADAPTER).is_dir():
            raise CheckpointError(
                f"{newest} has no adapter: all weights were trained; give --lora_rank=0 to go on"
            )
        check_base(model, read_lora(read_card(newest), newest), newest)
    adapt(model, lora)
    if newest is not None:
        load_adapter(model, newest / ADAPTER)
    return known


def check_same_run(
    newest: Path, settings: Mapping[str, Any], data: Prepared, *, force: bool
) -> None:
    """Refuse to go on with other data or another model, unless forced; say what else changed."""
    card = read_card(newest)
    before = card.get("settings", {})
    changed = {
        key: f"{key} {before[key]} -> {value}"
        for key, value in settings.items()
        if before.get(key, value) != value
    }
    essential = [text for key, text in changed.items() if key in IDENTITY]
    was = card.get("data", {}).get("fingerprint", "unknown")
    if was != data.fingerprint:
        essential.append(f"data {was[:12]} -> {data.fingerprint[:12]} ({data.folder})")
    if essential and not force:
        raise CheckpointError(
            f"{newest} belongs to another run ({', '.join(essential)}); choose another "
            "--out, give the same settings again, or insist with --force_resume=True"
        )
    for text in [*changed.values(), *essential]:
        console.note(f"resuming with {text}")
