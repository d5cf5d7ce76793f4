"""Interactive sessions of sample.py, with fake input and fake replies."""

import errno
import io
import json
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

import pytest

from clingpt.base.errors import DataError
from clingpt.decoding import repl
from clingpt.decoding.repl import COMMANDS, HELP, LEAVE, SETTINGS, SHOWN, Asked, Repl
from clingpt.decoding.sampling import Sampling
from clingpt.text.records import from_json

CTRL_C = KeyboardInterrupt()
RECORD = {"id": "7", "question": "Does it help?", "text": "It helped."}


@dataclass
class Talk:
    """What happened in a session."""

    asked: list[tuple[str | None, Asked]] = field(default_factory=list)
    settings: list[Sampling] = field(default_factory=list)  # of each reply
    prompts: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    tasks: list[str | None] = field(default_factory=list)  # as they were chosen


def hold(*lines: str | BaseException, struck: BaseException | None = None) -> Talk:
    """Run a session of these lines, or exceptions in place of lines, followed by Ctrl-D.

    The first reply raises `struck`.
    """
    talk, rest, out, err = Talk(), iter(lines), io.StringIO(), io.StringIO()

    def typed(question: str) -> str:
        sys.stdout.write(f"{question}\n")  # as input() does
        talk.prompts.append(question)
        line = next(rest, EOFError())
        if isinstance(line, BaseException):
            raise line
        return line

    def reply(task: str | None, asked: Asked, sampling: Sampling) -> None:
        talk.asked.append((task, asked))
        talk.settings.append(sampling)
        if struck is not None and len(talk.asked) == 1:
            raise struck

    pastes_whole = mock.patch.object(repl, "keeps_pastes_whole", return_value=True)
    with mock.patch("builtins.input", typed), pastes_whole, redirect_stdout(out):
        with redirect_stderr(err):
            Repl(reply, Sampling(temperature=0.5), None, talk.tasks.append).run()
    assert out.getvalue().strip() == "", "a pipe or file must get nothing but replies"
    shown = err.getvalue().splitlines()[1:]
    talk.notes = [line for line in shown if line and line not in talk.prompts]
    return talk


def test_a_text_goes_to_the_current_task() -> None:
    talk = hold(" A ", "/task answer", "", "It helped.", "Does it?", "/task continue", "B")
    answered = from_json({"text": "It helped.", "question": "Does it?"})
    assert talk.asked == [(None, " A "), ("answer", answered), (None, "B")]
    first, text = "continue: text to continue", "answer: text (paste a report, or /file PATH)"
    prompts = [first, first, text, text, "question", text, first, first]
    assert talk.prompts == [f"{prompt}> " for prompt in prompts]
    assert talk.tasks == [None, "answer", None]


