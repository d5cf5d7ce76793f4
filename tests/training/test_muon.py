"""Muon: its update, what it leaves to AdamW, broken steps, and moments that are restored."""

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from clingpt.data.packing import Rows
from clingpt.nn.runtime import Runtime
from clingpt.training import memory_fit
from clingpt.training.batches import Feed
from clingpt.training.memory_fit import allocate_gradients_and_moments
from clingpt.training.muon import MuonAdamW, orthogonalised
from clingpt.training.state import load_optimizer_state, optimizer_state
from clingpt.training.step import (
    Schedule,
    Updater,
    accumulate_gradients,
    build_optimizer,
    step_unless,
)
from model import GPT
from tests.helpers.models import Document, rows_of_documents

Build = Callable[..., GPT]
RT = Runtime(torch.device("cpu"), torch.float32)
OFF = torch.amp.GradScaler("cpu", enabled=False)
CONSTANT = Schedule(kind="constant", peak=1e-2, floor=0, warmup_steps=0, steps=9)
SHAPES = [(64, 256), (256, 64), (48, 144)]


@pytest.fixture
def rows(documents: list[Document]) -> Rows:
    return rows_of_documents(documents, 24)


def built(model: GPT, kind: str = "muon", weight_decay: float = 0.1) -> torch.optim.AdamW:
    return build_optimizer(
        model, kind=kind, learning_rate=1e-2, betas=(0.9, 0.95), weight_decay=weight_decay
    )


def train(
    model: GPT,
    optimizer: torch.optim.Optimizer,
    rows: Rows,
    steps: range,
    size: int = 4,
    scaler: torch.amp.GradScaler = OFF,
) -> None:
    updater = Updater(optimizer, scaler, CONSTANT, RT, 1.0)
    for step in steps:
        chosen = np.arange(4) + step
        n_targets = rows.n_targets(chosen)
        work = Feed(rows, RT, size).work(chosen)
        losses = accumulate_gradients(model, work, n_targets, rt=RT, scaler=scaler)
        updater.step(step, losses, n_targets)


