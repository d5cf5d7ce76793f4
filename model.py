"""GPT-2 and nothing else: architecture, loss, KV cache, and its weights in Hugging Face's layout.

Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", section 2.3. There is no
optimizer, no tokenizer, no printing and no training loop here, and this file imports torch alone,
so that it can be lifted out whole. Broken weights raise ValueError, missing ones FileNotFoundError.

Shapes: B rows, T tokens, C channels, N heads, H head size (C = N * H), V vocabulary, K chunks of
M targets, R rows of a cache, P positions laid end to end (of a batch B * T); 3 stands for query,
key and value.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

ATTENDED = 128  # queries that attend in one kernel call
IGNORE = -100  # target of a padded position: no loss, no gradient

SIZES = ("gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl")  # 124M, 355M, 774M and 1.5B parameters


@dataclass(frozen=True, kw_only=True)
class GPTConfig:
    """The shape of a GPT-2; the defaults are the published 124M model's."""

    vocab_size: int = 50257
    block_size: int = 1024  # longest row in tokens: one learned position each
    n_layer: int = 12
    n_head: int = 12
    n_embd: int = 768
    dropout: float = 0.0  # of embeddings and of both residual branches, while training
    layer_norm_epsilon: float = 1e-5

    def __post_init__(self) -> None:
        for name in ("vocab_size", "block_size", "n_layer", "n_head", "n_embd"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.n_embd % self.n_head:
            raise ValueError(f"n_embd {self.n_embd} is not a multiple of n_head {self.n_head}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be at least 0 and below 1, got {self.dropout}")

    @property
    def padded_vocab_size(self) -> int:
        """Rows of the embedding in memory: a multiple of 64 keeps the head's matmul aligned."""
        return math.ceil(self.vocab_size / 64) * 64


# ------------------------------------------------------------------------------------------------
# The three ways to attend: whole rows, documents of packed rows, a cache. An Attend takes a layer's
# number and its queries, keys and values (B, T, 3, N, H), and gives (B, T, N, H).

Attend = Callable[[int, Tensor], Tensor]


def _attend(qkv_BT3NH: Tensor, mask: Tensor | None = None) -> Tensor:
    """By a mask, or causally: every position sees itself and all earlier ones of its row."""
    q, k, v = qkv_BT3NH.permute(2, 0, 3, 1, 4)
    y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None)
    return y.transpose(1, 2)


def attend_within_documents(borders: Tensor, rows: int, length: int) -> Attend:
    """Every position sees itself and the earlier ones of its own document, by a dense mask."""
    index_P = torch.arange(rows * length, device=borders.device)
    document_BT = torch.searchsorted(borders, index_P, right=True).view(rows, length)
    same = document_BT[:, None, :, None] == document_BT[:, None, None, :]
    mask_B1TT = same & same.new_ones(length, length).tril()
    return lambda _, qkv: _attend(qkv, mask_B1TT)


