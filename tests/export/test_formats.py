"""export.py: folders for transformers, vLLM and llama.cpp, torch.export and TorchScript programs.

The reference is transformers' GPT2LMHeadModel on the exported folder, never our own verification.
"""

import ast
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from huggingface_hub import ModelCard
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2LMHeadModel

import export as command
import sample
from clingpt.base import console
from clingpt.base.errors import CheckpointError, ConfigError
from clingpt.data.prepared import FolderWriter
from clingpt.data.synthetic import iter_records
from clingpt.export import formats, stateless
from clingpt.export.onnx_int8 import block_size
from clingpt.export.stateless import Stateless
from clingpt.export.verify import Difference, Step, check, difference
from clingpt.nn.checkpoint import Loaded, load_model, read_card
from clingpt.text.tasks import prompt_text
from clingpt.text.tokenizer import Tokenizer
from model import GPT, GPTConfig
from tests.helpers.commands import ROOT, write_sums
from tests.helpers.exports import (
    CARD,
    LENGTHS,
    SHAPES,
    Case,
    assert_same,
    export,
    make_cases,
    make_checkpoint,
)
from tests.helpers.models import make_tiny_model

Patch = pytest.MonkeyPatch
Capture = pytest.CaptureFixture[str]
LINEARS = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")


@pytest.fixture(scope="module")
def model() -> GPT:
    return make_tiny_model(vocab_size=50257, block_size=128, n_embd=32).eval()


@pytest.fixture(scope="module")
def checkpoint(model: GPT, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("run") / "step_000013", model)


@pytest.fixture(scope="module")
def exported(
    checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Path]]:
    """Exports the checkpoint with given flags, once each, under the usual umask."""
    made: dict[tuple[str, ...], Path] = {}
    before = os.umask(0o022)

    def write(*flags: str) -> Path:
        if flags not in made:
            out = tmp_path_factory.mktemp("exported") / "model"
            assert export(f"--checkpoint={checkpoint}", f"--out={out}", *flags) == 0
            made[flags] = out
        return made[flags]

    yield write
    os.umask(before)


@pytest.fixture(scope="module")
def hf(exported: Callable[..., Path]) -> Path:
    return exported("--format=hf")


@pytest.fixture(scope="module")
def judge(hf: Path) -> Any:
    return GPT2LMHeadModel.from_pretrained(hf).eval()


@pytest.fixture(scope="module")
def cases(judge: GPT2LMHeadModel) -> list[Case]:
    return make_cases(judge)


# Hugging Face folders


@torch.no_grad()
def test_transformers_reproduces_the_logits(hf: Path, model: GPT) -> None:
    judge, info = AutoModelForCausalLM.from_pretrained(hf, output_loading_info=True)
    assert type(judge) is GPT2LMHeadModel
    assert not any(info.values()), info
    ids = torch.randint(50257, (20, 33), generator=torch.Generator().manual_seed(1))
    theirs, ours = judge.eval()(ids).logits, model(ids)
    assert theirs.dtype == torch.float32 and theirs.shape == ours.shape
    assert (theirs - ours).abs().max() <= 1e-5 * ours.abs().max()
    assert torch.equal(theirs.argmax(-1), ours.argmax(-1))


@torch.no_grad()
def test_export_loads_again_with_the_same_logits(hf: Path, cases: list[Case]) -> None:
    step = Stateless(load_model(hf).model.eval())
    for case in cases:
        assert_same(case, step(*case.inputs))


def test_hf_folder_is_a_complete_checkpoint(hf: Path, checkpoint: Path) -> None:
    wanted = "config.json generation_config.json model.safetensors tokenizer.json README.md"
    wanted += " tokenizer_config.json vocab.json merges.txt clingpt.json calibration.json"
    files = {path.name: path.read_bytes() for path in hf.iterdir()}
    sums = files.pop("SHA256SUMS").decode().splitlines()
    assert files.keys() == set(wanted.split())
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    assert dict(line.split("  ")[::-1] for line in sums) == hashes
    for name in ("README.md", "clingpt.json", "calibration.json"):
        assert files[name] == (checkpoint / name).read_bytes()


