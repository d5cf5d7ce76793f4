"""Throughput: peak FLOP/s by device name, FLOPs of a step, the meter."""

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from clingpt.base import console
from clingpt.data.packing import build_rows
from clingpt.evaluation.scorer import split_of_examples
from clingpt.nn.checkpoint import FORMAT, RunFolder
from clingpt.text.tasks import Example
from clingpt.text.tokenizer import EOT
from clingpt.training.summary import (
    PEAK_FLOPS,
    Meter,
    Pace,
    at_stake,
    end,
    measured,
    peak_flops,
    training_flops,
)
from model import GPTConfig


@pytest.mark.parametrize(
    ("name", "dtype", "expected"),
    [
        ("NVIDIA H200", torch.bfloat16, 989e12),
        ("NVIDIA H100 PCIe", torch.bfloat16, 756e12),
        ("NVIDIA H100 80GB HBM3", torch.bfloat16, 989e12),
        ("NVIDIA L40S", torch.bfloat16, 362e12),
        ("NVIDIA L4", torch.bfloat16, 121e12),
        ("NVIDIA A10G", torch.bfloat16, 70e12),
        ("Tesla T4", torch.float16, 65e12),
        ("NVIDIA H200", torch.float32, None),
        ("cpu, 2 threads", torch.float32, None),
        ("Some future GPU", torch.bfloat16, None),
    ],
)
def test_peak_flops_are_looked_up_by_device_name(
    name: str, dtype: torch.dtype, expected: float | None
) -> None:
    assert peak_flops(name, dtype) == expected


def test_a_longer_name_is_never_shadowed_by_a_shorter_one() -> None:
    names = list(PEAK_FLOPS)
    for i, name in enumerate(names):
        assert not any(name.startswith(earlier) for earlier in names[:i]), name


def test_flops_of_gpt2_match_the_usual_formula() -> None:
    """6 N + 12 L C T / 2 per token, for full rows with a loss everywhere (PaLM, appendix B)."""
    config = GPTConfig()
    tokens = 1024
    flops = training_flops(
        config, tokens=tokens, targets=tokens, attended_pairs=tokens * (tokens + 1) / 2
    )
    weights = 12 * 12 * 768**2 + 768 * 50257
    usual = 6 * weights + 6 * 12 * 768 * tokens
    assert math.isclose(flops / tokens, usual, rel_tol=2e-3)
    less = training_flops(
        config, tokens=tokens, targets=tokens // 4, attended_pairs=tokens * (tokens + 1) / 2
    )
    at_targets_alone = 6 * (
        768 * 50257 + 9 * 768**2
    )  # the head, and the last block after its attention
    assert math.isclose((flops - less) / tokens, 0.75 * at_targets_alone, rel_tol=1e-9)


def test_the_meter_counts_tokens_without_padding() -> None:
    examples = [
        Example(prompt_ids=[1] * 5, target_ids=[2] * n, trimmed_tokens=0) for n in (1, 3, 7)
    ]
    rows = build_rows(split_of_examples(examples, EOT), 16, pack=False, seed=0)
    meter = Meter(rows, GPTConfig(n_layer=1, n_head=1, n_embd=8), peak_flops=1e12)
    assert meter.count(np.array([0, 2])) == 6 + 12
    speeds = meter.read()
    assert speeds["tokens_per_s"] and speeds["mfu"] and 0 < speeds["mfu"] < 1
    assert meter.tokens == 0 and meter.flops == 0


@pytest.mark.parametrize(
    ("card", "script"), [({"val_loss": 1.5}, "eval.py"), ({}, "sample.py")], ids=["val", "no val"]
)
def test_the_next_command_is_quoted_and_never_names_the_test_split(
    card: dict[str, float], script: str, tmp_path: Path
) -> None:
    out = tmp_path / "my run (2)"
    out.mkdir()
    (out / "clingpt.json").write_text(json.dumps({"format": FORMAT, **card}))
    folder: Any = SimpleNamespace(path=out, link_best=lambda select: out)
    state: Any = SimpleNamespace(step=3, tokens=7)
    shown = end(
        folder, state, steps=3, ending="finished", select="loss", elapsed_s=1, launcher="python"
    )
    assert shown.splitlines()[-1] == f"Next:  {console.python()} {script} '--checkpoint={out}/best'"


def test_the_scores_of_a_validation_name_their_records() -> None:
    """The loss covers the whole split, accuracy the labelled records, ROUGE those with a text."""
    loss, labels = {"val_loss": 2.0}, {"val_accuracy": 0.5, "val_macro_f1": 0.4, "scored_labels": 4}
    texts = {"val_rougeL": 20.0, "scored_texts": 3}
    assert measured({}, is_best=False) == "no validation split"
    assert measured(loss, is_best=True) == "val_loss 2.0000 (best so far)"
    assert measured(loss | labels | texts, is_best=False) == (
        "val_loss 2.0000; val_accuracy 0.5000, val_macro_f1 0.4000 on 4 records; "
        "val_rougeL 20.0000 on 3 texts"
    )
    assert measured(loss | texts, is_best=False) == "val_loss 2.0000; val_rougeL 20.0000 on 3 texts"


def test_pace_says_how_long_the_step_at_work_will_take(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("time.perf_counter", lambda: now)
    pace = Pace()
    pace.begin("step")
    assert pace.until() == "after this step"  # nothing is known before the first one has ended
    now = 90.0
    pace.begin("step")
    now = 140.0
    assert pace.until() == "after this step (about 40 s)"
    now = 185.0
    assert pace.until() == "after this step"  # it takes longer than the last one
    pace.begin("validation")
    assert pace.until() == "as soon as this validation can be interrupted"
    now = 500.0
    pace.begin("step")
    assert pace.until() == "after this step (about 95 s)"  # a validation is not a step


def test_at_stake_are_the_steps_since_the_last_checkpoint(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    assert at_stake(run, 0) == "losing this step"
    assert at_stake(run, 12) == "losing 12 steps"
    (tmp_path / "step_000500").mkdir()
    assert at_stake(run, 501) == "losing 1 step since step_000500"
    assert at_stake(run, 500) == "losing this step"
