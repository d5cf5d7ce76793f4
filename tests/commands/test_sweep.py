"""sweep.py: grid and TPE on validation folds, shared by processes, resumable, blind to test."""

import contextlib
import csv
import dataclasses
import importlib
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

import pytest
import torch

import sweep
from clingpt.base import console, settings
from clingpt.base.signals import StopSignals
from clingpt.data.prepared import FORMAT, Prepared
from clingpt.evaluation.metrics import classification
from clingpt.reports import plots
from clingpt.text.records import LABELS
from clingpt.training.search import (
    Outcome,
    Point,
    Result,
    Setting,
    Study,
    harmless,
    panels,
    parse_setting,
    ranked,
    table,
)
from tests.helpers.commands import ROOT, exit_status
from tests.helpers.folded import write_official
from tests.helpers.patience import PATIENCE
from train import TrainConfig

# Stand-ins for the commands, without torch; starts.txt lists the flags they were started with.
HEAD = """
import json, math, os, signal, sys, time
from pathlib import Path
here = Path(__file__).parent
given = [flag[2:].split("=", 1) for flag in sys.argv[1:] if flag.startswith("--")]
flags = dict(pair for pair in given if len(pair) == 2)
with (here / "starts.txt").open("a") as file:
    file.write(" ".join([Path(__file__).name, *sys.argv[1:]]) + chr(10))
out = Path(flags.get("out", here))
def ask(name):
    return (here / name).read_text() if (here / name).exists() else ""
if Path(__file__).stem in ask("broken"):
    print("error: it is broken; fix it")
    sys.exit(int(ask("status")))
"""
PREPARE = """
out.mkdir(parents=True)
held_out = "same" if ask("one_fold") else flags["fold"]
(out / "val.ids").write_text("" if ask("nothing") else f"record {held_out}" + chr(10))
(out / "manifest.json").write_text("{}")
"""
TRAIN = """
fold = int(flags["data"][-1])
if ask("fails") and ask("fails") in flags["out"]:
    print("some words", "error: =1+1 is no loss", "and a last word", sep=chr(10))
    sys.exit(1)
if ask("waits"):
    def save(number, frame):
        with (here / "saved").open("a") as file:
            file.write(f"{number} ")
        time.sleep(0.5)
        sys.exit(128 + number)
    signal.signal(signal.SIGTERM, save)
    (here / "ready").touch()
    time.sleep(60)
if ask("works"):
    print("reading: 2 records [00:01, 1.2 records/s]", "Mr Doe, 52 [sic]", sep=chr(10))
    print("training:  50% 1/2 [00:05<00:05,  5.0s/steps, loss 2.5]", flush=True)
    time.sleep(0.5)
loss = abs(math.log10(float(flags["learning_rate"])) + 4) + 0.1 * fold
if ask("nan") and ask("nan") in flags["out"]:
    loss = math.nan
(out / "step_000002").mkdir(parents=True, exist_ok=True)  # resumes, as train.py does
card = {"format": 1, "step": 2, "val_loss": loss, "settings": {"select": "loss"}}
(out / "step_000002/clingpt.json").write_text(json.dumps(card))
(out / "step_000002/model.safetensors").write_text("weights")
for name in ("best", "last"):
    if not (out / name).is_symlink():
        os.symlink("step_000002", out / name)
links = [os.path.realpath(path) for path in Path("/proc/self/fd").iterdir()]
(here / "fds").write_text(" ".join(links))
"""


def read_rows(out: Path) -> list[dict[str, str]]:
    """The rows of sweep.csv, one for each point."""
    return list(csv.DictReader((out / "sweep.csv").read_text().splitlines()))


