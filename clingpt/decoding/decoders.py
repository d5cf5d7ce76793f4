"""Prepare a model for decoding: the fastest linear layers for its device, or 8-bit ones.

On the CPU, small batches are limited by how fast weights are read, so weights are laid out for few
rows (oneDNN) or stored in 8 bits. Either way, a row's result has the same bits whatever the number
of rows. The engine relies on this. On CUDA, steps are replayed from graphs (cuda_graphs.py).

On the CPU the model is changed in place and its original weights are freed: it can decode and be
evaluated, but not be trained or saved. Shapes: R rows, C input channels, O output channels, V
vocabulary.
"""

import copy
import warnings
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clingpt.base import console
from clingpt.base.errors import ConfigError
from clingpt.decoding.cuda_graphs import GraphedDecoder
from clingpt.decoding.engine import Decoder
from clingpt.nn.runtime import Runtime
from model import ACTIVATIONS, GPT, MLP

Quantize = Literal["none", "int8"]
LinearFunction = Callable[[Tensor], Tensor]  # (..., C) -> (..., O)


def make_decoder(model: GPT, rt: Runtime, *, quantize: Quantize = "none") -> Decoder:
    """Return a decoder with the model's weights, in the precision of the runtime.

    On the CPU it is the model itself, changed, so that evaluation losses are computed with the same
    layers as generated text. On CUDA it is a copy, because losses there stay in fp32.
    """
    if quantize == "int8":
        if rt.weights != torch.float32:
            raise ConfigError("--quantize=int8 rounds weights in float32; drop --weights")
        if rt.device.type != "cpu" or rt.dtype != torch.float32:
            raise ConfigError(
                f"--quantize=int8 is for the CPU in float32, not {rt.device.type} in "
                f"{str(rt.dtype)[6:]}; drop it, or pass --device=cpu --dtype=float32"
            )
        if not have_int8():
            console.note(
                "this PyTorch has no 8-bit kernels for this CPU: weights are rounded to 8 bits, "
                "but decoding is as slow as in float32"
            )
        replace_linear_layers(model, int8_linear)
    elif rt.device.type == "cpu" and rt.dtype == torch.float32 and have_onednn():
        replace_linear_layers(model, packed_linear)
    elif rt.device.type == "cuda":
        in_place = model.wte.weight.dtype == rt.dtype  # nothing to convert, and it is only read
        return GraphedDecoder(model if in_place else copy.deepcopy(model).to(rt.dtype))
    return model


class WeightlessLinear(nn.Module):
    """A linear layer whose weights exist only in the layout of the function that applies them."""

    def __init__(self, function: LinearFunction) -> None:
        super().__init__()
        self._function = function

    def forward(self, x: Tensor) -> Tensor:
        return self._function(x)


def replace_linear_layers(
    model: GPT, make: Callable[[Tensor, Tensor | None], LinearFunction]
) -> None:
    """Replace every linear layer of the model, and its output head, with `make(weight, bias)`."""
    # Without the layers themselves: a list of them would keep all their weights until the end.
    parents = [module for module in model.modules() if not isinstance(module, nn.Linear)]
    for parent in parents:
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Dropout):
                setattr(parent, name, nn.Identity())  # inactive, but calling it takes time
            if isinstance(child, nn.Linear):
                weight_OC, bias_O = child.weight.detach(), child.bias.detach()
                if make is packed_linear and isinstance(parent, MLP) and name == "c_fc":
                    # Fused, because PyTorch's own GELU rounds the elements at the end of a thread's
                    # share differently, and so depends on the number of rows.
                    function = packed_linear(weight_OC, bias_O, parent.activation)
                    parent.activation = nn.Identity()
                else:
                    function = make(weight_OC, bias_O)
                setattr(parent, name, WeightlessLinear(function))
    weight_VC = model.wte.weight.detach()[: model.config.vocab_size]
    head = make(weight_VC, None)
    if make is int8_linear:
        head = exact_at_the_top(head, weight_VC)
    model.head = lambda x, _: head(x)


# ------------------------------------------------------------------------------------------------
# fp32: weights in oneDNN's own layout

PACKED_ROWS = 8  # rows that the layout is chosen for; the speed is the same for 2 to 64


def have_onednn() -> bool:
    """Whether PyTorch was built with oneDNN and can pack weights for this machine."""
    available: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return available and hasattr(torch.ops.mkldnn, "_linear_pointwise")


# oneDNN's names of the functions that it can apply to a layer's output: kind, numbers, variant.
ONEDNN_NAMES: dict[Callable[[Tensor], Tensor] | None, tuple[str, list[float], str]] = {
    None: ("none", [], ""),
    ACTIVATIONS["gelu_new"]: ("gelu", [], "tanh"),
    ACTIVATIONS["gelu"]: ("gelu", [], "none"),
    ACTIVATIONS["relu"]: ("relu", [], ""),
    ACTIVATIONS["silu"]: ("swish", [], ""),
    ACTIVATIONS["tanh"]: ("tanh", [], ""),
}


