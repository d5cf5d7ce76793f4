"""Decay groups, schedules against a table, and moments that come back bit for bit."""

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from clingpt.training.optim import (
    Schedule,
    allocate_all,
    build_optimizer,
    load_optimizer_state,
    optimizer_state,
    set_learning_rate,
    step_unless,
)
from model import GPT, Batch
from tests.helpers.models import Document, SlowBatch

Build = Callable[..., GPT]


def adamw(model: GPT, *, weight_decay: float = 0.1) -> torch.optim.AdamW:
    return build_optimizer(model, learning_rate=1e-2, betas=(0.9, 0.95), weight_decay=weight_decay)


def test_weights_decay_and_biases_and_norms_do_not(tiny_model: Build) -> None:
    model = tiny_model()
    names = {parameter: name for name, parameter in model.named_parameters()}
    groups = adamw(model).param_groups
    decay = {names[p]: group["weight_decay"] for group in groups for p in group["params"]}
    assert sum(len(group["params"]) for group in groups) == len(names)
    assert decay.keys() == set(names.values())
    for name, rate in decay.items():
        matrix = name in ("wte.weight", "wpe.weight") or ".c_" in name and name.endswith("weight")
        assert rate == (0.1 if matrix else 0.0), name
    assert {(group["lr"], group["betas"]) for group in groups} == {(1e-2, (0.9, 0.95))}


def test_decay_alone_shrinks_weights_alone(tiny_model: Build) -> None:
    model = tiny_model()
    before = copy.deepcopy(model.state_dict())
    optimizer = adamw(model, weight_decay=0.5)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, tensor in model.state_dict().items():
        factor = 1 - 1e-2 * 0.5 if tensor.dim() == 2 else 1
        torch.testing.assert_close(tensor, before[name] * factor, rtol=1e-6, atol=0, msg=name)


def test_the_learning_rate_of_every_group_is_set(tiny_model: Build) -> None:
    optimizer = adamw(tiny_model())
    set_learning_rate(optimizer, 0.25)
    assert [group["lr"] for group in optimizer.param_groups] == [0.25, 0.25]


@pytest.mark.parametrize(
    ("schedule", "warmup_steps", "rates"),
    [  # ten steps from 1.0 to 0.1: {step: rate}
        ("constant", 4, {0: 0.25, 1: 0.5, 2: 0.75, 3: 1, 4: 1, 9: 1, 10: 1, 99: 1}),
        ("constant", 0, {0: 1, 9: 1, 99: 1}),
        ("linear", 4, {0: 0.25, 3: 1, 4: 1, 5: 0.85, 7: 0.55, 9: 0.25, 10: 0.1, 11: 0.1, 99: 0.1}),
        ("linear", 0, {0: 1, 1: 0.91, 5: 0.55, 9: 0.19, 10: 0.1, 99: 0.1}),
        ("cosine", 4, {0: 0.25, 3: 1, 4: 1, 6: 0.775, 7: 0.55, 8: 0.325, 10: 0.1, 99: 0.1}),
        ("cosine", 0, {0: 1, 5: 0.55, 9: 0.55 + 0.45 * math.cos(0.9 * math.pi), 10: 0.1, 99: 0.1}),
        ("cosine", 9, {8: 1, 9: 1, 10: 0.1}),
        ("linear", 10, {0: 0.1, 8: 0.9, 9: 1, 10: 1, 11: 0.1}),
        ("cosine", 20, {0: 0.05, 9: 0.5, 19: 1}),
    ],
)
def test_scheduled_rates(schedule: str, warmup_steps: int, rates: dict[int, float]) -> None:
    made = Schedule(kind=schedule, peak=1.0, floor=0.1, warmup_steps=warmup_steps, steps=10)
    for step, rate in rates.items():
        assert made.rate(step) == pytest.approx(rate, abs=1e-12), step


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
@pytest.mark.parametrize("warmup_steps", [0, 3])
def test_rates_never_rise_after_the_warmup(schedule: str, warmup_steps: int) -> None:
    made = Schedule(kind=schedule, peak=3e-4, floor=3e-5, warmup_steps=warmup_steps, steps=20)
    rates = [made.rate(step) for step in range(25)]
    assert rates[:warmup_steps] == sorted(rates[:warmup_steps])
    assert rates[warmup_steps:] == sorted(rates[warmup_steps:], reverse=True)
    assert all(0 < rate <= 3e-4 for rate in rates)


def train(model: GPT, optimizer: torch.optim.Optimizer, batches: list[Batch]) -> None:
    for batch in batches:
        model(batch).backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.fixture
def batches(documents: list[Document], slow_batch: SlowBatch) -> list[Batch]:
    return [slow_batch([[document]], 24) for document in documents[:6]]


def test_three_and_three_steps_are_six(tiny_model: Build, batches: list[Batch]) -> None:
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

    forgetful = tiny_model()  # without moments the same steps lead elsewhere
    forgetful.load_state_dict(weights)
    train(forgetful, adamw(forgetful), batches[3:])
    assert not torch.equal(forgetful.wte.weight, straight.wte.weight)


@pytest.mark.parametrize("fused", [True, False])
def test_a_broken_step_changes_nothing(
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


def test_allocating_everything_changes_nothing(tiny_model: Build, batches: list[Batch]) -> None:
    ours, theirs = tiny_model(), tiny_model()
    optimizers = adamw(ours), adamw(theirs)
    allocate_all(optimizers[0])
    moments = optimizer_state(ours, optimizers[0])
    assert moments.keys() == dict(ours.named_parameters()).keys()
    assert not any(tensor.any() for state in moments.values() for tensor in state.values())
    optimizers[0].zero_grad()
    train(ours, optimizers[0], batches[:3])
    train(theirs, optimizers[1], batches[:3])
    assert_equal(ours.state_dict(), theirs.state_dict())
    allocate_all(optimizers[0])  # in a resumed run
    again = optimizer_state(theirs, optimizers[1])
    for name, state in optimizer_state(ours, optimizers[0]).items():
        assert_equal(state, again[name])


def assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    assert [name for name in found if not torch.equal(found[name], expected[name])] == []


def test_moments_come_back_by_name(tiny_model: Build, batches: list[Batch]) -> None:
    model = tiny_model()
    optimizer = adamw(model)
    train(model, optimizer, batches[:2])
    moments = optimizer_state(model, optimizer)
    assert moments.keys() == dict(model.named_parameters()).keys()
    other = tiny_model(seed=99)
    # The groups in another order, as another version of build_optimizer may have them.
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