@dataclasses.dataclass
class Bench:
    """A sweep of stand-in commands in a folder."""

    folder: Path
    preset: str = "config/tiny.py"
    asks_preset: bool = False  # what to train on, instead of preparing a source

    @property
    def out(self) -> Path:
        return self.folder / "out"

    def run(self, *flags: str, rates: str = "1e-3 1e-4", folds: str = "0 1") -> int:
        """Run sweep.py and return its exit status."""
        grid = ["--learning_rate", *rates.split(), "--folds", *folds.split()]
        source = ["--prepare_flags=--source=mine"]
        if self.asks_preset or settings.is_flag_given("prepare_flags", flags):
            source = []
        return exit_status(sweep.main, self.preset, *grid, f"--out={self.out}", *source, *flags)

    def say(self, **files: str) -> None:
        for name, text in files.items():
            (self.folder / name).write_text(text)

    def starts(self) -> list[str]:
        """Commands started since the last call."""
        path = self.folder / "starts.txt"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return lines

    def rows(self) -> list[dict[str, str]]:
        return read_rows(self.out)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    for name, text in (("prepare", PREPARE), ("train", TRAIN), ("eval", "")):
        (tmp_path / f"{name}.py").write_text(HEAD + text)
    monkeypatch.setattr(sweep, "__file__", str(tmp_path / "sweep.py"))
    return Bench(tmp_path)


