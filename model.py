"""GPT-2: architecture, loss, KV cache, and its weights in Hugging Face's layout.

Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", section 2.3, and the
switches with which others have trained the same tensors (GPTConfig). The file imports only torch
and the standard library (and safetensors and huggingface_hub to read or write weights), so it can
be copied into another project as it is. Malformed weights raise ValueError, missing ones
FileNotFoundError.

A suffix gives a tensor's shape: B rows, T tokens, C channels, N heads, H channels per head
(C = N * H), V vocabulary, K chunks of M target tokens, R rows of a KV cache, P positions laid end
to end (B * T in a batch), S positions selected from those. A 3 stands for query, key and
value, a 2 for key and value.
"""

import json
import math
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import checkpoint

ATTENDED = 128  # new tokens of a prompt that attend to the KV cache in one kernel call
IGNORE = -100  # target of a padded position: no loss, no gradient


def gelu_tanh(x: Tensor) -> Tensor:
    """The tanh approximation of GELU (Hendrycks & Gimpel 2016), which GPT-2 was trained with."""
    return F.gelu(x, approximate="tanh")


# By the names that transformers gives them; both forms of GELU have several there.
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    **dict.fromkeys(
        ("gelu_new", "gelu_pytorch_tanh", "gelu_python_tanh", "gelu_fast", "gelu_accurate"),
        gelu_tanh,
    ),
    **dict.fromkeys(("gelu", "gelu_python"), F.gelu),
    "relu": F.relu,
    **dict.fromkeys(("silu", "swish"), F.silu),
    "tanh": torch.tanh,
}

SIZES = ("gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl")  # 124M, 355M, 774M and 1.5B parameters


@dataclass(frozen=True, kw_only=True)
class GPTConfig:
    """The shape and the switches of a GPT-2; the defaults are those of the published 124M model.

    The last five are named and mean the same as in Hugging Face's config.json.
    """

    vocab_size: int = 50257
    block_size: int = 1024  # longest row in tokens; each position has a learned embedding
    n_layer: int = 12
    n_head: int = 12
    n_embd: int = 768
    dropout: float = 0.0  # on embeddings and on both residual branches, in training mode
    layer_norm_epsilon: float = 1e-5
    n_inner: int | None = None  # width of the MLP; None is 4 * n_embd
    activation_function: str = "gelu_new"  # one of ACTIVATIONS
    scale_attn_weights: bool = True  # divide attention scores by the root of the head size
    scale_attn_by_inverse_layer_idx: bool = False  # and by the layer's number, counted from 1
    # Compute attention scores in fp32 even if the rest is in 16 bits. Kept for other tools and
    # without effect here: scaled_dot_product_attention always does so (tests/test_model.py).
    reorder_and_upcast_attn: bool = False

    def __post_init__(self) -> None:
        for name in ("vocab_size", "block_size", "n_layer", "n_head", "n_embd"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.n_embd % self.n_head:
            raise ValueError(f"n_embd {self.n_embd} is not a multiple of n_head {self.n_head}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be at least 0 and below 1, got {self.dropout}")
        if self.n_inner is not None and self.n_inner < 1:
            raise ValueError(f"n_inner must be at least 1, got {self.n_inner}")
        if self.activation_function not in ACTIVATIONS:
            raise ValueError(
                f"activation_function is {self.activation_function!r}; supported are "
                f"{', '.join(ACTIVATIONS)}"
            )

    @property
    def mlp_size(self) -> int:
        """Width of the MLP."""
        return self.n_inner or 4 * self.n_embd

    @property
    def padded_vocab_size(self) -> int:
        """Rows of the embedding in memory: a multiple of 64, which matrix units prefer."""
        return math.ceil(self.vocab_size / 64) * 64


# ------------------------------------------------------------------------------------------------
# Attention comes in three kinds: over whole rows, within the documents of packed rows, and over a
# KV cache. The blocks are the same for all three; the kind is passed in as an Attend: a function
# from a layer's number and its queries, keys and values (B, T, 3, N, H) to its output (B, T, N, H).

Attend = Callable[[int, Tensor], Tensor]


def attend_rows(qkv_BT3NH: Tensor, mask: Tensor | None = None) -> Tensor:
    """Attend with a mask or, without one, causally: to the same and earlier positions."""
    q, k, v = qkv_BT3NH.permute(2, 0, 3, 1, 4)
    y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None)
    return y.transpose(1, 2)


