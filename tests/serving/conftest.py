"""The checkpoint that most tests of the server share."""

import os
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest
import torch

from clingpt.text.tokenizer import VOCAB_SIZE
from tests.helpers.models import make_tiny_model

CONTEXT = 256


@pytest.fixture(scope="package")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model; its weights are so large that no two tokens are almost equally likely."""
    folder = tmp_path_factory.mktemp("served") / "tiny"
    model = make_tiny_model(vocab_size=VOCAB_SIZE, block_size=CONTEXT, n_embd=32)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", autouse=True)
def single_thread() -> Iterator[None]:
    """Run models on one thread, here and in servers: tiny ones only wait for their threads."""
    n_threads = torch.get_num_threads()
    with mock.patch.dict(os.environ, {"OMP_NUM_THREADS": "1"}):
        torch.set_num_threads(1)
        yield
        torch.set_num_threads(n_threads)
