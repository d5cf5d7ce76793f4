"""LoRA: frozen base, exact gradients, merging, PEFT's layout, exact resume, exported adapters."""

import copy
import json
import math
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM, GPT2LMHeadModel

import export
import sample
from clingpt.base.errors import CheckpointError, ConfigError
from clingpt.nn.checkpoint import (
    RunFolder,
    from_weights,
    identity,
    load_model,
    load_trainer,
    read_card,
)
from clingpt.nn.kernels import use_kernels
from clingpt.nn.lora import (
    LAYERS,
    Lora,
    adapt,
    adapter_weights,
    merged_weights,
    merging,
    weights_sha256,
)
from clingpt.nn.runtime import Runtime
from clingpt.training.batches import Feed
from clingpt.training.memory_fit import allocate_gradients_and_moments
from clingpt.training.state import optimizer_state, plain_copy
from clingpt.training.step import accumulate_gradients, build_optimizer
from model import GPT, GPTConfig
from tests.helpers.commands import (
    cut_back,
    exit_status,
    fingerprint,
    train_here,
    train_losses,
    write_sums,
)
from tests.helpers.models import make_documents, rows_of_documents
from tests.helpers.torchrun import stderr_of, torchrun

Build = Callable[..., GPT]
CPU = Runtime(torch.device("cpu"), torch.float32)
OFF = torch.amp.GradScaler("cpu", enabled=False)
LORA = Lora(rank=4, alpha=24, base="somewhere")
IDS = torch.arange(40).view(2, 20)


def adapted(model: GPT, lora: Lora = LORA) -> GPT:
    """Adapt a model, with a B as large as after training."""
    torch.manual_seed(3)
    adapt(use_kernels(model), lora)
    for name, tensor in adapter_weights(model.state_dict()).items():
        if name.endswith("lora_B"):
            torch.nn.init.normal_(tensor, std=0.2)
    return model


def merged(model: GPT) -> GPT:
    """Return a model without LoRA that computes the same."""
    return from_weights(model.config, merged_weights(model, model.state_dict()))


def gradients(
    model: GPT, *, micro_batch_size: int = 12, rt: Runtime = CPU
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the loss over twelve documents and each parameter's gradient of its mean."""
    rows = rows_of_documents(make_documents(), 24)
    chosen = np.arange(12)
    work = Feed(rows, rt, micro_batch_size).work(chosen)
    losses = accumulate_gradients(model, work, rows.n_targets(chosen), rt=rt, scaler=OFF)
    found = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    return losses.sum(), found


# ------------------------------------------------------------------------------------------------
# The model


def test_training_starts_from_the_base_models_outputs(tiny_model: Build) -> None:
    model = tiny_model()
    before = model(IDS)
    adapt(model, LORA)
    assert torch.equal(model(IDS), before)
    A, B = (adapter_weights(model.state_dict())[f"h.0.mlp.c_fc.lora_{x}"] for x in "AB")
    assert A.shape == (4, 16) and B.shape == (64, 4) and not B.any()
    # Kaiming's uniform of 16 inputs: as wide as that, and no wider.
    assert 0.8 / math.sqrt(16) < A.abs().max() <= 1 / math.sqrt(16)


def test_the_base_is_frozen_and_costs_no_gradients_or_moments(tiny_model: Build) -> None:
    model = adapted(tiny_model())
    before = copy.deepcopy(model.state_dict())
    optimizer = build_optimizer(model, learning_rate=1e-2, betas=(0.9, 0.95), weight_decay=0.1)
    allocate_gradients_and_moments(optimizer)
    optimizer.zero_grad()
    trained = adapter_weights(before).keys()
    assert len(trained) == 2 * 2 * 4
    for _ in range(2):
        assert gradients(model)[1].keys() == trained
        optimizer.step()
        optimizer.zero_grad()
    assert optimizer_state(model, optimizer).keys() == trained
    decay = {p: g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}
    assert set(decay.values()) == {0.1} and len(decay) == len(trained)  # they are matrices
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]) == (name not in trained), name


