"""serve.py's answers, summaries, documents and explanations, and the routes of cloud platforms.

Real processes on real sockets serve a random model. Labels are compared with the evaluation's for
the same records. Where a test is about what happens to a reply, the reply is scripted.
"""

import asyncio
import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from openapi_spec_validator import validate

from clingpt.decoding.decoders import make_decoder
from clingpt.decoding.engine import generate
from clingpt.decoding.sampling import Sampling
from clingpt.evaluation.calibration import NOT_FITTED, Calibration, LabelScores
from clingpt.evaluation.scorer import Scorer, score_labels
from clingpt.evaluation.terms import find_terms
from clingpt.evaluation.unsupported import find_flags
from clingpt.nn import runtime
from clingpt.reports import DISCLAIMER
from clingpt.serving.errors import ApiError
from clingpt.serving.schemas import (
    AnswerRequest,
    DocumentRequest,
    ExplainRequest,
    SummarizeRequest,
    TaskRequest,
)
from clingpt.serving.tasks import Tasks
from clingpt.text.documents import NOTHING
from clingpt.text.records import LABELS, Record, from_json
from clingpt.text.tasks import Prompt
from clingpt.text.tokenizer import VOCAB_SIZE, Tokenizer
from model import GPT
from tests.helpers.commands import make_calibration, make_familiarity
from tests.helpers.models import make_tiny_model
from tests.helpers.servers import CANARY, SCRIPTED, Server, error_of, eventually, frames, serving
from tests.serving.conftest import CONTEXT

ALL = ("answer", "summarize", "document", "explain")
TEXT_OF = dict(zip(ALL, ("explanation", "summary", "document", "explanation"), strict=True))
LEAD_OF = dict(zip(ALL, ("\nExplanation: ", " ", " RESULTS: ", " "), strict=True))
TOKENIZER = Tokenizer.load()
LABEL_IDS = [[3763], [645], [3863]]  # as JSON has them
PAIN: dict[str, Any] = {
    "question": "Does the drug relieve pain?",
    "sections": [
        ["METHODS", "Ten patients took 5 mg of it daily."],
        ["RESULTS", "Pain fell by 31 % with the drug. It did not fall with placebo."],
    ],
}
SENTENCES = [f"Patient {n} had a fall of {n}.5 mmHg after dose {n}." for n in range(90)]
LONG = " ".join(SENTENCES)  # almost ten times the context
RECORDS: list[dict[str, Any]] = [
    PAIN,
    {"question": "Is it safe?", "text": "Nausea was rare."},
    {"question": "Is it safe?", "sections": [["RESULTS", " ".join(SENTENCES[:8])]]},
    {"question": "Why?"},
    {"question": "Did pressure fall?", "text": LONG},
]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served") / "tiny"
    shape: dict[str, Any] = {"vocab_size": VOCAB_SIZE, "block_size": CONTEXT, "n_embd": 32}
    make_tiny_model(seed=4, **shape).save_pretrained(folder)  # answers both yes and maybe
    (folder / "clingpt.json").write_text('{"format": 1, "tasks": ["answer"]}')
    return folder


@pytest.fixture(scope="module")
def scorer(checkpoint: Path) -> Scorer:
    rt = runtime.start(device="cpu")
    model = GPT.from_pretrained(checkpoint).eval()
    return Scorer(model, make_decoder(model, rt), TOKENIZER, rt, batch_size=1)


@pytest.fixture(scope="module")
def scores(scorer: Scorer) -> list[LabelScores]:
    """The labels of RECORDS by the evaluation."""
    return score_labels(scorer, [from_json(record) for record in RECORDS])


@pytest.fixture(scope="module")
def calibration(scores: list[LabelScores]) -> Calibration:
    """A calibration that withholds two labels of RECORDS."""
    flat = make_calibration(threshold=0.0)
    surest = sorted(max(flat.judge(score.log_probs)[0].values()) for score in scores)
    threshold = (surest[1] + surest[2]) / 2
    return make_calibration(threshold=threshold, familiarity=make_familiarity())


@dataclass
class Scripted:
    """A server whose model writes scripted replies and records its prompts."""

    server: Server
    folder: Path

    def say(self, *lines: tuple[str, str]) -> None:
        """Set the replies to prompts that contain a text, and forget the recorded prompts."""
        (self.folder / "script.json").write_text(json.dumps(lines))
        (self.folder / "asked.jsonl").write_text("")

    def asked(self) -> list[tuple[str, list[list[int]]]]:
        """Return the prompts, and the labels that each reply had to start with one of."""
        lines = map(json.loads, (self.folder / "asked.jsonl").read_text().splitlines())
        return [(TOKENIZER.decode(line["prompt"]), line["among"]) for line in lines]

    def task(self, name: str, **fields: Any) -> Any:
        """Return the result of a task."""
        answer = self.server.ask(f"/v1/{name}", fields)
        assert answer.status == 200, answer.body
        return answer.json


@pytest.fixture(scope="module")
def scripted_server(checkpoint: Path, calibration: Calibration) -> Iterator[Scripted]:
    """A server with a calibrated checkpoint and the environment of Vertex AI."""
    folder = checkpoint.parent / "scripted"
    (folder / "tiny").mkdir(parents=True)
    for path in checkpoint.iterdir():
        (folder / "tiny" / path.name).symlink_to(path)
    calibration.save(folder / "tiny")
    port = free_port()
    with serving(
        folder / "tiny",
        "--port=None",
        program=SCRIPTED,
        SCRIPTED=str(folder),
        AIP_HTTP_PORT=str(port),
        AIP_HEALTH_ROUTE="/isalive",
        AIP_PREDICT_ROUTE="/predict",
    ) as started:
        assert started.port == port
        yield Scripted(started, folder)


