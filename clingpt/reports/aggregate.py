"""From what an evaluation measured to one dictionary: report.json, described in docs/formats.md.

Items come record by record and are reduced to rows of numbers, so that memory holds no text of a
split. Every figure is of clingpt/evaluation/metrics.py and its neighbours; how they look is
clingpt/reports/tables.py."""

import hashlib
import heapq
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clingpt.base.files import write_whole
from clingpt.evaluation import calibration, metrics
from clingpt.evaluation.baselines import (
    NEAREST,
    SUMMARIES,
    BagOfWords,
    majority_label,
    question_and_results,
)
from clingpt.evaluation.bootstrap import (
    bootstrap_labels,
    bootstrap_mean,
    bootstrap_ratio,
    bootstrap_sums,
)
from clingpt.evaluation.calibration import Calibration
from clingpt.evaluation.document_structure import structure
from clingpt.evaluation.faithfulness import KINDS, find_flags, find_numbers
from clingpt.evaluation.metrics import ROUGE_TYPES, novel_bigrams
from clingpt.evaluation.scorer import Output
from clingpt.text.records import Record
from clingpt.text.tasks import explained, source_text

FORMAT = 2
EXAMPLES = 20
CLAIMS = ("compared", *KINDS, "flags", "numbers", "numbers_flagged", "words", "novel")


def label_entry(gold: Sequence[str], said: Sequence[str]) -> dict[str, Any]:
    """Accuracy, macro-F1 and what stands behind them, with both intervals."""
    entry = asdict(metrics.classification(gold, said))
    return entry | {"macro_f1_interval": asdict(bootstrap_labels(gold, said).macro_f1)}


def label_systems(
    trained_on: Sequence[Sequence[Record]], records: Sequence[Record], said: Sequence[str]
) -> dict[str, Any]:
    """The model's labels beside the majority's and two bags of words, on labelled records.

    Fitted on each of the sets of training records, of whose figures the mean is taken.
    """
    gold = [record.decision or "" for record in records]
    asked = [record.question for record in records]
    told = [question_and_results(record) for record in records]
    found: dict[str, list[dict[str, Any]]] = {}
    for train in trained_on:
        wanted = [record.decision or "" for record in train]
        question = BagOfWords.fit([record.question for record in train], wanted)
        results = BagOfWords.fit([question_and_results(r) for r in train], wanted, balanced=True)
        for name, guessed in (
            ("majority", [majority_label(wanted)] * len(gold)),
            ("question only (bag of words)", question.predict(asked)),
            ("question and results (bag of words)", results.predict(told)),
        ):
            found.setdefault(name, []).append(label_entry(gold, guessed))
    return {name: mean_entry(entries) for name, entries in found.items()} | {
        "model": label_entry(gold, said)
    }


