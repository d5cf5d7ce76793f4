"""python -m benchmarks: contenders do the same work and take turns; mistakes are reported."""

import importlib.util
import multiprocessing
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import __main__ as bench
from benchmarks import server_load
from benchmarks.decoding import LABELS, REPLIES, DecodeJob, prepare_gguf
from benchmarks.floor import PARTS
from benchmarks.timing import OtherLoad, Timing, peak_memory, race, resident_memory
from benchmarks.training import CONTENDERS, Job, packed_batches, padded, random_example
from clingpt.base import console
from clingpt.base.errors import BenchError, ConfigError
from clingpt.data.packing import IGNORE
from clingpt.export import llama_cpp
from clingpt.nn.runtime import Runtime
from clingpt.text.tasks import Example
from clingpt.text.tokenizer import Tokenizer
from model import GPT, GPTConfig
from tests.helpers.commands import run


def job(**changes: Any) -> Job:
    rng = np.random.default_rng(0)
    facts: dict[str, Any] = {
        "shape": GPTConfig(n_layer=1, n_head=2, n_embd=16, block_size=32),
        "examples": [random_example(rng, length, 0.25) for length in (12, 9, 8, 20, 4)],
        "rows": 2,
        "device": "cpu",
        "dtype": "float32",
        "nanogpt": None,
    }
    return Job(**facts | changes)


@pytest.mark.parametrize("name", ["ours", "ours-recompute", "hf-sorted", "hf-padded", "hf-packed"])
def test_contenders_learn_the_same_examples(name: str) -> None:
    """Random weights: the mean loss over all targets starts at log(50257) and falls."""
    torch.manual_seed(0)
    step = CONTENDERS[name](job())
    losses = [float(step()) for _ in range(12)]
    assert losses[0] == pytest.approx(np.log(50257), abs=0.15)
    assert losses[-1] < losses[0]


