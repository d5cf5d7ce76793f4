"""Gradients independent of micro-batches, non-finite steps, validation loss, schedules."""

import copy
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from clingpt.base.errors import TrainingError
from clingpt.data.packing import Rows
from clingpt.data.prepared import Prepared
from clingpt.nn import runtime
from clingpt.nn.kernels import use_kernels
from clingpt.training.batches import Feed
from clingpt.training.step import (
    Schedule,
    Updater,
    Watch,
    accumulate_gradients,
    build_optimizer,
    mean_loss,
)
from model import GPT
from tests.helpers.models import Labelled, make_labelled, rows_of_documents, rows_of_labelled

RT = runtime.Runtime(torch.device("cpu"), torch.float32)
OFF = torch.amp.GradScaler("cpu", enabled=False)
CONSTANT = Schedule(kind="constant", peak=1e-2, floor=0, warmup_steps=0, steps=9)


@pytest.fixture
def rows(documents: list[tuple[list[int], int]]) -> Rows:
    return rows_of_documents(documents, 24)


def gradients(
    model: GPT, rows: Rows, chosen: "np.ndarray[tuple[int], np.dtype[np.int64]]", size: int
) -> tuple[float, torch.Tensor]:
    model.zero_grad()
    work, total_weight = Feed(rows, RT, size).work(chosen), rows.total_weight(chosen)
    losses = accumulate_gradients(model, work, total_weight, rt=RT, scaler=OFF)
    return float(losses.sum()) / total_weight, gradient_of(model)


def gradient_of(model: GPT) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-10), (torch.float32, 1e-6)])
@pytest.mark.parametrize("size", [8, 4, 1, 3, 5])
@pytest.mark.parametrize("n_rows", [8, 7])
def test_gradients_do_not_depend_on_the_micro_batches(
    tiny_model: Callable[..., GPT],
    rows: Rows,
    dtype: torch.dtype,
    bound: float,
    size: int,
    n_rows: int,
) -> None:
    """For 8, 4 and 1 rows at once; 3 and 5 leave a smaller last micro-batch."""
    model, chosen = tiny_model(vocab_size=50257).to(dtype), np.arange(n_rows)
    parts = [gradients(model, rows, chosen[i : i + 1], 1) for i in range(n_rows)]
    weights = [rows.n_targets(chosen[i : i + 1]) for i in range(n_rows)]
    total = sum(w * g for w, (_, g) in zip(weights, parts, strict=True)) / sum(weights)
    loss, gradient = gradients(model, rows, chosen, size)
    assert isinstance(total, torch.Tensor)
    assert float((gradient - total).norm() / total.norm()) <= bound
    mean = sum(w * x for w, (x, _) in zip(weights, parts, strict=True)) / sum(weights)
    assert loss == pytest.approx(mean, rel=bound)


def test_a_mean_of_micro_batch_means_would_be_wrong(
    tiny_model: Callable[..., GPT], rows: Rows
) -> None:
    """The test above can fail: with uneven target counts the usual mistake is far off."""
    model, chosen = tiny_model(vocab_size=50257).double(), np.arange(8)
    _, whole = gradients(model, rows, chosen, 8)
    wrong = torch.stack([gradients(model, rows, chosen[i : i + 1], 1)[1] for i in range(8)])
    assert float((whole - wrong.mean(dim=0)).norm() / whole.norm()) > 0.01


def test_a_micro_batch_without_targets_adds_nothing(
    tiny_model: Callable[..., GPT], rows: Rows
) -> None:
    model, chosen = tiny_model(vocab_size=50257).double(), np.arange(4)
    loss, whole = gradients(model, rows, chosen, 4)
    model.zero_grad()
    feed = Feed(rows, RT, 4)
    work, empty = feed.work(chosen), feed._batch(chosen[:0], 4)
    work.batches.insert(0, empty)
    work.batches.append(empty)
    losses = accumulate_gradients(model, work, rows.n_targets(chosen), rt=RT, scaler=OFF)
    assert losses[0] == losses[-1] == 0
    flat = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    assert float((flat - whole).norm() / whole.norm()) <= 1e-12
    assert float(losses.sum()) / rows.n_targets(chosen) == pytest.approx(loss, rel=1e-12)


# ------------------------------------------------------------------------------------------------
# Labels that weigh more