@pytest.mark.parametrize(
    "form", ["hf", "torchscript", pytest.param("torch_export", marks=pytest.mark.slow)]
)
def test_files_are_world_readable(form: str, exported: Callable[..., Path]) -> None:
    modes = {
        path.name: path.stat().st_mode & 0o777 for path in exported(f"--format={form}").iterdir()
    }
    assert set(modes.values()) == {0o644}, modes


def test_hub_folder_without_an_evaluation_has_a_card_for_the_hub(
    checkpoint: Path, tmp_path: Path, capsys: Capture
) -> None:
    shutil.copytree(checkpoint, tmp_path / "run")
    (tmp_path / "run" / "README.md").unlink()
    edit = {"settings": {"init_from": "gpt2", "data": "/home/me/notes/prepared"}}
    (tmp_path / "run" / "clingpt.json").write_text(json.dumps({**CARD, **edit}))
    write_sums(tmp_path / "run")
    out = tmp_path / "out"
    assert export(f"--checkpoint={tmp_path / 'run'}", "--format=hf", f"--out={out}") == 0
    card = ModelCard.load(out / "README.md")
    assert card.data.base_model == "openai-community/gpt2"
    assert card.data.library_name == "transformers" and "clingpt" in card.data.tags
    assert "Not intended to inform diagnosis" in card.text and "not been evaluated" in card.text
    assert f"hf upload USER/run {out}" in capsys.readouterr().out


def test_card_names_no_path_of_this_machine(checkpoint: Path, tmp_path: Path) -> None:
    shutil.copytree(checkpoint, tmp_path / "run")
    settings = {"init_from": "gpt2", "data": "/home/me/notes/prepared", "lora_targets": ["c_fc"]}
    facts = {"settings": settings, "data": {"folder": "/srv/data/notes"}}
    (tmp_path / "run" / "clingpt.json").write_text(json.dumps({**CARD, **facts}))
    write_sums(tmp_path / "run")
    out = tmp_path / "out"
    assert export(f"--checkpoint={tmp_path / 'run'}", "--format=hf", f"--out={out}") == 0
    card = read_card(out)
    assert card == {
        **CARD,
        "settings": {**settings, "data": "prepared"},
        "data": {"folder": "notes"},
    }


def test_config_matches_the_hub_format(hf: Path) -> None:
    config = json.loads((hf / "config.json").read_text())
    assert config["architectures"] == ["GPT2LMHeadModel"] and config["model_type"] == "gpt2"
    assert (config["n_layer"], config["n_head"], config["n_embd"]) == (2, 2, 32)
    assert config["n_ctx"] == config["n_positions"] == 128
    assert config["n_inner"] in (None, 4 * 32)
    assert config["activation_function"] == "gelu_new"
    assert config["layer_norm_epsilon"] == 1e-5 and config["tie_word_embeddings"] is True
    assert config["vocab_size"] == 50257
    assert config["bos_token_id"] == config["eos_token_id"] == 50256
    generation = json.loads((hf / "generation_config.json").read_text())
    assert generation["eos_token_id"] == 50256


def shapes_of(hf: Path) -> dict[str, tuple[int, ...]]:
    return {
        name: tuple(tensor.shape) for name, tensor in load_file(hf / "model.safetensors").items()
    }


