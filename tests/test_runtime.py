"""Device, precision, compilation and signals."""

import pytest
import torch

from clingpt import runtime
from clingpt.errors import ConfigError
from clingpt.runtime import Runtime


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
def test_what_the_machine_lacks_is_refused(settings: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        runtime.start(**settings)  # type: ignore[arg-type]


def test_a_missing_gpu_is_never_replaced_in_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="no cuda device; give --device=cpu or auto"):
        runtime.start(device="cuda")


def test_random_numbers_go_on_where_they_were() -> None:
    rt = runtime.start(device="cpu", seed=3)
    state = rt.rng_state()
    drawn = torch.rand(4)
    rt.set_rng_state(state)
    assert torch.equal(torch.rand(4), drawn)
    runtime.start(device="cpu", seed=3)
    assert torch.equal(torch.rand(4), drawn)
