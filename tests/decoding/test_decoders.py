"""Linear layers for decoding: the same bits for any number of rows, and int8 close to fp32."""

import weakref
from typing import Any

import pytest
import torch
from torch import nn

from clingpt.base.errors import ConfigError
from clingpt.decoding import decoders
from clingpt.decoding.cuda_graphs import GraphedDecoder
from clingpt.decoding.decoders import (
    exact_at_the_top,
    have_int8,
    have_onednn,
    int8_linear,
    make_decoder,
    packed_linear,
)
from clingpt.decoding.engine import generate
from clingpt.decoding.sampling import Sampling
from clingpt.nn import runtime
from clingpt.nn.runtime import Runtime
from clingpt.text.tokenizer import Tokenizer
from model import ACTIVATIONS, GPT, GPTConfig

LINEARS = [
    pytest.param(packed_linear, 1e-6, id="packed"),
    pytest.param(int8_linear, 0.03, id="int8"),
]
FUNCTIONS = {function: name for name, function in ACTIVATIONS.items()}  # without synonyms
# GPT-2's own shapes, those of the quickstart, and an odd one.
SHAPES = [(768, 2304), (3072, 768), (768, 5001), (64, 192), (256, 64), (48, 33)]


@pytest.mark.parametrize(("make", "error"), LINEARS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_linear_layer_gives_a_row_the_same_bits_for_any_number_of_rows(
    make: Any, error: float, shape: tuple[int, int]
) -> None:
    generator = torch.Generator().manual_seed(0)
    n_in, n_out = shape
    weight_OC = torch.randn(n_out, n_in, generator=generator)
    bias_O = torch.randn(n_out, generator=generator)
    x_MC = torch.randn(300, n_in, generator=generator)
    x_MC *= torch.rand(300, 1, generator=generator) * 10  # rows of very different magnitude
    linear = make(weight_OC, bias_O)
    together = linear(x_MC)
    for n in (1, 2, 3, 4, 7, 8, 16, 31, 33, 64, 128, 129, 257):
        for first in (0, 5, 300 - n):
            assert torch.equal(linear(x_MC[first : first + n]), together[first : first + n]), n
    assert torch.equal(linear(x_MC[:6].view(2, 3, -1)), together[:6].view(2, 3, -1))
    exact = torch.nn.functional.linear(x_MC.double(), weight_OC.double())
    off = (together - bias_O).double() - exact
    assert float((off.norm(dim=1) / exact.norm(dim=1)).max()) < error


@pytest.mark.parametrize("activation", FUNCTIONS, ids=FUNCTIONS.get)
def test_a_fused_activation_gives_a_row_the_same_bits_for_any_number_of_rows(
    activation: Any,
) -> None:
    generator = torch.Generator().manual_seed(0)
    weight_OC, bias_O = torch.randn(147, 48, generator=generator), torch.randn(147)
    x_MC = torch.randn(300, 48, generator=generator)
    linear = packed_linear(weight_OC, bias_O, activation)
    together = linear(x_MC)
    expected = activation(torch.nn.functional.linear(x_MC, weight_OC, bias_O))
    torch.testing.assert_close(together, expected, rtol=1e-5, atol=1e-5)
    for n in (1, 2, 3, 4, 7, 8, 16, 31, 33, 64, 128, 129, 257):
        for first in (0, 5, 300 - n):
            assert torch.equal(linear(x_MC[first : first + n]), together[first : first + n]), n


def test_rows_and_channels_of_zeros_stay_zero() -> None:
    linear = int8_linear(torch.zeros(5, 8), None)
    assert torch.equal(linear(torch.zeros(3, 8)), torch.zeros(3, 5))
    assert torch.equal(linear(torch.ones(3, 8)), torch.zeros(3, 5))


def test_weights_are_rounded_even_without_8_bit_kernels(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    weight_OC, x_MC = torch.randn(40, 64), torch.randn(9, 64)
    fast = int8_linear(weight_OC, None)(x_MC)
    monkeypatch.setattr(decoders, "OPERATOR", "there_is_none")
    assert not have_int8()
    slow = int8_linear(weight_OC, None)(x_MC)
    assert not torch.allclose(slow, x_MC @ weight_OC.t(), rtol=1e-4)
    assert float((slow - fast).norm() / slow.norm()) < 0.02
    make_decoder(tiny(), runtime.start(device="cpu"), quantize="int8")
    assert "no 8-bit kernels" in capsys.readouterr().err


def tiny() -> GPT:
    torch.manual_seed(1)
    model = GPT(GPTConfig(vocab_size=500, n_layer=2, n_head=2, n_embd=32, block_size=300)).eval()
    for parameter in model.parameters():
        parameter.data *= 3
    return model


PROMPTS = [torch.arange(n).mul(7).remainder(500).tolist() for n in (1, 9, 130, 250, 64)]


def greedy(decoder: Any, rows: int = 16) -> list[list[int]]:
    sampling = Sampling(max_new_tokens=20)
    found = generate(decoder, Tokenizer.load(), PROMPTS, sampling, context=300, rows=rows)
    return [reply.ids for reply in found]


def test_make_decoder_keeps_losses_and_texts_and_frees_the_original_weights() -> None:
    plain, ready = tiny(), tiny()
    decoder = make_decoder(ready, runtime.start(device="cpu"))
    ids_BT = torch.tensor([PROMPTS[3]])
    assert decoder is ready
    torch.testing.assert_close(ready(ids_BT), plain(ids_BT), atol=1e-4, rtol=1e-5)
    assert greedy(plain) == greedy(ready)
    n_weights = sum(parameter.numel() for parameter in ready.parameters())
    if have_onednn():  # the original weights of all linear layers are freed
        assert n_weights < 0.6 * sum(parameter.numel() for parameter in plain.parameters())


def test_weights_are_freed_layer_by_layer() -> None:
    model = tiny()
    layers = [weakref.ref(module) for module in model.modules() if isinstance(module, nn.Linear)]
    freed = []

    def make(weight_OC: torch.Tensor, bias_O: torch.Tensor | None) -> Any:
        freed.append(sum(layer() is None for layer in layers))
        return packed_linear(weight_OC, bias_O)

    decoders.replace_linear_layers(model, make)
    assert len(freed) == len(layers) + 1  # the output head is the last
    assert all(count >= n - 1 for n, count in enumerate(freed)), freed


def test_int8_logits_are_close_to_fp32_and_texts_do_not_depend_on_the_batch() -> None:
    plain, ready = tiny(), tiny()
    decoder = make_decoder(ready, runtime.start(device="cpu"), quantize="int8")
    ids_BT = torch.tensor([PROMPTS[3]])
    with torch.no_grad():
        exact, rounded = plain(ids_BT), ready(ids_BT)
    assert 0 < float((exact - rounded).norm() / exact.norm()) < 0.1
    assert greedy(decoder) == greedy(decoder, rows=1) == greedy(decoder, rows=2)


def test_an_8_bit_head_has_exact_top_logits() -> None:
    generator = torch.Generator().manual_seed(2)
    weight_VC, x_MC = (torch.randn(n, 64, generator=generator) for n in (900, 50))
    exact_MV = x_MC @ weight_VC.t()
    rounded = int8_linear(weight_VC, None)
    assert (
        rounded(x_MC).argmax(1) != exact_MV.argmax(1)
    ).any()  # otherwise this test shows nothing
    logits_MV = exact_at_the_top(rounded, weight_VC)(x_MC)
    assert torch.equal(logits_MV.argmax(1), exact_MV.argmax(1))
    torch.testing.assert_close(logits_MV.amax(1), exact_MV.amax(1))
    assert exact_at_the_top(rounded, weight_VC)(x_MC.view(5, 10, 64)).shape == (5, 10, 900)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_int8_is_rejected_on_cuda_and_in_bfloat16(dtype: torch.dtype) -> None:
    device = torch.device("cpu" if dtype == torch.bfloat16 else "cuda")
    with pytest.raises(ConfigError, match="--quantize=int8 is for the CPU in float32, not"):
        make_decoder(tiny(), Runtime(device, dtype), quantize="int8")


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_steps_of_fixed_shape_generate_the_same_text(rows: int) -> None:
    """The steps that CUDA replays from graphs, run without a graph."""
    assert greedy(GraphedDecoder(tiny()), rows) == greedy(tiny())


def test_idle_rows_of_a_fixed_step_leave_the_cache_unchanged() -> None:
    model = tiny()
    decoder = GraphedDecoder(model)
    cache, other = (decoder.new_cache(rows=4, capacity=20) for _ in range(2))
    for one in (cache, other):
        decoder.step({0: [1, 2], 3: [3, 4]}, one)
    mixed = decoder.step({3: [8], 1: [5, 6], 0: [7]}, cache)  # a prompt between single tokens
    torch.testing.assert_close(mixed, model.step({3: [8], 1: [5, 6], 0: [7]}, other))
    assert cache.lengths == other.lengths == [3, 2, 0, 3]
    for ours, theirs in zip(cache.layers, other.layers, strict=True):
        torch.testing.assert_close(ours[:, :, :, :20], theirs[:, :, :, :20])
    among = decoder.step({0: [9]}, cache, among=[3, 4])
    torch.testing.assert_close(among, model.step({0: [9]}, other)[:, [3, 4]])
