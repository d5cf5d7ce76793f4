"""What was exported, compared with the model itself on a grid of shapes.

The yardstick is the plain forward of whole rows, without a cache, a mask or padding: nothing that
the exported step has in common with it but the weights.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from clingpt.base.errors import CheckpointError
from clingpt.export.stateless import Inputs, make_inputs
from model import GPT

# Rows, past tokens and new tokens; a past of -1 fills the context but for the new ones.
SHAPES = ((1, 0, 1), (1, 0, 2), (1, 1, 1), (2, 0, 7), (3, 6, 1), (2, 6, 4), (1, -1, 1), (4, 0, 64))
PADDED = (9, 4, 1, 7)  # lengths of rows that are padded on the left to the longest
TOLERANCE = 1e-5  # of the highest |logit|

Step = Callable[[Inputs], Sequence[Tensor]]  # Stateless' outputs by some engine


@dataclass(frozen=True)
class Difference:
    """How far an engine is from the model at a shape."""

    shape: str
    relative: float  # the largest difference of a logit, by the highest |logit|
    same_choice: bool  # whether the most probable token is the same everywhere

    @property
    def is_small(self) -> bool:
        """Whether it is no more than rounding."""
        return self.relative <= TOLERANCE and self.same_choice


def check(step: Step, model: GPT) -> list[Difference]:
    """Differences at every shape; CheckpointError where one is more than rounding."""
    found = list(compare(step, model))
    for one in found:
        if not one.is_small:
            raise CheckpointError(
                f"what was exported differs from the model at {one.shape}: by {one.relative:.1e} "
                f"of the highest logit, the same choice: {one.same_choice}; nothing was kept"
            )
    return found


@torch.no_grad()
def compare(step: Step, model: GPT) -> Iterator[Difference]:
    """Shape by shape; the past of a shape is what the engine itself gave for it."""
    config, generator = model.config, torch.Generator().manual_seed(0)

    def ids(rows: int, length: int) -> Tensor:
        return torch.randint(config.vocab_size, (rows, length), generator=generator)

    for B, P, T in SHAPES:
        P, T = config.block_size - T if P < 0 else P, min(T, config.block_size)
        row_BS = ids(B, P + T)
        past = tuple(step(make_inputs(row_BS[:, :P], config))[1:]) if P else ()
        logits = step(make_inputs(row_BS[:, P:], config, past))[0]
        yield difference(f"({B}, {P}, {T})", logits, model(row_BS)[:, P:])
    rows, longest = [ids(1, n) for n in PADDED], max(PADDED)
    padding = [longest - n for n in PADDED]
    ids_BT = torch.cat([torch.nn.functional.pad(row, (longest - row.shape[1], 0)) for row in rows])
    logits = step(make_inputs(ids_BT, config, padding=padding))[0]
    for row, n, logits_TV in zip(rows, padding, logits, strict=True):
        yield difference(f"row padded by {n}", logits_TV[None, n:], model(row))


def difference(shape: str, ours: Tensor, expected: Tensor) -> Difference:
    """Of logits of one shape."""
    highest = float(expected.abs().max())
    same = bool((ours.argmax(-1) == expected.argmax(-1)).all())
    return Difference(shape, float((ours - expected).abs().max()) / highest, same)
