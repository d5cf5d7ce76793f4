"""What 8-bit weights change: perplexity, greedy decisions and labels beside those of fp32.

Measured on the same tokens by both models, each token behind the true ones before it.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from clingpt.base import console
from clingpt.data.packing import IGNORE
from clingpt.data.prepared import Prepared
from clingpt.decoding.decoders import make_decoder
from clingpt.evaluation.label_scores import LabelScores
from clingpt.evaluation.measure import passages_of
from clingpt.evaluation.scorer import Passage, Scorer, iter_batches, score_labels
from clingpt.export.onnx_runner import Runner
from clingpt.nn.checkpoint import load_model
from clingpt.text.records import Record
from clingpt.text.tasks import Example, NotApplicable
from model import Batch

# Of examples, batch by batch: the most probable token at each target, and all their loss in nats.
Decisions = tuple[NDArray[np.int64], float]
Judge = Callable[[Sequence[Example]], Iterator[Decisions]]


def compare_texts(
    exact: Judge, rounded: Judge, texts: Mapping[str, Sequence[Example]]
) -> dict[str, dict[str, Any]]:
    """For each text: tokens, both perplexities, and the share of other greedy decisions."""
    found = {}
    for name, examples in texts.items():
        if not examples:
            continue
        nats, changed, n_tokens = [0.0, 0.0], 0, 0
        batches = zip(exact(examples), rounded(examples), strict=True)
        for one, other in console.progress(
            batches, label=f"int8 beside fp32: {name}", unit=" batches"
        ):
            nats = [nats[0] + one[1], nats[1] + other[1]]
            changed += int((one[0] != other[0]).sum())
            n_tokens += len(one[0])
        found[name] = {
            "tokens": n_tokens,
            "perplexity_fp32": math.exp(nats[0] / n_tokens),
            "perplexity_int8": math.exp(nats[1] / n_tokens),
            "decisions_changed": changed / n_tokens,
        }
    return found


def rounding_section(source: str, scorer: Scorer, data: Prepared, split: str) -> dict[str, Any]:
    """A rounded checkpoint beside itself in fp32, on all records of a split."""
    model = load_model(source, verified=True).model.to(scorer.rt.device).eval()
    exact = replace(scorer, model=model, decoder=make_decoder(model, scorer.rt))
    records = list(data.records(split))
    texts = {
        name: [example for record in records for example in examples_of(scorer, record, passage)]
        for name, passage in passages_of(data.tasks).items()
    }
    labels = (
        [score_labels(one, records) for one in (exact, scorer)] if "answer" in data.tasks else []
    )
    return {
        "texts": compare_texts(judge(exact), judge(scorer), texts),
        "labels": compare_labels(*labels) if labels else {},
    }


def examples_of(
    scorer: Scorer, record: Record, passage_of: Callable[[Scorer, Record], Passage]
) -> list[Example]:
    """What is measured of a record; nothing where it lacks it."""
    try:
        return passage_of(scorer, record).examples
    except NotApplicable:
        return []


def judge(scorer: Scorer) -> Judge:
    """By a model of ours: as many examples at once as are packed into its rows."""
    return lambda examples: (
        decisions(scorer, batch) for _, batch in iter_batches(scorer, examples)
    )


@torch.no_grad()
def decisions(scorer: Scorer, batch: Batch) -> Decisions:
    """Of all targets in a batch."""
    real = batch.targets_KM != IGNORE
    best = scorer.model.logits(scorer.model.hidden_at_targets(batch)).argmax(-1)
    return best[real].cpu().numpy(), float(scorer.model.token_losses(batch).double().sum())


def onnx_section(folder: Path, data: Prepared, *, n_records: int) -> dict[str, Any]:
    """An exported folder's 8-bit weights beside its fp32 ones, on the first validation records."""
    exact, rounded = Runner(folder), Runner(folder, int8=True)
    split = data.split("val")
    examples = [
        split.example(row)
        for row, length in zip(split.index, split.lengths, strict=True)
        if row[4] < n_records and length <= exact.context
    ]
    labels = []
    if "answer" in data.tasks:
        asked = [r for r in islice(data.records("val"), n_records) if r.question]
        labels = [onnx_labels(runner, asked) for runner in (exact, rounded)]
    return {
        "texts": compare_texts(onnx_judge(exact), onnx_judge(rounded), {"targets": examples}),
        "labels": compare_labels(*labels) if labels else {},
    }


def onnx_judge(runner: Runner) -> Judge:
    """By onnxruntime, example by example."""

    def found(examples: Sequence[Example]) -> Iterator[Decisions]:
        for example in examples:
            ids = [*example.prompt_ids, *example.target_ids]
            logits_TV = runner.prefill([ids[:-1]])[0][0, len(example.prompt_ids) - 1 :]
            logits_TV = logits_TV - logits_TV.max(-1, keepdims=True)
            chosen_T = logits_TV[range(len(logits_TV)), example.target_ids]
            losses_T = np.log(np.exp(logits_TV).sum(-1)) - chosen_T
            yield logits_TV.argmax(-1), float(losses_T.sum(dtype=np.float64))

    return found


def onnx_labels(runner: Runner, records: Sequence[Record]) -> list[LabelScores]:
    """As clingpt/evaluation/scorer.py has them."""
    return [runner.label_scores(record) for record in records]


def compare_labels(exact: Sequence[LabelScores], rounded: Sequence[LabelScores]) -> dict[str, Any]:
    """How many of the labels differ, and how many are right, by either."""
    pairs = list(zip(exact, rounded, strict=True))
    known = [pair for pair in pairs if pair[0].gold]
    return {
        "records": len(pairs),
        "changed": sum(one.label != other.label for one, other in pairs),
        "labelled": len(known),
        "right_fp32": sum(one.label == one.gold for one, _ in known),
        "right_int8": sum(other.label == other.gold for _, other in known),
    }
