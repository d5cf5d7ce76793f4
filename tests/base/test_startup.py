"""Start-up: which modules a command loads before it answers --help or refuses a flag."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.exports import make_checkpoint
from tests.helpers.models import make_tiny_model

ROOT = Path(__file__).parents[2]
COMMANDS = [
    "prepare",
    "train",
    "sample",
    "eval",
    "serve",
    "export",
    "audit",
    "sweep",
    "benchmarks/__main__",
    "clingpt/export/onnx_runner",
]
SLOW = {"torch", "numpy", "scipy", "sklearn", "pandas", "pyarrow", "datasets", "matplotlib", "nltk"}


def start(command: str, *flags: str) -> tuple[int, str, set[str]]:
    """Run a command; return its exit status, its output, and the top-level modules it imported."""
    code = (
        f"import sys, runpy, atexit; sys.argv = [{command + '.py'!r}, *{list(flags)}]\n"
        "atexit.register(lambda: print('LOADED', *sys.modules))\n"
        f"runpy.run_path({command + '.py'!r}, run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | {"COLUMNS": "80"},
        capture_output=True,
        text=True,
        check=False,
    )
    output, _, loaded = done.stdout.partition("LOADED")
    return done.returncode, output + done.stderr, {name.split(".")[0] for name in loaded.split()}


@pytest.mark.parametrize("command", COMMANDS)
def test_help_loads_no_slow_module(command: str) -> None:
    flags = ["serve", "--help"] if command.startswith("benchmarks") else ["--help"]
    status, output, loaded = start(command, *flags)
    assert status == 0 and "usage:" in output and "tyro" in loaded
    assert not loaded & SLOW


@pytest.mark.parametrize("command", COMMANDS)
def test_help_documents_every_flag_in_80_columns(command: str) -> None:
    flags = ["serve", "--help"] if command.startswith("benchmarks") else ["--help"]
    _, output, _ = start(command, *flags)
    assert max(map(len, output.splitlines())) <= 80
    assert "other options" not in output  # every flag belongs to a group
    plain = " ".join(output.replace("│", " ").split())
    # "--flag TYPE (default: …)" would be a flag without help text.
    assert not re.search(r"--\w+ ([A-Z]+|\{\S+|\[\w+ \[\w+ \.\.\.\]\]) \((default|req)", plain)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_mistyped_flag_is_refused_without_loading_a_slow_module(command: str) -> None:
    flags = ["serve", "--sed=1"] if command.startswith("benchmarks") else ["--sed=1"]
    status, output, loaded = start(command, *flags)
    assert (status, output.count("\n")) == (2, 1)
    assert output.startswith("error: unknown flag --sed; ")
    assert not loaded & SLOW


REQUIREMENTS = {
    "serve": "requirements-serve.txt",
    "export": "requirements-export.txt",
    "sweep": "requirements-search.txt",
    "benchmarks/__main__": "requirements-dev.txt",
    "clingpt/export/onnx_runner": "requirements-runner.txt",
}


def start_without(missing: str, command: str, *flags: str) -> subprocess.CompletedProcess[str]:
    """Run a command by a Python that lacks a package, or all packages for "*"."""
    without = f"sys.modules[{missing!r}] = None"
    if missing == "*":
        without = "sys.path = [path for path in sys.path if 'site-packages' not in path]"
    code = (
        f"import sys, runpy; sys.argv = [{command + '.py'!r}, *{list(flags)}]\n{without}\n"
        f"runpy.run_path({command + '.py'!r}, run_name='__main__')"
    )
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_a_missing_package_is_reported_in_one_line(command: str) -> None:
    flags = ["train"] if command.startswith("benchmarks") else []
    done = start_without("*", command, *flags, "--help")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done.stderr
    assert done.stderr.startswith("error: the package ") and "Traceback" not in done.stderr
    file = REQUIREMENTS.get(command, "requirements.txt")
    assert f" -m pip install -r {file}\n" in done.stderr and (ROOT / file).exists()


# Before and after the flags are parsed; sweep.py and export.py ask for theirs before any work.
@pytest.mark.parametrize(
    ("command", "missing"),
    [
        ("train", "torch"),
        ("eval", "torch"),
        ("sample", "torch"),
        ("audit", "torch"),
        ("prepare", "numpy"),  # preparing synthetic data needs no torch
        ("serve", "torch"),
        ("serve", "fastapi"),
        ("export", "torch"),
        ("sweep", "numpy"),
        ("benchmarks/__main__", "torch"),
        ("clingpt/export/onnx_runner", "tiktoken"),
        ("clingpt/export/onnx_runner", "numpy"),
    ],
)
def test_a_package_missing_after_parsing_flags_is_reported_in_one_line(
    command: str, missing: str, tmp_path: Path
) -> None:
    flags = {
        "benchmarks/__main__": ["train"],
        "eval": [f"--checkpoint={tmp_path}"],
        "prepare": ["--source=synthetic", f"--out={tmp_path / 'data'}"],
        "sweep": ["--preset=config/tiny.py"],
        "clingpt/export/onnx_runner": [f"--model={tmp_path}", "--prompt=x"],
    }
    done = start_without(missing, command, *flags.get(command, []))
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert done.stderr.startswith(f"error: the package {missing} is not installed for ")
    file = REQUIREMENTS.get(command, "requirements.txt")
    assert done.stderr.endswith(f" -m pip install -r {file}\n")


def test_an_old_python_is_refused_in_one_line() -> None:
    code = "import sys; sys.version_info = (3, 9, 6); from clingpt.base import console"
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: clinGPT needs Python 3.11 or newer, but ")
    assert done.stderr.endswith(" is 3.9\n")


def modules_after(statement: str) -> set[str]:
    code = f"{statement}; import sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_sample_loads_little_more_than_torch_on_the_way_to_its_prompt(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(
        tmp_path / "checkpoint", make_tiny_model(vocab_size=50257, block_size=512)
    )
    code = (
        f"import atexit, runpy, sys; sys.argv = ['sample.py', '--checkpoint={checkpoint}']\n"
        "sys.stdin.isatty = lambda: True  # so that it prompts, and meets the end of input\n"
        "atexit.register(lambda: print('LOADED', *sys.modules))\n"
        "runpy.run_path('sample.py', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = done.stdout.partition("LOADED")[2]
    assert "continue: text to continue> " in done.stderr
    added = set(loaded.split()) - modules_after("import torch")
    packages = {name.split(".")[0] for name in added}
    forbidden = SLOW | {"sympy", "transformers", "sacrebleu", "rouge_score", "optuna"}
    assert not packages & (forbidden - {"numpy", "torch"})
    for package in ("torch._dynamo", "torch._inductor", "torch.distributed.tensor"):
        assert not {name for name in added if name.startswith(package)}
