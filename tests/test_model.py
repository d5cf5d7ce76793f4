"""GPT-2 against transformers, packed rows against documents, cached against uncached."""

import json
import math
import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import huggingface_hub
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, GPT2LMHeadModel

from model import (
    GPT,
    IGNORE,
    GPTConfig,
    hub_folder,
)
from tests.helpers.models import Document, SlowBatch, losses_and_gradient, packed
from tests.helpers.parity import build_theirs, differences, largest_difference, rows_of

Build = Callable[..., GPT]

# ------------------------------------------------------------------------------------------------
# Parity with transformers' GPT-2


def of_shape(**sizes: int) -> dict[str, Any]:
    # Larger than the usual 1e-5, so that ignoring it shows.
    return {**sizes, "layer_norm_epsilon": 1e-3}


SHAPES = [
    ("eager", of_shape(vocab_size=64, n_positions=16, n_layer=1, n_head=1, n_embd=8)),
    ("sdpa", of_shape(vocab_size=101, n_positions=32, n_layer=3, n_head=4, n_embd=48)),
    ("eager", of_shape(vocab_size=333, n_positions=64, n_layer=2, n_head=2, n_embd=128)),
    ("sdpa", of_shape(vocab_size=50257, n_positions=16, n_layer=2, n_head=3, n_embd=24)),
]


@pytest.mark.parametrize(("attention", "shape"), SHAPES)
def test_weights_of_transformers_give_its_logits_loss_and_gradients(
    attention: str, shape: dict[str, Any], tmp_path: Path
) -> None:
    theirs = build_theirs(attention, **shape)
    theirs.save_pretrained(tmp_path / "theirs")
    ours = GPT.from_pretrained(tmp_path / "theirs")
    ids_BT = torch.randint(shape["vocab_size"], (3, shape["n_positions"]))
    ids_BT[0, 0] = shape["vocab_size"] - 1
    found = differences(ours, theirs, ids_BT)
    assert max(found.values()) <= 1e-5, found
    assert ours(ids_BT).shape == (*ids_BT.shape, shape["vocab_size"])

    ours.save_pretrained(tmp_path / "ours")
    first, again = (load_file(tmp_path / x / "model.safetensors") for x in ("theirs", "ours"))
    assert first.keys() == again.keys()
    assert all(torch.equal(first[name], again[name]) for name in first)


@pytest.mark.parametrize(("attention", "shape"), SHAPES)
def test_our_weights_give_the_same_logits_loss_and_gradients_in_transformers(
    attention: str, shape: dict[str, Any], tmp_path: Path
) -> None:
    torch.manual_seed(4)
    shape = {"block_size" if k == "n_positions" else k: size for k, size in shape.items()}
    ours = GPT(GPTConfig(**shape))
    ours.save_pretrained(tmp_path / "ours")
    theirs = GPT2LMHeadModel.from_pretrained(tmp_path / "ours", attn_implementation=attention)
    ids_BT = torch.randint(shape["vocab_size"], (2, shape["block_size"]))
    found = differences(ours, theirs.train(), ids_BT)
    assert max(found.values()) <= 1e-5, found

    theirs.save_pretrained(tmp_path / "theirs")
    again = GPT.from_pretrained(tmp_path / "theirs").state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in ours.state_dict().items())


@pytest.mark.parametrize("broken", ["h.0.attn.c_proj", "h.1.attn.c_proj"])
def test_parity_check_detects_a_transposed_square_weight(broken: str) -> None:
    # [in, out] and [out, in] have one shape here: no loader can notice, only arithmetic can.
    theirs = build_theirs(vocab_size=64, n_positions=16, n_layer=2, n_head=2, n_embd=16)
    ours = GPT(GPTConfig(vocab_size=64, block_size=16, n_layer=2, n_head=2, n_embd=16))
    tensors = theirs.transformer.state_dict()
    tensors[f"{broken}.weight"] = tensors[f"{broken}.weight"].t()
    ours.load_hub_state(tensors.items())
    found = differences(ours, theirs, torch.randint(64, (2, 16)))
    assert found["logits"] > 1e-2
    assert max(found.values()) > 1e-2


