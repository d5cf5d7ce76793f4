"""Weights kept in 16 bits: generating, evaluating, and training LoRA on them."""

import json
from pathlib import Path

import pytest
import torch

import sample
from clingpt.base.errors import CheckpointError, ConfigError
from clingpt.decoding.decoders import make_decoder
from clingpt.nn import runtime
from clingpt.nn.checkpoint import load_model
from tests.helpers.commands import cut_back, exit_status, fingerprint, train_here, train_losses

IDS = torch.arange(40).view(2, 20)
FLAGS = "--steps=24 --eval_every=13 --log_every=1 --warmup_steps=4 --learning_rate=2e-2".split()
FLAGS += "--lora_rank=2 --lora_alpha=8 --checkpoint_activations=True --dropout=0".split()
FLAGS += ["--weights=bfloat16", "--eval_records=2", "--max_new_tokens=4"]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, thirteen: Path) -> Path:
    out = tmp_path_factory.mktemp("base") / "base"
    flags = ["--steps=2", "--n_layer=2", "--n_embd=16", "--learning_rate=3e-3", "--sample=False"]
    assert train_here(*flags, f"--data={thirteen}", f"--out={out}") == 0
    return out


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, base: Path, thirteen: Path) -> Path:
    out = tmp_path_factory.mktemp("run") / "run"
    assert train_here(*FLAGS, f"--init_from={base}", f"--data={thirteen}", f"--out={out}") == 0
    return out


def test_lora_trains_on_a_base_in_16_bits_and_keeps_its_updates_in_fp32(run: Path) -> None:
    losses = train_losses(run)
    assert losses[24] < losses[1] - 0.1
    settings = json.loads((run / "best" / "config.json").read_text())
    assert settings["dtype"] == "bfloat16"  # merged into the base as it was kept
    trainer = torch.load(run / "last" / "trainer.pt", weights_only=True)
    moments = trainer["optimizer"].values()
    assert {moment["exp_avg"].dtype for moment in moments} == {torch.float32}


@torch.no_grad()
def test_its_adapter_merges_into_the_base_in_the_type_that_it_was_trained_on(run: Path) -> None:
    merged = load_model(run / "last").model.eval()(IDS)
    alone = load_model(run / "last" / "adapter").model.eval()(IDS)
    assert 0 < float((merged - alone).norm() / merged.norm()) < 0.02  # rounding when merged


def test_a_run_in_16_bits_resumes_to_the_same_bits(
    run: Path, base: Path, thirteen: Path, tmp_path: Path
) -> None:
    resumed = cut_back(run, tmp_path / "resumed")
    paths = [f"--init_from={base}", f"--data={thirteen}", f"--out={resumed}"]
    assert train_here(*FLAGS, *paths) == 0
    last = "step_000024"
    assert fingerprint(resumed / last) == fingerprint(run / last)


def test_only_lora_trains_on_16_bits(
    base: Path, thirteen: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--weights=bfloat16", f"--init_from={base}", f"--data={thirteen}"]
    assert train_here(*flags, f"--out={tmp_path}/out") == 2
    line = "weights=bfloat16 is too coarse to train all weights; set --lora_rank=8"
    assert line in capsys.readouterr().err


def test_weights_in_16_bits_generate_on_the_cpu(
    base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [f"--checkpoint={base}", "--prompt=Pain", "--max_new_tokens=5", "--device=cpu"]
    assert exit_status(sample.main, *flags, "--weights=bfloat16") == 0
    assert "bfloat16" in capsys.readouterr().err
    assert exit_status(sample.main, *flags, "--weights=float16") == 2
    assert "float16 needs a CUDA device" in capsys.readouterr().err


@torch.no_grad()
def test_a_decoder_of_16_bits_is_close_to_fp32_and_is_not_quantised(base: Path) -> None:
    rt = runtime.start(device="cpu", weights="bfloat16")
    assert rt.dtype == rt.weights == torch.bfloat16
    exact = load_model(base).model.eval()
    model = load_model(base, dtype=rt.weights).model.eval()
    decoder = make_decoder(model, rt)
    assert decoder is model and model.wte.weight.dtype == torch.bfloat16
    among = [5, 6, 7, 50000]
    with rt.autocast():
        found_K = decoder.step({0: [1, 2, 3]}, decoder.new_cache(rows=1, capacity=9), among)[0]
    expected_K = exact.step({0: [1, 2, 3]}, exact.new_cache(rows=1, capacity=9), among)[0]
    assert found_K.dtype == torch.float32
    assert float((found_K - expected_K).norm() / expected_K.norm()) < 0.05
    with pytest.raises(ConfigError, match="--quantize=int8 rounds weights in float32"):
        make_decoder(model, rt, quantize="int8")


def test_an_adapter_is_refused_on_other_weights_than_it_was_trained_on(
    run: Path, base: Path, tmp_path: Path
) -> None:
    """The hash of a base in 16 bits is compared in 16 bits."""
    card = json.loads((run / "last/adapter/clingpt.json").read_text())
    assert card["lora"]["base_dtype"] == "bfloat16"
    other = load_model(base).model
    other.ln_f.bias.data[0] += 1
    other.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="was trained on different weights"):
        load_model(tmp_path, adapter=str(run / "last/adapter"))
