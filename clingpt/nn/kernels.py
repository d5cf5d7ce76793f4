"""Faster equivalents of model.py's attention within documents and of its loss.

tests/nn/test_kernels.py compares their values and gradients. torch.compile traces them without a
graph break, and a different number of documents or targets does not recompile the graph. Shapes are
named as in model.py.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from model import GPT, IGNORE, Attend, Batch, at_least_fp32
from model import attend_within_documents as attend_by_mask
from model import summed_loss as plain_summed_loss


def use_kernels(model: GPT) -> GPT:
    """Replace a model's attention and loss with this file's, in place; return the model."""
    model.attend_within_documents = attend_within_documents
    model.summed_loss = summed_loss
    return model


# ------------------------------------------------------------------------------------------------
# Attention


def attend_within_documents(borders: Tensor, rows: int, length: int) -> Attend:
    """Attend causally within each document, with the fastest kernel for the device and dtype.

    That is document_attention on the CPU, FlashAttention-2 (Dao 2023) for bfloat16 on CUDA, and
    model.py's dense mask elsewhere. GPUs that compute in bfloat16 are recent enough for
    FlashAttention-2, which needs a head size divisible by 8.
    """
    place, edges = borders.device.type, borders.int()

    def attend(layer: int, qkv_BT3NH: Tensor) -> Tensor:
        qkv_P3NH = qkv_BT3NH.flatten(0, 1)
        if place == "cpu":
            y_PNH, _ = document_attention(qkv_P3NH, borders)
        elif place == "cuda" and qkv_P3NH.dtype == torch.bfloat16 and qkv_P3NH.shape[-1] % 8 == 0:
            from torch.nn.attention.varlen import varlen_attn

            q, k, v = qkv_P3NH.unbind(1)
            causal = (-1, 0)  # window: all positions to the left, none to the right
            flash: Any = varlen_attn  # typed as a union, since options add return values
            y_PNH = flash(q, k, v, edges, edges, length, length, window_size=causal)
        else:
            return attend_by_mask(borders, rows, length)(layer, qkv_BT3NH)
        y_BTNH: Tensor = y_PNH.view(rows, length, *y_PNH.shape[1:])
        return y_BTNH

    return attend


def _documents(x_PNH: Tensor, borders: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Yield each document's slice of P, and its (..., 1, N, T, H) view of (P, ..., N, H)."""
    edges: list[int] = borders.tolist()
    for start, end in zip(edges, edges[1:], strict=False):
        if end > start:
            yield slice(start, end), x_PNH[start:end].movedim(0, -2).unsqueeze(-4)


