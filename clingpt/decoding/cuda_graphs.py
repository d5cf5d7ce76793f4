"""Decoding on CUDA without waiting for the host: one-token steps are replayed from CUDA graphs.

In GPT-2 a step's kernels finish faster than Python can launch them one by one, so each step is
captured once as a graph and replayed as a single launch. A graph has fixed shapes. It is captured
for a number of rows and a number of attended positions, both rounded up so that few graphs are
needed; rows without a token write to a spare position after the cache's last one, and their logits
are ignored. Shapes: S rows of a graph, T attended positions, V vocabulary; N and H as in model.py.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from model import GPT, Attend, GPTConfig, KVCache

SPAN = 128  # attended positions are rounded up to a multiple of this
FixedStep = Callable[[Tensor, Tensor], Tensor]  # ids (S), positions (S) -> logits (S, V)


class GraphedDecoder:
    """A decoder for the engine that runs prompts as usual and replays single tokens from graphs.

    On other devices the same fixed-shape steps run without a graph, which lets tests cover them.
    """

    def __init__(self, model: GPT) -> None:
        self._model = model
        # Graphs never run at the same time, so all of them share one memory pool.
        self._pool = torch.cuda.graph_pool_handle() if model.wte.weight.is_cuda else None

    def new_cache(self, *, rows: int, capacity: int) -> "GraphedCache":
        like = self._model.wte.weight
        return GraphedCache(self._model.config, rows=rows, capacity=capacity, like=like)

    @torch.no_grad()
    def step(
        self,
        ids: Mapping[int, Sequence[int]],
        cache: "GraphedCache",
        among: Sequence[int] | None = None,
    ) -> Tensor:
        """Like GPT.step; single tokens and longer pieces go through separate forwards."""
        single = {row: tokens[0] for row, tokens in ids.items() if len(tokens) == 1}
        if among is not None or not single:
            return self._model.step(ids, cache, among)
        longer = {row: tokens for row, tokens in ids.items() if row not in single}
        logits_RV = self._replay(single, cache)
        if not longer:
            return logits_RV
        logits_RV = torch.cat([logits_RV, self._model.step(longer, cache)])
        place = {row: n for n, row in enumerate([*single, *longer])}
        return logits_RV[[place[row] for row in ids]]

    def _replay(self, single: Mapping[int, int], cache: "GraphedCache") -> Tensor:
        """Append one token to each of these rows; return logits (len(single), V)."""
        position = {row: cache.lengths[row] for row in single}
        # Round up to a power of two rows and a multiple of SPAN positions: a few dozen graphs at
        # most.
        n_rows = min(len(cache.lengths), 1 << max(single).bit_length())
        span = min(cache.capacity, -(-(max(position.values()) + 1) // SPAN) * SPAN)
        if (n_rows, span) not in cache.graphs:
            cache.graphs[n_rows, span] = self._build(cache, n_rows, span)
        cache.append({row: [token] for row, token in single.items()})
        ids_S = torch.tensor([single.get(row, 0) for row in range(n_rows)])
        positions_S = torch.tensor([position.get(row, cache.capacity) for row in range(n_rows)])
        return cache.graphs[n_rows, span](ids_S, positions_S)[list(single)]

    def _build(self, cache: KVCache, n_rows: int, span: int) -> FixedStep:
        model, device = self._model, cache.layers[0].device

        def step(ids_S: Tensor, positions_S: Tensor) -> Tensor:
            attend = attend_in_place(cache, positions_S, span)
            # The spare position of idle rows may lie outside the position embedding.
            embedded_S1 = positions_S[:, None].clamp(max=model.config.block_size - 1)
            # Created inside the step: a graph must own every tensor that it reads.
            kept_S = torch.arange(n_rows, device=device)
            return model.logits(model.hidden(ids_S[:, None], embedded_S1, attend, kept_S))

        if device.type != "cuda":
            return step
        return capture(step, n_rows, idle=cache.capacity, device=device, pool=self._pool)


class GraphedCache(KVCache):
    """A KV cache together with the graphs that write to it, by numbers of rows and positions."""

    def __init__(self, config: GPTConfig, *, rows: int, capacity: int, like: Tensor) -> None:
        super().__init__(config, rows=rows, capacity=capacity, like=like)
        self.graphs: dict[tuple[int, int], FixedStep] = {}

    def clear(self, row: int) -> None:
        """Empty a row, including the spare position that it wrote to while idle."""
        super().clear(row)
        for layer in self.layers:
            layer[:, row, :, self.capacity] = 0


def attend_in_place(cache: KVCache, positions_S: Tensor, span: int) -> Attend:
    """Compute attention for one new token per row, with shapes that do not depend on the positions.

    Positions are a tensor, so a captured graph reads new ones at each replay. Keys after a row's
    position are masked, up to `span`.
    """
    row_S = torch.arange(len(positions_S), device=positions_S.device)
    mask_S11T = (torch.arange(span, device=row_S.device) <= positions_S[:, None])[:, None, None]

    def attend(layer: int, qkv_S13NH: Tensor) -> Tensor:
        q_S1NH, k_S1NH, v_S1NH = qkv_S13NH.unbind(2)
        keys, values = cache.layers[layer]
        keys[row_S, :, positions_S] = k_S1NH[:, 0].to(keys.dtype)
        values[row_S, :, positions_S] = v_S1NH[:, 0].to(values.dtype)
        k, v = (t[: len(row_S), :, :span].to(q_S1NH.dtype) for t in (keys, values))
        y = F.scaled_dot_product_attention(q_S1NH.transpose(1, 2), k, v, mask_S11T)
        return y.transpose(1, 2)

    return attend


def capture(
    step: FixedStep, n_rows: int, *, idle: int, device: torch.device, pool: Any
) -> FixedStep:
    """Capture a step as one CUDA graph.

    Warm-up and capture run with every row idle, so that they write only to the spare position.
    """
    ids_S = torch.zeros(n_rows, dtype=torch.long, device=device)
    positions_S = torch.full_like(ids_S, idle)
    # Warm up on a side stream before capturing, as PyTorch's notes on CUDA graphs require: lazy
    # initialisation (cuBLAS workspaces, kernel selection) must not end up in the graph.
    side = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(side):
        for _ in range(3):
            step(ids_S, positions_S)
    torch.cuda.current_stream(device).wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.device(device), torch.cuda.graph(graph, pool=pool, stream=side):
        logits_SV = step(ids_S, positions_S)

    def replay(new_ids_S: Tensor, new_positions_S: Tensor) -> Tensor:
        # A graph reads and writes fixed addresses: inputs are copied in, and the result is valid
        # until the next replay.
        ids_S.copy_(new_ids_S)
        positions_S.copy_(new_positions_S)
        graph.replay()
        return logits_SV

    return replay
