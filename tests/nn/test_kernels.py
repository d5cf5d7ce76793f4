"""Kernels against model.py's plain versions, packed rows against documents, compiled graphs."""

import shutil
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from clingpt.data import packing
from clingpt.data.packing import build_rows
from clingpt.evaluation.scorer import split_of_examples
from clingpt.nn.kernels import (
    document_attention,
    document_attention_backward,
    mark_ragged,
    summed_loss,
    use_kernels,
)
from clingpt.nn.runtime import Runtime, compile_in_place
from clingpt.text.tasks import Example
from clingpt.text.tokenizer import EOT
from model import GPT, IGNORE, Batch
from model import summed_loss as plain_summed_loss
from tests.helpers.models import Document, SlowBatch, losses_and_gradient, packed

Build = Callable[..., GPT]

no_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
WAYS = ["plain", "kernels", pytest.param("cuda", marks=[pytest.mark.gpu, no_cuda])]


@pytest.fixture(params=WAYS)
def build(request: pytest.FixtureRequest, tiny_model: Build) -> Build:
    """Return a builder of tiny models, for each implementation of attention and loss."""

    def make(**shape: object) -> GPT:
        model = tiny_model(**shape)
        if request.param != "plain":
            use_kernels(model)
        return model.to("cuda" if request.param == "cuda" else "cpu")

    return make


def far(a: Tensor, b: Tensor) -> float:
    """Return the norm of the difference, relative to that of b."""
    return float((a - b).norm() / b.norm())


# ------------------------------------------------------------------------------------------------
# Packed rows


def test_packed_rows_give_the_results_of_separate_documents(
    build: Build, documents: list[Document], slow_batch: SlowBatch
) -> None:
    model = build().double()
    rows = packed(documents)
    losses_M, gradient = losses_and_gradient(model, slow_batch(rows, 24))
    single = [slow_batch([[document]], len(document[0])) for row in rows for document in row]
    found = [losses_and_gradient(model, batch) for batch in single]
    torch.testing.assert_close(losses_M, torch.cat([loss for loss, _ in found]), rtol=0, atol=1e-10)
    assert far(gradient, torch.stack([g for _, g in found]).sum(0)) <= 1e-10


def test_spare_borders_targets_and_chunks_change_nothing(
    build: Build, documents: list[Document], slow_batch: SlowBatch
) -> None:
    model = build().double()
    batch = slow_batch(packed(documents), 24)
    losses_M, gradient = losses_and_gradient(model, batch)
    spare = 3 * 64 - batch.targets_KM.numel()
    index_M = torch.nn.functional.pad(batch.target_index_KM[0], (0, spare))
    targets_M = torch.nn.functional.pad(batch.targets_KM[0], (0, spare), value=IGNORE)
    borders = torch.cat([batch.borders, torch.full((5,), batch.ids_BT.numel())])
    for n_chunks in (1, 3):  # of three, the last holds only ignored targets
        padded = batch._replace(
            borders=borders,
            target_index_KM=index_M.view(n_chunks, -1),
            targets_KM=targets_M.view(n_chunks, -1),
        )
        again_M, gradient_again = losses_and_gradient(model, padded)
        assert not again_M[-spare:].any()
        torch.testing.assert_close(again_M[:-spare], losses_M, rtol=0, atol=1e-12)
        assert far(gradient_again, gradient) <= 1e-12


def test_a_document_is_independent_of_its_neighbours(
    build: Build, documents: list[Document], slow_batch: SlowBatch
) -> None:
    model = build()
    batch = slow_batch(packed(documents), 24)
    losses_M, _ = losses_and_gradient(model, batch)
    start, end = 24 + 9, 24 + 9 + 2  # row 1 holds documents of 9, 2 and 13 tokens
    other_BT = (batch.ids_BT + 1) % 96
    other_BT.view(-1)[start:end] = batch.ids_BT.view(-1)[start:end]
    changed_M, _ = losses_and_gradient(model, batch._replace(ids_BT=other_BT))
    index_M = batch.target_index_KM[0]
    own_M = (index_M >= start) & (index_M < end)
    assert own_M.sum() == 1
    assert torch.equal(losses_M[own_M], changed_M[own_M])
    assert not torch.isclose(losses_M[~own_M], changed_M[~own_M]).any()