def test_at_124m_at_most_two_percent_of_the_weights_are_trained() -> None:
    with torch.device("meta"):
        model = GPT(GPTConfig())
    whole = sum(p.numel() for p in model.parameters())
    adapt(model, Lora(rank=8, alpha=16, base="gpt2"))
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert trained == 1_179_648  # what config/pubmedqa_lora.py says
    assert trained / whole <= 0.02


@pytest.mark.parametrize("targets", [("c_attn",), ("c_proj", "c_fc")])
def test_only_the_target_matrices_are_adapted(targets: tuple[str, ...], tiny_model: Build) -> None:
    model = adapted(tiny_model(), Lora(rank=2, alpha=4, targets=targets, base="x"))
    found = {name.split(".")[3] for name in adapter_weights(model.state_dict())}
    assert found == set(targets)
    assert gradients(model)[1].keys() == adapter_weights(model.state_dict()).keys()


@pytest.mark.parametrize(("dtype", "bound"), [("float32", 1e-5), ("float64", 1e-12)])
def test_a_merged_model_computes_the_same_as_the_adapted_one(
    dtype: str, bound: float, tiny_model: Build
) -> None:
    model = adapted(tiny_model().to(getattr(torch, dtype))).eval()
    base = tiny_model().to(getattr(torch, dtype))
    plain = merged(model)
    assert plain.state_dict().keys() == base.state_dict().keys()
    logits, highest = model(IDS), model(IDS).abs().max()
    assert (plain(IDS) - logits).abs().max() / highest <= bound
    assert (base(IDS) - logits).abs().max() / highest > 0.1  # the update is not negligible
    step = base.step({0: [1, 2, 3]}, base.new_cache(rows=1, capacity=9))
    assert not torch.allclose(
        plain.step({0: [1, 2, 3]}, plain.new_cache(rows=1, capacity=9)), step, atol=0.1
    )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_merging_while_writing_gives_the_bits_of_merging_first(
    dtype: str, tiny_model: Build, tmp_path: Path
) -> None:
    model = adapted(tiny_model().to(getattr(torch, dtype)))
    updates = adapter_weights(model.state_dict())
    assert {tensor.dtype for tensor in updates.values()} == {torch.float32}
    merged(model).save_pretrained(tmp_path / "first")
    base = plain_copy(model, lora=True, merged=False)
    base.save_pretrained(tmp_path / "while", change=merging(LORA, updates))
    first, then = (load_file(tmp_path / x / "model.safetensors") for x in ("first", "while"))
    assert first.keys() == then.keys()
    assert all(torch.equal(first[name], then[name]) for name in first)
    name = "transformer.h.0.mlp.c_fc.weight"
    assert not torch.equal(base.hub_state()[name], first[name])


def test_merging_a_model_without_lora_changes_nothing(tiny_model: Build) -> None:
    model = tiny_model()
    plain = merged(model)
    assert plain.wte.weight.data_ptr() == model.wte.weight.data_ptr()
    assert torch.equal(plain(IDS), model(IDS))


@pytest.mark.parametrize(("dtype", "bound"), [("float64", 1e-10), ("float32", 1e-6)])
@pytest.mark.parametrize("size", [1, 5])
def test_gradients_do_not_depend_on_micro_batches(
    size: int, dtype: str, bound: float, tiny_model: Build
) -> None:
    """With recomputed activations they are even bit-identical."""

    def found(size: int, *, recompute: bool = False) -> Tensor:
        model = adapted(tiny_model(vocab_size=50257).to(getattr(torch, dtype))).train()
        model.checkpoint_activations = recompute
        return torch.cat([g.flatten() for g in gradients(model, micro_batch_size=size)[1].values()])

    whole, parts = found(12), found(size)
    assert (whole - parts).norm() / whole.norm() <= bound
    assert torch.equal(found(size, recompute=True), parts)


