"""A CPU's memory: estimated before the first step, and the micro-batch chosen to fit."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import train
from clingpt.nn.kernels import use_kernels
from clingpt.nn.lora import Lora, adapt
from clingpt.nn.runtime import Runtime
from clingpt.training import memory_fit
from clingpt.training.batches import Feed
from clingpt.training.memory_fit import choose_micro_batch
from clingpt.training.step import build_optimizer
from model import GPT
from tests.helpers.commands import TINY_RUN, exit_status
from tests.helpers.models import Document, rows_of_documents
from tests.helpers.peak_memory import peak

Capture = pytest.CaptureFixture[str]
CPU = Runtime(torch.device("cpu"), torch.float32)


def choose(
    model: GPT, documents: list[Document], free: int | None, *, is_explicit: bool = False
) -> int:
    """Return the micro-batch size for twelve rows of a batch, with so much memory."""
    feed = Feed(rows_of_documents(documents, 24), CPU, 99)
    optimizer = build_optimizer(model, learning_rate=1, betas=(0.9, 0.95), weight_decay=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory_fit, "available_memory", lambda: free)
        chosen = choose_micro_batch(model, feed, optimizer, batch_size=8, is_explicit=is_explicit)
    assert replace(chosen, micro_batch_size=99) == feed and not optimizer.state
    return chosen.micro_batch_size


def needed(model: GPT, documents: list[Document], rows: int) -> int:
    feed = Feed(rows_of_documents(documents, 24), CPU, 99)
    optimizer = build_optimizer(model, learning_rate=1, betas=(0.9, 0.95), weight_decay=0)
    saved = memory_fit._saved_bytes(model)
    return memory_fit._bytes_to_train(model, feed, optimizer, rows, *saved)


def test_the_largest_micro_batch_that_fits_is_chosen_and_reported(
    tiny_model: Callable[..., GPT], documents: list[Document], capsys: Capture
) -> None:
    model = use_kernels(tiny_model(dropout=0.1)).train()
    before = torch.get_rng_state()
    assert choose(model, documents, 10**12) == 8
    assert torch.equal(before, torch.get_rng_state())
    assert "with 8 rows at a time; 1.0 TB are available" in capsys.readouterr().err
    assert choose(model, documents, needed(model, documents, 4)) == 4
    [note] = capsys.readouterr().err.splitlines()
    assert " with 4 rows at a time, since 8 would take about " in note
    assert note.endswith("(a step still has 8 rows)")
    assert choose(model, documents, needed(model, documents, 1) - 1) == 1
    assert "even one row at a time will probably not fit" in capsys.readouterr().err
    assert choose(model, documents, None) == 8  # the memory of this machine is not known
    assert capsys.readouterr().err.endswith(" with 8 rows at a time\n")


def test_an_explicit_micro_batch_is_kept_and_warned_about(
    tiny_model: Callable[..., GPT], documents: list[Document], capsys: Capture
) -> None:
    model = use_kernels(tiny_model()).train()
    assert choose(model, documents, needed(model, documents, 2), is_explicit=True) == 99
    [note] = capsys.readouterr().err.splitlines()
    assert note.startswith("memory: --micro_batch_size=99 will probably not fit, with about ")
    assert "; 2 would take about " in note


@pytest.mark.parametrize("adapted", [False, True])
@pytest.mark.parametrize("recompute", [False, True])
def test_what_a_step_keeps_is_known_from_short_passes(
    adapted: bool, recompute: bool, tiny_model: Callable[..., GPT], documents: list[Document]
) -> None:
    """Counted by autograd's hooks on a real batch, except for inputs of recomputed blocks."""
    model = use_kernels(tiny_model(n_layer=3, n_embd=64, dropout=0.1)).train()
    if adapted:
        adapt(model, Lora(rank=2, alpha=4, dropout=0.1, base="x"))
    model.checkpoint_activations = recompute
    rows = rows_of_documents(documents, 24)
    per_token, per_target = memory_fit._saved_bytes(model)
    [batch] = Feed(rows, CPU, 99).work(np.arange(len(rows))).batches
    sizes: dict[int, int] = {}

    def see(tensor: torch.Tensor) -> torch.Tensor:
        sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(see, lambda tensor: tensor):
        loss = model(batch)
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    found = sum(size for place, size in sizes.items() if place not in own)
    found -= 4 * model.wte.weight.numel()  # the gradient of the head, which is counted separately
    n_tokens, n_targets = batch.ids_BT.numel(), batch.targets_KM.numel()
    if recompute:
        per_token -= 4 * 3 * 64
    assert per_token * n_tokens + per_target * n_targets == pytest.approx(found, rel=0.02)
    assert loss.isfinite()


def test_a_preset_is_fitted_and_a_flag_is_obeyed(
    thirteen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr(memory_fit, "available_memory", lambda: 1)
    preset = tmp_path / "preset.py"
    preset.write_text("micro_batch_size = 2\n")
    flags = [flag for flag in TINY_RUN if not flag.startswith("--micro_batch_size")]
    flags += [f"--data={thirteen}", "--steps=1", "--sample=False"]
    assert exit_status(train.main, preset, *flags, f"--out={tmp_path / 'a'}") == 0
    assert "memory: even one row at a time will probably not" in capsys.readouterr().err
    flags += ["--micro-batch-size=2"]
    assert exit_status(train.main, preset, *flags, f"--out={tmp_path / 'b'}") == 0
    assert "memory: --micro_batch_size=2 will probably not fit" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "files", "left"),
    [
        ("0::/a/b", {"a/memory.max": "500", "a/memory.current": "300"}, [230]),
        ("0::/a/b", {"a/memory.max": "max", "a/memory.current": "300"}, []),
        ("0::/", {"memory.max": "500", "memory.current": "900"}, [0]),
        (
            "4:memory:/of/the/host",  # in a container, whose own files are at the top
            {"memory/memory.limit_in_bytes": "500", "memory/memory.usage_in_bytes": "300"},
            [230],
        ),
        ("3:cpuset:/", {"cpuset/memory.max": "5"}, []),
    ],
)
def test_limits_of_containers_are_read(
    line: str, files: dict[str, str], left: list[int], tmp_path: Path
) -> None:
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
        path.with_name("memory.stat").write_text("file 9\ninactive_file 30\nactive_file 7\n")
    (tmp_path / "groups").write_text(f"1:name=systemd:/x\n{line}\n")
    assert memory_fit._left_in_containers(tmp_path, tmp_path / "groups") == left


def test_without_proc_all_memory_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS."""
    here = memory_fit.available_memory()

    def missing(self: Path, *args: object) -> str:
        raise FileNotFoundError(self)

    monkeypatch.setattr(Path, "read_text", missing)
    there = memory_fit.available_memory()
    assert here and there and here < there and memory_fit.resident_bytes() > 10**8
    monkeypatch.setattr("os.sysconf_names", {})
    assert memory_fit.available_memory() is None


@pytest.mark.slow
@pytest.mark.parametrize("micro_batch_size", [1, 8])
def test_the_estimate_is_near_the_measured_peak(micro_batch_size: int, data: Path) -> None:
    shape = ["--init_from=scratch", "--n_layer=4", "--n_head=4", "--n_embd=256"]
    rows = ["--block_size=512", "--batch_size=8", f"--micro_batch_size={micro_batch_size}"]
    estimate, measured = peak(f"--data={data}", *shape, *rows)
    assert estimate == pytest.approx(measured, rel=0.25)
