"""What a run restores, besides the weights, to continue as if it had never been interrupted."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from clingpt.base import console
from clingpt.base.errors import CheckpointError
from clingpt.data.prepared import Prepared
from clingpt.nn.checkpoint import from_weights, read_card
from clingpt.nn.lora import (
    ADAPTER,
    PARTS,
    Lora,
    adapt,
    check_base,
    load_adapter,
    merged_weights,
    read_lora,
    weights_sha256,
)
from clingpt.nn.runtime import Runtime, spread_like, whole
from model import GPT

# Settings that make a run what it is: resuming with a different value needs --force_resume.
IDENTITY = "init_from n_layer n_head n_embd block_size pack batch_size label_weight seed".split()
IDENTITY += "lora_rank lora_alpha lora_targets optimizer".split()


@dataclass
class State:
    """Everything that changes from step to step; each process has its own random numbers."""

    model: GPT
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    step: int = 0
    tokens: int = 0  # seen so far, without padding
    examples: int = 0  # seen so far; one seen in two epochs counts twice


def capture(state: State, rt: Runtime) -> dict[str, Any]:
    """Return everything except the weights, in types that load with weights_only=True.

    Every rank must call this, since each has its own random numbers and under FSDP a shard of the
    moments. Only the main rank's result is complete.
    """
    return {
        "step": state.step,
        "tokens": state.tokens,
        "examples": state.examples,
        "optimizer": optimizer_state(state.model, state.optimizer, keep=rt.is_main),
        "scaler": state.scaler.state_dict(),
        "rng": rt.gathered(rt.rng_state()),  # of all ranks: each draws its own dropout
    }


def restore(state: State, saved: Mapping[str, Any], rt: Runtime, *, seed: int) -> None:
    """Restore what `capture` returned; raise CheckpointError if a part is missing.

    On a different number of ranks, the rows and their order stay the same, but dropout masks
    change: there is no way to divide the random numbers of two ranks among three.
    """
    try:
        load_optimizer_state(state.model, state.optimizer, saved["optimizer"])
        state.scaler.load_state_dict(saved["scaler"])
        state.step, state.tokens = saved["step"], saved["tokens"]
        state.examples = saved["examples"]
        rng_by_rank = saved["rng"]
    except KeyError as missing:
        raise CheckpointError(
            f"the training state lacks {missing}, so this run cannot be resumed; start a new one "
            "from its weights with --init_from"
        ) from None
    if len(rng_by_rank) == rt.n_ranks:
        rt.set_rng_state(rng_by_rank[rt.rank])
    else:
        rt.seed_rank(seed, state.step)
        console.note(
            f"this run was started on {len(rng_by_rank)} processes and is resumed on {rt.n_ranks}: "
            "rows and their order stay the same, dropout masks differ"
        )


def optimizer_state(
    model: nn.Module, optimizer: torch.optim.Optimizer, *, keep: bool = True
) -> dict[str, dict[str, Tensor]]:
    """Return the optimizer's moments by parameter name, gathered, on the host.

    Names rather than positions, so that they load into any grouping and any number of ranks. If
    the moments are sharded, every rank must call this; one without `keep` gets an empty dict.
    """
    names: dict[Tensor, str] = {p: name for name, p in model.named_parameters()}
    moments: dict[str, dict[str, Tensor]] = {}
    for parameter, state in optimizer.state.items():
        for key, value in state.items():
            tensor = whole(value)
            if keep:
                moments.setdefault(names[parameter], {})[key] = tensor.cpu()
    return moments


def load_optimizer_state(
    model: nn.Module, optimizer: torch.optim.Optimizer, moments: dict[str, dict[str, Tensor]]
) -> None:
    """Load moments from `optimizer_state`; raise KeyError if only some parameters have any.

    No parameter has any if the optimizer keeps none, such as SGD without momentum.
    """
    if not moments:
        return
    names = {parameter: name for name, parameter in model.named_parameters()}
    order = [p for group in optimizer.param_groups for p in group["params"]]
    groups = optimizer.state_dict()["param_groups"]
    state = {
        number: {
            # Cloned, since the loaded tensor may be mapped from trainer.pt.
            key: spread_like(tensor.clone(), parameter)
            for key, tensor in moments[names[parameter]].items()
        }
        for number, parameter in enumerate(order)
    }
    optimizer.load_state_dict({"state": state, "param_groups": groups})


# ------------------------------------------------------------------------------------------------
# Weights


def whole_weights(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Gather the tensors of a state dict; if they are sharded, every rank must call this."""
    return {name: whole(tensor.detach()) for name, tensor in state.items()}


def plain_copy(model: GPT, *, lora: bool, merged: bool = True) -> GPT:
    """Return the model as one process would load it: gathered, merged, uncompiled, in eval mode.

    No memory is copied, except for sharded weights and for those that LoRA changes. If it is not to
    be `merged`, LoRA's base is returned. If the model is sharded, every rank must call this.
    """
    weights = whole_weights(model.state_dict())
    if lora and not merged:
        base = {name: tensor for name, tensor in weights.items() if not name.endswith(PARTS)}
        return from_weights(model.config, base).eval()
    return from_weights(model.config, merged_weights(model, weights) if lora else weights).eval()


def begin_or_resume_lora(model: GPT, lora: Lora, newest: Path | None) -> Lora:
    """Add LoRA to a base model, with the newest checkpoint's adapter weights if there is one.

    Returns `lora` completed by the base's hash and context. Raises CheckpointError if the base is
    not the one that the checkpoint was trained on, since the same steps would then lead elsewhere.
    """
    completed = replace(lora, base_sha256=weights_sha256(model), block_size=model.config.block_size)
    if newest is not None:
        if not (newest / ADAPTER).is_dir():
            raise CheckpointError(
                f"{newest} has no adapter, because all weights were trained; resume it with "
                "--lora_rank=0"
            )
        check_base(model, read_lora(read_card(newest), newest), newest)
    adapt(model, lora)
    if newest is not None:
        load_adapter(model, newest / ADAPTER)
    return completed


# ------------------------------------------------------------------------------------------------
# Is it the same run?


def check_same_run(
    newest: Path, settings: Mapping[str, Any], data: Prepared, *, force: bool
) -> None:
    """Refuse to resume with different data or another model unless forced; note other changes."""
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
            f"{newest} belongs to another run ({', '.join(essential)}); choose another --out, use "
            "the old settings, or resume anyway with --force_resume"
        )
    for text in dict.fromkeys([*changed.values(), *essential]):
        console.note(f"resuming with {text}")