def test_gradients_follow_from_those_of_the_merged_matrices(tiny_model: Build) -> None:
    """dL/dA = s B' dL/dW and dL/dB = s dL/dW A', by the chain rule, in float64."""
    model = adapted(tiny_model(vocab_size=50257).double())
    plain = merged(model)
    ours, theirs = gradients(model)[1], gradients(plain)[1]
    for name in ("h.0.attn.c_attn", "h.1.mlp.c_proj"):
        A, B = (model.get_parameter(f"{name}.lora_{x}").detach() for x in "AB")
        by_W = LORA.scale * theirs[f"{name}.weight"]
        torch.testing.assert_close(ours[f"{name}.lora_A"], B.T @ by_W, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(ours[f"{name}.lora_B"], by_W @ A.T, rtol=1e-9, atol=1e-12)


def test_bf16_autocast_trains_updates_kept_in_fp32(tiny_model: Build) -> None:
    model, exact = adapted(tiny_model(vocab_size=50257)), adapted(tiny_model(vocab_size=50257))
    loss, found = gradients(model, rt=Runtime(CPU.device, torch.bfloat16))
    expected_loss, expected = gradients(exact)
    assert float(loss) == pytest.approx(float(expected_loss), rel=0.01)
    assert {gradient.dtype for gradient in found.values()} == {torch.float32}
    ours, theirs = (torch.cat([g.flatten() for g in x.values()]) for x in (found, expected))
    assert 0 < (ours - theirs).norm() / theirs.norm() < 0.1


@pytest.mark.filterwarnings("ignore:.*should not be instantiated")  # raised inside PyTorch
def test_an_adapted_model_compiles_without_a_graph_break(tiny_model: Build) -> None:
    """With a backend that only traces and needs no compiler; test_kernels.py has the rest."""
    model, eager = adapted(tiny_model(vocab_size=50257)), adapted(tiny_model(vocab_size=50257))
    model.compile(fullgraph=True, backend="aot_eager")
    try:
        found = gradients(model)[1]
    finally:
        torch.compiler.reset()
    for name, gradient in gradients(eager)[1].items():
        torch.testing.assert_close(found[name], gradient, msg=name)


def test_dropout_acts_on_updates_only_in_training(tiny_model: Build) -> None:
    model = adapted(tiny_model(), Lora(rank=4, alpha=24, dropout=0.5, base="x"))
    assert not torch.equal(model.train()(IDS), model(IDS))
    plain = merged(model)
    torch.testing.assert_close(model.eval()(IDS), plain(IDS), rtol=1e-4, atol=1e-4)


def test_the_weights_hash_ignores_a_cropped_context(tiny_model: Build) -> None:
    model, cropped = tiny_model(), tiny_model(block_size=16)
    state = model.state_dict() | {"wpe.weight": model.wpe.weight[:16]}
    cropped.load_state_dict(state)
    assert weights_sha256(cropped) == weights_sha256(model)
    cropped.ln_f.bias.data[3] += 1e-3
    assert weights_sha256(cropped) != weights_sha256(model)


# ------------------------------------------------------------------------------------------------
# Runs

STEPS = ["--steps=24", "--eval_every=13", "--log_every=1", "--warmup_steps=4", "--sample=False"]
STEPS += ["--learning_rate=2e-2", "--lora_rank=2", "--lora_alpha=8"]
DROPOUT = ["--dropout=0.1", "--lora_dropout=0.1"]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, thirteen: Path) -> Path:
    """A model of one layer to adapt."""
    out = tmp_path_factory.mktemp("base") / "base"
    flags = ["--steps=2", "--n_layer=1", "--n_embd=16", "--learning_rate=3e-3", "--sample=False"]
    assert train_here(*flags, f"--data={thirteen}", f"--out={out}") == 0
    return out


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory, base: Path, thirteen: Path) -> Path:
    """An uninterrupted LoRA run of 24 steps."""
    out = tmp_path_factory.mktemp("run") / "straight"
    paths = [f"--init_from={base}", f"--data={thirteen}", f"--out={out}"]
    assert train_here(*STEPS, *DROPOUT, *paths) == 0
    return out


@pytest.fixture
def again(base: Path, thirteen: Path) -> Callable[..., int]:
    """Return a function that runs the command of `straight` in another folder."""

    def train(out: Path, *flags: str, init_from: Path = base) -> int:
        paths = [f"--init_from={init_from}", f"--data={thirteen}", f"--out={out}"]
        return train_here(*STEPS, *DROPOUT, *paths, *flags)

    return train


def adapter_bytes(checkpoint: Path) -> bytes:
    return (checkpoint / "adapter" / "adapter_model.safetensors").read_bytes()


def logits_of(folder: Path) -> Tensor:
    with torch.no_grad():
        logits: Tensor = load_model(folder).model.eval()(IDS)
    return logits


