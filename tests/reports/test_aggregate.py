"""Curves, metrics files, reports and the speed meter."""

import json
import math
import re
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
import torch

from clingpt.data.packing import build_rows
from clingpt.data.sources import from_official_item
from clingpt.data.splits import official_folds, official_test_ids
from clingpt.evaluation import metrics
from clingpt.evaluation.baselines import SUMMARIES
from clingpt.evaluation.scorer import Output, split_of_examples
from clingpt.nn.flops import PEAK_FLOPS, peak_flops, training_flops
from clingpt.reports import aggregate
from clingpt.reports.comparison import figures
from clingpt.reports.tables import as_text, tables
from clingpt.text.records import Record
from clingpt.text.tasks import Example
from clingpt.training.throughput import Meter
from model import GPTConfig
from tests.helpers.commands import ROOT


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


RECORD = Record(
    id="1",
    question="Does pain fall?",
    sections=(("RESULTS", "Pain fell by 31% (P < 0.05)."), ("METHODS", "A trial.")),
    long_answer="Pain fell.",
    decision="yes",
)


def test_texts_are_scored_as_a_corpus_beside_copies_and_references() -> None:
    found = aggregate.Texts("summarize")
    said, wanted = ["Pain fell by 13%.", "", "Pain fell — ± µ."], ["Pain fell.", "No. Effect.", "x"]
    for text, reference in zip(said, wanted, strict=True):
        output = Output("1", "summarize", text, reference, "stop" if text else "length", 9)
        found.add(output, RECORD, None)
    entry = found.entry()
    model = entry["systems"]["model"]
    assert model["bleu"] == asdict(metrics.bleu(said, wanted))
    assert model["rouge"] == pytest.approx(asdict(metrics.rouge(said, wanted)))
    assert list(entry["systems"])[0] == "reference" and list(entry["systems"])[-1] == "model"
    assert set(SUMMARIES) < set(entry["systems"])
    assert entry["hit_the_limit"] == pytest.approx(1 / 3) and entry["trimmed_tokens"] == 27
    assert model["empty"] == 1 and model["faithfulness"]["per_kind"]["number"] == pytest.approx(
        1 / 3
    )
    assert entry["systems"]["lead-1"]["faithfulness"]["flagged"] == 0
    low, high = model["rougeL_interval"]["low"], model["rougeL_interval"]["high"]
    assert low <= model["rouge"]["rougeL"] <= high and entry["structure"] is None
    assert aggregate.Texts("answer").entry() == {}


def test_an_answer_is_scored_by_its_explanation_and_its_label_compared() -> None:
    found = aggregate.Texts("answer")
    reference = "yes\nExplanation: Pain fell."
    for text in ("yes\nExplanation: Pain fell.", "no\nExplanation: Pain fell."):
        found.add(Output("1", "answer", text, reference, "stop", 0), RECORD, "yes")
    assert found.agreeing == [True, False]
    assert found.entry()["systems"]["model"]["rouge"]["rouge1"] == 100
    found.add(Output("1", "answer", "yes", "yes", "stop", 0), RECORD, "yes")
    assert found.entry()["systems"]["model"]["texts"] == 2  # none to compare with


def test_documents_have_their_structure_scored() -> None:
    found = aggregate.Texts("document")
    text = "BACKGROUND: It is.\nRESULTS: Pain fell.\nCONCLUSION: So."
    found.add(Output("1", "document", text, text, "stop", 0), RECORD, None)
    entry = found.entry()
    assert entry["structure"]["complete"] == 1 and list(entry["systems"]) == ["reference", "model"]


def test_documents_of_ones_own_have_no_structure_of_ours() -> None:
    found, letter = aggregate.Texts("document"), "DIAGNOSIS: Pain.\n\nPLAN: 5 mg."
    own = replace(RECORD, document=letter)
    found.add(Output("1", "document", "PLAN: 9 mg.", letter, "stop", 0), own, None)
    entry = found.entry()
    assert (entry["structure"]["documents"], entry["structure"]["unheaded"]) == (0, 1)
    assert 0 < entry["systems"]["model"]["rouge"]["rougeL"] < 100
    assert entry["systems"]["model"]["faithfulness"]["flagged"] == 1
    shown = as_text(tables({"texts": {"document": entry}}))
    assert "Structure is scored by the headings BACKGROUND, METHODS, RESULTS" in shown
    assert "and are left out: 1." in shown
    assert re.search("\n *– +– +– +–\n", shown), "shares of nothing are no shares"


ALONE = "Texts that answer a question alone, without a context"


def explanations(*records: Record) -> dict[str, Any]:
    found = aggregate.Texts("explain")
    for record in records:
        found.add(
            Output("1", "explain", "Explanation: 9 mg, by day 3.", "Fell.", "stop", 0), record, None
        )
    return found.entry()


