"""Checkpoints: atomic, hashed, linked, pruned; loading them executes nothing."""

import errno
import json
import pickle
import resource
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from clingpt.base import files
from clingpt.base.errors import CheckpointError
from clingpt.base.files import written_whole
from clingpt.nn import checkpoint
from clingpt.nn.checkpoint import (
    RunFolder,
    load_model,
    load_trainer,
    newest_best,
    read_card,
    run_name,
    verify,
)
from clingpt.text.tokenizer import Tokenizer
from model import GPT, GPTConfig
from tests.helpers.models import make_tiny_model
from tests.helpers.vocabularies import saved, trained


@pytest.fixture
def model() -> GPT:
    torch.manual_seed(0)
    return GPT(GPTConfig(n_layer=1, n_head=2, n_embd=8, block_size=16))


def save(run: RunFolder, model: GPT, step: int, val_loss: float | None = None) -> Path:
    return run.save(
        step,
        model=model,
        tokenizer=Tokenizer.load(),
        card={"val_loss": val_loss},
        trainer={"step": step, "rng": {"cpu": torch.get_rng_state()}},
    )


def test_a_saved_checkpoint_loads_unchanged(tmp_path: Path, model: GPT) -> None:
    folder = save(RunFolder(tmp_path), model, 7, 1.5)
    loaded = load_model(folder)
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], tensor), name
    assert loaded.card["step"] == 7
    assert load_trainer(folder)["step"] == 7
    assert (tmp_path / "last").resolve() == folder
    assert not (tmp_path / "last").readlink().is_absolute()
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} <= {0o644, 0o664}


def test_a_run_folder_can_be_moved(tmp_path: Path, model: GPT) -> None:
    save(RunFolder(tmp_path / "a"), model, 1, 2.0)
    (tmp_path / "a").rename(tmp_path / "b")
    RunFolder(tmp_path / "b").link_best()
    assert load_model(tmp_path / "b" / "best").card["val_loss"] == 2.0


def test_a_failed_save_leaves_no_files(tmp_path: Path) -> None:
    with (
        pytest.raises(OSError, match="No space"),
        written_whole(tmp_path / "step_000001") as folder,
    ):
        (folder / "model.safetensors").write_bytes(b"half")
        raise OSError("No space left on device")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("limit_bytes", [100_000, 1_700_000, 2_500_000])
def test_a_full_disk_leaves_earlier_checkpoints_intact(
    tmp_path: Path, model: GPT, limit_bytes: int
) -> None:
    """The limits interrupt safetensors, the tokenizer's files and torch.save.

    The disk is not full, so the message must not say so.
    """
    run = RunFolder(tmp_path)
    first = save(run, model, 1)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, before[1]))
    try:
        with pytest.raises(
            CheckpointError,
            match=r"could not be written \(File too large\); earlier checkpoints are intact: "
            "choose a disk that allows larger files, then run the same command again",
        ):
            run.save(
                2,
                model=model,
                tokenizer=Tokenizer.load(),
                card={},
                trainer={"moments": torch.zeros(1_000_000)},
            )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert {path.name for path in tmp_path.iterdir()} == {"step_000001", "last"}
    verify(first)


def test_saving_never_overwrites_a_checkpoint(tmp_path: Path, model: GPT) -> None:
    run = RunFolder(tmp_path)
    folder = save(run, model, 1)
    before = (folder / "SHA256SUMS").read_bytes()
    with pytest.raises(CheckpointError, match="exists already"):
        save(run, model, 1)
    assert (folder / "SHA256SUMS").read_bytes() == before


def test_leftovers_of_a_crash_are_not_listed_as_checkpoints(tmp_path: Path, model: GPT) -> None:
    run = RunFolder(tmp_path)
    folder = save(run, model, 3)
    (tmp_path / ".step_000009.partial").mkdir()
    (tmp_path / "notes").mkdir()
    assert run.newest() == folder