@pytest.fixture
def scripted(scripted_server: Scripted) -> Scripted:
    """The scripted server, without a script yet."""
    scripted_server.say()
    return scripted_server


@pytest.fixture(scope="module")
def plain(checkpoint: Path) -> Iterator[Server]:
    """The real serve.py, not forked, with a checkpoint that was never calibrated."""
    with serving(checkpoint, "--max_windows=4", command=("serve.py",)) as started:
        yield started


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


@pytest.mark.parametrize("stream", [True, False])
def test_a_task_that_the_model_was_not_trained_on_is_named(
    stream: bool, scripted: Scripted
) -> None:
    for task in ALL:
        fields = {**PAIN, "stream": stream, "max_new_tokens": 4}
        answer = scripted.server.ask(f"/v1/{task}", fields)
        result = frames(answer)[-1]["result"] if stream else answer.json
        what = "draft documents" if task == "document" else task
        note = (
            f"This model was not trained to {what}, only to answer. Do not expect a useful reply."
        )
        expected = None if task == "answer" else note
        assert result["task_note"] == answer.headers.get("x-clingpt-task-note") == expected
    [model] = scripted.server.ask("/v1/models").json["data"]
    assert model["tasks"] == ["answer"] and model["generated_data"] is False
    assert list(model["task_notes"]) == ["summarize", "document", "explain"]
    assert model["task_notes"]["explain"] == note
    predictions = {"instances": [{**PAIN, "task": "explain", "max_new_tokens": 4}]}
    [prediction] = scripted.server.ask("/predict", predictions).json["predictions"]
    assert prediction["task_note"] == note


# ------------------------------------------------------------------------------------------------
# Labels


@pytest.mark.parametrize("explain", [True, False])
def test_label_matches_the_evaluation(
    explain: bool, scripted: Scripted, scores: list[LabelScores], calibration: Calibration
) -> None:
    assert len({score.label for score in scores}) > 1, "the records are too similar"
    withheld, unlike = [], []
    for record, score in zip(RECORDS, scores, strict=True):
        result = scripted.task("answer", **record, explain=explain, max_new_tokens=8)
        probabilities, abstained = calibration.judge(score.log_probs)
        assert result["label"] == score.label == max(probabilities, key=probabilities.__getitem__)
        assert tuple(result["probabilities"]) == LABELS
        assert sum(result["probabilities"].values()) == pytest.approx(1, abs=1e-6)
        assert result["probabilities"] == pytest.approx(probabilities, abs=1e-6)
        assert (result["abstained"], result["threshold"]) == (abstained, calibration.threshold)
        assert result["calibration_note"] is None
        assert result["notice"] == DISCLAIMER and result["model"] == "tiny"
        withheld.append(abstained)
        unlike.append(result["unlike_training"])
    assert withheld.count(True) == 2
    assert unlike == [True, False, True, False, True]
    assert scripted.server.ask("/v1/models").json["data"][0]["threshold"] == calibration.threshold


def test_no_label_is_withheld_without_a_calibration(
    plain: Server, scores: list[LabelScores]
) -> None:
    for record, score in zip(RECORDS, scores, strict=True):
        result = plain.ask("/v1/answer", {**record, "explain": False}).json
        assert result["probabilities"] == pytest.approx(score.probabilities, abs=1e-6)
        assert result["abstained"] is result["threshold"] is None
        assert result["calibration_note"] == NOT_FITTED and result["unlike_training"] is None


def test_label_without_explanation_takes_one_token(scripted: Scripted) -> None:
    result = scripted.task("answer", **PAIN, explain=False, id="note 7")
    assert result["explanation"] is result["finish_reason"] is None and result["warnings"] == []
    assert result["id"] == "note 7" and result["trimmed_tokens"] == 0
    [(prompt, among)] = scripted.asked()
    assert among == LABEL_IDS and prompt == (
        "Context:\nMETHODS: Ten patients took 5 mg of it daily.\n"
        "RESULTS: Pain fell by 31 % with the drug. It did not fall with placebo.\n"
        "Question: Does the drug relieve pain?\nAnswer:"
    )
    n = len(TOKENIZER.encode(prompt))
    counts = {"prompt_tokens": n, "completion_tokens": 1, "total_tokens": n + 1}
    assert result["usage"] == counts


def test_explanation_follows_the_label(scripted: Scripted) -> None:
    reply = "\nExplanation: Pain fell by 31 % with the drug."
    scripted.say(("relieve pain", reply))
    result = scripted.task("answer", **PAIN)
    assert result["explanation"] == "Pain fell by 31 % with the drug."
    assert result["finish_reason"] == "stop" and result["trimmed_tokens"] == 0
    [(prompt, among)] = scripted.asked()  # one reply contains both
    assert prompt.endswith("Answer:") and among == LABEL_IDS
    n_new = 1 + len(TOKENIZER.encode(reply))
    assert result["usage"]["completion_tokens"] == n_new
    assert scripted.task("answer", **PAIN, max_new_tokens=n_new - 2)["finish_reason"] == "length"
    scripted.say(("relieve pain", " of course"))
    assert scripted.task("answer", **PAIN)["explanation"] == ""


