"""Rows: packing, their order over steps and epochs, and their assembly against plain Python."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clingpt.base.errors import DataError
from clingpt.base.types import Ints
from clingpt.data import packing
from clingpt.data.packing import (
    ALIGNED_TARGETS,
    IGNORE,
    Arrays,
    Rows,
    build_rows,
    pack_best_fit,
    rows_of_step,
)
from clingpt.data.prepared import Split
from clingpt.nn.kernels import use_kernels
from clingpt.text.tokenizer import EOT
from model import GPT, Batch
from model import IGNORE as MODEL_IGNORE
from tests.helpers.models import (
    LABEL_IDS,
    Document,
    SlowBatch,
    losses_and_gradient,
    make_labelled,
    rows_of_labelled,
)


def as_split(documents: list[Document], *, gap: int = 0) -> Split:
    """Store the documents as prepare.py does, with `gap` foreign tokens before each."""
    tokens, index = [], []
    for record, (ids, n_prompt) in enumerate(documents):
        tokens += [9] * gap
        start = len(tokens)
        tokens += ids
        index.append([start, start + n_prompt, len(tokens), 0, record])
    return Split(
        "train",
        np.array(tokens, np.uint16),
        np.array(index, np.int64).reshape(len(documents), 5),
        EOT,
    )


# ------------------------------------------------------------------------------------------------
# Packing


def check_packing(lengths: Ints, capacity: int, seed: int) -> Ints:
    """Check that each example occurs once and no row is too long or empty; return row lengths."""
    order, starts = pack_best_fit(lengths, capacity, seed=seed)
    assert sorted(order.tolist()) == list(range(len(lengths)))
    assert starts[0] == 0
    assert starts[-1] == len(lengths)
    assert (np.diff(starts) > 0).all()
    tokens = np.add.reduceat(lengths[order], starts[:-1])
    assert tokens.max() <= capacity
    again, starts_again = pack_best_fit(lengths, capacity, seed=seed)
    assert np.array_equal(order, again)
    assert np.array_equal(starts, starts_again)
    return tokens


@settings(deadline=None)  # a busy machine must not fail the test
@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=60),
    st.integers(40, 70),
    st.integers(0, 2**32),
)
def test_packing_places_every_example_once(lengths: list[int], capacity: int, seed: int) -> None:
    tokens = check_packing(np.array(lengths), capacity, seed)
    # Best fit opens a row only for an example that no row has room for: two rows never fit in one.
    assert len(tokens) < 2 or np.sort(tokens)[:2].sum() > capacity


@pytest.mark.parametrize(("n_examples", "fill"), [(450, 0.94), (3000, 0.96)])
def test_packing_fills_rows_of_pubmedqa(n_examples: int, fill: float) -> None:
    lengths = np.random.default_rng(0).normal(390, 100, n_examples).clip(60, 1024).astype(np.int64)
    tokens = check_packing(lengths, 1024, 0)
    assert tokens.mean() / 1024 >= fill  # a row each: 0.38


@pytest.mark.parametrize(
    ("lengths", "capacity", "rows"),
    [
        ([10], 10, [[10]]),
        ([1, 9, 5, 5], 10, [[9, 1], [5, 5]]),
        ([6, 4, 3, 3, 3, 1], 10, [[6, 4], [3, 3, 3, 1]]),
        ([7, 6, 3], 10, [[7, 3], [6]]),  # 3 into the fullest row with room, not the first
        ([6, 7, 3], 10, [[7, 3], [6]]),
        ([8, 7, 2, 1, 1], 10, [[8, 2], [7, 1, 1]]),
        ([5, 5, 5], 10, [[5, 5], [5]]),
    ],
)
def test_packing_is_best_fit_decreasing(
    lengths: list[int], capacity: int, rows: list[list[int]]
) -> None:
    order, starts = pack_best_fit(np.array(lengths), capacity, seed=3)
    assert [np.array(lengths)[row].tolist() for row in np.split(order, starts[1:-1])] == rows


def test_the_seed_orders_equal_lengths() -> None:
    lengths = np.full(40, 5)
    orders = {tuple(pack_best_fit(lengths, 10, seed=seed)[0].tolist()) for seed in range(4)}
    assert len(orders) == 4


# ------------------------------------------------------------------------------------------------
# Order


@settings(deadline=None)
@given(st.integers(1, 30), st.integers(1, 70), st.integers(0, 2**40))
def test_each_epoch_is_a_permutation_of_all_rows(n_rows: int, batch_size: int, seed: int) -> None:
    n_steps = 3 * n_rows // batch_size + 1
    steps = [
        rows_of_step(step, batch_size=batch_size, n_rows=n_rows, seed=seed)
        for step in range(n_steps)
    ]
    assert {len(rows) for rows in steps} == {batch_size}
    walk = np.concatenate(steps)
    for epoch in range(len(walk) // n_rows):
        rows = walk[epoch * n_rows : (epoch + 1) * n_rows]
        assert sorted(rows.tolist()) == list(range(n_rows))
    # Whichever steps were taken before, and whatever was done to their rows.
    for rows in steps:
        rows[:] = -1
    for step in reversed(range(n_steps)):
        again = rows_of_step(step, batch_size=batch_size, n_rows=n_rows, seed=seed)
        assert np.array_equal(again, walk[step * batch_size : (step + 1) * batch_size])


def test_each_epoch_and_each_seed_has_its_own_order() -> None:
    orders = {
        tuple(rows_of_step(epoch, batch_size=50, n_rows=50, seed=seed).tolist())
        for seed in range(3)
        for epoch in range(3)
    }
    assert len(orders) == 9


def test_a_step_does_not_depend_on_earlier_ones() -> None:
    before = rows_of_step(1000, batch_size=8, n_rows=37, seed=1)
    packing._permutation.cache_clear()
    assert np.array_equal(before, rows_of_step(1000, batch_size=8, n_rows=37, seed=1))


# ------------------------------------------------------------------------------------------------
# Assembly


def trimmed(arrays: Arrays) -> list[list[int]]:
    """Flatten the five arrays, without spare borders and targets."""
    size = arrays.ids_BT.size
    kept = arrays.targets_KM != IGNORE
    n_borders = int(np.argmax(arrays.borders == size)) + 1
    return [
        arrays.ids_BT.reshape(-1).tolist(),
        arrays.positions_BT.reshape(-1).tolist(),
        arrays.borders[:n_borders].tolist(),
        arrays.target_index_KM[kept].tolist(),
        arrays.targets_KM[kept].tolist(),
    ]


def check_assembly(rows: Rows, documents: list[Document], numbers: Ints, slow: SlowBatch) -> None:
    arrays = rows.assemble(numbers)
    found = trimmed(arrays)
    wanted = [[documents[i] for i in rows.examples(row)] for row in numbers]
    assert found == [t.flatten().tolist() for t in slow(wanted, rows.block_size, padding=EOT)[:5]]
    assert {array.dtype for array in arrays} == {np.dtype(np.int64)}
    assert arrays.ids_BT.shape == arrays.positions_BT.shape == (len(numbers), rows.block_size)
    assert rows.n_targets(numbers) == len(found[4])
    # As many borders and chunks for any rows; a chunk has little to spare.
    size = arrays.ids_BT.size
    assert len(arrays.borders) == len(numbers) * rows.max_documents + 1
    assert (arrays.borders[len(found[2]) :] == size).all()
    n_chunks, width = arrays.targets_KM.shape
    assert n_chunks == rows.n_chunks(len(numbers))
    assert width % ALIGNED_TARGETS == 0 < width
    assert arrays.targets_KM.size - len(found[4]) < n_chunks * ALIGNED_TARGETS + ALIGNED_TARGETS
    assert arrays.target_index_KM.shape == arrays.targets_KM.shape
    assert (arrays.target_index_KM < size).all()
    assert rows.records(numbers).tolist() == [i for row in numbers for i in rows.examples(row)]


document = st.integers(2, 16).flatmap(
    lambda n: st.tuples(
        st.lists(st.integers(0, EOT), min_size=n, max_size=n), st.integers(1, n - 1)
    )
)


@settings(deadline=None, max_examples=60)
@given(data=st.data(), examples=st.lists(document, min_size=1, max_size=12))
@pytest.mark.parametrize("pack", [True, False])
def test_assembled_arrays_equal_a_plain_python_reference(
    pack: bool, data: st.DataObject, examples: list[Document], slow_batch: SlowBatch
) -> None:
    gap = data.draw(st.integers(0, 2))
    rows = build_rows(as_split(examples, gap=gap), 16, pack=pack, seed=1)
    numbers = data.draw(st.lists(st.integers(0, len(rows) - 1), min_size=1, max_size=4))
    check_assembly(rows, examples, np.array(numbers), slow_batch)


def test_without_packing_each_example_has_a_row(
    documents: list[Document], slow_batch: SlowBatch
) -> None:
    rows = build_rows(as_split(documents), 24, pack=False, seed=1)
    assert [rows.examples(row).tolist() for row in range(len(rows))] == [[i] for i in range(12)]
    check_assembly(rows, documents, np.arange(12), slow_batch)


def loss_and_gradient(
    model: GPT, rows: Rows, parts: Iterator[Ints]
) -> tuple[float, torch.Tensor, int]:
    """Sum over micro-batches, as train.py does; also return the number of targets."""
    model.zero_grad()
    total, n_targets = 0.0, 0
    for numbers in parts:
        loss = model(Batch(*map(torch.from_numpy, rows.assemble(numbers))))
        loss.backward()
        total += float(loss.detach())
        n_targets += rows.n_targets(numbers)
    gradients = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
    return total, torch.cat(gradients), n_targets


def micro_batches(numbers: Ints, size: int) -> Iterator[Ints]:
    return (numbers[start : start + size] for start in range(0, len(numbers), size))


@pytest.mark.parametrize("size", [1, 2, 4, 5, 99])
def test_packing_and_micro_batches_change_no_gradient(
    size: int, documents: list[Document], tiny_model: Callable[..., GPT]
) -> None:
    split, model = as_split(documents), tiny_model(vocab_size=50257).double()
    single = build_rows(split, 24, pack=False, seed=1)
    packed = build_rows(split, 24, pack=True, seed=1)
    assert len(packed) < len(single)
    loss, gradient, n_targets = loss_and_gradient(
        model, single, micro_batches(np.arange(len(single)), 1)
    )
    for rows in (single, packed):
        order = rows_of_step(0, batch_size=len(rows), n_rows=len(rows), seed=size)
        again, gradient_again, n_again = loss_and_gradient(model, rows, micro_batches(order, size))
        assert n_again == n_targets == sum(len(ids) - n_prompt for ids, n_prompt in documents)
        assert again == pytest.approx(loss, rel=1e-12)
        assert float((gradient - gradient_again).norm() / gradient.norm()) <= 1e-10


@pytest.mark.parametrize(
    ("documents", "phrase"),
    [
        ([], "train has no examples; prepare more records or other --tasks"),
        (
            [([1] * 17, 2), ([1] * 9, 2)],
            "train has examples of up to 17 tokens, but block_size is 16; "
            "run prepare.py --block_size=16",
        ),
    ],
)
def test_splits_that_cannot_fill_rows_are_refused(documents: list[Document], phrase: str) -> None:
    for pack in (True, False):
        with pytest.raises(DataError, match=phrase):
            build_rows(as_split(documents), 16, pack=pack, seed=0)


def test_an_example_may_fill_a_row(slow_batch: SlowBatch) -> None:
    documents = [(list(range(16)), 1), (list(range(16)), 15)]
    for pack in (True, False):
        rows = build_rows(as_split(documents), 16, pack=pack, seed=0)
        assert len(rows) == 2
        check_assembly(rows, documents, np.arange(2), slow_batch)


@pytest.mark.parametrize("pack", [True, False])
def test_a_ragged_batch_is_padded_to_the_shape_of_a_full_one(
    pack: bool, documents: list[Document], tiny_model: Callable[..., GPT]
) -> None:
    """Rows of only padding have the shapes of any full batch and do not change the loss."""
    rows = build_rows(as_split(documents), 24, pack=pack, seed=1)
    model = tiny_model(vocab_size=EOT + 1)
    full = rows.assemble(np.arange(4), n_rows=4)
    for n in range(4):
        few = rows.assemble(np.arange(n), n_rows=4)
        assert [few[i].shape for i in range(3)] == [full[i].shape for i in range(3)]
        assert len(few.targets_KM) == len(full.targets_KM)
        assert np.diff(few.borders).max() <= 24 and set(range(0, 97, 24)) <= set(few.borders)
        parts = [few, *(rows.assemble(np.array([row])) for row in range(n))]
        loss, *alone = (
            float(model.token_losses(Batch(*map(torch.from_numpy, part))).sum()) for part in parts
        )
        assert loss == pytest.approx(sum(alone), rel=1e-6)


@pytest.mark.parametrize("pack", [True, False])
def test_tight_batches_have_the_same_losses_and_gradients(
    pack: bool, documents: list[Document], tiny_model: Callable[..., GPT]
) -> None:
    rows = build_rows(as_split(documents), 24, pack=pack, seed=1)
    model = use_kernels(tiny_model(vocab_size=EOT + 1).double())
    for numbers in (np.arange(len(rows)), np.array([3]), np.array([4, 1])):
        padded, tight = rows.assemble(numbers), rows.assemble(numbers, tight=True)
        tokens = sum(int(rows.split.lengths[rows.examples(row)].sum()) for row in numbers.tolist())
        assert tight.ids_BT.shape == tight.positions_BT.shape == (1, tokens)
        batches = [Batch(*map(torch.from_numpy, arrays)) for arrays in (padded, tight)]
        found = [losses_and_gradient(model, batch) for batch in batches]
        torch.testing.assert_close(found[0][0], found[1][0], rtol=0, atol=1e-12)
        assert float((found[0][1] - found[1][1]).norm() / found[0][1].norm()) <= 1e-12
    nothing = rows.assemble(np.array([], dtype=np.int64), n_rows=2, tight=True)
    assert nothing.ids_BT.shape == (2, 24)  # a forward needs some tokens


def test_many_targets_are_split_into_chunks(
    documents: list[Document], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "TARGETS_AT_ONCE", 32)
    rows = build_rows(as_split(documents), 24, pack=True, seed=1)
    whole = rows.n_targets(np.arange(len(rows)))
    assert rows.n_chunks(len(rows)) == -(-whole // 32) == rows.n_chunks(99) > 1
    chunks = rows.assemble(np.arange(len(rows))).targets_KM
    assert chunks.shape == (rows.n_chunks(len(rows)), 32)
    assert (chunks != IGNORE).sum() == whole


def test_ignore_is_the_same_in_packing_and_model() -> None:
    assert IGNORE == MODEL_IGNORE


def test_padding_is_the_end_of_text_of_the_datas_tokenizer() -> None:
    split = replace(as_split([([5, 6, 7], 1)]), eot=0)
    arrays = build_rows(split, 6, pack=True, seed=0).assemble(np.array([0]))
    assert arrays.ids_BT.tolist() == [[5, 6, 7, 0, 0, 0]]


# ------------------------------------------------------------------------------------------------
# Weights of labels


@pytest.mark.parametrize("pack", [True, False])
def test_only_the_labels_of_answers_weigh_more(pack: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not a summary that begins with the same tokens, nor an answer that begins with others."""
    monkeypatch.setattr(packing, "TARGETS_AT_ONCE", 32)  # two chunks
    labelled = make_labelled()
    rows = rows_of_labelled(labelled, 24, label_weight=2.5, pack=pack)
    assert rows.n_label.tolist() == [each.n_label for each in labelled]
    assert {each.n_label for each in labelled} == {0, 1, 2}
    for numbers in (np.arange(len(rows)), np.array([3, 1]), np.array([], dtype=np.int64)):
        arrays = rows.assemble(numbers, n_rows=len(rows))
        found = rows.target_weights(numbers, n_rows=len(rows))
        wanted = []
        for row in numbers:
            for each in (labelled[i] for i in rows.examples(row)):
                ids, n_prompt = each.document
                wanted += [2.5] * each.n_label + [1.0] * (len(ids) - n_prompt - each.n_label)
        assert found.shape == arrays.targets_KM.shape and len(found) == 2
        assert found[arrays.targets_KM != IGNORE].tolist() == wanted
        assert not found[arrays.targets_KM == IGNORE].any()
        assert rows.total_weight(numbers) == sum(wanted)


def test_without_a_weight_no_label_is_looked_for() -> None:
    rows = rows_of_labelled(make_labelled(), 24, label_weight=1)
    assert not rows.n_label.any()
    assert rows.total_weight(np.arange(5)) == rows.n_targets(np.arange(5))


def test_a_target_shorter_than_a_label_at_the_end_of_the_file_has_none() -> None:
    split = as_split([([1, 5, EOT], 1), ([1, EOT], 1)])
    rows = build_rows(
        split, 16, pack=True, seed=0, label_weight=2, label_ids=[*LABEL_IDS, (5,) * 9]
    )
    assert rows.n_label.tolist() == [1, 0]


def test_a_weight_without_labels_is_refused(documents: list[Document]) -> None:
    with pytest.raises(DataError, match="no labels to weigh.*use --label_weight=1"):
        build_rows(as_split(documents), 24, pack=True, seed=0, label_weight=2, label_ids=[(97,)])
