"""The parts of a training step, timed alone: a lower bound for its time on this machine.

Matrix products of the model's shapes, reading memory, the loss at all positions and only at
targets, clipping and AdamW, and assembling batches.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.training import CLIP, RATE, Job, Placed, Step
from clingpt.data.packing import IGNORE
from clingpt.nn.kernels import summed_loss
from clingpt.nn.runtime import start
from clingpt.training.batches import Feed
from clingpt.training.step import build_optimizer
from model import GPT
from model import summed_loss as plain_summed_loss

PRODUCT_ROWS = 1024  # rows of the timed matrix products
READ_BYTES = 256 << 20


def product_flops(job: Job) -> float:
    """Return the FLOPs of one `products` step: an MLP layer's forward and its two gradients."""
    return 3 * 2.0 * PRODUCT_ROWS * job.shape.n_embd * 4 * job.shape.n_embd


def products(job: Job) -> Step:
    """Compute the model's largest matrix products, except those of the head."""
    rt = start(device=job.device, dtype=job.dtype)
    C = job.shape.n_embd
    x, weight, gradient = (
        torch.randn(*shape, device=rt.device, dtype=rt.dtype)
        for shape in ((PRODUCT_ROWS, C), (4 * C, C), (PRODUCT_ROWS, 4 * C))
    )

    def step() -> Tensor:
        y, gradient_x, gradient_weight = x @ weight.t(), gradient @ weight, gradient.t() @ x
        return (y[0, 0] + gradient_x[0, 0] + gradient_weight[0, 0]).float()

    return step


def read(job: Placed) -> Step:
    """Read READ_BYTES once, by summing them."""
    rt = start(device=job.device, dtype=job.dtype)
    numbers = torch.ones(READ_BYTES // 4, device=rt.device)
    return lambda: numbers.sum()


def loss(job: Job, *, everywhere: bool) -> Step:
    """Compute head, loss and gradients, with our kernel at target positions or at all of them."""
    rt, rows = job.runtime(), job.packed()
    arrays = rows.assemble(np.arange(min(job.rows, len(rows))))
    index_KM, targets_KM = map(rt.put, (arrays.target_index_KM, arrays.targets_KM))
    C, V, P = job.shape.n_embd, job.shape.padded_vocab_size, arrays.ids_BT.size
    hidden_PC = torch.randn(P, C, device=rt.device, requires_grad=True)
    weight_VC = torch.randn(V, C, device=rt.device).mul_(0.02).requires_grad_()
    bias_V = torch.zeros(V, device=rt.device)
    if everywhere:
        places = torch.arange(P, device=rt.device)[None]
        targets = torch.full((1, P), IGNORE, device=rt.device)
        targets[0, index_KM[targets_KM != IGNORE]] = targets_KM[targets_KM != IGNORE]
    else:
        places, targets = index_KM, targets_KM
    head: Callable[..., Tensor] = plain_summed_loss if everywhere else summed_loss

    def step() -> Tensor:
        with rt.autocast():
            x_KMC = hidden_PC.index_select(0, places.flatten()).view(*places.shape, C)
            total = head(x_KMC, weight_VC, bias_V, targets)
        total.backward()  # type: ignore[no-untyped-call]
        hidden_PC.grad = weight_VC.grad = None
        return total.detach()

    return step


def update(job: Job) -> Step:
    """Clip given gradients of the whole model and take a fused AdamW step."""
    rt = start(device=job.device, dtype=job.dtype)
    model = GPT(job.shape).to(rt.device)
    optimizer = build_optimizer(model, learning_rate=RATE, betas=(0.9, 0.95), weight_decay=0.1)
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 1e-3)

    def step() -> Tensor:
        norm = nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        return norm

    return step


def assemble(job: Job) -> Step:
    """Assemble a step's batches on the device; train.py does this during the previous step."""
    rt, rows = start(device=job.device, dtype=job.dtype), job.packed()
    feed, everything = Feed(rows, rt, job.rows), np.arange(len(rows))
    return lambda: feed.work(everything).batches[-1].targets_KM.sum()


PARTS: dict[str, Callable[[Job], Step]] = {
    "matrix products": products,
    "reading memory": read,
    "loss, logits everywhere": partial(loss, everywhere=True),
    "loss, logits at targets": partial(loss, everywhere=False),
    "clipping and AdamW": update,
    "assembling batches": assemble,
}
