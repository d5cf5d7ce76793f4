"""Compare logits, losses and gradients with transformers' GPT-2."""

import math
from typing import Any

import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel
from transformers.pytorch_utils import Conv1D

from model import GPT, Batch


def largest_difference(ours: Tensor, theirs: Tensor) -> float:
    """Return the largest difference relative to the largest entry; infinite for NaN."""
    difference = (ours - theirs).abs().max() / theirs.abs().max()
    return float(difference.detach().nan_to_num(math.inf))


def rows_of(ids_BT: Tensor) -> Batch:
    """Build rows of one document each, as transformers trains on them with labels=ids."""
    B, T = ids_BT.shape
    place_BT = torch.arange(B * T).view(B, T)
    return Batch(
        ids_BT,
        torch.arange(T).expand(B, T).contiguous(),
        torch.arange(B + 1) * T,
        place_BT[:, :-1].reshape(1, -1),
        ids_BT[:, 1:].reshape(1, -1),
    )


def differences(ours: GPT, theirs: Any, ids_BT: Tensor) -> dict[str, float]:
    """Return how much logits, loss and each parameter's gradient differ from transformers'."""
    output = theirs(ids_BT, labels=ids_BT)
    output.loss.backward()
    loss = ours(rows_of(ids_BT)) / ids_BT[:, 1:].numel()
    loss.backward()
    return {
        "logits": largest_difference(ours(ids_BT), output.logits),
        "loss": largest_difference(loss, output.loss),
        **gradient_differences(ours, theirs),
    }


def gradient_differences(ours: GPT, theirs: Any) -> dict[str, float]:
    """Return how much each parameter's gradient differs from transformers'."""
    found = {}
    transposed = {f"{n}.weight" for n, m in theirs.named_modules() if isinstance(m, Conv1D)}
    gradients = {f"transformer.{n}": p.grad for n, p in ours.named_parameters()}
    for name, parameter in theirs.named_parameters():
        gradient = gradients.pop(name)
        assert gradient is not None
        if name == "transformer.wte.weight":
            assert not gradient[len(parameter) :].any()  # the vocabulary's padding
            gradient = gradient[: len(parameter)]
        gradient = gradient.t() if name in transposed else gradient
        found[name] = largest_difference(gradient, parameter.grad)
    assert not gradients
    return found


def build_theirs(attention: str = "eager", **shape: Any) -> Any:
    torch.manual_seed(3)
    config = GPT2Config(initializer_range=0.15, attn_pdrop=0, embd_pdrop=0, resid_pdrop=0, **shape)
    config._attn_implementation = attention
    theirs = GPT2LMHeadModel(config)
    for parameter in theirs.parameters():  # biases and norms too, which start as 0 and 1
        parameter.data += 0.1 * torch.randn_like(parameter)
    return theirs