def test_best_has_the_lowest_validation_loss_and_survives_pruning(
    tmp_path: Path, model: GPT
) -> None:
    run = RunFolder(tmp_path)
    for step, loss in ((1, 3.0), (2, 1.0), (3, 2.0), (4, None), (5, 1.0), (6, 4.0)):
        save(run, model, step, loss)
        run.link_best()
        run.prune(keep=2)
    assert list(run.steps()) == [2, 5, 6]
    assert run.link_best() == tmp_path / "step_000002"
    assert (tmp_path / "best").resolve().name == "step_000002"
    assert (tmp_path / "last").resolve().name == "step_000006"


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "trainer.pt", "merges.txt"])
@pytest.mark.parametrize("damage", [flip_a_bit, truncate, Path.unlink])
def test_a_damaged_file_is_named(tmp_path: Path, model: GPT, name: str, damage: Any) -> None:
    folder = save(RunFolder(tmp_path), model, 1)
    damage(folder / name)
    with pytest.raises(CheckpointError, match=rf"{name} is (damaged|missing)"):
        verify(folder)
    with pytest.raises(CheckpointError, match=name):
        load_model(folder)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("out/nowhere/best", "out/nowhere/best is not a folder"),
        ("./x", "is not a folder"),
        ("no-such-name", "no-such-name is not a folder; specify a checkpoint, gpt2 or a Hub id"),
    ],
)
def test_an_unknown_source_is_refused(source: str, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        load_model(source)


def test_missing_weights_are_reported_with_the_download_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def offline(name: str) -> Path:
        raise ConnectionError("no network")

    monkeypatch.setattr(checkpoint, "hub_folder", offline)
    with pytest.raises(CheckpointError) as error:
        load_model("gpt2-medium")
    for phrase in ("gpt2-medium", "no network", "hf download openai-community/gpt2-medium"):
        assert phrase in str(error.value)


def test_an_empty_folder_and_a_broken_weights_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="has no model; specify a folder"):
        load_model(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"config\.json does not describe a model"):
        load_model(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    (tmp_path / "pytorch_model.bin").write_bytes(b"PK broken")
    with pytest.raises(CheckpointError, match="cannot load"):
        load_model(tmp_path)


def test_a_card_of_another_format_is_refused(tmp_path: Path) -> None:
    assert read_card(tmp_path) == {}
    (tmp_path / checkpoint.CARD).write_text(json.dumps({"format": 99}))
    with pytest.raises(
        CheckpointError, match="format 99, but this version of clinGPT reads format 1"
    ):
        read_card(tmp_path)
    (tmp_path / checkpoint.CARD).write_text("[]")
    with pytest.raises(CheckpointError, match="not a checkpoint's card"):
        read_card(tmp_path)


class Malicious:
    """Writes a marker file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.marker,))


def test_loading_training_state_executes_nothing(tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    (tmp_path / "trainer.pt").write_bytes(pickle.dumps(Malicious(marker)))
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_trainer(tmp_path)
    assert not marker.exists()
    (tmp_path / "trainer.pt").unlink()
    with pytest.raises(CheckpointError, match="can be used but not resumed"):
        load_trainer(tmp_path)


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("gpt2-medium", "gpt2-medium"),
        ("stanford-crfm/BioMedLM", "stanford-crfm/BioMedLM"),
        ("/home/someone/out/domain/best", "domain"),
        ("/home/someone/out/domain/step_000100/", "domain"),
        ("/home/someone/out/domain/best/adapter", "domain"),
        ("/home/someone/models/gpt2-clinical", "gpt2-clinical"),
        ("out/domain", "domain"),
        ("out/domain/../other/last", "other"),
        ("/", "clingpt"),
    ],
)
def test_a_model_is_named_by_its_run_without_the_path(source: str, name: str) -> None:
    assert run_name(source) == name


def test_a_relative_path_is_named_after_its_run_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine/best").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "mine")
    assert run_name("best") == run_name("./best") == "mine"
    monkeypatch.chdir(tmp_path)
    assert run_name("mine/best") == "mine"  # it looks like a Hub id, but is a folder


def no_symlinks(*_: object, **__: object) -> None:
    raise OSError(errno.EPERM, "Operation not permitted")


def test_without_symbolic_links_best_and_last_are_small_files(
    tmp_path: Path, model: GPT, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("os.symlink", no_symlinks)
    files.note_once.cache_clear()
    path = tmp_path / "out" / "run"
    run = RunFolder(path)
    run.begin({})
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"{path}: this file system has no symbolic links, so best and last are small" in said
    assert sorted(each.name for each in path.iterdir()) == ["config.json"]
    for step, loss in ((1, 3.0), (2, 1.0), (3, 2.0), (4, 2.5), (5, 4.0)):
        save(run, model, step, loss)
        best = run.keep_best("loss", keep=2)
    assert best == path / "step_000002"
    assert list(run.steps()) == [2, 4, 5]  # best and last survive
    assert (path / "best").read_text() == "step_000002\n"
    for source in (path, path / "best"):
        assert load_model(source).card["step"] == 2
    assert load_model(path / "last").card["step"] == 5
    assert newest_best(tmp_path / "out") == str(path / "best")
    monkeypatch.chdir(tmp_path)
    assert run_name("out/run/best") == "run"
    assert capsys.readouterr().err == ""  # said once


def test_a_checkpoint_is_read_whole_while_best_moves_on(tmp_path: Path, model: GPT) -> None:
    run = RunFolder(tmp_path)
    save(run, model, 1, 2.0)
    run.link_best()
    loaded = load_model(tmp_path / "best")
    save(run, model, 2, 1.0)
    run.link_best()
    assert loaded.folder == tmp_path / "step_000001"  # where eval.py writes its calibration


@pytest.mark.parametrize("call", ["rename", "fsync"])
def test_a_file_system_that_cannot_hold_checkpoints_is_refused_before_the_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(f"os.{call}", fail)
    with pytest.raises(
        CheckpointError,
        match=r"run cannot hold checkpoints \(Input/output error\); choose an --out",
    ):
        RunFolder(tmp_path / "run").begin({})
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["config.json"]


def test_a_run_that_was_copied_without_its_links_is_refused(tmp_path: Path, model: GPT) -> None:
    run = RunFolder(tmp_path / "run")
    save(run, model, 1, 2.0)
    run.link_best()
    shutil.copytree(tmp_path / "run", tmp_path / "copy")  # follows links
    with pytest.raises(CheckpointError, match="copy/best is a folder instead of a link"):
        RunFolder(tmp_path / "copy").begin({})


def other_vocabulary(folder: Path, n_rows: int, **config: Any) -> Path:
    """Write a model with its own tokenizer of 300 tokens, which ends texts with id 0."""
    Tokenizer.load(saved(folder, trained(300), eos_token_id=0)).save(folder)
    make_tiny_model(vocab_size=n_rows).save_pretrained(folder, **config)
    return folder


@pytest.mark.parametrize("n_rows", [300, 304])
def test_a_checkpoint_keeps_its_own_vocabulary_and_end_of_text(tmp_path: Path, n_rows: int) -> None:
    loaded = load_model(other_vocabulary(tmp_path / "theirs", n_rows))
    assert (loaded.tokenizer.size, loaded.tokenizer.eot) == (300, 0)
    step = RunFolder(tmp_path / "run").save(
        1, model=loaded.model, tokenizer=loaded.tokenizer, card={}, trainer={}
    )
    assert load_model(step).tokenizer is loaded.tokenizer
    for name in ("config.json", "generation_config.json"):
        assert json.loads((step / name).read_text())["eos_token_id"] == 0


def test_a_model_smaller_than_its_vocabulary_is_refused_at_load(tmp_path: Path) -> None:
    folder = other_vocabulary(tmp_path, 299)
    message = f"^the model in {folder} has 299 token embeddings, but its tokenizer, a byte-level"
    with pytest.raises(CheckpointError, match=message):
        load_model(folder)


def test_a_pad_token_without_a_row_is_left_out(tmp_path: Path) -> None:
    Tokenizer.load().save(tmp_path)
    (tmp_path / "added_tokens.json").write_text('{"[PAD]": 50257}')
    make_tiny_model(vocab_size=50257).save_pretrained(tmp_path)
    assert load_model(tmp_path).tokenizer is Tokenizer.load()
    make_tiny_model(vocab_size=50258).save_pretrained(tmp_path)
    assert load_model(tmp_path).tokenizer.added["[PAD]"] == 50257
