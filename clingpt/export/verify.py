"""Compare an exported model with the original on a grid of input shapes.

The reference is the plain forward pass over whole rows, without cache, mask or padding, so the two
share only their weights.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from clingpt.base.errors import CheckpointError
from clingpt.export.stateless import make_inputs
from model import GPT

# Rows, past tokens, new tokens; a past of -1 fills the context except for the new tokens.
SHAPES = ((1, 0, 1), (1, 0, 2), (1, 1, 1), (2, 0, 7), (3, 6, 1), (2, 6, 4), (1, -1, 1), (4, 0, 64))
PADDED = (9, 4, 1, 7)  # lengths of rows, padded on the left to the longest
TOLERANCE = 1e-5  # relative to the largest |logit|

Step = Callable[..., Sequence[Tensor]]  # has the inputs and outputs of `Stateless`


@dataclass(frozen=True)
class Difference:
    """How far an engine's logits are from the model's at one shape."""

    shape: str
    relative: float  # largest difference divided by the largest |logit|
    same_choice: bool  # the most probable token is the same at all positions

    @property
    def is_small(self) -> bool:
        """Whether rounding explains the difference; False for NaN."""
        return self.relative <= TOLERANCE and self.same_choice


def check(step: Step, model: GPT) -> list[Difference]:
    """Return the difference at every shape; raise CheckpointError if one exceeds rounding."""
    found = list(compare(step, model))
    for one in found:
        if not one.is_small:
            raise CheckpointError(
                f"the export differs from the model at {one.shape}: by {one.relative:.1e} of the "
                f"largest logit, same best token: {one.same_choice}; nothing was written"
            )
    return found


@torch.no_grad()
def compare(step: Step, model: GPT) -> Iterator[Difference]:
    """Yield the difference at each shape; an engine receives the past that it computed itself."""
    config, generator = model.config, torch.Generator().manual_seed(0)

    def ids(rows: int, length: int) -> Tensor:
        return torch.randint(config.vocab_size, (rows, length), generator=generator)

    for B, P, T in SHAPES:
        P, T = config.block_size - T if P < 0 else P, min(T, config.block_size)
        row_BS = ids(B, P + T)
        past = tuple(step(*make_inputs(row_BS[:, :P], config))[1:]) if P else ()
        logits = step(*make_inputs(row_BS[:, P:], config, past))[0]
        yield difference(f"({B}, {P}, {T})", logits, model(row_BS)[:, P:])
    rows, longest = [ids(1, n) for n in PADDED], max(PADDED)
    padding = [longest - n for n in PADDED]
    ids_BT = torch.cat([torch.nn.functional.pad(row, (longest - row.shape[1], 0)) for row in rows])
    logits = step(*make_inputs(ids_BT, config, padding=padding))[0]
    for row, n, logits_TV in zip(rows, padding, logits, strict=True):
        yield difference(f"row padded by {n}", logits_TV[None, n:], model(row))


def difference(shape: str, ours: Tensor, expected: Tensor) -> Difference:
    """Compare logits of one shape."""
    highest = float(expected.abs().max())
    same = bool((ours.argmax(-1) == expected.argmax(-1)).all())
    return Difference(shape, float((ours - expected).abs().max()) / highest, same)
