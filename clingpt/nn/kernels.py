"""Faster ways to attend within documents and to score targets than model.py's plain ones.

Equal to them in value and gradient (tests/nn/test_kernels.py), whole to torch.compile: a new
number of documents is no new graph, a new number of targets no new shape to specialise on. Shapes
as there."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from model import GPT, IGNORE, Attend, Batch, at_least_fp32
from model import attend_within_documents as attend_by_mask
from model import summed_loss as plain_summed_loss


def use_kernels(model: GPT) -> GPT:
    """Have a model attend and score by this file's functions; gives the model."""
    model.attend_within_documents = attend_within_documents
    model.summed_loss = summed_loss
    return model


# ------------------------------------------------------------------------------------------------
# Attention


def attend_within_documents(borders: Tensor, rows: int, length: int) -> Attend:
    """An operator of ours on the CPU, FlashAttention-2 in bfloat16 on CUDA, else the dense mask.

    Tri Dao 2023, "FlashAttention-2". bfloat16 says that the GPU is recent enough for it.
    """
    place, edges = borders.device.type, borders.int()

    def attend(layer: int, qkv_BT3NH: Tensor) -> Tensor:
        qkv_P3NH = qkv_BT3NH.flatten(0, 1)
        if place == "cpu":
            y_PNH, _ = document_attention(qkv_P3NH, borders)
        elif place == "cuda" and qkv_P3NH.dtype == torch.bfloat16 and qkv_P3NH.shape[-1] % 8 == 0:
            from torch.nn.attention.varlen import varlen_attn

            q, k, v = qkv_P3NH.unbind(1)
            causal = (-1, 0)  # all that came before, nothing of what comes
            flash: Any = varlen_attn  # it gives more than a tensor where more is asked for
            y_PNH = flash(q, k, v, edges, edges, length, length, window_size=causal)
        else:
            return attend_by_mask(borders, rows, length)(layer, qkv_BT3NH)
        y_BTNH: Tensor = y_PNH.view(rows, length, *y_PNH.shape[1:])
        return y_BTNH

    return attend


def _documents(x_PNH: Tensor, borders: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Each document's slice of P, and its (..., 1, N, T, H) view of (P, ..., N, H)."""
    edges: list[int] = borders.tolist()
    for start, end in zip(edges, edges[1:], strict=False):
        if end > start:
            yield slice(start, end), x_PNH[start:end].movedim(0, -2).unsqueeze(-4)


@torch.library.custom_op("clingpt::document_attention", mutates_args=())
def document_attention(qkv_P3NH: Tensor, borders: Tensor) -> tuple[Tensor, Tensor]:
    """Causal attention within each document, one fused CPU kernel call a document.

    A dense mask computes every block, 2.7 times the work at 1,024 positions of three documents.
    An operator of its own keeps the loop out of torch.compile's graph: a new number of documents
    is no new graph. Gives y (P, N, H), and the log-sum-exp (P, N) that its backward reads.
    """
    y_PNH, lse_PN = _empty_attention(qkv_P3NH, borders)
    for span, qkv in _documents(qkv_P3NH, borders):
        y, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(*qkv, is_causal=True)
        y_PNH[span], lse_PN[span] = y[0].transpose(0, 1), lse[0].t()
    return y_PNH, lse_PN


@document_attention.register_fake
def _empty_attention(qkv_P3NH: Tensor, borders: Tensor) -> tuple[Tensor, Tensor]:
    P, _, N, H = qkv_P3NH.shape
    wide = torch.promote_types(qkv_P3NH.dtype, torch.float32)
    return qkv_P3NH.new_empty(P, N, H), qkv_P3NH.new_empty(P, N, dtype=wide)


@torch.library.custom_op("clingpt::document_attention_backward", mutates_args=())
def document_attention_backward(
    grad_PNH: Tensor, qkv_P3NH: Tensor, y_PNH: Tensor, lse_PN: Tensor, borders: Tensor
) -> Tensor:
    """The gradient of document_attention by its queries, keys and values."""
    grad_qkv_P3NH = torch.empty_like(qkv_P3NH)
    both_P2NH = torch.stack((grad_PNH, y_PNH), dim=1)
    for (span, qkv), (_, (grad, y)) in zip(
        _documents(qkv_P3NH, borders), _documents(both_P2NH, borders), strict=True
    ):
        grads = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
            grad, *qkv, y, lse_PN[span].t()[None], 0.0, True
        )
        for part, grad_of_part in enumerate(grads):
            grad_qkv_P3NH[span, part] = grad_of_part[0].transpose(0, 1)
    return grad_qkv_P3NH


