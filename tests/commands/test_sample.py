"""sample.py with a small random model, run in this process: flags, standard output and error."""

import io
import json
import math
import os
import pty
import re
import shutil
import subprocess
import sys
import termios
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch

import sample
from clingpt.base import console
from clingpt.base.errors import ConfigError
from clingpt.decoding.engine import Completion
from clingpt.decoding.replies import Question, ask_to_continue
from clingpt.decoding.sampling import Sampling, TokenLogProb
from clingpt.evaluation.calibration import NOT_FITTED, Calibration, LabelScores
from clingpt.evaluation.scorer import Scorer
from clingpt.nn import runtime
from clingpt.text.documents import Draft
from clingpt.text.records import Record
from clingpt.text.tasks import Prompt
from clingpt.text.tokenizer import Tokenizer
from model import GPT, GPTConfig
from tests.helpers.commands import ROOT, make_familiarity
from tests.helpers.patience import PATIENCE

Patch = pytest.MonkeyPatch
Sample = Callable[..., tuple[int, str, str]]

NOTES: list[dict[str, Any]] = [
    {"id": "a", "question": "Does it help?", "text": "It helped (P = 0.01)."},
    {"id": "b", "question": "Is it safe?", "text": "Two of nine were ill. " * 20},
    {"id": 3, "question": "Is it so?", "text": "It was not."},
]
PROMPTS = [{"prompt": "word " * n, "id": n} for n in (9, 1, 30, 4, 1)]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that is sure of some tokens and unsure of others."""
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    model = GPT(GPTConfig(n_layer=1, n_head=2, n_embd=16, block_size=128))
    model.ln_f.weight.data *= 80
    model.save_pretrained(folder)
    (folder / "clingpt.json").write_text('{"format": 1, "tasks": ["summarize"]}')
    return folder


@pytest.fixture
def run(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> Sample:
    """Run sample.py with flags on the CPU; returns status, standard output and standard error."""

    def ran(*flags: object, stdin: bytes = b"") -> tuple[int, str, str]:
        common = {"--checkpoint": checkpoint, "--max_new_tokens": 6, "--device": "cpu"}
        given = {name: text for name, _, text in (str(flag).partition("=") for flag in flags)}
        argv = ["sample.py", *(f"{name}={text}" for name, text in (common | given).items())]
        typed = io.TextIOWrapper(io.BytesIO(stdin), "utf-8")
        status = 0
        with mock.patch.object(sys, "argv", argv), mock.patch.object(sys, "stdin", typed):
            try:
                with torch.random.fork_rng(devices=[]):
                    console.run(sample.main)
            except SystemExit as end:
                status = int(end.code or 0)
        return status, *capsys.readouterr()

    return ran


def lines_of(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def write(folder: Path, *lines: object) -> Path:
    """Write a .jsonl file; bytes are written unchanged."""
    coded = [x if isinstance(x, bytes) else json.dumps(x).encode() for x in lines]
    (folder / "in.jsonl").write_bytes(b"\n".join(coded))
    return folder / "in.jsonl"


def test_json_contains_the_plain_reply_and_its_seed(run: Sample) -> None:
    flags = ["--prompt=The trial", "--temperature=2", "--samples=2"]
    _, plain, _ = run(*flags)
    status, out, _ = run(*flags, "--json=True")
    first, second = lines_of(out)
    assert status == 0 and plain == f"The trial{first['text']}\nThe trial{second['text']}\n"
    assert first["text"] != second["text"] and (first["seed"], second["seed"]) == (1337, 1338)
    assert first["prompt_tokens"] == 2 and "log_probs" not in first


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    """A small model with a context of 64 tokens."""
    torch.manual_seed(0)
    model = GPT(GPTConfig(n_layer=1, n_head=2, n_embd=16, block_size=64)).eval()
    return Scorer(model, model, Tokenizer.load(), runtime.start(device="cpu"), batch_size=2)


def test_max_new_tokens_must_leave_room_for_a_prompt(scorer: Scorer) -> None:
    sample.check_room(scorer, Sampling(max_new_tokens=63))
    with pytest.raises(ConfigError, match=r"max_new_tokens 64 .* context of 64; lower it"):
        sample.check_room(scorer, Sampling(max_new_tokens=64))


def test_a_reply_is_streamed_as_it_grows(scorer: Scorer) -> None:
    pieces: list[str] = []
    sampling = Sampling(max_new_tokens=24, seed=3)
    question = ask_to_continue("The trial", scorer.tokenizer, context=64, longest=24, name="input")
    completion = sample.answer(scorer, question, sampling, lambda x: pieces.append(x.new_text))
    assert len(pieces) > 1 and "".join(pieces) == completion.text
    assert completion == sample.answer(scorer, question, sampling)


def test_json_contains_the_label_and_token_log_probabilities(scorer: Scorer) -> None:
    yes, a = scorer.tokenizer.encode(" yes a")
    question = Question("r9", Draft((Prompt(ids=[1, 2, 3], trimmed_tokens=4),), 24), "answer")
    log_probs = [TokenLogProb(yes, -0.123456, ((yes, -0.123456), (a, -2.0)))]
    completion = Completion([yes], " yes", "stop", "\n", log_probs)
    session = sample.Session(sample.SampleConfig(prompt=""), scorer, None)
    scores = LabelScores("r9", None, (math.log(0.5), math.log(0.25), math.log(0.25)), 0)
    fields: dict[str, Any] = dict(
        sample.to_json(session, question, completion, Sampling(seed=4), scores)
    )
    assert fields.pop("probabilities") == pytest.approx({"yes": 0.5, "no": 0.25, "maybe": 0.25})
    assert fields == {
        "id": "r9", "task": "answer", "label": "yes", "calibration_note": NOT_FITTED,
        "unlike_training": None, "abstained": None, "text": " yes", "finish_reason": "stop",
        "stopped_by": "\n", "seed": 4, "prompt_tokens": 3, "trimmed_tokens": 4, "new_tokens": 1,
    }  # fmt: skip
    wanted = Sampling(seed=4, log_probs=2)
    reply = sample.to_json(session, question, completion, wanted, None)
    top = {" yes": -0.1235, " a": -2.0}
    assert reply["log_probs"] == [{"token": " yes", "log_prob": -0.1235, "top": top}]
    assert "label" not in reply


def test_unsupported_terms_and_numbers_are_flagged(
    scorer: Scorer, capsys: pytest.CaptureFixture[str]
) -> None:
    record = Record(id="r9", question="Why?", sections=(("A", "9 men with diabetes."),))
    question = Question(
        "r9", Draft((Prompt(ids=[1, 2, 3], trimmed_tokens=0),), 24), "explain", record
    )
    completion = Completion([5], " 8 men with epilepsy, epilepsy and COPD.", "stop", None, [])
    learned = frozenset({"epilepsy"})
    session = sample.Session(sample.SampleConfig(prompt=""), scorer, None, learned)
    sample.warn(session, question, completion.text)
    shown = capsys.readouterr().err
    assert "check the number “8”: the report does not contain this number\n" in shown
    assert shown.endswith("terms that are not in the report or the question: epilepsy, COPD\n")
    warnings = sample.to_json(session, question, completion, Sampling(), None)["warnings"] or []
    assert [one["kind"] for one in warnings] == ["number", "term", "term", "term"]
    assert warnings[1] == {
        "kind": "term", "start": 12, "end": 20, "text": "epilepsy",
        "message": "neither the report nor the question contains this term",
    }  # fmt: skip
    sample.warn(session, replace(question, record=None, task=None), completion.text)
    assert capsys.readouterr().err == ""


def test_json_escapes_terminal_controls(run: Sample, monkeypatch: Patch) -> None:
    monkeypatch.setattr(sample, "to_json", lambda *_: {"text": "é\x7f\x9b\u202e"})
    assert run("--prompt=x", "--json=True")[1] == '{"text": "é\\u007f\\u009b\\u202e"}\n'


@pytest.mark.parametrize(
    ("terminal", "sure", "between", "unsure"),
    [(False, "{}", "{}", "[[{}]]"), (True, "{}", "\x1b[33m{}\x1b[0m", "\x1b[31m{}\x1b[0m")],
)
def test_unsure_words_are_marked(
    terminal: bool, sure: str, between: str, unsure: str, run: Sample, monkeypatch: Patch
) -> None:
    flags = ["--prompt=The trial", "--logprobs=True", "--max_new_tokens=40", "--temperature=1"]
    [reply] = lines_of(run(*flags, "--json=True")[1])
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    words = [(one["token"], 2.718281828 ** one["log_prob"]) for one in reply["log_probs"]]
    styles = [unsure if p < 0.5 else between if p < 0.9 else sure for _, p in words]
    marked = (style.format(text) for (text, _), style in zip(words, styles, strict=True))
    assert run(*flags)[1] == "".join(["The trial", *marked, "\n"])
    assert set(styles) == {sure, between, unsure}, "the model's replies are too short for this test"


def test_an_answer_shows_its_probabilities_and_its_reference(run: Sample) -> None:
    record = json.dumps(NOTES[0] | {"decision": "yes", "long_answer": "It does."}).encode()
    status, out, err = run("--task=answer", stdin=record)
    assert status == 0 and out.strip() and "yes" not in out
    assert "a: Does it help?\nprobabilities: yes " in err and f"\n{NOT_FITTED}\n" in err
    assert err.endswith("(stopped after 6 tokens: max_new_tokens)\n(reference: yes: It does.)\n")


def test_a_sure_label_is_not_shown_as_certain(
    scorer: Scorer, capsys: pytest.CaptureFixture[str]
) -> None:
    log_probs = tuple(math.log(share) for share in (0.9985, 0.001499, 0.000001))
    scores = LabelScores("r9", None, log_probs, 0)
    question = Question("r9", Draft((Prompt(ids=[1], trimmed_tokens=0),), 24), "answer")
    # Three hundred validation records without a mistake, and all of them surer than this one.
    sure = [0.0, -9.0, -9.0]
    fitted = Calibration.fit(
        [sure] * 300, ["yes"] * 300, fingerprint="", familiarity=make_familiarity()
    )
    sample.introduce(question, scores, fitted)
    assert capsys.readouterr().err == (
        "probabilities: yes 99.8 %, no 0.1 %, maybe <0.1 %\n"
        "not calibrated: 0 mistakes in 300 validation records\n"
        "unlike the training data: accuracy on such inputs was not measured\n"
        "too unsure to answer: no label reaches 99.9 %, the threshold that eval.py chose on 300 "
        "validation records\n"
    )
    session = sample.Session(sample.SampleConfig(prompt=""), scorer, fitted)
    completion = Completion([1], " yes", "stop", None, [])
    reply = sample.to_json(session, question, completion, Sampling(), scores)
    assert reply["calibration_note"] == "not calibrated: 0 mistakes in 300 validation records"
    assert reply["probabilities"] == pytest.approx(scores.probabilities) and reply["abstained"]
    assert reply["unlike_training"] is True


def test_a_reply_ends_before_a_stop_string(run: Sample) -> None:
    flags = ["--prompt=The trial", "--temperature=2", "--json=True"]
    [whole] = lines_of(run(*flags)[1])
    middle = whole["text"][5:8]
    [cut] = lines_of(run(*flags, f"--stop={middle}")[1])
    assert cut["text"] == whole["text"].partition(middle)[0]
    assert (cut["finish_reason"], cut["stopped_by"]) == ("stop", middle)
    assert sample.SampleConfig(stop=(r"\n\n",)).sampling().stop == ("\n\n",)


def test_int8_weights_change_log_probabilities_little(run: Sample) -> None:
    flags = ["--prompt=The trial", "--json=True", "--logprobs=True", "--max_new_tokens=1"]
    status, out, err = run(*flags, "--quantize=int8")
    assert status == 0 and ", int8\n" in err
    rounded, exact = (lines_of(x)[0]["log_probs"][0]["log_prob"] for x in (out, run(*flags)[1]))
    assert 0 < abs(rounded - exact) < 1


def test_a_text_longer_than_the_context_is_trimmed_with_a_note(run: Sample) -> None:
    words = "word " * 400
    status, out, err = run(f"--prompt={words}")
    assert status == 0 and out.startswith(words) and "tokens at the start of the prompt did" in err
    record = json.dumps({"text": "It fell by nine. " * 99, "question": "Why? " + words[:250]})
    status, _, err = run("--task=answer", stdin=record.encode())
    assert status == 0 and "tokens of the context did not fit and were left out" in err
    [shown] = [line for line in err.splitlines() if line.startswith("Why? word")]
    assert len(shown) == 200 and shown.endswith("…"), "a long question is shortened"


@pytest.mark.parametrize(
    ("flags", "asked"),
    [
        ([], ["Typed"]),
        (["--prompt="], [""]),
        (["--prompt_file={tmp}/a.txt"], ["It\nhelped."]),
        (["--input={tmp}/in.jsonl"], ["word " * 9]),
        (["--input={tmp}/in.jsonl", "--limit=2"], ["word " * 9, "word "]),
    ],
)
def test_a_prompt_may_be_a_flag_a_file_or_standard_input(
    flags: list[str], asked: list[str], run: Sample, tmp_path: Path, monkeypatch: Patch
) -> None:
    write(tmp_path, *PROMPTS)
    (tmp_path / "a.txt").write_text("It\nhelped.\n\n")
    seen: list[object] = []
    monkeypatch.setattr(sample, "reply_to", lambda _session, _task, text, _: seen.append(text))
    run(*(flag.replace("{tmp}", str(tmp_path)) for flag in flags), stdin=b"\xef\xbb\xbfTyped\n")
    assert seen == asked


# Files of replies


def test_a_file_is_answered_in_order_and_only_once(run: Sample, tmp_path: Path) -> None:
    target = tmp_path / "out.jsonl"
    flags = ["--task=answer", f"--input={write(tmp_path, *NOTES)}", f"--output={target}"]
    status, out, err = run(*flags)
    assert status == 0 and f"Wrote {target}: 3 replies, in the order of " in out
    assert err.count("This model was not trained to answer, only to summarize.") == 1
    assert "not trained" not in out
    assert "could not be answered" not in err
    before = target.read_bytes()
    found = lines_of(before.decode())
    assert [reply["id"] for reply in found] == ["a", "b", "3"]
    assert [reply["trimmed_tokens"] > 0 for reply in found] == [False, True, False]
    assert all(reply["probabilities"][reply["label"]] > 1 / 3 for reply in found)
    status, _, err = run(*flags)
    assert status == 0 and "already answers 3 of 3 lines" in err
    assert target.read_bytes() == before


@pytest.mark.parametrize(
    ("task", "bad", "name", "reason"),
    [
        ("answer", b'{"id": "b", ', "in.jsonl:3", "in.jsonl:3: "),
        ("answer", b'{"id": "\xff"}', "in.jsonl:3", "in.jsonl:3: "),
        ("answer", b"[" * 100_000, "in.jsonl:3", "in.jsonl:3: "),
        ("answer", {"id": "x", "texts": ""}, "in.jsonl:3", "unknown field texts"),
        (
            "answer",
            {"id": "x", "text": "It is."},
            "x",
            "record x has no question, which the task answer",
        ),
        (
            "summarize",
            {"question": "?"},
            "in.jsonl:3",
            "has no text, which the task summarize needs",
        ),
        (
            None,
            {"text": "It is."},
            "in.jsonl:3",
            'without --task every line must be {"prompt": "…"}',
        ),
    ],
)
def test_a_bad_line_fails_only_its_own_reply(
    task: str | None, bad: object, name: str, reason: str, run: Sample, tmp_path: Path
) -> None:
    first, *others = PROMPTS[:3] if task is None else NOTES
    path, target = write(tmp_path, first, b"", bad, *others), tmp_path / "out.jsonl"
    status, _, err = run(f"--input={path}", f"--output={target}", f"--task={task}")
    found = lines_of(target.read_text())
    assert status == 0 and "lines without an answer: 1; the `error` field" in err
    ids = [str(line["id"]) for line in (first, {"id": name}, *others)]
    assert [reply["id"] for reply in found] == ids
    assert ["error" in reply for reply in found] == [False, True, False, False]
    assert found[1].keys() == {"id", "error"} and reason in found[1]["error"]


def test_replies_do_not_depend_on_batches_or_interruptions(run: Sample, tmp_path: Path) -> None:
    flags, written = [f"--input={write(tmp_path, *PROMPTS)}", "--temperature=2"], set()
    for batch_size, limits in ((1, [None]), (3, [None]), (2, [1, 4, None])):
        target = tmp_path / f"{batch_size}.jsonl"
        for limit in limits:
            args = [f"--output={target}", f"--limit={limit}", f"--batch_size={batch_size}"]
            assert run(*flags, *args)[0] == 0
            assert len(lines_of(target.read_text())) == (limit or 5)
        written.add(target.read_bytes())
    assert len(written) == 1
    found = lines_of(written.pop().decode())
    assert [(x["id"], x["seed"] - 1337) for x in found[:3]] == [("9", 1), ("1", 2), ("30", 3)]
    assert found[1]["text"] != found[4]["text"], "each line has its own seed"
    _, alone, _ = run("--prompt=word ", "--temperature=2", "--seed=1342")
    assert alone == f"word {found[4]['text']}\n"


def test_a_file_of_another_model_or_settings_is_rejected(
    checkpoint: Path, run: Sample, tmp_path: Path
) -> None:
    best = tmp_path / "run/best"
    shutil.copytree(checkpoint, tmp_path / "run/step_2")
    best.symlink_to(checkpoint)
    flags = [f"--input={write(tmp_path, PROMPTS[0])}", f"--output={tmp_path}/out.jsonl"]
    flags += [f"--checkpoint={tmp_path}/run"]
    assert run(*flags)[0] == 0 and run(*flags, "--dtype=float32", "--batch_size=1")[0] == 0
    best.unlink()
    best.symlink_to("step_2")
    status, _, err = run(*flags, "--dtype=bfloat16", "--seed=4")
    assert status == 1 and "started with different settings (checkpoint, seed, dtype)" in err


@pytest.mark.parametrize(
    ("flags", "status", "phrase"),
    [
        (["--prompt=a", "--input=b.jsonl"], 2, "pass one of --prompt and --input, not both"),
        (["--prompt=", "--prompt_file=b"], 2, "pass one of --prompt and --prompt_file, not both"),
        (["--prompt=", "--task=answer"], 2, "--task takes a record"),
        (["--output=o.jsonl"], 2, "--output writes one reply per line"),
        (["--output=o.jsonl", "--input=a.json", "--task=answer"], 2, "pass --input=FILE.jsonl"),
        (["--output=o.jsonl", "--input=a.jsonl", "--samples=2"], 2, "writes one reply per line"),
        (["--prompt=a", "--limit=0"], 2, "limit must be at least 1"),
        (["--prompt=a", "--min_p=2"], 2, "min_p must be at least 0 and at most 1"),
        (["--prompt=a", "--quantize=int8", "--dtype=bfloat16"], 2, "int8 is for the CPU"),
        (["--input=none.jsonl"], 1, "none.jsonl: No such file or directory"),
        (["--input=none.jsonl", "--output=o.jsonl"], 1, "none.jsonl: No such file or directory"),
        (["--task=answer"], 1, "standard input is not UTF-8 (byte 3); convert it first"),
    ],
)
def test_a_usage_error_prints_one_line(
    flags: list[str], status: int, phrase: str, run: Sample, monkeypatch: Patch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    found, out, err = run(*flags, stdin=b"caf\xe9")
    *_, last = err.splitlines()
    assert (found, out) == (status, "") and last.startswith("error: ") and phrase in last
    assert list(tmp_path.iterdir()) == []


PASTE = ["FINDINGS: It helped.", "", "IMPRESSION: Much better."]


def test_a_terminal_starts_an_interactive_session(checkpoint: Path) -> None:
    here, there = pty.openpty()
    termios.tcsetwinsize(there, (24, 80))
    command = [sys.executable, "sample.py", f"--checkpoint={checkpoint}", "--device=cpu"]
    process = subprocess.Popen(
        [*command, "--max_new_tokens=4"],
        cwd=ROOT,
        stdin=there,
        stdout=there,
        stderr=there,
        env=os.environ | {"TERM": "xterm"},
    )
    os.close(there)
    deadline = threading.Timer(120 * PATIENCE, process.kill)
    deadline.start()
    # As a terminal sends a paste: marked, with carriage returns, and not yet followed by Enter.
    paste = "\x1b[200~" + "\r".join(PASTE) + "\r\x1b[201~\r"
    first, text = "continue: text to continue", "(paste a report, or /file PATH)"
    talk = [(first, "A trial\r"), (first, paste), (first, "/task answer\r")]
    talk += [(text, paste), ("question", "Does it?\r"), (text, "/task summarize\r"), (text, paste)]
    talk += [(text, "/history\r"), (text, "\x04")]
    shown = b""
    for prompt, typed in talk:
        # Wait for each prompt: a Ctrl-D typed early is lost when the line editor takes over.
        while not shown.endswith(f"{prompt}> ".encode()):
            shown += os.read(here, 4096)
        os.write(here, typed.encode())
        shown += b"\n"
    assert process.wait() == 0
    deadline.cancel()
    os.close(here)
    shown = re.sub(rb"\r|\x1b\[\?2004[hl]", b"", shown)  # without the marks for bracketed paste
    assert b"\nA trial" in shown and b"probabilities: yes " in shown
    assert b"\n\xe2\x80\xa6IMPRESSION: Much better." in shown, "only the end of a paste is repeated"
    assert shown.count(b"This model was trained to summarize; try /task summarize\n") == 1
    assert shown.count(b"was not trained to answer, only to summarize.") == 1
    whole = b"FINDINGS: It helped. IMPRESSION: Much better.\n"
    history = [b"continue   A trial\n", b"continue   " + whole, b"answer     Does it? " + whole]
    for number, line in enumerate([*history, b"summarize  " + whole], start=1):
        assert b"  %d  %b" % (number, line) in shown