def test_explain_asks_for_the_question_first_and_context_is_optional(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("It helped.")
    block = ['"""', "It", "helped.", '"""']
    talk = hold(
        "/task explain", "Why?", "", "How?", "It helped.", "When?", *block,
        f"/file {tmp_path}/note.txt", "Who?", "/again 1", "Where?", "",
    )  # fmt: skip
    assert talk.prompts[1:3] == [
        "explain: question> ",
        "text to answer from (paste it, or /file PATH; Enter for none)> ",
    ]
    asked = [from_json({"question": q, "text": "It helped."}) for q in ("How?", "When?", "Who?")]
    alone = [from_json({"question": q}) for q in ("Why?", "Where?")]
    assert talk.asked == [("explain", x) for x in (alone[0], *asked, alone[0], alone[1])]


def test_a_block_becomes_one_text_of_several_lines() -> None:
    talk = hold('"""', "/quit", "", "  two", '"""', '"""', "cut short")
    assert talk.asked == [(None, "/quit\n\n  two"), (None, "cut short")]


@pytest.mark.parametrize(
    ("typed", "name", "value"),
    [
        (" temperature = 1 ", "temperature", 1.0),
        ("top_k=40", "top_k", 40),
        ("top_k=None", "top_k", None),
        (r"stop=\n\nEND", "stop", ("\n\nEND",)),
        ("stop= b", "stop", (" b",)),
        ("stop=", "stop", ()),
    ],
)
def test_set_changes_one_setting(typed: str, name: str, value: object) -> None:
    talk = hold("/set no_repeat_ngram=3", "/set top_k=9", "/set stop=x", f"/set {typed}", "A")
    before = {"no_repeat_ngram": 3, "top_k": 9, "stop": ("x",), "temperature": 0.5}
    assert talk.settings == [Sampling(**before | {name: value})]  # type: ignore[arg-type]


def test_settings_and_help_list_everything() -> None:
    notes = hold("/set stop=\\n", "/settings").notes
    assert [note.split()[0] for note in notes] == list(SETTINGS)
    assert notes[1].endswith("  0.5") and notes[-1].endswith(r"  ('\n',)")
    notes = hold("/help").notes
    assert notes == HELP.splitlines()
    assert [note.split()[0] for note in notes if note.startswith("  ")] == list(COMMANDS)
    assert " ".join(COMMANDS) == "/task /set /settings /file /history /again /help /quit"
    done = {"/task": "/task answer", "/set": "/set seed=1"}
    for name in COMMANDS:
        assert not any("unknown" in note for note in hold("A", done.get(name, name)).notes)


PASTED = "FINDINGS: It helped.\n\n/task is a word here.\n  Much."


@pytest.mark.parametrize("ending", ["", "\n", "\n\n"])
@pytest.mark.parametrize("block", ["", '"""'])
def test_a_paste_of_several_lines_is_one_text(ending: str, block: str) -> None:
    pasted = f"{block}\n{PASTED}\n{block}{ending}" if block else PASTED + ending
    talk = hold(pasted, "/task answer", pasted, "Does it?", "/task explain", "Why?", pasted)
    record = {"text": PASTED, "question": "Does it?"}
    why = from_json(record | {"question": "Why?"})
    assert talk.asked == [(None, PASTED), ("answer", from_json(record)), ("explain", why)]
    assert talk.notes == []


def test_a_question_is_asked_for_until_there_is_one(tmp_path: Path) -> None:
    (tmp_path / "note.json").write_text('{"text": "It helped.", "id": "7"}')
    talk = hold("/task answer", "It helped.", "", "  ", "Does it?", f"/file {tmp_path}/note.json")
    assert talk.asked == [("answer", from_json(RECORD | {"id": "input", "question": "Does it?"}))]
    assert talk.notes == ["(type a question about this text; Ctrl-C drops the text)"] * 2
    assert talk.prompts[-1] == "question> ", "the record in the file has none either"
    talk = hold("/task answer", f"/file {tmp_path}/note.json", " Does  it\nhelp?\n")
    assert talk.asked == [("answer", from_json(RECORD))]


def test_a_command_instead_of_a_question_drops_the_text() -> None:
    talk = hold("/task answer", "A.", "/task summarize", "B.", "/task explain", "C?", "/again 1")
    assert talk.asked == [("summarize", from_json({"text": "B."}))] * 2
    assert talk.notes == ["(dropped the text before /task)", "(dropped the text before /again)"]
    assert hold("/task answer", "A.", "/quit", "B.", "C?").asked == []


def test_a_file_that_is_not_a_record_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"id": "7"}')
    (tmp_path / "b.jsonl").write_text('{"text": "A."}\n')
    notes = hold("/task summarize", f"/file {tmp_path}/a.json", f"/file {tmp_path}/b.jsonl").notes
    lacks = "it has neither a question nor text; add one of them"
    assert notes[0] == f"error: {tmp_path}/a.json is not a record: {lacks}"
    assert "b.jsonl has a record in each line; leave, and run: " in notes[1]
    assert " sample.py --task=summarize --input=" in notes[1]


def test_nothing_is_asked_without_a_text(tmp_path: Path) -> None:
    (tmp_path / "blank.txt").write_text(" \n\n")
    talk = hold("", "   ", "\n \n", '"""', " ", '"""', f"/file {tmp_path}/blank.txt", "/history")
    assert talk.asked == []
    assert talk.notes == [f"error: {tmp_path}/blank.txt is empty", "(no prompts yet)"]


