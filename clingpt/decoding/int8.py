"""Products by 8-bit weights on the CPU; the only file that knows PyTorch's quantised operators.

Weights are rounded once, with a scale for each output channel, activations at each call, with a
range for each row: a row's numbers do not depend on its company, and sums are whole numbers, so
that they are the same bits. PyTorch has announced an end to these operators (pytorch/ao#2259)
without a replacement that is as fast on AVX2: where they are gone, weights are rounded all the same
and multiplied in fp32, at the speed of fp32. R rows, C channels, O outputs.
"""

import warnings
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

WEIGHT_LEVELS = 127  # either side of zero
OPERATOR = "linear_with_input_q_dq_qweight_dq_output_fp32"
ACTIVATION_LEVELS = 127  # 7 bits: without VNNI, sums of two products with 8 overflow 16 bits
TINY = torch.finfo(torch.float32).tiny


def have_int8() -> bool:
    """Whether this PyTorch multiplies 8-bit matrices on this CPU."""
    try:
        _multiplier()(torch.zeros(1, 4), 1.0, 0, _packed(torch.ones(4, 4), torch.ones(4, 1)))
    except (AttributeError, RuntimeError):  # gone, or registered without a kernel for this CPU
        return False
    return True


def int8_product(weight_OC: Tensor, bias_O: Tensor | None) -> Callable[[Tensor], Tensor]:
    """x (..., C) -> (..., O) by weights rounded to 8 bits; the fp32 ones are not kept."""
    scale_O1 = weight_OC.abs().amax(1, keepdim=True) / WEIGHT_LEVELS
    scale_O1 = scale_O1.where(scale_O1 > 0, 1.0)  # a channel of zeros
    rounded_OC = (weight_OC / scale_O1).round() * scale_O1
    if not have_int8():
        return lambda x: F.linear(x, rounded_OC, bias_O)
    packed, multiply = _packed(weight_OC, scale_O1), _multiplier()
    sum_O = rounded_OC.double().sum(1).float()

    def product(x: Tensor) -> Tensor:
        # By each row's own range: x = low + (high - low) * u, of which u in [0, 1] is rounded.
        # Two calls: torch.aminmax is 3 to 9 times as slow as both together (torch 2.13, CPU).
        low, high = x.amin(-1, keepdim=True), x.amax(-1, keepdim=True)
        span = (high - low).clamp_(min=TINY)
        y = multiply((x - low).div_(span), 1 / ACTIVATION_LEVELS, 0, packed)
        offset = low * sum_O if bias_O is None else torch.addcmul(bias_O, low, sum_O)
        return torch.addcmul(offset, y, span)

    return product


def _multiplier() -> Callable[..., Tensor]:
    operator: Callable[..., Tensor] = getattr(torch.ops.quantized, OPERATOR).default
    return operator


def _packed(weight_OC: Tensor, scale_O1: Tensor) -> object:
    zeros_O = torch.zeros(len(weight_OC), dtype=torch.long)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*quantized tensor creation functions")
        args = (weight_OC.float(), scale_O1[:, 0].double(), zeros_O, 0, torch.qint8)
        return torch.ops.quantized.linear_prepack(torch.quantize_per_channel(*args), None)
