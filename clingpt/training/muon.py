"""Muon for the matrices of a model's blocks, together with AdamW for its other parameters.

Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks", with the scale and
the weight decay of Liu et al. 2025, "Muon is scalable for LLM training" (arXiv:2502.16982).
torch.optim.Muon computes the same, but only for matrices, and always in bfloat16, which many CPUs
emulate.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

MOMENTUM = 0.95
ITERATIONS = 5
# Of the polynomial a x + b x^3 + c x^5 that each iteration applies to the singular values. It
# raises small ones fast, and values near 1 stay between 0.68 and 1.21.
A, B, C = 3.4445, -4.7750, 2.0315
# An orthogonal matrix times 0.2 * sqrt(max(rows, columns)) has elements of RMS 0.2. That is what
# AdamW's updates usually have, so that one learning rate serves both.
RMS = 0.2


class MuonAdamW(torch.optim.AdamW):
    """AdamW, but the matrices of the last parameter group are updated by Muon.

    Muon keeps one moment, `momentum_buffer`, and AdamW two. Sharded matrices are not supported:
    the update of an element depends on the whole matrix.
    """

    def __init__(self, groups: list[dict[str, Any]], **settings: Any) -> None:
        *others, matrices = groups
        # training/memory_fit.py reads the number of moments.
        super().__init__([*others, {**matrices, "moments": 1}], **settings)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Set loaded state; raise KeyError if a matrix has AdamW's moments."""
        # Not AdamW's own method, which expects its moments for the matrices, too.
        torch.optim.Optimizer.__setstate__(self, state)
        for matrix in self.param_groups[-1]["params"]:
            if matrix in self.state:
                self.state[matrix]["momentum_buffer"]

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update all parameters, or none if `found_inf` is set (see step_unless)."""
        assert closure is None and getattr(self, "grad_scale", None) is None
        groups = self.param_groups
        self.param_groups = groups[:-1]
        try:
            super().step()
        finally:
            self.param_groups = groups
        found_inf = getattr(self, "found_inf", None)
        for matrix in groups[-1]["params"]:
            if matrix.grad is not None:
                self._update(matrix, matrix.grad, groups[-1], found_inf)

    def _update(
        self, matrix: Tensor, gradient: Tensor, group: dict[str, Any], found_inf: Tensor | None
    ) -> None:
        state = self.state[matrix]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(matrix)
        momentum = state["momentum_buffer"].lerp(gradient, 1 - MOMENTUM)
        direction = orthogonalised(gradient.lerp(momentum, MOMENTUM))  # Nesterov's
        rate = group["lr"]
        scale = RMS * math.sqrt(max(matrix.shape))
        updated = (matrix * (1 - rate * group["weight_decay"])).sub_(direction, alpha=rate * scale)
        for old, new in ((state["momentum_buffer"], momentum), (matrix, updated)):
            # The device chooses, as AdamW's fused kernel does, so that the host does not wait.
            old.copy_(new if found_inf is None else torch.where(found_inf > 0, old, new))


def orthogonalised(matrix: Tensor) -> Tensor:
    """Return a matrix with the same singular vectors, and singular values of about 1.

    Newton-Schulz iterations, in bfloat16 on a GPU that has it, as published; otherwise in the
    matrix's type. Singular values below a thousandth of the matrix's norm do not reach 0.7.
    """
    in_16_bits = matrix.is_cuda and torch.cuda.is_bf16_supported(including_emulation=False)
    x = matrix.bfloat16() if in_16_bits else matrix
    is_tall = x.size(0) > x.size(1)
    if is_tall:
        x = x.T  # the products below have as many rows and columns as x has rows
    x = x / x.norm().clamp(min=1e-7)  # the norm bounds the largest singular value by 1
    for _ in range(ITERATIONS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=B, alpha=C), x, beta=A)
    return (x.T if is_tall else x).to(matrix.dtype)
