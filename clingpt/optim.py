"""AdamW with GPT-2's decay groups, and the learning rate as a pure function of the step."""

import math
from typing import Any

import torch
from torch import Tensor, nn


def build_optimizer(
    model: nn.Module, *, learning_rate: float, betas: tuple[float, float], weight_decay: float
) -> torch.optim.AdamW:
    """AdamW (Loshchilov & Hutter 2019); biases and norms, all one-dimensional, do not decay."""
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    fused = parameters[0].device.type in ("cpu", "cuda")
    return torch.optim.AdamW(groups, lr=learning_rate, betas=betas, fused=fused)


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """For the next step."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate


def scheduled_rate(
    step: int, *, schedule: str, peak: float, floor: float, warmup_steps: int, steps: int
) -> float:
    """Linear warm-up to `peak`, then constant, or linear or cosine decay to `floor` at the end.

    `step` counts from 0; the first step already moves.
    """
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    if schedule == "constant":
        return peak
    done = min(1.0, (step - warmup_steps) / max(1, steps - warmup_steps))
    share = 1 - done if schedule == "linear" else 0.5 * (1 + math.cos(math.pi * done))
    return floor + (peak - floor) * share


def optimizer_state(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The optimizer's moments by parameter name, which any later arrangement can read."""
    names: dict[Tensor, str] = {p: name for name, p in model.named_parameters()}
    return {names[parameter]: dict(state) for parameter, state in optimizer.state.items()}


def load_optimizer_state(
    model: nn.Module, optimizer: torch.optim.Optimizer, moments: dict[str, dict[str, Tensor]]
) -> None:
    """Take over moments from `optimizer_state`; KeyError where a parameter has none."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    order = [names[p] for group in optimizer.param_groups for p in group["params"]]
    groups = optimizer.state_dict()["param_groups"]
    state = {number: moments[name] for number, name in enumerate(order)}
    optimizer.load_state_dict({"state": state, "param_groups": groups})
