"""Optimizer state: saved and restored bit for bit; broken steps leave it unchanged."""

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from clingpt.training.memory_fit import allocate_gradients_and_moments
from clingpt.training.state import load_optimizer_state, optimizer_state
from clingpt.training.step import build_optimizer, step_unless
from model import GPT, Batch
from tests.helpers.models import Document, SlowBatch

Build = Callable[..., GPT]


def adamw(model: GPT, *, weight_decay: float = 0.1) -> torch.optim.AdamW:
    return build_optimizer(model, learning_rate=1e-2, betas=(0.9, 0.95), weight_decay=weight_decay)


def train(model: GPT, optimizer: torch.optim.Optimizer, batches: list[Batch]) -> None:
    for batch in batches:
        model(batch).backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.fixture
def batches(documents: list[Document], slow_batch: SlowBatch) -> list[Batch]:
    return [slow_batch([[document]], 24) for document in documents[:6]]


def test_restored_moments_continue_training_exactly(
    tiny_model: Build, batches: list[Batch]
) -> None:
    straight = tiny_model()
    train(straight, adamw(straight), batches)

    first = tiny_model()
    optimizer = adamw(first)
    train(first, optimizer, batches[:3])
    weights, moments = copy.deepcopy((first.state_dict(), optimizer_state(first, optimizer)))

    second = tiny_model(seed=99)
    second.load_state_dict(weights)
    optimizer = adamw(second)
    load_optimizer_state(second, optimizer, moments)
    train(second, optimizer, batches[3:])
    assert_equal(second.state_dict(), straight.state_dict())

    forgetful = tiny_model()  # without moments the same steps give another result
    forgetful.load_state_dict(weights)
    train(forgetful, adamw(forgetful), batches[3:])
    assert not torch.equal(forgetful.wte.weight, straight.wte.weight)


@pytest.mark.parametrize("fused", [True, False])
def test_a_broken_step_changes_neither_weights_nor_moments(
    fused: bool, tiny_model: Build, batches: list[Batch]
) -> None:
    model = tiny_model()
    optimizer = adamw(model)
    if not fused:
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        optimizer.defaults["fused"] = False
    train(model, optimizer, batches[:2])
    before = copy.deepcopy((model.state_dict(), optimizer_state(model, optimizer)))
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, math.nan)
    step_unless(torch.ones(()), optimizer)
    assert_equal(model.state_dict(), before[0])
    for name, state in optimizer_state(model, optimizer).items():
        assert_equal(state, before[1][name])
    model(batches[2]).backward()
    optimizer.zero_grad()
    model(batches[2]).backward()
    step_unless(torch.zeros(()), optimizer)
    assert not torch.equal(model.wte.weight, before[0]["wte.weight"])


def test_allocating_gradients_and_moments_changes_nothing(
    tiny_model: Build, batches: list[Batch]
) -> None:
    ours, theirs = tiny_model(), tiny_model()
    optimizers = adamw(ours), adamw(theirs)
    allocate_gradients_and_moments(optimizers[0])
    moments = optimizer_state(ours, optimizers[0])
    assert moments.keys() == dict(ours.named_parameters()).keys()
    assert not any(tensor.any() for state in moments.values() for tensor in state.values())
    optimizers[0].zero_grad()
    train(ours, optimizers[0], batches[:3])
    train(theirs, optimizers[1], batches[:3])
    assert_equal(ours.state_dict(), theirs.state_dict())
    allocate_gradients_and_moments(optimizers[0])  # in a resumed run
    again = optimizer_state(theirs, optimizers[1])
    for name, state in optimizer_state(ours, optimizers[0]).items():
        assert_equal(state, again[name])


def assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    assert [name for name in found if not torch.equal(found[name], expected[name])] == []


def test_moments_are_restored_by_name_into_any_grouping(
    tiny_model: Build, batches: list[Batch]
) -> None:
    model = tiny_model()
    optimizer = adamw(model)
    train(model, optimizer, batches[:2])
    moments = optimizer_state(model, optimizer)
    assert moments.keys() == dict(model.named_parameters()).keys()
    other = tiny_model(seed=99)
    # Another version of build_optimizer may order the groups differently.
    groups = [{"params": group["params"]} for group in reversed(adamw(other).param_groups)]
    rearranged = torch.optim.AdamW(groups, lr=0.5)
    load_optimizer_state(other, rearranged, moments)
    again: dict[str, Any] = optimizer_state(other, rearranged)
    for name, state in moments.items():
        assert_equal(again[name], state)
    assert [group["lr"] for group in rearranged.param_groups] == [0.5, 0.5]


def test_a_parameter_without_moments_is_named(tiny_model: Build, batches: list[Batch]) -> None:
    model = tiny_model()
    optimizer = adamw(model)
    train(model, optimizer, batches[:1])
    moments = optimizer_state(model, optimizer)
    del moments["h.1.ln_2.bias"]
    with pytest.raises(KeyError, match=r"h\.1\.ln_2\.bias"):
        load_optimizer_state(model, adamw(model), moments)
