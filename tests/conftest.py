"""Fixtures that several packages' tests share."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from clingpt.base import console
from model import GPT, Batch
from tests.helpers.commands import prepare_thirteen, run
from tests.helpers.models import VOCAB_SIZE, Document, SlowBatch, make_documents, make_tiny_model


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Print tables in this process so wide that no message in a cell is broken into lines."""
    monkeypatch.setattr(console, "PAGE_COLUMNS", 500)
    monkeypatch.setenv("COLUMNS", "500")


@pytest.fixture(scope="session")
def tiny_model() -> Callable[..., GPT]:
    return make_tiny_model


@pytest.fixture(scope="session")
def documents() -> list[Document]:
    return make_documents()


@pytest.fixture(scope="session")
def slow_batch() -> SlowBatch:
    """Makes a Batch of rows of documents in plain Python, without spare borders or targets."""

    def assemble(rows: list[list[Document]], length: int, padding: int = 0) -> Batch:
        ids: list[int] = []
        positions, borders, index, targets = [], [], [], []
        for row in rows:
            for tokens, n_prompt in row:
                borders.append(len(ids))
                for place, token in enumerate(tokens):
                    if place >= n_prompt:
                        index.append(len(ids) - 1)
                        targets.append(token)
                    ids.append(token)
                    positions.append(place)
            if len(ids) % length:
                borders.append(len(ids))
            while len(ids) % length:
                ids.append(padding)
                positions.append(0)
        borders.append(len(ids))
        shaped = (torch.tensor(x).view(len(rows), length) for x in (ids, positions))
        return Batch(*shaped, *map(torch.tensor, (borders, [index], [targets])))

    return assemble


@pytest.fixture
def hub_gpt2(tmp_path: Path) -> Path:
    """A random two-layer GPT-2 by `transformers`, as the Hub has it: no prefix, mask buffers."""
    from safetensors.torch import save_file
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(1)
    config = GPT2Config(
        vocab_size=VOCAB_SIZE,
        n_positions=24,
        n_layer=2,
        n_head=2,
        n_embd=16,
        initializer_range=0.3,
        bos_token_id=0,
        eos_token_id=0,
    )
    tensors = dict(GPT2LMHeadModel(config).transformer.state_dict())
    for layer in range(config.n_layer):
        tensors[f"h.{layer}.attn.bias"] = torch.ones(24, 24).tril().view(1, 1, 24, 24)
        tensors[f"h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
    folder = tmp_path / "hub"
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors")
    config.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty synthetic records, prepared."""
    folder = tmp_path_factory.mktemp("data") / "tiny"
    flags = [
        "--source=synthetic",
        "--synthetic_records=60",
        "--synthetic_held_out=6",
        "--tasks",
        "answer",
        "summarize",
    ]
    run("prepare.py", *flags, f"--out={folder}", "--block_size=256")
    return folder


@pytest.fixture(scope="session")
def thirteen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirteen synthetic records to train on, four held out, prepared for the task answer."""
    return prepare_thirteen(tmp_path_factory.mktemp("data") / "thirteen", "answer")
