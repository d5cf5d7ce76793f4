"""The cost of 8-bit weights in an exported ONNX model, compared with its fp32 weights."""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from clingpt.data.prepared import Prepared
from clingpt.evaluation.quantization_cost import Decisions, compare_decisions, compare_labels
from clingpt.export.onnx_runner import Runner
from clingpt.text.tasks import Example


def onnx_section(folder: Path, data: Prepared, *, n_records: int) -> dict[str, Any]:
    """Compare an exported folder's 8-bit and fp32 weights on the first validation records."""
    exact, rounded = Runner(folder), Runner(folder, int8=True)
    split = data.split("val")
    examples = [
        split.example(row)
        for row, length in zip(split.index, split.lengths, strict=True)
        if row[4] < n_records and length <= exact.context
    ]
    texts, labels = {}, {}
    if examples:
        texts["targets"] = compare_decisions(
            "targets", iter_decisions(exact, examples), iter_decisions(rounded, examples)
        )
    if "answer" in data.tasks:
        records = [r for r in islice(data.records("val"), n_records) if r.question]
        one, other = ([runner.label_scores(r) for r in records] for runner in (exact, rounded))
        labels = compare_labels(one, other)
    return {"texts": texts, "labels": labels}


def iter_decisions(runner: Runner, examples: Sequence[Example]) -> Iterator[Decisions]:
    """Yield a model's decisions, one example at a time."""
    for example in examples:
        ids = [*example.prompt_ids, *example.target_ids]
        logits_TV = runner.prefill([ids[:-1]])[0][0, len(example.prompt_ids) - 1 :]
        logits_TV = logits_TV - logits_TV.max(-1, keepdims=True)  # so that exp cannot overflow
        target_T = logits_TV[range(len(logits_TV)), example.target_ids]
        losses_T = np.log(np.exp(logits_TV).sum(-1)) - target_T
        yield Decisions(logits_TV.argmax(-1), float(losses_T.sum(dtype=np.float64)))