def test_long_report_is_trimmed_only_for_the_explanation(
    scripted: Scripted, scorer: Scorer
) -> None:
    # The whole report fits the context, but not together with a reply of the usual length.
    record = {"question": "Did pressure fall?", "text": " ".join(SENTENCES[:9])}
    scripted.say(("pressure fall", "\nExplanation: It fell."))
    result = scripted.task("answer", **record)
    [score] = score_labels(scorer, [from_json(record)])
    (whole, among), (cut, first) = scripted.asked()
    assert score.trimmed_tokens == 0 and SENTENCES[8] in whole
    assert among == LABEL_IDS and first == [LABEL_IDS[LABELS.index(score.label)]]
    assert result["label"] == score.label and result["explanation"] == "It fell."
    n_whole, n_cut = len(TOKENIZER.encode(whole)), len(TOKENIZER.encode(cut))
    assert result["trimmed_tokens"] == n_whole - n_cut > 0 and n_cut <= CONTEXT // 2
    assert cut.startswith(whole[:200]) and cut.endswith("Question: Did pressure fall?\nAnswer:")
    assert result["usage"]["prompt_tokens"] == n_whole + n_cut
    n_reply = 1 + len(TOKENIZER.encode("\nExplanation: It fell."))
    assert result["usage"]["completion_tokens"] == 1 + n_reply
    # The stream contains each part once.
    streamed = frames(scripted.server.ask("/v1/answer", {**record, "stream": True}))
    assert [event["type"] for event in streamed].count("label") == 1
    assert "".join(e["text"] for e in streamed if e["type"] == "text") == "It fell."
    # A report that exceeds the context itself is trimmed for the label, too.
    assert scripted.task("answer", **RECORDS[4], explain=False)["trimmed_tokens"] > 500


# ------------------------------------------------------------------------------------------------
# Summaries and documents


def test_summary_matches_the_model(plain: Server, scorer: Scorer) -> None:
    record = {"text": "Pain fell by 31 % with the drug."}
    prompt = TOKENIZER.encode("Report:\nTEXT: Pain fell by 31 % with the drug.\nSummary:")
    settings: list[dict[str, Any]] = [
        {"max_new_tokens": 12},
        {"max_new_tokens": 12, "temperature": 1.5, "top_k": 50, "seed": 3},
        {"max_new_tokens": 12, "temperature": 2.0, "top_p": 0.5, "seed": 4},
        {"max_new_tokens": 12, "temperature": 3.0, "min_p": 0.1, "seed": 5},
        {"max_new_tokens": 12, "repetition_penalty": 3.0, "no_repeat_ngram": 1},
    ]
    for fields in settings:
        sampling = Sampling(**fields)
        [expected] = generate(scorer.decoder, TOKENIZER, [prompt], sampling, context=CONTEXT)
        result = plain.ask("/v1/summarize", {**record, **fields}).json
        assert result["summary"] == expected.text.strip() and result["finish_reason"] == "length"
        assert result["seed"] == fields.get("seed", result["seed"])
        assert result["usage"]["prompt_tokens"] == len(prompt)
    sampled = {**record, "temperature": 2.0, "max_new_tokens": 12}
    first = plain.ask("/v1/summarize", sampled).json
    second = plain.ask("/v1/summarize", sampled).json
    assert first["summary"] != second["summary"]  # each request draws a seed and returns it
    again = plain.ask("/v1/summarize", {**sampled, "seed": first["seed"]}).json
    assert again == first


@pytest.mark.parametrize("task", ["summarize", "document"])
def test_windows_contain_every_word_of_a_long_report(task: str, scripted: Scripted) -> None:
    sections = [["METHODS", " ".join(SENTENCES[:5])], ["RESULTS", " ".join(SENTENCES[5:36])]]
    scripted.say(*((f"of {n}.5", f" Reply {n}.") for n in range(90)))
    result = scripted.task(task, sections=sections, max_new_tokens=80)
    prompts = [prompt for prompt, _ in scripted.asked()]
    assert len(prompts) == result["windows"] > 3 and result["trimmed_tokens"] == 0
    head, foot = {"summarize": ("Report:\n", "\nSummary:")}.get(task, ("Notes:\n", "\nDocument:"))
    assert all(prompt.startswith(head) and prompt.endswith(foot) for prompt in prompts)
    shown = " ".join(prompt[len(head) : -len(foot)] for prompt in prompts)
    for label in ("METHODS: ", "RESULTS: "):
        assert (label in shown) == (task == "summarize")
        shown = shown.replace(label, "").replace("\n", " ")
    assert shown == " ".join(SENTENCES[:36])
    sizes = [len(TOKENIZER.encode(prompt)) for prompt in prompts]
    assert max(sizes) <= CONTEXT - 80 and result["usage"]["prompt_tokens"] == sum(sizes)
    # Replies are in order, each to the first sentence of its window.
    firsts = [next(n for n in range(90) if f"of {n}.5" in prompt) for prompt in prompts]
    replies = [f"Reply {n}." for n in firsts]
    assert firsts == sorted(set(firsts)) and result["finish_reason"] == "stop"
    joined = {"summarize": " ", "document": "\n"}[task].join(replies)
    assert result["summary" if task == "summarize" else "document"] == joined


