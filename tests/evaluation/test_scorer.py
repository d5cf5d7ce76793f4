"""Scores of a small random model: labels, outputs and losses compared with slow computations."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from clingpt.data.synthetic import iter_records
from clingpt.decoding.sampling import Sampling
from clingpt.evaluation.scorer import (
    Output,
    Scorer,
    context_passage,
    explanation_passage,
    passage_losses,
    prose_passage,
    score_labels,
    write_outputs,
)
from clingpt.nn import runtime
from clingpt.text.records import LABELS, Record
from clingpt.text.tasks import NotApplicable, explained, prompt_text
from clingpt.text.tokenizer import EOT, Tokenizer
from clingpt.training.validation import prose
from model import GPT, GPTConfig

RECORDS = list(iter_records("test", count=5, seed=1))


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    torch.manual_seed(0)
    model = GPT(GPTConfig(n_layer=1, n_head=2, n_embd=16, block_size=256)).eval()
    return Scorer(model, model, Tokenizer.load(), runtime.start(device="cpu"), batch_size=2)


@torch.no_grad()
def log_probs(scorer: Scorer, ids: list[int]) -> torch.Tensor:
    logits: torch.Tensor = scorer.model(torch.tensor([ids]))[0]
    return logits.double().log_softmax(-1)


def test_labels_are_scored_after_the_cue_in_the_order_of_records(scorer: Scorer) -> None:
    scores = score_labels(scorer, RECORDS)
    for score, record in zip(scores, RECORDS, strict=True):
        assert (score.id, score.gold) == (record.id, record.decision)
        ids = scorer.tokenizer.encode(prompt_text("answer", record))
        expected = log_probs(scorer, ids)[-1][[3763, 645, 3863]].log_softmax(-1)
        torch.testing.assert_close(
            torch.tensor(score.log_probs).double(), expected, atol=1e-5, rtol=0
        )
        assert score.label == LABELS[int(expected.argmax())]
        assert math.isclose(sum(score.probabilities.values()), 1)


def test_a_context_that_does_not_fit_is_trimmed_and_counted(scorer: Scorer) -> None:
    long = Record(id="1", question="Is it so?", sections=(("RESULTS", "It was so. " * 200),))
    [score] = score_labels(scorer, [long])
    assert score.trimmed_tokens > 0


def test_the_limit_on_new_tokens_does_not_change_label_scores(scorer: Scorer) -> None:
    """Their budget is the whole context."""
    text = "It was so. " * 45  # fits 256 tokens, but not with 100 new ones
    record = Record(id="1", question="Is it so?", sections=(("RESULTS", text.strip()),))
    [score] = score_labels(scorer, [record])
    assert score.trimmed_tokens == 0
    [output] = write_outputs(
        scorer,
        "summarize",
        [Record(id="1", question="?", sections=record.sections, long_answer="Yes.")],
        Sampling(max_new_tokens=100),
    )
    assert output.trimmed_tokens > 0


def test_outputs_follow_the_order_of_records_with_their_references(scorer: Scorer) -> None:
    outputs = write_outputs(scorer, "answer", RECORDS, Sampling(max_new_tokens=3))
    assert [output.record_id for output in outputs] == [record.id for record in RECORDS]
    assert outputs[0].reference == f"{RECORDS[0].decision}\nExplanation: {RECORDS[0].long_answer}"
    assert {output.finish_reason for output in outputs} == {"length"}
    no_conclusion = Record(id="1", question="?", sections=(("A", "b"),))
    assert write_outputs(scorer, "summarize", [no_conclusion], Sampling(max_new_tokens=3)) == []


def test_perplexity_is_corpus_level_without_the_end_of_text(scorer: Scorer) -> None:
    nats = end_nats = 0.0
    tokens = 0
    for record in RECORDS:
        lead = scorer.tokenizer.encode(
            f"{prompt_text('answer', record)} {record.decision}\nExplanation:"
        )
        answer = scorer.tokenizer.encode(f" {record.long_answer}")
        table = log_probs(scorer, [*lead, *answer, EOT])
        for place, token in enumerate(answer, start=len(lead)):
            nats -= float(table[place - 1, token])
        end_nats -= float(table[len(lead) + len(answer) - 1, EOT])
        tokens += len(answer)
    passages = [explanation_passage(scorer, record) for record in RECORDS]
    assert [passage.text for passage in passages] == [f" {r.long_answer}" for r in RECORDS]
    sums = passage_losses(scorer, passages)
    assert sums.sum(axis=0) == pytest.approx([nats, tokens, end_nats, len(RECORDS)], rel=1e-5)
    alone = [passage_losses(scorer, [passage])[0] for passage in passages]
    assert np.abs(sums - alone).max() <= 1e-5  # whatever else is in the batch or the row


@pytest.mark.parametrize("with_context", [True, False])
def test_prose_is_scored_after_its_own_prompt(with_context: bool, scorer: Scorer) -> None:
    """No label is needed; each token's loss is that of the training example."""
    record = replace(RECORDS[0], decision=None)
    record = record if with_context else replace(record, sections=())
    passage = prose_passage(scorer, record)
    assert passage.text == f" {record.long_answer}"
    lead = scorer.tokenizer.encode(prompt_text("explain", record))
    answer = scorer.tokenizer.encode(passage.text)
    table = log_probs(scorer, [*lead, *answer, EOT])
    at = enumerate([*answer, EOT], start=len(lead) - 1)
    nats = [-float(table[place, token]) for place, token in at]
    [found] = passage_losses(scorer, [passage]).tolist()
    assert found == pytest.approx([sum(nats[:-1]), len(answer), nats[-1], 1], rel=1e-5)
    for lacking in (replace(record, question=""), replace(record, long_answer=None)):
        with pytest.raises(NotApplicable):
            prose_passage(scorer, lacking)