def mean_entry(entries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Accuracy and macro-F1 averaged; all of a single entry, or of equal ones."""
    if all(entry == entries[0] for entry in entries):
        return entries[0]
    keys = ("n", "accuracy", "macro_f1", "unparseable")
    return {key: mean([entry[key] for entry in entries]) for key in keys}


def calibration_entry(
    fitted: Calibration, log_probs: Sequence[Sequence[float]], gold: Sequence[str]
) -> dict[str, Any]:
    """How far probabilities can be believed, before and after, and what withholding labels buys."""
    raw, after = calibration.calibrated(log_probs, 1.0), fitted.apply(log_probs)
    curve = calibration.risk_coverage(after, gold)
    kept = [point for point in curve if point.threshold >= fitted.threshold]
    return {
        "temperature": fitted.temperature,
        "threshold": fitted.threshold,
        "coverage": fitted.coverage,
        "fitted_on": fitted.fitted_on,
        "raw": _trust(raw, gold, log_probs, temperature=1.0),
        "calibrated": _trust(after, gold, log_probs, temperature=fitted.temperature),
        "reliability": [asdict(one) for one in calibration.reliability(after, gold)],
        "risk_coverage": [{"coverage": p.coverage, "risk": p.risk} for p in curve],
        "aurc": calibration.area_under_risk_coverage(curve),
        "abstained": 1 - kept[-1].coverage if kept else 1.0,
        "accuracy_kept": 1 - kept[-1].risk if kept else None,
    }


def _trust(
    probabilities: NDArray[np.float64],
    gold: Sequence[str],
    log_probs: Sequence[Sequence[float]],
    *,
    temperature: float,
) -> dict[str, float]:
    return {
        "ece": calibration.expected_calibration_error(probabilities, gold),
        "nll": calibration.negative_log_likelihood(log_probs, gold, temperature=temperature),
        "brier": calibration.brier_score(probabilities, gold),
    }


def perplexity_entry(items: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Corpus perplexity without the end of text, which is a habit and not a word, and with it."""
    keys = ("nats", "tokens", "end_nats", "ends", "words", "bytes")
    rows = np.array([[item[key] for key in keys] for item in items if item.get("tokens")])
    if not len(rows):
        return {}
    nats, tokens, end_nats, ends, words, n_bytes = rows.sum(axis=0).tolist()
    sizes = {"words": int(words), "utf8_bytes": int(n_bytes)}
    text = metrics.perplexity(nats=nats, tokens=int(tokens), **sizes)
    with_end = metrics.perplexity(nats=nats + end_nats, tokens=int(tokens + ends), **sizes)
    around = bootstrap_ratio(rows[:, 0], rows[:, 1])
    interval = {"low": metrics.exp(around.low), "high": metrics.exp(around.high)}
    return {
        "text": asdict(text) | {"token_perplexity_interval": interval},
        "with_end": asdict(with_end) if ends else None,
    }


@dataclass
class Texts:
    """The outputs of one task beside what anyone gets by copying, as rows of numbers."""

    task: str
    copies: Mapping[str, Callable[[Record], str]] = field(default_factory=lambda: SUMMARIES)
    scores: dict[str, list[list[float]]] = field(default_factory=dict)  # ROUGE, BLEU's counts, …
    claims: dict[str, list[list[float]]] = field(default_factory=dict)  # CLAIMS
    documents: list[tuple[str, str]] = field(default_factory=list)  # said, wanted
    endings: list[tuple[bool, int]] = field(default_factory=list)  # at the limit, trimmed tokens
    agreeing: list[bool] = field(default_factory=list)  # whether it writes the label scored highest

    def add(self, output: Output, record: Record, scored_label: str | None) -> None:
        """Take in one output, and what copying gives for its record."""
        self.endings.append((output.finish_reason == "length", output.trimmed_tokens))
        if self.task == "answer":
            said = output.text.split("\n")[0].strip()
            self.agreeing += [said == scored_label] if scored_label else []
            if not (reference := explained(output.reference)):
                return
            text = explained(output.text)
        else:
            text, reference = output.text, output.reference
        systems = {"model": text}
        if self.task == "document":
            self.documents.append((output.text, output.reference))
        else:
            systems = {name: copy(record) for name, copy in self.copies.items()} | systems
        source = source_text(record, self.task)
        for name, hypothesis in {"reference": reference, **systems}.items():
            self.claims.setdefault(name, []).append(claim_row(hypothesis, source))
        for name, hypothesis in systems.items():
            row = [*metrics.rouge_scores(hypothesis, reference), len(reference.split())]
            row += metrics.bleu_counts(hypothesis, reference)
            self.scores.setdefault(name, []).append(row)

    def entry(self) -> dict[str, Any]:
        """The section of a report; {} where nothing has a reference."""
        if not self.scores:
            return {}
        copies = [name for name in self.scores if name != "model"]
        if not any(compared for compared, *_ in self.claims["model"]):
            # There was no text to copy from.
            copies = [name for name in copies if name in ("question", NEAREST)]
        order = ["reference", *copies, "model"]
        limits, trimmed = zip(*self.endings, strict=True)
        return {
            "systems": {name: self._system(name) for name in order},
            "hit_the_limit": mean(limits),
            "trimmed_prompts": sum(tokens > 0 for tokens in trimmed),
            "trimmed_tokens": sum(trimmed),
            "structure": asdict(structure(*zip(*self.documents, strict=True)))
            if self.documents
            else None,
        }

    def _system(self, name: str) -> dict[str, Any]:
        entry = claims_entry(np.array(self.claims[name]))
        if name == "reference":
            return entry
        rows = np.array(self.scores[name])
        n_rouge = len(ROUGE_TYPES)
        rouge_l = bootstrap_mean(rows[:, ROUGE_TYPES.index("rougeL")])
        counts = rows[:, n_rouge + 1 :]
        bleu_interval = bootstrap_sums(counts, lambda sums: np.apply_along_axis(_bleu, 1, sums))
        total = counts.sum(axis=0).astype(int).tolist()
        return entry | {
            "rouge": asdict(metrics.rouge_of(rows[:, :n_rouge].mean(axis=0).tolist())),
            "rougeL_interval": asdict(rouge_l),
            "bleu": asdict(metrics.bleu_of(total)),
            "bleu_interval": asdict(bleu_interval),
            "mean_reference_words": float(rows[:, n_rouge].mean()),
        }


def _bleu(counts: NDArray[np.float64]) -> float:
    return metrics.bleu_of(counts.astype(int).tolist()).score


def claim_row(text: str, source: str | None) -> list[float]:
    """What one text says that its source does not, how long it is and how much of it is new.

    Without a source nothing is told of it but its length.
    """
    if source is None:
        return [len(text.split()) if name == "words" else 0 for name in CLAIMS]
    kinds = [flag.kind for flag in find_flags(text, source)]
    return [
        1,
        *(kind in kinds for kind in KINDS),
        len(kinds),
        len(find_numbers(text)),
        kinds.count("number"),
        len(text.split()),
        novel_bigrams(text, source),
    ]


def claims_entry(rows: NDArray[np.float64]) -> dict[str, Any]:
    """Means over the texts; a share is of those with a source, that of numbers of all numbers."""
    total = dict(zip(CLAIMS, rows.sum(axis=0).tolist(), strict=True))
    entry = {
        "texts": len(rows),
        "mean_words": total["words"] / len(rows),
        "empty": int((rows[:, CLAIMS.index("words")] == 0).sum()),
    }
    if not (compared := int(total["compared"])):
        return entry | {"novel_bigrams": None, "faithfulness": None}
    flagged = int((rows[:, CLAIMS.index("flags")] > 0).sum())
    return entry | {
        "novel_bigrams": total["novel"] / compared,
        "faithfulness": {
            "texts": compared,
            "flagged": flagged / compared,
            "per_kind": {kind: total[kind] / compared for kind in KINDS},
            "flags_per_text": total["flags"] / compared,
            "unsupported_numbers": (
                total["numbers_flagged"] / total["numbers"] if total["numbers"] else 0.0
            ),
        },
    }


def chosen_examples(ids: Iterable[str], count: int) -> set[str]:
    """Records to show: by a hash of their ids, so that neither order nor quality decides."""
    ranked = ((hashlib.sha256(name.encode()).digest(), name) for name in ids)
    return {name for _, name in heapq.nsmallest(count, ranked)}


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean; 0 of nothing."""
    return sum(values) / len(values) if values else 0.0


def write_json(path: Path, content: object) -> None:
    """A JSON file, replaced whole."""
    write_whole(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def write_jsonl(path: Path, items: Iterator[Mapping[str, Any]]) -> None:
    """A JSON line an item, replaced whole; memory holds one."""
    scratch = path.with_name(f".{path.name}.partial")
    with scratch.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(item, ensure_ascii=False) + "\n" for item in items)
    scratch.replace(path)