def test_documents_of_windows_are_merged_by_heading(scripted: Scripted) -> None:
    scripted.say(
        ("after dose 1.", " METHODS: Dose one.\nRESULTS: Fell by 1.5."),
        ("after dose 11.", " RESULTS: Fell by 11.5.\nCONCLUSION: It fell."),
    )
    notes = " ".join(SENTENCES[:14])
    result = scripted.task("document", text=notes, max_new_tokens=128)
    assert result["windows"] == 2
    assert result["document"] == (
        "METHODS: Dose one.\nRESULTS: Fell by 1.5. Fell by 11.5.\nCONCLUSION: It fell."
    )
    assert result["sections"] == [
        {"heading": "METHODS", "text": "Dose one."},
        {"heading": "RESULTS", "text": "Fell by 1.5. Fell by 11.5."},
        {"heading": "CONCLUSION", "text": "It fell."},
    ]
    # If one reply is cut off, the document is.
    scripted.say(("after dose 1.", " RESULTS: It" + " fell" * 200), ("", " CONCLUSION: So."))
    assert scripted.task("document", text=notes, max_new_tokens=128)["finish_reason"] == "length"


def test_sections_that_are_asked_for_are_written_from_every_window(scripted: Scripted) -> None:
    scripted.say(
        (
            "after dose 11. Patient 12 had a fall of 12.5 mmHg after dose 12.\nSection: B",
            f" {NOTHING}",
        ),
        ("after dose 1. Patient 2 had a fall of 2.5 mmHg after dose 2.", " Fell by 1.5."),
        ("Section: A\n", " Fell by 11.5."),
        ("", f" {NOTHING}"),
    )
    notes = " ".join(SENTENCES[:14])
    fields: dict[str, Any] = {"text": notes, "headings": ["B", "A", "B"], "max_new_tokens": 24}
    result = scripted.task("document", **fields)
    asked = [prompt.rpartition("\nSection: ")[2] for prompt, _ in scripted.asked()]
    assert asked == ["B\nDocument:"] * 2 + ["A\nDocument:"] * 2 and result["windows"] == 2
    assert result["document"] == "B: Fell by 1.5.\nA: Fell by 1.5.\nFell by 11.5."
    assert result["sections"] == [
        {"heading": "B", "text": "Fell by 1.5."},
        {"heading": "A", "text": "Fell by 1.5.\nFell by 11.5."},
    ]
    answer = scripted.server.ask("/v1/document", {**fields, "stream": True})
    events = [event for event in frames(answer) if event["type"] == "text"]
    shown = [(event["heading"], event["window"], event["text"]) for event in events]
    assert shown == [("B", 0, "Fell by 1.5."), ("A", 0, "Fell by 1.5."), ("A", 1, "Fell by 11.5.")]


@pytest.mark.parametrize(
    "headings",
    [[], [""], ["A\nDocument: x"], ["A "], ["A"] * 65, "A", ["A" * 101], [None], [["A"]], {"A": 1}],
    ids=lambda value: str(value)[:40],
)
def test_headings_that_cannot_be_asked_for_are_refused(headings: Any, plain: Server) -> None:
    answer = plain.ask("/v1/document", {"text": "Pain fell.", "headings": headings})
    assert error_of(answer, 400)["param"] == "headings"


def test_report_of_too_many_windows_is_refused(plain: Server) -> None:
    answer = plain.ask("/v1/summarize", {"text": LONG[:4000]})
    error = error_of(answer, 400)
    assert error["param"] == "text" and error["code"] == "context_length_exceeded"
    assert "more than 4 windows" in error["message"]
    assert plain.ask("/v1/summarize", {"text": LONG[:1200], "max_new_tokens": 2}).status == 200


# ------------------------------------------------------------------------------------------------
# Warnings


