"""prepare.py looks for known people and numbers, and never writes or prints them."""

import json
from pathlib import Path

import pytest

from clingpt.privacy.roster import identifies
from tests.helpers.preparing import in_process

ENGINE = """
def find(text):
    at = text.lower().find("wheezily")
    return [("name", at, at + 8)] if at >= 0 else []

def broken(text):
    raise ValueError(text)
"""
OURS = ("manifest.json", "receipt.json")
SECRETS = ("okonkwo", "adaeze", "44719", "4.3.31", "1931-03-04", "zorblax", "quimby")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Notes whose other columns identify the patient, and a list of staff."""
    rows = ["note_id,patient_name,mrn,dob,note,summary"]
    for n in range(10, 34):
        rows.append(
            f'N{n},"Okonkwo, Adaeze",44719{n},1931-03-04,"pt okonkwo (44719{n}, 4.3.31) coughs '
            f'wheezily for {n} days, sent by zorblax","adaeze coughs on day {n}"'
        )
    path = tmp_path / "notes.csv"
    path.write_text("\n".join(rows) + "\n", "utf-8")
    (tmp_path / "staff.txt").write_text("Zorblax, Quimby\n12\n", "utf-8")
    return path


def flags(source: Path, *more: str) -> list[str]:
    out = source.parent / "data"
    known = f"--phi_known={source.parent / 'staff.txt'}"
    common = ["--task=summarize", "--val_share=0.3", "--test_share=0", "--allow_overlap=True"]
    return [f"--source={source}", f"--out={out}", "--workers=1", *common, known, *more]


def test_known_people_are_refused_masked(source: Path, wide: None) -> None:
    done = in_process(*flags(source, "--phi_engine=rules"))
    assert done.returncode == 1
    assert "pass --redact=surrogates to replace identifiers (what was missed" in done.stderr
    said = (done.stdout + done.stderr).lower()
    assert not [secret for secret in SECRETS if secret in said]
    assert "its 'patient_name', 'mrn', 'dob'" in done.stdout
    assert "1 entry of" in done.stdout  # the 12
    assert "looked for in the text" in done.stdout


@pytest.mark.parametrize("how", ["tags", "surrogates"])
def test_known_people_are_replaced_and_written_nowhere(how: str, source: Path) -> None:
    done = in_process(*flags(source, f"--redact={how}", "--phi_engine=rules"))
    assert done.returncode == 0, done.stderr
    said = (done.stdout + done.stderr).lower()
    folder = source.parent / "data"
    # GPT-2's vocabulary, which every folder contains, has " 1931" and the id 44719.
    paths = [*folder.glob("*.ids"), *folder.glob("*.jsonl"), *map(folder.joinpath, OURS)]
    written = b"".join(path.read_bytes() for path in paths).lower()
    assert not [secret for secret in SECRETS if secret in said or secret.encode() in written]
    assert b"staff.txt" not in written
    from clingpt.data.prepared import open_prepared
    from clingpt.text.tokenizer import Tokenizer

    tokenizer = Tokenizer.load()
    prepared = open_prepared(folder, tokenizer)
    for split in ("train", "val"):
        text = tokenizer.decode(prepared.split(split).tokens.tolist()).lower()
        assert "coughs" in text
        assert not [secret for secret in SECRETS if secret in text]
    receipt = json.loads((folder / "receipt.json").read_text("utf-8"))
    assert receipt["detectors"]["roster"] is True and receipt["detectors"]["tagger"] is None


@pytest.mark.parametrize(
    ("redact", "column"),
    [
        ("--redact=surrogates", "patient_name"),
        ("--allow_phi=True", "patient_name"),
        ("--dry_run", "patient_name"),
        ("--allow_phi=True", "ward"),  # whose cells are not looked for: only the roster is
    ],
)
def test_known_people_in_phrases_headings_and_examples_are_masked(
    redact: str, column: str, source: Path
) -> None:
    """Boilerplate may name the ward's doctor; no title or label tells the rules who that is."""
    shared = "kept under review at the ward as arranged by zorblax with okonkwo and all on call"
    rows = [
        {
            column: "Okonkwo, Adaeze",
            "note": f"pt coughs for {n} days, {chr(97 + n) * 9}, {shared}",
            "summary": f"PLAN: rest for {n} days\nZORBLAX: seen\nOKONKWO: {chr(97 + n) * 7}",
        }
        for n in range(24)
    ]
    notes = source.with_name("notes.jsonl")
    notes.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    given = [flag.replace("summarize", "document") for flag in flags(notes, redact)]
    done = in_process(*given, "--phi_engine=rules")
    secrets = ("zorblax", "okonkwo") if column == "patient_name" else ("zorblax",)
    assert "kept under review at the ward as arranged by [NAME]" in done.stdout
    assert done.returncode == int(redact == "--dry_run")
    said = (done.stdout + done.stderr).lower()
    assert not [secret for secret in secrets if secret in said]
    if redact != "--dry_run":
        written = [(source.parent / "data" / name).read_text("utf-8").lower() for name in OURS]
        assert not [secret for secret in secrets if secret in "".join(written)]


def test_an_outside_function_only_redacts(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (source.parent / "an_engine.py").write_text(ENGINE, "utf-8")
    monkeypatch.chdir(source.parent)
    engine = "--phi_engine=rules+an_engine:find"
    done = in_process(*flags(source, engine))
    assert done.returncode == 2 and "findings are only redacted; add --redact" in done.stderr
    done = in_process(*flags(source, engine, "--redact=tags", "--show=1"))
    assert done.returncode == 0, done.stderr
    assert "coughs [NAME] for" in done.stdout
    receipt = json.loads((source.parent / "data" / "receipt.json").read_text("utf-8"))
    assert receipt["detectors"]["engine"] == "an_engine:find"
    done = in_process(*flags(source, "--phi_engine=rules+an_engine:broken", "--redact=tags"))
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1 and "failed with ValueError" in done.stderr
    assert "okonkwo" not in done.stderr


def test_measuring_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "notes.txt").write_text("Dr. [[name|Brown]] saw [[name|zorblax]].", "utf-8")
    monkeypatch.chdir(tmp_path)
    done = in_process("--phi_check=notes.txt", "--phi_engine=rules")
    assert done.returncode == 0 and "zorblax" not in done.stdout and "z…" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    shown = in_process("--phi_check=notes.txt", "--phi_engine=rules", "--phi_show=True")
    assert "⟦zorblax⟧" in shown.stdout


@pytest.mark.parametrize(
    ("column", "cells", "taken"),
    [
        ("name", ["Lee, Ann", "Okonkwo, Adaeze", "Brown, Mary K"], True),
        ("Author", ["A. Lee", "M. Brown", "J. Smith"], True),
        ("name", ["Parkinson disease", "Bell palsy", "Crohn disease"], False),
        ("name", ["lisinopril", "metformin", "warfarin"], False),
        ("licence", ["CC BY 4.0", "CC BY 2.0", "MIT"], False),
        ("patient_name", ["lisinopril", "metformin", "warfarin"], True),
    ],
)
def test_a_vague_column_identifies_people_only_if_its_cells_do(
    column: str, cells: list[str], taken: bool
) -> None:
    assert identifies(column, cells) is taken
