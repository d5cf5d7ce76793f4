"""python -m benchmarks clinical: figures of seeds and folds, missing runs, curves, examples."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import __main__ as bench
from benchmarks.clinical import (
    Result,
    Run,
    aligned,
    loss_curves,
    read_runs,
    results_of,
    summarize,
)
from clingpt.base import jsonl
from clingpt.base.errors import BenchError, DataError
from clingpt.data.prepared import FolderWriter, Piece, open_prepared
from clingpt.text.records import Record
from clingpt.text.tasks import make_example
from clingpt.text.tokenizer import Tokenizer
from tests.helpers.commands import here
from tests.helpers.reports import bare_report, labels_entry, task_entry

LONG = "The lungs are clear. " * 40


def record(n: int) -> Record:
    """A made-up report; those of 2 and 3, 4 and 5 … are alike, and the first is found for both."""
    return Record(
        id=f"r{n}",
        question=f"Is finding {n} old?",
        sections=(("FINDINGS", f"finding pair{n // 2}. {LONG}"),),
        long_answer=f"Impression {n}.",
        decision="yes" if n % 2 else "no",
    )


def prepare(folder: Path, tasks: Sequence[str]) -> Path:
    """Prepare ten training records, and the first eight of them again as validation and test."""
    tokenizer = Tokenizer.load()
    with FolderWriter(folder, tokenizer) as writer:
        for split, count in (("train", 10), ("val", 8), ("test", 8)):
            piece = Piece(split)
            for n in range(count):
                pairs = [
                    (task, make_example(task, record(n), tokenizer, budget=512)) for task in tasks
                ]
                piece.add(record(n), pairs)
            writer.append(piece)
        writer.finish({"tasks": list(tasks)})
    return folder


def rouge(value: float) -> dict[str, float]:
    return {"rouge1": value, "rouge2": 0.0, "rougeL": 0.0, "rougeLsum": 0.0}


def write_results(folder: Path, data: Path, section: dict[str, Any], rows: list[Any]) -> Path:
    folder.mkdir(parents=True)
    data_entry = bare_report()["data"] | {"folder": str(data), "name": "8 test records"}
    report = bare_report() | {"data": data_entry, "split": "test", "look": 2} | section
    (folder / "report.json").write_text(json.dumps(report))
    jsonl.write(folder / "scores.jsonl", rows)
    return folder


def write_text_run(folder: Path, data: Path, model: Sequence[float], *, rare: int = 0) -> None:
    """Write the evaluation of a run that summarises; the nearest record scores 50, lead-1 10."""
    section = task_entry(len(model), {}, 1.0)
    if rare:
        entry = {"records": 1, "rouge": {"model": rouge(1.0) | {"signature": "x"}}}
        section["by_reference"] = {"common": entry, "rare": entry}
    rows = [
        {
            "record_id": f"r{n}",
            "task": "summarize",
            "reference": "rare" if n < rare else "common",
            "rouge": {
                "lead-1": rouge(10.0),
                "nearest training record": rouge(50.0),
                "model": rouge(value),
            },
        }
        for n, value in enumerate(model)
    ]
    write_results(folder, data, {"texts": {"summarize": section}}, rows)
    outputs = [
        {
            "record_id": f"r{n}",
            "task": "summarize",
            "text": f"said {n}",
            "reference": f"Impression {n}.",
            "finish_reason": "stop",
            "trimmed_tokens": 0,
        }
        for n in range(len(model))
    ]
    jsonl.write(folder / "outputs.jsonl", outputs)


def write_label_run(folder: Path, data: Path, said: str, ids: Sequence[int]) -> None:
    """Write an evaluation of labels, one letter each; of two fits of "bag", one is always right."""
    names = {"y": "yes", "n": "no", "m": "maybe"}
    labels = [names[letter] for letter in said]
    rows = [
        {
            "record_id": f"r{n}",
            "gold": record(n).decision,
            "labels": {
                "majority": ["yes"],
                "nearest training record": ["maybe"],
                "bag": ["yes", record(n).decision],
                "model": [label],
            },
        }
        for n, label in zip(ids, labels, strict=True)
    ]
    systems = {"model": labels_entry([[4, 0, 0], [0, 4, 0], [0, 0, 0]], (0.4, 0.6))}
    section = {"labels": {"systems": systems, "differences": {}, "notes": []}}
    write_results(folder, data, section, rows)
    shares = {
        f"r{n}": {label: 0.9 - 0.05 * place, "x": 0.1}
        for place, (n, label) in enumerate(zip(ids, labels, strict=True))
    }
    (folder / "probabilities.json").write_text(json.dumps(shares))
    (folder / "outputs.jsonl").write_text("")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare(tmp_path_factory.mktemp("prepared") / "data", ["summarize", "answer"])


def results(runs: Path, name: str) -> dict[tuple[str, str], Result]:
    found, _ = read_runs(runs, "test")
    return {(each.task, each.figure): each for each in results_of(name, found[name])}


def test_seeds_are_averaged_record_by_record(tmp_path: Path, data: Path) -> None:
    first, second = [90.0, 80.0, 60.0, 55.0], [70.0, 80.0, 60.0, 65.0]
    write_text_run(tmp_path / "cxr/eval_test", data, first)
    write_text_run(tmp_path / "cxr_seed2/eval_test", data, second)
    write_text_run(tmp_path / "cxr_other/eval_test", data, [0.0] * 4)  # not a repeat
    [found] = results(tmp_path, "cxr").values()
    assert (found.task, found.figure, found.records) == ("chest X-rays", "ROUGE-1", 4)
    assert found.model == pytest.approx((71.25 + 68.75) / 2)
    assert found.runs.n == 2 and found.runs.sd == pytest.approx(2.5 / math.sqrt(2))
    assert (found.baseline, found.floor) == ("nearest training record", 50)
    assert found.difference == pytest.approx(20)
    # The means of the two runs by record are 80, 80, 60 and 60.
    low, high = found.difference_interval.low, found.difference_interval.high
    assert (low, high) == (10, 30) and found.verdict == "above"


@pytest.mark.parametrize(
    ("scores", "verdict"),
    [
        ([60.0, 61.0, 62.0], "above"),
        ([95.0, 40.0, 20.0], "not distinguishable"),
        ([1.0, 2.0, 3.0], "below"),
    ],
)
def test_the_verdict_follows_the_interval_of_the_difference(
    scores: list[float], verdict: str, tmp_path: Path, data: Path
) -> None:
    write_text_run(tmp_path / "cxr/eval_test", data, scores * 4)
    [found] = results(tmp_path, "cxr").values()
    assert found.verdict == verdict


def test_rare_references_have_a_row_if_the_report_shows_them_apart(
    tmp_path: Path, data: Path
) -> None:
    write_text_run(tmp_path / "cxr/eval_test", data, [10.0, 20.0, 90.0, 90.0], rare=2)
    found = results(tmp_path, "cxr")
    rare = found["chest X-rays, rare references", "ROUGE-1"]
    assert (rare.records, rare.model, rare.verdict) == (2, 15, "below")
    assert found["chest X-rays", "ROUGE-1"].model == 52.5


def test_labels_are_compared_with_the_mean_of_a_baselines_fits(tmp_path: Path, data: Path) -> None:
    # Gold: n y n y n y n y.
    write_label_run(tmp_path / "pubmedqa_fold0/eval_test/step_000010", data, "nynynyny", range(8))
    write_label_run(tmp_path / "pubmedqa_fold1/eval_test/step_000020", data, "nynynyyn", range(8))
    found = results(tmp_path, "pubmedqa")
    accuracy, f1 = found["PubMedQA", "accuracy"], found["PubMedQA", "macro-F1"]
    assert accuracy.model == pytest.approx(100 * (1 + 6 / 8) / 2) and accuracy.runs.n == 2
    assert accuracy.baseline == "bag" and accuracy.floor == pytest.approx(75)
    assert accuracy.difference == pytest.approx(12.5)
    assert f1.model == pytest.approx(100 * (2 / 3 + 2 / 3 * 6 / 8) / 2)
    # Right on all labels: macro-F1 2/3, since maybe does not occur; always yes: F1 2/3, 0, 0.
    assert f1.floor == pytest.approx(100 * (2 / 9 + 2 / 3) / 2)


def test_disjoint_folds_are_pooled_and_other_records_refused(tmp_path: Path, data: Path) -> None:
    for fold, said in (("0", "nyny"), ("1", "yyyy")):
        ids = range(4 * int(fold), 4 * int(fold) + 4)
        write_label_run(tmp_path / f"pubmedqa_fold{fold}/eval_test", data, said, ids)
    accuracy = results(tmp_path, "pubmedqa")["PubMedQA", "accuracy"]
    assert (accuracy.records, accuracy.model, accuracy.runs.sd) == (8, 75, None)
    write_label_run(tmp_path / "pubmedqa_fold2/eval_test", data, "nyny", [3, 4, 5, 6])
    runs: list[Run] = read_runs(tmp_path, "test")[0]["pubmedqa"]
    with pytest.raises(DataError, match="were measured on different records of the same split"):
        aligned(runs)


def write_base(folder: Path, data: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"settings": {"data": str(data)}}))
    rows = [
        {"step": 10, "train_loss": 6.0, "tokens": 600, "tokens_per_s": 10.0},
        {"step": 10, "val_loss": 5.0},
        {"step": 20, "train_loss": 4.0, "tokens": 1800, "tokens_per_s": 5.0},
        {"step": 20, "val_loss": 3.0},
    ]
    jsonl.write(folder / "metrics.jsonl", rows)


def test_losses_become_bits_per_byte_over_minutes_of_training(tmp_path: Path, data: Path) -> None:
    write_base(tmp_path / "base", data)
    curves = loss_curves(tmp_path / "base")
    tokenizer, split = Tokenizer.load(), open_prepared(data).split("val")
    targets = [split.example(row).target_ids for row in split.index]
    # Each target ends with the end of text, a token without bytes.
    texts = [tokenizer.decode_bytes(ids[:-1]) for ids in targets]
    scale = math.log(2) * sum(map(len, texts)) / sum(map(len, targets))
    assert curves.val[:, 0].tolist() == [1, 5]
    assert curves.val[:, 1] == pytest.approx(np.array([5, 3]) / scale)
    assert curves.train[:, 0].tolist() == [1, 5]


def test_the_command_writes_figures_plot_and_examples(tmp_path: Path, data: Path) -> None:
    write_base(tmp_path / "base", data)
    scores = [100.0, 0.0, 40.0, 45.0, 50.0, 5.0, 90.0, 60.0]
    write_text_run(tmp_path / "cxr/eval_test", data, scores)
    write_label_run(tmp_path / "evidence/eval_test", data, "nynyyyny", range(8))
    out = tmp_path / "summary"
    done = here(bench.main, "clinical", f"--runs={tmp_path}", f"--out={out}")
    assert done.returncode == 0, done.stderr
    page = (out / "summary.md").read_text("utf-8")
    assert "| chest X-rays: ROUGE-1 | 8 | 48.8 (" in page
    assert "| trial outcomes: accuracy | 8 | 87.5 (" in page
    assert "Base language model: " in page and "after 5 min 0 s of training" in page
    assert f"Missing: conclusions ({tmp_path}/conclusions has not been trained" in page.replace(
        "\\", ""
    )
    assert "cxr was evaluated on the test split 1 earlier time." in page
    assert "48.8" in done.stdout and "Missing: pubmedqa" in done.stdout
    assert (out / "summary.png").read_bytes().startswith(b"\x89PNG")

    texts, labels = (out / "examples.md").read_text("utf-8").split("\n\n**")
    rows = [line for line in texts.splitlines() if line.startswith("|")][2:]
    chosen = [line.split(" | ")[0].removeprefix("| ") for line in rows]
    assert chosen == [
        "best: R1 100 (r0)",
        "best: R1 90 (r6)",
        "median: R1 45 (r3)",
        "median: R1 50 (r4)",
        "worst: R1 0 (r1)",
        "worst: R1 5 (r5)",
    ]
    _, source, reference, said, nearest = rows[2].strip("| ").split(" | ")
    assert (reference, said, nearest) == ("Impression 3.", "said 3", "Impression 2.")
    assert source.startswith("Is finding 3 old? finding pair1.") and len(source) <= 410
    rows = [line for line in labels.splitlines() if line.startswith("|")][2:]
    chosen = [line.split(" | ")[0].removeprefix("| ") for line in rows]
    # The only wrong label is that of r4.
    assert chosen == [
        "right: 90 % (r0)",
        "right: 85 % (r1)",
        "wrong: 70 % (r4)",
        "least certain: 60 % (r6)",
        "least certain: 55 % (r7)",
    ]
    assert rows[2].split(" | ")[2:] == ["no", "yes", "maybe Impression 4. |"]


def test_missing_or_old_evaluations_are_named_and_nothing_at_all_is_refused(
    tmp_path: Path, data: Path
) -> None:
    with pytest.raises(BenchError, match=r"has no results to summarise: .*cxr has not been"):
        summarize(tmp_path / "nowhere", tmp_path / "out", "test")
    (tmp_path / "cxr").mkdir()
    write_text_run(tmp_path / "conclusions/eval_test", data, [1.0, 2.0])
    write_text_run(tmp_path / "mts_dialog/eval_test", tmp_path / "moved", [1.0, 2.0])
    old = tmp_path / "evidence/eval_test"
    write_label_run(old, data, "ny", range(2))
    (old / "report.json").write_text(json.dumps({"format": 3}))
    summarize(tmp_path, tmp_path / "out", "test")
    page = (tmp_path / "out/summary.md").read_text("utf-8").replace("\\", "")
    for reason in (
        "cxr has no eval_test/report.json; run eval.py --split=test",
        "evidence/eval_test/report.json is not a report of this version; run eval.py again",
        "pubmedqa has not been trained and evaluated",
        "base has no metrics.jsonl with training steps",
        "Missing: examples of mts_dialog",
    ):
        assert reason in page