def test_a_token_does_not_attend_to_later_ones(build: Build, slow_batch: SlowBatch) -> None:
    model = build()
    batch = slow_batch([[(list(range(10)), 1)], [(list(range(10, 20)), 1)]], 10)
    losses_M, _ = losses_and_gradient(model, batch)
    other_BT = batch.ids_BT.clone()
    other_BT[:, 6] = 90
    changed_M, _ = losses_and_gradient(model, batch._replace(ids_BT=other_BT))
    same_M = losses_M == changed_M
    assert same_M.view(2, 9).tolist() == [[True] * 6 + [False] * 3] * 2


# ------------------------------------------------------------------------------------------------
# The attention operator


def operator_case() -> tuple[Tensor, Tensor]:
    torch.manual_seed(5)
    qkv = torch.randn(9, 3, 2, 4, dtype=torch.float64, requires_grad=True)
    return qkv, torch.tensor([0, 4, 4, 5, 9, 9, 9])


def test_the_operators_gradient_matches_finite_differences() -> None:
    qkv, borders = operator_case()
    assert torch.autograd.gradcheck(lambda x: document_attention(x, borders)[0], (qkv,))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_operators_pass_opcheck(dtype: torch.dtype) -> None:
    qkv, borders = operator_case()
    qkv = qkv.detach().to(dtype).requires_grad_()
    torch.library.opcheck(document_attention, (qkv, borders))
    with torch.no_grad():
        y, lse = document_attention(qkv, borders)
        torch.library.opcheck(
            document_attention_backward, (torch.randn_like(y), qkv.detach(), y, lse, borders)
        )


@pytest.mark.gpu
@no_cuda
def test_flash_attention_agrees_with_the_mask_in_bfloat16(
    tiny_model: Build, documents: list[Document], slow_batch: SlowBatch
) -> None:
    batch, found = slow_batch(packed(documents), 24), []
    for change in (use_kernels, lambda model: model):
        model = change(tiny_model().cuda())
        with torch.autocast("cuda", dtype=torch.bfloat16):
            found.append(losses_and_gradient(model, batch))
    assert far(found[0][0], found[1][0]) < 0.01
    assert far(found[0][1], found[1][1]) < 0.03


# ------------------------------------------------------------------------------------------------
# The loss


def head_case(dtype: torch.dtype) -> tuple[list[Tensor], list[Tensor]]:
    """Return tensors that require gradients, and bias and targets, some of them ignored."""
    torch.manual_seed(2)
    x_KMC = torch.randn(3, 5, 8, dtype=dtype, requires_grad=True)
    weight_VC = torch.randn(64, 8, dtype=dtype, requires_grad=True)
    bias_V = torch.where(torch.arange(64) < 60, 0.0, -torch.inf).to(dtype)
    targets_KM = torch.randint(60, (3, 5))
    targets_KM[0, 1] = targets_KM[2] = IGNORE
    return [x_KMC, weight_VC], [bias_V, targets_KM]