def attend_within_documents(borders: Tensor, rows: int, length: int) -> Attend:
    """Attend causally within each document of packed rows, with a dense mask.

    `borders` contains the first position (of P) of each document, as in Batch.
    """
    index_P = torch.arange(rows * length, device=borders.device)
    document_BT = torch.searchsorted(borders, index_P, right=True).view(rows, length)
    same = document_BT[:, None, :, None] == document_BT[:, None, None, :]
    mask_B1TT = same & same.new_ones(length, length).tril()
    return lambda _layer, qkv_BT3NH: attend_rows(qkv_BT3NH, mask_B1TT)


class KVCache:
    """Keys and values of R rows in one preallocated tensor per layer, and each row's length.

    A row is computed by the same kernel calls whatever other rows do at the same time, so that a
    reply has the same bits alone and in a batch.
    """

    def __init__(self, config: GPTConfig, *, rows: int, capacity: int, like: Tensor) -> None:
        if capacity > config.block_size:
            raise ValueError(f"a cache of {capacity} exceeds the context of {config.block_size}")
        # One more position than the capacity: in a CUDA graph, whose shapes are fixed, rows without
        # a new token write there (decoding/cuda_graphs.py).
        shape = (2, rows, config.n_head, capacity + 1, config.n_embd // config.n_head)
        self.capacity, self.lengths = capacity, [0] * rows
        self.layers = [like.new_zeros(shape) for _ in range(config.n_layer)]

    def clear(self, row: int) -> None:
        """Empty a row and zero its memory, so that nothing of a patient's text is left."""
        for layer in self.layers:
            layer[:, row, :, : self.lengths[row]] = 0
        self.lengths[row] = 0

    def rewind(self, row: int, n_tokens: int) -> None:
        """Forget the last tokens of a row, and zero their memory."""
        end = self.lengths[row] - n_tokens
        for layer in self.layers:
            layer[:, row, :, end : self.lengths[row]] = 0
        self.lengths[row] = end

    def append(self, ids: Mapping[int, Sequence[int]]) -> tuple[list[int], Attend]:
        """Reserve room for each row's new tokens.

        Returns their positions, row after row, and the Attend that writes and reads them.

        Raises ValueError if they exceed the capacity or a row gets no token.
        """
        spans = {r: range(self.lengths[r], self.lengths[r] + len(new)) for r, new in ids.items()}
        if (used := max(span.stop for span in spans.values())) > self.capacity:
            raise ValueError(f"{used} tokens exceed the cache of {self.capacity}")
        if not all(spans.values()):
            raise ValueError("a row has no new token; leave it out")
        # Runs (rows, start, stop), each served by one kernel call. Adjacent rows with equal spans
        # share a run; a long prompt is cut into runs of at most ATTENDED tokens.
        runs: list[tuple[slice, int, int]] = []
        for row, span in spans.items():
            self.lengths[row] = span.stop
            if runs and (runs[-1][0].stop, *runs[-1][1:]) == (row, span.start, span.stop):
                runs[-1] = (slice(runs[-1][0].start, row + 1), span.start, span.stop)
                continue
            for start, stop in pairwise([*range(span.start, span.stop, ATTENDED), span.stop]):
                runs.append((slice(row, row + 1), start, stop))
        positions = [position for span in spans.values() for position in span]
        return positions, lambda layer, qkv_1P3NH: self._attend_runs(runs, layer, qkv_1P3NH)

    def _attend_runs(
        self, runs: list[tuple[slice, int, int]], layer: int, qkv_1P3NH: Tensor
    ) -> Tensor:
        """Write new keys and values to the cache, and attend to it run by run.

        A prompt that arrives in pieces of ATTENDED tokens is cut into the same runs as a whole one,
        and so gets the same bits.
        """
        sizes = [(rows.stop - rows.start) * (stop - start) for rows, start, stop in runs]
        pieces = qkv_1P3NH[0].split_with_sizes(sizes)
        parts: list[Tensor] = []
        for (rows, start, stop), new in zip(runs, pieces, strict=True):
            n_new = stop - start
            new_3RNTH = torch.unflatten(new, 0, (-1, n_new)).permute(2, 0, 3, 1, 4)
            held_2RNTH = self.layers[layer][:, rows, :, :stop]
            held_2RNTH[:, :, :, start:] = new_3RNTH[1:]
            args, mask = (new_3RNTH[0], *held_2RNTH.to(new.dtype)), None
            if start and n_new > 1:  # the first run is plainly causal, and one query sees all keys
                mask = new.new_ones(n_new, stop, dtype=torch.bool).tril(start)
            # For a single query the kernel splits the keys into parts whose number depends on how
            # many rows there are, and so does the rounding: call it for one row at a time.
            by_row = n_new == 1 and len(args[0]) > 1
            groups = zip(*(x.split(1) for x in args), strict=True) if by_row else [args]
            for q, k, v in groups:
                y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=not start)
                parts.append(y.transpose(1, 2).flatten(0, 1))
        return (parts[0] if len(parts) == 1 else torch.cat(parts))[None]


