"""sweep.py: a grid on folds that goes on, names what fails and never sees test records."""

import contextlib
import csv
import dataclasses
import importlib
import json
import os
import shlex
import signal
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
from clingpt.data.prepared import Prepared
from clingpt.evaluation.metrics import classification
from clingpt.reports.plots import learning_rates
from clingpt.text.records import LABELS
from clingpt.training.search import Outcome, Point, Result, curves, grid, harmless, ranked, table
from tests.helpers.commands import exit_status
from tests.helpers.folded import write_official
from train import TrainConfig

# Stand-ins for the commands, without torch: what they were given goes into starts.txt.
HEAD = """
import json, math, os, signal, sys, time
from pathlib import Path
here = Path(__file__).parent
flags = dict(flag[2:].split("=", 1) for flag in sys.argv[1:] if flag.startswith("--"))
with (here / "starts.txt").open("a") as file:
    file.write(" ".join([Path(__file__).name, *sys.argv[1:]]) + chr(10))
out = Path(flags.get("out", here))
def ask(name):
    return (here / name).read_text() if (here / name).exists() else ""
if Path(__file__).stem in ask("broken"):
    print("error: it is broken; mend it")
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
loss = abs(math.log10(float(flags["learning_rate"])) + 4) + 0.1 * fold
if ask("nan") and ask("nan") in flags["out"]:
    loss = math.nan
(out / "step_000002").mkdir(parents=True)
card = {"format": 1, "step": 2, "val_loss": loss, "settings": {"select": "loss"}}
(out / "step_000002/clingpt.json").write_text(json.dumps(card))
(out / "step_000002/model.safetensors").write_text("weights")
os.symlink("step_000002", out / "best")
os.symlink("step_000002", out / "last")
links = [os.path.realpath(path) for path in Path("/proc/self/fd").iterdir()]
(here / "fds").write_text(" ".join(links))
"""


def read_rows(out: Path) -> list[dict[str, str]]:
    """sweep.csv, a point a row."""
    return list(csv.DictReader((out / "sweep.csv").read_text().splitlines()))


@dataclasses.dataclass
class Bench:
    """A sweep of stand-ins in a folder."""

    folder: Path

    @property
    def out(self) -> Path:
        return self.folder / "out"

    def run(self, *flags: str, rates: str = "1e-3 1e-4", folds: str = "0 1") -> int:
        """Exit status; --learning_rate and --folds unless others are given."""
        grid = ["--learning_rate", *rates.split(), "--folds", *folds.split()]
        return exit_status(sweep.main, "config/tiny.py", *grid, f"--out={self.out}", *flags)

    def say(self, **files: str) -> None:
        for name, text in files.items():
            (self.folder / name).write_text(text)

    def starts(self) -> list[str]:
        """Commands started since the last time of asking."""
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