def test_an_explanation_of_a_question_alone_has_no_source_to_be_compared_with() -> None:
    alone = replace(RECORD, sections=())
    entry = explanations(alone, alone)
    # Copies of a context that is not there are no baselines.
    assert list(entry["systems"]) == ["reference", "question", "model"]
    for system in entry["systems"].values():
        assert system["faithfulness"] is system["novel_bigrams"] is None
    model = entry["systems"]["model"]
    assert (model["texts"], model["mean_words"], model["empty"]) == (
        2,
        6,
        0,
    )  # whole: no label line
    content = {"labels": {}, "perplexity": {}, "texts": {"explain": entry}}
    assert dict(figures(content)).keys() == {"explain rougeL", "explain BLEU"}
    shown = as_text(tables(content))
    assert f"{ALONE}: 2." in shown and "Faithfulness" not in shown


def test_explanations_with_a_context_are_compared_and_counted_apart() -> None:
    entry = explanations(RECORD, replace(RECORD, sections=()), replace(RECORD, sections=()))
    assert set(SUMMARIES) < set(entry["systems"])
    model = entry["systems"]["model"]
    assert (model["texts"], model["faithfulness"]["texts"]) == (3, 1)
    assert model["faithfulness"]["flagged"] == 1 and model["faithfulness"]["flags_per_text"] >= 1
    assert model["novel_bigrams"] == 1
    shown = as_text(tables({"texts": {"explain": entry}}))
    assert f"{ALONE}: 2." in shown and "Faithfulness" in shown
    assert ALONE not in as_text(tables({"texts": {"explain": explanations(RECORD)}}))


def test_perplexity_is_weighted_by_tokens() -> None:
    items = [
        {"nats": 20.0, "tokens": 10, "end_nats": 1.0, "ends": 1, "words": 8, "bytes": 40},
        {"nats": 60.0, "tokens": 20, "end_nats": 3.0, "ends": 1, "words": 16, "bytes": 90},
        {},
    ]
    entry = aggregate.perplexity_entry(items)
    assert entry["text"]["token_perplexity"] == pytest.approx(math.exp(80 / 30))
    assert entry["text"]["word_perplexity"] == pytest.approx(math.exp(80 / 24))
    assert entry["text"]["bits_per_byte"] == pytest.approx(80 / 130 / math.log(2))
    assert entry["with_end"]["token_perplexity"] == pytest.approx(math.exp(84 / 32))
    around = entry["text"]["token_perplexity_interval"]
    assert (around["low"], around["high"]) == pytest.approx((math.exp(2), math.exp(3)))
    assert aggregate.perplexity_entry([{}]) == {}


def test_examples_are_chosen_by_their_ids_alone() -> None:
    ids = [str(n) for n in range(50)]
    chosen = aggregate.chosen_examples(ids, 5)
    assert len(chosen) == 5 and chosen == aggregate.chosen_examples(ids[::-1], 5)
    assert chosen != set(ids[:5]) and aggregate.chosen_examples(["a"], 5) == {"a"}


# PubMedQA's own figures, where the data are at hand


@pytest.fixture(scope="module")
def official() -> dict[str, Any]:
    path = ROOT.parent / "shared/data/pubmedqa/ori_pqal.json"
    if not path.exists():
        pytest.skip("the official file is not at hand")
    items: dict[str, Any] = json.loads(path.read_text())
    return items


@pytest.mark.parametrize(
    ("key", "accuracy", "macro_f1"),
    [("reasoning_required_pred", 78.0, 72.19), ("reasoning_free_pred", 90.4, 84.18)],
)
def test_people_score_as_published(
    key: str, accuracy: float, macro_f1: float, official: dict[str, Any]
) -> None:
    """And the official script's arithmetic, by scikit-learn, agrees."""
    from sklearn.metrics import accuracy_score, f1_score

    test = [official[name] for name in sorted(official_test_ids())]
    gold, said = [item["final_decision"] for item in test], [item[key] for item in test]
    entry = aggregate.label_entry(gold, said)
    assert 100 * entry["accuracy"] == pytest.approx(accuracy, abs=0.05)
    assert 100 * entry["macro_f1"] == pytest.approx(macro_f1, abs=0.05)
    assert entry["accuracy"] == pytest.approx(accuracy_score(gold, said))
    assert entry["macro_f1"] == pytest.approx(f1_score(gold, said, average="macro"))


def test_baselines_are_those_that_are_known(official: dict[str, Any]) -> None:
    """Majority 55.2 / 23.7; bags of words as the mean of the ten official folds' models."""
    records = [from_official_item(pair) for pair in official.items()]
    folds = official_folds(record.id for record in records)
    assert folds is not None and official_folds(["not one"]) is None
    test = [record for record, fold in zip(records, folds, strict=True) if fold == -1]
    sets = [
        [record for record, fold in zip(records, folds, strict=True) if fold not in (-1, k)]
        for k in range(10)
    ]
    systems = aggregate.label_systems(sets, test, ["yes"] * len(test))
    expected = {
        "majority": (55.2, 23.7, 0.05),
        "question only (bag of words)": (54.6, 32.2, 1.5),
        "question and results (bag of words)": (58.3, 42.6, 1.5),
        "model": (55.2, 23.7, 0.05),
    }
    for name, (accuracy, macro_f1, tolerance) in expected.items():
        found = 100 * systems[name]["accuracy"], 100 * systems[name]["macro_f1"]
        assert found == pytest.approx((accuracy, macro_f1), abs=tolerance), name
