"""Device, precision, compilation and signals."""

import os
import shutil
import signal
from collections.abc import Callable
from typing import Any

import pytest
import torch

from clingpt import runtime
from clingpt.errors import ConfigError
from clingpt.runtime import Runtime, StopSignals
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
def test_a_gpu_computes_in_what_it_has(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], dtype: torch.dtype, scaled: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    chosen = runtime._dtype("auto", torch.device("cuda"))
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
def test_what_the_machine_lacks_is_refused(settings: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        runtime.start(**settings)  # type: ignore[arg-type]


def test_a_missing_gpu_is_never_replaced_in_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="no cuda device; give --device=cpu or auto"):
        runtime.start(device="cuda")


def test_more_than_one_process_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="one process"):
        runtime.start(device="cpu")


def test_random_numbers_go_on_where_they_were() -> None:
    rt = runtime.start(device="cpu", seed=3)
    state = rt.rng_state()
    drawn = torch.rand(4)
    rt.set_rng_state(state)
    assert torch.equal(torch.rand(4), drawn)
    runtime.start(device="cpu", seed=3)
    assert torch.equal(torch.rand(4), drawn)


def test_without_a_compiler_the_model_stays_eager(
    monkeypatch: pytest.MonkeyPatch, tiny_model: Callable[..., GPT]
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    model = tiny_model()
    rt = runtime.start(device="cpu")
    assert runtime.compile_in_place(model, rt) == "no C++ compiler"
    assert model._compiled_call_impl is None


def test_a_tool_chain_that_fails_leaves_the_model_eager(
    monkeypatch: pytest.MonkeyPatch, tiny_model: Callable[..., GPT]
) -> None:
    def broken(function: Any) -> Any:
        def call(*_: Any) -> None:
            raise RuntimeError("Python.h not found\nand much more")

        return call

    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/c++")
    monkeypatch.setattr(torch, "compile", broken)
    model = tiny_model()
    assert runtime.compile_in_place(model, runtime.start(device="cpu")) == "Python.h not found"
    assert model._compiled_call_impl is None


def test_the_first_signal_is_a_wish_and_the_second_an_order() -> None:
    before = signal.getsignal(signal.SIGINT)
    with StopSignals() as stop:
        assert not stop()
        os.kill(os.getpid(), signal.SIGINT)
        assert stop() and stop.exit_status == 130
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) == before
    assert StopSignals().exit_status == 128
