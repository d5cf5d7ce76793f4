"""The cost of 8-bit weights: perplexity, greedy decisions and labels compared with fp32.

Both models see the same tokens, and each token is predicted from the true ones before it, so that
a difference at one token does not carry over to the next.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch

from clingpt.base import console
from clingpt.base.types import Ints
from clingpt.data.packing import IGNORE
from clingpt.data.prepared import Prepared
from clingpt.decoding.decoders import make_decoder
from clingpt.evaluation.calibration import LabelScores
from clingpt.evaluation.measure import passages_of
from clingpt.evaluation.scorer import Passage, Scorer, iter_batches, score_labels
from clingpt.nn.checkpoint import load_model
from clingpt.text.records import Record
from clingpt.text.tasks import Example, NotApplicable


class Decisions(NamedTuple):
    """One model's predictions for the targets of a batch of examples."""

    tokens: Ints  # the most probable token at each target
    nats: float  # summed loss of the targets


def quantization_section(source: str, scorer: Scorer, data: Prepared, split: str) -> dict[str, Any]:
    """Compare a quantized checkpoint with itself in fp32 on all records of a split."""
    model = load_model(source, verified=True).model.to(scorer.rt.device).eval()
    exact = replace(scorer, model=model, decoder=make_decoder(model, scorer.rt))
    records = list(data.records(split))
    texts = {}
    for name, passage_of in passages_of(data.tasks).items():
        examples = [e for record in records for e in examples_of(scorer, record, passage_of)]
        if examples:
            texts[name] = compare_decisions(
                name, iter_decisions(exact, examples), iter_decisions(scorer, examples)
            )
    labels = {}
    if "answer" in data.tasks:
        labels = compare_labels(score_labels(exact, records), score_labels(scorer, records))
    return {"texts": texts, "labels": labels}


def examples_of(
    scorer: Scorer, record: Record, passage_of: Callable[[Scorer, Record], Passage]
) -> list[Example]:
    """Return the examples of a record's passage; none if the record lacks the passage."""
    try:
        return passage_of(scorer, record).examples
    except NotApplicable:
        return []


@torch.no_grad()
def iter_decisions(scorer: Scorer, examples: Sequence[Example]) -> Iterator[Decisions]:
    """Yield a model's decisions, one packed batch of examples at a time."""
    for _, batch in iter_batches(scorer, examples):
        is_target = batch.targets_KM != IGNORE
        best = scorer.model.logits(scorer.model.hidden_at_targets(batch)).argmax(-1)
        nats = scorer.model.token_losses(batch).double().sum()
        yield Decisions(best[is_target].cpu().numpy(), float(nats))


def compare_decisions(
    name: str, exact: Iterable[Decisions], rounded: Iterable[Decisions]
) -> dict[str, Any]:
    """Return both perplexities of a text and the share of greedy decisions that differ.

    The two iterables yield the same batches in the same order.
    """
    exact_nats, rounded_nats, changed, n_tokens = 0.0, 0.0, 0, 0
    batches = zip(exact, rounded, strict=True)
    for one, other in console.progress(batches, label=f"int8 and fp32: {name}", unit=" batches"):
        exact_nats += one.nats
        rounded_nats += other.nats
        changed += int((one.tokens != other.tokens).sum())
        n_tokens += len(one.tokens)
    return {
        "tokens": n_tokens,
        "perplexity_fp32": math.exp(exact_nats / n_tokens),
        "perplexity_int8": math.exp(rounded_nats / n_tokens),
        "decisions_changed": changed / n_tokens,
    }


def compare_labels(exact: Sequence[LabelScores], rounded: Sequence[LabelScores]) -> dict[str, Any]:
    """Count the labels that differ, and those that each model gets right."""
    pairs = list(zip(exact, rounded, strict=True))
    labelled = [pair for pair in pairs if pair[0].gold]
    return {
        "records": len(pairs),
        "changed": sum(one.label != other.label for one, other in pairs),
        "labelled": len(labelled),
        "right_fp32": sum(one.label == one.gold for one, _ in labelled),
        "right_int8": sum(other.label == other.gold for _, other in labelled),
    }
