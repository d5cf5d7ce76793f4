"""GPT-2 as a pure function for other engines, with the KV cache as inputs and outputs.

Names and order of inputs and outputs are optimum's (huggingface/optimum-onnx), whose runtime can
therefore run the exports. Shape suffixes: B rows, T new tokens, P past tokens, S = P + T, N heads,
H head size, V vocabulary.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model import GPT, GPTConfig

Inputs = tuple[Tensor, ...]


class Stateless(nn.Module):
    """One decoding step; rows may be padded on the left, where attention_mask is 0."""

    def __init__(self, model: GPT) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, position_ids: Tensor, *past: Tensor
    ) -> tuple[Tensor, ...]:
        """Return logits (B, T, V), then each layer's keys and values (B, N, S, H).

        input_ids and position_ids (B, T) and attention_mask (B, S) are int64. `past` has the keys
        and values (B, N, P, H) of each layer in turn; P may be 0.
        """
        presents: list[Tensor] = []
        mask_B1TS = additive_mask(attention_mask, input_ids.shape[1])

        def attend(layer: int, qkv_BT3NH: Tensor) -> Tensor:
            q, k, v = qkv_BT3NH.permute(2, 0, 3, 1, 4)
            k, v = torch.cat([past[2 * layer], k], 2), torch.cat([past[2 * layer + 1], v], 2)
            presents.extend((k, v))
            return F.scaled_dot_product_attention(q, k, v, attn_mask=mask_B1TS).transpose(1, 2)

        x_BTC = self.model.hidden(input_ids, position_ids, attend)
        return self.model.logits(x_BTC), *presents


def additive_mask(attention_mask_BS: Tensor, n_new: int) -> Tensor:
    """Return a mask (B, 1, T, S): 0 where a new token may attend, the lowest float elsewhere.

    Minus infinity would make padded positions NaN, since they may attend to nothing.
    """
    n_all = attention_mask_BS.shape[1]
    # Two ranges rather than a slice of one, whose length torch.export cannot infer.
    new_T, all_S = torch.arange(n_new) + (n_all - n_new), torch.arange(n_all)
    causal_TS = all_S <= new_T[:, None]
    seen_B1TS = causal_TS & attention_mask_BS.bool()[:, None, None, :]
    return torch.where(seen_B1TS, 0.0, torch.finfo(torch.float32).min)


def make_inputs(
    ids_BT: Tensor, config: GPTConfig, past: Inputs = (), padding: Sequence[int] = ()
) -> Inputs:
    """Return the inputs for new tokens after past ones; row b starts with `padding[b]` padding."""
    B, T = ids_BT.shape
    if not past:
        shape = (B, config.n_head, 0, config.n_embd // config.n_head)
        past = (torch.zeros(shape),) * (2 * config.n_layer)
    mask_BS = torch.ones(B, past[0].shape[2] + T, dtype=torch.int64)
    for row, n in enumerate(padding):
        mask_BS[row, :n] = 0
    position_BT = (mask_BS.cumsum(1) - 1).clamp(min=0)[:, -T:]
    return ids_BT, mask_BS, position_BT, *past
