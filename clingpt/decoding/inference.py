"""A model made ready to decode: the fastest linear layers that the machine has, or 8-bit ones.

On the CPU they are changed in place and their originals are let go: such a model is for decoding
and measuring, not for training or saving. R rows, C channels, O outputs.
"""

import copy
from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from clingpt.base import console
from clingpt.base.errors import ConfigError
from clingpt.decoding.cuda_graphs import GraphedDecoder
from clingpt.decoding.engine import Decoder
from clingpt.decoding.int8 import have_int8, int8_product
from clingpt.nn.runtime import Runtime
from model import GPT, MLP

Quantize = Literal["none", "int8"]
Product = Callable[[Tensor], Tensor]  # (..., C) -> (..., O)
CANDIDATES = 8  # highest logits of an 8-bit head that are made exact
PACKED_ROWS = 8  # rows that oneDNN lays the weights out for; with 2 to 64 the speed is the same


def make_decoder(model: GPT, rt: Runtime, *, quantize: Quantize = "none") -> Decoder:
    """What generates with a model's weights, in the runtime's precision.

    On the CPU the model itself, changed, so that its losses too are what decoding computes with; on
    CUDA a copy of it, replayed from graphs.
    """
    if quantize == "int8":
        if rt.device.type != "cpu" or rt.dtype != torch.float32:
            raise ConfigError(
                f"--quantize=int8 is for the CPU in float32, not {rt.device.type} in "
                f"{str(rt.dtype)[6:]}; drop it, or give --device=cpu --dtype=float32"
            )
        if not have_int8():
            console.note("this PyTorch has no 8-bit kernels: weights are rounded, speed is fp32's")
        use_products(model, int8_product)
    elif rt.device.type == "cpu" and rt.dtype == torch.float32 and have_onednn():
        use_products(model, packed_product)
    elif rt.device.type == "cuda":
        return GraphedDecoder(copy.deepcopy(model).to(rt.dtype))
    return model


def have_onednn() -> bool:
    """Whether PyTorch was built with oneDNN and this machine's weights can be packed for it."""
    available: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return available and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def packed_product(weight_OC: Tensor, bias_O: Tensor | None, *, then_gelu: bool = False) -> Product:
    """A linear layer by oneDNN, its weights laid out for few rows; GELU behind it if asked for.

    A row's result is the same bits whatever the number of rows, as MKL's is not. Where a processor
    has AVX-512, oneDNN sums a single long row in another order: it gets a second one for company.
    1.5 to 2.6 times as fast at 1 to 8 rows of GPT-2 124M (docs/results.md).
    """
    weight = weight_OC.detach().contiguous()
    packed = torch.ops.mkldnn._reorder_linear_weight(weight, PACKED_ROWS)
    multiply = torch.ops.mkldnn._linear_pointwise.default
    behind: tuple[object, ...] = ("gelu", [], "tanh") if then_gelu else ("none", [], "")

    def product(x: Tensor) -> Tensor:
        if x.numel() > x.shape[-1]:
            y: Tensor = multiply(x, packed, bias_O, *behind)
            return y
        pair = multiply(x.reshape(1, -1).expand(2, -1).contiguous(), packed, bias_O, *behind)
        return pair[:1].reshape(*x.shape[:-1], -1)  # type: ignore[no-any-return]

    return product


class ProductLinear(nn.Module):
    """A linear layer that keeps no weights but the product's own."""

    def __init__(self, product: Product) -> None:
        super().__init__()
        self._product = product

    def forward(self, x: Tensor) -> Tensor:
        return self._product(x)


def use_products(model: GPT, make: Callable[[Tensor, Tensor | None], Product]) -> None:
    """Have every linear layer of a model, and its head, computed by a product of their weights."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Dropout):
                setattr(parent, name, nn.Identity())  # it is off, and costs a call
            if isinstance(child, nn.Linear):
                weights, made = (child.weight.detach(), child.bias.detach()), make
                if make is packed_product and isinstance(parent, MLP) and name == "c_fc":
                    # GELU by itself rounds what its threads' shares leave over in another way.
                    made, parent.gelu = partial(packed_product, then_gelu=True), nn.Identity()
                setattr(parent, name, ProductLinear(made(*weights)))
    weight_VC = model.wte.weight.detach()[: model.config.vocab_size]
    head = make(weight_VC, None)
    if make is int8_product:
        head = exact_at_the_top(head, weight_VC)
    model.head = lambda x, _: head(x)


def exact_at_the_top(head: Product, weight_VC: Tensor) -> Product:
    """A head whose highest logits are worked out again in fp32: the embedding is kept anyway.

    A greedy choice then depends on the head's rounding only where the best token is not among the
    rounded head's CANDIDATES best.
    """

    def exact(x: Tensor) -> Tensor:
        logits = head(x)
        best = logits.topk(min(CANDIDATES, logits.shape[-1]), dim=-1).indices
        return logits.scatter(-1, best, (weight_VC[best] * x.unsqueeze(-2)).sum(-1))

    return exact