class KVCache:
    """Keys and values of R rows, one static tensor a layer, and how many tokens each row holds.

    A row takes tokens whatever the others do and reads its own alone: the same bits in any company.
    """

    def __init__(self, config: GPTConfig, *, rows: int, capacity: int, like: Tensor) -> None:
        if capacity > config.block_size:
            raise ValueError(f"a cache of {capacity} exceeds the context of {config.block_size}")
        # The place behind the last one takes what rows without a token write in a fixed shape.
        shape = (2, rows, config.n_head, capacity + 1, config.n_embd // config.n_head)
        self.capacity, self.lengths = capacity, [0] * rows
        self.layers = [like.new_zeros(shape) for _ in range(config.n_layer)]

    def clear(self, row: int) -> None:
        """Empty a row; nothing of what it held stays in memory."""
        for layer in self.layers:
            layer[:, row, :, : self.lengths[row]] = 0
        self.lengths[row] = 0

    def append(self, ids: Mapping[int, Sequence[int]]) -> tuple[list[int], Attend]:
        """Make room for tokens, or ValueError: their positions, end to end, and how they attend."""
        spans = {r: range(self.lengths[r], self.lengths[r] + len(new)) for r, new in ids.items()}
        if (used := max(span.stop for span in spans.values())) > self.capacity:
            raise ValueError(f"{used} tokens exceed the cache of {self.capacity}")
        if not all(spans.values()):
            raise ValueError("a row is given no token; leave it out")
        runs: list[tuple[slice, int, int]] = []
        for row, span in spans.items():
            self.lengths[row] = span.stop
            if runs and (runs[-1][0].stop, *runs[-1][1:]) == (row, span.start, span.stop):
                runs[-1] = (slice(runs[-1][0].start, row + 1), span.start, span.stop)
                continue
            for start, stop in pairwise([*range(span.start, span.stop, ATTENDED), span.stop]):
                runs.append((slice(row, row + 1), start, stop))
        return [p for span in spans.values() for p in span], partial(self._attend, runs)

    def _attend(self, runs: list[tuple[slice, int, int]], layer: int, qkv_1P3NH: Tensor) -> Tensor:
        """In runs of ATTENDED tokens: a prompt in such pieces gives the bits of a whole one."""
        sizes = [(rows.stop - rows.start) * (stop - start) for rows, start, stop in runs]
        pieces, parts = qkv_1P3NH[0].split_with_sizes(sizes), []
        for (rows, start, stop), new in zip(runs, pieces, strict=True):
            n_new = stop - start
            new_3RNTH = torch.unflatten(new, 0, (-1, n_new)).permute(2, 0, 3, 1, 4)
            held_2RNTH = self.layers[layer][:, rows, :, :stop]
            held_2RNTH[:, :, :, start:] = new_3RNTH[1:]
            args, mask = (new_3RNTH[0], *held_2RNTH.to(new.dtype)), None
            if start and n_new > 1:  # the first run is causal, a single query sees all
                mask = new.new_ones(n_new, stop, dtype=torch.bool).tril(start)
            attend = partial(F.scaled_dot_product_attention, attn_mask=mask, is_causal=not start)
            # The kernel splits a single query's keys by the number of rows: one row at a time.
            by_row = n_new == 1 and len(args[0]) > 1
            groups = zip(*(x.split(1) for x in args), strict=True) if by_row else [args]
            parts += [attend(*group).transpose(1, 2).flatten(0, 1) for group in groups]
        return (parts[0] if len(parts) == 1 else torch.cat(parts))[None]


class Attention(nn.Module):
    """Multi-head self-attention. Its probabilities are not dropped out: the fused kernels of packed
    rows cannot, and the residual branch is dropped out right behind it."""

    def __init__(self, config: GPTConfig, layer: int) -> None:
        super().__init__()
        self.n_head, self.layer = config.n_head, layer
        self.c_attn = nn.Linear(config.n_embd, 3 * config.n_embd)
        self.c_proj = nn.Linear(config.n_embd, config.n_embd)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x_BTC: Tensor, attend: Attend, kept_M: Tensor | None) -> Tensor:
        qkv_BT3NH = self.c_attn(x_BTC).unflatten(-1, (3, self.n_head, -1))
        y = _kept(attend(self.layer, qkv_BT3NH).flatten(-2), kept_M)
        return self.dropout(self.c_proj(y))  # type: ignore[no-any-return]


class MLP(nn.Module):
    """Two linear layers around GELU in its tanh form, as GPT-2 has it (Hendrycks & Gimpel 2016)."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.c_fc = nn.Linear(config.n_embd, 4 * config.n_embd)
        self.c_proj = nn.Linear(4 * config.n_embd, config.n_embd)
        self.gelu: nn.Module = nn.GELU(approximate="tanh")
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.c_proj(self.gelu(self.c_fc(x))))  # type: ignore[no-any-return]


class Block(nn.Module):
    """Attention, then MLP, each normed first; (B, T, C), or of positions kept_M alone (M, C)."""

    def __init__(self, config: GPTConfig, layer: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.attn = Attention(config, layer)
        self.ln_2 = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.mlp = MLP(config)

    def forward(self, x_BTC: Tensor, attend: Attend, kept_M: Tensor | None = None) -> Tensor:
        x = _kept(x_BTC, kept_M) + self.attn(self.ln_1(x_BTC), attend, kept_M)
        return x + self.mlp(self.ln_2(x))  # type: ignore[no-any-return]


def _kept(x_BTC: Tensor, kept_M: Tensor | None) -> Tensor:
    return x_BTC if kept_M is None else x_BTC.flatten(0, 1).index_select(0, kept_M)


def at_least_fp32(x: Tensor) -> Tensor:
    """Losses are worked out in fp32, whatever the matrix products are."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def summed_loss(x_KMC: Tensor, weight_VC: Tensor, bias_V: Tensor, targets_KM: Tensor) -> Tensor:
    """Cross-entropy of the tied head, in nats, summed over all targets."""
    logits_KMV = at_least_fp32(F.linear(x_KMC, weight_VC, bias_V))
    args = logits_KMV.flatten(0, 1), targets_KM.flatten()
    return F.cross_entropy(*args, ignore_index=IGNORE, reduction="sum")


