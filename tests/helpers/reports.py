"""Two reports in the form of report.json: one with every section, one with almost nothing measured.

The figures are invented, but plausible for a GPT-2 fine-tuned on PubMedQA.
"""

from collections.abc import Sequence
from typing import Any

from clingpt.evaluation.metrics import ROUGE_TYPES, Bleu, bleu_counts, bleu_of, wilson_interval
from clingpt.reports.report import Report
from clingpt.text.records import LABELS

FINGERPRINT = "5b0c3e2f9d1a47c08e6bb21f3d5a97c4e8f01b6d2c3a495e7f8091a2b3c4d5e6"
ROUGE_SIGNATURE = "rouge-score:0.1.2|f1|stemmer:porter|lsum:clingpt.sentences|mean of examples"
BLEU_SIGNATURE = "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:2.6.0"
NLTK_SIGNATURE = "nltk:3.10.4|tok:NLTKWordTokenizer|case:mixed|smooth:none"

CONTEXT = (
    "Context:\nMETHODS: We randomised 212 adults to metformin 500 mg twice daily or placebo.\n"
    "RESULTS: HbA1c fell by 0.9 % with metformin and by 0.2 % with placebo (P < 0.001). "
    "Body weight did not differ.\n"
    "Question: Does metformin lower HbA1c in adults with prediabetes?\nAnswer:"
)


def corpus_bleu(hypotheses: Sequence[str], references: Sequence[str]) -> Bleu:
    """Compute corpus BLEU of whole lists, as a report does from stored counts."""
    rows = zip(*map(bleu_counts, hypotheses, references), strict=True)
    return bleu_of([sum(column) for column in rows])


def interval(low: float, high: float) -> dict[str, float]:
    return {"low": low, "high": high}


def labels_entry(confusion: list[list[int]], macro_f1: tuple[float, float]) -> dict[str, Any]:
    """Label figures that follow from a confusion matrix; the interval of macro-F1 is invented."""
    n = sum(map(sum, confusion))
    hits = sum(confusion[i][i] for i in range(3))
    per_label = {}
    for i, label in enumerate(LABELS):
        said, true = sum(row[i] for row in confusion), sum(confusion[i])
        precision, recall = confusion[i][i] / max(said, 1), confusion[i][i] / max(true, 1)
        f1 = 2 * confusion[i][i] / max(said + true, 1)
        per_label[label] = {"precision": precision, "recall": recall, "f1": f1, "support": true}
    accuracy = wilson_interval(hits=hits, n=n)
    return {
        "n": n,
        "accuracy": hits / n,
        "accuracy_interval": interval(accuracy.low, accuracy.high),
        "macro_f1": sum(scores["f1"] for scores in per_label.values()) / 3,
        "macro_f1_interval": interval(*macro_f1),
        "per_label": per_label,
        "confusion": confusion,
        "unparseable": 0,
    }


def unsupported(texts: int, flagged: float) -> dict[str, Any]:
    kinds = {"number": 0.7, "unit": 0.1, "comparator": 0.15, "negation": 0.3}
    return {
        "texts": texts,
        "flagged": flagged,
        "per_kind": {kind: share * flagged for kind, share in kinds.items()},
        "flags_per_text": 1.4 * flagged,
        "unsupported_numbers": 0.6 * flagged,
    }


def unsupported_terms(texts: int, flagged: float) -> dict[str, Any]:
    return {"texts": texts, "flagged": flagged, "terms_per_text": 1.2 * flagged}


def text_entry(texts: int, rouge_l: float, words: float, novel: float) -> dict[str, Any]:
    return {
        "texts": texts,
        "rouge": {
            "rouge1": 1.4 * rouge_l,
            "rouge2": 0.5 * rouge_l,
            "rougeL": rouge_l,
            "rougeLsum": 1.1 * rouge_l,
            "signature": ROUGE_SIGNATURE,
        },
        "rougeL_interval": interval(rouge_l - 1.1, rouge_l + 1.1),
        "bleu": {
            "score": 0.25 * rouge_l,
            "signature": BLEU_SIGNATURE,
            "precisions": [31.0, 9.1, 4.2, 2.3],
            "brevity_penalty": min(1.0, words / 43),
            "hypothesis_tokens": round(texts * words * 1.2),
            "reference_tokens": texts * 51,
            "nltk_score": 0.24 * rouge_l,
            "nltk_signature": NLTK_SIGNATURE,
        },
        "bleu_interval": interval(0.21 * rouge_l, 0.29 * rouge_l),
        "mean_words": words,
        "mean_reference_words": 43.2,
        "novel_bigrams": novel,
        "empty": 0,
        "unsupported": unsupported(texts, novel / 2),
        "unsupported_terms": unsupported_terms(texts, novel / 4),
    }