def weighted_mean(
    model: GPT, labelled: list[Labelled], label_weight: float
) -> tuple[float, torch.Tensor]:
    """Return the weighted mean loss and its gradient, document by document, from plain logits."""
    model.zero_grad()
    total, weight = torch.zeros((), dtype=torch.float64), 0.0
    for each in labelled:
        ids, n_prompt = each.document
        logits_TV = model(torch.tensor([ids[:-1]]))[0, n_prompt - 1 :]
        losses = torch.nn.functional.cross_entropy(
            logits_TV, torch.tensor(ids[n_prompt:]), reduction="none"
        )
        label, rest = losses[: each.n_label], losses[each.n_label :]
        total = total + label_weight * label.sum() + rest.sum()
        weight += label_weight * len(label) + len(rest)
    torch.autograd.backward(total / weight)
    return float(total.detach()) / weight, gradient_of(model)


@pytest.mark.parametrize("change", [use_kernels, lambda model: model], ids=["kernels", "plain"])
@pytest.mark.parametrize("pack", [True, False])
@pytest.mark.parametrize("label_weight", [8.5, 0.25])
def test_the_weighted_loss_is_that_of_single_documents_for_any_micro_batches(
    change: Callable[[GPT], GPT], pack: bool, label_weight: float, tiny_model: Callable[..., GPT]
) -> None:
    model, labelled = change(tiny_model(vocab_size=50257).double()), make_labelled()
    loss, gradient = weighted_mean(model, labelled, label_weight)
    rows = rows_of_labelled(labelled, 24, label_weight=label_weight, pack=pack)
    for size in (1, 2, 5, 99):
        found = gradients(model, rows, np.arange(len(rows)), size)
        assert found[0] == pytest.approx(loss, rel=1e-10)
        assert float((found[1] - gradient).norm() / gradient.norm()) <= 1e-10
    _, unweighted = weighted_mean(model, labelled, 1)
    assert float((unweighted - gradient).norm() / gradient.norm()) > 0.05


def test_a_weight_of_1_leaves_batches_and_losses_as_they_are(
    tiny_model: Callable[..., GPT],
) -> None:
    labelled, chosen = make_labelled(), np.arange(7)
    rows = rows_of_labelled(labelled, 24, label_weight=1)
    plain = rows_of_documents([each.document for each in labelled], 24)
    assert Feed(rows, RT, 2).work(chosen).batches[0].target_weight_KM is None
    model = use_kernels(tiny_model(vocab_size=50257))
    found = [gradients(model, each, chosen, 2) for each in (rows, plain)]
    assert found[0][0] == found[1][0] and torch.equal(found[0][1], found[1][1])


# ------------------------------------------------------------------------------------------------
# Steps that are not finite


def updater_of(model: GPT, scaler: torch.amp.GradScaler = OFF) -> Updater:
    optimizer = build_optimizer(model, learning_rate=1, betas=(0.9, 0.95), weight_decay=0.1)
    return Updater(optimizer, scaler, CONSTANT, RT, 1.0)


def spoil_a_gradient(model: GPT, value: float) -> None:
    gradient = model.ln_f.bias.grad
    assert gradient is not None
    gradient[3] = value