class Attention(nn.Module):
    """Multi-head self-attention.

    GPT-2 also drops out attention probabilities. The fused kernels for packed rows cannot do that,
    so only the residual branch has dropout.
    """

    def __init__(self, config: GPTConfig, layer: int) -> None:
        super().__init__()
        self.n_head, self.layer = config.n_head, layer
        self.c_attn = nn.Linear(config.n_embd, 3 * config.n_embd)
        self.c_proj = nn.Linear(config.n_embd, config.n_embd)
        self.dropout = nn.Dropout(config.dropout)
        # Every Attend divides scores by the root of the head size; other scales are applied to the
        # queries, so that no Attend has to know of them.
        self.query_scale = 1.0
        if not config.scale_attn_weights:
            self.query_scale *= math.sqrt(config.n_embd // config.n_head)
        if config.scale_attn_by_inverse_layer_idx:
            self.query_scale /= layer + 1

    def forward(self, x_BTC: Tensor, attend: Attend, selected_S: Tensor | None) -> Tensor:
        qkv_BT3NH = self.c_attn(x_BTC).unflatten(-1, (3, self.n_head, -1))
        if self.query_scale != 1:
            q, k, v = qkv_BT3NH.unbind(-3)
            qkv_BT3NH = torch.stack((q * self.query_scale, k, v), -3)
        y = _select(attend(self.layer, qkv_BT3NH).flatten(-2), selected_S)
        return self.dropout(self.c_proj(y))  # type: ignore[no-any-return]


class MLP(nn.Module):
    """Two linear layers around an activation, GELU in most models."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.c_fc = nn.Linear(config.n_embd, config.mlp_size)
        self.c_proj = nn.Linear(config.mlp_size, config.n_embd)
        self.activation = ACTIVATIONS[config.activation_function]
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = self.activation(self.c_fc(x))
        return self.dropout(self.c_proj(x))  # type: ignore[no-any-return]


class Block(nn.Module):
    """Attention, then MLP, each after a LayerNorm and with a residual connection.

    (B, T, C) -> (B, T, C). With `selected_S` the output is computed only at these positions, as
    (S, C): the last block needs no others, since only target positions have a loss.
    """

    def __init__(self, config: GPTConfig, layer: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.attn = Attention(config, layer)
        self.ln_2 = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.mlp = MLP(config)

    def forward(self, x_BTC: Tensor, attend: Attend, selected_S: Tensor | None = None) -> Tensor:
        x = _select(x_BTC, selected_S) + self.attn(self.ln_1(x_BTC), attend, selected_S)
        return x + self.mlp(self.ln_2(x))  # type: ignore[no-any-return]


def _select(x_BTC: Tensor, selected_S: Tensor | None) -> Tensor:
    return x_BTC if selected_S is None else x_BTC.flatten(0, 1).index_select(0, selected_S)


def at_least_fp32(x: Tensor) -> Tensor:
    """Cast to fp32 or wider: losses are never computed in 16 bits."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def summed_loss(
    x_KMC: Tensor,
    weight_VC: Tensor,
    bias_V: Tensor,
    targets_KM: Tensor,
    target_weight_KM: Tensor | None = None,
) -> Tensor:
    """Return the cross-entropy of the tied output head in nats, summed over all targets.

    With `target_weight_KM`, each target's loss is multiplied by its weight before it is added.
    """
    logits_KMV = at_least_fp32(F.linear(x_KMC, weight_VC, bias_V))
    args = logits_KMV.flatten(0, 1), targets_KM.flatten()
    if target_weight_KM is None:
        return F.cross_entropy(*args, ignore_index=IGNORE, reduction="sum")
    losses = F.cross_entropy(*args, ignore_index=IGNORE, reduction="none")
    return (losses * target_weight_KM.flatten()).sum()


