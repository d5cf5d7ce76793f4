"""AdamW with GPT-2's decay groups, and the learning rate as a pure function of the step."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from clingpt.nn.runtime import spread_like, whole


def build_optimizer(
    model: nn.Module, *, learning_rate: float, betas: tuple[float, float], weight_decay: float
) -> torch.optim.AdamW:
    """AdamW (Loshchilov & Hutter 2019); biases and norms, all one-dimensional, do not decay.

    Frozen parameters are left out: they have no moments.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
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


def step_unless(broken: Tensor, optimizer: torch.optim.Optimizer) -> None:
    """An optimizer step that leaves weights and moments as they are where `broken` is 1.

    The fused kernels read the flag on the device, as they do for a GradScaler: nothing waits.
    """
    if optimizer.defaults["fused"]:
        optimizer.found_inf = broken  # type: ignore[attr-defined]
        optimizer.step()
        del optimizer.found_inf  # type: ignore[attr-defined]
    elif not broken:
        optimizer.step()


def allocate_all(optimizer: torch.optim.Optimizer) -> None:
    """Allocate gradients and moments and change nothing: what is left is room for activations."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
    step_unless(torch.ones((), device=parameters[0].device), optimizer)


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Linear warm-up to `peak`, then constant, or linear or cosine decay to `floor` at the end."""

    kind: str
    peak: float
    floor: float
    warmup_steps: int
    steps: int

    def rate(self, step: int) -> float:
        """The learning rate of a step; they count from 0, and the first one already moves."""
        if step < self.warmup_steps:
            return self.peak * (step + 1) / self.warmup_steps
        if self.kind == "constant":
            return self.peak
        done = min(1.0, (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps))
        share = 1 - done if self.kind == "linear" else 0.5 * (1 + math.cos(math.pi * done))
        return self.floor + (self.peak - self.floor) * share


def optimizer_state(
    model: nn.Module, optimizer: torch.optim.Optimizer, *, keep: bool = True
) -> dict[str, dict[str, Tensor]]:
    """The optimizer's moments by parameter name, which any later arrangement can read.

    Whole, on the host. Where they are spread, all ranks must call; one without `keep` gets nothing.
    """
    names: dict[Tensor, str] = {p: name for name, p in model.named_parameters()}
    moments: dict[str, dict[str, Tensor]] = {}
    for parameter, state in optimizer.state.items():
        for key, value in state.items():
            tensor = whole(value)
            if keep:
                moments.setdefault(names[parameter], {})[key] = tensor.cpu()
    return moments


def load_optimizer_state(
    model: nn.Module, optimizer: torch.optim.Optimizer, moments: dict[str, dict[str, Tensor]]
) -> None:
    """Take over moments from `optimizer_state`; KeyError where a parameter has none."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    order = [p for group in optimizer.param_groups for p in group["params"]]
    groups = optimizer.state_dict()["param_groups"]
    state = {
        number: {
            key: spread_like(tensor.clone(), parameter)  # off the file that it may be mapped from
            for key, tensor in moments[names[parameter]].items()
        }
        for number, parameter in enumerate(order)
    }
    optimizer.load_state_dict({"state": state, "param_groups": groups})