def test_our_step_works_with_loss_scaling(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in float16 on a GPU, gradients and updates must share one scale."""
    monkeypatch.setattr(Runtime, "scaler", lambda rt: torch.amp.GradScaler("cpu"))
    step = CONTENDERS["ours"](job())
    losses = [float(step()) for _ in range(12)]
    assert losses[-1] < losses[0]


def test_padded_rows_label_only_targets() -> None:
    examples = [
        Example(prompt_ids=[5, 6], target_ids=[7], trimmed_tokens=0),
        Example(prompt_ids=[8], target_ids=[9, 10, 11], trimmed_tokens=0),
    ]
    ids, mask, labels = padded(examples, 5)
    assert ids.tolist() == [[5, 6, 7, 50256, 50256], [8, 9, 10, 11, 50256]]
    assert mask.tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 0]]
    assert labels.tolist() == [[IGNORE, IGNORE, 7, IGNORE, IGNORE], [IGNORE, 9, 10, 11, IGNORE]]


def test_peers_receive_our_packed_rows_and_every_target() -> None:
    this = job()
    batches = list(packed_batches(this, this.packed(), this.runtime(), ignore=-1))
    targets = sorted(t for _, y in batches for t in y.flatten().tolist() if t != -1)
    assert targets == sorted(t for example in this.examples for t in example.target_ids)
    for ids_BT, targets_BT in batches:
        assert ids_BT.shape == targets_BT.shape and ids_BT.shape[1] == 32
        row, place = (targets_BT[:, :-1] != -1).nonzero().T
        assert torch.equal(ids_BT[row, place + 1], targets_BT[row, place])  # the next token


@pytest.mark.parametrize("name", PARTS)
def test_parts_of_a_step_run_alone(name: str) -> None:
    assert torch.isfinite(torch.as_tensor(float(PARTS[name](job())())))


def test_contenders_take_turns_in_separate_processes() -> None:
    timings, others = race({"ours": CONTENDERS["ours"]}, job(), repeats=2, steps=1)
    [(name, timing)] = timings.items()
    assert name == "ours" and 0 <= others < 2
    assert len(timing.steps_s) == 2 and min(timing.steps_s) > 0
    assert timing.first_step_s > 0 and timing.loss == pytest.approx(np.log(50257), abs=0.15)
    assert timing.peak_bytes > 0.9 * timing.built_bytes > 50e6


def dies(job: Job) -> Any:
    sys.exit(3)


def test_contender_that_dies_is_named() -> None:
    with pytest.raises(BenchError, match="ours died, perhaps out of memory"):
        race({"ours": dies}, job(), repeats=1, steps=1)


def test_ratios_are_taken_turn_by_turn() -> None:
    slow = Timing(1, 1, 0, 0, 0, [4.0, 9.0, 2.0])
    fast = Timing(1, 1, 0, 0, 0, [2.0, 3.0, 2.0])
    assert slow.times_as_long(fast) == [2, 3, 1] and slow.median_s == 4


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="needs /proc/stat")
def test_own_cpu_time_is_not_counted_as_other_load() -> None:
    """The CPU time of others, of this process and idle time add up to the elapsed time."""
    n_cpus, ticks_per_s = multiprocessing.cpu_count(), os.sysconf("SC_CLK_TCK")

    def idle_s() -> float:
        fields = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
        return (int(fields[3]) + int(fields[4])) / ticks_per_s

    others, idle, ours, start = OtherLoad([]), idle_s(), time.process_time(), time.perf_counter()
    while time.process_time() < ours + 0.4:
        pass
    others_s = others.share() * (time.perf_counter() - start) * n_cpus
    idle, ours = idle_s() - idle, time.process_time() - ours
    elapsed_s = (time.perf_counter() - start) * n_cpus
    assert others_s + idle + ours == pytest.approx(elapsed_s, abs=0.3)
    assert peak_memory() > 0.9 * resident_memory() > 50e6


def test_random_examples_fill_the_rows_and_have_the_target_share() -> None:
    examples = bench.choose_examples(bench.BenchConfig(rows=2, document_tokens=341))
    lengths = [len(x.prompt_ids) + len(x.target_ids) for x in examples]
    assert len(examples) == 6 and 306 <= min(lengths) and max(lengths) <= 341
    targets = sum(len(x.target_ids) for x in examples)
    assert targets / sum(lengths) == pytest.approx(0.2, abs=0.01)
    everything = bench.choose_examples(bench.BenchConfig(rows=1, target_share=1.0))
    assert all(len(x.prompt_ids) == 1 for x in everything)


def test_examples_come_from_prepared_data(thirteen: Path) -> None:
    cfg = bench.BenchConfig(data=thirteen, rows=1, block_size=256, document_tokens=99)
    assert 1 <= len(bench.choose_examples(cfg)) <= 13
    assert len(bench.choose_examples(bench.BenchConfig(data=thirteen, examples=13))) == 13
    with pytest.raises(ConfigError, match="has 13 examples that fit, fewer than the 14 requested"):
        bench.choose_examples(bench.BenchConfig(data=thirteen, examples=14))


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["fly"], "unknown benchmark 'fly'; choose from train, floor, decode, serve, export"),
        (["train", "--contenders", "ours", "you"], "unknown contender 'you'; choose from ours"),
        (["decode", "--contenders=hf-padded"], "unknown contender 'hf-padded'; choose from ours"),
        (["decode", "--batches", "1", "0"], "batches must be at least 1"),
        (["decode", "--batches", "x"], "--batches must be a list, got 'x'"),
        (["decode", "--block_size=345"], "350 tokens exceed block_size"),
        (
            ["decode", "--contenders=nanogpt", "--size=tiny", "--repeats=1"],
            "nanogpt first: set --nanogpt",
        ),
        (["floor", "--document_tokens=99", "--block_size=64"], "document_tokens exceed block_size"),
    ],
)
def test_mistakes_are_reported_in_one_line(
    argv: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmarks", *argv])
    with pytest.raises(SystemExit) as end:
        console.run(bench.main)
    assert end.value.code in (1, 2) and message in capsys.readouterr().err


def test_nanogpt_requires_a_checkout(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="set --nanogpt=FOLDER"):
        CONTENDERS["nanogpt"](job())
    with pytest.raises(ConfigError, match=r"contains no model\.py"):
        CONTENDERS["nanogpt"](job(nanogpt=tmp_path))
    assert importlib.util.find_spec("nanogpt_model") is None


@pytest.fixture(scope="module")
def decode_job(tmp_path_factory: pytest.TempPathFactory) -> DecodeJob:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("weights")
    GPT(GPTConfig(n_layer=1, n_head=2, n_embd=16, block_size=32)).save_pretrained(folder)
    prompts = torch.randint(50257, (3, 9), generator=torch.Generator().manual_seed(1)).tolist()
    return DecodeJob(
        weights=folder, prompts=prompts, new_tokens=6, device="cpu", dtype="float32", nanogpt=None
    )


def test_contenders_decode_the_same_text_and_score_the_same_labels(decode_job: DecodeJob) -> None:
    prepare_gguf(decode_job.weights, ["F32"])
    engines = ["ours", "hf", *(["llama.cpp"] if llama_cpp.is_installed() else [])]
    found = {name: float(REPLIES[name](decode_job, new=None)()) for name in engines}
    assert found.get("llama.cpp", found["ours"]) == found["ours"]
    assert found["ours"] == found["hf"] > 0
    first = float(REPLIES["ours"](decode_job, new=1)())
    assert first < found["ours"] and first == float(REPLIES["hf"](decode_job, new=1)())
    labels = {name: float(LABELS[name](decode_job)()) for name in LABELS}
    assert labels["ours"] == pytest.approx(labels["hf"], abs=1e-4)
    assert 0 < abs(labels["ours-int8"] - labels["hf"]) < 0.1


@pytest.mark.slow
def test_decode_prints_a_table() -> None:
    printed = run(
        "-m", "benchmarks", "decode", "--size=tiny", "--batches", "2", "--prompt_tokens=20",
        "--new_tokens=5", "--label_prompts=2", "--label_tokens=30", "--repeats=1",
    ).stdout  # fmt: skip
    for phrase in ("step: hf / it", "ours-int8", "Memory bandwidth", "same text", "prompts/s"):
        assert phrase in printed, phrase


@pytest.mark.slow
def test_train_prints_a_table() -> None:
    printed = run(
        "-m", "benchmarks", "train", "--size=tiny", "--rows=1", "--block_size=64",
        "--document_tokens=30",
        "--contenders", "ours", "hf-packed", "--repeats=1",
    ).stdout  # fmt: skip
    for phrase in ("times ours", "hf-packed", "Matrix peak", "MFLOP per token", "other processes"):
        assert phrase in printed, phrase


@pytest.mark.slow
def test_serve_prints_a_table() -> None:
    printed = run(
        "-m", "benchmarks", "serve", "--size=tiny", "--batches", "3",
        "--contenders", "ours", "ours-one",
        "--prompt_tokens=16", "--new_tokens=4", "--repeats=1", "--mixed=True",
    ).stdout  # fmt: skip
    for phrase in ("3 clients", "ours-one", "ours / it", "/health p99", "4 or 8 or 16 tokens"):
        assert phrase in printed, phrase


def test_prompts_have_the_requested_lengths_and_depend_only_on_the_seed() -> None:
    prompts = server_load.make_prompts(7, (5, 40), seed=3)
    assert [len(Tokenizer.load().encode(p)) for p in prompts] == [5, 40, 5, 40, 5, 40, 5]
    assert (
        prompts
        == server_load.make_prompts(7, (5, 40), seed=3)
        != server_load.make_prompts(7, (5, 40), seed=4)
    )


def test_percentiles_are_the_median_and_the_99th() -> None:
    assert server_load.percentiles([]) == (0, 0) and server_load.percentiles([2.0]) == (2, 2)
    assert server_load.percentiles([float(n) for n in range(101)]) == (50, 99)


def test_server_that_does_not_start_is_reported(tmp_path: Path) -> None:
    with (
        pytest.raises(BenchError, match="run this by hand to see why"),
        server_load.running(server_load.CONTENDERS["ours"], tmp_path / "nothing"),
    ):
        raise AssertionError("the server started")