def test_a_file_replaces_typed_text(tmp_path: Path) -> None:
    (tmp_path / "a note.txt").write_text("\ufeffIt helped.\nMuch.\n\n", "utf-8")
    (tmp_path / "record.json").write_text(json.dumps(RECORD))
    text, record = f"/file {tmp_path}/a note.txt", f"/file {tmp_path}/record.json"
    talk = hold(text, record, "/task answer", record, text, "Does it?")
    assert talk.asked[:2] == [(None, "It helped.\nMuch."), (None, json.dumps(RECORD))]
    typed = from_json({"text": "It helped. Much.", "question": "Does it?"})
    assert talk.asked[2:] == [("answer", from_json(RECORD)), ("answer", typed)]


@pytest.mark.parametrize("form", ["'{}'", '"{}"', "{}", "  {}  "])
@pytest.mark.parametrize("name", ["a note.txt", "note.txt", "Ann's note.txt", "~note.txt"])
def test_a_path_may_have_blanks_and_quotes(form: str, name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("It helped.")
    (tmp_path / "a").write_text("another file")
    path = f"{tmp_path}/{name}"
    talk = hold(f"/file {path}" if "'" in form and "'" in name else f"/file {form.format(path)}")
    assert (talk.asked, talk.notes) == ([(None, "It helped.")], [])
    talk = hold("/file " + path.replace(" ", r"\ ").replace("'", r"\'"))
    assert talk.asked == [(None, "It helped.")]
    talk = hold(f"/file {tmp_path}/a missing.txt")
    assert talk.asked == [] and "does not exist" in talk.notes[0], "not the file named a"


def test_again_repeats_a_prompt_with_its_task_and_the_current_settings() -> None:
    talk = hold("/again", "A", "/task summarize", "C", "/set seed=5", "/again 1", "/again")
    assert talk.notes == ["error: no prompt to repeat yet"]
    assert [talk.asked.index(asked) for asked in talk.asked] == [0, 1, 0, 1]
    assert [sampling.seed for sampling in talk.settings] == [0, 0, 5, 5]
    talk = hold("A", "/task summarize", "C\tD", "/again 1", "/history")
    assert talk.notes == ["  1  continue   A", "  2  summarize  C D"]
    [note] = hold("word " * 99 + "\nline", "/history").notes
    assert note.endswith(" word…") and len(note) == len("  1  continue   ") + SHOWN


MISTAKES: list[tuple[str | Exception, str]] = [
    (UnicodeDecodeError("utf-8", b"\xe9", 0, 1, "invalid"), "the input is not UTF-8"),
    ("/xyz", "unknown command /xyz; /help lists them"),
    ("/tsk answer", "unknown command /tsk; did you mean /task?; /help lists them"),
    ("/Help", "unknown command /Help; did you mean /help?"),
    ("{tmp}/latin.txt", "did you mean /file {tmp}/latin.txt?; /help lists them"),
    ("/", "unknown command /; /help lists them"),
    ("/task", "/task needs a name; choose from continue, answer"),
    ("/task sumarize", "unknown task 'sumarize'; did you mean summarize?; choose from continue, "),
    ("/set temprature=1", "repetition_penalty, no_repeat_ngram, seed, stop; did you mean temperat"),
    ("/task sing", "unknown task 'sing'; choose from continue, answer, summarize, document"),
    ("/set temprature=1", "expected NAME=VALUE, where NAME is one of max_new_tokens, temperature"),
    ("/set temperature", "expected NAME=VALUE"),
    ("/set log_probs=3", "expected NAME=VALUE"),
    ("/set temperature=warm", "temperature must be a number or none, got 'warm'"),
    ("/set temperature=true", "temperature must be a finite number, got True"),
    ("/set temperature=NaN", "temperature must be a finite number"),
    ("/set temperature=-1", "temperature must be 0, or at"),
    ("/set top_k=2.5", "top_k must be a whole number or None, got 2.5"),
    ("/set top_p=1.5", "top_p must be above 0 and at most 1"),
    ("/set seed=none", "seed must be a whole number, got None"),
    ("/set seed=" + "[" * 100_000, "seed must be a number or none"),
    *((f"/again {n}", "no prompt ") for n in ("0", "2", "-1", "x", "²", "9" * 5000)),
    ("/file {tmp}/none.txt", "{tmp}/none.txt does not exist; check the path"),
    ("/file ~no-such-user/a.txt", "~no-such-user/a.txt does not exist"),
    ("/file", "/file needs a path: /file PATH"),
    ("/file   ", "/file needs a path"),
    ("/file {tmp}", "{tmp} is a folder; name one of its files"),
    ("/file {tmp}/latin.txt", "latin.txt is not UTF-8 (byte 3)"),
]


@pytest.mark.parametrize(("typed", "message"), MISTAKES, ids=lambda x: str(x)[:25])
def test_a_mistake_prints_one_line_and_changes_nothing(
    typed: str | Exception, message: str, tmp_path: Path
) -> None:
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    typed = typed.replace("{tmp}", str(tmp_path)) if isinstance(typed, str) else typed
    talk = hold("A", typed, "B")
    assert talk.asked == [(None, "A"), (None, "B")]
    assert talk.settings == [Sampling(temperature=0.5)] * 2
    [note] = talk.notes
    assert note.startswith("error: ") and message.replace("{tmp}", str(tmp_path)) in note


@pytest.mark.parametrize(
    ("struck", "note"),
    [
        (CTRL_C, "(stopped)"),
        (DataError("it does not fit"), "error: it does not fit"),
        (OSError(errno.ENOSPC, "No space left"), "error: No space left"),
    ],
)
def test_an_error_or_ctrl_c_during_a_reply_does_not_end_the_session(
    struck: BaseException, note: str
) -> None:
    talk = hold("A", "B", "/again 1", struck=struck)
    assert talk.notes == [note] and talk.asked == [(None, "A"), (None, "B"), (None, "A")]


@pytest.mark.parametrize("struck", [ZeroDivisionError(), BrokenPipeError(errno.EPIPE, "pipe")])
def test_a_bug_or_a_broken_pipe_ends_the_session(struck: BaseException) -> None:
    with pytest.raises(type(struck)):
        hold("A", "B", struck=struck)


def test_ctrl_c_discards_what_is_being_typed() -> None:
    talk = hold(CTRL_C, '"""', "half", CTRL_C, "/task answer", "A", CTRL_C, "/task continue", "B")
    assert talk.asked == [(None, "B")] and talk.notes == [LEAVE, "(stopped)", "(stopped)"]


def test_ctrl_c_at_rest_says_how_to_leave_and_a_second_one_leaves() -> None:
    talk = hold("A", CTRL_C, CTRL_C, "B")
    assert talk.asked == [(None, "A")] and talk.notes == ["(Ctrl-C again, Ctrl-D or /quit leaves)"]
    talk = hold("A", CTRL_C, "B", CTRL_C, "", CTRL_C, "C", struck=CTRL_C)
    assert talk.asked == [(None, x) for x in "ABC"] and talk.notes == ["(stopped)", *[LEAVE] * 3]


def test_quit_and_ctrl_d_end_the_session() -> None:
    assert hold("A", " /quit ", "B").asked == hold("A", EOFError(), "B").asked == [(None, "A")]
    assert hold("/task answer", "A.", EOFError(), "B.", "C?").asked == []


@pytest.mark.parametrize(
    ("library", "is_whole"),
    [("8.2", True), ("7.0", True), ("6.3", False), ("EditLine wrapper", False), (None, False)],
)
def test_pastes_stay_whole_only_with_gnu_readline_on_a_terminal(
    library: str | None, is_whole: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    editor = mock.Mock(_READLINE_LIBRARY_VERSION=library)
    monkeypatch.setitem(sys.modules, "readline", editor if library else None)
    terminal = mock.Mock(**{"isatty.return_value": True})
    monkeypatch.setattr(sys, "stdin", terminal)
    with redirect_stdout(terminal):
        assert repl.keeps_pastes_whole() == is_whole
    if is_whole:
        editor.parse_and_bind.assert_called_once_with("set enable-bracketed-paste on")
    with redirect_stdout(io.StringIO()):
        assert not repl.keeps_pastes_whole(), "input() bypasses the line editor"


def test_a_session_that_splits_pastes_says_so() -> None:
    err = io.StringIO()
    with mock.patch("builtins.input", side_effect=EOFError), redirect_stdout(io.StringIO()):
        with redirect_stderr(err):
            Repl(lambda *_: None, Sampling(), None).run()
    assert 'a pasted text ends at its first line break: put """ on a line' in err.getvalue()


def test_prompts_are_never_written_to_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    hold("A", '"""', "B", '"""', "/again", "/history", "/set seed=1", struck=DataError("C"))
    assert list(tmp_path.rglob("*")) == []
