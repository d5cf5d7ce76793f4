"""LoRA: train low-rank updates of a frozen model's matrices; adapters on disk in PEFT's layout.

Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models", section 4.1. Instead of W x, a
layer computes W x + (alpha / r) B A x, and only A (r, C) and B (O, r) are trained. B is initialised
to zero, so that training starts from the base model's outputs.
"""

import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from clingpt.base import settings as config
from clingpt.base.errors import CheckpointError, ConfigError, why_not_read
from model import GPT, own_name, transposed

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
    base_dtype: str = "float32"  # in which they were kept, and so hashed
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
        weight = base.weight
        # The base may be kept in 16 bits, which are too few for the small steps of training.
        wide = torch.promote_types(weight.dtype, torch.float32)
        self.lora_A = nn.Parameter(weight.new_empty(lora.rank, base.in_features, dtype=wide))
        self.lora_B = nn.Parameter(weight.new_zeros(base.out_features, lora.rank, dtype=wide))
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
            merged[f"{name}.weight"] = _updated(merged[f"{name}.weight"], A, B, layer.scale)
    return merged


def _updated(weight: Tensor, A: Tensor, B: Tensor, scale: float) -> Tensor:
    """Return W + scale B A in the type of W, computed in fp32 if W has 16 bits."""
    wide = torch.promote_types(weight.dtype, torch.float32)
    return (weight + scale * (B.to(wide) @ A.to(wide))).to(weight.dtype)


def merging(lora: Lora, weights: Mapping[str, Tensor]) -> Callable[[str, Tensor], Tensor]:
    """Return a function that merges A and B into a base's tensors, by the Hub's names and layout.

    It computes the bits of `merged_weights`, one matrix at a time.
    """

    def merge(hub_name: str, tensor: Tensor) -> Tensor:
        name = own_name(hub_name)
        A, B = (weights.get(name.removesuffix(".weight") + part) for part in PARTS)
        if A is None or B is None:
            return tensor
        return transposed(name, _updated(transposed(name, tensor), A, B, lora.scale))

    return merge


def weights_sha256(model: GPT) -> str:
    """Hash a model's weights, independently of the file format they came from.

    Position embeddings are left out, because --block_size may crop them.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if name != "wpe.weight":
            digest.update(name.encode())
            digest.update(tensor.contiguous().view(torch.uint8).numpy())  # also of bfloat16
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
    """Read an adapter's settings from its card; raise CheckpointError if it is damaged."""
    try:
        return config.from_dict(Lora, card["lora"], source=folder)
    except (ConfigError, AttributeError, KeyError) as error:
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


# ------------------------------------------------------------------------------------------------
# Adapters of other tools, in PEFT's layout (github.com/huggingface/peft, src/peft/tuners/lora)

# Initialisations that leave the base as it is. Others, such as PiSSA's, move a part of its weights
# into A and B, and are merged only by PEFT.
PLAIN_STARTS = (True, False, None, "gaussian", "eva", "orthogonal")
# Settings that change what an adapter computes, and are not supported.
REFUSED = (
    "use_dora use_qalora use_bdlora lora_bias layer_replication target_parameters "
    "trainable_token_indices alora_invocation_tokens arrow_config kasa_config velora_config "
    "monteclora_config megatron_config"
).split()
MERGE_THERE = "merge it in PEFT (merge_and_unload) and use the merged model here"


def read_peft(folder: Path) -> dict[str, Any]:
    """Read an adapter_config.json; raise CheckpointError for what is not plain LoRA of a GPT-2."""
    path = folder / ADAPTER_CONFIG
    try:
        peft = json.loads(path.read_text("utf-8"))
        kind, task = peft.get("peft_type"), peft.get("task_type")
    except (OSError, ValueError, AttributeError):
        raise CheckpointError(f"{path} is missing or does not describe an adapter") from None
    wrong = ""
    if kind != "LORA":
        wrong = f"is a PEFT adapter of the type {kind}, not LORA"
    elif task not in (None, "CAUSAL_LM"):
        wrong = f"is an adapter for the task {task}, which does not write text"
    elif used := [name for name in REFUSED if peft.get(name)]:
        wrong = f"is a LoRA adapter with {used[0]}, which is not supported"
    elif peft.get("init_lora_weights") not in PLAIN_STARTS:
        wrong = f"is a LoRA adapter that began as {peft['init_lora_weights']}, with a changed base"
    elif not isinstance(peft.get("lora_alpha"), int | float):
        wrong = "is an adapter without lora_alpha"
    if wrong:
        raise CheckpointError(f"{folder} {wrong}; {MERGE_THERE}")
    return dict(peft)