class Batch(NamedTuple):
    """Packed rows and what to predict in them: tensors on one device, int64 except the weights."""

    ids_BT: Tensor
    positions_BT: Tensor  # restart at 0 with each document
    borders: Tensor  # first position (of P) of each document, then P; padded with P
    target_index_KM: Tensor  # position (of P) whose next token is predicted
    targets_KM: Tensor  # that token, or IGNORE
    target_weight_KM: Tensor | None = None  # its weight in the loss, fp32; None: all count alike


class _SkipInitialisation(TorchFunctionMode):
    """Skip torch.nn.init: on the meta device it loads 75 MB of modules and draws no numbers."""

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if getattr(function, "__module__", "") == "torch.nn.init":
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return function(*args, **(kwargs or {}))


class GPT(nn.Module):
    """GPT-2: learned positions, pre-norm blocks, output head tied to the token embedding."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config
        self.checkpoint_activations = False  # recompute blocks in the backward: less memory
        # The three most expensive operations are attributes, so that faster equivalents can replace
        # them without a change here. load_model puts fused attention and a chunked loss in place
        # (nn/kernels.py, use_kernels); decoding may install a prepacked head
        # (decoding/decoders.py).
        self.attend_within_documents = attend_within_documents
        self.summed_loss = summed_loss
        self.head: Callable[[Tensor, Tensor], Tensor] = F.linear
        self.wte = nn.Embedding(config.padded_vocab_size, config.n_embd)
        self.wpe = nn.Embedding(config.block_size, config.n_embd)
        self.dropout = nn.Dropout(config.dropout)
        self.h = nn.ModuleList(Block(config, layer) for layer in range(config.n_layer))
        self.ln_f = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.apply(self._initialise)
        # Rows of the padding: no token uses them, and _pad_bias keeps their gradient at zero.
        self.wte.weight.data[config.vocab_size :] = 0

    def _initialise(self, module: nn.Module) -> None:
        """Draw weights from N(0, 0.02), scaled by depth on residual paths (paper, section 2.3)."""
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)
        if isinstance(module, Attention | MLP):
            nn.init.normal_(module.c_proj.weight, std=0.02 / math.sqrt(2 * self.config.n_layer))

    def hidden(
        self, ids_BT: Tensor, positions_BT: Tensor, attend: Attend, selected_S: Tensor | None = None
    ) -> Tensor:
        """Return activations before the final norm: (B, T, C), or (S, C) at `selected_S`."""
        x = self.dropout(self.wte(ids_BT) + self.wpe(positions_BT))
        *blocks, last = self.h
        for block in blocks:
            if self.checkpoint_activations and self.training:
                x = checkpoint(block, x, attend, use_reentrant=False)
            else:
                x = block(x, attend)
        # The backward pass starts with the last block: recomputing it would save no memory.
        return last(x, attend, selected_S)  # type: ignore[no-any-return]

    def _pad_bias(self) -> Tensor:
        """Return a bias (V,) of minus infinity at the vocabulary's padding, 0 elsewhere.

        The softmax then gives padding no probability, so that its embeddings get no gradient.
        Cutting the padding off instead would give up the aligned matrix product.
        """
        weight_VC = self.wte.weight
        token_V = torch.arange(len(weight_VC), device=weight_VC.device)
        bias_V = torch.where(token_V < self.config.vocab_size, 0.0, -torch.inf)
        return bias_V.to(weight_VC.dtype)

    def logits(self, x: Tensor) -> Tensor:
        """Map activations before the final norm (..., C) to logits (..., V), without padding."""
        # The padding is cut off here, since no caller may choose an id that has no text.
        return self.head(self.ln_f(x), self.wte.weight)[..., : self.config.vocab_size]

    def forward(self, inputs: Tensor | Batch) -> Tensor:
        """Return the loss of a Batch, or the logits (B, T, V) of token ids (B, T).

        The loss is in nats and fp32, summed over the target tokens; training/step.py divides it
        by their number, or by the sum of their weights, over all micro-batches and ranks.
        """
        if isinstance(inputs, Batch):
            x_KMC = self.ln_f(self.hidden_at_targets(inputs))
            # summed_loss above, or the chunked one of nn/kernels.py after use_kernels
            head = self.wte.weight, self._pad_bias()
            return self.summed_loss(x_KMC, *head, inputs.targets_KM, inputs.target_weight_KM)
        B, T = inputs.shape
        if T > self.config.block_size:
            raise ValueError(f"{T} tokens exceed the context of {self.config.block_size}")
        positions_BT = torch.arange(T, device=inputs.device).expand(B, T)
        x_BTC = self.hidden(inputs, positions_BT, lambda _layer, qkv: attend_rows(qkv))
        return self.logits(x_BTC)

    def hidden_at_targets(self, batch: Batch) -> Tensor:
        """Return activations (K, M, C) at the target positions, before the final norm.

        Logits at prompt and padding positions would be wasted: they have no loss.
        """
        # The dense mask above, or the fused kernels of nn/kernels.py after use_kernels.
        attend = self.attend_within_documents(batch.borders, *batch.ids_BT.shape)
        selected_S = batch.target_index_KM.flatten()
        x_SC = self.hidden(batch.ids_BT, batch.positions_BT, attend, selected_S)
        return x_SC.view(*batch.target_index_KM.shape, -1)

    @torch.no_grad()
    def token_losses(self, batch: Batch) -> Tensor:
        """Return each target's loss (K, M) in nats and fp32, 0 where ignored; for evaluation.

        `forward` returns only their sum, but confidence intervals need the losses of each record.
        """
        losses = []
        # One chunk's logits at a time: all of them would not fit into memory.
        for x_MC, y_M in zip(self.hidden_at_targets(batch), batch.targets_KM, strict=True):
            logits_MV = at_least_fp32(self.logits(x_MC))
            losses.append(F.cross_entropy(logits_MV, y_M, ignore_index=IGNORE, reduction="none"))
        return torch.stack(losses)

    def new_cache(self, *, rows: int, capacity: int) -> KVCache:
        """Return an empty cache on this model's device, in the dtype of its weights."""
        return KVCache(self.config, rows=rows, capacity=capacity, like=self.wte.weight)

    @torch.no_grad()
    def step(
        self, ids: Mapping[int, Sequence[int]], cache: KVCache, among: Sequence[int] | None = None
    ) -> Tensor:
        """Append tokens to rows of the cache; return logits (len(ids), V) after each row's last.

        With `among`, only the logits of these tokens. Raises ValueError if they exceed the cache.
        """
        positions, attend = cache.append(ids)
        flat = [token for tokens in ids.values() for token in tokens]
        last_R = torch.tensor(list(map(len, ids.values()))).cumsum(0) - 1
        inputs = (torch.tensor([flat]), torch.tensor([positions]), last_R)
        ids_1P, position_1P, last_R = (x.to(self.wte.weight.device) for x in inputs)
        x_RC = self.hidden(ids_1P, position_1P, attend, last_R)
        if among is None:
            return self.logits(x_RC)
        # Not a matrix product, whose rounding may depend on the number of rows.
        chosen_KC = at_least_fp32(self.wte.weight[list(among)])
        return torch.sum(at_least_fp32(self.ln_f(x_RC))[:, None] * chosen_KC, dim=-1)

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        block_size: int | None = None,
        dropout: float = 0.0,
        dtype: torch.dtype = torch.float32,
    ) -> "GPT":
        """Load `gpt2` … `gpt2-xl`, a Hub repository, or a folder in the Hub's layout.

        `block_size` crops the context. The weights are kept in `dtype`, whatever the files have.
        The peak of memory is little more than the model. Raises ValueError if the model is not a
        GPT-2, or if a tensor is unknown, missing, misshapen or not finite, and FileNotFoundError if
        there are no weights.
        """
        folder = Path(source) if Path(source).is_dir() else hub_folder(str(source))
        config = _read_config(folder, block_size, dropout)
        return cls.from_tensors(config, read_tensors(weight_files(folder)), dtype)

    @classmethod
    def from_tensors(
        cls, config: GPTConfig, tensors: Iterable[tuple[str, Tensor]], dtype: torch.dtype
    ) -> "GPT":
        """Build a model from tensors with the Hub's names; see load_hub_state."""
        model = cls.without_weights(config)
        model.load_hub_state(tensors, dtype)
        return model

    @classmethod
    def without_weights(cls, config: GPTConfig) -> "GPT":
        """Build a model whose weights have a shape but no memory, to be assigned."""
        with torch.device("meta"), _SkipInitialisation():
            return cls(config)

    def load_hub_state(
        self, tensors: Iterable[tuple[str, Tensor]], dtype: torch.dtype = torch.float32
    ) -> None:
        """Load tensors with the Hub's names and [in, out] layout; raise ValueError for bad ones.

        Each is copied before the next is read, so that no second copy of the weights is needed.
        """
        names = self.state_dict().keys()
        state: dict[str, Tensor] = {}
        head: Tensor | None = None
        for hub_name, tensor in tensors:
            name = own_name(hub_name)
            if name == "lm_head.weight":
                head = tensor
            elif name not in names and not _NOT_WEIGHTS.fullmatch(name):
                raise ValueError(
                    f"a GPT-2 with {self.config.n_layer} layers has no tensor {hub_name}"
                )
            elif name in state:
                raise ValueError(f"{hub_name} is in the weights twice")
            elif name in names:
                state[name] = self._copied(hub_name, tensor, dtype)
            if head is not None and "wte.weight" in state:
                if not _is_tied(head, state["wte.weight"][: self.config.vocab_size]):
                    raise ValueError(
                        "lm_head.weight differs from wte.weight: GPT-2's output head is tied"
                    )
                head = None
        if missing := [name for name in names if name not in state]:
            others = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise ValueError(f"tensors are missing: {missing[0]}{others}")
        self.load_state_dict(state, assign=True)

    def _copied(self, hub_name: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
        """Return one parameter from its tensor in a file; raise ValueError if it does not fit."""
        name = own_name(hub_name)
        shape = self.get_parameter(name).shape
        weight = torch.empty(shape, dtype=dtype)
        if name == "wte.weight":
            shape = torch.Size((self.config.vocab_size, self.config.n_embd))
        found = transposed(name, tensor)
        if name == "wpe.weight" and found.dim() == 2:
            found = found[: self.config.block_size]
        if found.shape != shape:
            expected = transposed(name, torch.empty(shape, device="meta")).shape
            raise ValueError(
                f"{hub_name} has the shape {tuple(tensor.shape)}, but config.json means "
                f"{tuple(expected)}"
            )
        weight[: len(found)] = found
        weight[len(found) :] = 0  # the vocabulary's padding
        if not (found.is_floating_point() and _is_finite(weight)):
            raise ValueError(
                f"{hub_name} contains values that are not finite floating-point numbers"
            )
        return weight

    def hub_state(self) -> dict[str, Tensor]:
        """Return the weights with `transformers`' names and layout, without vocabulary padding.

        These are views, of which the transposed ones are not contiguous.
        """
        state = {name: transposed(name, tensor) for name, tensor in self.state_dict().items()}
        state["wte.weight"] = state["wte.weight"][: self.config.vocab_size]
        return {f"transformer.{name}": tensor for name, tensor in state.items()}

    def save_pretrained(
        self,
        folder: Path,
        *,
        weights: bool = True,
        ends: Sequence[int] = (50256,),
        change: Callable[[str, Tensor], Tensor] = lambda _name, tensor: tensor,
    ) -> None:
        """Write config.json, generation_config.json and, optionally, model.safetensors.

        `ends` are the ids that end a text, the usual one first. `change` maps each tensor, by its
        name and in its layout on the Hub, to the one that is written in its place.
        """
        folder.mkdir(parents=True, exist_ok=True)
        if weights:
            _write_safetensors(self.hub_state(), folder / "model.safetensors", change)
        config = _hub_config(self.config, self.wte.weight.dtype, ends)
        (folder / "config.json").write_text(json.dumps(config, indent=2))
        (folder / "generation_config.json").write_text(json.dumps(_end_of_text(ends), indent=2))


# ------------------------------------------------------------------------------------------------
# Hugging Face's layout. OpenAI's files on the Hub have no prefix and contain mask buffers; names in
# files written by `transformers` start with "transformer.". Both store linear weights as [in, out]
# (Conv1D), the transpose of nn.Linear's.

_LINEARS = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")
# Causal masks, and the second head of transformers' GPT2DoubleHeadsModel.
_NOT_WEIGHTS = re.compile(r"h\.\d+\.attn\.(bias|masked_bias)|multiple_choice_head\..*")


def transposed(name: str, tensor: Tensor) -> Tensor:
    """Turn a linear weight from [in, out] to [out, in] or back; leave other tensors as they are."""
    return tensor.t() if name.endswith(_LINEARS) and tensor.dim() == 2 else tensor


def own_name(hub_name: str) -> str:
    """Strip what DistributedDataParallel, torch.compile and `transformers` put before names."""
    name = re.sub(r"^(module\.)+", "", hub_name.replace("_orig_mod.", ""))
    return name.removeprefix("transformer.")


def _is_finite(tensor: Tensor) -> bool:
    # Unlike isfinite().all(), the extremes need no memory. NaN is the extreme of anything.
    return bool(torch.stack((tensor.amin(), tensor.amax())).isfinite().all())


def _is_tied(head_VC: Tensor, weight_VC: Tensor) -> bool:
    """Return whether an output head equals the embedding, compared in parts to save memory."""
    if head_VC.shape != weight_VC.shape:
        return False
    parts = zip(torch.split(head_VC, 1024), torch.split(weight_VC, 1024), strict=True)
    return all(torch.equal(head.to(weight.dtype), weight) for head, weight in parts)


# Some variants keep every tensor's name and shape but change the arithmetic; they are refused.
_FIXED = {"model_type": "gpt2", "tie_word_embeddings": True, "add_cross_attention": False}
# Names that transformers accepts in place of GPT-2's; n_ctx is how old files give n_positions.
_ALIASES = (
    ("hidden_size", "n_embd"),
    ("num_hidden_layers", "n_layer"),
    ("num_attention_heads", "n_head"),
    ("n_ctx", "n_positions"),
    ("max_position_embeddings", "n_positions"),
)
_SHAPE = ("vocab_size", "n_layer", "n_head", "n_embd", "layer_norm_epsilon")
_SWITCHES = (
    "activation_function",
    "scale_attn_weights",
    "scale_attn_by_inverse_layer_idx",
    "reorder_and_upcast_attn",
    "n_inner",
)


def _end_of_text(ends: Sequence[int]) -> dict[str, Any]:
    return {"bos_token_id": ends[0], "eos_token_id": ends[0] if len(ends) == 1 else list(ends)}


def _hub_config(config: GPTConfig, dtype: torch.dtype, ends: Sequence[int]) -> dict[str, Any]:
    """Return config.json as `transformers` writes it, plus n_ctx for llama.cpp's converter."""
    names = ("activation_function", "scale_attn_weights", "scale_attn_by_inverse_layer_idx")
    upcast = {"reorder_and_upcast_attn": True} if config.reorder_and_upcast_attn else {}
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        **{key: getattr(config, key) for key in names},
        "tie_word_embeddings": True,
        "n_inner": config.n_inner,
        **upcast,
        **{key: getattr(config, key) for key in _SHAPE},
        "n_positions": config.block_size,
        "n_ctx": config.block_size,
        "attn_pdrop": 0.0,
        "embd_pdrop": config.dropout,
        "resid_pdrop": config.dropout,
        **_end_of_text(ends),
        "dtype": str(dtype).removeprefix("torch."),
    }