def packed_linear(
    weight_OC: Tensor,
    bias_O: Tensor | None,
    activation: Callable[[Tensor], Tensor] | None = None,
) -> LinearFunction:
    """A linear layer with its weights packed by oneDNN, followed by one of model.ACTIVATIONS.

    It is 1.5 to 2.6 times as fast as MKL at 1 to 8 rows of GPT-2 124M (docs/results.md). Unlike
    MKL's, its results do not depend on the number of rows.
    """
    weight = weight_OC.detach().contiguous()
    packed = torch.ops.mkldnn._reorder_linear_weight(weight, PACKED_ROWS)
    multiply = torch.ops.mkldnn._linear_pointwise.default
    then = ONEDNN_NAMES[activation]

    def linear(x: Tensor) -> Tensor:
        if x.numel() > x.shape[-1]:
            y: Tensor = multiply(x, packed, bias_O, *then)
            return y
        # With AVX-512, oneDNN sums a single row in a different order than it sums several:
        # duplicate it.
        pair = multiply(x.reshape(1, -1).expand(2, -1).contiguous(), packed, bias_O, *then)
        return pair[:1].reshape(*x.shape[:-1], -1)  # type: ignore[no-any-return]

    return linear


# ------------------------------------------------------------------------------------------------
# int8: the only code that knows PyTorch's quantised operators. PyTorch has announced their removal
# (pytorch/ao#2259) without a replacement that is as fast on AVX2; export.py's ONNX int8 is the
# successor.

WEIGHT_LEVELS = 127  # on either side of zero
OPERATOR = "linear_with_input_q_dq_qweight_dq_output_fp32"
# 7 bits: CPUs without VNNI add pairs of products in 16 bits, which 8-bit activations overflow.
ACTIVATION_LEVELS = 127
SMALLEST_RANGE = torch.finfo(torch.float32).tiny
CANDIDATES = 8  # highest logits of an 8-bit head that are recomputed in fp32


def have_int8() -> bool:
    """Whether this PyTorch multiplies 8-bit matrices on this CPU."""
    try:
        _int8_multiply()(torch.zeros(1, 4), 1.0, 0, _int8_pack(torch.ones(4, 4), torch.ones(4, 1)))
    except (AttributeError, RuntimeError):  # removed, or registered without a kernel for this CPU
        return False
    return True


def int8_linear(weight_OC: Tensor, bias_O: Tensor | None) -> LinearFunction:
    """A linear layer with 8-bit weights and activations; the fp32 weights are not kept.

    Weights are rounded once, with one scale per output channel. Activations are rounded at every
    call, each row with its own range, so that a row does not depend on the others; sums are
    integers and therefore exact. Without 8-bit kernels the rounded weights are multiplied in fp32.
    """
    scale_O1 = weight_OC.abs().amax(1, keepdim=True) / WEIGHT_LEVELS
    scale_O1 = scale_O1.where(scale_O1 > 0, 1.0)  # an output channel of zeros
    rounded_OC = (weight_OC / scale_O1).round() * scale_O1
    if not have_int8():
        return lambda x: F.linear(x, rounded_OC, bias_O)
    packed, multiply = _int8_pack(weight_OC, scale_O1), _int8_multiply()
    sum_O = rounded_OC.double().sum(1).float()

    def linear(x: Tensor) -> Tensor:
        # Write x as low + span * u with u in [0, 1]; only u is rounded. Then
        # W x + b = span * (W u) + low * (W 1) + b, where W 1 is sum_O.
        # Two calls, because torch.aminmax takes 3 to 9 times as long as both (torch 2.13, CPU).
        low, high = x.amin(-1, keepdim=True), x.amax(-1, keepdim=True)
        span = (high - low).clamp_(min=SMALLEST_RANGE)
        y = multiply((x - low).div_(span), 1 / ACTIVATION_LEVELS, 0, packed)
        offset = low * sum_O if bias_O is None else torch.addcmul(bias_O, low, sum_O)
        return torch.addcmul(offset, y, span)

    return linear


def exact_at_the_top(head: LinearFunction, weight_VC: Tensor) -> LinearFunction:
    """Recompute the highest logits of an 8-bit output head in fp32.

    The fp32 weights are in memory anyway, as the token embedding. Rounding then changes a greedy
    choice only if the best token is not among the CANDIDATES highest rounded logits.
    """

    def exact(x: Tensor) -> Tensor:
        logits = head(x)
        best = logits.topk(min(CANDIDATES, logits.shape[-1]), dim=-1).indices
        return logits.scatter(-1, best, (weight_VC[best] * x.unsqueeze(-2)).sum(-1))

    return exact


def _int8_multiply() -> Callable[..., Tensor]:
    operator: Callable[..., Tensor] = getattr(torch.ops.quantized, OPERATOR).default
    return operator


def _int8_pack(weight_OC: Tensor, scale_O1: Tensor) -> object:
    zeros_O = torch.zeros(len(weight_OC), dtype=torch.long)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*quantized tensor creation functions")
        args = (weight_OC.float(), scale_O1[:, 0].double(), zeros_O, 0, torch.qint8)
        return torch.ops.quantized.linear_prepack(torch.quantize_per_channel(*args), None)
