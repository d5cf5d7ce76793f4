"""A report of scores: one dictionary, written as report.json and shown as tables.

Collects and formats; every figure comes from clingpt/metrics.py by way of the caller.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from clingpt import console, rounding
from clingpt.disk import write_whole
from clingpt.metrics import Classification, bleu, novel_bigrams, rouge
from clingpt.records import LABELS, Record
from clingpt.scoring import Output, TextScore

FORMAT = 1


def label_entry(scores: Classification) -> dict[str, Any]:
    """Accuracy and what stands behind it, on a scale of 0 to 1."""
    return asdict(scores)


def text_entry(
    hypotheses: Sequence[str], references: Sequence[str], sources: Sequence[str]
) -> dict[str, Any]:
    """BLEU, ROUGE, length and novelty of some texts against one reference each."""
    novelty = [novel_bigrams(h, s) for h, s in zip(hypotheses, sources, strict=True)]
    return {
        "texts": len(hypotheses),
        "rouge": asdict(rouge(hypotheses, references)),
        "bleu": asdict(bleu(hypotheses, references)),
        "mean_words": mean([len(text.split()) for text in hypotheses]),
        "mean_reference_words": mean([len(text.split()) for text in references]),
        "novel_bigrams": mean([share for share in novelty if not math.isnan(share)]),
        "empty": sum(not text for text in hypotheses),
    }


def output_entry(outputs: Sequence[Output]) -> dict[str, Any]:
    """What only a model's outputs have: how they ended and what was cut before."""
    return {
        "hit_the_limit": mean([output.finish_reason == "length" for output in outputs]),
        "trimmed_prompts": sum(output.trimmed_tokens > 0 for output in outputs),
        "trimmed_tokens": sum(output.trimmed_tokens for output in outputs),
    }


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean; 0 of nothing."""
    return sum(values) / len(values) if values else 0.0


def source_text(record: Record) -> str:
    """What an output may copy from."""
    return " ".join([record.question, *(text for _, text in record.sections)])


def write_json(path: Path, content: object) -> None:
    """A JSON file, replaced whole."""
    write_whole(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def tables(report: Mapping[str, Any]) -> str:
    """The report for people."""
    parts = []
    if report["labels"]:
        parts += [_label_table(report["labels"]), _class_table(report["labels"]["model"])]
    if report["perplexity"]:
        parts.append(_perplexity_table(report["perplexity"]))
    parts += [_text_table(task, systems) for task, systems in report["texts"].items()]
    if report["int8"]:
        parts.append(rounding.table(report["int8"]))
    return "\n\n".join(parts)


def _label_table(systems: Mapping[str, Mapping[str, Any]]) -> str:
    rows: list[Sequence[console.Cell]] = []
    for name, scores in systems.items():
        interval = scores["accuracy_interval"]
        low, high = 100 * interval["low"], 100 * interval["high"]
        accuracy, macro_f1 = (f"{100 * scores[key]:.1f}" for key in ("accuracy", "macro_f1"))
        rows.append([name, accuracy, f"{low:.1f}–{high:.1f}", macro_f1])
    n = systems["model"]["n"]
    title = f"yes / no / maybe: {console.count(n)} records, accuracy with its 95 % Wilson interval"
    return console.table(title, ["system", "accuracy", "95 %", "macro-F1"], rows)


def _class_table(model: Mapping[str, Any]) -> str:
    rows: list[Sequence[console.Cell]] = [
        [label]
        + [f"{100 * model['per_label'][label][key]:.1f}" for key in ("precision", "recall", "f1")]
        + list(model["confusion"][i])
        for i, label in enumerate(LABELS)
    ]
    columns = ["truth", "precision", "recall", "F1", *(f"said {label}" for label in LABELS)]
    return console.table("The model by class, and its confusion matrix", columns, rows)


def _perplexity_table(texts: Mapping[str, Mapping[str, Any]]) -> str:
    rows: list[Sequence[console.Cell]] = [
        [
            name,
            scores["text"]["tokens"],
            scores["text"]["token_perplexity"],
            f"{scores['text']['bits_per_byte']:.4f}",
            scores["with_end"]["token_perplexity"],
        ]
        for name, scores in texts.items()
    ]
    columns = ["text", "tokens", "perplexity", "bits per byte", "with end of text"]
    return console.table("Perplexity per token, corpus-level", columns, rows)


def _text_table(task: str, systems: Mapping[str, Mapping[str, Any]]) -> str:
    rows: list[Sequence[console.Cell]] = []
    for name, scores in systems.items():
        r, b = scores["rouge"], scores["bleu"]
        rows.append(
            [name]
            + [f"{r[key]:.1f}" for key in ("rouge1", "rouge2", "rougeL", "rougeLsum")]
            + [f"{b['score']:.1f}", f"{b['brevity_penalty']:.2f}"]
            + [f"{scores['mean_words']:.0f}", f"{100 * scores['novel_bigrams']:.0f}"]
        )
    model = systems["model"]
    limit = f"{model['hit_the_limit']:.1%} hit the limit"
    title = f"{task}: {console.count(model['texts'])} texts against one reference each, {limit}"
    columns = ["system", "R1", "R2", "RL", "RLsum", "BLEU", "BP", "words", "% new bigrams"]
    return console.table(title, columns, rows)


def perplexity_entry(scores: TextScore) -> dict[str, Any]:
    """Both perplexities of a text."""
    return asdict(scores)