def _read_config(folder: Path, block_size: int | None, dropout: float) -> GPTConfig:
    """Read a config.json; what it leaves out has the value of the published 124M model."""
    path = folder / "config.json"
    hub: dict[str, Any] = json.loads(path.read_text("utf-8-sig"))
    hub = {name: hub[alias] for alias, name in _ALIASES if alias in hub} | hub
    for key, fixed in _FIXED.items():
        if (found := hub.get(key, fixed)) != fixed:
            raise ValueError(f"{path}: {key} is {found!r}; only {fixed!r} is supported")
    for key in (*_SHAPE[:-1], "n_positions", "n_inner"):
        if type(found := hub.get(key, 1)) is not int and (key != "n_inner" or found is not None):
            raise ValueError(f"{path}: {key} is {found!r}, not a whole number")
    for key, kind in (("layer_norm_epsilon", float), ("activation_function", str)):
        if not isinstance(found := hub.get(key, kind()), kind):
            raise ValueError(f"{path}: {key} is {found!r}, not a {kind.__name__}")
    most = hub.get("n_positions", GPTConfig.block_size)
    length = most if block_size is None else block_size
    if length > most:
        raise ValueError(f"{path}: block_size {length} exceeds n_positions {most}")
    known = {key: hub[key] for key in (*_SHAPE, *_SWITCHES) if key in hub}
    if known.get("n_inner") == 4 * known.get("n_embd", GPTConfig.n_embd):
        known["n_inner"] = None  # one spelling for one shape
    return GPTConfig(**known, block_size=length, dropout=dropout)