def merge_adapter(model: GPT, folder: Path, peft: Mapping[str, Any], *, pickles: bool) -> None:
    """Add an adapter's updates to a model's weights, in place and one matrix at a time.

    Which matrices they are follows from the file, not from target_modules. Biases and whole modules
    that were trained beside them (`bias`, `modules_to_save`) replace the model's. Raises
    CheckpointError for tensors that do not fit.
    """
    path, tensors = _adapter_tensors(folder, pickles=pickles)
    parameters = dict(model.named_parameters())
    for name, tensor in tensors.items():
        if not (tensor.is_floating_point() and tensor.isfinite().all()):
            raise CheckpointError(f"{path}: {name} must be finite numbers, but is not")
    updates = {name.removesuffix(".lora_A.weight") for name in tensors if ".lora_A." in name}
    with torch.no_grad():
        for name in sorted(updates):
            try:
                A, B = (tensors.pop(f"{name}{part}.weight") for part in PARTS)
                weight = parameters[f"{name}.weight"]
            except KeyError:
                raise CheckpointError(f"{path} does not fit its base: see {name}") from None
            shape = (len(B), *A.shape[1:])
            if shape != weight.shape or B.shape[1:] != A.shape[:1] or name in ("wte", "wpe"):
                raise CheckpointError(
                    f"{path} does not fit its base: see {name}, which is {tuple(weight.shape)} in "
                    f"the base and {shape} in the adapter"
                )
            weight.copy_(_updated(weight, A, B, _scale_of(name, len(A), peft)))
        for name, tensor in tensors.items():
            if name.startswith(("wte.", "lm_head.")):
                raise CheckpointError(
                    f"{folder} is an adapter with an embedding or output head of its own ({name}), "
                    f"which is not supported; {MERGE_THERE}"
                )
            if name not in parameters or ".lora_" in name:
                raise CheckpointError(f"{path} does not fit its base: see {name}")
            own = transposed(name, tensor)
            if own.shape != parameters[name].shape:
                raise CheckpointError(f"{path} does not fit its base: see {name}")
            parameters[name].copy_(own)


def _adapter_tensors(folder: Path, *, pickles: bool) -> tuple[Path, dict[str, Tensor]]:
    """Return the adapter's file, and its tensors by our names of what they change."""
    path = folder / ADAPTER_WEIGHTS
    if not path.exists() and (folder / "adapter_model.bin").exists():
        path = folder / "adapter_model.bin"
        if not pickles:
            raise CheckpointError(
                f"{folder} has no {ADAPTER_WEIGHTS} but {path.name}, and such files can contain "
                f"code; {MERGE_THERE}"
            )
    try:
        if path.suffix == ".bin":
            found = torch.load(path, map_location="cpu", weights_only=True)
        else:
            found = load_file(path)
    except Exception as error:  # torch.load of a broken file raises private types
        raise CheckpointError(f"{path} cannot be read: {why_not_read(error)}") from error
    named = {}
    for name, tensor in found.items():
        name = own_name(name.removeprefix("base_model.model.").replace(".base_layer.", "."))
        named[name.replace(".modules_to_save.default.", ".")] = tensor
    return path, named


def _scale_of(name: str, rank: int, peft: Mapping[str, Any]) -> float:
    """Return the factor of B A in one matrix: alpha / r or, with rsLoRA, alpha / sqrt(r)."""
    patterns = peft.get("alpha_pattern") or {}
    matching = (
        a for key, a in patterns.items() if re.match(rf"(.*\.)?({key})$", f"transformer.{name}")
    )
    alpha = float(next(matching, peft["lora_alpha"]))
    return alpha / (math.sqrt(rank) if peft.get("use_rslora") else rank)
