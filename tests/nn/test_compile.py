"""Compilation where the machine can, by its own word where it cannot."""

import shutil
from collections.abc import Callable
from typing import Any

import pytest
import torch

from clingpt.nn import runtime
from clingpt.nn.compile import compile_in_place
from clingpt.nn.runtime import Runtime
from model import GPT

CPU = Runtime(torch.device("cpu"), torch.float32)


@pytest.fixture
def no_compiler_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/c++")
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)


@pytest.mark.parametrize(
    ("device", "wanted", "compiled"),
    [("cpu", None, False), ("cpu", True, True), ("cuda", None, True), ("cuda", False, False)],
)
def test_a_gpu_compiles_unless_told_otherwise(
    device: str,
    wanted: bool | None,
    compiled: bool,
    tiny_model: Callable[..., GPT],
    no_compiler_needed: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("clingpt.nn.compile._why_not", lambda rt: None)
    model = tiny_model()
    rt = Runtime(torch.device(device), torch.float32)
    assert compile_in_place(model, rt, wanted=wanted) == compiled
    assert (model._compiled_call_impl is not None) == compiled


def test_on_many_processes_blocks_are_compiled_one_by_one(
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


def test_a_tool_chain_that_fails_leaves_the_model_eager(
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