class Batch(NamedTuple):
    """Packed rows and what to predict in them; every tensor int64 and on one device."""

    ids_BT: Tensor
    positions_BT: Tensor  # restart at 0 with each document
    borders: Tensor  # first position (of P) of each document, then P; spare entries are P
    target_index_KM: Tensor  # position (of P) whose next token is predicted
    targets_KM: Tensor  # that token, or IGNORE


class GPT(nn.Module):
    """GPT-2: learned positions, pre-norm blocks, output head tied to the token embedding."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config
        self.checkpoint_activations = False  # recompute blocks in the backward: less memory
        # Plain versions; nn/kernels.py and decoding/decoders.py replace them by faster ones.
        self.attend_within_documents = attend_within_documents
        self.summed_loss = summed_loss
        self.head: Callable[[Tensor, Tensor], Tensor] = F.linear
        self.wte = nn.Embedding(config.padded_vocab_size, config.n_embd)
        self.wpe = nn.Embedding(config.block_size, config.n_embd)
        self.dropout = nn.Dropout(config.dropout)
        self.h = nn.ModuleList(Block(config, layer) for layer in range(config.n_layer))
        self.ln_f = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.apply(self._initialise)
        self.wte.weight.data[config.vocab_size :] = 0

    def _initialise(self, module: nn.Module) -> None:
        """Normal 0.02; residual projections scaled by depth (GPT-2 paper, section 2.3)."""
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)
        if isinstance(module, Attention | MLP):
            nn.init.normal_(module.c_proj.weight, std=0.02 / math.sqrt(2 * self.config.n_layer))

    def hidden(
        self, ids_BT: Tensor, positions_BT: Tensor, attend: Attend, kept_M: Tensor | None = None
    ) -> Tensor:
        """(B, T, C) before the final norm, or (M, C) of some positions."""
        x = self.dropout(self.wte(ids_BT) + self.wpe(positions_BT))
        *blocks, last = self.h
        for block in blocks:
            if self.checkpoint_activations and self.training:
                x = checkpoint(block, x, attend, use_reentrant=False)
            else:
                x = block(x, attend)
        # The backward begins with the last one: to recompute it would save no memory.
        return last(x, attend, kept_M)  # type: ignore[no-any-return]

    def _pad_bias(self) -> Tensor:
        """Minus infinity (V,) hides the vocabulary's padding: no gradient, rows that stay zero."""
        weight_VC = self.wte.weight
        token_V = torch.arange(len(weight_VC), device=weight_VC.device)
        bias_V = torch.where(token_V < self.config.vocab_size, 0.0, -torch.inf)
        return bias_V.to(weight_VC.dtype)

    def logits(self, x: Tensor) -> Tensor:
        """(..., C) before the final norm -> (..., V)."""
        return self.head(self.ln_f(x), self.wte.weight)[..., : self.config.vocab_size]

    def forward(self, inputs: Tensor | Batch) -> Tensor:
        """Loss in nats and fp32, summed over the targets of a Batch; or logits (B, T, V) of ids."""
        if isinstance(inputs, Batch):
            x_KMC = self.ln_f(self.hidden_at_targets(inputs))
            return self.summed_loss(x_KMC, self.wte.weight, self._pad_bias(), inputs.targets_KM)
        B, T = inputs.shape
        if T > self.config.block_size:
            raise ValueError(f"{T} tokens exceed the context of {self.config.block_size}")
        positions_BT = torch.arange(T, device=inputs.device).expand(B, T)
        x_BTC = self.hidden(inputs, positions_BT, lambda _, qkv: _attend(qkv))
        return self.logits(x_BTC)

    def hidden_at_targets(self, batch: Batch) -> Tensor:
        """(K, M, C) before the final norm: logits are worked out at target positions alone."""
        attend = self.attend_within_documents(batch.borders, *batch.ids_BT.shape)
        kept_M = batch.target_index_KM.flatten()
        x_MC = self.hidden(batch.ids_BT, batch.positions_BT, attend, kept_M)
        return x_MC.view(*batch.target_index_KM.shape, -1)

    @torch.no_grad()
    def token_losses(self, batch: Batch) -> Tensor:
        """Each target's loss (K, M) in nats and fp32, 0 where ignored, to be measured alone."""
        chunks = zip(self.hidden_at_targets(batch), batch.targets_KM, strict=True)
        logits_and_targets = ((at_least_fp32(self.logits(x_MC)), y_M) for x_MC, y_M in chunks)
        loss = partial(F.cross_entropy, ignore_index=IGNORE, reduction="none")
        return torch.stack([loss(*pair) for pair in logits_and_targets])

    def new_cache(self, *, rows: int, capacity: int) -> KVCache:
        """An empty cache on this model's device, in the dtype of its weights."""
        return KVCache(self.config, rows=rows, capacity=capacity, like=self.wte.weight)

    @torch.no_grad()
    def step(
        self, ids: Mapping[int, Sequence[int]], cache: KVCache, among: Sequence[int] | None = None
    ) -> Tensor:
        """Append tokens to rows of the cache; logits (len(ids), V) behind the last one of each.

        Of the tokens `among` alone where given. ValueError where they exceed the cache.
        """
        positions, attend = cache.append(ids)
        flat = [token for tokens in ids.values() for token in tokens]
        last_R = torch.tensor(list(map(len, ids.values()))).cumsum(0) - 1
        inputs = (torch.tensor([flat]), torch.tensor([positions]), last_R)
        ids_1P, position_1P, last_R = (x.to(self.wte.weight.device) for x in inputs)
        x_RC = self.hidden(ids_1P, position_1P, attend, last_R)
        if among is None:
            return self.logits(x_RC)
        return torch.sum(self.ln_f(x_RC)[:, None] * self.wte.weight[list(among)], dim=-1)

    @classmethod
    def from_pretrained(
        cls, source: str | Path, *, block_size: int | None = None, dropout: float = 0.0
    ) -> "GPT":
        """Weights of `gpt2` … `gpt2-xl`, of a Hub repository or of a folder in the Hub's layout.

        `block_size` crops the context. ValueError: not a GPT-2, or a tensor unknown, missing,
        misshapen or not finite. FileNotFoundError: no weights there.
        """
        folder = Path(source) if Path(source).is_dir() else hub_folder(str(source))
        model = cls(_read_config(folder, block_size, dropout))
        model.load_hub_state(_read_tensors(folder))
        return model

    def load_hub_state(self, tensors: dict[str, Tensor]) -> None:
        """Take over tensors in the Hub's names and [in, out] layout; ValueError names a bad one."""
        state = _from_hub(tensors)
        for name, tensor in state.items():
            if not (tensor.is_floating_point() and tensor.isfinite().all()):
                raise ValueError(f"{name} holds values that are not finite floating-point numbers")
        if "wte.weight" in state and state["wte.weight"].dim() == 2:
            padding = self.config.padded_vocab_size - self.config.vocab_size
            state["wte.weight"] = F.pad(state["wte.weight"], (0, 0, 0, padding))
        if "wpe.weight" in state and state["wpe.weight"].dim() == 2:
            state["wpe.weight"] = state["wpe.weight"][: self.config.block_size]
        try:
            self.load_state_dict(state)
        except RuntimeError as error:  # its lines name what is missing, unexpected or misshapen
            raise ValueError(" ".join(str(error).split())) from None

    def hub_state(self) -> dict[str, Tensor]:
        """The weights in `transformers`' names and layout, without the vocabulary's padding."""
        state = {name: _transposed(name, tensor) for name, tensor in self.state_dict().items()}
        state["wte.weight"] = state["wte.weight"][: self.config.vocab_size]
        return {f"transformer.{name}": t.contiguous().cpu() for name, t in state.items()}

    def save_pretrained(self, folder: Path, *, weights: bool = True) -> None:
        """Write config.json, generation_config.json and, if wanted, model.safetensors."""
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        if weights:
            save_file(self.hub_state(), folder / "model.safetensors", metadata={"format": "pt"})
            # safetensors creates 0600, which another user's server could not read.
            (folder / "model.safetensors").chmod(0o644)
        config = _hub_config(self.config, self.wte.weight.dtype)
        (folder / "config.json").write_text(json.dumps(config, indent=2))
        (folder / "generation_config.json").write_text(json.dumps(_END_OF_TEXT, indent=2))


