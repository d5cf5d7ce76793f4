"""GPT-2's published switches against transformers: forward, packed, cached, decoded, exported."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from clingpt.decoding.cuda_graphs import GraphedDecoder
from clingpt.decoding.decoders import make_decoder
from clingpt.decoding.engine import generate
from clingpt.decoding.sampling import Sampling
from clingpt.export import formats
from clingpt.export.stateless import Stateless
from clingpt.nn.kernels import document_attention, use_kernels
from clingpt.nn.runtime import Runtime
from clingpt.text.tokenizer import Tokenizer
from model import ACTIVATIONS, GPT, GPTConfig, KVCache, attend_rows
from tests.helpers.exports import assert_same, make_cases
from tests.helpers.models import VOCAB_SIZE, Document, SlowBatch, packed
from tests.helpers.parity import (
    build_theirs,
    differences,
    gradient_differences,
    largest_difference,
)

CPU = Runtime(torch.device("cpu"), torch.float32)
SWITCHES = (
    "n_inner activation_function scale_attn_weights scale_attn_by_inverse_layer_idx "
    "reorder_and_upcast_attn"
).split()


def drawn(seed: int) -> dict[str, Any]:
    """Draw a shape and a combination of switches."""
    draw = random.Random(seed)
    heads = draw.choice((1, 2, 4))
    return {
        "vocab_size": VOCAB_SIZE,
        "n_positions": 40,
        "n_layer": draw.choice((2, 3)),
        "n_head": heads,
        "n_embd": heads * draw.choice((8, 12)),
        "n_inner": draw.choice((None, 17, 24, 80)),
        "activation_function": draw.choice(list(ACTIVATIONS)),
        "scale_attn_weights": draw.random() < 0.7,
        "scale_attn_by_inverse_layer_idx": draw.random() < 0.6,
        "reorder_and_upcast_attn": draw.random() < 0.5,
        "layer_norm_epsilon": draw.choice((1e-5, 1e-3)),
    }


ALL_ON = drawn(0) | {
    "n_layer": 3,
    "n_inner": 24,
    "activation_function": "gelu",
    "scale_attn_weights": False,
    "scale_attn_by_inverse_layer_idx": True,
    "reorder_and_upcast_attn": True,
}


def both(shape: dict[str, Any], folder: Path, attention: str = "eager") -> tuple[GPT, Any]:
    """Return a model of transformers, and ours loaded from what it saves."""
    theirs = build_theirs(attention, **shape)
    theirs.save_pretrained(folder)
    return GPT.from_pretrained(folder), theirs


@pytest.mark.parametrize("seed", range(16))
def test_switches_drawn_at_random_give_the_logits_losses_and_gradients_of_transformers(
    seed: int, tmp_path: Path
) -> None:
    ours, theirs = both(drawn(seed), tmp_path, ("eager", "sdpa")[seed % 2])
    if seed % 4 > 1:
        use_kernels(ours)
    found = differences(ours, theirs, torch.randint(VOCAB_SIZE, (3, 40)))
    assert max(found.values()) <= 1e-5, found


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation_equals_transformers(name: str, tmp_path: Path) -> None:
    ours, theirs = both(drawn(1) | {"activation_function": name}, tmp_path)
    found = differences(ours, theirs, torch.randint(VOCAB_SIZE, (3, 40)))
    assert max(found.values()) <= 1e-5, found


@pytest.mark.parametrize("switch", SWITCHES[1:4])
def test_every_switch_changes_the_logits(switch: str) -> None:
    """This shows that the comparisons would notice a switch that is ignored."""
    torch.manual_seed(5)
    plain = GPT(GPTConfig(vocab_size=96, block_size=16, n_layer=2, n_head=2, n_embd=16))
    for parameter in plain.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    other = {
        **vars(plain.config),
        switch: {SWITCHES[1]: "gelu", SWITCHES[2]: False}.get(switch, True),
    }
    changed = GPT(GPTConfig(**other))
    changed.load_state_dict(plain.state_dict())
    ids_BT = torch.randint(96, (2, 16))
    assert largest_difference(changed(ids_BT), plain(ids_BT)) > 1e-5


@pytest.mark.parametrize("seed", [*range(20, 26), None])
@pytest.mark.parametrize("kernels", [False, True])
def test_packed_documents_have_the_losses_and_gradients_of_single_ones(
    seed: int | None,
    kernels: bool,
    documents: list[Document],
    slow_batch: SlowBatch,
    tmp_path: Path,
) -> None:
    ours, theirs = both(ALL_ON if seed is None else drawn(seed), tmp_path)
    if kernels:
        use_kernels(ours)
    loss = ours(slow_batch(packed(documents), 24))
    loss.backward()
    total: Any = torch.tensor(0.0)
    for row in packed(documents):
        for ids, n_prompt in row:
            labels = torch.tensor([[-100] * n_prompt + ids[n_prompt:]])
            total = total + theirs(torch.tensor([ids]), labels=labels).loss * (len(ids) - n_prompt)
    total.backward()
    found = {"loss": largest_difference(loss, total), **gradient_differences(ours, theirs)}
    found.pop("transformer.wpe.weight")  # compared at the positions that documents have
    assert max(found.values()) <= 1e-5, found


@torch.no_grad()
@pytest.mark.parametrize("seed", [*range(30, 36), None])
def test_cached_steps_equal_transformers(seed: int | None, tmp_path: Path) -> None:
    ours, theirs = both(ALL_ON if seed is None else drawn(seed), tmp_path)
    cache = ours.eval().new_cache(rows=2, capacity=40)
    rows: list[list[int]] = [[], []]
    for counts in ((5, 2), (1, 1), (7, 1), (1, 30), (1, 1)):
        fed = {row: torch.randint(VOCAB_SIZE, (n,)).tolist() for row, n in enumerate(counts)}
        logits_RV = ours.step(fed, cache)
        for row, logits_V in enumerate(logits_RV):
            rows[row] += fed[row]
            expected_V = theirs.eval()(torch.tensor([rows[row]])).logits[0, -1]
            assert largest_difference(logits_V, expected_V) <= 1e-5


@pytest.mark.parametrize("seed", [*range(40, 46), None])
@pytest.mark.parametrize("decoder", ["packed", "graphed"])
def test_decoders_write_the_greedy_text_of_transformers(
    seed: int | None, decoder: str, tmp_path: Path
) -> None:
    """With oneDNN's fused activations, and with the fixed steps that CUDA replays from graphs."""
    ours, theirs = both(ALL_ON if seed is None else drawn(seed), tmp_path)
    prompts = [torch.randint(VOCAB_SIZE, (n,)).tolist() for n in (3, 5, 1, 8)]
    made = make_decoder(ours.eval(), CPU) if decoder == "packed" else GraphedDecoder(ours.eval())
    sampling = Sampling(max_new_tokens=32, ignore_end=True)
    texts = generate(made, Tokenizer.load(), prompts, sampling, context=40, rows=3)
    for prompt, text in zip(prompts, texts, strict=True):
        expected = theirs.generate(
            torch.tensor([prompt]), max_new_tokens=32, do_sample=False, eos_token_id=None
        )
        assert text.ids == expected[0, len(prompt) :].tolist()