@pytest.mark.parametrize(
    ("reply", "kinds"),
    [
        ("Pain fell by 31 % with the drug.", []),
        ("Pain fell by 45 % with the drug.", ["number"]),
        ("Pain fell by 31 mg with the drug.", ["unit"]),
        ("Pain fell by more than 31 % with the drug.", ["comparator"]),
        ("Pain fell by 31 % with the drug. It did fall with placebo.", ["negation"]),
        ("Pain fell by 31 % in nephropathy.", ["term"]),
    ],
)
@pytest.mark.parametrize("task", ALL)
def test_warnings_point_at_unsupported_claims(
    task: str, reply: str, kinds: list[str], scripted: Scripted
) -> None:
    scripted.say(("Pain fell", LEAD_OF[task] + reply))
    result = scripted.task(task, **PAIN)
    text = result[TEXT_OF[task]]
    assert text.endswith(reply)
    warnings = result["warnings"]
    assert [warning["kind"] for warning in warnings] == kinds
    source = " ".join([PAIN["question"], *(text for _, text in PAIN["sections"])])
    found = [(w["kind"], w["start"], w["end"], w["text"]) for w in warnings]
    flags = find_flags(text, source) + find_terms(text, source)
    assert found == [(f.kind, f.start, f.end, f.text) for f in flags]
    for warning in warnings:
        assert text[warning["start"] : warning["end"]] == warning["text"] and warning["message"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("task", ["answer", "explain"])
def test_warnings_are_null_without_a_report(task: str, stream: bool, scripted: Scripted) -> None:
    scripted.say(("asthma", f"{LEAD_OF[task]}It affects 300 million people, not children."))
    empty: list[dict[str, Any]] = [{}, {"text": ""}, {"text": " \n"}, {"sections": []}]
    for given in empty:
        fields = {"question": "What is asthma?", **given, "stream": stream}
        answer = scripted.server.ask(f"/v1/{task}", fields)
        result = frames(answer)[-1]["result"] if stream else answer.json
        assert result["explanation"] == "It affects 300 million people, not children."
        assert result["warnings"] is None
    compared = scripted.task(task, question="What is asthma?", text="It is a disease.")
    assert [warning["kind"] for warning in compared["warnings"]] == ["number"]


# ------------------------------------------------------------------------------------------------
# Explanations


def test_explanation_matches_the_model(plain: Server, scorer: Scorer) -> None:
    for record, prompt in (
        ({"question": "What is  asthma?"}, "Question: What is asthma?\nExplanation:"),
        (
            {"question": "What is asthma?", "text": "It is common."},
            "Context:\nTEXT: It is common.\nQuestion: What is asthma?\nExplanation:",
        ),
    ):
        ids, sampling = TOKENIZER.encode(prompt), Sampling(max_new_tokens=12)
        [expected] = generate(scorer.decoder, TOKENIZER, [ids], sampling, context=CONTEXT)
        result = plain.ask("/v1/explain", {**record, "max_new_tokens": 12}).json
        assert result["explanation"] == expected.text.strip() != ""
        assert result["finish_reason"] == "length" and "label" not in result
        assert result["usage"]["prompt_tokens"] == len(ids) and result["trimmed_tokens"] == 0
    # The usual length is 256, the limit half of the context.
    usual = plain.ask("/v1/explain", {"question": "Why?"}).json
    assert usual["usage"]["completion_tokens"] <= CONTEXT // 2


def test_cue_words_are_kept_in_an_explanation(scripted: Scripted) -> None:
    text = "yes\nExplanation: it is.\nAnswer: no"
    scripted.say(("asthma", f" {text}"))
    assert scripted.task("explain", question="What is asthma?")["explanation"] == text
    [(prompt, among)] = scripted.asked()
    assert prompt == "Question: What is asthma?\nExplanation:" and among == []


def test_long_report_is_trimmed_by_sentences_and_the_question_kept(scripted: Scripted) -> None:
    scripted.say(("pressure fall", " It fell."))
    result = scripted.task("explain", question="Did pressure fall?", text=LONG, max_new_tokens=60)
    [(prompt, _)] = scripted.asked()  # not split: each window would answer a different question
    assert prompt.endswith(".\nQuestion: Did pressure fall?\nExplanation:")
    shown = prompt.removeprefix("Context:\nTEXT: ").partition("\nQuestion")[0]
    assert LONG.startswith(shown) and len(TOKENIZER.encode(prompt)) <= CONTEXT - 60
    whole = len(TOKENIZER.encode(prompt.replace(shown, LONG)))
    assert result["trimmed_tokens"] == whole - len(TOKENIZER.encode(prompt)) > 500
    assert result["explanation"] == "It fell." and result["warnings"] == []


# ------------------------------------------------------------------------------------------------
# Batches and streams


@pytest.mark.parametrize("task", ALL)
def test_batch_results_match_single_requests_in_order(task: str, plain: Server) -> None:
    fields: dict[str, Any] = {"max_new_tokens": 6, "seed": 1, "temperature": 1.0}
    records: list[dict[str, Any]] = [
        {**PAIN, "id": "b"},
        {"question": "Is it safe?", "text": LONG[:300], "id": "a"},
        {"question": "Is it safe?", "text": "Nausea was rare."},
    ]
    batch = plain.ask(f"/v1/{task}", {"records": records, **fields}).json
    alone = [plain.ask(f"/v1/{task}", {**record, **fields}).json for record in records]
    assert batch["results"] == alone
    assert [result["id"] for result in alone] == ["b", "a", None]
    for name, total in batch["usage"].items():
        assert total == sum(result["usage"][name] for result in alone) > 0
    streamed = frames(plain.ask(f"/v1/{task}", {"records": records, **fields, "stream": True}))
    results = {e["index"]: e["result"] for e in streamed if e["type"] == "result"}
    assert [results[n] for n in range(3)] == alone and len(results) == 3


@pytest.mark.parametrize("task", ALL)
def test_stream_sends_label_text_and_result(task: str, scripted: Scripted) -> None:
    scripted.say(("Pain", f"{LEAD_OF[task]}Pain fell by 45 % 😀."))
    wanted: dict[str, Any] = {**PAIN, "seed": 5, "id": "7", "temperature": 0.8}
    whole = scripted.task(task, **wanted)
    answer = scripted.server.ask(f"/v1/{task}", {**wanted, "stream": True})
    assert answer.headers["x-accel-buffering"] == "no"
    *parts, last = frames(answer)
    assert last == {"type": "result", "index": 0, "result": whole}
    if task == "answer":
        label = parts.pop(0)
        assert (label.pop("type"), label.pop("index")) == ("label", 0)
        names = "label probabilities calibration_note unlike_training abstained threshold".split()
        assert label == {name: whole[name] for name in names}
    assert len(parts) > 4, "the text is not streamed token by token"
    for part in parts:
        text = part.pop("text")
        assert part == {"type": "text", "index": 0, "window": 0} and text
    texts = [event["text"] for event in frames(answer) if event["type"] == "text"]
    assert "".join(texts).strip() == whole[TEXT_OF[task]]
    assert "\ufffd" not in answer.body.decode()


def test_streamed_text_names_its_window(scripted: Scripted) -> None:
    scripted.say(("dose 1.", " First."), ("", " Then."))
    fields = {"text": " ".join(SENTENCES[:14]), "stream": True, "max_new_tokens": 100}
    *parts, last = frames(scripted.server.ask("/v1/summarize", fields))
    texts: dict[int, str] = {}
    for part in parts:
        texts[part["window"]] = texts.get(part["window"], "") + part["text"]
    assert list(texts) == list(range(last["result"]["windows"])) and len(texts) > 1
    assert " ".join(texts[n].strip() for n in texts) == last["result"]["summary"]


# ------------------------------------------------------------------------------------------------
# Refusals


NOTE = {"question": f"Is {CANARY} so?", "text": f"It was {CANARY}."}
REFUSED: list[tuple[str, dict[str, Any], str | None]] = [
    ("answer", {"question": None}, "question"),
    ("answer", {"question": f"{CANARY} " * 200}, "question"),
    ("answer", {"question": 7}, "question"),
    ("answer", {"explain": "false"}, "explain"),
    ("summarize", {"explain": True}, "explain"),
    ("explain", {"explain": True}, "explain"),
    ("explain", {"question": None}, "question"),
    ("explain", {"question": " "}, "question"),
    ("explain", {"question": f"{CANARY} " * 200}, "question"),
    ("explain", {"question": f"{CANARY} " * 200, "text": None}, "question"),
    ("explain", {"text": 7}, "text"),
    ("explain", {"text": "a" * 200_000}, "text"),
    ("explain", {"max_new_tokens": CONTEXT}, "max_new_tokens"),
    ("explain", {"question": None, "text": None}, "text"),
    ("document", {"document": CANARY}, "document"),
    ("summarize", {"text": None}, "text"),
    ("summarize", {"text": ""}, "text"),
    ("summarize", {"text": [CANARY]}, "text"),
    ("summarize", {"text": "a" * 200_000}, "text"),
    ("document", {"text": None}, "text"),
    ("document", {"sections": [["RESULTS", CANARY]]}, "text"),  # text and sections
    ("document", {"text": None, "sections": [[CANARY]]}, "sections"),
    ("document", {"text": None, "sections": [["RESULTS", CANARY, CANARY]]}, "sections"),
    ("document", {"text": None, "sections": {"RESULTS": CANARY}}, "sections"),
    ("summarize", {"max_new_tokens": 0}, "max_new_tokens"),
    ("summarize", {"max_new_tokens": CONTEXT}, "max_new_tokens"),
    ("answer", {"max_new_tokens": 10**9}, "max_new_tokens"),
    ("summarize", {"temperature": -1}, "temperature"),
    ("summarize", {"temperature": 1e-9}, "temperature"),
    ("summarize", {"top_p": 0}, "top_p"),
    ("summarize", {"top_k": 0}, "top_k"),
    ("summarize", {"min_p": 2}, "min_p"),
    ("summarize", {"repetition_penalty": 0}, "repetition_penalty"),
    ("summarize", {"no_repeat_ngram": 0}, "no_repeat_ngram"),
    ("summarize", {"stop": [CANARY] * 5}, "stop"),
    ("summarize", {"stop": ["a" * 65]}, "stop"),
    ("summarize", {"seed": -1}, "seed"),
    ("summarize", {"id": "a" * 201}, "id"),
    ("summarize", {"id": "\ud800"}, "id"),
    ("summarize", {"records": [NOTE]}, "records"),  # in addition to a single record
    ("summarize", {"question": None, "text": None, "records": []}, "records"),
    ("summarize", {"question": None, "text": None, "records": [NOTE] * 17}, "records"),
    ("answer", {"question": None, "text": None, "records": [NOTE, {"text": CANARY}]}, "question"),
    ("answer", {"decision": CANARY}, "decision"),
    ("answer", {"long_answer": CANARY}, "long_answer"),
    ("answer", {"messages": [CANARY]}, "messages"),
    ("answer", {CANARY: 1}, None),
]


@pytest.mark.parametrize("kind", [AnswerRequest, ExplainRequest, SummarizeRequest, DocumentRequest])
def test_a_record_that_is_refused_late_refuses_the_whole_batch(
    kind: type[TaskRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No event of another record may come first, however long the refusal takes."""

    async def prepare(self: Tasks, item: Any, make: object) -> Any:
        if item.index == 1:
            await asyncio.sleep(0.05)
            raise ApiError(400, "record 2 does not fit", param="text")
        prompt = Prompt(ids=[0], trimmed_tokens=0)
        return [prompt] if kind in (SummarizeRequest, DocumentRequest) else prompt

    async def reply(*args: object, on_piece: Any = None, **kwargs: object) -> Any:
        raise AssertionError("record 1 is answered before record 2 is refused")

    monkeypatch.setattr(Tasks, "_prepare", prepare)
    form = SimpleNamespace(window=None, headings=())
    tokenizer = SimpleNamespace(encode=lambda text: [1])
    scorer = SimpleNamespace(form=form, tokenizer=tokenizer)
    served = SimpleNamespace(tasks=None, context=CONTEXT, scorer=scorer)
    limits = SimpleNamespace(max_windows=1)
    service = SimpleNamespace(served=lambda model: served, limits=limits, reply=reply)
    request = kind.model_validate({"records": [NOTE, NOTE], "stream": True})
    with pytest.raises(ApiError, match="record 2 does not fit"):
        asyncio.run(Tasks(cast(Any, service), request).work(lambda event: None))


@pytest.mark.parametrize(
    ("task", "fields", "named"), REFUSED, ids=[f"{case[0]} {case[1]}"[:60] for case in REFUSED]
)
def test_invalid_fields_are_refused_by_name(
    task: str, fields: dict[str, Any], named: str | None, plain: Server
) -> None:
    body = {name: value for name, value in (NOTE | fields).items() if value is not None}
    error = error_of(plain.ask(f"/v1/{task}", body), 400)
    assert (error["param"], error["type"]) == (named, "invalid_request_error")
    assert error_of(plain.ask(f"/v1/{task}", {**body, "stream": True}), 400) == error


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"max_tokens": 5}, "max_tokens is not supported; use max_new_tokens"),
        (
            {"max_completion_tokens": 5},
            "max_completion_tokens is not supported; use max_new_tokens",
        ),
        ({"prompt": CANARY}, "prompt is not supported; use text"),
        ({"context": CANARY}, "context is not supported; use text"),
        ({"contexts": [CANARY]}, "contexts is not supported; use sections"),
        ({"n": 2}, "n is not supported"),
        ({"no_repeat_ngram_size": 2}, "no_repeat_ngram_size is not supported; use no_repeat_ngram"),
        ({"frequency_penalty": 1}, "frequency_penalty is not supported; use repetition_penalty"),
    ],
    ids=str,
)
def test_refusal_suggests_the_field_that_does_the_job(
    fields: dict[str, Any], message: str, plain: Server
) -> None:
    assert error_of(plain.ask("/v1/answer", NOTE | fields), 400)["message"] == message
    body = {"task": "answer"} | NOTE | fields
    assert error_of(plain.ask("/invocations", body), 400)["message"] == message


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([NOTE, {"text": CANARY}], "record 2 has no question, which the task answer needs"),
        ([NOTE, NOTE | {"text": 7}], "record 2, text: input should be a valid string"),
        ([{"question": " "}, NOTE], "record 1: it has neither a question nor text; "),
        (
            [NOTE, {"question": CANARY, "sections": [["A", CANARY], ["B"]]}],
            "record 2, section 2: must be pairs of a heading and a text, such as ",
        ),
        ([NOTE, NOTE, NOTE | {"text": "a" * 200_000}], "record 3 has more than"),
    ],
    ids=lambda value: str(value)[-50:],
)
def test_records_are_counted_from_one(
    records: list[dict[str, Any]], message: str, plain: Server
) -> None:
    error = error_of(plain.ask("/v1/answer", {"records": records, "explain": False}), 400)
    assert error["message"].startswith(message)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"text": CANARY}, "the record has no question, which the task answer needs"),
        (NOTE | {"text": "a" * 200_000}, "the record has more than "),
        ({"records": [NOTE] * 17}, "records: list should have at most 16 items, not 17"),
        ({"sections": CANARY}, "sections: must be pairs of a heading and a text, such as "),
        ([CANARY], "the request body must be a JSON object"),
        (CANARY, "the request body must be a JSON object"),
    ],
    ids=lambda value: str(value)[-50:],
)
def test_messages_use_the_words_of_the_api(body: object, message: str, plain: Server) -> None:
    assert error_of(plain.ask("/v1/answer", body), 400)["message"].startswith(message)


def test_unknown_model_is_not_found(plain: Server) -> None:
    error = error_of(plain.ask("/v1/answer", {**NOTE, "model": CANARY}), 404)
    assert (error["code"], error["param"]) == ("model_not_found", "model")
    assert plain.ask("/v1/answer", {**PAIN, "model": "tiny", "explain": False}).status == 200


def test_internal_error_does_not_quote_the_text(scripted: Scripted) -> None:
    scripted.say(("", f" Fault: {CANARY}."))
    error = error_of(scripted.server.ask("/v1/summarize", NOTE), 500)
    assert (error["type"], error["message"]) == ("server_error", "internal server error")
    *parts, last = frames(scripted.server.ask("/v1/summarize", {**NOTE, "stream": True}))
    assert "".join(part["text"] for part in parts) == f" Fault: {CANARY}."
    assert last == {"error": error}
    scripted.say()
    assert scripted.server.ask("/v1/summarize", NOTE).status == 200
    # The error is logged once the stream has ended.
    eventually(lambda: scripted.server.log.read_text().count("RuntimeError at ") == 2)


# ------------------------------------------------------------------------------------------------
# Cloud platforms and OpenAPI


@pytest.mark.parametrize("task", ALL)
def test_invocations_run_any_task(task: str, plain: Server) -> None:
    fields = {**PAIN, "seed": 1, "max_new_tokens": 5}
    same = plain.ask(f"/v1/{task}", fields).json
    assert plain.ask("/invocations", {"task": task, **fields}).json == same
    streamed = frames(plain.ask("/invocations", {"task": task, **fields, "stream": True}))
    assert streamed[-1]["result"] == same


def test_invocations_default_to_completions(plain: Server) -> None:
    fields = {"prompt": "Pain", "max_tokens": 4, "temperature": 0}
    choices = plain.ask("/v1/completions", fields).json["choices"]
    assert plain.ask("/invocations", fields).json["choices"] == choices
    named = plain.ask("/invocations", {"task": "completions", **fields}).json
    assert named["choices"] == choices
    for body, param in (
        ({"task": CANARY, **PAIN}, "task"),
        ({"task": [CANARY]}, "task"),
        ({"task": "answer", "prompt": CANARY}, "prompt"),
        ({"task": "summarize", "text": 7}, "text"),
        ({**PAIN}, "question"),  # not a field of completions
    ):
        assert error_of(plain.ask("/invocations", body), 400)["param"] in (param, "prompt")
    assert plain.ask("/ping").status == 200


def test_vertex_routes_and_port_are_served(scripted: Scripted) -> None:
    server = scripted.server
    for route in ("/isalive", "/ping", "/health", "/ready"):
        assert (server.ask(route).status, server.ask(route).json["status"]) == (200, "ready")
    tiny = {"prompt": "Pain", "max_tokens": 3, "temperature": 0}
    instances = [{"task": "answer", **PAIN}, {"task": "summarize", **NOTE}]
    parameters = {"max_new_tokens": 4, "seed": 1}
    body = {"instances": instances, "parameters": parameters}
    found = server.ask("/predict", body).json
    assert found == {
        "predictions": [
            scripted.task("answer", **PAIN, **parameters),
            scripted.task("summarize", **NOTE, **parameters),
        ]
    }
    [one] = server.ask("/predict", {"instances": [tiny]}).json["predictions"]
    assert one["choices"] == server.ask("/v1/completions", tiny).json["choices"]
    for wrong, param in (
        ({"instances": []}, "instances"),
        ({"instances": [tiny] * 17}, "instances"),
        ({"instances": [CANARY]}, "instances"),
        ({}, "instances"),
        ({"prompt": CANARY}, "prompt"),
        ({"instances": [tiny | {"stream": True}]}, "stream"),
        ({"instances": [tiny, tiny | {"n": 9}]}, "n"),
        ({"instances": [tiny], "parameters": {"task": CANARY}}, "task"),
    ):
        assert error_of(server.ask("/predict", wrong), 400)["param"] == param
    refusals: list[tuple[list[Any], str]] = [
        ([tiny, tiny | {"n": 9}], "instance 2: n: input should be"),
        ([tiny, tiny, {"task": "answer", "max_tokens": 3}], "instance 3: max_tokens is not "),
        ([{"task": "answer", "text": CANARY}], "instance 1: the record has no question"),
        ([tiny, {"task": CANARY}], "instance 2: task must be one of completions, "),
        ([CANARY], "instance 1: input should be "),
    ]
    for batch, said in refusals:
        error = error_of(server.ask("/predict", {"instances": batch}), 400)
        assert error["message"].startswith(said)
    assert error_of(server.ask("/predict"), 405)


def test_openapi_describes_every_route(scripted: Scripted) -> None:
    description = scripted.server.ask("/openapi.json").json
    validate(description)
    posts = ["completions", *ALL]
    assert {path: set(operations) for path, operations in description["paths"].items()} == {
        **{f"/v1/{name}": {"post"} for name in posts},
        **{path: {"post"} for path in ("/invocations", "/predict")},
        **{path: {"get"} for path in ("/health", "/ready", "/metrics")},
        **{path: {"get"} for path in ("/v1/models", "/v1/models/{name}")},
    }
    assert DISCLAIMER in description["info"]["description"]
    for name in posts:
        answers = description["paths"][f"/v1/{name}"]["post"]["responses"]
        assert set(answers["200"]["content"]) == {"application/json", "text/event-stream"}
        assert {"400", "401", "404", "413", "429", "503", "504"} <= set(answers)
        assert "422" not in answers  # FastAPI's, which no request receives
        for status in set(answers) - {"200"}:
            schema = answers[status]["content"]["application/json"]["schema"]
            assert schema["$ref"].endswith("/ErrorBody")


@pytest.mark.parametrize("task", ALL)
def test_results_match_the_openapi_description(task: str, plain: Server) -> None:
    description = plain.ask("/openapi.json").json
    operation = description["paths"][f"/v1/{task}"]["post"]
    schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
    one = schema["anyOf"][0]["$ref"].rpartition("/")[2]  # the other type is a batch
    described = description["components"]["schemas"][one]
    result = plain.ask(f"/v1/{task}", {**PAIN, "max_new_tokens": 3}).json
    assert set(result) == set(described["properties"]) == set(described["required"])


def test_records_are_cleaned_as_in_evaluation(plain: Server, scorer: Scorer) -> None:
    messy = {"question": "Is  it\tso?", "text": "It\u00a0was\r\n so \u0007 indeed.\ud800"}
    record = Record(id="1", question="Is it so?", sections=(("TEXT", "It was so indeed."),))
    [score] = score_labels(scorer, [record])
    result = plain.ask("/v1/answer", {**messy, "explain": False}).json
    assert result["probabilities"] == pytest.approx(score.probabilities, abs=1e-6)


def test_log_contains_nothing_that_was_sent(plain: Server, scripted: Scripted) -> None:
    for log in (plain.log.read_text(), scripted.server.log.read_text()):
        assert "POST /v1/answer 400" in log or "POST /predict 400" in log
        assert not any(word in log for word in (*CANARY.split(), "placebo", "mmHg"))
    assert "error in request" not in plain.log.read_text()
