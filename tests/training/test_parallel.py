"""train.py and eval.py on two ranks (gloo) compared with one process."""

import itertools
import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from clingpt.base import jsonl
from clingpt.data.prepared import open_prepared
from clingpt.nn.checkpoint import RunFolder, load_trainer
from clingpt.text.tokenizer import Tokenizer
from tests.helpers.commands import (
    TINY_RUN,
    cut_back,
    fingerprint,
    run,
    run_flags,
    train_here,
    train_losses,
)
from tests.helpers.patience import PATIENCE, wait_for
from tests.helpers.torchrun import stderr_of, torchrun

STEPS = ["--steps=24", "--eval_every=13", "--log_every=1", "--warmup_steps=4", "--sample=False"]
STEPS += ["--learning_rate=3e-3", "--n_layer=1", "--n_embd=16", "--batch_size=3"]
STEPS += [
    "--micro_batch_size=1"
]  # of 3 rows one rank gets 2, the other 1 and a micro-batch of padding
MUON = "--optimizer=muon"
DROPOUT, NO_DROPOUT, SHARD = "--dropout=0.1", "--dropout=0", "--shard=True"
ANSWER = ["--eval_records=3", "--max_new_tokens=4"]

CASES = [
    {"dtype": dtype, "n_rows": n_rows, "micro_batch_size": size, "shard": shard}
    for dtype, shard in itertools.product(("float64", "float32"), (False, True))
    for n_rows, size in ((8, 8), (8, 2), (8, 1), (7, 1), (7, 2), (1, 1))
] + [
    {"dtype": "float64", "n_rows": 7, "micro_batch_size": 2, "shard": shard, "label_weight": 8.5}
    for shard in (False, True)
]  # of 7 rows one rank gets 3 and a micro-batch of padding; of 1 row one rank gets none


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of all runs; `ranks` makes those on two ranks."""
    return tmp_path_factory.mktemp("parallel")


@pytest.fixture(scope="module")
def ranks(folder: Path, thirteen: Path) -> dict[str, list[Any]]:
    """The results of both ranks for each job, by name; one torchrun runs all jobs."""

    def run(name: str, *flags: str, **special: Any) -> dict[str, Any]:
        paths = [f"--data={thirteen}", f"--out={folder / name}"]
        return {"do": "train_run", "flags": run_flags(*STEPS, *flags, *paths), **special}

    def back(source: str, name: str) -> list[str]:
        return [str(folder / source), str(folder / name)]

    one = folder / "one process"
    assert train_here(*STEPS, *ANSWER, NO_DROPOUT, f"--data={thirteen}", f"--out={one}") == 0
    alone = ["--out=" + str(folder / "one process, muon"), f"--data={thirteen}"]
    assert train_here(*STEPS, *ANSWER, NO_DROPOUT, MUON, *alone) == 0
    jobs = {
        **{f"gradients {i}": {"do": "gradients", **case} for i, case in enumerate(CASES)},
        "straight": run("straight", DROPOUT),
        "resumed": run("resumed", DROPOUT, cut_back=back("straight", "resumed")),
        "other": run("other", DROPOUT, cut_back=back("straight", "other"), spoil_rank=1),
        "ddp": run("ddp", NO_DROPOUT, *ANSWER),
        "muon": run("muon", NO_DROPOUT, MUON, *ANSWER),
        "fsdp": run("fsdp", NO_DROPOUT, SHARD, *ANSWER),
        "ddp to fsdp": run("ddp to fsdp", NO_DROPOUT, SHARD, cut_back=back("ddp", "ddp to fsdp")),
        "fsdp to ddp": run("fsdp to ddp", NO_DROPOUT, cut_back=back("fsdp", "fsdp to ddp")),
        "fsdp resumed": run(
            "fsdp resumed", NO_DROPOUT, SHARD, cut_back=back("fsdp", "fsdp resumed")
        ),
        "one to two": run("one to two", NO_DROPOUT, cut_back=back("one process", "one to two")),
        "four": run("four", NO_DROPOUT, "--batch_size=4"),
        "memory": run(
            "memory", NO_DROPOUT, "--batch_size=4", "--micro_batch_size=2", memory_of_rank=[1, 1]
        ),
        "signal": run("signal", DROPOUT, signal_to_rank=[1, 7]),
        "non-finite": run(
            "non-finite", NO_DROPOUT, "--pack=False", non_finite=[28, str(thirteen), 4]
        ),
    }
    plan = folder / "jobs.json"
    plan.write_text(json.dumps(list(jobs.values())))
    process = torchrun("tests/helpers/ranks.py", plan)
    stderr = stderr_of(process, within_s=300)
    (folder / "stderr").write_text(stderr)
    assert process.returncode == 0, stderr
    found = [json.loads((folder / f"found_{rank}.json").read_text()) for rank in (0, 1)]
    return {name: [rank[i] for rank in found] for i, name in enumerate(jobs)}


@pytest.mark.parametrize("number", range(len(CASES)))
def test_ranks_compute_the_gradients_of_one_process(
    ranks: dict[str, list[Any]], number: int
) -> None:
    bound = 1e-10 if CASES[number]["dtype"] == "float64" else 1e-6
    for found in ranks[f"gradients {number}"]:
        assert found["gradient"] <= bound and found["loss"] <= bound
        assert found["measured"] <= 1e-6


def test_a_run_resumed_after_step_13_is_bit_identical_to_an_uninterrupted_one(
    ranks: dict[str, list[Any]], folder: Path
) -> None:
    assert ranks["straight"] == ranks["resumed"] == [0, 0]
    straight, resumed, other = (folder / name for name in ("straight", "resumed", "other"))
    assert fingerprint(resumed / "step_000024") == fingerprint(straight / "step_000024")
    assert train_losses(resumed) == train_losses(straight)
    states = load_trainer(straight / "step_000024")["rng"]
    assert len(states) == 2 and not states[0]["cpu"].equal(states[1]["cpu"])
    # Other random numbers on one rank suffice to change the result.
    assert ranks["other"] == [0, 0]
    assert fingerprint(other / "step_000024") != fingerprint(straight / "step_000024")


@pytest.mark.parametrize(
    ("name", "alone"),
    [("ddp", "one process"), ("fsdp", "one process"), ("muon", "one process, muon")],
)
def test_two_ranks_reach_the_losses_of_one_process(
    name: str, alone: str, ranks: dict[str, list[Any]], folder: Path
) -> None:
    assert ranks[name] == [0, 0]
    assert train_losses(folder / name) == pytest.approx(train_losses(folder / alone))
    one, two = (
        [row for row in jsonl.read(folder / run / "metrics.jsonl") if "val_loss" in row]
        for run in (alone, name)
    )
    assert [row.keys() for row in one] == [row.keys() for row in two]
    for key in one[0]:
        assert [row[key] for row in two] == pytest.approx([row[key] for row in one], rel=1e-6), key


@pytest.mark.parametrize(
    ("name", "source"), [("ddp to fsdp", "ddp"), ("fsdp to ddp", "fsdp"), ("fsdp resumed", "fsdp")]
)
def test_shards_and_replicas_load_each_others_checkpoints(
    name: str, source: str, ranks: dict[str, list[Any]], folder: Path
) -> None:
    assert ranks[name] == [0, 0]
    assert train_losses(folder / name) == pytest.approx(train_losses(folder / source), rel=1e-6)
    if name == "fsdp resumed":
        whole = fingerprint(folder / source / "step_000024")
        assert fingerprint(folder / name / "step_000024") == whole


def test_resuming_on_another_number_of_ranks_keeps_rows_and_losses(
    ranks: dict[str, list[Any]],
    folder: Path,
    thirteen: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert ranks["one to two"] == [0, 0]
    one = train_losses(folder / "one process")
    assert train_losses(folder / "one to two") == pytest.approx(one, rel=1e-6)
    alone = cut_back(folder / "ddp", folder / "two to one")
    assert train_here(*STEPS, NO_DROPOUT, f"--data={thirteen}", f"--out={alone}") == 0
    assert train_losses(alone) == pytest.approx(one, rel=1e-6)
    assert "started on 2 processes and is resumed on 1" in capsys.readouterr().err


def test_running_out_of_memory_on_one_rank_halves_all_micro_batches(
    ranks: dict[str, list[Any]], folder: Path
) -> None:
    assert ranks["memory"] == ranks["four"] == [0, 0]
    assert (
        "out of memory with micro_batch_size=2; using 1 instead" in (folder / "stderr").read_text()
    )
    assert train_losses(folder / "memory") == pytest.approx(train_losses(folder / "four"))


def test_a_non_finite_loss_on_one_rank_ends_all_ranks(
    ranks: dict[str, list[Any]], folder: Path, thirteen: Path
) -> None:
    assert ranks["non-finite"] == [1, 1]
    lines = [x for x in (folder / "stderr").read_text().splitlines() if "loss nan" in x]
    record = open_prepared(thirteen, Tokenizer.load()).record_ids("train")[4]
    assert len(lines) == 1 and lines[0].endswith(f": {record}")
    assert list(RunFolder(folder / "non-finite").steps()) == [13]


def test_a_signal_to_one_rank_stops_all_ranks_at_the_same_step(
    ranks: dict[str, list[Any]], folder: Path
) -> None:
    assert ranks["signal"] == [143, 143]
    assert (folder / "signal" / "last").resolve().name == "step_000007"
    assert max(train_losses(folder / "signal")) == 7


def test_eval_on_two_ranks_writes_the_report_of_one_process(data: Path, tmp_path: Path) -> None:
    run("train.py", *TINY_RUN, "--steps=1", f"--data={data}", f"--out={tmp_path / 'run'}")
    flags = [f"--checkpoint={tmp_path / 'run/last'}", "--max_new_tokens=6", "--split=val"]
    process = torchrun("eval.py", *flags, f"--out={tmp_path / 'two'}")
    said = stderr_of(process, within_s=300)
    assert process.returncode == 0, said
    run("eval.py", *flags, f"--out={tmp_path / 'one'}")
    one, two = (json.loads((tmp_path / x / "report.json").read_text()) for x in ("one", "two"))
    for name in ("labels", "texts", "calibration", "examples", "label_agreement"):
        assert one[name] == two[name], name
    for name, entry in one["perplexity"].items():
        nats = [x["perplexity"][name]["text"]["nats_per_token"] for x in (one, two)]
        assert nats[0] == pytest.approx(nats[1], rel=1e-6) and entry["text"]["tokens"] > 0
    outputs = [(tmp_path / x / "outputs.jsonl").read_text() for x in ("one", "two")]
    assert outputs[0] == outputs[1] != ""


@pytest.mark.slow
def test_sigterm_to_torchrun_stops_all_ranks_at_the_same_step(
    thirteen: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    flags = run_flags(*STEPS, "--steps=100000", "--eval_every=100000", f"--data={thirteen}")
    process = torchrun("tests/helpers/faults.py", f"witness:{tmp_path}", *flags, f"--out={out}")
    wait_for(lambda: len(jsonl.read(out / "metrics.jsonl")) >= 3)
    process.send_signal(signal.SIGTERM)
    asked_at = time.monotonic()
    stderr = stderr_of(process, within_s=120)
    assert time.monotonic() - asked_at < 25 * PATIENCE  # torchrun sends SIGKILL after 30 s
    assert process.returncode == 1 and "SIGKILL" not in stderr  # torchrun's own exit status
    stopped = [int((tmp_path / f"stopped_{rank}").read_text()) for rank in (0, 1)]
    last = max(train_losses(out))
    assert stopped == [last, last]
    assert (out / "last").resolve().name == f"step_{last:06d}"
    assert RunFolder(out).newest_whole() == (out / "last").resolve()


@pytest.mark.slow
def test_a_restarted_job_resumes_from_the_last_checkpoint(
    ranks: dict[str, list[Any]], folder: Path, thirteen: Path, tmp_path: Path
) -> None:
    """Rank 1 dies in step 20, torchrun restarts both, and the result is unchanged."""
    out = tmp_path / "run"
    flags = run_flags(*STEPS, DROPOUT, f"--data={thirteen}", f"--out={out}")
    env = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    process = torchrun("--max_restarts=1", "tests/helpers/faults.py", "crash:1:20", *flags, env=env)
    stderr = stderr_of(process, within_s=120)
    assert process.returncode == 0, stderr
    assert f"resuming {out} at step 13" in stderr
    assert "lost contact with another one" in stderr
    assert fingerprint(out / "step_000024") == fingerprint(folder / "straight" / "step_000024")
    assert train_losses(out) == train_losses(folder / "straight")


@pytest.mark.slow
def test_a_warning_says_that_torchrun_cannot_restart_the_job(
    thirteen: Path, tmp_path: Path
) -> None:
    flags = run_flags(*STEPS, "--steps=1", f"--data={thirteen}", f"--out={tmp_path / 'run'}")
    process = torchrun("--max_restarts=1", "train.py", *flags)
    stderr = stderr_of(process, within_s=120)
    assert process.returncode == 0, stderr
    assert stderr.count("unless TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 is set") == 1
