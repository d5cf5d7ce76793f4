"""train.py on one process: exact resume, crash safety, signals, validation."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch

import train
from clingpt.base import jsonl
from clingpt.data.prepared import open_prepared
from clingpt.nn.checkpoint import CARD, RunFolder, read_card
from clingpt.text.tokenizer import Tokenizer
from clingpt.training import validation
from tests.helpers.commands import (
    ROOT,
    cut_back,
    fingerprint,
    memory_for_rows,
    non_finite_from,
    replace_random_numbers,
    run_flags,
    train_here,
    train_losses,
    write_sums,
)

STEPS = ["--steps=24", "--eval_every=13", "--log_every=1", "--warmup_steps=4", "--sample=False"]
STEPS += ["--dropout=0.1", "--learning_rate=3e-3", "--n_layer=1", "--n_embd=16"]
# With thirteen rows of one example each, step 13 ends an epoch; with packed rows it does not.
AT_AN_EDGE = ["--pack=False", "--batch_size=1"]
AMID = ["--pack=True", "--batch_size=2", "--micro_batch_size=1"]
MUON = [*AMID, "--optimizer=muon"]


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory, thirteen: Path) -> Callable[..., Path]:
    """Return a function that makes uninterrupted runs of 24 steps, each only once."""
    made: dict[tuple[str, ...], Path] = {}

    def get(*flags: str) -> Path:
        if flags not in made:
            made[flags] = tmp_path_factory.mktemp("run") / "straight"
            assert train_here(*STEPS, *flags, f"--data={thirteen}", f"--out={made[flags]}") == 0
        return made[flags]

    return get


def times(folder: Path) -> dict[Path, int]:
    """Return the modification times of everything in a folder."""
    return {path: path.lstat().st_mtime_ns for path in folder.rglob("*")}


# ------------------------------------------------------------------------------------------------
# Resume


@pytest.mark.parametrize(
    "flags", [AMID, AT_AN_EDGE, MUON], ids=["within an epoch", "at its end", "with Muon"]
)
def test_a_run_resumed_after_step_13_is_bit_identical_to_an_uninterrupted_one(
    flags: list[str], straight: Callable[..., Path], thirteen: Path, tmp_path: Path
) -> None:
    whole = straight(*flags)
    rows = jsonl.read(whole / "metrics.jsonl")
    [epoch] = [row["epoch"] for row in rows if row["step"] == 13 and "epoch" in row]
    assert (epoch % 1 == 0) == (flags is AT_AN_EDGE)
    resumed = cut_back(whole, tmp_path / "resumed")
    assert train_here(*STEPS, *flags, f"--data={thirteen}", f"--out={resumed}") == 0
    assert fingerprint(resumed / "step_000024") == fingerprint(whole / "step_000024")
    assert train_losses(resumed) == train_losses(whole)
    assert list(train_losses(resumed)) == list(range(1, 25))
    tokens = [row.get("tokens") for row in jsonl.read(resumed / "metrics.jsonl")]
    assert tokens == [row.get("tokens") for row in rows]


@pytest.mark.parametrize("part", ["rng", "optimizer"])
def test_a_run_resumed_without_part_of_its_state_differs(
    part: str, straight: Callable[..., Path], thirteen: Path, tmp_path: Path
) -> None:
    """The test above can fail: it notices different random numbers and different moments."""
    resumed = cut_back(straight(*AMID), tmp_path / "resumed")
    checkpoint = resumed / "step_000013"
    if part == "rng":
        replace_random_numbers(checkpoint, rank=0)
    else:
        state = torch.load(checkpoint / "trainer.pt", weights_only=True)
        state["optimizer"]["wpe.weight"]["exp_avg"].zero_()
        torch.save(state, checkpoint / "trainer.pt")
        write_sums(checkpoint)
    assert train_here(*STEPS, *AMID, f"--data={thirteen}", f"--out={resumed}") == 0
    found = fingerprint(resumed / "step_000024")
    assert found != fingerprint(straight(*AMID) / "step_000024")


def test_runs_are_reproducible_and_depend_on_the_seed(
    straight: Callable[..., Path], thirteen: Path, tmp_path: Path
) -> None:
    for seed, alike in ((1337, True), (7, False)):
        out = tmp_path / str(seed)
        assert (
            train_here(*STEPS, *AMID, f"--seed={seed}", f"--data={thirteen}", f"--out={out}") == 0
        )
        same = fingerprint(out / "last") == fingerprint(straight(*AMID) / "last")
        assert same == alike


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--seed=7"], "seed 1337 -> 7"),
        (["--n_embd=64"], "n_embd 16 -> 64"),
        (["--batch_size=3"], "batch_size 2 -> 3"),
        (["--label_weight=8"], "label_weight 1.0 -> 8.0"),
        (["--optimizer=muon"], "optimizer adamw -> muon"),
        (["--data={other}"], "data "),
        (["--data={alien}"], "was prepared with"),
    ],
)
def test_resuming_a_different_run_is_refused_with_the_difference(
    flags: list[str],
    message: str,
    straight: Callable[..., Path],
    thirteen: Path,
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    resumed = cut_back(straight(*AMID), tmp_path / "resumed")
    before = times(resumed)
    alien = tmp_path / "alien"
    shutil.copytree(thirteen, alien)
    manifest = json.loads((alien / "manifest.json").read_text())
    (alien / "manifest.json").write_text(json.dumps(manifest | {"tokenizer": "0" * 64}))
    given = [flag.format(other=data, alien=alien) for flag in flags]
    capsys.readouterr()  # what the straight run printed, if this is the first test that needs it
    assert train_here(*STEPS, *AMID, f"--data={thirteen}", f"--out={resumed}", *given) == 1
    [line] = capsys.readouterr().err.strip().splitlines()
    assert message in line
    assert times(resumed) == before


def test_force_resume_continues_and_reports_the_change(
    straight: Callable[..., Path],
    thirteen: Path,
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    resumed = cut_back(straight(*AMID), tmp_path / "resumed")
    flags = [*STEPS, *AMID, f"--data={data}", f"--out={resumed}", "--force_resume=True"]
    assert train_here(*flags) == 0
    printed = capsys.readouterr().err
    was, now = (open_prepared(x, Tokenizer.load()).fingerprint[:12] for x in (thirteen, data))
    assert f"resuming with data {was} -> {now}" in printed
    assert list(train_losses(resumed)) == list(range(1, 25))
    assert read_card(resumed / "last")["tasks"] == ["answer", "summarize"]


def test_label_weight_changes_the_training_loss_and_not_how_validation_measures_it(
    thirteen: Path, tmp_path: Path
) -> None:
    """Both runs have the same weights, since the learning rate is next to nothing."""
    rows = []
    for weight in (1, 8):
        out = tmp_path / str(weight)
        flags = [*STEPS, *AMID, "--steps=1", "--learning_rate=1e-12", "--min_lr=0"]
        flags += [f"--label_weight={weight}", f"--data={thirteen}", f"--out={out}"]
        assert train_here(*flags) == 0
        rows.append(jsonl.read(out / "metrics.jsonl"))
    (train_1, val_1), (train_8, val_8) = rows
    assert abs(train_8["train_loss"] - train_1["train_loss"]) > 1e-3
    assert val_8["val_loss"] == pytest.approx(val_1["val_loss"], rel=1e-9)


def test_a_run_can_start_from_another_run_folder(
    straight: Callable[..., Path], thirteen: Path, tmp_path: Path
) -> None:
    first = straight(*AMID)
    flags = [*STEPS, *AMID, f"--data={thirteen}", f"--out={tmp_path / 'second'}", "--steps=1"]
    assert train_here(*flags, f"--init_from={first}", "--dropout=0") == 0
    losses = train_losses(tmp_path / "second")
    assert losses[1] < train_losses(first)[1] - 0.5
    card = read_card(tmp_path / "second" / "best")
    assert (card["tasks"], card["earlier_tasks"], card["generated_data"]) == (["answer"], [], True)


def test_repeating_the_command_of_a_finished_run_ends_at_once(
    straight: Callable[..., Path], thirteen: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(straight(*AMID), tmp_path / "again", symlinks=True)
    before = times(copy / "last")
    with mock.patch.object(train, "fit_micro_batch", side_effect=AssertionError("rehearsed")):
        assert train_here(*STEPS, *AMID, f"--data={thirteen}", f"--out={copy}") == 0
    assert times(copy / "last") == before


# ------------------------------------------------------------------------------------------------
# Validation and logging do not disturb training


def test_validating_logging_and_saving_do_not_change_training(
    straight: Callable[..., Path], thirteen: Path, tmp_path: Path
) -> None:
    """With dropout, losses are identical whether a run validates every 2 or every 24 steps."""
    lines = []
    for name, flags in {
        "often": ["--eval_every=2", "--eval_records=3", "--sample=True", "--max_new_tokens=4"],
        "rarely": ["--eval_every=24"],
    }.items():
        out = tmp_path / name
        assert train_here(*STEPS, *AMID, *flags, f"--data={thirteen}", f"--out={out}") == 0
        lines.append(repr(train_losses(out)))
        assert fingerprint(out / "last") == fingerprint(straight(*AMID) / "last")
    assert lines[0] == lines[1] == repr(train_losses(straight(*AMID)))
    rows = [row for row in jsonl.read(tmp_path / "often/metrics.jsonl") if "val_loss" in row]
    assert [row["step"] for row in rows] == list(range(2, 25, 2))
    assert all({"val_accuracy", "val_macro_f1", "val_rougeL"} <= row.keys() for row in rows)
    assert all((row["scored_labels"], row["scored_texts"]) == (3, 3) for row in rows)


def test_running_out_of_memory_halves_the_micro_batch_and_keeps_the_batch(
    straight: Callable[..., Path],
    thirteen: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A run that starts with 4 rows and falls back to 1 equals one that starts with 1."""
    flags = [*STEPS, *AMID, "--micro_batch_size=4", "--batch_size=4", f"--data={thirteen}"]
    wanted, found = tmp_path / "wanted", tmp_path / "found"
    assert train_here(*flags, "--micro_batch_size=1", f"--out={wanted}") == 0
    with memory_for_rows(1):
        assert train_here(*flags, f"--out={found}") == 0
    printed = capsys.readouterr().err
    assert "out of memory with micro_batch_size=4; using 2 instead" in printed
    assert "out of memory with micro_batch_size=2; using 1 instead" in printed
    assert fingerprint(found / "last") == fingerprint(wanted / "last")