def test_lora_learns_and_leaves_its_base_unchanged(straight: Path, base: Path) -> None:
    losses = train_losses(straight)
    assert losses[24] < losses[1] - 0.1
    ours, theirs = (load_model(x / "last").model.state_dict() for x in (straight, base))
    changed = {name for name in ours if not torch.equal(ours[name], theirs[name])}
    assert changed == {f"h.0.{x}.weight" for x in ("attn.c_attn", "attn.c_proj")} | {
        f"h.0.{x}.weight" for x in ("mlp.c_fc", "mlp.c_proj")
    }
    moments = load_trainer(straight / "last")["optimizer"]
    assert len(moments) == 8 and all(".lora_" in name for name in moments)


def test_a_run_resumed_after_step_13_is_bit_identical_to_an_uninterrupted_one(
    straight: Path, again: Callable[..., int], tmp_path: Path
) -> None:
    resumed = cut_back(straight, tmp_path / "resumed")
    assert again(resumed) == 0
    last = "step_000024"
    assert fingerprint(resumed / last) == fingerprint(straight / last)
    assert adapter_bytes(resumed / last) == adapter_bytes(straight / last)
    assert train_losses(resumed) == train_losses(straight)


def test_a_run_resumed_without_moments_differs(
    straight: Path, again: Callable[..., int], tmp_path: Path
) -> None:
    """This shows that the test above can fail."""
    resumed = cut_back(straight, tmp_path / "resumed")
    checkpoint = resumed / "step_000013"
    state = torch.load(checkpoint / "trainer.pt", weights_only=True)
    state["optimizer"]["h.0.mlp.c_fc.lora_A"]["exp_avg"].zero_()
    torch.save(state, checkpoint / "trainer.pt")
    shutil.rmtree(checkpoint / "adapter")
    shutil.copytree(straight / "step_000013" / "adapter", checkpoint / "adapter")
    sums(checkpoint)
    assert again(resumed) == 0
    assert adapter_bytes(resumed / "last") != adapter_bytes(straight / "last")


def sums(checkpoint: Path) -> None:
    """Rewrite SHA256SUMS of a changed checkpoint and of its adapter."""
    inside = checkpoint / "adapter"
    write_sums(inside)
    aside = inside.rename(checkpoint.with_name("aside"))
    write_sums(checkpoint)
    aside.rename(inside)


