"""The exact mean loss: the same gradients for any micro-batches, and measuring changes nothing."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from clingpt import runtime
from clingpt.dataset import Rows, build_rows
from clingpt.scoring import split_of_examples
from clingpt.steps import accumulate_gradients, mean_loss
from clingpt.tasks import Example
from model import GPT

RT = runtime.Runtime(torch.device("cpu"), torch.float32)
OFF = torch.amp.GradScaler("cpu", enabled=False)


@pytest.fixture
def rows(documents: list[tuple[list[int], int]]) -> Rows:
    examples = [
        Example(prompt_ids=ids[:n], target_ids=ids[n:], trimmed_tokens=0) for ids, n in documents
    ]
    return build_rows(split_of_examples(examples), 24, pack=False, seed=0)


def gradients(model: GPT, rows: Rows, micro_batch_size: int) -> tuple[float, torch.Tensor]:
    model.zero_grad()
    loss = accumulate_gradients(
        model,
        rows,
        np.arange(len(rows)),
        micro_batch_size=micro_batch_size,
        rt=RT,
        scaler=OFF,
    )
    flat = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
    return float(loss), torch.cat(flat)


@pytest.mark.parametrize("size", [1, 2, 5, 7])
def test_gradients_do_not_depend_on_the_micro_batches(
    tiny_model: Callable[..., GPT], rows: Rows, size: int
) -> None:
    model = tiny_model(vocab_size=50257).double()
    loss, whole = gradients(model, rows, len(rows))
    split_loss, split = gradients(model, rows, size)  # 5 and 7 leave a ragged last one
    assert abs(loss - split_loss) <= 1e-12 * loss
    assert float((whole - split).norm() / whole.norm()) <= 1e-10


def test_a_mean_of_micro_batch_means_would_not_do(
    tiny_model: Callable[..., GPT], rows: Rows
) -> None:
    """The check above has power: with uneven target counts the usual mistake is far off."""
    model = tiny_model(vocab_size=50257).double()
    _, whole = gradients(model, rows, len(rows))
    parts = []
    for row in range(len(rows)):
        model.zero_grad()
        accumulate_gradients(model, rows, np.array([row]), micro_batch_size=1, rt=RT, scaler=OFF)
        parts.append(
            torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        )
    wrong = torch.stack(parts).mean(dim=0)
    assert float((whole - wrong).norm() / whole.norm()) > 0.01


def test_measuring_draws_no_random_number_and_leaves_the_model_training(
    tiny_model: Callable[..., GPT], rows: Rows
) -> None:
    model = tiny_model(vocab_size=50257, dropout=0.5).train()
    before = torch.get_rng_state()
    losses = {mean_loss(model, rows, micro_batch_size=size, rt=RT) for size in (1, 5, len(rows))}
    assert torch.equal(torch.get_rng_state(), before)
    assert model.training
    first, *others = sorted(loss for loss in losses if loss is not None)
    assert all(abs(other - first) < 1e-6 * first for other in others)


def test_measuring_can_be_cut_short(tiny_model: Callable[..., GPT], rows: Rows) -> None:
    assert (
        mean_loss(tiny_model(vocab_size=50257), rows, micro_batch_size=1, rt=RT, stop=lambda: True)
        is None
    )
