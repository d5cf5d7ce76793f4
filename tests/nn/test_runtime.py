"""Device, precision, ranks with their random numbers, compilation."""

import shutil
from collections.abc import Callable
from typing import Any

import pytest
import torch

from clingpt.base.errors import ConfigError
from clingpt.nn import runtime
from clingpt.nn.runtime import Runtime, compile_in_place
from model import GPT


def test_the_cpu_computes_in_fp32_by_default() -> None:
    rt = runtime.start(device="cpu", dtype="auto")
    assert (rt.device.type, rt.dtype) == ("cpu", torch.float32)
    assert not rt.scaler().is_enabled()


@pytest.mark.parametrize(
    ("capability", "dtype", "scaled"),
    [
        ((9, 0), torch.bfloat16, False),
        ((8, 0), torch.bfloat16, False),
        ((7, 5), torch.float16, True),
    ],
)
def test_a_gpu_uses_the_best_type_it_supports(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], dtype: torch.dtype, scaled: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    chosen = runtime.choose_dtype("auto", torch.device("cuda"))
    assert chosen == dtype
    assert Runtime(torch.device("cpu"), chosen).scaler().is_enabled() == scaled


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"device": "tpu9"}, "unknown device 'tpu9'"),
        ({"device": "xpu"}, "no xpu device"),
        ({"device": "cpu", "dtype": "float16"}, "float16 needs a CUDA device"),
    ],
)
def test_missing_devices_and_types_are_refused(settings: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        runtime.start(**settings)  # type: ignore[arg-type]


def test_a_missing_gpu_is_an_error_and_not_replaced_by_the_cpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="no cuda device; use --device=cpu or auto"):
        runtime.start(device="cuda")


@pytest.mark.parametrize(("threads", "name"), [(1, "cpu, 1 thread"), (2, "cpu, 2 threads")])
def test_the_name_of_a_cpu_counts_its_threads(
    threads: int, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert runtime.start(device="cpu", dtype="auto").name() == name


def test_restored_random_numbers_continue_the_sequence() -> None:
    rt = runtime.start(device="cpu", seed=3)
    state = rt.rng_state()
    drawn = torch.rand(4)
    rt.set_rng_state(state)
    assert torch.equal(torch.rand(4), drawn)
    runtime.start(device="cpu", seed=3)
    assert torch.equal(torch.rand(4), drawn)


def test_single_process_commands_refuse_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match=r"only train.py and eval.py run on many processes"):
        runtime.start(device="cpu")
    monkeypatch.delenv("RANK", raising=False)
    with (
        pytest.raises(ConfigError, match="WORLD_SIZE is set but 'RANK' is not"),
        runtime.joined(device="cpu"),
    ):
        pass


def test_a_single_process_needs_no_process_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "1")  # by torchrun --nproc_per_node=1
    with runtime.joined(device="cpu") as rt:
        assert (rt.rank, rt.n_ranks, rt.is_main) == (0, 1, True)
        assert rt.gathered("x") == ["x"] and rt.agreed(True) and not rt.agreed(False)
        assert rt.on_main(lambda: 5) == 5 and rt.share([1, 2, 3]) == [1, 2, 3]
        tensor = torch.ones(3)
        assert rt.total(tensor) is tensor
        model = torch.nn.Linear(1, 1)
        assert rt.replicate(model, blocks=torch.nn.ModuleList(), shard=False) is model


@pytest.mark.parametrize(
    ("name", "local_rank", "message"),
    [
        ("cuda:1", 0, "assigns each process its GPU; leave out --device=cuda:1"),
        ("cuda", 2, r"more processes than this machine has GPUs \(2\); lower --nproc_per_node"),
    ],
)
def test_a_rank_without_its_own_gpu_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, local_rank: int, message: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert runtime._device_of_rank("auto", 1) == torch.device("cuda:1")
    with pytest.raises(ConfigError, match=message):
        runtime._device_of_rank(name, local_rank)


def test_every_rank_has_different_random_numbers() -> None:
    drawn = []
    for rank in (0, 1, 0):
        Runtime(torch.device("cpu"), torch.float32, rank, 2).seed_rank(7)
        drawn.append(torch.rand(3))
    assert torch.equal(drawn[0], drawn[2]) and not torch.equal(drawn[0], drawn[1])


def test_a_later_read_returns_the_value_at_the_time_of_the_call() -> None:
    tensor = torch.zeros(2)
    read = Runtime(torch.device("cpu"), torch.float32).later(tensor)
    tensor += 1
    assert read().tolist() == [0, 0]


# ------------------------------------------------------------------------------------------------
# Compilation

CPU = Runtime(torch.device("cpu"), torch.float32)


@pytest.fixture
def no_compiler_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/c++")
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)


@pytest.mark.parametrize(
    ("device", "wanted", "compiled"),
    [("cpu", None, False), ("cpu", True, True), ("cuda", None, True), ("cuda", False, False)],
)
def test_compiling_is_the_default_only_on_a_gpu(
    device: str,
    wanted: bool | None,
    compiled: bool,
    tiny_model: Callable[..., GPT],
    no_compiler_needed: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("clingpt.nn.runtime._why_not_compiled", lambda rt: None)
    model = tiny_model()
    rt = Runtime(torch.device(device), torch.float32)
    assert compile_in_place(model, rt, wanted=wanted) == compiled
    assert (model._compiled_call_impl is not None) == compiled


def test_reason_against_compiling_is_never_cut_inside_a_word(
    tiny_model: Callable[..., GPT],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def broken(_: object) -> None:
        raise RuntimeError("the compiler needs compatibility headers " * 5 + "\nTraceback: …")

    monkeypatch.setattr("clingpt.nn.runtime.shutil.which", lambda name: name)
    monkeypatch.setattr(torch, "compile", broken)
    rt = Runtime(torch.device("cpu"), torch.float32)
    assert not compile_in_place(tiny_model(), rt, wanted=True)
    [line] = capsys.readouterr().err.splitlines()
    words = line.removesuffix(" …").partition(": ")[2].split()
    assert set(words) == set("the compiler needs compatibility headers".split())
    assert line.endswith(" …") and len(line) < 180


def test_blocks_are_compiled_one_by_one_on_several_ranks(
    tiny_model: Callable[..., GPT], no_compiler_needed: None
) -> None:
    model = tiny_model()
    assert compile_in_place(model, Runtime(CPU.device, CPU.dtype, 0, 2), wanted=True)
    assert model._compiled_call_impl is None
    assert all(block._compiled_call_impl is not None for block in model.h)


def test_without_a_compiler_the_model_stays_eager(
    monkeypatch: pytest.MonkeyPatch,
    tiny_model: Callable[..., GPT],
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    model = tiny_model()
    assert not compile_in_place(model, CPU, wanted=True)
    assert model._compiled_call_impl is None
    assert "training eagerly: no C++ compiler" in capsys.readouterr().err


def test_a_broken_tool_chain_leaves_the_model_eager(
    monkeypatch: pytest.MonkeyPatch,
    tiny_model: Callable[..., GPT],
    capsys: pytest.CaptureFixture[str],
) -> None:
    def broken(function: Any) -> Any:
        def call(*_: Any) -> None:
            raise RuntimeError("Python.h not found\nand much more")

        return call

    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/c++")
    monkeypatch.setattr(torch, "compile", broken)
    model = tiny_model()
    assert not compile_in_place(model, runtime.start(device="cpu"), wanted=True)
    assert model._compiled_call_impl is None
    assert capsys.readouterr().err.endswith("training eagerly: Python.h not found\n")
