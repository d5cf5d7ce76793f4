"""Curves, metrics files, reports and the speed meter."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from clingpt import report
from clingpt.curves import append_metrics, draw_curves, drop_after, read_metrics
from clingpt.dataset import build_rows
from clingpt.hardware import PEAK_FLOPS, peak_flops, training_flops
from clingpt.meter import Meter
from clingpt.metrics import classification
from clingpt.scoring import Output, split_of_examples
from clingpt.tasks import Example
from model import GPTConfig


def test_metrics_survive_a_line_cut_short_and_forget_what_will_be_done_again(
    tmp_path: Path,
) -> None:
    path = tmp_path / "metrics.jsonl"
    assert read_metrics(path) == []
    for step in range(1, 5):
        append_metrics(path, {"step": step, "train_loss": 1 / step})
    path.write_text(path.read_text() + '{"step": 5, "tra')
    drop_after(path, 3)
    assert [row["step"] for row in read_metrics(path)] == [1, 2, 3]
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.jsonl"]


@pytest.mark.parametrize("steps", [0, 1, 300])
def test_curves_are_drawn_from_any_number_of_points(tmp_path: Path, steps: int) -> None:
    for step in range(1, steps + 1):
        append_metrics(tmp_path / "m", {"step": step, "train_loss": 5 / step})
        if step % 100 == 0:
            append_metrics(tmp_path / "m", {"step": step, "val_loss": 6 / step})
    draw_curves(tmp_path / "m", tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


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
def test_peaks_are_looked_up_by_name(name: str, dtype: torch.dtype, expected: float | None) -> None:
    assert peak_flops(name, dtype) == expected


def test_a_longer_name_is_never_shadowed_by_a_shorter_one() -> None:
    names = list(PEAK_FLOPS)
    for i, name in enumerate(names):
        assert not any(name.startswith(earlier) for earlier in names[:i]), name


def test_flops_of_gpt2_are_those_of_the_usual_count() -> None:
    """6 N + 12 L C T / 2 a token for full causal rows with a loss everywhere (PaLM, appendix B)."""
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
    at_targets_alone = 6 * (768 * 50257 + 9 * 768**2)  # the head, and behind the last attention
    assert math.isclose((flops - less) / tokens, 0.75 * at_targets_alone, rel_tol=1e-9)


def test_the_meter_counts_tokens_and_no_padding() -> None:
    examples = [
        Example(prompt_ids=[1] * 5, target_ids=[2] * n, trimmed_tokens=0) for n in (1, 3, 7)
    ]
    rows = build_rows(split_of_examples(examples), 16, pack=False, seed=0)
    meter = Meter(rows, GPTConfig(n_layer=1, n_head=1, n_embd=8), peak_flops=1e12)
    assert meter.count(np.array([0, 2])) == 6 + 12
    speeds = meter.read()
    assert speeds["tokens_per_s"] and speeds["mfu"] and 0 < speeds["mfu"] < 1
    assert meter.tokens == 0 and meter.flops == 0


def test_a_report_is_json_and_reads_as_tables(tmp_path: Path) -> None:
    gold, said = ["yes", "no", "maybe", "yes"], ["yes", "no", "no", "no"]
    scores = report.label_entry(classification(gold, said))
    texts = ["Pain fell by 31%.", ""]
    entry = report.text_entry(texts, ["Pain fell.", "No effect."], ["Pain fell by 31%.", "None."])
    outputs = [
        Output("1", "summarize", texts[0], "Pain fell.", "stop", 0),
        Output("2", "summarize", texts[1], "No effect.", "length", 9),
    ]
    entry |= report.output_entry(outputs)
    assert entry["hit_the_limit"] == 0.5 and entry["trimmed_tokens"] == 9 and entry["empty"] == 1
    content = {
        "labels": {"majority": scores, "model": scores},
        "perplexity": {},
        "texts": {"summarize": {"model": entry}},
        "int8": {
            "texts": {
                "context": {
                    "tokens": 999, "perplexity_fp32": 20.0, "perplexity_int8": 20.1,
                    "decisions_changed": 0.0125,
                }
            },
            "labels": {
                "records": 9, "changed": 1, "labelled": 8, "right_fp32": 6, "right_int8": 5,
            },
        },
    }  # fmt: skip
    report.write_json(tmp_path / "report.json", content)
    assert json.loads((tmp_path / "report.json").read_text()) == json.loads(json.dumps(content))
    printed = report.tables(content)
    for phrase in (
        "accuracy",
        "50.0",
        "said maybe",
        "50.0% hit the limit",
        "+0.50%",
        "1.25%",
        "1 of 9",
    ):
        assert phrase in printed, phrase
