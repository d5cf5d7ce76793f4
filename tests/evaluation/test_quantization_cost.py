"""The cost of 8-bit weights, against a slow way to compute it."""

import math
from dataclasses import replace

import pytest
import torch

from clingpt.data.synthetic import iter_records
from clingpt.decoding.decoders import make_decoder
from clingpt.evaluation.measure import record_context
from clingpt.evaluation.quantization_cost import (
    compare_decisions,
    compare_labels,
    examples_of,
    iter_decisions,
)
from clingpt.evaluation.scorer import Scorer, score_labels
from clingpt.nn import runtime
from clingpt.text.tokenizer import Tokenizer
from model import GPT, GPTConfig

RECORDS = list(iter_records("test", count=4, seed=1))


def scorer(*, int8: bool) -> Scorer:
    torch.manual_seed(0)
    model = GPT(GPTConfig(n_layer=2, n_head=2, n_embd=32, block_size=128)).eval()
    for parameter in model.parameters():
        parameter.data *= 3
    rt = runtime.start(device="cpu")
    decoder = make_decoder(model, rt, quantize="int8") if int8 else model
    return Scorer(model, decoder, Tokenizer.load(), rt, batch_size=2)


@torch.no_grad()
def test_perplexities_and_decisions_match_each_model_run_separately() -> None:
    exact, rounded = scorer(int8=False), scorer(int8=True)
    examples = [e for r in RECORDS for e in examples_of(exact, r, record_context)]
    text = compare_decisions(
        "context", iter_decisions(exact, examples), iter_decisions(rounded, examples)
    )
    nats, changed, n_tokens = {True: 0.0, False: 0.0}, 0, 0
    for example in examples:
        ids_1T = torch.tensor([[*example.prompt_ids, *example.target_ids]])
        first = len(example.prompt_ids) - 1
        logits = {x: y.model(ids_1T)[0, first:-1] for x, y in ((False, exact), (True, rounded))}
        for which, logits_TV in logits.items():
            target_T = ids_1T[0, first + 1 :]
            nats[which] += float(
                torch.nn.functional.cross_entropy(logits_TV, target_T) * len(target_T)
            )
        changed += int((logits[False].argmax(1) != logits[True].argmax(1)).sum())
        n_tokens += len(example.target_ids)
    assert text["tokens"] == n_tokens and changed > 0
    assert text["decisions_changed"] == pytest.approx(changed / n_tokens, abs=2 / n_tokens)
    for which, name in ((False, "fp32"), (True, "int8")):
        expected = math.exp(nats[which] / n_tokens)
        assert text[f"perplexity_{name}"] == pytest.approx(expected, rel=1e-3)
    same = compare_decisions(
        "context", iter_decisions(exact, examples), iter_decisions(exact, examples)
    )
    assert same["decisions_changed"] == 0 and same["perplexity_fp32"] == same["perplexity_int8"]


def test_labels_are_compared_with_each_other_and_with_gold() -> None:
    labels = score_labels(scorer(int8=False), RECORDS)
    others = [replace(one, log_probs=one.log_probs[1:] + one.log_probs[:1]) for one in labels]
    found = compare_labels(labels, others)
    right = sum(one.label == one.gold for one in labels)
    assert found["records"] == found["labelled"] == found["changed"] == 4
    assert found["right_fp32"] == right
    assert compare_labels(labels, labels)["changed"] == 0