def test_grid_trains_every_point_on_every_fold_and_names_the_best(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench.run("--epochs", "1", "2", rates="1e-3 1e-4 1e-5") == 0
    starts = bench.starts()
    assert [line.split()[0] for line in starts] == ["prepare.py"] * 2 + ["train.py"] * 12
    assert len(set(starts)) == 14
    assert "--epochs=2 --batch_size=16 --steps=None --min_lr=1e-06" in starts[4]
    rows = bench.rows()
    assert [float(row["learning_rate"]) for row in rows[:2]] == [1e-4, 1e-4]
    assert float(rows[0]["val_loss"]) == pytest.approx(0.05)  # 0 on fold 0, 0.1 on fold 1
    assert float(rows[0]["val_loss_sd"]) == pytest.approx(0.1 / 2**0.5)
    assert [row["folds"] for row in rows] == ["2"] * 6
    printed = capsys.readouterr().out
    assert printed.index("0.0001") < printed.index("0.001 ")
    assert (bench.out / "sweep.svg").read_text().startswith("<svg")
    # The suggested command trains on data that exists, into a folder that does not.
    command = shlex.split(printed.split("Next:  ")[1])
    assert command[:2] == [console.python(), "train.py"]
    best = settings.parse(TrainConfig, command[2:], prog="", description="", preset=True)
    assert (best.learning_rate, best.min_lr, best.steps) == (1e-4, 1e-5, None)
    assert (best.data / "manifest.json").exists() and not best.out.exists()
    assert (
        best.out.parent == bench.folder
    )  # not in the sweep's folder, where it would look like a run


def test_finished_runs_are_not_repeated_and_points_can_be_added(bench: Bench) -> None:
    assert bench.run() == 0
    before, _ = bench.rows(), bench.starts()
    assert bench.run() == 0
    assert bench.starts() == [] and bench.rows() == before
    assert bench.run(rates="1e-3 1e-4 3e-5") == 0
    assert len(bench.rows()) == 3
    assert [("3e-05" in line) for line in bench.starts()] == [True, True]
    assert bench.run(folds="0 1 2") == 0
    assert [line.split()[0] for line in bench.starts()] == ["prepare.py", "train.py", "train.py"]


@pytest.mark.parametrize("keep", [False, True])
def test_weights_are_deleted_once_measured_unless_kept(bench: Bench, keep: bool) -> None:
    assert bench.run(f"--keep_checkpoints={keep}") == 0
    runs = sorted(bench.out.glob("learning_rate*/fold[01]"))
    assert len(runs) == 4
    for run in runs:
        assert (run / "result.json").exists()
        left = {path.name for path in run.iterdir()} - {"result.json"}
        assert left == ({"step_000002", "best", "last"} if keep else set())


@pytest.mark.parametrize(
    ("ids", "n_prepared"), [(["S1", "S2"], 0), (["21645374", "16418930"], 2)], ids=["own", "folds"]
)
def test_a_sweep_uses_the_data_of_its_preset(
    ids: list[str], n_prepared: int, bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    """It once asked the Hub for PubMedQA, whatever the preset trained on."""
    data = bench.folder / "mine0"
    bench.preset, bench.asks_preset = str(bench.folder / "preset.py"), True
    Path(bench.preset).write_text(f"data = {str(data)!r}\n")
    assert bench.run(rates="1e-3") == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"error: {data}, the data of {bench.preset}, is not prepared; ")
    data.mkdir()
    made = {"source": "my.json", "block_size": 64, "tasks": ["answer"]}
    manifest = {"format": FORMAT, "tokenizer": "", "settings": made, "counts": {}, "files": {}}
    (data / "manifest.json").write_text(json.dumps(manifest))
    (data / "val.ids").write_text("".join(f"{name}\n" for name in ids))
    assert bench.run("--train_flags=--steps=6", rates="1e-3") == 0
    starts = bench.starts()
    prepared = [line for line in starts if line.startswith("prepare.py")]
    assert len(prepared) == n_prepared and len(starts) == n_prepared + (n_prepared or 1)
    for line in prepared:
        assert "--source=my.json --block_size=64 --tasks answer" in line
    if not n_prepared:
        assert f" --steps=6 --min_lr=0.0001 --data={data} " in starts[0]
        assert f" --data={data} " in capsys.readouterr().out


def test_the_progress_of_a_run_is_reported_once_a_minute(
    bench: Bench, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.say(works="yes")
    assert bench.run(rates="1e-3", folds="0") == 0
    line = "training:  50% 1/2 [00:05<00:05,  5.0s/steps, loss 2.5]"
    assert line not in capsys.readouterr().err  # over in less than a minute
    monkeypatch.setattr(console, "LINE_EVERY_S", 0.3)
    assert bench.run(rates="1e-4", folds="0") == 0
    told = capsys.readouterr().err
    assert line in told and "Doe" not in told


def test_failed_run_is_reported_and_retried_by_the_next_command(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.say(fails="learning_rate0.0001_epochs5_batch_size16/fold1")
    assert bench.run() == 1
    captured = capsys.readouterr()
    assert "failed: train.py: =1+1 is no loss" in captured.err
    assert captured.err.strip().splitlines()[-1].startswith("error: 1 of 4 runs failed")
    assert " train.py config/tiny.py --learning_rate=0.001" in captured.out
    first, last = bench.rows()  # a mean over fewer folds cannot win
    assert (first["learning_rate"], first["failed_folds"]) == ("0.001", "0")
    assert (last["folds"], last["failed_folds"]) == ("1", "1")
    assert "=1+1 is no loss" in last["reason"]
    bench.starts()
    bench.say(fails="")
    assert bench.run() == 0
    [line] = bench.starts()
    assert "--learning_rate=0.0001" in line and "fold1" in line
    assert bench.rows()[0]["learning_rate"] == "0.0001"


def test_run_with_a_non_finite_loss_fails_alone(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.say(nan="learning_rate0.001_epochs5_batch_size16/fold0")
    assert bench.run() == 1
    assert "has no finite val_loss" in capsys.readouterr().err
    assert [row["failed_folds"] for row in bench.rows()] == ["0", "1"]


def test_no_best_point_is_named_if_all_fail(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.say(broken="train", status="1")
    assert bench.run() == 1
    captured = capsys.readouterr()
    assert captured.err.strip().splitlines()[-1].startswith("error: none of 2 points has a result")
    assert "Next" not in captured.out


@pytest.mark.parametrize(
    ("files", "flags", "status", "phrase", "n_started"),
    [
        ({"broken": "prepare", "status": "1"}, [], 1, "prepare.py: it is broken; fix it", 1),
        # Wrong flags are wrong for all points, so nothing else is started.
        ({"broken": "train", "status": "2"}, [], 2, "train.py: it is broken; fix it", 3),
        ({"one_fold": "yes"}, [], 1, "both hold out record record same", 2),
        ({"nothing": "yes"}, [], 1, "contains no validation record", 2),
        ({}, ["--epochs", "0"], 2, "epochs must be above 0", 0),
        ({}, ["--epochs", "3", "3"], 2, "epochs names a value twice", 0),
        ({}, ["--batch_size="], 2, "batch_size is empty", 0),
        ({}, ["--batch_size=0"], 2, "batch_size must be at least 1", 0),
        ({}, ["--lerning_rate=1"], 2, "did you mean --learning_rate", 0),
        ({}, ["--search", "dropot=0,0.1"], 2, "did you mean dropout?", 0),
        ({}, ["--search", "tracker=1"], 2, "'tracker' is not a numeric setting", 0),
        ({}, ["--search", "dropout=0..x"], 2, "cannot read 'dropout=0..x'", 0),
        ({}, ["--search", "dropout="], 2, "cannot read 'dropout='", 0),
        ({}, ["--search", "dropout=nan"], 2, "dropout takes finite numbers", 0),
        ({}, ["--search", "batch_size=1..4.5"], 2, "batch_size takes whole numbers", 0),
        ({}, ["--search", "dropout=0.3..0.1"], 2, "is not a range", 0),
        ({}, ["--search", "dropout=0..0.3:log"], 2, "must start above 0", 0),
        ({}, ["--search", "dropout=0.1,0.1"], 2, "names a value twice", 0),
        ({}, ["--search", "dropout=0..0.3"], 2, "a grid needs the step of the range dropout", 0),
        ({}, ["--trials=0"], 2, "trials must be at least 1", 0),
        ({}, ["--train_flags=--epochs=6"], 2, "sets --epochs, which the sweep sets for each", 0),
        ({}, ["--train_flags=--out x"], 2, "sets --out, which the sweep sets for each", 0),
        ({}, ["--train_flags=--steps=6", "--epochs", "1", "2"], 2, "--epochs would change no", 0),
    ],
)  # fmt: skip
def test_a_users_mistake_prints_one_line(
    files: dict[str, str],
    flags: list[str],
    status: int,
    phrase: str,
    n_started: int,
    bench: Bench,
    capsys: pytest.CaptureFixture[str],
) -> None:
    bench.say(**files)
    assert bench.run(*flags) == status
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("error: ") and phrase in last
    assert len(bench.starts()) == n_started


@pytest.mark.parametrize(
    ("argv", "phrase"),
    [
        (["config/none.py"], "preset config/none.py does not exist"),
        ([], "--preset is required"),
        (["config/tiny.py", "--folds", "0", "10"], "folds must be at least 0 and below 10"),
        (["config/tiny.py", "--learning_rate=0"], "learning_rate must be above 0"),
    ],
)
def test_a_users_mistake_without_a_grid_prints_one_line(
    argv: list[str], phrase: str, bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_status(sweep.main, *argv, f"--out={bench.out}") == 2
    assert phrase in capsys.readouterr().err
    assert bench.starts() == []


@pytest.mark.parametrize("flag", ["--train_flags=--dropout=0.2", "--prepare_flags=--source=x.json"])
def test_folder_of_other_settings_is_refused(
    bench: Bench, flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench.run() == 0
    assert bench.run(flag) == 2
    name = flag.split("=")[0].removeprefix("--")
    assert f"was started with different {name}" in capsys.readouterr().err
    assert bench.run() == 0


def test_malformed_result_is_named(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.run() == 0
    path, *_ = sorted(bench.out.glob("learning_rate*/fold0/result.json"))
    for text in ("{", "[]", '{"format": 2}', '{"format": 1, "select": "loss"}'):
        path.write_text(text)
        assert bench.run() == 1
        said = capsys.readouterr().err
        assert str(path) in said and f"; remove {path.parent}\n" in said
    bench.starts()
    path.unlink()  # as the message says
    assert bench.run() == 0
    assert [line.split()[0] for line in bench.starts()] == ["train.py"]


@pytest.mark.parametrize("text", ["", "{", "[]", "\udcff"])
def test_malformed_settings_are_named(
    text: str, bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench.run() == 0
    path = bench.out / "sweep.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    assert bench.run() == 1
    assert f"error: {path} is damaged; remove it if" in capsys.readouterr().err
    path.unlink()
    assert bench.run() == 0


# ------------------------------------------------------------------------------------------------
# Signals and locks


def test_signal_reaches_the_run_once_and_the_same_command_resumes(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.say(waits="yes")

    def strike() -> None:
        deadline = time.monotonic() + 30 * PATIENCE
        while not (bench.folder / "ready").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=strike).start()
    assert bench.run() == 128 + signal.SIGTERM
    assert (bench.folder / "saved").read_text() == f"{signal.SIGTERM:d} "
    assert f"Stopped. To continue:  {console.python()} " in capsys.readouterr().out
    assert len(bench.starts()) == 3  # both folds' data and one run
    bench.say(waits="")
    assert bench.run() == 0
    assert len(bench.starts()) == 4


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_run_inherits_its_points_lock(bench: Bench) -> None:
    """A run that outlives its sweep must keep others out of its folder."""
    assert bench.run(rates="1e-3", folds="0") == 0
    point = bench.out / "learning_rate0.001_epochs5_batch_size16"
    assert str(point / ".lock") in (bench.folder / "fds").read_text().split()


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Deliver SIGINT as a terminal does; a process started with `&` would ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_second_signal_kills_the_run(bench: Bench, interruptible: None) -> None:
    process: list[int] = []
    code = "import os, signal, sys, time; signal.signal(2, signal.SIG_IGN); print(os.getpid());"
    command = [sys.executable, "-c", code + "sys.stdout.flush(); time.sleep(60)"]
    with (bench.folder / "log").open("w+") as log, StopSignals() as stop:
        stop.wait_for_steps(lambda: ("later", "losing nothing"))

        def strike() -> None:
            while not (text := (bench.folder / "log").read_text()).strip():
                time.sleep(0.02)
            process.append(int(text))
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(1)

        threading.Thread(target=strike).start()
        with pytest.raises(KeyboardInterrupt):
            sweep.Commands("", stop)._wait_for(command, log, log.fileno())
    with pytest.raises(ProcessLookupError):
        os.kill(process[0], 0)


# ------------------------------------------------------------------------------------------------
# The study


def test_tpe_keeps_to_its_ranges_and_its_budget(bench: Bench) -> None:
    flags = ["--sampler=tpe", "--trials=8", "--seed=3"]
    flags += ["--search", "learning_rate=1e-5..1e-3:log", "batch_size=2..8", "dropout=0,0.25"]
    assert bench.run(*flags, folds="0") == 0
    rows = bench.rows()
    assert len(rows) == 8
    assert all(1e-5 <= float(row["learning_rate"]) <= 1e-3 for row in rows)
    assert {int(row["batch_size"]) for row in rows} <= set(range(2, 9))
    assert {float(row["dropout"]) for row in rows} == {0.0, 0.25}
    assert len({row["learning_rate"] for row in rows}) == 8
    trained = [line for line in bench.starts() if line.startswith("train.py")]
    assert len(trained) == 8 and all("--dropout=0" in line for line in trained)
    assert bench.run(*flags, folds="0") == 0  # the budget is spent
    assert bench.starts() == [] and bench.rows() == rows


def test_interrupted_tpe_proposes_the_points_of_an_uninterrupted_one(tmp_path: Path) -> None:
    space = [Setting(name="x", low=0, high=1)]

    def proposals(folder: Path, *budgets: int) -> list[Point]:
        for n_trials in budgets:
            study = Study(folder, space, folds=[0], sampler="tpe", n_trials=n_trials)
            while trial := study.take():
                with trial:
                    loss = (trial.point.values[0][1] - 0.3) ** 2
                    results = {0: result(val_loss=loss)}
                    trial.finish(Outcome(point=trial.point, results=results, failures={}))
        return list(study.points())

    whole, pieces = (tmp_path / name for name in ("whole", "pieces"))
    whole.mkdir()
    pieces.mkdir()
    assert proposals(whole, 15) == proposals(pieces, 4, 11, 15)


def test_hopeless_point_is_pruned_and_cannot_win(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    """The stand-in's loss grows with the distance from 1e-4; the grid is tried in order."""
    rates = "5e-5 7e-5 1e-4 1.2e-4 1.1e-4 1e-2"
    assert bench.run("--prune=True", rates=rates, folds="0 1 2") == 0
    rows = bench.rows()
    assert [row["pruned"] for row in rows] == ["0"] * 5 + ["1"]
    assert (rows[-1]["learning_rate"], rows[-1]["folds"]) == ("0.01", "1")
    assert "stopped after 1 of 3 folds" in capsys.readouterr().err
    trained = [line for line in bench.starts() if line.startswith("train.py")]
    assert len(trained) == 5 * 3 + 1


def test_point_of_a_dead_process_is_run_again(tmp_path: Path) -> None:
    space = [Setting(name="x", values=(1.0, 2.0))]
    first, second = (Study(tmp_path, space, folds=[0]) for _ in range(2))
    first.queue()
    with contextlib.ExitStack() as stack:

        def take(study: Study) -> Point:
            trial = study.take()
            assert trial is not None
            return stack.enter_context(trial).point

        points = [take(first)]
        second.queue()
        with contextlib.ExitStack() as stack_of_second:
            trial = second.take()
            assert trial is not None
            points.append(stack_of_second.enter_context(trial).point)
            assert len(set(points)) == 2
            assert second.take() is None  # living processes hold both points
        assert take(first) == points[1]  # it was released without having finished


def test_processes_sharing_a_sweep_run_every_point_once(bench: Bench) -> None:
    """Start three processes and kill two at random moments: no run is lost or repeated."""
    rates = " ".join(f"{i}e-4" for i in range(1, 13))
    flags = ["config/tiny.py", "--learning_rate", *rates.split(), "--folds", "0"]
    flags += ["--prepare_flags=--source=mine"]
    code = f"""
import sys; sys.path.insert(0, {str(ROOT)!r})
import sweep
sweep.__file__ = {str(bench.folder / "sweep.py")!r}
sys.argv = ["sweep.py", *{[*flags, f"--out={bench.out}"]!r}]
sweep.console.run(sweep.main)
"""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        for _ in range(3)
    ]
    deadline = time.monotonic() + 120 * PATIENCE
    while len(list(bench.out.glob("learning_rate*/fold0/result.json"))) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    for process in processes[:2]:
        os.killpg(process.pid, signal.SIGKILL)
    for process in processes:
        process.wait(timeout=120 * PATIENCE)
    assert bench.run(rates=rates, folds="0") == 0
    assert len(bench.rows()) == 12
    trained = [line for line in bench.starts() if line.startswith("train.py")]
    # A run that a killed process had started is started again; any other runs once.
    assert 12 <= len(trained) <= 14
    assert len(set(trained)) == 12


def test_importances_name_the_setting_that_matters(tmp_path: Path) -> None:
    space = [Setting(name=name, values=(1.0, 2.0, 3.0, 4.0)) for name in ("matters", "idle")]
    study = Study(tmp_path, space, folds=[0])
    assert study.importances() == {}
    study.queue()
    while trial := study.take():
        with trial:
            results = {0: result(val_loss=dict(trial.point.values)["matters"])}
            trial.finish(Outcome(point=trial.point, results=results, failures={}))
    shares = study.importances()
    assert shares["matters"] > 0.9 and sum(shares.values()) == pytest.approx(1)


def test_missing_optuna_is_named(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert bench.run() == 1
    assert capsys.readouterr().err.startswith("error: the package optuna is not installed for ")
    assert bench.starts() == []


# ------------------------------------------------------------------------------------------------
# Figures


def point_of(**values: float) -> Point:
    return Point(tuple(values.items()))


def outcome(
    rate: float = 1e-4,
    *,
    results: Mapping[int, Result] | None = None,
    failures: Mapping[int, str] | None = None,
) -> Outcome:
    point = point_of(learning_rate=rate, epochs=3, batch_size=8)
    return Outcome(point=point, results=results or {}, failures=failures or {})


def result(confusion: list[list[int]] | None = None, **figures: float) -> Result:
    return Result(select="loss", step=1, figures=figures, confusion=confusion or [])


TYPES: dict[str, type] = {"learning_rate": float, "epochs": float, "batch_size": int}


def test_grid_is_every_combination(tmp_path: Path) -> None:
    texts = ("learning_rate=1e-3,1e-5", "epochs=3..8:2.5", "batch_size=8,16")
    study = Study(tmp_path, [parse_setting(text, TYPES) for text in texts], folds=[0])
    study.queue()
    points = list(study.points())
    assert len(points) == 12 == len({point.name for point in points})
    assert points[0].name == "learning_rate1e-05_epochs3_batch_size8"
    assert points[3].flags == ["--learning_rate=1e-05", "--epochs=5.5", "--batch_size=16"]


def test_ranges_are_read() -> None:
    setting = parse_setting("learning_rate=1e-5..1e-3:log", TYPES)
    assert (setting.low, setting.high, setting.log, setting.step) == (1e-5, 1e-3, True, None)
    setting = parse_setting("batch_size=4..16:4", TYPES)
    assert setting.grid == (4, 8, 12, 16) and setting.is_int
    # A step that binary fractions miss must not lose the last value.
    assert parse_setting("epochs=0.1..0.7:0.1", TYPES).grid[-1] == pytest.approx(0.7)


def test_labels_of_all_folds_are_scored_together() -> None:
    """A mean over folds would differ, because a fold without maybe has no F1 for it."""
    first, second = [[3, 1, 0], [2, 4, 0], [0, 0, 0]], [[1, 0, 1], [0, 1, 0], [1, 0, 2]]
    pooled = outcome(results={0: result(first, val_macro_f1=0.1), 1: result(second)})
    gold, said = [], []
    for tables in (first, second):
        for i, row in enumerate(tables):
            for j, n in enumerate(row):
                gold += [LABELS[i]] * n
                said += [LABELS[j]] * n
    expected = classification(gold, said)
    assert pooled.value("accuracy") == expected.accuracy == 11 / 16
    assert pooled.value("macro_f1") == pytest.approx(expected.macro_f1)
    low, high = pooled.interval("accuracy")
    assert (low, high) == (expected.accuracy_interval.low, expected.accuracy_interval.high)
    halves = [outcome(results={0: result(each)}).value("macro_f1") for each in (first, second)]
    assert abs(sum(half or 0 for half in halves) / 2 - expected.macro_f1) > 0.05
    printed = table([pooled], "macro_f1")
    assert "68.8" in printed and "val_macro_f1" not in printed


def test_folds_without_labels_are_averaged() -> None:
    found = outcome(results={0: result(val_loss=2, val_rougeL=10), 1: result(val_loss=4)})
    assert found.value("loss") == 3 and found.interval("loss") == (3 - 2**0.5, 3 + 2**0.5)
    assert found.value("rougeL") is None and found.value("accuracy") is None
    single = outcome(results={0: result(val_loss=2)})
    assert single.interval("loss") == (2, 2) and "2.0000" in table([single], "loss")


def test_best_point_comes_first_and_incomplete_points_last() -> None:
    def losses(rate: float, *values: float, **changes: Any) -> Outcome:
        results = {fold: result(val_loss=x, val_rougeL=x) for fold, x in enumerate(values)}
        return outcome(rate, results=results, **changes)

    good, bad = losses(1e-5, 1, 2), losses(1e-3, 3, 4)
    partial = losses(1e-4, 0.5, failures={1: "no"})
    none = outcome(3e-4, failures={0: "no"})
    order = [good, bad]
    assert ranked([partial, bad, good], "loss") == [*order, partial]
    assert ranked([partial, bad, good], "rougeL") == [bad, good, partial]
    assert ranked([none, bad, good], "loss") == [*order, none]
    assert ranked([bad, losses(4e-4, 1, 2), good], "loss")[2] == bad
    equal = [
        outcome(r, results={0: result([[1, 0, 0]] * 3, val_loss=x)}) for r, x in ((1, 9), (2, 8))
    ]
    assert [dict(each.point.values)["learning_rate"] for each in ranked(equal, "accuracy")] == [
        2,
        1,
    ]


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_no_cell_is_executed_by_a_spreadsheet(text: str) -> None:
    assert harmless(text) == "'" + text
    assert harmless("loss " + text) == "loss " + text


def test_plot_has_a_panel_for_each_setting_that_varies() -> None:
    outcomes = [
        dataclasses.replace(
            outcome(results={0: result(val_loss=rate * 1e4)}),
            point=point_of(learning_rate=rate, epochs=epochs, batch_size=8),
        )
        for rate in (1e-4, 1e-5)
        for epochs in (3, 5)
    ]
    outcomes.append(outcome(1e-3, failures={0: "no"}))
    found = panels(outcomes, "loss")
    assert found["learning_rate"] == [(1e-5, 0.1, 0.1, 0.1)] * 2 + [(1e-4, 1.0, 1.0, 1.0)] * 2
    assert [row[0] for row in found["epochs"]] == [3, 3, 5, 5]
    assert "batch_size" not in found
    svg = plots.search(found, "loss")
    assert svg and "learning rate" in svg and "epochs" in svg
    assert plots.search({}, "loss") is None


# ------------------------------------------------------------------------------------------------
# The commands themselves


def in_this_process(commands: sweep.Commands, command: list[str], output: TextIO, lock: int) -> int:
    """Run a command in this process instead of a subprocess; return its exit status."""
    module = importlib.import_module(Path(command[1]).stem)
    random_numbers = torch.get_rng_state()
    try:
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            return exit_status(module.main, *command[2:])
    finally:
        console.mute(unless=True)
        torch.set_rng_state(random_numbers)


@pytest.fixture
def blind_to_test(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The splits that are opened; opening the test split raises AssertionError."""
    opened: list[str] = []
    for name in ("split", "records", "record_ids"):
        plain = getattr(Prepared, name)

        def method(self: Prepared, split: str, *, plain: Any = plain) -> Any:
            assert split != "test", f"{plain.__name__} was asked for test records"
            opened.append(split)
            return plain(self, split)

        monkeypatch.setattr(Prepared, name, method)
    yield opened


@pytest.mark.slow
def test_test_split_is_never_read_and_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, blind_to_test: list[str]
) -> None:
    """The same grid on two sources that differ only in their test records, by the real commands."""
    monkeypatch.setattr(sweep.Commands, "_wait_for", in_this_process)
    flags = ["--learning_rate=1e-2", "--epochs=2", "--batch_size=4", "--folds", "0", "1"]
    flags += ["--train_flags=--block_size=128 --select=macro_f1 --eval_records=4 --sample=False"]
    for seed in (0, 1):
        source = write_official(tmp_path / f"{seed}.json", test_seed=seed)
        prepare = f"--prepare_flags=--source={source} --tasks=answer --block_size=128"
        out = f"--out={tmp_path / f'sweep{seed}'}"
        assert exit_status(sweep.main, "config/tiny.py", *flags, prepare, out) == 0
    first, second = (tmp_path / f"sweep{seed}" for seed in (0, 1))
    for name in ("sweep.csv", "learning_rate0.01_epochs2_batch_size4/fold0/result.json",
                 "learning_rate0.01_epochs2_batch_size4/fold1/result.json"):  # fmt: skip
        assert (first / name).read_bytes() == (second / name).read_bytes()
    held_out = [(folder / "data/fold0/test.jsonl").read_text() for folder in (first, second)]
    assert held_out[0] != held_out[1]  # otherwise the comparison would prove nothing
    assert {"train", "val"} == set(blind_to_test)
    [row] = read_rows(first)
    assert row["folds"] == "2" and 8 * float(row["accuracy"]) in range(9)
    confusions = [
        json.loads(
            (first / f"learning_rate0.01_epochs2_batch_size4/fold{n}/result.json").read_text()
        )["confusion"]
        for n in (0, 1)
    ]
    assert [sum(map(sum, table)) for table in confusions] == [4, 4]  # every held-out record
