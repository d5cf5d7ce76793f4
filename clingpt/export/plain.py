"""A model's weights as those of a GPT-2 without switches.

llama.cpp and nanoGPT compute only the published architecture: scores are divided by the root of
the head size, and the MLP has one form of GELU. Other scales go into the weights of the queries,
which changes nothing but rounding. Other activations cannot: they are refused by name, except that
the two forms of GELU stand for each other, at a difference that is measured at every export.
"""

from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor

from clingpt.base.errors import CheckpointError
from clingpt.export.stateless import Stateless
from clingpt.export.verify import Step, compare
from model import ACTIVATIONS, GPT, Attention, gelu_tanh

Gelu = Literal["gelu", "gelu_new"]  # the exact form and the tanh form, by transformers' names
FORMS = {"gelu": "the exact GELU", "gelu_new": "the tanh form of GELU"}


def check_activation(model: GPT, engine: str) -> None:
    """Raise CheckpointError if the model's activation is not a form of GELU."""
    name = model.config.activation_function
    if ACTIVATIONS[name] not in (gelu_tanh, ACTIVATIONS["gelu"]):
        raise CheckpointError(
            f"the model's activation is {name}, but {engine} computes a GPT-2 with GELU; use "
            "--format=onnx or --format=hf"
        )


@torch.no_grad()
def iter_weights(model: GPT) -> Iterator[tuple[str, Tensor]]:
    """Yield each weight in fp32 with our name and layout, without the vocabulary's padding.

    One at a time, so that a model's memory does not double.
    """
    scales = {
        f"{name}.c_attn": module.query_scale
        for name, module in model.named_modules()
        if isinstance(module, Attention)
    }
    for name, stored in model.state_dict().items():
        tensor = stored.float()
        if name == "wte.weight":
            tensor = tensor[: model.config.vocab_size]
        if (scale := scales.get(name.rpartition(".")[0], 1.0)) != 1:
            tensor = tensor.clone()
            tensor[: model.config.n_embd] *= scale  # the queries; keys and values follow
        yield name, tensor


def gelu_note(model: GPT, engine: str, form: Gelu) -> str | None:
    """Measure what an engine's form of GELU changes; None if it is the model's.

    Logits are compared on the grid of shapes that verifies other exports.
    """
    if ACTIVATIONS[model.config.activation_function] is ACTIVATIONS[form]:
        return None
    own: Gelu = "gelu_new" if form == "gelu" else "gelu"
    found = list(compare(_with_activation(model, form), model))
    largest = max(one.relative for one in found)
    same = sum(one.same_choice for one in found)
    return (
        f"{engine} computes {FORMS[form]}, but the model has {FORMS[own]}: logits differ by up to "
        f"{largest:.1e} of the largest, with the same best tokens at {same} of {len(found)} shapes"
    )


def _with_activation(model: GPT, form: Gelu) -> Step:
    """Return a step of the model with another activation, which it has only during the call."""
    step, own = Stateless(model), ACTIVATIONS[model.config.activation_function]

    def changed(*inputs: Tensor) -> Sequence[Tensor]:
        try:
            for block in model.h:
                block.mlp.activation = ACTIVATIONS[form]  # type: ignore[union-attr]
            return step(*inputs)  # type: ignore[no-any-return]
        finally:
            for block in model.h:
                block.mlp.activation = own  # type: ignore[union-attr]

    return changed
