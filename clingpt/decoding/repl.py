"""What a person who keeps sample.py open types: texts, records, and commands that begin with /.

Prompts stay in memory: no history is written to disk, since they may be clinical text.
"""

import contextlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

from clingpt.base import console, settings
from clingpt.base.errors import ClingptError, ConfigError, DataError
from clingpt.base.files import read_text
from clingpt.decoding.sampling import Sampling
from clingpt.text.records import Record, from_json
from clingpt.text.tasks import CUES

BLOCK = '"""'  # begins and ends a text of several lines
HELP = f"""\
Type a text, or {BLOCK} for one of several lines. Ctrl-C stops a reply, Ctrl-D ends.
  /task NAME       continue, answer, summarize, document or explain
  /set NAME=VALUE  one of /settings
  /settings        how the next token is chosen, and when a text ends
  /file PATH       take a file's text, or a .json record, instead of typing
  /history         what was asked; /again repeats the last one, /again N the N-th
  /help  /quit"""
TASKS = ("continue", "answer", "summarize", "document", "explain")
SETTINGS = (
    "max_new_tokens", "temperature", "top_k", "top_p", "min_p", "repetition_penalty",
    "no_repeat_ngram", "seed", "stop",
)  # fmt: skip

Asked = str | Record  # a text to continue, or a record for a task
Reply = Callable[[str | None, Asked, Sampling], None]  # to a task (None: continue); prints


class Shell:
    """A conversation: the task and the settings in force, and what was asked."""

    def __init__(self, reply: Reply, sampling: Sampling, task: str | None) -> None:
        self.sampling, self.task = sampling, task
        self.history: list[tuple[str | None, Asked]] = []
        self._reply = reply
        self._commands: dict[str, Callable[[str], None]] = {
            "/task": self._set_task, "/set": self._set, "/settings": self._show_settings,
            "/file": self._ask_file, "/history": self._show_history, "/again": self._again,
            "/help": lambda _: console.note(HELP),
        }  # fmt: skip

    def run(self) -> None:
        """Until end of input or /quit."""
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401  (arrow keys in input())
        console.note("Type a text, /help for commands, Ctrl-D to end.")
        while self._turn():
            pass

    def _turn(self) -> bool:
        """Take a line and what belongs to it, whatever is wrong with it; False at the end."""
        try:
            line = read_line(f"{self.task or 'continue'}> ")
            if line is None or line.strip() == "/quit":
                return False
            self._take(line)
        except BrokenPipeError:  # nobody reads the replies any more
            raise
        except ClingptError as error:
            console.note(f"error: {error}")
        except OSError as error:
            console.note(f"error: {console.describe_os_error(error)}")
        except KeyboardInterrupt:
            console.say("")
            console.note("(stopped)")
        return True

    def _take(self, line: str) -> None:
        name, _, rest = line.strip().partition(" ")
        if name in self._commands:
            self._commands[name](rest.strip())
        elif name.startswith("/"):
            raise ConfigError(f"there is no {name}; /help lists what there is")
        elif line.strip():
            self._ask(self._complete(read_block() if line.strip() == BLOCK else line))

    def _complete(self, text: str) -> Asked:
        """What was typed with what the task needs besides: to be explained is first a question."""
        if self.task != "explain":
            return self._about(text)
        context = read_line("context, or nothing> ") or ""
        context = read_block() if context.strip() == BLOCK else context
        return from_json({"text": context, "question": text})

    def _about(self, text: str) -> Asked:
        """A text with what the task needs besides: a question, to be typed."""
        if self.task is None:
            return text
        question = (read_line("question> ") or "") if self.task in CUES else ""
        return from_json({"text": text, "question": question})

    def _ask(self, asked: Asked) -> None:
        self.history.append((self.task, asked))
        self._reply(self.task, asked, self.sampling)

    def _set_task(self, name: str) -> None:
        if name not in TASKS:
            raise ConfigError(f"there is no task {name!r}, but {', '.join(TASKS)}")
        self.task = None if name == "continue" else name

    def _set(self, assignment: str) -> None:
        name, equals, text = assignment.partition("=")
        if not equals or name.strip() not in SETTINGS:
            raise ConfigError(f"give NAME=VALUE, with one of {', '.join(SETTINGS)}")
        values = settings.to_json(self.sampling) | {name.strip(): read_value(name, text)}
        self.sampling = settings.from_dict(Sampling, values, source="/set")

    def _show_settings(self, _: str) -> None:
        pairs = [(name, repr(getattr(self.sampling, name))) for name in SETTINGS]
        console.note(console.key_values("", pairs))

    def _ask_file(self, name: str) -> None:
        path = Path(os.path.expanduser(name))  # Path's own raises where there is no such user
        text = read_text(path)
        is_record = path.suffix == ".json" and self.task is not None
        self._ask(parse_record(text, name) if is_record else self._about(text))

    def _show_history(self, _: str) -> None:
        for n, (task, asked) in enumerate(self.history, start=1):
            if isinstance(asked, Record):
                asked = " ".join([asked.question, *(text for _, text in asked.sections)])
            console.note(f"{n:>3}  {task or 'continue':<9}  {console.one_line(asked)[:70]}")

    def _again(self, number: str) -> None:
        asked = {str(n): each for n, each in enumerate(self.history, start=1)}
        if (chosen := asked.get(number or str(len(asked)))) is None:
            raise ConfigError("nothing of that number was asked; see /history")
        self._reply(*chosen, self.sampling)


def read_value(name: str, text: str) -> object:
    """A setting as a person types it: a number, none, or for stop a text."""
    if name.strip() == "stop":
        return [line_breaks(text)] if text else []
    try:
        return None if text.strip().lower() == "none" else json.loads(text)
    except (ValueError, RecursionError):
        raise ConfigError(f"{name.strip()} is a number or none, not {text!r}") from None


def line_breaks(text: str) -> str:
    r"""A text of a command line, where \n stands for a line break."""
    return text.replace("\\n", "\n")


def read_line(question: str) -> str | None:
    """A line from a person; None at the end of input."""
    # input() asks on standard output, which in a pipe or a file is for replies alone.
    aside = (
        contextlib.nullcontext() if sys.stdout.isatty() else contextlib.redirect_stdout(sys.stderr)
    )
    try:
        with aside:
            return input(question)
    except EOFError:
        console.note("")
        return None
    except UnicodeDecodeError:
        raise DataError("what was typed is not UTF-8; set the terminal to it") from None


def read_block() -> str:
    """Lines up to one that ends the block."""
    lines = iter(lambda: read_line("… "), None)
    block: list[str] = []
    for line in lines:
        if line.strip() == BLOCK:
            break
        block.append(line)
    return "\n".join(block)


def parse_record(text: str, source: str) -> Record:
    """The record that a text is, in JSON."""
    try:
        return from_json(json.loads(text))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{source} is not a record: {error}") from None
