"""The interactive session of sample.py: texts, records, and commands that begin with /.

Prompts stay in memory and no history is written to disk, because they may be clinical text.
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
from clingpt.text.tasks import PROMPTED, TASK_TABLE

BLOCK = '"""'  # a line that starts or ends a text of several lines
HELP = f"""\
Type some text, or {BLOCK} to start and end a text of several lines.
Ctrl-C stops a reply, Ctrl-D quits.
  /task NAME       set the task: continue, {", ".join(PROMPTED)}
  /set NAME=VALUE  change one of the settings
  /settings        show the settings that decide how a reply is sampled and when it ends
  /file PATH       use the text of a file, or a .json record, as the prompt
  /history         list the prompts of this session
  /again [N]       repeat the last prompt, or number N of the history
  /help            show this help
  /quit            quit"""
SETTINGS = (
    "max_new_tokens", "temperature", "top_k", "top_p", "min_p", "repetition_penalty",
    "no_repeat_ngram", "seed", "stop",
)  # fmt: skip

Asked = str | Record  # a text to continue, or a record for a task
OnAsked = Callable[[str | None, Asked, Sampling], None]  # task (None: continue); prints a reply


class Repl:
    """An interactive session: the current task and settings, and the prompts so far."""

    def __init__(self, reply: OnAsked, sampling: Sampling, task: str | None) -> None:
        self.sampling, self.task = sampling, task
        self.history: list[tuple[str | None, Asked]] = []
        self._reply = reply

    def run(self) -> None:
        """Read and answer lines until the end of input or /quit."""
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401  (gives input() arrow keys)
        console.note("Type some text, /help for commands, Ctrl-D to quit.")
        while self._turn():
            pass

    def _turn(self) -> bool:
        """Handle one line; return False to quit. A user's mistake costs only that line."""
        try:
            line = read_line(f"{self.task or 'continue'}> ")
            if line is None or line.strip() == "/quit":
                return False
            self._handle(line)
        except BrokenPipeError:  # the program reading the replies has exited
            raise
        except ClingptError as error:
            console.note(f"error: {error}")
        except OSError as error:
            console.note(f"error: {console.describe_os_error(error)}")
        except KeyboardInterrupt:
            console.say("")
            console.note("(stopped)")
        return True

    def _handle(self, line: str) -> None:
        name, _, rest = line.strip().partition(" ")
        rest = rest.strip()
        if name == "/task":
            self._set_task(rest)
        elif name == "/set":
            self._set(rest)
        elif name == "/settings":
            self._show_settings()
        elif name == "/file":
            self._ask_file(rest)
        elif name == "/history":
            self._show_history()
        elif name == "/again":
            self._again(rest)
        elif name == "/help":
            console.note(HELP)
        elif name.startswith("/"):
            raise ConfigError(f"unknown command {name}; /help lists the commands")
        elif name:
            self._ask_typed(read_block() if line.strip() == BLOCK else line)

    def _set_task(self, name: str) -> None:
        names = ("continue", *PROMPTED)
        if name not in names:
            raise ConfigError(f"unknown task {name!r}; choose from {', '.join(names)}")
        self.task = None if name == "continue" else name

    def _show_settings(self) -> None:
        pairs = [(name, repr(getattr(self.sampling, name))) for name in SETTINGS]
        console.note(console.key_values("", pairs))

    def _ask_typed(self, text: str) -> None:
        if self.task is None or TASK_TABLE[self.task].context != "optional":
            self._ask(self._with_question(text))
            return
        # The context is optional, so the question is typed first.
        context = read_line("context, or nothing> ") or ""
        context = read_block() if context.strip() == BLOCK else context
        self._ask(from_json({"text": context, "question": text}))

    def _with_question(self, text: str) -> Asked:
        """Make a record for the current task from a text, asking for a question if it needs one."""
        if self.task is None:
            return text
        question = (read_line("question> ") or "") if TASK_TABLE[self.task].asks else ""
        return from_json({"text": text, "question": question})

    def _ask(self, asked: Asked) -> None:
        self.history.append((self.task, asked))
        self._reply(self.task, asked, self.sampling)

    def _set(self, assignment: str) -> None:
        name, equals, text = assignment.partition("=")
        name = name.strip()
        if not equals or name not in SETTINGS:
            raise ConfigError(f"expected NAME=VALUE, where NAME is one of {', '.join(SETTINGS)}")
        values = settings.to_json(self.sampling) | {name: parse_value(name, text)}
        self.sampling = settings.from_dict(Sampling, values, source="/set")

    def _ask_file(self, name: str) -> None:
        path = Path(os.path.expanduser(name))  # Path.expanduser raises if there is no such user
        text = read_text(path)
        is_record = path.suffix == ".json" and self.task is not None
        self._ask(parse_record(text, name) if is_record else self._with_question(text))

    def _show_history(self) -> None:
        for n, (task, asked) in enumerate(self.history, start=1):
            if isinstance(asked, Record):
                asked = " ".join([asked.question, *(text for _, text in asked.sections)])
            console.note(f"{n:>3}  {task or 'continue':<9}  {console.one_line(asked)[:70]}")

    def _again(self, number: str) -> None:
        by_number = {str(n): each for n, each in enumerate(self.history, start=1)}
        chosen = by_number.get(number or str(len(by_number)))
        if chosen is None:
            raise ConfigError("no prompt has that number; /history lists them")
        self._reply(*chosen, self.sampling)


def parse_value(name: str, text: str) -> object:
    """Parse a setting as typed: a number or none, or a string for stop."""
    if name == "stop":
        return [line_breaks(text)] if text else []
    try:
        return None if text.strip().lower() == "none" else json.loads(text)
    except (ValueError, RecursionError):
        raise ConfigError(f"{name} must be a number or none, got {text!r}") from None


def line_breaks(text: str) -> str:
    r"""Replace \n, as typed on a command line, with a line break."""
    return text.replace("\\n", "\n")


def read_line(prompt: str) -> str | None:
    """Read a line from the user; return None at the end of input."""
    # input() writes its prompt to standard output, which must contain only replies if it is a pipe
    # or a file.
    elsewhere = (
        contextlib.nullcontext() if sys.stdout.isatty() else contextlib.redirect_stdout(sys.stderr)
    )
    try:
        with elsewhere:
            return input(prompt)
    except EOFError:
        console.note("")
        return None
    except UnicodeDecodeError:
        raise DataError("the input is not UTF-8; set the terminal's encoding to UTF-8") from None


def read_block() -> str:
    """Read lines until one ends the block."""
    block: list[str] = []
    while (line := read_line("… ")) is not None and line.strip() != BLOCK:
        block.append(line)
    return "\n".join(block)


def parse_record(text: str, source: str) -> Record:
    """Parse a record from JSON, or raise a DataError that names `source`."""
    try:
        return from_json(json.loads(text))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{source} is not a record: {error}") from None