def test_a_model_that_never_fits_is_refused(
    thirteen: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with memory_for_rows(0):
        assert train_here(*STEPS, f"--data={thirteen}", f"--out={tmp_path / 'run'}") == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert "out of memory even with one row at a time" in last


# ------------------------------------------------------------------------------------------------
# Crash safety


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 4
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["model.safetensors", "trainer.pt", CARD, "SHA256SUMS"])
@pytest.mark.parametrize(
    "damage",
    [flip_a_bit, lambda x: os.truncate(x, 100), lambda x: os.truncate(x, 0), Path.unlink],
    ids=["bit", "truncated", "empty", "missing"],
)
def test_a_damaged_checkpoint_is_named_and_the_previous_one_used(
    name: str,
    damage: Callable[[Path], None],
    straight: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "damaged"
    shutil.copytree(straight(*AMID), out, symlinks=True)
    damage(out / "step_000024" / name)
    assert RunFolder(out).newest_whole() == out / "step_000013"
    said = capsys.readouterr().err
    assert (
        str(out / "step_000024") in said
        and "moved to damaged_step_000024, using step_000013" in said
    )
    assert (out / "damaged_step_000024").is_dir()  # kept for inspection
    assert list(RunFolder(out).steps()) == [13]


def test_a_run_resumes_from_the_checkpoint_before_a_damaged_one(
    straight: Callable[..., Path], thirteen: Path, tmp_path: Path
) -> None:
    out = tmp_path / "damaged"
    shutil.copytree(straight(*AMID), out, symlinks=True)
    flip_a_bit(out / "step_000024" / "model.safetensors")
    assert train_here(*STEPS, *AMID, f"--data={thirteen}", f"--out={out}") == 0
    assert fingerprint(out / "last") == fingerprint(straight(*AMID) / "last")
    assert train_losses(out) == train_losses(straight(*AMID))


def test_nothing_is_touched_if_every_checkpoint_is_damaged(
    straight: Callable[..., Path],
    thirteen: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "damaged"
    shutil.copytree(straight(*AMID), out, symlinks=True)
    for checkpoint in RunFolder(out).steps().values():
        flip_a_bit(checkpoint / "trainer.pt")
    before = times(out)
    assert train_here(*STEPS, *AMID, f"--data={thirteen}", f"--out={out}") == 1
    [line] = capsys.readouterr().err.strip().splitlines()
    assert "no checkpoint of" in line and "nothing was changed" in line
    assert (
        "step_000013/trainer.pt is damaged" in line and "step_000024/trainer.pt is damaged" in line
    )
    assert times(out) == before


def test_a_full_disk_ends_the_run_without_losing_checkpoints(
    straight: Callable[..., Path], thirteen: Path, tmp_path: Path
) -> None:
    """A limit of 2 MB per file simulates a full disk: the weights alone are larger."""
    out = cut_back(straight(*AMID), tmp_path / "full")
    before = fingerprint(out / "last")
    flags = run_flags(*STEPS, *AMID, f"--data={thirteen}", f"--out={out}")
    code = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (2 << 20, 2 << 20))\n"
    code += "import train; from clingpt.base import console; console.run(train.main)"
    result = subprocess.run(
        [sys.executable, "-c", code, *flags], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    last = result.stderr.strip().splitlines()[-1]
    assert "step_000024 could not be written" in last and "earlier checkpoints are intact" in last
    assert "Traceback" not in result.stderr
    assert not list(out.glob(".step*"))
    assert RunFolder(out).newest_whole() == out / "step_000013"
    assert fingerprint(out / "last") == before


def test_an_unwritable_folder_fails_before_the_first_step(
    thirteen: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with mock.patch.object(
        train, "accumulate_gradients", side_effect=AssertionError("a step was taken")
    ):
        assert train_here(*STEPS, f"--data={thirteen}", "--out=/proc/clingpt") == 1
    [line] = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: /proc/clingpt")


# ------------------------------------------------------------------------------------------------
# Signals

PHASES = {
    "loading": (train, "open_prepared", False),
    "compiling": (train, "compile_in_place", False),
    "rehearsing": (train, "fit_micro_batch", False),
    "stepping": (train, "accumulate_gradients", True),
    "validating": (validation, "mean_loss", True),
    "answering": (validation, "write_outputs", True),
    "saving": (RunFolder, "save", True),
}


@pytest.mark.parametrize(
    ("phase", "number", "status"),
    [
        *((phase, signal.SIGTERM, 143) for phase in PHASES),
        *((phase, signal.SIGINT, 130) for phase in ("compiling", "stepping")),
    ],
)
def test_a_signal_at_any_moment_saves_the_last_step(
    phase: str,
    number: signal.Signals,
    status: int,
    straight: Callable[..., Path],
    thirteen: Path,
    tmp_path: Path,
) -> None:
    place, name, saves = PHASES[phase]
    plain, calls = getattr(place, name), 0

    def struck(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == (2 if saves else 1):
            os.kill(os.getpid(), number)
        return plain(*args, **kwargs)

    out = tmp_path / "run"
    flags = [*STEPS, *AMID, f"--data={thirteen}", f"--out={out}"]
    often = [*flags, "--eval_every=3", "--eval_records=2", "--max_new_tokens=4", "--keep=99"]
    with mock.patch.object(place, name, struck):
        assert train_here(*often) == status
    if saves:
        last = max(train_losses(out))
        assert last < 24
        assert (out / "last").resolve().name == f"step_{last:06d}"
    else:
        assert not list(out.glob("*step*"))
    assert train_here(*often) == 0
    assert fingerprint(out / "step_000024") == fingerprint(straight(*AMID) / "step_000024")
    assert train_losses(out) == train_losses(straight(*AMID))


def test_a_signal_while_the_last_checkpoint_is_saved_does_not_fail_a_finished_run(
    thirteen: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain, out = RunFolder.save, tmp_path / "run"

    def struck(*args: Any, **kwargs: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return plain(*args, **kwargs)

    flags = [*STEPS, *AMID, f"--data={thirteen}", f"--out={out}", "--steps=3"]
    with mock.patch.object(RunFolder, "save", struck):
        assert train_here(*flags) == 0
    assert "Trained at step 3 of 3" in capsys.readouterr().out
    assert (out / "last").resolve().name == "step_000003"


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_another_optimizer_trains_and_resumes(
    momentum: float, thirteen: Path, tmp_path: Path
) -> None:
    """Fused SGD has no state without momentum, and with it a skipped step leaves it undefined."""

    def sgd(model: torch.nn.Module, **_: object) -> torch.optim.Optimizer:
        return torch.optim.SGD(model.parameters(), lr=0.01, momentum=momentum, fused=True)

    flags = [*STEPS, *AMID, f"--data={thirteen}"]
    unrehearsed, whole = tmp_path / "unrehearsed", tmp_path / "whole"
    with mock.patch.object(train, "build_optimizer", sgd):
        assert train_here(*flags, f"--out={whole}") == 0
        resumed = cut_back(whole, tmp_path / "resumed")
        assert train_here(*flags, f"--out={resumed}") == 0
        with mock.patch.object(train, "fit_micro_batch", lambda _replica, feed, *_, **__: feed):
            assert train_here(*flags, f"--out={unrehearsed}") == 0
    expected = fingerprint(whole / "step_000024")
    assert fingerprint(resumed / "step_000024") == expected
    assert fingerprint(unrehearsed / "step_000024") == expected


@pytest.mark.parametrize("flag", ["--shard=True", "--lora_rank=8"])
def test_muon_is_refused_without_whole_matrices(
    flag: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--init_from=gpt2", "--optimizer=muon", flag, f"--out={tmp_path / 'run'}"]
    assert train_here(*flags) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line == (
        "error: optimizer=muon needs whole matrices, without --lora_rank and --shard; use "
        "--optimizer=adamw"
    )
    assert not (tmp_path / "run").exists()


# ------------------------------------------------------------------------------------------------
# Non-finite losses


def test_a_non_finite_loss_ends_the_run_and_names_the_records(
    straight: Callable[..., Path],
    thirteen: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One example's loss becomes NaN after step 16; the checkpoint of step 13 is the last."""
    record = open_prepared(thirteen, Tokenizer.load()).record_ids("train")[4]
    out = tmp_path / "run"
    with non_finite_from(16, thirteen, example=4):
        flags = [*STEPS, *AT_AN_EDGE, f"--data={thirteen}", f"--out={out}"]
        assert train_here(*flags) == 1
    line = capsys.readouterr().err.strip().splitlines()[-1]
    bad = next(step for step, loss in train_losses(out).items() if loss != loss)
    assert f"step {bad} is not finite: loss nan" in line and f"--learning_rate: {record}" in line
    assert 16 <= bad < 24
    assert list(RunFolder(out).steps()) == [13]
    kept = fingerprint(out / "last")
    assert kept == fingerprint(straight(*AT_AN_EDGE) / "step_000013")


# ------------------------------------------------------------------------------------------------
# Selection and output


@pytest.mark.parametrize("select", ["loss", "accuracy", "macro_f1", "rougeL"])
def test_best_follows_the_selected_criterion(
    select: str, thirteen: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The records are answered, not just scored."""
    out = tmp_path / "run"
    flags = [*STEPS, *AMID, "--eval_every=6", "--eval_records=4", "--max_new_tokens=6", "--keep=9"]
    flags += [f"--select={select}", "--sample=True", f"--data={thirteen}", f"--out={out}"]
    assert train_here(*flags) == 0
    rows = [row for row in jsonl.read(out / "metrics.jsonl") if "val_loss" in row]
    sign = -1 if select == "loss" else 1
    best = max(rows, key=lambda row: (sign * row[f"val_{select}"], -row["step"]))
    assert (out / "best").resolve().name == f"step_{best['step']:06d}"
    assert read_card(out / "best")[f"val_{select}"] == best[f"val_{select}"]
    said = capsys.readouterr()
    assert f"best validation {select}" in said.out
    assert said.err.count("  reference: ") == 4 == said.err.count("  output: ")


def test_patience_ends_a_run_that_no_longer_improves(
    thirteen: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    flags = [*STEPS, *AMID, "--eval_every=2", "--learning_rate=0.3", "--min_lr=0.3", "--patience=3"]
    flags += ["--schedule=constant", "--steps=200", f"--data={thirteen}", f"--out={out}"]
    assert train_here(*flags) == 0
    rows = [row for row in jsonl.read(out / "metrics.jsonl") if "val_loss" in row]
    losses = [row["val_loss"] for row in rows]
    assert len(losses) - 1 - losses.index(min(losses)) == 3
    assert "Stopped improving at step" in capsys.readouterr().out
    assert train_here(*flags) == 0  # the same command does not continue either
    assert rows == [row for row in jsonl.read(out / "metrics.jsonl") if "val_loss" in row]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--select=accuracy"], "set --eval_records, for example to 50"),
        (["--patience=0"], "patience must be at least 1"),
        (["--eval_records=-1"], "eval_records must be at least 0"),
    ],
)
def test_impossible_settings_are_refused(
    flags: list[str], message: str, thirteen: Path, tmp_path: Path, capsys: Any
) -> None:
    assert train_here(*flags, f"--data={thirteen}", f"--out={tmp_path}/run") == 2
    assert message in capsys.readouterr().err


def test_a_run_logs_what_it_has_processed(straight: Callable[..., Path]) -> None:
    rows = jsonl.read(straight(*AT_AN_EDGE) / "metrics.jsonl")
    last = [row for row in rows if "train_loss" in row][-1]
    assert last["step"] == last["examples"] == 24 and last["epoch"] == pytest.approx(24 / 13)
    assert last["tokens"] > 24 * 50 and last["grad_norm"] > 0 and last["learning_rate"] > 0
    settings = json.loads((straight(*AT_AN_EDGE) / "config.json").read_text())
    assert settings["settings"]["steps"] == 24 and settings["processes"] == 1
