"""Adapters made by PEFT: merged as PEFT merges them, or refused by name."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import IA3Config, LoraConfig, get_peft_model
from safetensors.torch import load_file
from torch import Tensor
from transformers import GPT2ForSequenceClassification, GPT2LMHeadModel

import sample
from clingpt.base.errors import CheckpointError
from clingpt.nn.checkpoint import load_model
from clingpt.text.tokenizer import Tokenizer
from tests.helpers.commands import exit_status
from tests.helpers.parity import build_theirs, largest_difference

IDS = torch.arange(60).view(2, 30) * 97


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GPT-2 by transformers, with an MLP of its own width."""
    folder = tmp_path_factory.mktemp("base")
    shape: dict[str, Any] = {"vocab_size": 50257, "n_positions": 64, "n_layer": 2}
    shape |= {"n_head": 2, "n_embd": 32}
    build_theirs(**shape, n_inner=80).save_pretrained(folder)
    Tokenizer.load().save(folder)
    return folder


def make_adapter(base: Path, folder: Path, **settings: Any) -> Tensor:
    """Write an adapter with random updates; return the logits of PEFT's merged model."""
    plain = GPT2LMHeadModel.from_pretrained(base)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT sets fan_in_fan_out itself
        model = get_peft_model(plain, LoraConfig(**{"task_type": "CAUSAL_LM"} | settings))
    torch.manual_seed(2)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.1 * torch.randn_like(parameter)
    model.save_pretrained(str(folder))
    with torch.no_grad():
        logits: Tensor = model.merge_and_unload().eval()(IDS).logits
    return logits


KINDS: dict[str, dict[str, Any]] = {
    "a list": {"target_modules": ["c_attn", "c_fc", "c_proj"], "fan_in_fan_out": True},
    "a name": {"target_modules": ["c_attn"], "r": 4},
    "a regular expression": {"target_modules": r".*\.h\.\d\.(attn|mlp)\.c_proj", "r": 4},
    "all linear layers": {"target_modules": "all-linear", "r": 3},
    "PEFT's own choice": {},
    "a path": {"target_modules": ["attn.c_proj", "mlp.c_fc"]},
    "one layer": {"target_modules": ["c_attn"], "layers_to_transform": [1], "layers_pattern": "h"},
    "another alpha": {"target_modules": ["c_attn"], "lora_alpha": 24, "r": 3},
    "rsLoRA": {"target_modules": ["c_attn", "c_fc"], "use_rslora": True, "r": 4},
    "ranks and alphas by pattern": {
        "target_modules": ["c_attn", "c_fc", "c_proj"],
        "rank_pattern": {"mlp.c_proj": 5, r"h\.1\.attn\.c_attn": 2},
        "alpha_pattern": {"c_fc": 20, r"transformer\.h\.0\.attn\.c_proj": 3},
    },
    "biases of its layers": {"target_modules": ["c_attn"], "bias": "lora_only"},
    "all biases": {"target_modules": ["c_attn"], "bias": "all"},
    "norms trained whole": {"target_modules": ["c_attn"], "modules_to_save": ["ln_f", "ln_1"]},
    "a matrix trained whole": {"target_modules": ["c_attn"], "modules_to_save": ["c_fc"]},
    "no task": {"target_modules": ["c_attn"], "task_type": None},
}


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_of_peft_is_merged_as_peft_merges_it(
    kind: str, base: Path, tmp_path: Path
) -> None:
    expected = make_adapter(base, tmp_path / "adapter", **KINDS[kind])
    found = load_model(tmp_path / "adapter").model.eval()(IDS)  # it names its base
    assert largest_difference(found, expected) <= 1e-5
    plain = load_model(base).model.eval()(IDS)
    assert largest_difference(plain, expected) > 0.01  # the update is not negligible
    edit(tmp_path / "adapter", base_model_name_or_path="/home/someone/gpt2")
    given = load_model(base, adapter=str(tmp_path / "adapter"))
    assert torch.equal(given.model.eval()(IDS), found)
    assert given.folder == tmp_path / "adapter"


