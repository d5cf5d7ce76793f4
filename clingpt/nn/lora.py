"""LoRA: train low-rank updates of a frozen model's matrices; adapters on disk in PEFT's layout.

Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models", section 4.1. Instead of W x, a
layer computes W x + (alpha / r) B A x, and only A (r, C) and B (O, r) are trained. B is initialised
to zero, so that training starts from the base model's outputs.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from clingpt.base import settings as config
from clingpt.base.errors import CheckpointError, ConfigError
from model import GPT

LAYERS = ("c_attn", "c_proj", "c_fc")  # of each block; c_proj is in attention and in the MLP
ADAPTER = "adapter"  # folder of the adapter inside a checkpoint
ADAPTER_WEIGHTS, ADAPTER_CONFIG = "adapter_model.safetensors", "adapter_config.json"  # PEFT's names
PREFIX, SUFFIX = "base_model.model.transformer.", ".weight"  # PEFT adds them to names of A and B
PARTS = (".lora_A", ".lora_B")


@dataclass(frozen=True, kw_only=True)
class Lora:
    """LoRA settings and the base model that they apply to, as stored in a checkpoint's card."""

    rank: int
    alpha: float  # the update is scaled by alpha / rank
    dropout: float = 0.0  # on the input of A
    targets: tuple[str, ...] = LAYERS
    base: str  # as given by --init_from
    base_sha256: str = ""  # of the base model's weights
    block_size: int = 0  # context in training, in tokens

    def __post_init__(self) -> None:
        config.check_range(self, "rank", at_least=1)
        names, known = " ".join(self.targets), ", ".join(LAYERS)
        fits = bool(self.targets) and {*self.targets} <= {*LAYERS}
        config.check(fits, f"lora_targets must be some of {known}, got {names or 'none'}")

    @property
    def scale(self) -> float:
        """Return the factor of the product B A."""
        return self.alpha / self.rank


class LoraLinear(nn.Linear):
    """A linear layer with a low-rank update; the frozen weight and bias keep their names."""

    def __init__(self, base: nn.Linear, lora: Lora) -> None:
        super().__init__(base.in_features, base.out_features, device="meta")
        self.weight, self.bias, self.scale = base.weight, base.bias, lora.scale
        self.dropout = nn.Dropout(lora.dropout)
        self.lora_A = nn.Parameter(base.weight.new_empty(lora.rank, base.in_features))
        self.lora_B = nn.Parameter(base.weight.new_zeros(base.out_features, lora.rank))
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))  # as in the paper's code

    def forward(self, x: Tensor) -> Tensor:
        update = F.linear(F.linear(self.dropout(x), self.lora_A), self.lora_B)
        return super().forward(x) + self.scale * update


def adapt(model: GPT, lora: Lora) -> None:
    """Freeze a model and add A and B to its target matrices, in place."""
    model.requires_grad_(False)
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Linear) and name in lora.targets:
                setattr(parent, name, LoraLinear(child, lora))


def adapter_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a state dict that are A or B."""
    return {name: tensor for name, tensor in weights.items() if name.endswith(PARTS)}


def merged_weights(model: GPT, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return an adapted model's weights with W + (alpha / r) B A in place of W, A and B."""
    merged = dict(weights)
    for name, layer in model.named_modules():
        if isinstance(layer, LoraLinear):
            A, B = (merged.pop(name + part) for part in PARTS)
            merged[f"{name}.weight"] = merged[f"{name}.weight"] + layer.scale * (B @ A)
    return merged


def weights_sha256(model: GPT) -> str:
    """Hash a model's weights, independently of the file format they came from.

    Position embeddings are left out, because --block_size may crop them.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if name != "wpe.weight":
            digest.update(name.encode())
            digest.update(tensor.contiguous().numpy())
    return digest.hexdigest()


# ------------------------------------------------------------------------------------------------
# On disk


def write_adapter(folder: Path, weights: Mapping[str, Tensor], lora: Lora, *, base: str) -> None:
    """Write A and B so that PEFT can load them; `base` is where it looks for the GPT-2."""
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
    """Read an adapter's settings from its card; raise CheckpointError if there are none."""
    if "lora" not in card:
        raise CheckpointError(
            f"{folder} has no card that names its base; merge an adapter from another tool "
            "in that tool (PEFT: merge_and_unload) and use the merged model here"
        )
    try:
        return config.from_dict(Lora, card["lora"], source=folder)
    except (ConfigError, AttributeError) as error:
        raise CheckpointError(f"the card of {folder} is damaged: {error}") from None


def check_base(model: GPT, lora: Lora, where: Path) -> None:
    """Raise CheckpointError if a model is not the one that an adapter was trained on."""
    found = weights_sha256(model)
    if found != lora.base_sha256:
        raise CheckpointError(
            f"{where} was trained on different weights than {lora.base} has now (sha256 "
            f"{lora.base_sha256[:12]}, found {found[:12]}); restore the original ones"
        )


def load_adapter(model: GPT, folder: Path) -> None:
    """Load A and B into a model prepared by `adapt`; raise CheckpointError on a mismatch."""
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
                f"{path}: {name} must be {tuple(wanted[name].shape)} finite numbers, but its shape "
                f"is {tuple(tensor.shape)} or it contains NaN or infinity"
            )
        wanted[name].copy_(tensor)