@pytest.mark.parametrize(
    ("dtype", "rtol"), [(torch.float64, 1e-12), (torch.float32, 1e-6), (torch.bfloat16, 2e-2)]
)
@pytest.mark.parametrize("weighted", [False, True])
def test_the_chunked_loss_matches_the_plain_one_in_value_and_gradients(
    dtype: torch.dtype, rtol: float, weighted: bool
) -> None:
    wanted, others = head_case(dtype)
    if weighted:
        others.append(torch.rand(3, 5) * 9 * (others[-1] != IGNORE))
    found = []
    for loss_of in (summed_loss, plain_summed_loss):
        loss = loss_of(*wanted, *others)
        gradients = torch.autograd.grad(loss * 0.125, wanted)
        assert [g.dtype for g in gradients] == [dtype, dtype]
        found.append([loss.detach(), *gradients])
    for ours, plain in zip(*found, strict=True):
        assert far(ours.double(), plain.double()) <= rtol
    ignored = found[0][1]
    assert not ignored[2].any() and not ignored[0, 1].any() and ignored[0, 0].all()
    with torch.no_grad():
        assert float(summed_loss(*wanted, *others)) == pytest.approx(float(found[0][0]), rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_of_1_change_no_bit(dtype: torch.dtype) -> None:
    wanted, others = head_case(dtype)
    ones = (others[-1] != IGNORE).float()
    found = []
    for weights in ([], [ones]):
        loss = summed_loss(*wanted, *others, *weights)
        found.append([loss, *torch.autograd.grad(loss, wanted)])
    assert all(map(torch.equal, *found))


def test_a_second_backward_is_refused() -> None:
    """Backward scales the saved gradients in place; a second one would scale them again."""
    wanted, others = head_case(torch.float32)
    loss = summed_loss(*wanted, *others)
    torch.autograd.grad(loss * 0.5, wanted, retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        torch.autograd.grad(loss * 0.5, wanted)


def test_at_most_one_chunk_of_logits_is_computed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The head is applied to one chunk at a time, with gradients and without."""
    seen: list[tuple[int, ...]] = []
    plain = torch.nn.functional.linear

    def spy(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        seen.append(x.shape)
        return plain(x, weight, bias)

    monkeypatch.setattr(torch.nn.functional, "linear", spy)
    wanted, others = head_case(torch.float32)
    torch.autograd.grad(summed_loss(*wanted, *others), wanted)
    with torch.no_grad():
        summed_loss(*wanted, *others)
    assert seen == [(5, 8)] * 3 + [(1, 5, 8)] * 3


# ------------------------------------------------------------------------------------------------
# Compiled


def ragged(
    n_batches: int, label_weight: float
) -> tuple[packing.Rows, list[np.ndarray[tuple[int], np.dtype[np.int64]]]]:
    """Return rows of random documents of 2 to 48 tokens, and one or two rows per batch."""
    rng = np.random.default_rng(3)
    examples = []
    for length in rng.integers(2, 49, 400):
        ids, n_prompt = rng.integers(0, 96, length).tolist(), int(rng.integers(1, length))
        examples.append(
            Example(prompt_ids=ids[:n_prompt], target_ids=ids[n_prompt:], trimmed_tokens=0)
        )
    rows = build_rows(
        split_of_examples(examples, EOT),
        48,
        pack=True,
        seed=0,
        label_weight=label_weight,
        label_ids=[(token,) for token in range(32)],
    )
    sizes = rng.integers(1, 3, n_batches)
    return rows, [rng.choice(len(rows), size, replace=False) for size in sizes]


@pytest.mark.slow
@pytest.mark.skipif(not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="no C++ compiler")
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # by Dynamo
@pytest.mark.parametrize(
    ("dropout", "recompute", "label_weight"), [(0.0, False, 1), (0.1, True, 1), (0.0, False, 8.5)]
)
def test_200_ragged_batches_compile_to_one_graph_without_a_break(
    dropout: float,
    recompute: bool,
    label_weight: float,
    tiny_model: Build,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """There is no graph break or recompilation; losses and gradients match eager mode."""
    monkeypatch.setattr(packing, "ALIGNED_TARGETS", 4)
    monkeypatch.setattr(packing, "TARGETS_AT_ONCE", 64)  # two chunks
    rows, batches = ragged(200, label_weight)
    shape = {"vocab_size": EOT + 1, "block_size": 48, "dropout": dropout}
    eager, compiled = use_kernels(tiny_model(**shape)), use_kernels(tiny_model(**shape))
    eager.checkpoint_activations = compiled.checkpoint_activations = recompute
    assert compile_in_place(compiled, Runtime(torch.device("cpu"), torch.float32), wanted=True)
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    widths = set()
    with torch._dynamo.config.patch(error_on_recompile=True):
        for numbers in batches:
            batch = Batch(*map(torch.from_numpy, rows.assemble(numbers, n_rows=2)))
            if label_weight != 1:
                weights = torch.from_numpy(rows.target_weights(numbers, n_rows=2))
                batch = batch._replace(target_weight_KM=weights)
            widths.add(batch.targets_KM.shape)
            mark_ragged(batch)
            loss = compiled(batch)
            loss.backward()
            if not dropout:
                plain = eager(batch)
                plain.backward()
                torch.testing.assert_close(loss, plain)
    if not dropout:
        for ours, theirs in zip(compiled.parameters(), eager.parameters(), strict=True):
            assert ours.grad is not None and theirs.grad is not None
            assert far(ours.grad, theirs.grad) <= 1e-5
    assert len(widths) > 10 and {K for K, _ in widths} == {2}
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
    assert not torch._dynamo.utils.counters["graph_break"]
    assert not torch._dynamo.utils.counters["aot_autograd"]["autograd_cache_bypass"]