@torch.no_grad()
def test_an_old_adapter_is_a_pickle_and_is_not_served(base: Path, tmp_path: Path) -> None:
    expected = make_adapter(base, tmp_path, target_modules=["c_attn"])
    path = tmp_path / "adapter_model.safetensors"
    torch.save(load_file(path), tmp_path / "adapter_model.bin")
    path.unlink()
    assert largest_difference(load_model(tmp_path).model.eval()(IDS), expected) <= 1e-5
    with pytest.raises(CheckpointError, match=r"but adapter_model.bin, and such files can contain"):
        load_model(tmp_path, pickles=False)


def test_the_command_line_takes_an_adapter(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_adapter(base, tmp_path, target_modules=["c_attn"])
    edit(tmp_path, base_model_name_or_path=None)
    flags = ["--prompt=Pain fell", "--max_new_tokens=4", "--device=cpu", f"--adapter={tmp_path}"]
    assert exit_status(sample.main, f"--checkpoint={base}", *flags) == 0
    assert exit_status(sample.main, f"--checkpoint={tmp_path}", *flags[:-1]) == 1
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert f"{tmp_path} does not name its base; pass it as --checkpoint=BASE" in line


def edit(folder: Path, **changes: Any) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def ia3(base: Path, folder: Path) -> None:
    settings = IA3Config(target_modules=["c_attn"], feedforward_modules=[], task_type="CAUSAL_LM")
    get_peft_model(GPT2LMHeadModel.from_pretrained(base), settings).save_pretrained(str(folder))


def classifier(base: Path, folder: Path) -> None:
    model = GPT2ForSequenceClassification.from_pretrained(base, num_labels=3)
    settings = LoraConfig(target_modules=["c_attn"], task_type="SEQ_CLS")
    get_peft_model(model, settings).save_pretrained(str(folder))


def of(**settings: Any) -> Callable[[Path, Path], object]:
    settings = {"target_modules": ["c_attn"]} | settings
    return lambda base, folder: make_adapter(base, folder, **settings)


def changed(**changes: Any) -> Callable[[Path, Path], object]:
    def make(base: Path, folder: Path) -> None:
        make_adapter(base, folder, target_modules=["c_attn"])
        edit(folder, **changes)

    return make


def of_another_width(base: Path, folder: Path) -> None:
    wide = folder.with_name("wide")
    shape: dict[str, Any] = {"vocab_size": 50257, "n_positions": 64, "n_layer": 2}
    shape |= {"n_head": 2, "n_embd": 64}
    build_theirs(**shape).save_pretrained(wide)
    make_adapter(wide, folder, target_modules=["c_attn"])
    edit(folder, base_model_name_or_path=str(base))


REFUSED: dict[str, tuple[Callable[[Path, Path], object], str]] = {
    "DoRA": (of(use_dora=True), "is a LoRA adapter with use_dora, which is not supported"),
    "IA3": (ia3, "is a PEFT adapter of the type IA3, not LORA; merge it in PEFT"),
    "a classifier": (classifier, "is an adapter for the task SEQ_CLS, which does not write text"),
    "PiSSA": (
        changed(init_lora_weights="pissa"),
        "is a LoRA adapter that began as pissa, with a changed base; merge it in PEFT",
    ),
    "biases of B": (of(lora_bias=True), "is a LoRA adapter with lora_bias"),
    "single tokens": (of(trainable_token_indices=[5]), "with trainable_token_indices"),
    "an embedding": (
        of(modules_to_save=["wte"]),
        r"with an embedding or output head of its own \(wte.weight\)",
    ),
    "an adapted embedding": (
        of(target_modules=["wte"]),
        r"output head of its own \(wte.lora_embedding_A",
    ),
    "an unknown base": (
        changed(base_model_name_or_path="./nowhere"),
        "is an adapter of ./nowhere: .* is not a folder; .* pass --checkpoint=BASE --adapter",
    ),
    "another width": (of_another_width, "does not fit its base: see h.0.attn.c_attn"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", REFUSED)
def test_other_adapters_are_refused_by_name(kind: str, base: Path, tmp_path: Path) -> None:
    make, expected = REFUSED[kind]
    make(base, tmp_path / "adapter")
    with pytest.raises(CheckpointError, match=expected) as error:
        load_model(tmp_path / "adapter")
    assert str(error.value).count("\n") == 0


def test_a_model_is_not_an_adapter(base: Path) -> None:
    with pytest.raises(CheckpointError, match="is not an adapter; pass it as --checkpoint"):
        load_model(base, adapter=str(base))
