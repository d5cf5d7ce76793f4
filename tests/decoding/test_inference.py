"""What decoding computes with: the same bits for any number of rows, and int8 close to fp32."""

from typing import Any

import pytest
import torch

from clingpt.base.errors import ConfigError
from clingpt.decoding import int8
from clingpt.decoding.cuda_graphs import GraphedDecoder
from clingpt.decoding.engine import generate
from clingpt.decoding.inference import exact_at_the_top, have_onednn, make_decoder, packed_product
from clingpt.decoding.int8 import have_int8, int8_product
from clingpt.decoding.sampling import Sampling
from clingpt.nn import runtime
from clingpt.nn.runtime import Runtime
from clingpt.text.tokenizer import Tokenizer
from model import GPT, GPTConfig

PRODUCTS = [
    pytest.param(packed_product, 1e-6, id="packed"),
    pytest.param(int8_product, 0.03, id="int8"),
]
# GPT-2's own shapes, those of the quickstart, and an odd one.
SHAPES = [(768, 2304), (3072, 768), (768, 5001), (64, 192), (256, 64), (48, 33)]


@pytest.mark.parametrize(("make", "error"), PRODUCTS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_rows_product_does_not_depend_on_its_company(
    make: Any, error: float, shape: tuple[int, int]
) -> None:
    generator = torch.Generator().manual_seed(0)
    n_in, n_out = shape
    weight_OC = torch.randn(n_out, n_in, generator=generator)
    bias_O = torch.randn(n_out, generator=generator)
    x_MC = torch.randn(300, n_in, generator=generator)
    x_MC *= torch.rand(300, 1, generator=generator) * 10  # rows of very different size
    product = make(weight_OC, bias_O)
    together = product(x_MC)
    for n in (1, 2, 3, 4, 7, 8, 16, 31, 33, 64, 128, 129, 257):
        for first in (0, 5, 300 - n):
            assert torch.equal(product(x_MC[first : first + n]), together[first : first + n]), n
    assert torch.equal(product(x_MC[:6].view(2, 3, -1)), together[:6].view(2, 3, -1))
    exact = torch.nn.functional.linear(x_MC.double(), weight_OC.double())
    off = (together - bias_O).double() - exact
    assert float((off.norm(dim=1) / exact.norm(dim=1)).max()) < error


def test_rows_and_channels_of_zeros_stay_zero() -> None:
    product = int8_product(torch.zeros(5, 8), None)
    assert torch.equal(product(torch.zeros(3, 8)), torch.zeros(3, 5))
    assert torch.equal(product(torch.ones(3, 8)), torch.zeros(3, 5))


def test_without_8_bit_kernels_weights_are_rounded_all_the_same(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    weight_OC, x_MC = torch.randn(40, 64), torch.randn(9, 64)
    fast = int8_product(weight_OC, None)(x_MC)
    monkeypatch.setattr(int8, "OPERATOR", "there_is_none")
    assert not have_int8()
    slow = int8_product(weight_OC, None)(x_MC)
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


def test_a_model_ready_to_decode_has_the_same_losses_and_texts() -> None:
    plain, ready = tiny(), tiny()
    decoder = make_decoder(ready, runtime.start(device="cpu"))
    ids_BT = torch.tensor([PROMPTS[3]])
    assert decoder is ready
    torch.testing.assert_close(ready(ids_BT), plain(ids_BT), atol=1e-4, rtol=1e-5)
    assert greedy(plain) == greedy(ready)
    n_weights = sum(parameter.numel() for parameter in ready.parameters())
    if have_onednn():  # the originals of all linear layers are let go
        assert n_weights < 0.6 * sum(parameter.numel() for parameter in plain.parameters())


def test_int8_changes_losses_little_and_rows_do_not_mix() -> None:
    plain, ready = tiny(), tiny()
    decoder = make_decoder(ready, runtime.start(device="cpu"), quantize="int8")
    ids_BT = torch.tensor([PROMPTS[3]])
    with torch.no_grad():
        exact, rounded = plain(ids_BT), ready(ids_BT)
    assert 0 < float((exact - rounded).norm() / exact.norm()) < 0.1
    assert greedy(decoder) == greedy(decoder, rows=1) == greedy(decoder, rows=2)


def test_an_8_bit_head_is_exact_where_it_matters() -> None:
    generator = torch.Generator().manual_seed(2)
    weight_VC, x_MC = (torch.randn(n, 64, generator=generator) for n in (900, 50))
    exact_MV = x_MC @ weight_VC.t()
    rounded = int8_product(weight_VC, None)
    assert (rounded(x_MC).argmax(1) != exact_MV.argmax(1)).any()  # or this test shows nothing
    logits_MV = exact_at_the_top(rounded, weight_VC)(x_MC)
    assert torch.equal(logits_MV.argmax(1), exact_MV.argmax(1))
    torch.testing.assert_close(logits_MV.amax(1), exact_MV.amax(1))
    assert exact_at_the_top(rounded, weight_VC)(x_MC.view(5, 10, 64)).shape == (5, 10, 900)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_int8_is_refused_where_it_cannot_be(dtype: torch.dtype) -> None:
    device = torch.device("cpu" if dtype == torch.bfloat16 else "cuda")
    with pytest.raises(ConfigError, match="--quantize=int8 is for the CPU in float32, not"):
        make_decoder(tiny(), Runtime(device, dtype), quantize="int8")


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_steps_of_fixed_shape_say_what_others_do(rows: int) -> None:
    """What CUDA replays from graphs, run as it is."""
    assert greedy(GraphedDecoder(tiny(), "eager"), rows) == greedy(tiny())


def test_a_graphs_idle_rows_leave_no_trace() -> None:
    model = tiny()
    decoder = GraphedDecoder(model, "eager")
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
