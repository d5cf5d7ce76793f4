"""Commands in README, docs and --help can be pasted, and --help fits into 80 columns."""

import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest

from clingpt.base import settings
from clingpt.base.errors import ConfigError
from tests.helpers.pasting import (
    MODULES,
    PROGRAMS,
    ROOT,
    settings_of,
    shell_blocks,
    simple_commands,
)

PAGES = [ROOT / "README.md", ROOT / "data/README.md", *sorted((ROOT / "docs").glob("*.md"))]
SOURCES = [ROOT / f"{name.replace('.', '/')}.py" for name in MODULES.values()]
TEXTS = [path for path in (*PAGES, *SOURCES) if shell_blocks(path)]


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def check(block: str) -> list[str]:
    """Return what a shell, make, pip or one of our commands would refuse in a code block."""
    bash = subprocess.run(["bash", "-n"], input=block, capture_output=True, text=True, check=False)
    if bash.returncode:
        return [bash.stderr]
    wrong = []
    for command in simple_commands(block):
        program, *words = command
        try:
            settings_of(command)
        except ConfigError as error:
            wrong.append(f"{' '.join(command)}: {error}")
        if program == "make":
            makefile = (ROOT / "Makefile").read_text("utf-8")
            targets = [word for word in words if "=" not in word]
            wrong += [w for w in targets if not re.search(rf"^{w}\b.*:", makefile, re.MULTILINE)]
        if program == "pip" and not (words[:2] == ["install", "-r"] and len(words) == 3):
            wrong.append(" ".join(command))
        if program == "pip" and not (ROOT / words[-1]).exists():
            wrong.append(words[-1])
    return wrong


@pytest.mark.parametrize("path", TEXTS, ids=named)
def test_code_blocks_can_be_pasted(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for block in shell_blocks(path):
        assert check(block) == [], block


def test_texts_of_all_kinds_are_read() -> None:
    assert {ROOT / "README.md", ROOT / "docs/recipes.md", *SOURCES} <= {*TEXTS}
    found = [
        command[0]
        for path in TEXTS
        for block in shell_blocks(path)
        for command in simple_commands(block)
    ]
    assert {*PROGRAMS} <= {*found} and found.count("python") > 60


@pytest.mark.parametrize(
    "block",
    [
        "python prepare.py --source=pubmedqa   from the Hub, or --source=ori_pqal.json",
        "python sample.py   the newest run's best, asking",
        "python sample.py   the newest run, asking",
        "python serve.py --checkpoint=out/best   http://127.0.0.1:8000",
        "echo Hi | python sample.py --chekpoint=gpt2",
        "for seed in 1 2; do\n    python train.py --sed=$seed\ndone",
        "torchrun --standalone train.py config/none.py",
        "make quickstart   five minutes",
        "pip install -r requirements-serve.txt   for serving",
        "pip install -r requirements-none.txt",
    ],
)
def test_a_comment_without_its_mark_is_noticed(block: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert check(block)


# Help


@pytest.mark.parametrize("columns", [80, 60])
@pytest.mark.parametrize("name", MODULES)
def test_help_keeps_words_whole_and_commands_as_they_are(
    name: str, columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    module = importlib.import_module(MODULES[name])
    with mock.patch.object(sys, "argv", [name, "--help"]), pytest.raises(SystemExit):
        module.parse_flags()
    shown = capsys.readouterr().out
    above, below = shown.split("\nusage: ")
    description = inspect.cleandoc(module.__doc__ or "").splitlines()
    commands = [line for line in description if line.startswith(" ")]
    assert [line for line in above.splitlines() if line.startswith(" ")] == commands
    assert " ".join(above.split()).startswith(" ".join(" ".join(description).split()))
    written = [line for line in shown.splitlines() if line not in commands]
    assert max(map(len, written)) <= columns
    flags = " ".join(re.sub("[│╭╮╰╯─]", " ", below).split())
    configuration = next(
        each for key, each in vars(module).items() if key.endswith("Config") and key != "Config"
    )
    for _, text in settings._documentation(configuration).values():
        assert text in flags
