"""What a small model is asked, trimmed to its context, and its replies as JSON."""

import math
from dataclasses import replace

import pytest
import torch

from clingpt.base.errors import ConfigError, DataError
from clingpt.decoding.engine import Completion
from clingpt.decoding.sampling import Sampling, TokenLogProb
from clingpt.evaluation import replies
from clingpt.evaluation.calibration import Calibration
from clingpt.evaluation.replies import Question
from clingpt.evaluation.scorer import LabelScores, Scorer
from clingpt.nn import runtime
from clingpt.text.records import Record
from clingpt.text.tasks import Prompt
from clingpt.text.tokenizer import EOT, Tokenizer
from model import GPT, GPTConfig

SAMPLING = Sampling(max_new_tokens=24, seed=3)  # leaves 40 tokens for a prompt


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    torch.manual_seed(0)
    model = GPT(GPTConfig(n_layer=1, n_head=2, n_embd=16, block_size=64)).eval()
    return Scorer(model, model, Tokenizer.load(), runtime.start(device="cpu"), batch_size=2)


@pytest.mark.parametrize(("n_words", "left_out"), [(39, 0), (40, 0), (41, 1), (100, 60)])
def test_the_newest_part_of_a_long_text_is_kept(
    n_words: int, left_out: int, scorer: Scorer
) -> None:
    text = " ".join(["old", *["word"] * (n_words - 2), "new"])
    question = replies.ask_to_continue(text, scorer, SAMPLING, name="7")
    kept = scorer.tokenizer.encode(text)[left_out:]
    assert question == Question("7", Prompt(ids=kept, trimmed_tokens=left_out))


def test_nothing_is_continued_from_an_end_of_text(scorer: Scorer) -> None:
    question = replies.ask_to_continue("", scorer, SAMPLING, name="input")
    assert question.prompt == Prompt(ids=[EOT], trimmed_tokens=0)


def test_a_record_loses_context_and_keeps_its_question(scorer: Scorer) -> None:
    long = Record(id="1", question="Is it so?", sections=(("RESULTS", "It was so. " * 30),))
    question = replies.ask_task("answer", long, scorer, SAMPLING)
    assert (question.id, question.task, question.record) == ("1", "answer", long)
    assert 30 < len(question.prompt.ids) <= 40 and question.prompt.trimmed_tokens > 60
    assert scorer.tokenizer.decode(question.prompt.ids).endswith("Question: Is it so?\nAnswer:")


@pytest.mark.parametrize(
    ("task", "asked", "text", "reason"),
    [
        ("answer", "", "It was.", "no question"),
        ("summarize", "Is it so?", "", "no text"),
        ("answer", "Is it so? " * 30, "It was.", "prompt too long"),
    ],
)
def test_a_record_that_lacks_something_is_refused_by_name(
    task: str, asked: str, text: str, reason: str, scorer: Scorer
) -> None:
    record = Record(id="r9", question=asked, sections=(("TEXT", text),) if text else ())
    with pytest.raises(DataError, match=rf"record r9 cannot be used for {task}: {reason}"):
        replies.ask_task(task, record, scorer, SAMPLING)


def test_a_reply_must_leave_room_for_a_prompt(scorer: Scorer) -> None:
    assert replies.prompt_budget(scorer, Sampling(max_new_tokens=63)) == 1
    with pytest.raises(ConfigError, match=r"max_new_tokens 64 .* context of 64; lower it"):
        replies.prompt_budget(scorer, Sampling(max_new_tokens=64))


def test_a_reply_is_handed_over_as_it_grows(scorer: Scorer) -> None:
    pieces: list[str] = []
    question = replies.ask_to_continue("The trial", scorer, SAMPLING, name="input")
    completion = replies.answer(scorer, question, SAMPLING, lambda x: pieces.append(x.new_text))
    assert len(pieces) > 1 and "".join(pieces) == completion.text
    assert completion == replies.answer(scorer, question, SAMPLING)


def test_json_says_how_a_reply_came_about(scorer: Scorer) -> None:
    record = Record(id="r9", question="Is it so?", sections=())
    question = Question("r9", Prompt(ids=[1, 2, 3], trimmed_tokens=4), "answer", record)
    yes, a = scorer.tokenizer.encode(" yes a")
    log_probs = [TokenLogProb(yes, -0.123456, ((yes, -0.123456), (a, -2.0)))]
    completion = Completion([yes], " yes", "stop", "\n", log_probs)
    scores = LabelScores(record, (math.log(0.5), math.log(0.25), math.log(0.25)), 0)
    second = replies.numbered(SAMPLING, 1)
    fields = replies.to_json(question, completion, second, scorer.tokenizer, scores)
    assert fields.pop("probabilities") == pytest.approx({"yes": 0.5, "no": 0.25, "maybe": 0.25})
    expected = {
        "id": "r9", "task": "answer", "label": "yes", "abstained": None, "text": " yes",
        "finish_reason": "stop",
        "stopped_by": "\n", "seed": 4, "prompt_tokens": 3, "trimmed_tokens": 4, "new_tokens": 1,
    }  # fmt: skip
    assert fields == expected
    asked_for = replace(SAMPLING, log_probs=2)
    told = replies.to_json(question, completion, asked_for, scorer.tokenizer)
    top = {" yes": -0.1235, " a": -2.0}
    assert told["log_probs"] == [{"token": " yes", "log_prob": -0.1235, "top": top}]
    assert "label" not in told


def test_a_calibrated_answer_is_withheld_below_the_threshold(scorer: Scorer) -> None:
    record = Record(id="r9", question="Is it so?", sections=())
    question = Question("r9", Prompt(ids=[1], trimmed_tokens=0), "answer", record)
    scores = LabelScores(record, (math.log(0.5), math.log(0.25), math.log(0.25)), 0)
    for threshold, abstained in ((0.39, False), (0.42, True)):
        fitted = Calibration(
            temperature=2, threshold=threshold, coverage=0.8, ece_before=0, ece_after=0,
            nll_before=1, nll_after=1, fitted_on={"split": "val", "records": 9, "fingerprint": "f"},
        )  # fmt: skip
        args = question, Completion([], "", "stop"), SAMPLING, scorer.tokenizer, scores
        fields = replies.to_json(*args, fitted)
        assert (fields["label"], fields["abstained"]) == ("yes", abstained)
        cooler = 1 / (1 + 2 * 0.5**0.5)  # 0.5 and twice 0.25, each to the power of 1/2
        assert fields["probabilities"]["yes"] == pytest.approx(cooler)