def weight_files(folder: Path) -> list[Path]:
    """Return the files that contain a folder's weights: one, or those that an index names."""
    for name in ("model.safetensors", "pytorch_model.bin"):
        if (folder / name).exists():
            return [folder / name]
        if (index := folder / f"{name}.index.json").exists():
            try:
                shards = set(json.loads(index.read_text("utf-8"))["weight_map"].values())
                # Nothing outside the folder is opened.
                if any(Path(shard).name != shard for shard in shards):
                    raise ValueError
            except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
                raise ValueError(f"{index} does not map tensors to files beside it") from None
            return [folder / shard for shard in sorted(shards)]
    raise FileNotFoundError(f"{folder} has neither model.safetensors nor pytorch_model.bin")


MAPPED_NUMBERS = 2**21  # read from a mapped file before its memory is given back


def read_tensors(paths: Sequence[Path]) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of weight files by name, each valid until the next is asked for.

    Files are mapped into memory. What was read of a mapped file counts as memory until it is
    closed, so files are closed and opened again, and the largest tensors come first, when little
    else is in memory.
    """
    sizes = [(n, name, path) for path in paths for name, n in _tensor_sizes(path).items()]
    get: Callable[[str], Tensor] | None = None
    read, last = 0, None
    for n, name, path in sorted(sizes, reverse=True):
        if path != last or (read > MAPPED_NUMBERS and _can_be_mapped(path)):
            get = None  # closes the file
        if get is None:
            get, last, read = _open_weights(path), path, 0
        yield name, get(name)
        read += n


def _tensor_sizes(path: Path) -> dict[str, int]:
    """Return how many numbers each tensor in a file has, without reading any."""
    if path.suffix == ".safetensors":
        from safetensors import safe_open

        with safe_open(path, framework="pt") as file:
            return {name: math.prod(file.get_slice(name).get_shape()) for name in file.keys()}
    return {name: tensor.numel() for name, tensor in _unpickled(path).items()}


def _open_weights(path: Path) -> Callable[[str], Tensor]:
    """Open a file of weights; return a function that reads a tensor from it."""
    if path.suffix == ".safetensors":
        from safetensors import safe_open

        read: Callable[[str], Tensor] = safe_open(path, framework="pt").get_tensor
        return read
    return _unpickled(path).pop  # frees what cannot be mapped


def _unpickled(path: Path) -> dict[str, Tensor]:
    """Read a pytorch_model.bin without executing anything in it."""
    mapped = _can_be_mapped(path)
    tensors = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    if not (
        isinstance(tensors, dict) and all(isinstance(each, Tensor) for each in tensors.values())
    ):
        raise ValueError(f"{path.name} contains more than tensors")
    return dict(tensors)


def _can_be_mapped(path: Path) -> bool:
    """Return whether a file can be mapped, unlike those of torch before 1.6."""
    return path.suffix == ".safetensors" or zipfile.is_zipfile(path)


def _write_safetensors(
    tensors: Mapping[str, Tensor], path: Path, change: Callable[[str, Tensor], Tensor]
) -> None:
    """Write a file as safetensors.torch.save_file does, but with one contiguous copy at a time.

    The format is a JSON header after its length in 8 bytes, then the tensors' bytes in its order.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, tensor in sorted(tensors.items()):
        start, end = end, end + tensor.nbytes
        dtype = {torch.float32: "F32", torch.float64: "F64", torch.float16: "F16"}
        header[name] = {
            "dtype": dtype.get(tensor.dtype, "BF16"),
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors start at a multiple of 8
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, tensor in sorted(tensors.items()):
            written = change(name, tensor.detach()).contiguous().cpu()
            file.write(written.view(torch.uint8).numpy().data)


def hub_folder(name: str) -> Path:
    """Return the local copy of a Hub repository, downloading it if the cache lacks it."""
    from huggingface_hub import snapshot_download

    name = f"openai-community/{name}" if name in SIZES else name
    wanted = ["*config.json", "model*.safetensors*", "vocab.*", "merges.txt", "tokenizer.*"]
    wanted += ["encoder.json", "added_tokens.json", "special_tokens_map.json"]
    wanted += ["adapter_model.safetensors"]
    folder = Path(snapshot_download(name, allow_patterns=wanted))
    if any(folder.glob("*model*.safetensors")):
        return folder
    pickles = ["pytorch_model*.bin", "pytorch_model.bin.index.json"]
    return Path(snapshot_download(name, allow_patterns=[*wanted, *pickles]))