def test_vocabulary_padding_has_no_effect(tiny_model: Build) -> None:
    model = tiny_model(vocab_size=50257)
    ids_BT = torch.tensor([[50256, 0, 50256, 17]])
    assert model.wte.weight.shape == (50304, 16)
    assert model(ids_BT).shape == (1, 4, 50257)
    cache = model.new_cache(rows=1, capacity=4)
    assert model.step({0: ids_BT[0].tolist()}, cache).shape == (1, 50257)
    assert model.hub_state()["transformer.wte.weight"].shape == (50257, 16)
    losses_M = model.token_losses(rows_of(ids_BT))[0]
    log_probabilities = model(ids_BT)[0, :-1].log_softmax(-1)  # over the real vocabulary alone
    expected_M = -log_probabilities.gather(1, ids_BT[0, 1:, None])[:, 0]
    torch.testing.assert_close(losses_M, expected_M, rtol=1e-6, atol=1e-6)
    model(rows_of(ids_BT)).backward()
    assert model.wte.weight.grad is not None
    assert not model.wte.weight.grad[50257:].any()
    torch.optim.AdamW(model.parameters(), weight_decay=0.1).step()
    assert not model.wte.weight[50257:].any()


def test_a_row_longer_than_the_context_is_refused(tiny_model: Build) -> None:
    with pytest.raises(ValueError, match="25 tokens exceed the context of 24"):
        tiny_model()(torch.zeros(1, 25, dtype=torch.long))


# ------------------------------------------------------------------------------------------------
# Targets, dropout, precision, activation checkpointing


def test_ignored_targets_have_no_loss_and_no_gradient(
    tiny_model: Build, documents: list[Document], slow_batch: SlowBatch
) -> None:
    model = tiny_model().double()
    batch = slow_batch([documents[1:4]], 24)
    kept_M = torch.arange(batch.targets_KM.numel()) % 3 == 0
    some = batch._replace(targets_KM=batch.targets_KM.where(kept_M, IGNORE))
    fewer = batch._replace(
        targets_KM=batch.targets_KM[:, kept_M], target_index_KM=batch.target_index_KM[:, kept_M]
    )
    losses_M, gradient = losses_and_gradient(model, some)
    fewer_M, gradient_of_fewer = losses_and_gradient(model, fewer)
    assert not losses_M[~kept_M].any()
    torch.testing.assert_close(losses_M[kept_M], fewer_M, rtol=0, atol=1e-12)
    assert float((gradient - gradient_of_fewer).norm() / gradient.norm()) <= 1e-12


def test_a_batch_of_ignored_targets_has_zero_loss_and_gradients(
    tiny_model: Build, documents: list[Document], slow_batch: SlowBatch
) -> None:
    batch = slow_batch([documents[1:4]], 24)
    nothing = batch._replace(targets_KM=torch.full_like(batch.targets_KM, IGNORE))
    losses_M, gradient = losses_and_gradient(tiny_model(), nothing)
    assert not losses_M.any()
    assert not gradient.any()