def snapshot(model: GPT, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    moments = optimizer_state(model, optimizer)
    flat = {f"{name} {key}": x for name, state in moments.items() for key, x in state.items()}
    return copy.deepcopy({**model.state_dict(), **flat})


def differing(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> list[str]:
    assert found.keys() == expected.keys()
    return [name for name in found if not torch.equal(found[name], expected[name])]


def is_matrix_of_a_block(name: str) -> bool:
    return name.startswith("h.") and ".c_" in name and name.endswith("weight")


# ------------------------------------------------------------------------------------------------
# The update


@pytest.mark.parametrize("shape", SHAPES)
def test_singular_values_become_about_one_and_their_vectors_stay(shape: tuple[int, int]) -> None:
    torch.manual_seed(1)
    for scale in (1e-4, 1, 1e4):
        matrix = scale * torch.randn(shape, dtype=torch.float64)
        found = orthogonalised(matrix)
        values = torch.linalg.svdvals(found)
        assert 0.68 < values.min() and values.max() < 1.21
        u, _, v = torch.linalg.svd(matrix, full_matrices=False)
        inner = u.T @ found @ v.T
        assert (inner - inner.diag().diag()).abs().max() < 1e-8
    assert not orthogonalised(torch.zeros(shape)).any()


@pytest.mark.parametrize("shape", SHAPES)
def test_the_update_is_that_of_torchs_muon_in_higher_precision(shape: tuple[int, int]) -> None:
    torch.manual_seed(1)
    ours, vector = torch.nn.Parameter(torch.randn(shape)), torch.nn.Parameter(torch.randn(3))
    theirs = torch.nn.Parameter(ours.detach().clone())
    groups: list[Any] = [{"params": [vector]}, {"params": [ours], "weight_decay": 0.1}]
    optimizer = MuonAdamW(groups, lr=1e-2, fused=True)
    reference: Any = torch.optim.Muon(
        [theirs], lr=1e-2, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"
    )
    for _ in range(3):
        before = ours.detach().clone()
        vector.grad = torch.ones(3)
        ours.grad = torch.randn(shape)
        theirs.grad = ours.grad.clone()
        optimizer.step()
        reference.step()
        update = ours.detach() - before * (1 - 1e-3)
        # An update of AdamW's size: elements of RMS 0.2, times the learning rate.
        assert float(update.square().mean().sqrt()) == pytest.approx(0.2e-2, rel=0.2)
        # bfloat16 has 8 bits, and five iterations amplify its rounding.
        assert float((ours - theirs).detach().norm() / update.norm()) < 0.05
        moments = [optimizer.state[ours], reference.state[theirs]]
        torch.testing.assert_close(*(state["momentum_buffer"] for state in moments))
        theirs.data.copy_(ours.data)


def test_muon_updates_the_matrices_of_the_blocks_and_adamw_the_rest(
    tiny_model: Build, rows: Rows
) -> None:
    models = {kind: tiny_model() for kind in ("muon", "adamw")}
    optimizers = {kind: built(model, kind) for kind, model in models.items()}
    for kind, model in models.items():
        train(model, optimizers[kind], rows, range(1))
    weights = [dict(model.named_parameters()) for model in models.values()]
    matrices = {name for name in weights[0] if is_matrix_of_a_block(name)}
    assert len(matrices) == 8
    for name in weights[0]:
        alike = torch.equal(weights[0][name], weights[1][name])
        assert alike == (name not in matrices), name
    moments = optimizer_state(models["muon"], optimizers["muon"])
    assert moments.keys() == weights[0].keys()
    for name, state in moments.items():
        adamws = {"step", "exp_avg", "exp_avg_sq"}
        assert state.keys() == ({"momentum_buffer"} if name in matrices else adamws)


def test_weight_decay_shrinks_only_weights(tiny_model: Build) -> None:
    model = tiny_model()
    before = copy.deepcopy(model.state_dict())
    optimizer = built(model, weight_decay=0.5)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, tensor in model.state_dict().items():
        factor = 1 - 1e-2 * 0.5 if tensor.dim() == 2 else 1
        torch.testing.assert_close(tensor, before[name] * factor, rtol=1e-6, atol=0, msg=name)


def test_weights_do_not_depend_on_the_micro_batches(tiny_model: Build, rows: Rows) -> None:
    found = []
    for size in (4, 2, 1):
        model = tiny_model().double()
        train(model, built(model), rows, range(4), size)
        found.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    for other in found[1:]:
        assert float((other - found[0]).norm() / found[0].norm()) < 1e-8


# ------------------------------------------------------------------------------------------------
# Broken steps


def test_a_broken_step_changes_neither_weights_nor_moments(tiny_model: Build, rows: Rows) -> None:
    model = tiny_model()
    optimizer = built(model)
    train(model, optimizer, rows, range(2))
    before = snapshot(model, optimizer)
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, math.nan)
    step_unless(torch.ones(()), optimizer)
    assert differing(snapshot(model, optimizer), before) == []
    optimizer.zero_grad()
    train(model, optimizer, rows, range(2, 3))
    changed = differing(snapshot(model, optimizer), before)
    assert {name for name in before if is_matrix_of_a_block(name.split()[0])} <= set(changed)


def test_loss_scaling_skips_an_overflow_and_else_changes_nothing(
    tiny_model: Build, rows: Rows
) -> None:
    plain, scaled = tiny_model(), tiny_model()
    optimizers = built(plain), built(scaled)
    train(plain, optimizers[0], rows, range(3))
    # A power of two changes no digit of a gradient.
    scaler = torch.amp.GradScaler("cpu", init_scale=1024)
    train(scaled, optimizers[1], rows, range(3), scaler=scaler)
    assert differing(snapshot(scaled, optimizers[1]), snapshot(plain, optimizers[0])) == []
    before = snapshot(scaled, optimizers[1])
    for parameter in scaled.parameters():
        parameter.grad = torch.full_like(parameter, math.inf)
    scaler.scale(torch.ones(()))
    Updater(optimizers[1], scaler, CONSTANT, RT, 1.0).step(3, torch.ones(1), 1)
    assert differing(snapshot(scaled, optimizers[1]), before) == []
    assert scaler.get_scale() == 512


def test_allocating_gradients_and_moments_changes_nothing(tiny_model: Build, rows: Rows) -> None:
    ours, theirs = tiny_model(), tiny_model()
    optimizers = built(ours), built(theirs)
    allocate_gradients_and_moments(optimizers[0])
    moments = optimizer_state(ours, optimizers[0])
    assert moments.keys() == dict(ours.named_parameters()).keys()
    assert not any(tensor.any() for state in moments.values() for tensor in state.values())
    optimizers[0].zero_grad()
    train(ours, optimizers[0], rows, range(3))
    train(theirs, optimizers[1], rows, range(3))
    assert differing(snapshot(ours, optimizers[0]), snapshot(theirs, optimizers[1])) == []


def test_memory_is_estimated_for_one_moment_of_each_matrix(tiny_model: Build, rows: Rows) -> None:
    model = tiny_model()
    needs = [
        memory_fit._bytes_to_train(model, Feed(rows, RT, 1), built(model, kind), 1, 0, 0)
        for kind in ("adamw", "muon")
    ]
    matrices = sum(p.numel() for p in model.h.parameters() if p.dim() == 2)
    saved = memory_fit.SLACK * memory_fit.FP32_BYTES * matrices
    assert needs[0] - needs[1] == pytest.approx(saved, abs=2)


# ------------------------------------------------------------------------------------------------
# Moments


def test_restored_moments_continue_training_exactly(tiny_model: Build, rows: Rows) -> None:
    straight = tiny_model()
    optimizer = built(straight)
    train(straight, optimizer, rows, range(3))
    weights = copy.deepcopy(straight.state_dict())
    moments = copy.deepcopy(optimizer_state(straight, optimizer))
    train(straight, optimizer, rows, range(3, 6))
    for forget in (False, True):
        resumed = tiny_model(seed=99)
        resumed.load_state_dict(weights)
        again = built(resumed)
        load_optimizer_state(resumed, again, moments)
        if forget:  # the test can fail
            again.state[resumed.get_parameter("h.0.attn.c_attn.weight")]["momentum_buffer"].zero_()
        train(resumed, again, rows, range(3, 6))
        differences = differing(snapshot(resumed, again), snapshot(straight, optimizer))
        assert bool(differences) == forget


@pytest.mark.parametrize(
    ("before", "after", "lacking"),
    [("adamw", "muon", "momentum_buffer"), ("muon", "adamw", "step")],
)
def test_moments_of_another_optimizer_are_refused(
    before: str, after: str, lacking: str, tiny_model: Build, rows: Rows
) -> None:
    model = tiny_model()
    optimizer = built(model, before)
    train(model, optimizer, rows, range(1))
    with pytest.raises(KeyError, match=lacking):
        load_optimizer_state(model, built(model, after), optimizer_state(model, optimizer))