def differences(baselines: Sequence[str], *figures: str) -> dict[str, Any]:
    """The model is 2 above each baseline, and 0.4 at least, in whatever unit the figures have."""
    one = {"value": 2.0, "interval": interval(0.4, 3.6)}
    return {name: dict.fromkeys(figures, one) for name in baselines}


def task_entry(texts: int, baselines: dict[str, float], model: float) -> dict[str, Any]:
    reference = {
        "texts": texts,
        "mean_words": 43.2,
        "novel_bigrams": 0.62,
        "empty": 0,
        "unsupported": unsupported(texts, 0.084),
        "unsupported_terms": unsupported_terms(texts, 0.042),
    }
    systems = {"reference": reference}
    systems |= {name: text_entry(texts, score, 61, 0) for name, score in baselines.items()}
    systems["model"] = text_entry(texts, model, 38.4, 0.31)
    return {
        "systems": systems,
        "differences": differences(list(baselines), *ROUGE_TYPES, "bleu"),
        "by_reference": {},
        "notes": ["nearest training record: among 450."],
        "hit_the_limit": 0.012,
        "trimmed_prompts": 14,
        "trimmed_tokens": 2310,
        "structure": None,
    }


def perplexity_entry(tokens: int, nats: float, perplexity: float) -> dict[str, Any]:
    scores = {
        "nats_per_token": nats,
        "token_perplexity": perplexity,
        "word_perplexity": perplexity**1.35,
        "bits_per_byte": nats / 3.1,
        "tokens": tokens,
        "words": round(tokens / 1.35),
        "utf8_bytes": round(tokens * 4.47),
    }
    text = scores | {"token_perplexity_interval": interval(0.97 * perplexity, 1.03 * perplexity)}
    with_end = scores | {"token_perplexity": 0.99 * perplexity}
    return {"records": 500, "trained": None, "text": text, "with_end": with_end}


def calibration() -> dict[str, Any]:
    bins = [
        {"low": i / 10, "high": (i + 1) / 10, "n": n, "confidence": x, "accuracy": y}
        for i, (n, x, y) in enumerate(
            [(21, 0.37, 0.33), (83, 0.46, 0.49), (102, 0.55, 0.52), (98, 0.65, 0.67)]
            + [(91, 0.75, 0.71), (64, 0.85, 0.86), (41, 0.93, 0.95)],
            start=3,
        )
    ]
    curve = [{"coverage": i / 40, "risk": 0.03 + 0.345 * (i / 40) ** 1.6} for i in range(1, 41)]
    return {
        "records": 500,
        "temperature": 1.4173,
        "note": None,
        "threshold": 0.521,
        "coverage": 0.8,
        "fitted_on": {"split": "val", "records": 50, "mistakes": 17, "fingerprint": FINGERPRINT},
        "raw": {"ece": 0.1174, "nll": 0.9312, "brier": 0.5128},
        "calibrated": {"ece": 0.0316, "nll": 0.8421, "brier": 0.4893},
        "reliability": bins,
        "risk_coverage": curve,
        "aurc": 0.1632,
        "abstained": 0.214,
        "accuracy_kept": 0.7328,
        "prompts": 498,
        "unlike_training": 0.044,
    }


def not_calibrated(*, temperature: float = 1.0) -> dict[str, Any]:
    """Return a fit on records with too few mistakes; a temperature above 1 flattens."""
    found = calibration()
    same = found["raw"] if temperature == 1 else found["calibrated"]
    fitted_on = found["fitted_on"] | {"records": 300, "mistakes": 0}
    return found | {
        "temperature": temperature,
        "note": "not calibrated: 0 mistakes in 300 validation records",
        "threshold": 0.999,
        "fitted_on": fitted_on,
        "calibrated": same,
    }