# ------------------------------------------------------------------------------------------------
# Hugging Face's layout: the Hub's own files have no prefix and carry mask buffers, those of
# `transformers` start with "transformer."; both keep linear weights as [in, out] (Conv1D).

_LINEARS = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")


def _transposed(name: str, tensor: Tensor) -> Tensor:
    return tensor.t() if name.endswith(_LINEARS) and tensor.dim() == 2 else tensor


def _from_hub(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    names = {name: name.removeprefix("transformer.") for name in tensors}
    masks = (".attn.bias", ".attn.masked_bias")  # buffers, from before there was an operator
    state = {new: _transposed(new, tensors[k]) for k, new in names.items() if not k.endswith(masks)}
    head = state.pop("lm_head.weight", None)
    if head is not None and not torch.equal(head, state.get("wte.weight", head)):
        raise ValueError("lm_head.weight differs from wte.weight: GPT-2's output head is tied")
    return state


_END_OF_TEXT = {"bos_token_id": 50256, "eos_token_id": 50256}
# Variants that keep every tensor's name and shape but change the arithmetic are refused.
_FIXED = {
    "model_type": "gpt2",
    "activation_function": "gelu_new",
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "tie_word_embeddings": True,
    "n_inner": None,
}
_SHAPE = ("vocab_size", "n_layer", "n_head", "n_embd", "layer_norm_epsilon")


def _hub_config(config: GPTConfig, dtype: torch.dtype) -> dict[str, Any]:
    """config.json as `transformers` writes it, and n_ctx, which llama.cpp's converter reads."""
    return {
        "architectures": ["GPT2LMHeadModel"],
        **_FIXED,
        **{key: getattr(config, key) for key in _SHAPE},
        "n_positions": config.block_size,
        "n_ctx": config.block_size,
        "attn_pdrop": 0.0,
        "embd_pdrop": config.dropout,
        "resid_pdrop": config.dropout,
        **_END_OF_TEXT,
        "dtype": str(dtype).removeprefix("torch."),
    }


def _read_config(folder: Path, block_size: int | None, dropout: float) -> GPTConfig:
    path = folder / "config.json"
    hub: dict[str, Any] = {"layer_norm_epsilon": 1e-5} | json.loads(path.read_text("utf-8"))
    if absent := {*_SHAPE, "n_positions"} - hub.keys():
        raise ValueError(f"{path} has no {', '.join(sorted(absent))}")
    same = {"gelu_pytorch_tanh": "gelu_new", 4 * hub["n_embd"]: None}  # other spellings
    for key, fixed in _FIXED.items():
        if (found := hub.get(key, fixed)) != fixed and same.get(found, found) != fixed:
            raise ValueError(f"{path}: {key} is {found!r}, GPT-2 has {fixed!r}")
    length = hub["n_positions"] if block_size is None else block_size
    if length > hub["n_positions"]:
        raise ValueError(f"{path}: block_size {length} exceeds n_positions {hub['n_positions']}")
    shape = {key: hub[key] for key in _SHAPE}
    return GPTConfig(**shape, block_size=length, dropout=dropout)


def _read_tensors(folder: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    index, old = folder / "model.safetensors.index.json", folder / "pytorch_model.bin"
    shards = {"model.safetensors"}
    if index.exists() and not (folder / "model.safetensors").exists():
        shards = set(json.loads(index.read_text("utf-8"))["weight_map"].values())
    elif old.exists() and not (folder / "model.safetensors").exists():
        return dict(torch.load(old, map_location="cpu", weights_only=True))
    return {k: t for name in sorted(shards) for k, t in load_file(folder / name).items()}


def hub_folder(name: str) -> Path:
    """The local copy of a Hub repository's GPT-2, downloaded where the cache lacks it."""
    from huggingface_hub import snapshot_download

    name = f"openai-community/{name}" if name in SIZES else name
    wanted = ["*config.json", "model*.safetensors*", "vocab.json", "merges.txt", "tokenizer.json"]
    folder = Path(snapshot_download(name, allow_patterns=wanted))
    if any(folder.glob("model*.safetensors")):
        return folder
    return Path(snapshot_download(name, allow_patterns=[*wanted, "pytorch_model.bin"]))
