"""Peak memory of loading and saving, of a process that does nothing else."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from model import GPT, GPTConfig
from tests.helpers.commands import ROOT

CODE = """
import sys, torch
from pathlib import Path
from model import GPT, GPTConfig
from tests.helpers.memory import forget_peak, peak_mb, resident_mb
import safetensors.torch

source, dtype, saved = sys.argv[1:]
before = resident_mb()
forget_peak()  # of the imports
model = GPT.from_pretrained(source, dtype=getattr(torch, dtype))
weights = sum(p.nbytes for p in model.parameters()) / 1e6
loaded = peak_mb() - before
if saved:
    model.save_pretrained(Path(saved))
print(weights, loaded, peak_mb() - before)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("large")
    GPT(GPTConfig()).save_pretrained(path)
    return path


def peaks(source: Path, dtype: str = "float32", saved: Path | str = "") -> tuple[float, float]:
    """Return the peaks of loading, and of saving after it, as multiples of the weights' bytes."""
    command = [sys.executable, "-c", CODE, str(source), dtype, str(saved)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    weights, loaded, both = map(float, done.stdout.split())
    return loaded / weights, both / weights


def as_pickle(folder: Path, to: Path, *, archive: bool = True) -> Path:
    """Write the same weights as a pytorch_model.bin with an explicit output head."""
    tensors = load_file(folder / "model.safetensors")
    tensors["lm_head.weight"] = tensors["transformer.wte.weight"]
    torch.save(tensors, to / "pytorch_model.bin", _use_new_zipfile_serialization=archive)
    (to / "config.json").write_bytes((folder / "config.json").read_bytes())
    return to


def in_shards(folder: Path, to: Path) -> Path:
    """Write the same weights in two shards, with an explicit output head in the second."""
    from safetensors.torch import save_file

    tensors = load_file(folder / "model.safetensors")
    tensors["lm_head.weight"] = tensors["transformer.wte.weight"].clone()
    weight_map = {name: f"model-{n % 2}.safetensors" for n, name in enumerate(tensors)}
    for shard in set(weight_map.values()):
        save_file({n: t for n, t in tensors.items() if weight_map[n] == shard}, to / shard)
    (to / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (to / "config.json").write_bytes((folder / "config.json").read_bytes())
    return to


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [("safetensors", "float32"), ("shards", "float32"), ("pickle", "bfloat16")],
)
def test_loading_needs_little_more_memory_than_the_model(
    kind: str, dtype: str, folder: Path, tmp_path: Path
) -> None:
    """In 16 bits, the largest tensor is in memory as the file has it, too."""
    make = {"safetensors": lambda *_: folder, "shards": in_shards, "pickle": as_pickle}[kind]
    loaded, _ = peaks(make(folder, tmp_path), dtype)
    assert loaded < 1.15, f"{loaded:.3f} times the weights"


def test_an_old_pickle_needs_one_tensor_more(folder: Path, tmp_path: Path) -> None:
    """Files of torch before 1.6 cannot be mapped into memory."""
    loaded, _ = peaks(as_pickle(folder, tmp_path, archive=False))
    assert loaded < 1.5, f"{loaded:.3f} times the weights"


def test_saving_needs_no_second_copy_of_the_weights(folder: Path, tmp_path: Path) -> None:
    _, both = peaks(folder, saved=tmp_path / "saved")
    assert both < 1.2, f"{both:.3f} times the weights"