def example(number: int, **other: Any) -> dict[str, Any]:
    return {
        "id": f"1614518{number}",
        "task": "answer",
        "prompt": CONTEXT,
        "reference": "yes\nExplanation: Metformin lowered HbA1c in adults with prediabetes.",
        "output": "yes\nExplanation: Metformin lowers HbA1c.",
        "finish_reason": "stop",
        "trimmed_tokens": 0,
        "compared": True,
        "flags": [],
        "gold": "yes",
        "label": "yes",
        "probabilities": {"yes": 0.81, "no": 0.12, "maybe": 0.07},
        "abstained": False,
        "unlike_training": False,
    } | other


def flag(output: str, text: str, kind: str) -> dict[str, Any]:
    start = output.index(text)
    return {"kind": kind, "start": start, "end": start + len(text), "text": text}


def examples() -> list[dict[str, Any]]:
    wrong = (
        "maybe\nExplanation: HbA1c fell by more than 1.9 mg with metformin (P > 0.05), and body "
        "weight did not fall; in 31 % of the adults no change was seen."
    )
    summary = "Metformin lowered HbA1c by 0.9 % and was not well tolerated in 48 of 212 adults"
    unknown: dict[str, Any] = {"gold": None, "label": None, "probabilities": {}}
    unknown |= {"abstained": None, "unlike_training": None}
    return [
        example(1),
        example(
            2,
            output=wrong,
            trimmed_tokens=118,
            label="maybe",
            probabilities={"yes": 0.381, "no": 0.207, "maybe": 0.412},
            abstained=True,
            unlike_training=True,
            flags=[
                flag(wrong, "more than", "comparator"),
                flag(wrong, "1.9 mg", "number"),
                flag(wrong, "mg", "unit"),
                flag(wrong, "31 %", "number"),
            ],
        ),
        example(
            3,
            task="summarize",
            prompt="Report:\nRESULTS: HbA1c fell by 0.9 %.\nSummary:",
            reference="Metformin lowered HbA1c.",
            output=summary,
            finish_reason="length",
            flags=[flag(summary, "not", "negation"), flag(summary, "48", "number")],
            **unknown,
        ),
        example(
            4,
            task="document",
            reference="BACKGROUND: Prediabetes is common.\nRESULTS: HbA1c fell.\nCONCLUSION: Yes.",
            output="BACKGROUND: Prediabetes is common.\nRESULTS: HbA1c fell by 0.9 %.\n" * 3,
            **unknown,
        ),
    ]


def comparison() -> dict[str, Any]:
    pooled = labels_entry([[214, 51, 11], [62, 96, 11], [31, 19, 5]], (0.46, 0.52))
    accuracy = {"mean": 0.596, "sd": 0.018, "low": 0.57, "high": 0.62, "n": 10}
    rouge = {"mean": 24.3, "sd": None, "low": 24.3, "high": 24.3, "n": 1}
    paired = {
        "first": "out/first/best",
        "second": "out/pubmedqa/best",
        "records": 500,
        "accuracy": 0.024,
        "accuracy_interval": interval(-0.012, 0.06),
        "macro_f1": 0.031,
        "macro_f1_interval": interval(0.004, 0.058),
        "wins": 61,
        "losses": 49,
        "mcnemar_p": 0.2943,
    }
    return {
        "checkpoints": ["out/first/best", "out/pubmedqa/best"],
        "same_records": True,
        "pooled": pooled,
        "spread": {
            "accuracy": accuracy,
            "context bits per byte": {
                "mean": 0.7932,
                "sd": 0.0021,
                "low": 0.79,
                "high": 0.796,
                "n": 10,
            },
            "summarize rougeL": rouge,
            "summarize unsupported numbers etc.": {
                "mean": 0.151,
                "sd": 0.012,
                "low": 0.13,
                "high": 0.17,
                "n": 10,
            },
        },
        "records": {"accuracy": [50, 48], "context bits per byte": [50, 50]},
        "paired": paired,
    }