def test_every_point_is_trained_on_every_fold_and_the_best_is_named(
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
    # The next command is train.py's, on data that is there, in a folder that is not.
    command = shlex.split(printed.split("Next:  python ")[1])
    assert command[0] == "train.py"
    best = settings.parse(TrainConfig, command[1:], prog="", description="", preset=True)
    assert (best.learning_rate, best.min_lr, best.steps) == (1e-4, 1e-5, None)
    assert (best.data / "manifest.json").exists() and not best.out.exists()
    assert best.out.parent == bench.folder  # not in the sweep's folder, where it would be a run


def test_nothing_is_done_twice_and_more_points_may_come(bench: Bench) -> None:
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
def test_weights_go_once_they_are_measured(bench: Bench, keep: bool) -> None:
    assert bench.run(f"--keep_checkpoints={keep}") == 0
    runs = sorted(bench.out.glob("lr*/fold[01]"))
    assert len(runs) == 4
    for run in runs:
        assert (run / "result.json").exists()
        left = {path.name for path in run.iterdir()} - {"result.json"}
        assert left == ({"step_000002", "best", "last"} if keep else set())


def test_a_run_that_fails_is_named_and_tried_again(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.say(fails="lr0.0001_epochs5_batch16/fold1")
    assert bench.run() == 1
    captured = capsys.readouterr()
    assert "failed: train.py: =1+1 is no loss" in captured.err
    assert captured.err.strip().splitlines()[-1].startswith("error: 1 of 4 runs failed")
    assert "Next:  python train.py config/tiny.py --learning_rate=0.001" in captured.out
    first, last = bench.rows()  # a mean over other folds cannot win
    assert (first["learning_rate"], first["failed_folds"]) == ("0.001", "0")
    assert (last["folds"], last["failed_folds"]) == ("1", "1")
    assert "=1+1 is no loss" in last["reason"]
    bench.starts()
    bench.say(fails="")
    assert bench.run() == 0
    [line] = bench.starts()
    assert "--learning_rate=0.0001" in line and "fold1" in line
    assert bench.rows()[0]["learning_rate"] == "0.0001"


def test_a_run_without_a_number_fails_alone(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.say(nan="lr0.001_epochs5_batch16/fold0")
    assert bench.run() == 1
    assert "measured nothing" in capsys.readouterr().err
    assert [row["failed_folds"] for row in bench.rows()] == ["0", "1"]


def test_where_everything_fails_there_is_no_best(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.say(broken="train", status="1")
    assert bench.run() == 1
    captured = capsys.readouterr()
    assert captured.err.strip().splitlines()[-1].startswith("error: none of 2 points gave a result")
    assert "Next" not in captured.out


@pytest.mark.parametrize(
    ("files", "flags", "status", "phrase", "n_started"),
    [
        ({"broken": "prepare", "status": "1"}, [], 1, "prepare.py: it is broken; mend it", 1),
        # Flags that cannot be used are wrong for all points.
        ({"broken": "train", "status": "2"}, [], 2, "train.py: it is broken; mend it", 3),
        ({"one_fold": "yes"}, [], 1, "both hold out record record same", 2),
        ({"nothing": "yes"}, [], 1, "holds no validation record", 2),
        ({}, ["--epochs", "0"], 2, "epochs must be above 0", 0),
        ({}, ["--epochs", "3", "3"], 2, "epochs names a value twice", 0),
        ({}, ["--batch_size="], 2, "batch_size is empty", 0),
        ({}, ["--batch_size=0"], 2, "batch_size must be at least 1", 0),
        ({}, ["--lerning_rate=1"], 2, "did you mean --learning_rate", 0),
        ({}, ["--preset=config/none.py"], 2, "--preset is given twice", 0),
    ],
)  # fmt: skip
def test_mistakes_get_one_line(
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
        ([], "preset is missing"),
        (["config/tiny.py", "--folds", "0", "10"], "folds must be at least 0 and below 10"),
        (["config/tiny.py", "--learning_rate=0"], "learning_rate must be above 0"),
    ],
)
def test_mistakes_before_anything_is_there(
    argv: list[str], phrase: str, bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_status(sweep.main, *argv, f"--out={bench.out}") == 2
    assert phrase in capsys.readouterr().err
    assert bench.starts() == []


@pytest.mark.parametrize("flag", ["--train_flags=--dropout=0.2", "--prepare_flags=--source=x.json"])
def test_runs_of_other_settings_are_not_mixed_in(
    bench: Bench, flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench.run() == 0
    assert bench.run(flag) == 2
    name = flag.split("=")[0].removeprefix("--")
    assert f"was begun with another {name}" in capsys.readouterr().err
    assert bench.run() == 0


def test_a_result_that_is_none_is_named(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.run() == 0
    [path, *_] = bench.out.glob("lr*/fold0/result.json")
    for text in ("{", "[]", '{"format": 2}', '{"format": 1, "select": "loss"}'):
        path.write_text(text)
        assert bench.run() == 1
        assert f"{path} is not a result" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "{", "[]", "\udcff"])
def test_settings_that_are_none_are_named(
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


def test_a_signal_goes_to_the_run_once_and_the_same_command_goes_on(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.say(waits="yes")

    def strike() -> None:
        deadline = time.monotonic() + 30
        while not (bench.folder / "ready").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=strike).start()
    assert bench.run() == 128 + signal.SIGTERM
    assert (bench.folder / "saved").read_text() == f"{signal.SIGTERM:d} "
    assert "Stopped. To go on:  python " in capsys.readouterr().out
    assert len(bench.starts()) == 3  # both folds' data and one run
    bench.say(waits="")
    assert bench.run() == 0
    assert len(bench.starts()) == 4


def test_a_folder_is_swept_by_one_at_a_time(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    with sweep.locked(bench.out):
        assert bench.run() == 2
    assert "another sweep.py" in capsys.readouterr().err
    assert bench.starts() == []
    assert bench.run() == 0
    if sys.platform == "linux":  # a run that outlives its sweep keeps the lock
        assert str(bench.out / ".lock") in (bench.folder / "fds").read_text().split()


@pytest.fixture
def interruptible() -> Iterator[None]:
    """SIGINT as a terminal's Ctrl-C has it: what a shell starts behind `&` ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_second_signal_ends_the_run_as_well(bench: Bench, interruptible: None) -> None:
    process: list[int] = []
    code = "import os, signal, sys, time; signal.signal(2, signal.SIG_IGN); print(os.getpid());"
    command = [sys.executable, "-c", code + "sys.stdout.flush(); time.sleep(60)"]
    with (bench.folder / "log").open("w+") as log, StopSignals() as stop:
        stop.wait_for_steps()

        def strike() -> None:
            while not (text := (bench.folder / "log").read_text()).strip():
                time.sleep(0.02)
            process.append(int(text))
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(1)

        threading.Thread(target=strike).start()
        with pytest.raises(KeyboardInterrupt):
            sweep.Commands("", stop, log.fileno())._wait_for(command, log)
    with pytest.raises(ProcessLookupError):
        os.kill(process[0], 0)


# ------------------------------------------------------------------------------------------------
# Figures


def outcome(
    rate: float = 1e-4,
    *,
    results: Mapping[int, Result] | None = None,
    failures: Mapping[int, str] | None = None,
) -> Outcome:
    point = Point(learning_rate=rate, epochs=3, batch_size=8)
    return Outcome(point=point, results=results or {}, failures=failures or {})


def result(confusion: list[list[int]] | None = None, **figures: float) -> Result:
    return Result(select="loss", step=1, figures=figures, confusion=confusion or [])


def test_the_grid_is_every_combination() -> None:
    points = grid([1e-3, 1e-5], [3, 5.5], [8, 16])
    assert len(set(points)) == 8 == len({point.name for point in points})
    assert points[0].name == "lr1e-05_epochs3_batch8"
    assert points[3].flags == [
        "--learning_rate=1e-05", "--epochs=5.5", "--batch_size=16", "--steps=None"
    ]  # fmt: skip


def test_labels_of_all_folds_are_scored_as_one_set() -> None:
    """A mean over folds is another figure: a fold without maybe has no F1 for it."""
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
    low, high = pooled.reach("accuracy")
    assert (low, high) == (expected.accuracy_interval.low, expected.accuracy_interval.high)
    halves = [outcome(results={0: result(each)}).value("macro_f1") for each in (first, second)]
    assert abs(sum(half or 0 for half in halves) / 2 - expected.macro_f1) > 0.05
    printed = table([pooled], "macro_f1")
    assert "68.8" in printed and "val_macro_f1" not in printed


def test_without_labels_folds_are_averaged() -> None:
    found = outcome(results={0: result(val_loss=2, val_rougeL=10), 1: result(val_loss=4)})
    assert found.value("loss") == 3 and found.reach("loss") == (3 - 2**0.5, 3 + 2**0.5)
    assert found.value("rougeL") is None and found.value("accuracy") is None
    single = outcome(results={0: result(val_loss=2)})
    assert single.reach("loss") == (2, 2) and "2.0000" in table([single], "loss")


def test_the_best_comes_first_and_what_lacks_a_fold_last() -> None:
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
    assert [each.point.learning_rate for each in ranked(equal, "accuracy")] == [2, 1]


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_no_cell_is_carried_out_by_a_spreadsheet(text: str) -> None:
    assert harmless(text) == "'" + text
    assert harmless("loss " + text) == "loss " + text


def test_the_plot_has_a_line_a_series_and_a_point_a_rate() -> None:
    outcomes = [
        dataclasses.replace(
            outcome(rate, results={0: result(val_loss=rate * 1e4)}),
            point=Point(learning_rate=rate, epochs=epochs, batch_size=8),
        )
        for rate in (1e-4, 1e-5)
        for epochs in (3, 5)
    ]
    outcomes.append(outcome(1e-3, failures={0: "no"}))
    found = curves(outcomes, "loss")
    assert found == {
        f"{epochs} epochs, batch 8": [(1e-5, 0.1, 0.1, 0.1), (1e-4, 1.0, 1.0, 1.0)]
        for epochs in (3, 5)
    }
    svg = learning_rates(found, "loss")
    assert svg and "3 epochs, batch 8" in svg and "5 epochs, batch 8" in svg
    assert learning_rates({}, "loss") is None


# ------------------------------------------------------------------------------------------------
# The commands themselves


def in_this_process(commands: sweep.Commands, command: list[str], output: TextIO) -> int:
    """In place of a process of its own: its exit status, and what it says into `output`."""
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
    """The splits that are opened; AssertionError at a test record."""
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
def test_test_records_change_nothing_and_nobody_asks_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, blind_to_test: list[str]
) -> None:
    """The same grid on two sources whose test records alone differ, through the real commands."""
    monkeypatch.setattr(sweep.Commands, "_wait_for", in_this_process)
    flags = ["--learning_rate=1e-2", "--epochs=2", "--batch_size=4", "--folds", "0", "1"]
    flags += ["--train_flags=--block_size=128 --select=macro_f1 --eval_records=4 --sample=False"]
    for seed in (0, 1):
        source = write_official(tmp_path / f"{seed}.json", test_seed=seed)
        prepare = f"--prepare_flags=--source={source} --tasks=answer --block_size=128"
        out = f"--out={tmp_path / f'sweep{seed}'}"
        assert exit_status(sweep.main, "config/tiny.py", *flags, prepare, out) == 0
    first, second = (tmp_path / f"sweep{seed}" for seed in (0, 1))
    for name in ("sweep.csv", "lr0.01_epochs2_batch4/fold0/result.json",
                 "lr0.01_epochs2_batch4/fold1/result.json"):  # fmt: skip
        assert (first / name).read_bytes() == (second / name).read_bytes()
    held_out = [(folder / "data/fold0/test.jsonl").read_text() for folder in (first, second)]
    assert held_out[0] != held_out[1]  # or else it would show nothing
    assert {"train", "val"} == set(blind_to_test)
    [row] = read_rows(first)
    assert row["folds"] == "2" and 8 * float(row["accuracy"]) in range(9)
    confusions = [
        json.loads((first / f"lr0.01_epochs2_batch4/fold{n}/result.json").read_text())["confusion"]
        for n in (0, 1)
    ]
    assert [sum(map(sum, table)) for table in confusions] == [4, 4]  # every held-out record