@pytest.mark.parametrize("spoilt", ["loss", "gradient"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_stay_unchanged_from_a_non_finite_step_on(
    tiny_model: Callable[..., GPT], rows: Rows, spoilt: str, value: float
) -> None:
    model, work = tiny_model(vocab_size=50257), Feed(rows, RT, 2).work(np.arange(4))
    updater, n_targets = updater_of(model), rows.n_targets(work.rows)

    def step(number: int, *, spoil: bool) -> bool:
        losses = accumulate_gradients(model, work, n_targets, rt=RT, scaler=OFF)
        if spoil and spoilt == "loss":
            losses[1] = value
        elif spoil:
            spoil_a_gradient(model, value)
        return bool(updater.step(number, losses, n_targets).broken)

    assert not step(0, spoil=False)
    before = model.wte.weight.clone()
    assert step(1, spoil=True)
    assert step(2, spoil=False)  # what comes after has no effect either
    assert torch.equal(model.wte.weight, before)
    assert not torch.equal(before, tiny_model(vocab_size=50257).wte.weight)


def test_under_loss_scaling_only_a_non_finite_loss_ends_a_run(
    tiny_model: Callable[..., GPT], rows: Rows
) -> None:
    model, work = tiny_model(vocab_size=50257), Feed(rows, RT, 4).work(np.arange(4))
    scaler = torch.amp.GradScaler("cpu", init_scale=1024)
    updater, n_targets = updater_of(model, scaler), rows.n_targets(work.rows)
    before = model.wte.weight.clone()
    losses = accumulate_gradients(model, work, n_targets, rt=RT, scaler=scaler)
    spoil_a_gradient(model, math.inf)
    result = updater.step(0, losses, n_targets)
    assert not result.grad_norm.isfinite() and not result.broken
    assert torch.equal(model.wte.weight, before) and scaler.get_scale() == 512
    losses = accumulate_gradients(model, work, n_targets, rt=RT, scaler=scaler)
    assert updater.step(1, losses * math.nan, n_targets).broken


def test_the_watch_names_the_step_and_the_records(
    tiny_model: Callable[..., GPT], rows: Rows, tmp_path: Path
) -> None:
    (tmp_path / "train.ids").write_text("".join(f"record-{i}\n" for i in range(12)))
    watch = Watch(RT, Prepared(tmp_path, {}), rows)
    updater = updater_of(tiny_model(vocab_size=50257))
    work = Feed(rows, RT, 2).work(np.array([5, 7, 3, 9]))
    losses = torch.tensor([1.0, 2.0])
    watch.see(1, work, updater.step(0, losses, 3))
    watch.see(
        2, work, updater.step(1, losses * torch.tensor([1, math.nan]), 3)
    )  # checked one step later
    with pytest.raises(TrainingError) as end:
        watch.see(3, work, updater.step(2, losses, 3))
    ids = [f"record-{rows.records(np.array([row]))[0]}" for row in (3, 9)]
    assert "step 2 is not finite: loss nan, gradient norm 0. It changed no weight" in str(end.value)
    assert str(end.value).endswith(f"or lower --learning_rate: {', '.join(ids)}")
    watch.check()  # reported only once


# ------------------------------------------------------------------------------------------------
# Measuring


def test_mean_loss_draws_no_random_numbers_and_restores_training_mode(
    tiny_model: Callable[..., GPT], rows: Rows
) -> None:
    model = tiny_model(vocab_size=50257, dropout=0.5).train()
    before = torch.get_rng_state()
    losses = {mean_loss(model, Feed(rows, RT, size)) for size in (1, 5, len(rows))}
    assert torch.equal(torch.get_rng_state(), before)
    assert model.training
    first, *others = sorted(loss for loss in losses if loss is not None)
    assert all(abs(other - first) < 1e-6 * first for other in others)


def test_mean_loss_stops_when_asked(tiny_model: Callable[..., GPT], rows: Rows) -> None:
    model = tiny_model(vocab_size=50257)
    assert mean_loss(model, Feed(rows, RT, 1), stop=lambda: True) is None


# ------------------------------------------------------------------------------------------------
# Optimizer and schedule


def adamw(model: GPT, *, weight_decay: float = 0.1) -> torch.optim.AdamW:
    return build_optimizer(model, learning_rate=1e-2, betas=(0.9, 0.95), weight_decay=weight_decay)


def test_weights_decay_and_biases_and_norms_do_not(tiny_model: Callable[..., GPT]) -> None:
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


def test_weight_decay_shrinks_only_weights(tiny_model: Callable[..., GPT]) -> None:
    model = tiny_model()
    before = copy.deepcopy(model.state_dict())
    optimizer = adamw(model, weight_decay=0.5)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, tensor in model.state_dict().items():
        factor = 1 - 1e-2 * 0.5 if tensor.dim() == 2 else 1
        torch.testing.assert_close(tensor, before[name] * factor, rtol=1e-6, atol=0, msg=name)


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
def test_schedules_follow_the_table(
    schedule: str, warmup_steps: int, rates: dict[int, float]
) -> None:
    made = Schedule(kind=schedule, peak=1.0, floor=0.1, warmup_steps=warmup_steps, steps=10)
    for step, rate in rates.items():
        assert made.rate(step) == pytest.approx(rate, abs=1e-12), step


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
@pytest.mark.parametrize("warmup_steps", [0, 3])
def test_learning_rates_never_rise_after_the_warmup(schedule: str, warmup_steps: int) -> None:
    made = Schedule(kind=schedule, peak=3e-4, floor=3e-5, warmup_steps=warmup_steps, steps=20)
    rates = [made.rate(step) for step in range(25)]
    assert rates[:warmup_steps] == sorted(rates[:warmup_steps])
    assert rates[warmup_steps:] == sorted(rates[warmup_steps:], reverse=True)
    assert all(0 < rate <= 3e-4 for rate in rates)