@torch.no_grad()
@pytest.mark.parametrize("activation", ["gelu", "relu", "silu"])
def test_int8_logits_stay_close_with_other_widths_and_activations(
    activation: str, tmp_path: Path
) -> None:
    switches = {"n_inner": 96, "activation_function": activation}
    ours, theirs = both(drawn(3) | switches | {"n_embd": 64, "n_head": 4}, tmp_path)
    decoder = make_decoder(ours.eval(), CPU, quantize="int8")
    ids = torch.randint(VOCAB_SIZE, (1, 20))
    found_V = decoder.step({0: ids[0].tolist()}, decoder.new_cache(rows=1, capacity=20))[0]
    expected_V = theirs.eval()(ids).logits[0, -1]
    assert float((found_V - expected_V).norm() / expected_V.norm()) < 0.1


@pytest.mark.parametrize("seed", [*range(50, 54), None])
def test_switches_are_written_back_as_transformers_reads_them(
    seed: int | None, tmp_path: Path
) -> None:
    ours, theirs = both(ALL_ON if seed is None else drawn(seed), tmp_path / "theirs")
    ours.save_pretrained(tmp_path / "ours")
    assert GPT.from_pretrained(tmp_path / "ours").config == ours.config
    again, info = AutoModelForCausalLM.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(info.values()), info
    for name in SWITCHES:
        assert getattr(again.config, name) == getattr(theirs.config, name), name