@torch.library.custom_op("clingpt::document_attention", mutates_args=())
def document_attention(qkv_P3NH: Tensor, borders: Tensor) -> tuple[Tensor, Tensor]:
    """Attend causally within each document, with one fused CPU kernel call per document.

    A dense mask would compute all blocks: 2.7 times the work for three documents in 1,024
    positions. As a custom operator, the loop is hidden from torch.compile, which would otherwise
    compile a graph for each number of documents. Returns y (P, N, H) and, for the backward pass,
    the log-sum-exp (P, N).
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
    """Return the gradient of document_attention with respect to queries, keys and values."""
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


def summed_loss(
    x_KMC: Tensor,
    weight_VC: Tensor,
    bias_V: Tensor,
    targets_KM: Tensor,
    target_weight_KM: Tensor | None = None,
) -> Tensor:
    """Return the summed cross-entropy of the tied head in nats, one chunk of logits at a time.

    All logits of a step would be the largest tensor of training by far. The gradient is computed
    in the forward pass, while a chunk's logits exist, so that they are neither kept nor computed
    twice (Hsu et al. 2024, "Liger Kernel", section 3.2).
    """
    if torch.is_grad_enabled():
        apply: Callable[..., Tensor] = _SummedLoss.apply
        return apply(x_KMC, weight_VC, bias_V, targets_KM, target_weight_KM)
    weights = [None] * len(x_KMC) if target_weight_KM is None else target_weight_KM
    losses = [
        plain_summed_loss(x_MC[None], weight_VC, bias_V, targets_M[None], weight_M)
        for x_MC, targets_M, weight_M in zip(x_KMC, targets_KM, weights, strict=True)
    ]
    return torch.stack(losses).sum()


class _SummedLoss(torch.autograd.Function):
    """Autograd function that sums the loss over all chunks.

    Because it is a sum, backward only has to scale the gradients that forward computed.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x_KMC: Tensor,
        weight_VC: Tensor,
        bias_V: Tensor,
        targets_KM: Tensor,
        target_weight_KM: Tensor | None,
    ) -> Tensor:
        # What each target's loss and gradient are multiplied by. An ignored target's weight is 0
        # too: its gradient is garbage.
        factor_KM = targets_KM != IGNORE if target_weight_KM is None else target_weight_KM
        losses, grad_x = [], []
        grad_weight_VC: Tensor | None = None
        for x_MC, targets_M, factor_M in zip(x_KMC, targets_KM, factor_KM, strict=True):
            logits_MV, factor_M1 = F.linear(x_MC, weight_VC, bias_V), factor_M[:, None]
            loss, grad_MV = _loss_and_gradient(at_least_fp32(logits_MV), targets_M, factor_M1)
            losses.append(loss)
            grad_MV = grad_MV.to(logits_MV.dtype)
            # Multiplied here, where a target has C numbers, since its logits have V. The cast comes
            # last, because weights in fp32 would widen 16 bits.
            grad_x.append(((grad_MV @ weight_VC) * factor_M1).to(x_MC.dtype))
            factored_MC = (x_MC * factor_M1).to(x_MC.dtype)
            of_chunk_VC = (grad_MV.t() @ factored_MC).to(weight_VC.dtype)
            # Added up at once: a list of them would keep as much memory as the head for each chunk.
            grad_weight_VC = (
                of_chunk_VC if grad_weight_VC is None else grad_weight_VC.add_(of_chunk_VC)
            )
        assert grad_weight_VC is not None, "there is at least one chunk"
        ctx.save_for_backward(torch.stack(grad_x), grad_weight_VC)
        return torch.stack(losses).sum()

    @staticmethod
    def backward(ctx: Any, factor: Tensor) -> tuple[Tensor | None, ...]:
        # In place, to save memory. A second backward through the same graph is then wrong; autograd
        # notices the changed tensors and refuses it.
        grad_x_KMC, grad_weight_VC = ctx.saved_tensors
        return grad_x_KMC.mul_(factor), grad_weight_VC.mul_(factor), None, None, None


def _loss_and_gradient(
    logits_MV: Tensor, targets_M: Tensor, factor_M1: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the summed cross-entropy and its gradient with respect to the logits.

    Each target's loss is multiplied by its factor. The gradient, softmax minus one at the target,
    overwrites the logits; the caller must multiply it by the factors, which are 0 for ignored rows.
    """
    index_M1 = targets_M.clamp(min=0)[:, None]  # IGNORE is not a valid index for gather
    # Subtracting the maximum keeps exp from overflowing, and does not change the softmax.
    logits_MV.sub_(logits_MV.amax(-1, keepdim=True))
    at_target_M1 = logits_MV.gather(1, index_M1)
    exp_MV = logits_MV.exp_()
    total_M1 = exp_MV.sum(-1, keepdim=True)
    losses_M1 = (total_M1.log() - at_target_M1) * factor_M1
    softmax_MV = exp_MV.div_(total_M1)
    if torch.compiler.is_compiling():  # fused into one pass; scatter would need another
        token_V = torch.arange(softmax_MV.shape[1], device=softmax_MV.device)
        return losses_M1.sum(), softmax_MV - (token_V == targets_M[:, None]).to(softmax_MV.dtype)
    one_M1 = torch.ones_like(index_M1, dtype=softmax_MV.dtype)
    return losses_M1.sum(), softmax_MV.scatter_add_(1, index_M1, -one_M1)


def mark_ragged(batch: Batch) -> None:
    """Tell torch.compile that the number of targets differs from batch to batch.

    Otherwise it would compile the model for the first number, and again for the second.
    """
    for tensor in (batch.target_index_KM, batch.targets_KM, batch.target_weight_KM):
        if tensor is not None:
            torch._dynamo.maybe_mark_dynamic(tensor, 1)
