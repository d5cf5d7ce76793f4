"""Write nanoGPT's ckpt.pt, from which its sample.py samples and its train.py trains on.

github.com/karpathy/nanoGPT fixes the width of the MLP, the epsilon of LayerNorm and the activation
in its model.py: what differs is refused by name, except that its GELU is the exact one, while GPT-2
was trained with the tanh form. Its own from_pretrained has the same difference.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from clingpt.base.errors import CheckpointError
from clingpt.export.plain import iter_weights
from clingpt.text.tokenizer import GPT2_FINGERPRINT, Tokenizer
from model import GPT

FILE = "ckpt.pt"
EPSILON = 1e-5
# What nanoGPT's train.py starts with, if it starts from OpenAI's weights.
START: dict[str, Any] = {"iter_num": 0, "best_val_loss": 1e9}
ADAMW: dict[str, Any] = {"lr": 6e-4, "betas": (0.9, 0.95)}
WEIGHT_DECAY = 0.1


def check_shape(model: GPT) -> None:
    """Raise CheckpointError if nanoGPT's model.py cannot have the model's shape."""
    config = model.config
    wrong = {
        f"n_inner is {config.mlp_size}": config.mlp_size != 4 * config.n_embd,
        f"layer_norm_epsilon is {config.layer_norm_epsilon}": config.layer_norm_epsilon != EPSILON,
    }
    for reason in (name for name, is_wrong in wrong.items() if is_wrong):
        raise CheckpointError(
            f"the model's {reason}, but nanoGPT has only 4 * n_embd and {EPSILON}; use --format=hf"
        )


def tokenizer_note(tokenizer: Tokenizer) -> str | None:
    """Return a sentence about a vocabulary that nanoGPT does not have, or None."""
    if tokenizer.fingerprint == GPT2_FINGERPRINT:
        return None
    return (
        f"nanoGPT encodes text with GPT-2's tokenizer, but the model has {tokenizer.name}: its "
        "sample.py will read and write other words unless you replace its encode and decode"
    )


def write(model: GPT, path: Path, *, facts: Mapping[str, str]) -> None:
    """Write the checkpoint; `facts` about its origin are in its `config`."""
    config = model.config
    weights = {f"transformer.{name}": tensor for name, tensor in iter_weights(model)}
    # A slice would be saved with all of its memory, the padding.
    head = weights["transformer.wte.weight"].clone()
    weights |= {"transformer.wte.weight": head, "lm_head.weight": head}
    names = ("n_layer", "n_head", "n_embd", "block_size", "vocab_size", "dropout")
    # AdamW of train.py in two groups, matrices and vectors, before its first step.
    groups = [sum((w.dim() > 1) == decays for w in weights.values()) - decays for decays in (1, 0)]
    optimizer = torch.optim.AdamW(
        [
            {"params": [nn.Parameter(torch.empty(0)) for _ in range(n)], "weight_decay": decay}
            for n, decay in zip(groups, (WEIGHT_DECAY, 0.0), strict=True)
        ],
        **ADAMW,
    )
    content = {
        "model": weights,
        "optimizer": optimizer.state_dict(),
        "model_args": {name: getattr(config, name) for name in names} | {"bias": True},
        **START,
        "config": dict(facts),
    }
    with path.open("wb") as file:  # torch aborts the process if it writes to a full disk itself
        torch.save(content, file)


def verify(model: GPT, path: Path) -> int:
    """Read a checkpoint again; return the number of tensors, all equal to the model's.

    Raises CheckpointError if one differs.
    """
    found = torch.load(path, map_location="cpu", weights_only=True, mmap=True)["model"]
    for name, tensor in iter_weights(model):
        if not torch.equal(found[f"transformer.{name}"], tensor):
            raise CheckpointError(f"{FILE} differs from the model in {name}; nothing was written")
    return len(found) - 1  # the head is the embedding