def test_every_token_of_a_long_context_is_scored_exactly_once(scorer: Scorer) -> None:
    text = "The trial went on for years. " * 100
    record = Record(id="1", question="?", sections=(("RESULTS", text.strip()), ("B", "End.")))
    ids = scorer.tokenizer.encode(f"{text.strip()} End.")
    passage = context_passage(scorer, record.context())
    examples = passage.examples
    assert [token for example in examples for token in example.target_ids] == ids
    assert [len(e.prompt_ids) for e in examples] == [1] * len(examples) and len(examples) > 2
    assert examples[0].prompt_ids == [EOT] and examples[1].prompt_ids == [ids[254]]
    assert passage_losses(scorer, [passage])[0].tolist()[1:] == [len(ids), 0, 0]
    assert passage_losses(scorer, []).shape == (0, 4)


def test_the_explanation_is_the_text_after_its_cue() -> None:
    assert explained("yes\nExplanation: Because it is.") == "Because it is."
    assert explained("yes") == ""


def test_a_reply_of_the_task_explain_is_scored_in_full(scorer: Scorer) -> None:
    """Only in a reply of the task answer does the cue separate the label from the explanation."""
    said, record = "no\nExplanation: why not.", replace(RECORDS[0], long_answer="no Explanation: x")
    output = Output("1", "explain", said, "no Explanation: x", "stop", 0)
    assert prose(output)[2:] == (said, "no Explanation: x")
    assert prose(replace(output, task="answer"))[2:] == ("why not.", "x")
    [written] = write_outputs(scorer, "explain", [record], Sampling(max_new_tokens=3))
    assert written.reference == "no Explanation: x"


def test_reasoning_free_shows_the_conclusion_in_place_of_the_context(scorer: Scorer) -> None:
    record = replace(RECORDS[0], long_answer="It fell.")
    [free] = score_labels(scorer, [record], reasoning_free=True)
    alone = replace(record, sections=(("CONCLUSION", "It fell."),))
    assert free.log_probs == score_labels(scorer, [alone])[0].log_probs
    assert free.id == record.id and free.log_probs != score_labels(scorer, [record])[0].log_probs
    nothing = replace(record, long_answer=None)
    assert (
        score_labels(scorer, [nothing], reasoning_free=True)[0].log_probs
        == score_labels(scorer, [replace(record, sections=())])[0].log_probs
    )