def training_curve() -> list[dict[str, Any]]:
    noise = (0.0, 0.21, -0.17, 0.08, -0.12)
    train: list[dict[str, Any]] = [
        {"step": step, "train_loss": 2.1 + 1.4 / (1 + step / 60) + noise[step // 10 % 5]}
        for step in range(10, 901, 10)
    ]
    val: list[dict[str, Any]] = [
        {"step": step, "val_loss": 2.36 + 1.3 / (1 + step / 50) + (step / 2100) ** 2}
        for step in range(0, 901, 100)
    ]
    return train + val


def full_report() -> dict[str, Any]:
    """Return a report with every section; a new one at each call."""
    document = task_entry(120, {}, 31.4)
    headings = ("BACKGROUND", "METHODS", "RESULTS", "DISCUSSION", "CONCLUSION")
    document["structure"] = {
        "documents": 120,
        "unheaded": 0,
        "present": 0.962,
        "spurious": 0.008,
        "in_order": 0.941,
        "complete": 0.875,
        "section_rougeL": dict(zip(headings, (41.2, 52.8, 47.1, 12.3, 22.9), strict=True)),
        "signature": ROUGE_SIGNATURE,
        "headings": list(headings),
        "in_references": dict.fromkeys(headings, 110),
        "in_both": dict.fromkeys(headings, 104),
        "asked": 0,
    }
    copies = {"lead-3": 20.1, "question + last sentence": 21.5, "closest sentence": 23.1}
    int8_labels = {"records": 500, "changed": 9, "labelled": 500, "right_fp32": 325}
    int8_labels["right_int8"] = 324
    int8_text = {"tokens": 149_203, "perplexity_fp32": 11.62, "perplexity_int8": 11.71}
    return {
        "format": 4,
        "checkpoint": "out/pubmedqa/best",
        "step": 900,
        "parameters": 124_439_808,
        "data": {
            "folder": "data/pubmedqa",
            "fingerprint": FINGERPRINT,
            "name": "PubMedQA's official 500 test records",
            "records": 500,
        },
        "split": "test",
        "look": 2,
        "setting": "reasoning-required",
        "settings": {"checkpoint": "out/pubmedqa/best", "split": "test", "texts": None, "seed": 7},
        "versions": {"clingpt": "0.9", "torch": "2.13.0", "sacrebleu": "2.6.0"},
        "labels": {
            "systems": {
                "majority": labels_entry([[276, 0, 0], [169, 0, 0], [55, 0, 0]], (0.23, 0.245)),
                "question only (bag of words)": labels_entry(
                    [[221, 55, 0], [125, 44, 0], [39, 16, 0]], (0.28, 0.337)
                ),
                "model": labels_entry([[218, 47, 11], [58, 100, 11], [29, 19, 7]], (0.472, 0.561)),
            },
            "differences": differences(
                ["majority", "question only (bag of words)"], "accuracy", "macro_f1"
            ),
            "notes": ["Bags of words were fitted on the 450 training records."],
        },
        "calibration": calibration(),
        "perplexity": {
            "context": perplexity_entry(149_203, 2.4527, 11.62),
            "explanation": perplexity_entry(26_311, 2.2103, 9.12),
            "notes_elsewhere.txt": perplexity_entry(8_120, 3.4404, 31.2)
            | {"records": None, "with_end": None},
        },
        "task_notes": {},
        "texts": {
            "answer": task_entry(60, copies, 24.3),
            "summarize": task_entry(500, copies, 25.2),
            "document": document,
        },
        "learned_terms": {"terms": 81, "training_texts": 450},
        "label_agreement": 0.984,
        "labels_compared": 60,
        "int8": {
            "texts": {"context": int8_text | {"decisions_changed": 0.0312}},
            "labels": int8_labels,
        },
        "curve": training_curve(),
        "examples": examples(),
        "comparison": comparison(),
    }


def bare_report() -> dict[str, Any]:
    """Return a report with the perplexity of one text and nothing else; a new one at each call."""
    return {
        "format": 4,
        "checkpoint": "gpt2",
        "step": None,
        "parameters": 124_439_808,
        "data": {
            "folder": "data/mine",
            "fingerprint": FINGERPRINT,
            "name": "500 val records",
            "records": 500,
        },
        "split": "val",
        "look": None,
        "setting": "reasoning-required",
        "settings": {},
        "versions": {},
        "labels": {},
        "calibration": {},
        "perplexity": {"context": perplexity_entry(812, 3.2, 24.53) | {"with_end": None}},
        "texts": {},
        "task_notes": {},
        "learned_terms": {},
        "label_agreement": None,
        "labels_compared": 0,
        "int8": {},
        "curve": [],
        "examples": [],
    }


def typed(content: dict[str, Any]) -> Report:
    """Return the report that a report.json holds."""
    return Report.from_json(content, source="report.json")
