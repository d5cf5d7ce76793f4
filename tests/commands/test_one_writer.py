"""Every command that writes refuses what another process is writing, and works without symlinks."""

import errno
import importlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import audit
import export
import prepare
import sample
from clingpt.base.files import Owner, one_writer
from clingpt.nn.checkpoint import RunFolder, read_card
from tests.helpers.commands import here, signal_in_step, train_here
from tests.helpers.exports import make_checkpoint
from tests.helpers.models import make_tiny_model

evaluate = importlib.import_module("eval").main  # a builtin's name


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("out") / "run" / "step_000013"
    return make_checkpoint(folder, make_tiny_model(vocab_size=50257, block_size=256))


def nothing_else(*_: object, **__: object) -> None:
    raise AssertionError("the lock is taken before anything slow is done")


@pytest.mark.parametrize(
    ("main", "flags", "flag", "inside"),
    [
        (prepare.main, ["--source=synthetic"], "--out", False),
        (sample.main, ["--input=notes.jsonl", "--task=answer"], "--output", False),
        (evaluate, ["--device=cpu"], "--out", True),
        (audit.main, ["--device=cpu"], "--out", True),
        (export.main, ["--format=hf"], "--out", False),
    ],
    ids=["prepare", "sample", "eval", "audit", "export"],
)
def test_the_second_command_ends_at_once_and_names_the_first(
    main: Callable[[], None],
    flags: list[str],
    flag: str,
    inside: bool,
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("prepare.count_records", "sample.load_to_use", "audit.load_to_use"):
        monkeypatch.setattr(name, nothing_else)
    monkeypatch.setattr("eval.load_to_use", nothing_else)
    monkeypatch.setattr("export.load_to_use", nothing_else)
    if main is not prepare.main:
        flags = [*flags, f"--checkpoint={checkpoint}"]
    with one_writer(tmp_path / "mine", inside=inside):
        done = here(main, *flags, f"{flag}={tmp_path / 'mine'}")
    me = Owner()
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(
        f"error: {tmp_path / 'mine'} is being written by {me.command}, process {me.pid} on "
        f"{me.host}, since "
    )
    assert done.stderr.endswith(f"stop it (kill {me.pid}), or choose another {flag}\n")
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_is_refused_as_the_real_run_would_be(tmp_path: Path) -> None:
    flags = ["--source=synthetic", "--synthetic_records=8", "--synthetic_held_out=2", "--dry_run"]
    with one_writer(tmp_path / "data"):
        done = here(prepare.main, *flags, f"--out={tmp_path / 'data'}")
    assert done.returncode == 1 and "is being written by" in done.stderr
    assert here(prepare.main, *flags, f"--out={tmp_path / 'data'}").returncode == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("main", "flags", "during", "left"),
    [
        (prepare.main, ["--source=synthetic"], "prepare.count_records", "nothing was written"),
        (
            sample.main,
            ["--input=questions.jsonl", "--device=cpu"],
            "sample.generate",
            "replies so far are in {target}; run the same command to continue",
        ),
        (
            evaluate,
            ["--device=cpu"],
            "eval.open_data",
            "run the same command to continue after the last result",
        ),
        (
            audit.main,
            ["--device=cpu"],
            "audit.open_data",
            "nothing was written; run the same command to start again",
        ),
        (
            export.main,
            ["--format=hf"],
            "export.write_companions",
            "nothing was written; run the same command to start again",
        ),
    ],
    ids=["prepare", "sample", "eval", "audit", "export"],
)
def test_after_ctrl_c_a_command_says_what_is_left(
    main: Callable[[], None],
    flags: list[str],
    during: str,
    left: str,
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(during, interrupted)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "questions.jsonl").write_text('{"prompt": "Why"}\n')
    target = tmp_path / "target"
    if main is not prepare.main:
        flags = [*flags, f"--checkpoint={checkpoint}"]
    done = here(main, *flags, f"--{'output' if main is sample.main else 'out'}={target}")
    assert done.returncode == 130
    last = done.stderr.splitlines()[-1]
    assert last == f"interrupted: {left.format(target=target)}"
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_run_has_one_trainer_and_any_number_of_readers(
    thirteen: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, flags = tmp_path / "run", [f"--data={thirteen}", "--sample=False", "--steps=1"]
    assert train_here(*flags, f"--out={run}") == 0
    before = sorted(path.name for path in run.rglob("*"))
    with one_writer(run, inside=True):
        capsys.readouterr()
        assert train_here(*flags, "--steps=2", f"--out={run}") == 1
        assert capsys.readouterr().err.startswith(f"error: {run} is being written by ")
        reply = here(sample.main, f"--checkpoint={run}", "--prompt=Why", "--max_new_tokens=2")
        assert reply.returncode == 0, reply.stderr
        measured = here(evaluate, f"--checkpoint={run}/best", "--texts=0", "--device=cpu")
        assert measured.returncode == 0, measured.stderr
    new = {path.name for path in run.rglob("*")} - {*before}
    assert "eval_val" in new and ".lock" not in new


def test_a_signal_while_training_is_answered_at_once(
    thirteen: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [f"--data={thirteen}", "--sample=False", "--steps=9", f"--out={tmp_path / 'run'}"]
    with signal_in_step(3, here=True):
        assert train_here(*flags) == 143
    said = capsys.readouterr().err
    assert f"stopping after this step; kill {os.getpid()} to stop now, losing 2 steps\n" in said
    assert list(RunFolder(tmp_path / "run").steps()) == [3]


def test_an_evaluation_survives_that_training_deletes_its_checkpoint(
    thirteen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    flags = [f"--data={thirteen}", "--sample=False", "--steps=1", f"--out={run}"]
    assert train_here(*flags) == 0
    plain = importlib.import_module("eval").write_report

    def pruned(*args: Any) -> None:
        plain(*args)
        shutil.rmtree(run / "step_000001")

    monkeypatch.setattr("eval.write_report", pruned)
    done = here(evaluate, f"--checkpoint={run}/best", "--texts=0", "--device=cpu")
    assert done.returncode == 0, done.stderr
    assert (
        f"{run}/step_000001 was deleted during the evaluation; its card was not written"
        in done.stderr
    )
    assert (run / "eval_val" / "report.json").exists() and not (run / "step_000001").exists()


def test_every_command_follows_best_where_symbolic_links_fail(
    thirteen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def symlink(*_: object, **__: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr("os.symlink", symlink)
    run, flags = tmp_path / "run", [f"--data={thirteen}", "--sample=False"]
    for steps in (1, 2):  # the second resumes
        assert train_here(*flags, f"--steps={steps}", f"--out={run}") == 0
    assert [(run / name).read_text() for name in ("best", "last")] == ["step_000002\n"] * 2
    best = f"--checkpoint={run}/best"
    assert here(evaluate, best, "--texts=0", "--device=cpu").returncode == 0
    assert (run / "step_000002" / "calibration.json").exists()
    assert (run / "eval_val" / "report.json").exists()
    questions, replies = tmp_path / "questions.jsonl", tmp_path / "replies.jsonl"
    questions.write_text('{"prompt": "Why"}\n{"prompt": "How"}\n')
    to_file = [f"--input={questions}", f"--output={replies}", "--max_new_tokens=2"]
    assert here(sample.main, best, *to_file).returncode == 0
    assert len(replies.read_text().splitlines()) == 2
    made_with = json.loads((tmp_path / "replies.jsonl.settings.json").read_text())
    assert made_with["checkpoint"] == str(run / "step_000002")
    assert here(export.main, best, "--format=hf", f"--out={tmp_path / 'hf'}").returncode == 0
    assert ".lock" not in (tmp_path / "hf" / "SHA256SUMS").read_text()
    probes = ["--records=2", "--samples=0", "--device=cpu"]
    assert here(audit.main, best, *probes).returncode == 0
    assert (run / "audit" / "audit.json").exists()
    again = tmp_path / "again"
    assert train_here(*flags, "--steps=1", f"--out={again}", f"--init_from={run}/best") == 0
    assert read_card(RunFolder(again).newest() or again)["step"] == 1