def _backward(ctx: Any, grad_PNH: Tensor, _: Tensor) -> tuple[Tensor, None]:
    return document_attention_backward(grad_PNH, *ctx.saved_tensors), None


def _keep_for_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
    ctx.save_for_backward(inputs[0], *output, inputs[1])


document_attention.register_autograd(_backward, setup_context=_keep_for_backward)
document_attention_backward.register_fake(lambda grad, qkv, *rest: torch.empty_like(qkv))

# ------------------------------------------------------------------------------------------------
# Loss


def summed_loss(x_KMC: Tensor, weight_VC: Tensor, bias_V: Tensor, targets_KM: Tensor) -> Tensor:
    """Cross-entropy of the tied head, in nats, summed; never more than one chunk's logits at once.

    Its gradients are worked out on the way, so that no logits are kept or computed twice (Hsu et
    al. 2024, "Liger Kernel", section 3.2).
    """
    if torch.is_grad_enabled():
        apply: Callable[..., Tensor] = _SummedLoss.apply
        return apply(x_KMC, weight_VC, bias_V, targets_KM)
    losses = [
        plain_summed_loss(x_MC[None], weight_VC, bias_V, targets_M[None])
        for x_MC, targets_M in zip(x_KMC, targets_KM, strict=True)
    ]
    return torch.stack(losses).sum()


class _SummedLoss(torch.autograd.Function):
    """A sum, so that one factor scales all its gradients in the backward."""

    @staticmethod
    def forward(
        ctx: Any, x_KMC: Tensor, weight_VC: Tensor, bias_V: Tensor, targets_KM: Tensor
    ) -> Tensor:
        losses, grad_x, grad_weight = [], [], []
        for x_MC, targets_M in zip(x_KMC, targets_KM, strict=True):
            logits_MV = F.linear(x_MC, weight_VC, bias_V)
            loss, grad_MV = _loss_and_gradient(at_least_fp32(logits_MV), targets_M)
            losses.append(loss)
            grad_MV = grad_MV.to(logits_MV.dtype)
            real_M1 = (targets_M != IGNORE)[:, None]
            grad_x.append((grad_MV @ weight_VC).to(x_MC.dtype) * real_M1)
            grad_weight.append((grad_MV.t() @ (x_MC * real_M1)).to(weight_VC.dtype))
        ctx.save_for_backward(torch.stack(grad_x), sum(grad_weight[1:], grad_weight[0]))
        return torch.stack(losses).sum()

    @staticmethod
    def backward(ctx: Any, factor: Tensor) -> tuple[Tensor | None, ...]:
        # In place: a second backward through the same graph is refused by autograd's own check.
        grad_x_KMC, grad_weight_VC = ctx.saved_tensors
        return grad_x_KMC.mul_(factor), grad_weight_VC.mul_(factor), None, None


def _loss_and_gradient(logits_MV: Tensor, targets_M: Tensor) -> tuple[Tensor, Tensor]:
    """Summed cross-entropy, and its gradient by the logits in their own memory.

    Softmax less one at the target; rows to ignore have no loss, and a gradient that means nothing.
    """
    index_M1 = targets_M.clamp(min=0)[:, None]
    logits_MV.sub_(logits_MV.amax(-1, keepdim=True))
    at_target_M1 = logits_MV.gather(1, index_M1)
    exp_MV = logits_MV.exp_()
    total_M1 = exp_MV.sum(-1, keepdim=True)
    losses_M1 = (total_M1.log() - at_target_M1) * (targets_M != IGNORE)[:, None]
    softmax_MV = exp_MV.div_(total_M1)
    if torch.compiler.is_compiling():  # then it is fused into one pass
        token_V = torch.arange(softmax_MV.shape[1], device=softmax_MV.device)
        return losses_M1.sum(), softmax_MV - (token_V == targets_M[:, None]).to(softmax_MV.dtype)
    one_M1 = torch.ones_like(index_M1, dtype=softmax_MV.dtype)
    return losses_M1.sum(), softmax_MV.scatter_add_(1, index_M1, -one_M1)


def mark_ragged(batch: Batch) -> None:
    """Tell torch.compile that the number of targets differs from batch to batch."""
    for tensor in (batch.target_index_KM, batch.targets_KM):
        torch._dynamo.maybe_mark_dynamic(tensor, 1)
