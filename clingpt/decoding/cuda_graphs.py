"""Decoding on CUDA without waiting for the host: steps of one token, replayed from CUDA graphs.

At these sizes a step's kernels take less time than launching them one by one. A graph is captured
for a number of rows and a number of positions that attention looks at, both rounded up; rows that
have no token write behind the cache's last place, and their logits are not looked at. S rows of a
graph, V the vocabulary.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from model import GPT, Attend, GPTConfig, KVCache

SPAN = 128  # attention's positions are rounded up to a multiple of this
How = Literal["graph", "compiled-graph", "reduce-overhead", "eager"]
FixedStep = Callable[[Tensor, Tensor], Tensor]  # ids (S), positions (S) -> logits (S, V)


class GraphedDecoder:
    """A GPT for generate.Engine; prompts go through it as they are, single tokens by graphs.

    `how`, for bench.py to compare: captured as it is; compiled, then captured; compiled by
    torch.compile's own reduce-overhead; or not captured.
    """

    def __init__(self, model: GPT, how: How = "graph") -> None:
        self._model, self._how = model, how
        on_cuda = model.wte.weight.is_cuda and how.endswith("graph")
        self._pool = torch.cuda.graph_pool_handle() if on_cuda else None  # memory of all graphs

    def new_cache(self, *, rows: int, capacity: int) -> "GraphedCache":
        return GraphedCache(
            self._model.config, rows=rows, capacity=capacity, like=self._model.wte.weight
        )

    @torch.no_grad()
    def step(
        self,
        ids: Mapping[int, Sequence[int]],
        cache: "GraphedCache",
        among: Sequence[int] | None = None,
    ) -> Tensor:
        """As GPT.step; single tokens and longer pieces go in two forwards."""
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
        """Logits (len(single), V) behind one more token in each of these rows."""
        place = {row: cache.lengths[row] for row in single}
        n_rows = min(len(cache.lengths), 1 << max(single).bit_length())
        span = min(cache.capacity, -(-(max(place.values()) + 1) // SPAN) * SPAN)
        if (n_rows, span) not in cache.graphs:
            cache.graphs[n_rows, span] = self._build(cache, n_rows, span)
        cache.append({row: [token] for row, token in single.items()})
        ids_S = torch.tensor([single.get(row, 0) for row in range(n_rows)])
        positions_S = torch.tensor([place.get(row, cache.capacity) for row in range(n_rows)])
        return cache.graphs[n_rows, span](ids_S, positions_S)[list(single)]

    def _build(self, cache: KVCache, n_rows: int, span: int) -> FixedStep:
        model, device = self._model, cache.layers[0].device

        def step(ids_S: Tensor, positions_S: Tensor) -> Tensor:
            attend = attend_in_place(cache, positions_S, span)
            embedded_S1 = positions_S[:, None].clamp(max=model.config.block_size - 1)
            # Made here, since a graph must own what it reads.
            kept_S = torch.arange(n_rows, device=device)
            return model.logits(model.hidden(ids_S[:, None], embedded_S1, attend, kept_S))

        if self._how in ("compiled-graph", "reduce-overhead"):
            for tensor in cache.layers:
                torch._dynamo.mark_static_address(tensor)
            mode = "reduce-overhead" if self._how == "reduce-overhead" else None
            step = torch.compile(step, mode=mode, dynamic=False)
        if self._how.endswith("graph") and device.type == "cuda":
            return capture(step, n_rows, idle=cache.capacity, device=device, pool=self._pool)
        return lambda ids_S, positions_S: step(ids_S.to(device), positions_S.to(device))


class GraphedCache(KVCache):
    """A cache with the graphs that write to it, by their numbers of rows and of positions."""

    def __init__(self, config: GPTConfig, *, rows: int, capacity: int, like: Tensor) -> None:
        super().__init__(config, rows=rows, capacity=capacity, like=like)
        self.graphs: dict[tuple[int, int], FixedStep] = {}

    def clear(self, row: int) -> None:
        """Empty a row, and the place where it wrote while it had no token."""
        super().clear(row)
        for layer in self.layers:
            layer[:, row, :, self.capacity] = 0


def attend_in_place(cache: KVCache, positions_S: Tensor, span: int) -> Attend:
    """One new token a row, at a position that is a tensor; of fixed shape, whatever it is."""
    row_S = torch.arange(len(positions_S), device=positions_S.device)
    mask_S11T = (torch.arange(span, device=row_S.device) <= positions_S[:, None])[:, None, None]

    def attend(layer: int, qkv_S13NH: Tensor) -> Tensor:
        q_S1NH, k_S1NH, v_S1NH = qkv_S13NH.unbind(2)
        keys, values = cache.layers[layer]
        keys[row_S, :, positions_S] = k_S1NH[:, 0].to(keys.dtype)
        values[row_S, :, positions_S] = v_S1NH[:, 0].to(values.dtype)
        k, v = (t[: len(row_S), :, :span].to(q_S1NH.dtype) for t in (keys, values))
        return F.scaled_dot_product_attention(q_S1NH.transpose(1, 2), k, v, mask_S11T).transpose(
            1, 2
        )

    return attend


def capture(
    step: FixedStep, n_rows: int, *, idle: int, device: torch.device, pool: Any
) -> FixedStep:
    """A step as one CUDA graph; warmed up and recorded on idle rows, which leave no trace."""
    ids_S = torch.zeros(n_rows, dtype=torch.long, device=device)
    positions_S = torch.full_like(ids_S, idle)
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
        ids_S.copy_(new_ids_S)
        positions_S.copy_(new_positions_S)
        graph.replay()
        return logits_SV

    return replay
