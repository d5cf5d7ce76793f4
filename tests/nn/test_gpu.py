"""Training and decoding on CUDA; the parts that a CPU can run are tested there too."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from clingpt.base import jsonl
from clingpt.data.packing import Rows
from clingpt.decoding.cuda_graphs import GraphedDecoder
from clingpt.decoding.decoders import make_decoder
from clingpt.decoding.engine import Engine, label_log_probs
from clingpt.decoding.sampling import Sampling
from clingpt.nn.kernels import use_kernels
from clingpt.nn.runtime import Runtime, start
from clingpt.text.tokenizer import Tokenizer
from clingpt.training.batches import Feed
from clingpt.training.memory_fit import fit_micro_batch
from clingpt.training.step import Schedule, Updater, accumulate_gradients, build_optimizer
from model import GPT
from tests.helpers.commands import fingerprint, train_here, train_losses
from tests.helpers.models import make_tiny_model, rows_of_documents

no_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
DEVICES = ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, no_cuda])]


@pytest.fixture
def rows() -> Rows:
    """Sixty documents of 2 to 64 tokens in packed rows of 64."""
    rng = np.random.default_rng(1)
    documents = []
    for length in rng.integers(2, 65, 60).tolist():
        documents.append((rng.integers(0, 96, length).tolist(), int(rng.integers(1, length))))
    return rows_of_documents(documents, 64, pack=True)


def model_on(rt: Runtime, **shape: Any) -> GPT:
    return use_kernels(make_tiny_model(vocab_size=50257, block_size=64, **shape)).to(rt.device)


def updater_of(model: GPT, rt: Runtime, scaler: torch.amp.GradScaler) -> Updater:
    optimizer = build_optimizer(model, learning_rate=1, betas=(0.9, 0.95), weight_decay=0.1)
    constant = Schedule(kind="constant", peak=1e-3, floor=0, warmup_steps=0, steps=9)
    return Updater(optimizer, scaler, constant, rt, 1.0)


@contextmanager
def no_waiting(rt: Runtime) -> Iterator[None]:
    """Raise an error if the host waits for the GPU."""
    if rt.device.type != "cuda":
        yield
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("recompute", [False, True])
def test_a_step_never_waits_for_the_device(device: str, recompute: bool, rows: Rows) -> None:
    rt = start(device=device)
    model = model_on(rt, dropout=0.1)
    model.checkpoint_activations = recompute
    scaler, feed = rt.scaler(), Feed(rows, rt, 2)
    updater = updater_of(model, rt, scaler)
    losses = []
    for step in range(4):  # the first one allocates
        work = feed.work(np.arange(4))
        n_targets = rows.n_targets(work.rows)
        rt.synchronize()
        with no_waiting(rt):
            parts = accumulate_gradients(model, work, n_targets, rt=rt, scaler=scaler)
            result = updater.step(step, parts, n_targets)
            read = rt.later(result.broken)
        losses.append(float(result.loss))
        assert not read()
    assert losses[-1] < losses[0]


@pytest.mark.gpu
@no_cuda
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # by Dynamo
def test_compiled_steps_do_not_recompile_and_match_eager_ones(rows: Rows) -> None:
    """In bfloat16; tests/nn/test_kernels.py does the same on the CPU."""
    rt = start(device="cuda")
    eager, compiled = model_on(rt), model_on(rt)
    compiled.compile(fullgraph=True)
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    feeds = Feed(rows, rt, 3), Feed(rows, rt, 3, compiled=True)
    rng = np.random.default_rng(2)
    with torch._dynamo.config.patch(error_on_recompile=True):
        for _ in range(200):
            chosen = rng.choice(len(rows), 3, replace=False)
            found = []
            for model, feed in zip((eager, compiled), feeds, strict=True):
                [batch] = feed.work(chosen).batches
                with rt.autocast():
                    loss = model(batch)
                loss.backward()
                found.append(float(loss.detach()))
            assert found[1] == pytest.approx(found[0], rel=1e-2)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
    assert not torch._dynamo.utils.counters["graph_break"]


@pytest.mark.gpu
@no_cuda
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_16_bit_steps_stay_close_to_fp32(dtype: str, rows: Rows) -> None:
    losses = []
    for chosen in ("float32", dtype):
        rt = start(device="cuda", dtype=chosen)
        model, feed = model_on(rt), Feed(rows, rt, 4)
        scaler = rt.scaler()
        updater = updater_of(model, rt, scaler)
        for step in range(8):
            work = feed.work(np.arange(4))
            n_targets = rows.n_targets(work.rows)
            parts = accumulate_gradients(model, work, n_targets, rt=rt, scaler=scaler)
            result = updater.step(step, parts, n_targets)
        losses.append(float(result.loss))
    assert losses[1] == pytest.approx(losses[0], abs=1e-2)


@pytest.mark.gpu
@no_cuda
def test_running_out_of_gpu_memory_halves_the_micro_batch(
    rows: Rows, capsys: pytest.CaptureFixture[str]
) -> None:
    rt = start(device="cuda")
    model = model_on(rt, n_layer=8, n_embd=256)
    optimizer = build_optimizer(model, learning_rate=1, betas=(0.9, 0.95), weight_decay=0)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    fits = fit_micro_batch(model, Feed(rows, rt, 2), optimizer, batch_size=16)
    assert fits.micro_batch_size == 2
    limit = torch.cuda.max_memory_allocated() * 1.3
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(limit / total)
    try:
        smaller = fit_micro_batch(model, Feed(rows, rt, 16), optimizer, batch_size=16)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert smaller.micro_batch_size < 16
    assert "out of memory with 16 rows at once" in capsys.readouterr().err


@pytest.mark.gpu
@no_cuda
def test_recomputed_activations_take_less_memory(rows: Rows) -> None:
    rt, peaks = start(device="cuda"), []
    for recompute in (False, True):
        model = model_on(rt, n_layer=8, n_embd=256)
        model.checkpoint_activations = recompute
        [batch] = Feed(rows, rt, 16).work(np.arange(16)).batches
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        with rt.autocast():
            loss = model(batch)
        loss.backward()
        peaks.append(torch.cuda.max_memory_allocated() - before)
        del model, loss
    assert peaks[1] < 0.7 * peaks[0]


@pytest.mark.gpu
@no_cuda
def test_a_run_on_a_gpu_learns_saves_and_resumes(thirteen: Path, tmp_path: Path) -> None:
    flags = ["--device=cuda", "--dropout=0", "--log_every=1", "--learning_rate=3e-3"]
    flags += ["--eval_every=6", "--eval_records=2", "--max_new_tokens=4", f"--data={thirteen}"]
    straight, resumed = tmp_path / "straight", tmp_path / "resumed"
    assert train_here(*flags, "--steps=12", f"--out={straight}") == 0
    losses = train_losses(straight)
    assert losses[12] < losses[1] - 0.5
    shares = [row["mfu"] for row in jsonl.read(straight / "metrics.jsonl") if row.get("mfu")]
    assert all(0 < share < 1 for share in shares)
    shutil.copytree(straight, resumed, symlinks=True)
    shutil.rmtree(resumed / "step_000012")
    (resumed / "last").unlink()
    assert train_here(*flags, "--steps=12", f"--out={resumed}") == 0
    # Atomic additions on a GPU run in any order: the results are close, not identical.
    assert train_losses(resumed) == pytest.approx(losses, rel=1e-3)
    assert fingerprint(resumed / "step_000006") == fingerprint(straight / "step_000006")


# ------------------------------------------------------------------------------------------------
# Decoding

DECODE_PROMPTS = [[5, 6, 7], [8] * 40, [9], [10, 11] * 9]


def greedy_ids(decoder: Any, rows: int = 4) -> list[list[int]]:
    """Decode replies of different lengths, so that rows become idle one after another."""
    engine = Engine(decoder, Tokenizer.load(), rows=rows, context=64)
    replies = [
        engine.submit(prompt, Sampling(max_new_tokens=6 + 5 * n, ignore_end=True))
        for n, prompt in enumerate(DECODE_PROMPTS)
    ]
    while engine.n_waiting or engine.n_at_work:
        engine.step()
    return [reply.ids for reply in replies]


@pytest.mark.parametrize("device", DEVICES)
def test_cuda_graphs_decode_the_same_text_as_plain_steps(device: str) -> None:
    """In fp32, with rows that join and leave, so that graphs of several sizes are replayed."""
    rt = start(device=device, dtype="float32")
    expected = greedy_ids(model_on(rt).eval())
    for n_rows in (1, 2, 4):
        assert greedy_ids(GraphedDecoder(model_on(rt).eval()), rows=n_rows) == expected


@pytest.mark.parametrize("device", DEVICES)
def test_cuda_graphs_score_labels_of_several_tokens_as_plain_steps_do(device: str) -> None:
    """Scoring appends tokens and forgets them again, between replayed steps."""
    rt = start(device=device, dtype="float32")
    labels = ((5, 6, 7), (8,), (9, 10))
    found = [
        torch.tensor(label_log_probs(decoder, DECODE_PROMPTS, labels, rows=3))
        for decoder in (GraphedDecoder(model_on(rt).eval()), model_on(rt).eval())
    ]
    torch.testing.assert_close(*found, atol=1e-4, rtol=0)


@pytest.mark.gpu
@no_cuda
def test_sample_and_eval_use_cuda_graphs_in_bfloat16() -> None:
    rt = start(device="cuda", dtype="bfloat16")
    model = model_on(rt).eval()
    decoder = make_decoder(model, rt)
    assert isinstance(decoder, GraphedDecoder)
    assert model.wte.weight.dtype == torch.float32  # its losses stay exact
    assert [len(ids) for ids in greedy_ids(decoder)] == [6, 11, 16, 21]