def test_a_plain_models_config_does_not_name_the_upcast(
    tiny_model: Callable[..., GPT], tmp_path: Path
) -> None:
    """Hashes of folders that were written before this switch existed must not change."""
    tiny_model().save_pretrained(tmp_path)
    assert "reorder_and_upcast_attn" not in json.loads((tmp_path / "config.json").read_text())


@torch.no_grad()
@pytest.mark.parametrize(
    "form",
    ["stateless", "onnx", "torchscript", pytest.param("torch_export", marks=pytest.mark.slow)],
)
def test_exported_steps_equal_transformers_with_every_switch(form: str, tmp_path: Path) -> None:
    ours, theirs = both(ALL_ON | {"n_positions": 128}, tmp_path / "hub")
    ours.eval()
    if form == "stateless":
        step: Any = Stateless(ours)
    elif form == "onnx":
        step = formats.write_onnx(ours, tmp_path, facts={})
    else:
        step = getattr(formats, f"write_{form}")(ours, tmp_path)
    for case in make_cases(theirs.eval()):
        assert_same(case, step(*case.inputs))


# ------------------------------------------------------------------------------------------------
# reorder_and_upcast_attn: attention scores are computed in fp32 whatever the precision


def attended(path: str, qkv_1T3NH: Tensor) -> Tensor:
    """Return the output (1, T, N, H) of one of the ways in which the CPU attends."""
    _, T, _, N, H = qkv_1T3NH.shape
    if path == "causal":
        return attend_rows(qkv_1T3NH)
    if path == "mask":
        return attend_rows(qkv_1T3NH, torch.ones(T, T, dtype=torch.bool).tril())
    if path == "documents":
        y_PNH: Tensor = document_attention(qkv_1T3NH[0].contiguous(), torch.tensor([0, T]))[0]
        return y_PNH[None]
    config = GPTConfig(n_layer=1, n_head=N, n_embd=N * H, block_size=T)
    cache = KVCache(config, rows=1, capacity=T, like=qkv_1T3NH)
    outputs = []
    for place in range(T):  # one query at a time
        _, attend = cache.append({0: [0]})
        outputs.append(attend(0, qkv_1T3NH[:, place : place + 1]))
    return torch.cat(outputs, 1)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("path", ["causal", "mask", "documents", "cache"])
def test_scores_of_16_bit_queries_and_keys_are_neither_rounded_nor_infinite(
    path: str, dtype: torch.dtype
) -> None:
    """Products up to 130,000, beyond fp16, whose differences bf16 could not represent."""
    generator = torch.Generator().manual_seed(2)
    direction_H = torch.randn(64, generator=generator).sign()
    qkv_1T3NH = torch.randn(1, 48, 3, 2, 64, generator=generator) * 0.3
    qkv_1T3NH[:, :, :2] += 45 * direction_H
    qkv_1T3NH = qkv_1T3NH.to(dtype)
    exact = attend_rows(qkv_1T3NH.double())
    found = attended(path, qkv_1T3NH)
    assert found.dtype == dtype
    assert largest_difference(found.double(), exact) < 0.02
    # Rounded once to 16 bits, the scores would give something else.
    q, k, v = qkv_1T3NH.double().permute(2, 0, 3, 1, 4)
    scores = (q @ k.transpose(-1, -2)).to(dtype).double() / 8
    scores = scores.masked_fill(~torch.ones(48, 48, dtype=torch.bool).tril(), -torch.inf)
    rounded = (scores.softmax(-1) @ v).transpose(1, 2)
    assert largest_difference(rounded, exact) > 0.2
