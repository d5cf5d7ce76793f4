"""Shell commands as texts show them: found in code blocks, split as a shell does, and parsed."""

import ast
import importlib
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

ROOT = Path(__file__).parents[2]
COMMANDS = ("prepare", "train", "sweep", "sample", "eval", "audit", "serve", "export")
MODULES = {f"{name}.py": name for name in COMMANDS}
MODULES |= {"benchmarks": "benchmarks.__main__"}
MODULES |= {"clingpt.export.onnx_runner": "clingpt.export.onnx_runner"}
PROGRAMS = ("python", "torchrun", "make", "pip", "echo", "curl")
OPERATORS = ";|&"
VARIABLE = re.compile(r"\$\w+|\$\{\w+\}")


def shell_blocks(path: Path) -> list[str]:
    """Return a Markdown file's code blocks without a language, or a docstring's commands."""
    text = path.read_text("utf-8")
    if path.suffix == ".md":
        found = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        return [block for language, block in found if not language]
    text = ast.get_docstring(ast.parse(text)) or ""
    blocks = [each[0] for each in re.finditer(r"(?:^    .*\n)+", f"{text}\n", re.MULTILINE)]
    return [block for block in blocks if block.split()[0] in PROGRAMS]


def simple_commands(block: str) -> Iterator[list[str]]:
    """Yield the words of each simple command of a shell script, without its comments."""
    lines = iter(block.replace("\\\n", " ").splitlines())
    for line in lines:
        while True:  # until its quotes are closed
            try:
                lexer = shlex.shlex(line, posix=True, punctuation_chars=OPERATORS)
                lexer.whitespace_split = True
                words = list(lexer)
                break
            except ValueError:
                line += "\n" + next(lines)
        command: list[str] = []
        for word in [*words, ";"]:
            if not set(word) <= set(OPERATORS):
                command += [] if word == "do" else [word]
            elif command:
                yield command
                command = []


def settings_of(command: list[str]) -> Any:
    """Parse a command by the settings of its program; None if it is not one of ours.

    Raises ConfigError, as the program would. Variables of the shell stand for numbers.
    """
    program, *words = command
    words = [VARIABLE.sub("1", word) for word in words]
    if program == "torchrun":
        while words and words[0] not in MODULES:
            words.pop(0)
    elif Path(program).name != "python":
        return None
    if words[0] == "-m":
        words.pop(0)
    name, *flags = words
    if name not in MODULES:
        return None
    with mock.patch.object(sys, "argv", [name, *flags]):
        return importlib.import_module(MODULES[name]).parse_flags()