def test_tensors_are_exactly_those_of_gpt2(hf: Path) -> None:
    shapes = shapes_of(hf)
    assert len(shapes) == 12 * 2 + 4
    assert not [
        name for name in shapes if name.startswith("lm_head") or name.endswith(".attn.bias")
    ]
    assert shapes["transformer.wte.weight"] == (50257, 32)  # without the padding that the model has
    with safe_open(hf / "model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}


def test_vllm_finds_every_parameter(hf: Path) -> None:
    """Repeat what the loader in vllm/model_executor/models/gpt2.py does."""
    block = {"attn.c_attn": (96, 32), "attn.c_proj": (32, 32)}
    block |= {"mlp.c_fc": (128, 32), "mlp.c_proj": (32, 128)}
    wanted: dict[str, tuple[int, ...]] = {"wte.weight": (50257, 32), "wpe.weight": (128, 32)}
    wanted |= {"ln_f.weight": (32,), "ln_f.bias": (32,)}
    for n in range(2):
        for name, shape in block.items():
            wanted |= {f"h.{n}.{name}.weight": shape, f"h.{n}.{name}.bias": shape[:1]}
        for name in ("ln_1", "ln_2"):
            wanted |= {f"h.{n}.{name}.weight": (32,), f"h.{n}.{name}.bias": (32,)}
    found = {}
    for name, size in shapes_of(hf).items():
        if "lm_head.weight" in name or ".attn.bias" in name or ".attn.masked_bias" in name:
            continue
        turned = any(part in name for part in ("c_attn", "c_proj", "c_fc"))
        full = name if name.startswith("transformer.") else f"transformer.{name}"
        found[full] = size[::-1] if turned and name.endswith(".weight") else size
    assert found == {f"transformer.{name}": shape for name, shape in wanted.items()}


def test_llama_cpp_finds_every_tensor(hf: Path) -> None:
    """Repeat llama.cpp's convert_hf_to_gguf.py, GPT2Model, and gguf-py's tensor_mapping.py."""
    config = json.loads((hf / "config.json").read_text())
    assert {"n_layer", "n_ctx", "n_embd", "n_head", "layer_norm_epsilon"} <= config.keys()
    block = {"ln_1": "attn_norm", "attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output"}
    block |= {"ln_2": "ffn_norm", "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down"}
    tops = {"wte": "token_embd", "wpe": "position_embd", "ln_f": "output_norm"}
    names = {f"transformer.{ours}": theirs for ours, theirs in tops.items()}
    for n in range(config["n_layer"]):
        names |= {f"transformer.h.{n}.{ours}": f"blk.{n}.{own}" for ours, own in block.items()}
    found = [name.rpartition(".") for name in shapes_of(hf)]
    written = sorted(f"{names[stem]}.{kind}" for stem, _, kind in found)
    both = [f"{name}.{kind}" for name in names.values() for kind in ("weight", "bias")]
    assert written == sorted(set(both) - {"token_embd.bias", "position_embd.bias"})
    turned = {n: shape for n, shape in shapes_of(hf).items() if n.endswith(LINEARS)}
    assert len(turned) == 8 and all(len(shape) == 2 for shape in turned.values())


def test_transformers_tokenizes_identically(hf: Path) -> None:
    theirs, ours = AutoTokenizer.from_pretrained(hf), Tokenizer.load()
    records = list(iter_records("train", count=60, seed=0))
    sentences = [text for record in records for _, text in record.sections]
    sentences += [prompt_text("answer", record) for record in records]
    sentences += ["", " ", "5 µg ± 0.3\u2009% (P≤0.05)\n\n  β-blocker", "naïve 心 🫀", "\tx \r\n"]
    assert len(sentences) > 150
    assert theirs(sentences)["input_ids"] == [ours.encode(text) for text in sentences]
    assert theirs.eos_token_id == 50256 and len(theirs) == 50257


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_16_bit_weights_are_half_as_large(
    precision: str, exported: Callable[..., Path], hf: Path, model: GPT
) -> None:
    dtype = getattr(torch, precision)
    out = exported("--format=hf", f"--dtype={precision}")
    sizes = [(folder / "model.safetensors").stat().st_size for folder in (out, hf)]
    assert sizes[0] < 0.51 * sizes[1]
    assert json.loads((out / "config.json").read_text())["dtype"] == precision
    halves, wholes = load_file(out / "model.safetensors"), load_file(hf / "model.safetensors")
    assert halves.keys() == wholes.keys()
    for name, tensor in wholes.items():
        assert torch.equal(halves[name], tensor.to(dtype)), name
    judge = GPT2LMHeadModel.from_pretrained(out)
    assert judge.dtype == dtype
    ids = torch.arange(40)[None]
    with torch.no_grad():
        ours, theirs = load_model(out).model.eval()(ids), judge.float().eval()(ids).logits
    assert ours.dtype == torch.float32
    assert (theirs - ours).abs().max() <= 1e-5 * ours.abs().max()
    assert (model(ids) - ours).abs().max() > 1e-4 * ours.abs().max(), "nothing was rounded"


FULL_DISK = """
import resource, sys
sys.path.insert(0, {root!r})
import export
from clingpt.base import console
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
for form in {forms!r}:
    sys.argv = ["export.py", "--checkpoint={checkpoint}", f"--format={{form}}", "--out={out}"]
    try:
        console.run(export.main)
    except SystemExit as end:
        print(end.code)
"""


@pytest.mark.slow
def test_a_full_disk_ends_every_export_in_one_line(checkpoint: Path, tmp_path: Path) -> None:
    """In a process of its own: torch's writer of archives would abort it."""
    weights = (checkpoint / "model.safetensors").stat().st_size
    forms = ["hf", "gguf", "nanogpt", "torchscript", "torch_export"]
    out = tmp_path / "exported"
    code = FULL_DISK.format(
        root=str(ROOT), limit=weights // 2, forms=forms, checkpoint=checkpoint, out=out
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["1"] * len(forms), done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    said = f"error: {out}: File too large; choose a disk that allows larger files"
    assert errors == [said] * len(forms)
    assert list(tmp_path.iterdir()) == []


def test_exporting_an_export_changes_nothing(hf: Path, tmp_path: Path, capsys: Capture) -> None:
    assert export(f"--checkpoint={hf}", "--format=hf", f"--out={tmp_path / 'again'}") == 0
    for path in hf.iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes(), path.name
    out, err = capsys.readouterr()
    assert f"Next:  {console.command('sample.py', f'--checkpoint={tmp_path}/again')}\n" in out
    assert re.search(r"^\(1, 127, 1\) +\d\.\de-\d\d$", out, re.MULTILINE)
    assert err.count("\n") == 1


def test_hub_folder_exports_and_generates(
    checkpoint: Path, tmp_path: Path, capsys: Capture
) -> None:
    """A folder without hashes and card, with unprefixed names and mask buffers."""
    hub, out = tmp_path / "hub", tmp_path / "out"
    hub.mkdir()
    for name in ("config.json", "vocab.json", "merges.txt", "tokenizer.json"):
        shutil.copyfile(checkpoint / name, hub / name)
    weights = load_file(checkpoint / "model.safetensors")
    tensors = {name.removeprefix("transformer."): tensor for name, tensor in weights.items()}
    tensors |= {f"h.{n}.attn.bias": torch.ones(1, 1, 128, 128).tril() for n in range(2)}
    save_file(tensors, hub / "model.safetensors")
    assert export(f"--checkpoint={hub}", "--format=hf", f"--out={out}") == 0
    assert load_file(out / "model.safetensors").keys() == weights.keys()
    loaded = load_model(out)
    assert loaded.card == {"format": 1}
    ids = torch.arange(9)[None]
    torch.testing.assert_close(loaded.model.eval()(ids), load_model(hub).model.eval()(ids))
    capsys.readouterr()
    flags = [f"--checkpoint={out}", "--prompt=The trial", "--max_new_tokens=3", "--device=cpu"]
    with mock.patch.object(sys, "argv", ["sample.py", *flags]):
        console.run(sample.main)
    assert re.match(r"The trial.+\n", capsys.readouterr().out)


# Programs


READER = """
import sys, torch
program, asked, answered = sys.argv[1:]
step = torch.export.load(program).module()
found = [step(*inputs) for inputs in torch.load(asked)]
ids, mask, positions, *past = torch.load(asked)[3]
for wrong in (mask[:, 1:], torch.cat([mask, mask], 1)):
    try:
        step(ids, wrong, positions, *past)
    except (AssertionError, RuntimeError):  # a guard of the program, or a size mismatch
        continue
    sys.exit(f"a mask of {wrong.shape} was accepted")
assert "clingpt" not in sys.modules and "model" not in sys.modules
torch.save(found, answered)
"""


TRACES = [b".py", b"/tmp", b"site-packages", b"File ", str(ROOT).encode()]  # paths of this machine


def contents(archive: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(archive) as parts:
        return {name: parts.read(name) for name in parts.namelist()}


@pytest.mark.slow
def test_exported_program_runs_without_our_code(
    exported: Callable[..., Path], cases: list[Case], tmp_path: Path
) -> None:
    """Run it in a process without our code; a mask of the wrong length is refused."""
    program = exported("--format=torch_export") / "model.pt2"
    torch.save([case.inputs for case in cases], tmp_path / "asked.pt")
    argv = [sys.executable, "-c", READER, program, tmp_path / "asked.pt", tmp_path / "found.pt"]
    subprocess.run([*map(str, argv)], cwd=tmp_path, check=True)
    for case, outputs in zip(cases, torch.load(tmp_path / "found.pt"), strict=True):
        assert_same(case, outputs)


@pytest.mark.slow
def test_exported_program_contains_no_paths(exported: Callable[..., Path]) -> None:
    parts = contents(exported("--format=torch_export") / "model.pt2")
    assert parts
    for name, content in parts.items():
        assert not [text for text in TRACES if text in content], name


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@torch.no_grad()
def test_torchscript_matches_and_warns_of_deprecation(
    checkpoint: Path, cases: list[Case], tmp_path: Path, capsys: Capture
) -> None:
    flags = ["--format=torchscript", f"--out={tmp_path / 'ts'}"]
    assert export(f"--checkpoint={checkpoint}", *flags) == 0
    assert "TorchScript is deprecated" in capsys.readouterr().err
    step = torch.jit.load(tmp_path / "ts" / "model.ts")  # type: ignore[no-untyped-call]
    for case in cases:
        assert_same(case, step(*case.inputs))
    parts = contents(tmp_path / "ts" / "model.ts")
    assert any("/code/" in name for name in parts)
    for name, content in parts.items():
        assert not [text for text in TRACES if text in content], name


@pytest.mark.slow
@pytest.mark.parametrize("form", ["torchscript", "torch_export"])
def test_program_exports_are_reproducible(form: str, checkpoint: Path, tmp_path: Path) -> None:
    """Export twice, each time in a new process."""
    for name in ("one", "other"):
        argv = [sys.executable, ROOT / "export.py", f"--checkpoint={checkpoint}"]
        argv += [f"--format={form}", f"--out={tmp_path / name}"]
        subprocess.run([*map(str, argv)], cwd=tmp_path, check=True, capture_output=True)
    for path in (tmp_path / "one").iterdir():
        assert (tmp_path / "other" / path.name).read_bytes() == path.read_bytes(), path.name


# Verification


def transposed(patch: Patch) -> None:
    """Transpose a square c_proj, which no shape reveals."""
    state = GPT.hub_state

    def wrong(self: GPT) -> dict[str, Tensor]:
        name = "transformer.h.1.attn.c_proj.weight"
        return state(self) | {name: state(self)[name].t().contiguous()}

    patch.setattr(GPT, "hub_state", wrong)


def shifted(patch: Patch) -> None:
    """Start positions at 1."""
    hidden = GPT.hidden

    def wrong(self: GPT, ids: Tensor, positions: Tensor, *rest: Any) -> Tensor:
        inside = sys._getframe(1).f_code is Stateless.forward.__code__
        return hidden(self, ids, (positions + inside).clamp(max=127), *rest)

    patch.setattr(GPT, "hidden", wrong)


def padding_seen(patch: Patch) -> None:
    """Ignore padding in the mask."""
    mask = stateless.additive_mask
    patch.setattr(stateless, "additive_mask", lambda seen, n: mask(torch.ones_like(seen), n))


def future_seen(patch: Patch) -> None:
    """Make the mask non-causal."""
    mask = stateless.additive_mask
    patch.setattr(stateless, "additive_mask", lambda seen, n: mask(seen, n)[:, :, -1:])


@pytest.mark.parametrize("break_it", [transposed, shifted, padding_seen, future_seen])
def test_broken_export_leaves_no_files(
    break_it: Callable[[Patch], None],
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: Patch,
    capsys: Capture,
) -> None:
    break_it(monkeypatch)
    assert export(f"--checkpoint={checkpoint}", "--format=hf", f"--out={tmp_path / 'hf'}") == 1
    out, err = capsys.readouterr()
    assert out == "" and not list(tmp_path.iterdir())
    writing, error = err.splitlines()
    assert error.startswith("error: the export differs from the model at ")
    assert error.endswith("; nothing was written")


@pytest.mark.parametrize("form", ["hf", "onnx", "torchscript", "torch_export"])
@pytest.mark.parametrize("factor", [1 + 1e-4, float("nan")])
def test_every_format_is_verified(
    form: str, factor: float, checkpoint: Path, tmp_path: Path, monkeypatch: Patch
) -> None:
    def write(model: GPT, *_: object, **__: object) -> Step:
        return lambda *inputs: [factor * x for x in Stateless(model)(*inputs)]

    monkeypatch.setattr(formats, f"write_{form}", write)
    flags = [f"--format={form}", f"--out={tmp_path / 'out'}"]
    assert export(f"--checkpoint={checkpoint}", *flags) == 1
    assert not list(tmp_path.iterdir())


@torch.no_grad()
@pytest.mark.parametrize("place", [*SHAPES, 0, 5, 8, 2])
def test_one_wrong_logit_at_any_shape_is_detected(
    place: tuple[int, int, int] | int, model: GPT
) -> None:
    """Change a logit at one of the grid's shapes, or in the row with so much padding."""
    step, padded = Stateless(model), (len(LENGTHS), 0, max(LENGTHS))
    shape = padded if isinstance(place, int) else place
    wanted = tuple(127 if n < 0 else n for n in shape)
    name = f"row padded by {place}" if isinstance(place, int) else str(wanted)

    def wrong(*inputs: Tensor) -> Sequence[Tensor]:
        logits_BTV, *present = step(*inputs)
        if (*inputs[0].shape, inputs[3].shape[2]) == (wanted[0], wanted[2], wanted[1]):
            row = LENGTHS.index(max(LENGTHS) - place) if isinstance(place, int) else -1
            logits_BTV[row, -1, 7] += 1e-3 * logits_BTV.abs().max()
        return [logits_BTV, *present]

    with pytest.raises(CheckpointError, match=re.escape(f"differs from the model at {name}: by 1")):
        check(wrong, model)


def test_difference_is_relative_to_the_largest_logit() -> None:
    expected = torch.tensor([[[1.0, -4.0, 0.5], [0.0, 0.1, 0.2]]])
    found = difference("here", expected + torch.tensor([0.0, 0.0, -0.02]), expected)
    assert found.relative == pytest.approx(0.005) and found.same_choice
    assert not difference("here", expected - torch.tensor([0.0, 0.0, 0.2]), expected).same_choice


@pytest.mark.parametrize(
    ("relative", "same", "small"),
    [(1e-5, True, True), (1.1e-5, True, False), (1e-9, False, False), (float("nan"), True, False)],
)
def test_tolerance_covers_only_rounding(relative: float, same: bool, small: bool) -> None:
    assert Difference("here", relative, same).is_small is small


def test_weights_beyond_float16_are_refused(tmp_path: Path, capsys: Capture) -> None:
    model = GPT(GPTConfig(block_size=24, n_layer=1, n_head=2, n_embd=16))
    model.h[0].mlp.c_fc.bias.data[3] = 1e5  # type: ignore[union-attr, operator]
    model.save_pretrained(tmp_path / "large")
    flags = ["--format=hf", "--dtype=float16", f"--out={tmp_path / 'out'}"]
    assert export(f"--checkpoint={tmp_path / 'large'}", *flags) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert (
        error.startswith("error: transformer.h.0.mlp.c_fc.bias contains values")
        and "--dtype" in error
    )
    assert [path.name for path in tmp_path.iterdir()] == ["large"]


# Refused before anything is written


def test_existing_folder_is_not_overwritten(
    checkpoint: Path, tmp_path: Path, capsys: Capture
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("kept")
    assert export(f"--checkpoint={checkpoint}", "--format=hf", f"--out={tmp_path / 'out'}") == 1
    assert "out already exists; remove it or choose another --out\n" in capsys.readouterr().err
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "mine.txt"]


@pytest.mark.parametrize(
    ("flags", "status", "phrase"),
    [
        (["--format=onnx", "--dtype=float16"], 2, "--dtype is only for --format=hf and --format"),
        (
            ["--format=hf", "--dtype=q8_0"],
            2,
            "--format=hf has no --dtype=q8_0; choose from float32",
        ),
        (["--format=gguf", "--dtype=bfloat16"], 2, "choose from float32, float16, q8_0"),
        (["--format=llamafile"], 2, "llamafile"),
        (["--format=hf", "--int8=perhaps"], 2, "int8"),
        (["--format=hf", "--data=data"], 2, "--data applies only to --format=onnx with --int8"),
        (["--int8=False", "--data=data"], 2, "--data applies only to --format=onnx with --int8"),
        (["--records=0"], 2, "records"),
        (["--checkpoint=nowhere/at_all/x", "--format=hf"], 1, "nowhere/at_all/x is not a folder"),
    ],
)
def test_invalid_flags_are_refused(
    flags: list[str], status: int, phrase: str, tmp_path: Path, capsys: Capture
) -> None:
    assert export(f"--out={tmp_path / 'out'}", *flags) == status
    err = capsys.readouterr().err
    assert phrase in err and "Traceback" not in err and err.count("\n") <= 2
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "ours"),
    [("hub", "hf"), ("safetensors", "hf"), ("pt2", "torch_export"), ("ollama", "gguf")],
)
def test_other_names_of_a_format_lead_to_ours(name: str, ours: str, capsys: Capture) -> None:
    assert export(f"--format={name}") == 2
    said = f"error: --format={name} is called --format={ours} here\n"
    assert capsys.readouterr().err == said


@pytest.mark.parametrize(
    "kind", ["hf", "gguf", "nanogpt", "adapter", "onnx", "torchscript", "torch_export"]
)
def test_next_steps_can_be_pasted_for_any_path(kind: Any, tmp_path: Path) -> None:
    out = tmp_path / "it's a folder"
    out.mkdir()
    for name in ("Modelfile.answer", "Modelfile.summarize", "model-F16.gguf"):
        (out / name).touch()
    step, *more = command.next_steps(command.ExportConfig(format=kind), out, "me/Run 1")
    if kind == "gguf":
        first = ["ollama", "create", "me-run-1-answer", "-f", str(out / "Modelfile.answer")]
        assert shlex.split(step) == [*first, "&&", "ollama", "run", "me-run-1-answer"]
        assert f"{out}/Modelfile.summarize" in shlex.split(more[0])
        assert f"{out}/model-F16.gguf" in shlex.split(more[1])
        return
    if kind == "nanogpt":
        assert shlex.split(step, comments=True)[:3] == ["python", "sample.py", f"--out_dir={out}"]
        return
    if kind == "hf":
        assert shlex.split(more[0], comments=True) == ["hf", "upload", "USER/Run 1", str(out)]
    if step.startswith("import torch"):
        called = [ast.literal_eval(call.args[0]) for call in calls_in(step)]
        assert called == [str(out / ("model.ts" if kind == "torchscript" else "model.pt2"))]
    else:
        assert f"--checkpoint={out}" in shlex.split(step) or f"--model={out}" in shlex.split(step)


def calls_in(source: str) -> list[ast.Call]:
    return [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]


@pytest.mark.parametrize(("source", "tasks"), [("gpt2", []), ("someone/else", None)])
def test_exported_gpt2_is_known_to_have_no_tasks(
    source: str, tasks: list[str] | None, tmp_path: Path
) -> None:
    loaded = Loaded(make_tiny_model(), Tokenizer.load(), {}, tmp_path / "cache")
    command.write_companions(loaded, source, tmp_path, adapter=False)
    assert read_card(tmp_path).get("tasks") == tasks


@pytest.mark.parametrize(
    ("package", "form"),
    [("onnx", "onnx"), ("onnxruntime", "onnx"), ("onnxscript", "onnx"), ("gguf", "gguf")],
)
def test_missing_package_is_named_before_any_work(
    package: str, form: str, checkpoint: Path, tmp_path: Path, monkeypatch: Patch, capsys: Capture
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    flags = [f"--format={form}", f"--out={tmp_path / 'out'}"]
    assert export(f"--checkpoint={checkpoint}", *flags) == 1
    [error] = capsys.readouterr().err.splitlines()
    assert error.startswith(f"error: the package {package} is not installed for ")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("card", "source", "base"),
    [
        ({"settings": {"init_from": "gpt2-xl"}}, "here", "openai-community/gpt2-xl"),
        ({"settings": {"init_from": "someone/clinical-gpt2"}}, "here", "someone/clinical-gpt2"),
        ({"settings": {"init_from": "out/first"}}, "gpt2", None),
        ({"settings": {"init_from": "/home/me/gpt2"}}, "gpt2", None),
        ({"settings": {"init_from": "scratch"}}, "gpt2", None),
        ({}, "gpt2", "openai-community/gpt2"),
        ({}, "someone/clinical-gpt2", "someone/clinical-gpt2"),
        ({}, "models/mine", None),
    ],
)
def test_origin_names_no_local_path(
    card: dict[str, Any],
    source: str,
    base: str | None,
    hf: Path,
    tmp_path: Path,
    monkeypatch: Patch,
) -> None:
    (tmp_path / "models" / "mine").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    found = command.origin(replace(load_model(hf), card=card), source)
    assert found.get("base_model") == base


@pytest.mark.parametrize(
    ("folder", "card", "revision"),
    [
        ("5eed" * 10, {}, "5eed" * 10),
        ("5eed" * 10, {"settings": {"init_from": "gpt2"}}, None),  # of the base, it is not known
        ("not-a-commit", {}, None),
    ],
)
def test_origin_names_the_revision_of_a_model_from_the_hub(
    folder: str, card: dict[str, Any], revision: str | None, hf: Path, tmp_path: Path
) -> None:
    (tmp_path / folder).symlink_to(hf)
    loaded = replace(load_model(hf), card=card, folder=tmp_path / folder)
    assert command.origin(loaded, "someone/clinical-gpt2").get("base_model_revision") == revision


def test_no_commit_is_recorded_outside_a_checkout(
    hf: Path, tmp_path: Path, monkeypatch: Patch
) -> None:
    loaded = load_model(hf)
    monkeypatch.setattr(command, "__file__", str(tmp_path / "export.py"))
    assert "clingpt.commit" not in command.origin(loaded, "gpt2")
    monkeypatch.undo()
    monkeypatch.setenv("PATH", str(tmp_path))  # no git
    assert "clingpt.commit" not in command.origin(loaded, "gpt2")


def test_int8_requires_channels_in_multiples_of_16() -> None:
    assert [block_size(n) for n in (16, 48, 768, 1600, 3072)] == [16, 16, 128, 64, 128]
    with pytest.raises(
        ConfigError, match="a multiple of 16 channels, and a layer has 24; add --int8=False"
    ):
        block_size(24)


def test_data_without_validation_records_is_refused(
    checkpoint: Path, tmp_path: Path, capsys: Capture
) -> None:
    with FolderWriter(tmp_path / "data", Tokenizer.load()) as writer:
        writer.finish({"tasks": ["answer"]})
    flags = [f"--data={tmp_path / 'data'}", f"--out={tmp_path / 'out'}"]
    assert export(f"--checkpoint={checkpoint}", *flags) == 1
    assert "data has no val records" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_damaged_export_is_detected(hf: Path, tmp_path: Path) -> None:
    shutil.copytree(hf, tmp_path / "hf")
    path = tmp_path / "hf" / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"hf/model\.safetensors is damaged"):
        load_model(tmp_path / "hf")
