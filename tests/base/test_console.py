"""What users see: how commands end, safe text, tables, and figures with units."""

import contextlib
import errno
import io
import math
import os
import pty
import re
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from clingpt.base import console
from clingpt.base.errors import ConfigError, DataError

ROOT = Path(__file__).parents[2]


def raiser(error: BaseException) -> Callable[[], None]:
    def main() -> None:
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (ConfigError("no knob 'x'"), 2, "error: no knob 'x'"),
        (DataError("first\n  second\r\n\nthird"), 1, "error: first second third"),
        (DataError("id \x1b[2Jevil"), 1, "error: id \\x1b[2Jevil"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (
            FileNotFoundError(errno.ENOENT, "No such file or directory", "a  b.json"),
            1,
            "error: a  b.json: No such file or directory; check the path",
        ),
        (
            OSError(errno.ENOSPC, "No space left on device"),
            1,
            "error: No space left on device; free some space or choose another disk",
        ),
        (
            OSError(errno.EROFS, "Read-only file system", "a", None, "b"),
            1,
            "error: a -> b: Read-only file system; choose a writable location",
        ),
        (
            PermissionError(errno.EACCES, "Permission denied", "x"),
            1,
            "error: x: Permission denied; check its owner and permissions",
        ),
        (  # numpy's tofile
            OSError("12288 requested and 4096 written"),
            1,
            "error: 12288 requested and 4096 written; check that the disk has space and is still "
            "connected",
        ),
        (
            OSError(errno.EREMCHG, "Remote address changed", "a.csv"),
            1,
            "error: a.csv: Remote address changed; check that the disk has space and is still "
            "connected",
        ),
        (  # safetensors
            RuntimeError("I/O error: No space left on device (os error 28)"),
            1,
            "error: No space left on device; free some space or choose another disk",
        ),
        (  # MLflow's SQLite
            RuntimeError("(sqlite3.OperationalError) database or disk is full [SQL: …]"),
            1,
            "error: No space left on device; free some space or choose another disk",
        ),
        (
            MemoryError(),
            1,
            "error: Cannot allocate memory; close other programs, or use a machine with more "
            "memory",
        ),
        (
            RuntimeError("can't start new thread"),
            1,
            "error: Resource temporarily unavailable; raise the limit on processes (ulimit -u), or "
            "start fewer workers",
        ),
    ],
)
def test_run_reports_a_mistake_in_one_line(
    error: BaseException, status: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        console.run(raiser(error))
    captured = capsys.readouterr()
    assert (ended.value.code, captured.err, captured.out) == (status, f"{line}\n", "")


@pytest.mark.parametrize(
    "bug",
    [
        ValueError("x"),
        OSError(errno.ECHILD, "child"),
        io.UnsupportedOperation("not readable"),
        SystemExit(7),
    ],
)
def test_run_lets_other_exceptions_through(bug: BaseException) -> None:
    with pytest.raises(type(bug)) as escaped:
        console.run(raiser(bug))
    assert escaped.value is bug


@pytest.mark.parametrize(
    ("code", "status"), [(errno.ENOSPC, 1), (errno.EDQUOT, 1), (errno.ENOENT, None)]
)
def test_an_exception_raised_while_a_disk_fails_is_not_a_bug(
    code: int, status: int | None, capsys: pytest.CaptureFixture[str]
) -> None:
    """As torch.save does. But a missing file may be the reason of any bug."""

    def main() -> None:
        try:
            raise OSError(code, os.strerror(code))
        except OSError:
            raise RuntimeError("unexpected pos 64 vs 0")  # noqa: B904

    with pytest.raises(SystemExit if status else RuntimeError) as ended:
        console.run(main)
    if status:
        assert isinstance(ended.value, SystemExit) and ended.value.code == status
        assert capsys.readouterr().err.startswith(f"error: {os.strerror(code)}; free some space")


def test_run_returns_after_success(capsys: pytest.CaptureFixture[str]) -> None:
    console.run(lambda: console.say("done"))
    assert capsys.readouterr() == ("done\n", "")


def run_python(
    body: str, *, after: str = "", env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run `body` as a command's main in a shell line; the shell's `after` follows the command."""
    code = f"from clingpt.base import console\ndef main():\n    {body}\nconsole.run(main)"
    line = f'set -o pipefail; "$PYTHON" -c "$CODE" {after}'
    settings = {**os.environ, "PYTHON": sys.executable, "CODE": code, **(env or {})}
    settings.pop("PYTHONUNBUFFERED", None)  # or nothing would be left to flush at the end
    return subprocess.run(["bash", "-c", line], cwd=ROOT, env=settings, capture_output=True)


@pytest.mark.parametrize(
    "body",
    ["[console.say(str(i)) for i in range(100_000)]", "import time; time.sleep(1); print('late')"],
)
def test_a_closed_pipe_is_not_an_error(body: str) -> None:
    result = run_python(body, after="| head -c 1 >/dev/null" if "range" in body else "| true")
    assert (result.returncode, result.stderr) == (141, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_under_standard_output_is_reported_in_one_line() -> None:
    result = run_python("console.say('x')", after="> /dev/full")
    assert result.returncode == 1
    assert result.stderr.decode() == (
        "error: standard output: No space left on device; free some space or choose another disk\n"
    )


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_not_an_error(closed: str, tmp_path: Path) -> None:
    """What is printed must not end up in the next file that is opened."""
    path = tmp_path / "file"
    body = (
        f"import os, sys; file = open({str(path)!r}, 'w'); console.say('said'); "
        "console.note('noted'); os.write(1, b'by a library'); sys.stdin.read(); file.write('data')"
    )
    result = run_python(body, after=closed)
    assert result.returncode == 0
    assert path.read_text() == "data"
    assert (b"said" in result.stdout, b"noted" in result.stderr) == (
        " >&-" not in f" {closed}",
        "2>&-" not in closed,
    )


def test_a_bug_keeps_its_traceback() -> None:
    result = run_python("1 / 0")
    assert result.returncode == 1
    assert b"Traceback" in result.stderr


def test_a_narrow_encoding_does_not_stop_a_run() -> None:
    result = run_python(r"console.say('5 \u00b1 1')", env={"PYTHONIOENCODING": "ascii"})
    assert (result.returncode, result.stdout) == (0, b"5 \\xb1 1\n")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ± 5\tµg\n", "plain ± 5\tµg\n"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("over\rwrite\x08", "over\\rwrite\\x08"),
        ("\x9b2J\x7f", "\\x9b2J\\x7f"),
        ("a\u202eb\u2066", "a\\u202eb\\u2066"),
        ("\ud800", "\\ud800"),
    ],
)
def test_control_characters_are_escaped(
    text: str, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert console.visible(text) == shown
    console.say(text, end="")
    console.note(text)
    assert capsys.readouterr() == (shown, f"{shown}\n")


def test_styled_text_is_not_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    console.say(console.mark("a", trained=True, colour=True), styled=True)
    assert capsys.readouterr().out == "\x1b[1;32ma\x1b[0m\n"


@pytest.mark.parametrize(
    ("text", "trained", "colour", "marked"),
    [
        (" yes", True, False, "[[ yes]]"),
        ("Context:", False, False, "Context:"),
        (" yes", True, True, "\x1b[1;32m yes\x1b[0m"),
        ("Context:", False, True, "\x1b[2mContext:\x1b[0m"),
        ("\x1b[0mevil", True, True, "\x1b[1;32m\\x1b[0mevil\x1b[0m"),
        ("", True, False, ""),
    ],
)
def test_mark_shows_trained_text(text: str, trained: bool, colour: bool, marked: str) -> None:
    assert console.mark(text, trained=trained, colour=colour) == marked


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "env", "enabled"),
    [
        (Terminal(), {"TERM": "xterm"}, True),
        (Terminal(), {}, True),
        (Terminal(), {"NO_COLOR": ""}, True),  # no-color.org: when not empty
        (Terminal(), {"NO_COLOR": "1"}, False),
        (Terminal(), {"TERM": "dumb"}, False),
        (io.StringIO(), {"TERM": "xterm"}, False),
    ],
)
def test_colours_need_a_capable_terminal(
    stream: io.StringIO, env: dict[str, str], enabled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.delenv("TERM", raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert console.colour_enabled(stream) is enabled


@pytest.mark.parametrize(
    ("on_path", "running", "shown"),
    [
        ("env/bin/python", "env/bin/python3", "python"),
        ("other/bin/python", "env/bin/python", "env/bin/python"),  # both link to one interpreter
        (None, "env/bin/python", "env/bin/python"),
        (None, "../my env/bin/python", "'{above}/my env/bin/python'"),
    ],
)
def test_a_command_to_paste_starts_the_python_that_runs_now(
    on_path: str | None,
    running: str,
    shown: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here = tmp_path / "here"
    for name in {on_path or running, running, "env/bin/python"}:
        path = Path(os.path.normpath(here / name))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(sys.executable)
    monkeypatch.setattr(sys, "executable", os.path.normpath(here / running))
    monkeypatch.setenv("PATH", str((here / on_path).parent) if on_path else "")
    monkeypatch.chdir(here)
    start = shown.format(above=tmp_path)
    assert console.command("eval.py", "--checkpoint=my run/best") == (
        f"{start} eval.py '--checkpoint=my run/best'"
    )


@pytest.mark.parametrize(
    ("given", "script"),
    [
        (["python3", "train.py", "--out=x"], "train.py"),
        (["python3", "-m", "benchmarks", "train"], "-m benchmarks"),
    ],
)
def test_a_missing_package_names_the_environment_that_is_not_in_use(
    given: list[str], script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = ModuleNotFoundError("No module named 'torch'", name="torch.nn")
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/python").symlink_to(sys.executable)
    (tmp_path / "clingpt/base").mkdir(parents=True)
    monkeypatch.setattr(console, "__file__", str(tmp_path / "clingpt/base/console.py"))
    monkeypatch.setattr(sys, "orig_argv", given)
    monkeypatch.setattr(sys, "argv", given[1:])
    monkeypatch.chdir(tmp_path)
    missing = f"the package torch is not installed for {sys.executable}; run: "
    assert console.missing_package(error, "requirements.txt") == (
        f"{missing}.venv/bin/python {script} …, or activate the environment first: "
        ". .venv/bin/activate"
    )
    monkeypatch.setattr(sys, "prefix", str(tmp_path / ".venv"))  # it is in use
    assert console.missing_package(error, "requirements-serve.txt") == (
        f"{missing}{console.python()} -m pip install -r requirements-serve.txt"
    )


def test_a_missing_module_of_ours_is_a_bug() -> None:
    error = ModuleNotFoundError("No module named 'clingpt.x'", name="clingpt.x")
    assert console.missing_package(error, "requirements.txt") is None


def test_table_aligns_columns() -> None:
    rows = [("lead-3", 500, 31.2), ("GPT-2\x1b", 12_345, None)]
    assert console.table("Summaries", ["system", "n", "ROUGE-1"], rows).split("\n") == [
        "Summaries",
        "system          n  ROUGE-1",
        "---------  ------  -------",
        "lead-3        500    31.20",
        "GPT-2\\x1b  12,345        –",
    ]


def test_table_right_aligns_numbers_with_units_and_intervals() -> None:
    rows = [("55.2 (50.8–59.5)", "3 min 12 s"), ("8.1 (7.0–9.9)", "0.4 s")]
    last = console.table("", ["accuracy", "time"], rows).split("\n")[-1]
    assert last == "   8.1 (7.0–9.9)       0.4 s"


def test_table_wraps_long_text_to_the_page_width() -> None:
    long = "a --rather-long-flag=remark " * 10
    lines = console.table("", ["n", "remark", "path"], [(1, long, "x" * 130)]).split("\n")
    assert max(map(len, lines)) <= console.PAGE_COLUMNS
    assert sum(line.count("--rather-long-flag=remark") for line in lines) == 10  # flags stay whole
    assert sum(line.count("x") for line in lines) == 130


@pytest.mark.parametrize("width", [80, 110])
def test_a_table_fits_into_a_narrow_terminal(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    head = [
        "text",
        "split",
        "continued by",
        "perplexity of contexts",
        "longest run of correct tokens, %",
    ]
    row: list[console.Cell] = [
        "context, only shown",
        "training records",
        "the model",
        6_101_196.72,
        "9.4 (8.1–10.0)",
    ]
    lines = console.table("Title", head, [row, row]).split("\n")
    assert max(map(len, lines)) <= min(width, console.PAGE_COLUMNS)
    rules = [line for line in lines if set(line) == {"-", " "}]
    assert len(rules) == 1 and len(rules[0].split()) == len(head)  # whole, under the headings
    assert sum("6,101,196.72" in line for line in lines) == 2  # a number is never broken


def test_a_table_that_cannot_fit_becomes_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    head = ["system", *(f"perplexity{i}" for i in range(4))]
    lines = console.table("Title", head, [["GPT-2", 1, 2, 3, 4], ["lead", 5, 6, 7, 8]]).split("\n")
    assert lines[:3] == ["Title", "GPT-2", "  perplexity0  1"]
    assert lines[-1] == "  perplexity3  8" and max(map(len, lines)) <= 40


def test_table_without_rows_says_none() -> None:
    assert console.table("Spoons\x1b", ["a", "bc"], []) == "Spoons\\x1b: none"
    assert console.table("", ["a", "bc"], []).split("\n") == ["a  bc", "-  --"]


def test_a_ragged_table_raises() -> None:
    with pytest.raises(ValueError, match=r"zip\(\)"):
        console.table("", ["a", "b"], [("x",)])


def test_key_values_aligns_the_values() -> None:
    pairs: list[tuple[str, console.Cell]] = [
        ("steps", 12_000),
        ("folder", "out/x\r\ny\tz\x1b"),
        ("loss", None),
        ("pack", True),
    ]
    assert console.key_values("Run", pairs).split("\n") == [
        "Run",
        "  steps   12,000",
        "  folder  out/x y z\\x1b",
        "  loss    –",
        "  pack    True",
    ]
    assert console.key_values("", [("a", 1)]) == "  a  1"


def test_progress_is_silent_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(console.progress([1, 2], label="x")) == [1, 2]
    with console.progress_bar(label="x", total=3) as bar:
        bar.update(3)
    assert capsys.readouterr() == ("", "")


def test_progress_is_a_line_a_minute_in_a_pipe(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "LINE_EVERY_S", 0.1)
    with console.progress_bar(label="training", total=3, unit=" steps") as bar:
        bar.update(1)  # too soon
        time.sleep(0.12)
        for inner in console.progress(range(2), label="nested", total=2):
            time.sleep(0.12 * inner)
        bar.set_postfix_str("loss 2.5", refresh=False)
        bar.update(1)
        console.note("a note")  # redraws nothing
        bar.update(1)
    lines = capsys.readouterr().err.splitlines()
    plain = [re.sub(r"\d\d:\d\d.*steps/s", "…", line) for line in lines]
    assert plain[-3:] == [
        "training:  67% 2/3 […, loss 2.5]",
        "a note",
        "training: 100% 3/3 […, loss 2.5]",
    ]
    assert "\r" not in "".join(lines) and "nested: 100% 2/2 [" in lines[0] and len(lines) == 4


def test_progress_shows_on_a_terminal_and_notes_appear_above_it() -> None:
    reader, writer = pty.openpty()
    termios.tcsetwinsize(writer, (24, 80))
    body = "from clingpt.base import console\nfor i in console.progress(range(3), label='rows'):\n"
    body += "    console.note(f'note {i}')\n"
    with os.fdopen(writer, "wb") as terminal:
        subprocess.run([sys.executable, "-c", body], cwd=ROOT, stderr=terminal, check=True)
    shown = ""
    with contextlib.suppress(OSError):  # EIO at the end, when nothing is left to read
        while piece := os.read(reader, 100_000):
            shown += piece.decode()
    os.close(reader)
    assert "rows" in shown
    assert "3/3" in shown
    assert "\rnote 1\r\n" in shown  # on a line of its own, the bar wiped first


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (console.count(0), "0"),
        (console.count(1_234_567), "1,234,567"),
        (console.count(1, "record"), "1 record"),
        (console.count(0, "record"), "0 records"),
        (console.count(2_000, "entry", "entries"), "2,000 entries"),
        (console.count(1, "entry", "entries"), "1 entry"),
        (console.duration(0.04), "0.0 s"),
        (console.duration(59.94), "59.9 s"),
        (console.duration(59.96), "1 min 0 s"),
        (console.duration(192.4), "3 min 12 s"),
        (console.duration(3599.6), "1 h 0 min"),
        (console.duration(7500), "2 h 5 min"),
        (console.duration(97_200), "1 d 3 h"),
        (console.duration(math.inf), "–"),
        (console.size(0), "0 B"),
        (console.size(999), "999 B"),
        (console.size(1500), "1.5 kB"),
        (console.size(999_950), "1.0 MB"),
        (console.size(497_800_000), "497.8 MB"),
        (console.size(6_400_000_000), "6.4 GB"),
        (console.size(2_500_000_000_000), "2.5 TB"),
    ],
)
def test_counts_durations_and_sizes_are_readable(shown: str, expected: str) -> None:
    assert shown == expected


def test_a_muted_process_shows_only_its_errors(capsys: pytest.CaptureFixture[str]) -> None:
    console.mute(unless=True)
    console.note("heard")
    console.mute(unless=False)
    try:
        console.say("a result")
        console.note("a note")
        assert console.progress_bar(label="x", total=2).disable

        def main() -> None:
            raise ConfigError("wrong")

        with pytest.raises(SystemExit) as end:
            console.run(main)
        assert end.value.code == 2
    finally:
        console.mute(unless=True)
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err == "heard\nerror: wrong\n"