def test_losses_are_fp32_under_16_bit_autocast(
    tiny_model: Build, documents: list[Document], slow_batch: SlowBatch
) -> None:
    model, batch = tiny_model(), slow_batch(packed(documents), 24)
    losses_M, gradient = losses_and_gradient(model, batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low_M, low_gradient = losses_and_gradient(model, batch)
    assert low_M.dtype == low_gradient.dtype == model.bfloat16()(batch).dtype == torch.float32
    assert float((losses_M - low_M).norm() / losses_M.norm()) < 0.02
    assert float((gradient - low_gradient).norm() / gradient.norm()) < 0.05


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_recomputed_activations_are_bit_identical(
    dropout: float, tiny_model: Build, documents: list[Document], slow_batch: SlowBatch
) -> None:
    batch, model = slow_batch(packed(documents), 24), tiny_model(dropout=dropout)
    torch.manual_seed(6)
    loss = model(batch)
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    model.checkpoint_activations = True
    torch.manual_seed(6)
    again = model(batch)
    assert torch.equal(loss, again)
    gradients_again = torch.autograd.grad(again, list(model.parameters()))
    assert all(map(torch.equal, gradients, gradients_again))


def test_dropout_acts_only_in_training(tiny_model: Build) -> None:
    model, plain, ids_BT = tiny_model(dropout=0.5), tiny_model(), torch.arange(10)[None]
    assert not torch.equal(model(ids_BT), model(ids_BT))
    assert torch.equal(model.eval()(ids_BT), plain(ids_BT))


def test_dropout_is_applied_where_transformers_applies_it(tiny_model: Build) -> None:
    # On the embeddings and on the output of both branches: its embd_pdrop and resid_pdrop.
    model, acted = tiny_model(dropout=0.25), []
    for name, module in model.named_modules():
        if isinstance(module, nn.Dropout):
            assert module.p == 0.25
            module.register_forward_hook(lambda *_, name=name: acted.append(name))
    model(torch.arange(10)[None])
    assert acted == ["dropout", *(f"h.{i}.{x}.dropout" for i in (0, 1) for x in ("attn", "mlp"))]


def test_initial_weights_follow_the_gpt2_paper() -> None:
    torch.manual_seed(8)
    model = GPT(GPTConfig(vocab_size=1000, block_size=128, n_layer=6, n_head=4, n_embd=128))
    for name, tensor in model.named_parameters():
        if name.endswith("bias"):
            assert not tensor.any(), name
        elif "ln_" in name:
            assert torch.equal(tensor, torch.ones_like(tensor)), name
        else:
            std = 0.02 / math.sqrt(2 * 6) if "c_proj" in name else 0.02
            real = tensor.detach()[:1000] if name == "wte.weight" else tensor.detach()
            assert float(real.std()) == pytest.approx(std, rel=0.04), name
            assert abs(float(real.mean())) < 0.05 * std, name


@pytest.mark.parametrize(
    ("shape", "phrase"),
    [
        ({"n_layer": 0}, "n_layer must be at least 1, got 0"),
        ({"n_head": -1}, "n_head must be at least 1, got -1"),
        ({"n_embd": 0}, "n_embd must be at least 1, got 0"),
        ({"vocab_size": 0}, "vocab_size must be at least 1, got 0"),
        ({"block_size": 0}, "block_size must be at least 1, got 0"),
        ({"n_embd": 100, "n_head": 3}, "n_embd 100 is not a multiple of n_head 3"),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1, got 1.0"),
        ({"dropout": -0.1}, "dropout must be at least 0 and below 1, got -0.1"),
        ({"n_inner": 0}, "n_inner must be at least 1, got 0"),
        ({"activation_function": "gelu_10"}, "activation_function is 'gelu_10'; supported are"),
    ],
)
def test_an_impossible_shape_is_refused(shape: dict[str, Any], phrase: str) -> None:
    with pytest.raises(ValueError, match=phrase):
        GPTConfig(**shape)


# ------------------------------------------------------------------------------------------------
# KV cache


def test_cached_steps_equal_a_whole_forward(tiny_model: Build) -> None:
    """Runs of 5 tokens, so that pieces start and end inside a run, at its border and across it."""
    torch.manual_seed(9)
    model = tiny_model().eval()
    cache = model.new_cache(rows=4, capacity=24)
    rows: list[list[int]] = [[], [], [], []]
    # Prefill, decode with a row at rest, a late start, a chunk, rest, and up to the last place.
    plan = ((5, 2, 0, 7), (1, 1, 0, 1), (0, 1, 6, 1), (4, 1, 3, 0), (1, 0, 1, 1), (13, 1, 2, 14))
    with mock.patch("model.ATTENDED", 5), torch.no_grad():
        for counts in plan:
            fed = {r: torch.randint(96, (n,)).tolist() for r, n in enumerate(counts) if n}
            before = [layer.clone() for layer in cache.layers]
            logits_RV = model.step(fed, cache)
            for (row, tokens), logits_V in zip(fed.items(), logits_RV, strict=True):
                rows[row] += tokens
                expected_V = model(torch.tensor([rows[row]]))[0, -1]
                assert largest_difference(logits_V, expected_V) <= 1e-5
            assert cache.lengths == [len(row) for row in rows]
            for layer, old in zip(cache.layers, before, strict=True):
                for b, count in enumerate(counts):
                    start = len(rows[b]) - count  # what the row held before stays as it was
                    assert torch.equal(layer[:, b, :, :start], old[:, b, :, :start])
                    assert not layer[:, b, :, len(rows[b]) :].any()
    assert cache.lengths == [24, 6, 12, 24]


def test_rows_may_come_in_any_order_and_logits_be_restricted(tiny_model: Build) -> None:
    model = tiny_model().eval()
    one, other = model.new_cache(rows=3, capacity=9), model.new_cache(rows=3, capacity=9)
    ordered_RV = model.step({0: [5, 6], 2: [7]}, one)
    swapped_RV = model.step({2: [7], 0: [5, 6]}, other, among=[4, 90, 4])
    torch.testing.assert_close(swapped_RV, ordered_RV.flip(0)[:, [4, 90, 4]])


def test_clearing_a_row_zeroes_its_cache(tiny_model: Build) -> None:
    model = tiny_model().eval()
    cache, fresh = (model.new_cache(rows=2, capacity=9) for _ in range(2))
    model.step({0: [1, 2, 3], 1: [4, 5, 6, 7, 8, 9]}, cache)
    kept = [layer[:, 0].clone() for layer in cache.layers]
    cache.clear(1)
    for layer, old in zip(cache.layers, kept, strict=True):
        assert not layer[:, 1].any() and torch.equal(layer[:, 0], old)
    assert cache.lengths == [3, 0]
    assert torch.equal(model.step({1: [11, 12]}, cache), model.step({1: [11, 12]}, fresh))


def test_a_full_cache_is_refused(tiny_model: Build) -> None:
    model = tiny_model()
    cache = model.new_cache(rows=2, capacity=8)
    model.step({0: [0] * 8, 1: [0] * 3}, cache)
    with pytest.raises(ValueError, match="9 tokens exceed the cache of 8"):
        model.step({0: [0], 1: [0]}, cache)
    with pytest.raises(ValueError, match="a row has no new token"):
        model.step({1: []}, cache)
    assert cache.lengths == [8, 3]  # refused whole: the other row can go on
    model.step({1: [0]}, cache)


def test_a_cache_beyond_the_context_is_refused(tiny_model: Build) -> None:
    with pytest.raises(ValueError, match="a cache of 25 exceeds the context of 24"):
        tiny_model().new_cache(rows=1, capacity=25)


# ------------------------------------------------------------------------------------------------
# Reading and writing Hugging Face's layout


def write_again(folder: Path, edit: Callable[[dict[str, Tensor]], object]) -> None:
    tensors = load_file(folder / "model.safetensors")
    edit(tensors)
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    save_file(tensors, folder / "model.safetensors")


def split_in_shards(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    weight_map = {
        name: f"model-0000{i % 2 + 1}-of-00002.safetensors" for i, name in enumerate(tensors)
    }
    for shard in set(weight_map.values()):
        part = {name: t for name, t in tensors.items() if weight_map[name] == shard}
        save_file(part, folder / shard)
    (folder / "model.safetensors").unlink()
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def add_prefix(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors = {f"transformer.{name}": tensor for name, tensor in tensors.items()}
    tensors["lm_head.weight"] = tensors["transformer.wte.weight"].clone()
    save_file(tensors, folder / "model.safetensors")


def turn_into_pickle(folder: Path, *, archive: bool = True) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["lm_head.weight"] = tensors["wte.weight"]
    path = folder / "pytorch_model.bin"
    torch.save(tensors, path, _use_new_zipfile_serialization=archive)
    (folder / "model.safetensors").unlink()


def turn_into_old_pickle(folder: Path) -> None:
    turn_into_pickle(folder, archive=False)


def split_pickle(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    weight_map = {name: f"pytorch_model-{n % 3}.bin" for n, name in enumerate(tensors)}
    for shard in set(weight_map.values()):
        part = {name: tensor for name, tensor in tensors.items() if weight_map[name] == shard}
        torch.save(part, folder / shard)
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))


def wrap_in_modules(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors = {f"module._orig_mod.module.transformer.{name}": t for name, t in tensors.items()}
    save_file(tensors, folder / "model.safetensors")


LAYOUTS = [split_in_shards, add_prefix, turn_into_pickle, turn_into_old_pickle, split_pickle]
LAYOUTS += [wrap_in_modules]


@pytest.mark.parametrize("change", LAYOUTS)
def test_every_layout_on_disk_loads_the_same_model(
    change: Callable[[Path], None], hub_gpt2: Path
) -> None:
    before = GPT.from_pretrained(hub_gpt2)
    assert before.wte.weight.std() > 0.2
    change(hub_gpt2)
    after = GPT.from_pretrained(hub_gpt2).state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.state_dict().items())


def test_files_are_opened_again_after_a_few_tensors(
    hub_gpt2: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With mapped files, that is how memory is given back."""
    whole = GPT.from_pretrained(hub_gpt2).state_dict()
    for change in (split_in_shards, None):
        if change:
            change(hub_gpt2)
        monkeypatch.setattr("model.MAPPED_NUMBERS", 0)
        again = GPT.from_pretrained(hub_gpt2).state_dict()
        assert all(torch.equal(tensor, again[name]) for name, tensor in whole.items())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_are_kept_in_the_dtype_that_is_asked_for(
    dtype: torch.dtype, hub_gpt2: Path, tmp_path: Path
) -> None:
    exact = GPT.from_pretrained(hub_gpt2).state_dict()
    kept = GPT.from_pretrained(hub_gpt2, dtype=dtype)
    for name, tensor in kept.state_dict().items():
        assert torch.equal(tensor, exact[name].to(dtype)), name
    kept.save_pretrained(tmp_path / "kept")
    again = GPT.from_pretrained(tmp_path / "kept")
    assert again.wte.weight.dtype == torch.float32
    assert torch.equal(again.wte.weight, kept.wte.weight.float())


def test_a_weight_beyond_fp16_is_refused_by_name(hub_gpt2: Path) -> None:
    write_again(hub_gpt2, lambda tensors: tensors["ln_f.bias"][3:4].fill_(70_000))
    GPT.from_pretrained(hub_gpt2)
    with pytest.raises(ValueError, match=r"ln_f\.bias contains values that are not finite"):
        GPT.from_pretrained(hub_gpt2, dtype=torch.float16)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64"])
def test_saved_weights_have_the_bytes_that_safetensors_writes(
    dtype: str, tiny_model: Build, tmp_path: Path
) -> None:
    model = tiny_model(vocab_size=97).to(getattr(torch, dtype))
    model.save_pretrained(tmp_path)
    tensors = {name: tensor.contiguous() for name, tensor in model.hub_state().items()}
    save_file(tensors, tmp_path / "theirs", metadata={"format": "pt"})
    assert (tmp_path / "model.safetensors").read_bytes() == (tmp_path / "theirs").read_bytes()


def test_saving_over_shards_replaces_them(hub_gpt2: Path, tiny_model: Build) -> None:
    split_in_shards(hub_gpt2)
    ours = tiny_model()
    ours.save_pretrained(hub_gpt2)
    assert torch.equal(GPT.from_pretrained(hub_gpt2).wte.weight, ours.wte.weight)
    theirs = GPT2LMHeadModel.from_pretrained(hub_gpt2)
    assert torch.equal(theirs.transformer.wte.weight, ours.wte.weight[:96])


class _Bomb:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.mkdir, (str(self.marker),)


def test_loading_a_pickle_executes_nothing(hub_gpt2: Path, tmp_path: Path) -> None:
    bomb = _Bomb(tmp_path / "marker")
    torch.save({"wte.weight": bomb}, hub_gpt2 / "pytorch_model.bin")
    GPT.from_pretrained(hub_gpt2)  # beside safetensors it is not even opened
    (hub_gpt2 / "model.safetensors").unlink()
    with pytest.raises(pickle.UnpicklingError, match="mkdir"):
        GPT.from_pretrained(hub_gpt2)
    assert not (tmp_path / "marker").exists()
    call, arguments = bomb.__reduce__()  # what that file asks for
    call(*arguments)
    assert (tmp_path / "marker").exists()  # so the bomb was live


def spoil(name: str, value: float) -> Callable[[dict[str, Tensor]], object]:
    return lambda tensors: tensors[name].view(-1)[-1:].fill_(value)


def put(name: str, *shape: int) -> Callable[[dict[str, Tensor]], object]:
    return lambda tensors: tensors.update({name: torch.ones(shape)})


@pytest.mark.parametrize(
    ("edit", "phrase"),
    [
        (
            put("h.0.attn.rotary.weight", 4),
            r"a GPT-2 with 2 layers has no tensor h\.0\.attn\.rotary\.weight",
        ),
        (put("h.2.ln_1.weight", 16), r"a GPT-2 with 2 layers has no tensor h\.2\.ln_1\.weight"),
        (lambda t: t.pop("h.1.mlp.c_fc.bias"), r"tensors are missing: h\.1\.mlp\.c_fc\.bias$"),
        (lambda t: t.pop("wte.weight"), "tensors are missing: wte.weight$"),
        (lambda t: t.pop("wpe.weight"), "tensors are missing: wpe.weight$"),
        (put("ln_f.weight", 8), r"ln_f.weight has the shape \(8,\), but config.json means \(16,\)"),
        (put("h.0.mlp.c_fc.weight", 64, 16), r"c_fc.weight .* \(64, 16\), .* means \(16, 64\)"),
        (put("h.0.mlp.c_fc.weight", 64, 16, 1), r"\(64, 16, 1\), .* means \(16, 64\)"),
        (put("wte.weight", 96), r"wte.weight has the shape \(96,\), .* means \(96, 16\)"),
        (put("wpe.weight"), r"wpe.weight has the shape \(\), .* means \(24, 16\)"),
        (lambda t: t.update({"ln_f.weight": t["ln_f.weight"].char()}), r"ln_f\.weight contains"),
        (put("wte.weight", 95, 16), r"wte.weight .* \(95, 16\), .* means \(96, 16\)"),
        (put("wte.weight", 97, 16), r"wte.weight .* \(97, 16\), .* means \(96, 16\)"),
        (put("wpe.weight", 23, 16), r"wpe.weight .* \(23, 16\), .* means \(24, 16\)"),
        (spoil("h.0.ln_1.weight", math.nan), r"h\.0\.ln_1\.weight contains values that are not"),
        (spoil("h.1.attn.c_attn.weight", math.inf), r"h\.1\.attn\.c_attn\.weight contains values"),
        (spoil("wpe.weight", -math.inf), r"wpe\.weight contains values that are not finite"),
        (put("lm_head.weight", 96, 16), r"lm_head\.weight differs from wte\.weight"),
        (put("lm_head.weight", 95, 16), r"lm_head\.weight differs from wte\.weight"),
    ],
)
def test_bad_weights_are_refused_by_name(
    edit: Callable[[dict[str, Tensor]], object], phrase: str, hub_gpt2: Path
) -> None:
    write_again(hub_gpt2, edit)
    with pytest.raises(ValueError, match=phrase):
        GPT.from_pretrained(hub_gpt2)


def edit_config(folder: Path, **changes: object) -> None:
    config = json.loads((folder / "config.json").read_text("utf-8")) | changes
    kept = {key: value for key, value in config.items() if value is not ...}
    (folder / "config.json").write_text(json.dumps(kept))


@pytest.mark.parametrize(
    ("changes", "phrase"),
    [
        (
            {"activation_function": "quick_gelu"},
            "activation_function is 'quick_gelu'; supported are gelu_new, .*, gelu, .*, relu",
        ),
        ({"tie_word_embeddings": False}, "tie_word_embeddings is False; only True is supported"),
        ({"model_type": "llama"}, "model_type is 'llama'; only 'gpt2' is supported"),
        (
            {"n_inner": 32},
            r"mlp.c_proj.weight has the shape \(64, 16\), but config.json means \(32, 16\)",
        ),
        ({"add_cross_attention": True}, "add_cross_attention is True; only False"),
        ({"n_head": 3}, "n_embd 16 is not a multiple of n_head 3"),
    ],
)
def test_other_architectures_are_refused(
    changes: dict[str, object], phrase: str, hub_gpt2: Path
) -> None:
    edit_config(hub_gpt2, **changes)
    with pytest.raises(ValueError, match=phrase):
        GPT.from_pretrained(hub_gpt2)


@pytest.mark.parametrize(
    "changes",
    [
        {"n_inner": 64},
        {"activation_function": "gelu_pytorch_tanh"},
        {"layer_norm_epsilon": ...},
        {"n_positions": ..., "n_ctx": 24},
        {"n_positions": ..., "max_position_embeddings": 24, "n_ctx": 99},
        {"n_embd": ..., "hidden_size": 16, "n_layer": ..., "num_hidden_layers": 2},
        {"n_head": ..., "num_attention_heads": 2, "model_type": ...},
    ],
)
def test_other_spellings_of_gpt2_are_accepted(changes: dict[str, object], hub_gpt2: Path) -> None:
    before = GPT.from_pretrained(hub_gpt2).state_dict()
    edit_config(hub_gpt2, **changes)
    after = GPT.from_pretrained(hub_gpt2)
    assert all(torch.equal(tensor, before[name]) for name, tensor in after.state_dict().items())
    assert after.config.layer_norm_epsilon == 1e-5


def test_a_folder_without_weights_is_refused(hub_gpt2: Path) -> None:
    (hub_gpt2 / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="model.safetensors"):
        GPT.from_pretrained(hub_gpt2)
    (hub_gpt2 / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match="config.json"):
        GPT.from_pretrained(hub_gpt2)


def test_a_cropped_context_gives_the_logits_of_the_first_positions(hub_gpt2: Path) -> None:
    whole, cropped = (GPT.from_pretrained(hub_gpt2, block_size=n) for n in (None, 8))
    assert (whole.config.block_size, cropped.config.block_size) == (24, 8)
    ids_BT = torch.arange(16).view(2, 8)
    assert torch.equal(whole(ids_BT), cropped(ids_BT))
    with pytest.raises(ValueError, match="9 tokens exceed the context of 8"):
        cropped(torch.zeros(1, 9, dtype=torch.long))
    assert cropped.hub_state()["transformer.wpe.weight"].shape == (8, 16)


def test_a_context_longer_than_the_trained_one_is_refused(hub_gpt2: Path) -> None:
    with pytest.raises(ValueError, match="block_size 25 exceeds n_positions 24"):
        GPT.from_pretrained(hub_gpt2, block_size=25)
    with pytest.raises(ValueError, match="block_size must be at least 1, got 0"):
        GPT.from_pretrained(hub_gpt2, block_size=0)


def test_saved_files_follow_hugging_faces_layout(tiny_model: Build, tmp_path: Path) -> None:
    model = tiny_model(dropout=0.1)
    mask = os.umask(0o022)
    model.save_pretrained(tmp_path / "a" / "b")
    os.umask(mask)
    folder = tmp_path / "a" / "b"
    modes = {path.name: oct(path.stat().st_mode & 0o777) for path in folder.iterdir()}
    names = ("model.safetensors", "config.json", "generation_config.json")
    assert modes == dict.fromkeys(names, "0o644")
    with safe_open(folder / "model.safetensors", "pt") as file:
        assert len(file.keys()) == 12 * 2 + 4
        assert all(name.startswith("transformer.") for name in file.keys())
        assert file.metadata() == {"format": "pt"}
    assert json.loads((folder / "config.json").read_text()) == {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "activation_function": "gelu_new",
        "scale_attn_weights": True,
        "scale_attn_by_inverse_layer_idx": False,
        "tie_word_embeddings": True,
        "n_inner": None,
        "vocab_size": 96,
        "n_layer": 2,
        "n_head": 2,
        "n_embd": 16,
        "layer_norm_epsilon": 1e-5,
        "n_positions": 24,
        "n_ctx": 24,
        "attn_pdrop": 0.0,
        "embd_pdrop": 0.1,
        "resid_pdrop": 0.1,
        "bos_token_id": 50256,
        "eos_token_id": 50256,
        "dtype": "float32",
    }
    end_of_text = {"bos_token_id": 50256, "eos_token_id": 50256}
    assert json.loads((folder / "generation_config.json").read_text()) == end_of_text


def greedy(model: GPT, ids: list[int], n_tokens: int) -> Iterator[int]:
    cache = model.new_cache(rows=1, capacity=len(ids) + n_tokens)
    for _ in range(n_tokens):
        ids = [int(model.step({0: ids}, cache).argmax())]
        yield ids[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_transformers_loads_a_saved_model(
    dtype: torch.dtype, tiny_model: Build, tmp_path: Path
) -> None:
    ours = tiny_model(block_size=32).to(dtype).eval()
    torch.nn.init.normal_(ours.wpe.weight)  # so that its text does not stand still
    ours.save_pretrained(tmp_path)
    theirs, info = AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert type(theirs) is GPT2LMHeadModel
    assert not any(info.values()), info
    assert theirs.dtype == dtype
    state = theirs.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in ours.hub_state().items())
    if dtype == torch.float32:
        prompt = [5, 17, 90, 3]
        text = theirs.generate(torch.tensor([prompt]), max_new_tokens=20, do_sample=False)
        assert text[0].tolist() == [*prompt, *greedy(ours, prompt, 20)]
        assert len(set(text[0].tolist())) > 5


@pytest.mark.parametrize(
    ("name", "files", "asked"),
    [
        ("gpt2", ["model.safetensors"], [("openai-community/gpt2", False)]),
        ("gpt2-xl", ["model.safetensors"], [("openai-community/gpt2-xl", False)]),
        ("someone/gpt2", ["model-1.safetensors"], [("someone/gpt2", False)]),
        ("someone/old", [], [("someone/old", False), ("someone/old", True)]),
    ],
)
def test_only_the_needed_files_are_downloaded_from_the_hub(
    name: str,
    files: list[str],
    asked: list[tuple[str, bool]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = []

    def download(repository: str, *, allow_patterns: list[str]) -> str:
        calls.append((repository, "pytorch_model*.bin" in allow_patterns))
        return str(tmp_path)

    for file in files:
        (tmp_path / file).touch()
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert hub_folder(name) == tmp_path
    assert calls == asked
