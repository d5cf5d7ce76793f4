"""Identifiers found by prepare.py are recorded with the weights and reported to their users."""

import json
import re
import shutil
from pathlib import Path

import pytest

import export
from clingpt.base.errors import CheckpointError
from clingpt.data.prepared import carried, identifiers_found, warning
from clingpt.nn.checkpoint import CARD, load_model, load_to_use, read_card
from tests.helpers.commands import exit_status, run, train_here

STEPS = ["--steps=1", "--sample=False", "--n_layer=1", "--n_embd=16", "--block_size=256"]
SAID = "likely identifiers (names, dates, numbers"


def prepared(folder: Path, *flags: str, note: str) -> Path:
    """A folder of twelve notes."""
    lines = [f"{n},{note} Visit number {n} went well." for n in range(12)]
    source = folder.with_suffix(".csv")
    source.write_text("\n".join(["id,text", *lines]), encoding="utf-8")
    run("prepare.py", f"--source={source}", f"--out={folder}", "--task=text", *flags)
    return folder


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run on notes with identifiers, and a second phase from it on notes without any."""
    folder = tmp_path_factory.mktemp("chain")
    flags = ["--val_share=0.2", "--test_share=0"]
    people = prepared(
        folder / "people", "--allow_phi=True", *flags, note="Seen by Dr. John Smith on 03/04/2019."
    )
    clean = prepared(folder / "clean", *flags, note="The wound is dry and closed.")
    first, second = folder / "first", folder / "second"
    assert train_here(*STEPS, f"--data={people}", f"--out={first}") == 0
    assert train_here(*STEPS, f"--data={clean}", f"--out={second}", f"--init_from={first}") == 0
    return first / "best", second / "best"


def test_a_receipt_is_carried_from_phase_to_phase(chain: tuple[Path, Path]) -> None:
    counts = [[identifiers_found(r) for r in read_card(at)["receipts"]] for at in chain]
    assert counts[1] == [*counts[0], 0]
    n_train = read_card(chain[0])["receipts"][0]["records"]["train"]
    assert counts[0] == [2 * n_train] and n_train > 5


def test_resuming_a_run_does_not_duplicate_its_receipts(chain: tuple[Path, Path]) -> None:
    settings = read_card(chain[1])["settings"]
    flags = [f"--{name}={settings[name]}" for name in ("data", "out", "init_from")]
    assert train_here(*STEPS, *flags, "--steps=2") == 0
    run_folder = Path(settings["out"])
    assert read_card(run_folder / "step_000002")["step"] == 2
    assert read_card(run_folder / "last")["receipts"] == read_card(chain[1])["receipts"]


def test_the_samples_of_a_run_are_printed_with_identifiers_masked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [
        f'481516{n},"Mr. Harold Quimby came on 03/04/2019. Visit {n}.","Quimby is well; call '
        f'617-555-01{n}."'
        for n in range(10, 22)
    ]
    source = tmp_path / "notes.csv"
    source.write_text("\n".join(["id,note,summary", *lines]), encoding="utf-8")
    flags = ["--task=summarize", "--allow_phi", "--allow_overlap", "--val_share=0.5"]
    flags += ["--test_share=0", "--show=0"]
    run("prepare.py", f"--source={source}", f"--out={tmp_path / 'data'}", *flags)
    flags = [*STEPS, f"--data={tmp_path / 'data'}", f"--out={tmp_path / 'run'}", "--sample"]
    capsys.readouterr()
    assert train_here(*flags, "--max_new_tokens=2") == 0
    said = capsys.readouterr().err
    assert "reference: [NAME] is well; call [PHONE]." in said
    assert not re.search("Quimby|617|481516|2019", said)


def test_using_a_model_trained_on_identifiers_prints_a_warning(
    chain: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    load_to_use(chain[1])
    assert SAID in capsys.readouterr().err
    flags = (f"--checkpoint={chain[1]}", "--format=hf", f"--out={tmp_path / 'hf'}")
    assert exit_status(export.main, *flags) == 0
    assert SAID in capsys.readouterr().err
    assert read_card(tmp_path / "hf")["receipts"] == read_card(chain[1])["receipts"]


def test_no_warning_is_printed_if_no_identifiers_were_found(
    thirteen: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train_here(*STEPS, f"--data={thirteen}", f"--out={tmp_path / 'run'}") == 0
    capsys.readouterr()
    loaded = load_to_use(tmp_path / "run")
    assert len(loaded.card["receipts"]) == 1
    assert SAID not in capsys.readouterr().err


def test_a_changed_receipt_is_refused(chain: tuple[Path, Path], tmp_path: Path) -> None:
    copy = shutil.copytree(chain[0].resolve(), tmp_path / "copy")
    card = json.loads((copy / CARD).read_text("utf-8"))
    card["receipts"] = []
    (copy / CARD).write_text(json.dumps(card), encoding="utf-8")
    with pytest.raises(CheckpointError, match=f"{CARD} is damaged"):
        load_model(copy)


def test_receipts_are_kept_in_order_without_duplicates() -> None:
    first, second = {"format": 1, "n": 1}, {"format": 1, "n": 2}
    assert carried({}, None) == []
    assert carried({"receipts": [first]}, None) == [first]
    assert carried({"receipts": [first]}, second) == [first, second]
    assert carried({"receipts": [first, second]}, first) == [first, second]
    assert warning({}) is None
