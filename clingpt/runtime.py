"""Where a run computes: device, precision, compilation, signals. All that differs by machine.

One process for now; everything that asks about ranks or the environment belongs here.
"""

import ctypes
import os
import shutil
import signal
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from types import FrameType

import numpy as np
import torch
from torch import Tensor, nn

from clingpt.errors import ConfigError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# Options of mallopt(3), as <malloc.h> numbers them, and their values in bytes.
MALLOC_MMAP_THRESHOLD, MALLOC_TRIM_THRESHOLD = (-3, 2**31 - 1), (-1, 2**31 - 1)
MALLOC_TOP_PAD = (-2, 2**28)
BFLOAT16_CAPABILITY = (8, 0)  # compute capability (Ampere) from which the hardware has bfloat16


@dataclass(frozen=True)
class Runtime:
    """The machine as the training loop sees it."""

    device: torch.device
    dtype: torch.dtype  # of matrix products; weights and optimizer stay in fp32

    def autocast(self) -> AbstractContextManager[object]:
        """Matrix products in `dtype`; the rest as PyTorch's autocast decides."""
        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)

    def scaler(self) -> torch.amp.GradScaler:
        """Loss scaling, which fp16 needs and which is the identity elsewhere."""
        return torch.amp.GradScaler(self.device.type, enabled=self.dtype == torch.float16)

    def put(self, array: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> Tensor:
        """A host array on the device; the copy does not wait for the kernels before it."""
        tensor = torch.from_numpy(array)
        if self.device.type == "cuda":
            return tensor.pin_memory().to(self.device, non_blocking=True)
        return tensor.to(self.device)

    def synchronize(self) -> None:
        """Wait for all kernels, so that a clock can be read."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        elif self.device.type == "mps":
            torch.mps.synchronize()

    def name(self) -> str:
        """The device for people."""
        if self.device.type == "cuda":
            return torch.cuda.get_device_name(self.device)
        return f"{self.device.type}, {torch.get_num_threads()} threads"

    def rng_state(self) -> dict[str, Tensor]:
        """The generators that dropout draws from."""
        states = {"cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            states["cuda"] = torch.cuda.get_rng_state(self.device)
        return states

    def set_rng_state(self, states: dict[str, Tensor]) -> None:
        """Continue those generators; a state of another kind of device is left out."""
        torch.set_rng_state(states["cpu"].cpu())
        if self.device.type == "cuda" and "cuda" in states:
            torch.cuda.set_rng_state(states["cuda"].cpu(), self.device)


def start(*, device: str, dtype: str = "auto", seed: int = 0) -> Runtime:
    """Choose device and precision, seed the generators; ConfigError where the machine lacks one."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError(
            "this version trains in one process; start train.py without torchrun, or with "
            "--nproc_per_node=1"
        )
    chosen = _device(device)
    if chosen.type == "cpu":
        keep_freed_memory()
    torch.manual_seed(seed)
    return Runtime(chosen, _dtype(dtype, chosen))


def keep_freed_memory() -> None:
    """Have glibc keep freed memory for the next step instead of giving it back to the kernel.

    Logits are freed and asked for again at each step, and the kernel clears their pages each time:
    +30 % tokens/s in the quickstart (docs/results.md). Other C libraries are left as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        for option, value in (MALLOC_MMAP_THRESHOLD, MALLOC_TRIM_THRESHOLD, MALLOC_TOP_PAD):
            mallopt(option, value)


def _device(name: str) -> torch.device:
    found = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device(next((kind for kind, there in found.items() if there), "cpu"))
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"unknown device {name!r}; give auto, cpu, cuda, cuda:1 or mps") from None
    if not found.get(device.type, device.type == "cpu"):
        raise ConfigError(f"this machine has no {device.type} device; give --device=cpu or auto")
    return device


def _dtype(name: str, device: torch.device) -> torch.dtype:
    bfloat16 = (
        device.type == "cuda" and torch.cuda.get_device_capability(device) >= BFLOAT16_CAPABILITY
    )
    if name != "auto":
        if name == "float16" and device.type != "cuda":
            raise ConfigError(f"float16 needs a CUDA device, this is {device}; give float32")
        return DTYPES[name]
    if device.type != "cuda":
        return torch.float32  # bfloat16 is emulated, nine times slower, without AMX or AVX512-BF16
    return torch.bfloat16 if bfloat16 else torch.float16


def compile_in_place(model: nn.Module, rt: Runtime) -> str | None:
    """Compile `model` where this machine can; otherwise leave it eager and say why.

    A one-line function is compiled first, so that a missing compiler is met before any work.
    Module.compile leaves parameter names alone, unlike torch.compile(model).
    """
    if rt.device.type == "cpu" and not any(map(shutil.which, ("c++", "g++", "clang++", "cl"))):
        return "no C++ compiler"
    try:
        torch.compile(lambda x: x.sin() + 1)(torch.ones(64, device=rt.device))
    except Exception as error:  # whatever the tool chain lacks: compiler, headers, Triton
        return (str(error).strip() or type(error).__name__).splitlines()[0][:120]
    model.compile()
    return None


class StopSignals:
    """Turns the first SIGINT or SIGTERM into a wish to stop; a second one stops at once."""

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._before: dict[signal.Signals, Callable[[int, FrameType | None], object] | int] = {}

    def __enter__(self) -> "StopSignals":
        for number in (signal.SIGINT, signal.SIGTERM):
            before = signal.signal(number, self._receive)
            self._before[number] = signal.SIG_DFL if before is None else before
        return self

    def __call__(self) -> bool:
        """Whether to stop."""
        return self.received is not None

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.received = signal.Signals(number)
        self._restore()

    def _restore(self) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    def __exit__(self, *_: object) -> None:
        self._restore()

    @property
    def exit_status(self) -> int:
        """128 + the signal's number, as shells report it."""
        return 128 + (self.received or 0)
