"""LoRA: a frozen model whose matrices learn an update of low rank, and such adapters on disk.

Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models", section 4.1: in place of W x a
layer gives W x + (alpha / r) B A x, and A (r, C) and B (O, r) alone are trained. B begins at zero,
so that training begins at the base itself. On disk adapters have PEFT's names and layout.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from clingpt.base import settings as config
from clingpt.base.errors import CheckpointError, ConfigError
from model import GPT

LAYERS = ("c_attn", "c_proj", "c_fc")  # a block's; c_proj stands in attention and in the MLP
ADAPTER = "adapter"  # in a checkpoint, the folder of its adapter
ADAPTER_WEIGHTS, ADAPTER_CONFIG = "adapter_model.safetensors", "adapter_config.json"  # PEFT's names
PREFIX, SUFFIX = "base_model.model.transformer.", ".weight"  # around our names of A and B
PARTS = (".lora_A", ".lora_B")


@dataclass(frozen=True, kw_only=True)
class Lora:
    """What is trained, and of which weights it is an update; checkpoints keep it in their card."""

    rank: int
    alpha: float  # the update is scaled by alpha / rank
    dropout: float = 0.0  # of what A reads
    targets: tuple[str, ...] = LAYERS
    base: str  # as --init_from names it
    base_sha256: str = ""  # of its weights
    block_size: int = 0  # its context while training, in tokens

    def __post_init__(self) -> None:
        config.check_range(self, "rank", at_least=1)
        names, known = " ".join(self.targets), ", ".join(LAYERS)
        fits = bool(self.targets) and {*self.targets} <= {*LAYERS}
        config.check(fits, f"lora_targets must be some of {known}, got {names or 'none'}")

    @property
    def scale(self) -> float:
        """Of the product B A."""
        return self.alpha / self.rank


class LoraLinear(nn.Linear):
    """A linear layer with an update of low rank; weight and bias keep their names, and are kept."""

    def __init__(self, base: nn.Linear, lora: Lora) -> None:
        super().__init__(base.in_features, base.out_features, device="meta")
        self.weight, self.bias, self.scale = base.weight, base.bias, lora.scale
        self.dropout = nn.Dropout(lora.dropout)
        self.lora_A = nn.Parameter(base.weight.new_empty(lora.rank, base.in_features))
        self.lora_B = nn.Parameter(base.weight.new_zeros(base.out_features, lora.rank))
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))  # as the paper's own code has it

    def forward(self, x: Tensor) -> Tensor:
        update = F.linear(F.linear(self.dropout(x), self.lora_A), self.lora_B)
        return super().forward(x) + self.scale * update


def adapt(model: GPT, lora: Lora) -> None:
    """Freeze a model and give its target matrices their A and B; in place."""
    model.requires_grad_(False)
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Linear) and name in lora.targets:
                setattr(parent, name, LoraLinear(child, lora))


def adapter_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those of a state's tensors that are A or B."""
    return {name: tensor for name, tensor in weights.items() if name.endswith(PARTS)}


def merged(model: GPT, weights: Mapping[str, Tensor]) -> GPT:
    """A plain model of a state of this one, W + (alpha / r) B A in place of W, A and B.

    Of a model without LoRA the same weights; what is not changed is shared.
    """
    state = dict(weights)
    for name, layer in model.named_modules():
        if isinstance(layer, LoraLinear):
            A, B = (state.pop(name + part) for part in PARTS)
            state[f"{name}.weight"] = state[f"{name}.weight"] + layer.scale * (B @ A)
    with torch.device("meta"):
        plain = GPT(model.config)
    plain.load_state_dict(state, assign=True)
    return plain


def weights_sha256(model: GPT) -> str:
    """What a model's weights are, whatever file they came from; positions, which may be cropped,
    are left out."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if name != "wpe.weight":
            digest.update(name.encode())
            digest.update(tensor.contiguous().numpy())
    return digest.hexdigest()


# ------------------------------------------------------------------------------------------------
# On disk


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter and no model."""
    names = (ADAPTER_WEIGHTS, ADAPTER_CONFIG)
    return any((folder / name).exists() for name in names) and not (folder / "config.json").exists()


def write_adapter(folder: Path, weights: Mapping[str, Tensor], lora: Lora, *, base: str) -> None:
    """A and B by our names, as PEFT reads them on the GPT-2 that it finds at `base`."""
    tensors = {PREFIX + name + SUFFIX: t.contiguous().cpu() for name, t in weights.items()}
    save_file(tensors, folder / ADAPTER_WEIGHTS, metadata={"format": "pt"})
    (folder / ADAPTER_WEIGHTS).chmod(0o644)  # safetensors creates 0600
    settings = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": lora.rank,
        "lora_alpha": lora.alpha,
        "lora_dropout": lora.dropout,
        "target_modules": list(lora.targets),
        "fan_in_fan_out": True,  # GPT-2's Conv1D keeps W as (in, out)
        "bias": "none",
        "inference_mode": True,
    }
    (folder / ADAPTER_CONFIG).write_text(json.dumps(settings, indent=2) + "\n")


def read_lora(card: Mapping[str, Any], folder: Path) -> Lora:
    """What a card says of its adapter; CheckpointError where it says nothing, or what it cannot."""
    if "lora" not in card:
        raise CheckpointError(
            f"{folder} has no card that names its base; adapters of other tools are to be merged "
            "by them (PEFT: merge_and_unload), and the whole model given here"
        )
    try:
        return config.from_dict(Lora, card["lora"], source=folder)
    except (ConfigError, AttributeError) as error:
        raise CheckpointError(f"the card of {folder} is damaged: {error}") from None


def check_base(model: GPT, lora: Lora, where: Path) -> None:
    """CheckpointError where a model is not the one that an adapter was trained on."""
    found = weights_sha256(model)
    if found != lora.base_sha256:
        raise CheckpointError(
            f"{where} was trained on other weights than {lora.base} has now (sha256 "
            f"{lora.base_sha256[:12]}, found {found[:12]}); put those back that it was trained on"
        )


def load_adapter(model: GPT, folder: Path) -> None:
    """Put an adapter's A and B into a model that `adapt` made ready; CheckpointError if they do
    not fit it."""
    wanted, path = adapter_weights(model.state_dict()), folder / ADAPTER_WEIGHTS
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    found = {name.removeprefix(PREFIX).removesuffix(SUFFIX): t for name, t in tensors.items()}
    if different := wanted.keys() ^ found.keys():
        raise CheckpointError(f"{path} does not fit its settings: see {min(different)}")
    for name, tensor in found.items():
        if tensor.shape != wanted[name].shape or not tensor.isfinite().all():
            raise CheckpointError(
                f"{path}: {name} must be {tuple(wanted[name].shape)} finite numbers, is "
                f"{tuple(tensor.shape)}"
            )
        wanted[name].copy_(tensor)
