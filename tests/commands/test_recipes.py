"""The recipes: phases that chain, a Makefile that resumes, and commands that work as written."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.commands import ROOT, fingerprint, prepare_thirteen, train_killed, train_losses
from tests.helpers.pasting import settings_of, simple_commands

COMMAND = re.compile(r"python (?:\S*/)?\w+\.py ")
HEADER_LINE = re.compile(r"^#\s+\w[\w ]*:\s+(?=python )|^#\s+")


def parse(line: str) -> Any:
    """Parse a line with a command of ours into its settings; ConfigError if it is wrong."""
    [settings] = filter(None, map(settings_of, simple_commands(line)))
    return settings


# ------------------------------------------------------------------------------------------------
# Commands as written in presets and the Makefile


@pytest.mark.parametrize("path", sorted((ROOT / "config").glob("*.py")), ids=lambda path: path.stem)
def test_commands_in_preset_docstrings_are_valid(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    head = path.read_text("utf-8").split("\n\n")[0]
    text = "\n".join(HEADER_LINE.sub("", line) for line in head.splitlines())
    found = [line for line in text.replace("\\\n", " ").splitlines() if COMMAND.search(line)]
    assert any(f"config/{path.name}" in line for line in found)
    for line in found:
        parse(line)


@pytest.fixture
def workshop(tmp_path: Path) -> Path:
    """A folder with the Makefile, and a `python` that records its arguments.

    It "prepares" and "trains" by creating the files that the Makefile looks for, and fails at what
    the file `fails` names.
    """
    (tmp_path / "Makefile").write_text((ROOT / "Makefile").read_text())
    for name in ("requirements.txt", "config/quickstart_data.py", "clingpt/data/synthetic.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("torch==2.0.1\n")
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv/core").touch()
    stub = tmp_path / "bin/python"
    stub.parent.mkdir()
    stub.write_text(STUB)
    stub.chmod(0o755)
    return tmp_path


STUB = """#!/bin/sh
line=python
for word; do
    case "$word" in
        *" "*) line="$line '$word'" ;;
        *) line="$line $word" ;;
    esac
    case "$word" in
        --out=*) out=${word#--out=} ;;
        --checkpoint=*) checkpoint=${word#--checkpoint=} ;;
        --subset=*) subset=data/${word#--subset=} ;;
        config/domain.py) preset=out/domain ;;
        config/quickstart_data.py) preset=data/quickstart ;;
        config/quickstart.py) preset=out/quickstart ;;
        config/*) preset=$(grep '^out = ' "$ROOT/$word" | cut -d'"' -f2) ;;
    esac
done
echo "$line" >> commands.txt
out=${out:-${subset:-$preset}}
case "$1" in
    prepare.py) ;;
    train.py) out=$out/best; file=clingpt.json ;;
    eval.py) [ -z "$checkpoint" ] || out=${checkpoint%/best}/eval_test; file=report.json ;;
    *) exit 0 ;;
esac
mkdir -p "$out"
if [ -f fails ] && grep -q "$1" fails; then echo "error: no network; do this" >&2; exit 1; fi
file=${file:-manifest.json}
[ -f "$out/$file" ] || touch "$out/$file"
"""


def make(workshop: Path, *arguments: str, status: int = 0, target: str = "pubmedqa") -> list[str]:
    """Return the commands that a make starts; what it prints goes to printed.txt."""
    result = subprocess.run(
        ["make", target, "BIN=bin", *arguments],
        cwd=workshop, env=os.environ | {"ROOT": str(ROOT)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (result.returncode != 0) == (status != 0), result.stderr
    (workshop / "printed.txt").write_text(result.stdout)
    path = workshop / "commands.txt"
    lines = path.read_text().splitlines() if path.exists() else []
    path.unlink(missing_ok=True)
    return lines


@pytest.mark.parametrize("arguments", [[], ["DOMAIN=notes.jsonl"]])
def test_each_phase_starts_from_the_result_of_the_previous_one(
    workshop: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = make(workshop, *arguments)
    monkeypatch.chdir(ROOT)
    prepared, runs = set[Path](), list[Path]()
    for line in commands[:-1]:
        settings = parse(line)
        if "prepare.py" in line:
            if settings.folder.name != "pubmedqa":  # it must not hold what the last is measured on
                assert (
                    {Path(name) for name in settings.against}
                    == prepared & {Path("data/pubmedqa")}
                    != set()
                )
                assert settings.drop_overlap
            prepared.add(settings.folder)
            continue
        assert settings.data in prepared
        assert settings.init_from == (str(runs[-1] / "best") if runs else "gpt2")
        assert settings.out not in runs
        runs.append(settings.out)
    report = parse(commands[-1])
    assert (report.checkpoint, report.split) == ((str(runs[-1] / "best"),), "test")
    assert len(runs) == 2 + len(arguments)
    names = {path.name.endswith("_after_domain") for path in runs[-2:]}
    assert names == {bool(arguments)}  # other weights, other runs


def test_a_second_make_only_resumes_the_training_runs(workshop: Path) -> None:
    assert len(make(workshop)) == 5
    assert [line.split()[1] for line in make(workshop)] == ["train.py", "train.py"]
    run = workshop / "out/pubmedqa_two_phase"
    evaluated_at = (run / "eval_test/report.json").stat().st_mtime
    os.utime(run / "best/clingpt.json", times=(evaluated_at + 2, evaluated_at + 2))  # trained on
    assert [line.split()[1] for line in make(workshop)] == ["train.py", "train.py", "eval.py"]


def test_a_second_quickstart_prepares_again_only_what_changed(workshop: Path) -> None:
    def scripts() -> list[str]:
        return [line.split()[1] for line in make(workshop, target="quickstart")]

    assert scripts() == ["prepare.py", "train.py", "eval.py", "sample.py"]
    assert scripts() == ["train.py", "sample.py"]
    printed = (workshop / "printed.txt").read_text()  # nothing is skipped without a word
    assert "data/quickstart is prepared\n" in printed
    assert "out/quickstart has been evaluated: see out/quickstart/eval_test/report.html" in printed
    assert "generated records only. A name may still be wrong." in printed
    manifest = workshop / "data/quickstart/manifest.json"
    for name in ("config/quickstart_data.py", "clingpt/data/synthetic.py"):
        prepared_at = manifest.stat().st_mtime
        os.utime(workshop / name, times=(prepared_at + 2, prepared_at + 2))
        assert scripts()[0] == "prepare.py"
        os.utime(manifest, times=(prepared_at + 3, prepared_at + 3))


def test_clinical_tasks_start_from_a_base_that_saw_none_of_their_held_out_records(
    workshop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (workshop / "files/clinical").mkdir(parents=True)
    commands = make(workshop, "DATA=files", target="clinical")
    assert [line.split()[1] for line in make(workshop, "DATA=files", target="clinical")] == [
        "train.py"
    ] * 15 + ["-m"]  # prepared folders and evaluations are kept, and train.py resumes
    monkeypatch.chdir(ROOT)
    *lines, summary = commands
    assert summary == "python -m benchmarks clinical --runs=out/clinical --out=out/clinical/summary"
    base, tasks = Path("data/clinical/base"), dict[str, Any]()
    for line in lines:
        settings = parse(line)
        if "prepare.py" in line and settings.mix:
            assert {Path(name) for name in settings.against} == {
                each.folder for each in tasks.values()
            }
            assert settings.drop_overlap and settings.test_share == 0
            assert settings.folder == base and settings.train_tokenizer
            tasks = {}
        elif "prepare.py" in line:
            assert settings.tokenizer == ("gpt2" if "unseen" in line else str(base))
            tasks[str(settings.folder)] = settings
        elif "train.py" in line:
            is_base = settings.data == base
            assert settings.init_from == ("scratch" if is_base else "out/clinical/base")
            assert is_base or str(settings.data) in tasks
            assert settings.out == Path("out/clinical") / settings.data.name
        else:
            assert settings.split == "test"
    folds = [line for line in lines if "train.py" in line and "pubmedqa_fold" in line]
    assert len(folds) == len(set(folds)) == 10


def test_clinical_without_its_data_says_what_it_needs(workshop: Path) -> None:
    assert make(workshop, target="clinical", status=2) == []


def test_make_passes_sources_and_flags_on(workshop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = ["SOURCE=my.json", "ARTIFICIAL=pqaa.json", "TRAIN_FLAGS=--seed=1"]
    commands = make(workshop, *given, "EVAL_FLAGS=--texts=7", "PREPARE_FLAGS=--workers=1")
    monkeypatch.chdir(ROOT)
    settings = [parse(line) for line in commands]
    sources = {each.folder.name: each.source for each in settings[:2]}
    assert sources == {"pubmedqa": "my.json", "pqa_artificial": "pqaa.json"}
    assert [each.workers for each in settings[:2]] == [1, 1]
    assert [each.seed for each in settings[2:4]] == [1, 1] and settings[4].texts == 7


def test_setup_says_what_it_installs_and_takes_torch_from_another_index(workshop: Path) -> None:
    (workshop / ".venv/core").unlink()
    commands = make(workshop, "TORCH_INDEX=http://here/cpu", target="setup")
    assert commands == [
        "python -m pip install --quiet --index-url http://here/cpu torch==2.0.1",
        "python -m pip install --quiet -r requirements.txt",
    ]
    assert (
        "Installing packages into .venv (1.3 GB, or several with"
        in (workshop / "printed.txt").read_text()
    )


@pytest.mark.parametrize(("broken", "n_started"), [("prepare.py", 1), ("train.py", 3)])
def test_a_failed_phase_ends_make_and_is_repeated_by_the_next_one(
    workshop: Path, broken: str, n_started: int
) -> None:
    (workshop / "fails").write_text(broken)
    assert len(make(workshop, status=2)) == n_started
    (workshop / "fails").unlink()
    assert [line.split()[1] for line in make(workshop)][-1] == "eval.py"


def test_make_pubmedqa_without_a_network_ends_with_prepares_error(workshop: Path) -> None:
    (workshop / "bin/python").write_text(
        f'#!/bin/sh\necho "python $*" >> commands.txt\ncommand=$1\nshift\n'
        f'exec "{sys.executable}" "{ROOT}/$command" "$@"\n'
    )
    env = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(workshop / "hub")}
    result = subprocess.run(
        ["make", "pubmedqa", "BIN=bin"],
        cwd=workshop, env=env, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert result.returncode != 0
    *_, line, said_by_make = result.stderr.strip().splitlines()
    assert line.startswith("error: cannot load qiaojin/PubMedQA (pqa_labeled)")
    assert "no network" in line and re.match(r"make(\[\d+\])?: \*\*\*", said_by_make)
    assert (workshop / "commands.txt").read_text().count("\n") == 1
    assert not (workshop / "data/pqa_artificial").exists() and not (workshop / "out").exists()


# ------------------------------------------------------------------------------------------------
# The chain itself


@pytest.fixture(scope="module")
def notes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same thirteen synthetic records as `thirteen`, as text."""
    return prepare_thirteen(tmp_path_factory.mktemp("data") / "notes", "text")


@pytest.mark.slow
def test_two_phases_killed_repeatedly_match_an_uninterrupted_run(
    notes: Path, thirteen: Path, tmp_path: Path
) -> None:
    flags = ["--n_layer=1", "--n_embd=16", "--micro_batch_size=1", "--dropout=0.1", "--steps=16"]
    flags += ["--eval_every=1", "--log_every=1", "--sample=False", "--learning_rate=2e-2"]
    flags += ["--warmup_steps=0"]

    def both_phases(folder: Path, kills: int) -> int:
        """Train on text, then on answers; return how many kills hit a run."""
        first = [f"--data={notes}", f"--out={folder / 'domain'}"]
        second = [f"--data={thirteen}", f"--out={folder / 'answers'}"]
        second += [f"--init_from={folder / 'domain/best'}"]
        hits = 0
        for phase in (first, second):
            *killed, end = train_killed(kills, *flags, *phase)
            assert end == {"status": 0}
            hits += sum(each["killed"] for each in killed)
        return hits

    assert both_phases(tmp_path / "straight", 0) == 0
    assert both_phases(tmp_path / "killed", 3) >= 3
    for phase in ("domain", "answers"):
        straight, killed = (tmp_path / name / phase for name in ("straight", "killed"))
        assert fingerprint(straight / "last") == fingerprint(killed / "last")
        assert train_losses(straight) == train_losses(killed)
    # The second phase began where the first one was best, not from other weights.
    losses = train_losses(tmp_path / "straight/answers")
    assert losses[1] < train_losses(tmp_path / "straight/domain")[1] - 0.5