def test_a_changed_base_is_refused_and_nothing_is_touched(
    straight: Path,
    base: Path,
    again: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The base folder keeps its name, but its weights change."""
    changed = tmp_path / "base"
    shutil.copytree(base, changed, symlinks=True)
    out = tmp_path / "run"
    assert again(out, "--steps=3", init_from=changed) == 0
    before = {path: path.lstat().st_mtime_ns for path in out.rglob("*")}
    other(changed / "step_000002")
    capsys.readouterr()
    assert again(out, init_from=changed) == 1
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert f"was trained on different weights than {changed} has now" in line
    assert {path: path.lstat().st_mtime_ns for path in out.rglob("*")} == before
    with pytest.raises(CheckpointError, match="was trained on different weights"):
        load_model(out / "last" / "adapter")
    assert load_model(out / "last").card["step"] == 3  # the merged model needs no base


def other(checkpoint: Path) -> None:
    """Change one weight of a checkpoint and update its hashes."""
    model = load_model(checkpoint).model
    model.ln_f.bias.data[0] += 1e-3
    model.save_pretrained(checkpoint)
    write_sums(checkpoint)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--lora_rank=4"], "lora_rank 2 -> 4"),
        (["--lora_alpha=4"], "lora_alpha 8.0 -> 4.0"),
        (["--lora_targets=c_fc"], "lora_targets"),
        (["--lora_rank=0"], "lora_rank 2 -> 0"),
        (["--lora_rank=4", "--force_resume=True"], "lora_A must be (4, 16) finite numbers"),
        (["--lora_targets=c_fc", "--force_resume=True"], "does not fit its settings: see h.0.attn"),
    ],
)
def test_a_different_adapter_is_refused(
    flags: list[str],
    message: str,
    straight: Path,
    again: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    resumed = cut_back(straight, tmp_path / "resumed")
    wanted = {flag.split("=")[0] for flag in flags}
    kept = [flag for flag in STEPS if flag.split("=")[0] not in wanted]
    settings = load_settings(resumed)
    assert train_here(*kept, *DROPOUT, *settings, f"--out={resumed}", *flags) == 1
    assert message in capsys.readouterr().err.strip().splitlines()[-1]


def load_settings(run: Path) -> list[str]:
    settings = read_card(run / "last")["settings"]
    return [f"--init_from={settings['init_from']}", f"--data={settings['data']}"]


def test_a_run_that_trained_all_weights_cannot_be_resumed_with_lora(
    base: Path, thirteen: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    flags = ["--sample=False", f"--init_from={base}", f"--data={thirteen}", f"--out={out}"]
    assert train_here(*flags, "--steps=1") == 0
    assert train_here(*flags, "--steps=2", "--lora_rank=2", "--force_resume=True") == 1
    assert "has no adapter, because all weights were trained" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--init_from=scratch"], "lora_rank adapts a trained model, not random weights"),
        (["--lora_rank=-1"], "lora_rank must be at least 0"),
        (["--lora_alpha=0"], "lora_alpha must be above 0"),
        (["--lora_dropout=1"], "lora_dropout must be at least 0 and below 1"),
        (["--lora_targets=wte"], "lora_targets must be some of c_attn, c_proj, c_fc, got wte"),
        (["--lora_targets="], "lora_targets must be some of c_attn, c_proj, c_fc, got none"),
    ],
)
def test_impossible_settings_are_refused(
    flags: list[str], message: str, base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train_here(f"--init_from={base}", "--lora_rank=2", *flags) == 2
    assert message in capsys.readouterr().err


def test_a_run_reports_its_number_of_trained_parameters(
    base: Path, thirteen: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [f"--init_from={base}", f"--data={thirteen}", f"--out={tmp_path / 'run'}"]
    assert train_here(*STEPS, *flags, "--steps=1") == 0
    said = capsys.readouterr().out
    model = load_model(base).model
    whole, trained = sum(p.numel() for p in model.parameters()), 2 * (64 + 32 + 80 + 80)
    assert f"{whole + trained:,} parameters" in said
    assert f"{trained:,} parameters ({trained / (whole + trained):.2%})" in said


def test_another_run_can_start_from_a_lora_run_or_an_adapter(
    straight: Path, thirteen: Path, tmp_path: Path
) -> None:
    """Full training starts from a LoRA run, and another LoRA run from an exported adapter."""
    loss = train_losses(straight)[24]
    flags = ["--steps=1", "--sample=False", "--dropout=0", f"--data={thirteen}", "--log_every=1"]
    assert train_here(*flags, f"--init_from={straight}", f"--out={tmp_path / 'all'}") == 0
    assert train_losses(tmp_path / "all")[1] < loss + 0.3
    adapter = straight / "best" / "adapter"
    assert (
        train_here(*flags, "--lora_rank=1", f"--init_from={adapter}", f"--out={tmp_path}/lora") == 0
    )
    assert train_losses(tmp_path / "lora") == pytest.approx(
        train_losses(tmp_path / "all"), rel=1e-5
    )
    chained = tmp_path / "lora/last"
    torch.testing.assert_close(logits_of(chained / "adapter"), logits_of(chained))


# ------------------------------------------------------------------------------------------------
# Exported adapters


@pytest.fixture(scope="module")
def alone(straight: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run's adapter as exported by export.py, without the base."""
    out = tmp_path_factory.mktemp("alone") / "adapter"
    flags = [f"--checkpoint={straight}", "--format=adapter", f"--out={out}"]
    assert exit_status(export.main, *flags) == 0
    return out


def test_an_adapter_on_its_base_equals_the_merged_model(straight: Path, alone: Path) -> None:
    expected = logits_of(straight)
    for folder in (alone, straight / "best" / "adapter"):
        assert not (folder / "model.safetensors").exists()
        loaded = load_model(folder)
        assert loaded.folder == folder and loaded.card["lora"]["rank"] == 2
        assert loaded.model.config == load_model(straight).model.config
        torch.testing.assert_close(logits_of(folder), expected, rtol=0, atol=1e-5)
    assert identity(alone) != identity(straight / "best")


def test_sample_py_accepts_an_exported_adapter(
    alone: Path, straight: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--prompt=The patients", "--max_new_tokens=8", "--device=cpu"]
    said = []
    for folder in (alone, straight):
        assert exit_status(sample.main, f"--checkpoint={folder}", *flags) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1] != ""


def test_an_exported_adapter_can_be_exported_again(alone: Path, tmp_path: Path) -> None:
    for form in ("adapter", "hf"):
        flags = [f"--checkpoint={alone}", f"--format={form}", f"--out={tmp_path / form}"]
        assert exit_status(export.main, *flags) == 0
    weights = "adapter_model.safetensors"
    assert (tmp_path / "adapter" / weights).read_bytes() == (alone / weights).read_bytes()
    torch.testing.assert_close(logits_of(tmp_path / "hf"), logits_of(alone), rtol=0, atol=1e-6)


def test_exporting_an_adapter_fails_for_a_checkpoint_without_lora(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [f"--checkpoint={base}", "--format=adapter", f"--out={tmp_path / 'out'}"]
    assert exit_status(export.main, *flags) == 1
    assert "has no adapter, since all of its weights were trained" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def without_base(folder: Path) -> None:
    edit_card(folder, base="./nowhere")


def of_itself(folder: Path) -> None:
    edit_card(folder, base=str(folder))


def of_nothing(folder: Path) -> None:
    edit_card(folder, rank="eight")


def damaged(folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")


def not_finite(folder: Path) -> None:
    from safetensors.torch import save_file

    path = folder / "adapter_model.safetensors"
    tensors = load_file(path)
    next(iter(tensors.values()))[0, 0] = math.nan
    save_file(tensors, path)
    write_sums(folder)


def edit_card(folder: Path, **changed: Any) -> None:
    card = read_card(folder)
    (folder / "clingpt.json").write_text(json.dumps(card | {"lora": card["lora"] | changed}))
    write_sums(folder)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without_base, "is an adapter of ./nowhere: ./nowhere is not a folder"),
        (of_itself, "that is the adapter's own folder"),
        (of_nothing, "is damaged: .*rank must be a whole number"),
        (damaged, "adapter_model.safetensors is damaged"),
        (not_finite, "finite numbers"),
        (lambda x: (x / "adapter_model.safetensors").unlink(), "is missing"),
    ],
)
def test_an_unusable_adapter_is_refused_with_a_reason(
    spoil: Callable[[Path], None], message: str, alone: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "adapter"
    shutil.copytree(alone, folder)
    spoil(folder)
    with pytest.raises(CheckpointError, match=message):
        load_model(folder)


def test_an_adapter_on_a_pickled_base_is_not_served(
    alone: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(alone, tmp_path / "adapter")
    shutil.copytree(base / "best", tmp_path / "base")
    (tmp_path / "base/SHA256SUMS").unlink()
    tensors = load_file(tmp_path / "base/model.safetensors")
    torch.save(tensors, tmp_path / "base/pytorch_model.bin")
    (tmp_path / "base/model.safetensors").unlink()
    edit_card(tmp_path / "adapter", base=str(tmp_path / "base"))
    assert torch.equal(logits_of(tmp_path / "adapter"), logits_of(alone))
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("opened a pickle"))
    with pytest.raises(CheckpointError, match="has no model.safetensors but pytorch_model.bin"):
        load_model(tmp_path / "adapter", pickles=False)


def test_a_checkpoint_with_a_damaged_adapter_counts_as_damaged(
    straight: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    shutil.copytree(straight, out, symlinks=True)
    damaged(out / "step_000024" / "adapter")
    assert RunFolder(out).newest_whole() == out / "step_000013"


def test_an_unknown_target_is_refused() -> None:
    with pytest.raises(ConfigError, match="got lm_head"):
        Lora(rank=1, alpha=1, targets=("lm_head",), base="x")
    assert Lora(rank=1, alpha=1, base="x").targets == LAYERS


# ------------------------------------------------------------------------------------------------
# Other libraries


def test_transformers_loads_a_checkpoint_as_the_merged_model(straight: Path) -> None:
    """PEFT is installed here; it would apply an adapter next to the merged weights again."""
    model = AutoModelForCausalLM.from_pretrained(straight / "best").eval()
    assert type(model) is GPT2LMHeadModel
    with torch.no_grad():
        found = model(IDS).logits
    torch.testing.assert_close(found, logits_of(straight), rtol=0, atol=1e-5)
    assert not [path.name for path in (straight / "best").glob("adapter_*")]
    assert [path.name for path in (straight / "best").glob("*.safetensors")] == [
        "model.safetensors"
    ]  # vLLM takes every such file for weights


@pytest.mark.filterwarnings(
    "ignore:.is_gradient_checkpointing. is deprecated"
)  # raised inside PEFT
def test_peft_applies_the_adapter_to_the_base_in_transformers(
    straight: Path, alone: Path, base: Path
) -> None:
    from peft import AutoPeftModelForCausalLM, PeftModel

    plain = GPT2LMHeadModel.from_pretrained(base / "best")
    model = PeftModel.from_pretrained(plain, str(alone)).eval()
    expected = logits_of(straight)
    with torch.no_grad():
        torch.testing.assert_close(model(IDS).logits, expected, rtol=0, atol=1e-5)
        whole = model.merge_and_unload()
        torch.testing.assert_close(whole(IDS).logits, expected, rtol=0, atol=1e-5)
    assert (expected - logits_of(base)).abs().max() > 0.1
    by_name = AutoPeftModelForCausalLM.from_pretrained(str(alone)).eval()  # it finds the base
    with torch.no_grad():
        torch.testing.assert_close(by_name(IDS).logits, expected, rtol=0, atol=1e-5)


# ------------------------------------------------------------------------------------------------
# Two ranks


@pytest.fixture(scope="module")
def ranks(
    tmp_path_factory: pytest.TempPathFactory, base: Path, thirteen: Path
) -> Iterator[tuple[Path, dict[str, list[int]]]]:
    """Runs on one process and on two, replicated and sharded; one torchrun runs all the latter."""
    from tests.helpers.commands import run_flags

    folder = tmp_path_factory.mktemp("ranks")
    flags = [*STEPS, "--dropout=0", "--batch_size=3", "--micro_batch_size=1", "--sample=True"]
    flags += ["--max_new_tokens=4", f"--init_from={base}", f"--data={thirteen}"]
    flags = run_flags(*flags)

    def job(name: str, *more: str, **special: Any) -> dict[str, Any]:
        return {"do": "train_run", "flags": [*flags, f"--out={folder / name}", *more], **special}

    def back(source: str, name: str) -> list[str]:
        return [str(folder / source), str(folder / name)]

    jobs = {
        "ddp": job("ddp"),
        "fsdp": job("fsdp", "--shard=True"),
        "ddp resumed": job("ddp resumed", cut_back=back("ddp", "ddp resumed")),
        "fsdp resumed": job("fsdp resumed", "--shard=True", cut_back=back("ddp", "fsdp resumed")),
    }
    assert train_here(*flags, f"--out={folder / 'one'}") == 0
    plan = folder / "jobs.json"
    plan.write_text(json.dumps(list(jobs.values())))
    process = torchrun("tests/helpers/ranks.py", plan)
    stderr = stderr_of(process, within_s=300)
    assert process.returncode == 0, stderr
    found = [json.loads((folder / f"found_{rank}.json").read_text()) for rank in (0, 1)]
    yield folder, {name: [rank[i] for rank in found] for i, name in enumerate(jobs)}


@pytest.mark.parametrize("name", ["ddp", "fsdp", "ddp resumed", "fsdp resumed"])
def test_two_ranks_reach_the_losses_of_one_process(
    name: str, ranks: tuple[Path, dict[str, list[int]]]
) -> None:
    folder, status = ranks
    assert status[name] == [0, 0]
    assert train_losses(folder / name) == pytest.approx(train_losses(folder / "one"), rel=1e-6)
    torch.testing.assert_close(
        logits_of(folder / name / "last/adapter"), logits_of(folder / "one/last"), rtol=0, atol=1e-4
    )
    if name == "ddp resumed":
        last = "step_000024"
        assert adapter_bytes(folder / name / last) == adapter_bytes(folder / "ddp" / last)
