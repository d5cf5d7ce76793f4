"""The interactive session of sample.py: texts, records, and commands that begin with /.

Prompts stay in memory and no history is written to disk, because they may be clinical text.
"""

import contextlib
import json
import os
import re
import shlex
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, NoReturn

from clingpt.base import console, settings
from clingpt.base.errors import ClingptError, ConfigError, DataError
from clingpt.base.files import read_text
from clingpt.decoding.sampling import Sampling
from clingpt.text.records import Record, RecordError, clean, from_json
from clingpt.text.tasks import PROMPTED, TASK_TABLE

BLOCK = '"""'  # a line that starts or ends a text of several lines
CONTINUE = "continue"  # the name, at the prompt, of continuing a text without a task
COMMANDS = {
    "/task": ("/task NAME", f"set the task: {CONTINUE}, {', '.join(PROMPTED)}"),
    "/set": ("/set NAME=VALUE", "change one of the settings"),
    "/settings": ("/settings", "list the settings and their values"),
    "/file": ("/file PATH", "use the text of a file, or a record in a .json file"),
    "/history": ("/history", "list the prompts of this session"),
    "/again": ("/again [N]", "repeat the last prompt, or number N of the history"),
    "/help": ("/help", "show this help"),
    "/quit": ("/quit", "leave"),
}
HELP = "\n".join(
    [
        f"Type or paste a text and press Enter. {BLOCK} starts and ends a text of several lines.",
        "Ctrl-C stops a reply; Ctrl-D leaves.",
        *(f"  {usage:<16} {what}" for usage, what in COMMANDS.values()),
    ]
)
LEAVE = "(Ctrl-C again, Ctrl-D or /quit leaves)"
SETTINGS = (
    "max_new_tokens", "temperature", "top_k", "top_p", "min_p", "repetition_penalty",
    "no_repeat_ngram", "seed", "stop",
)  # fmt: skip
SHOWN = 70  # characters of a prompt that are shown again
PASTES_SINCE = 7  # GNU readline's first version that can insert a paste of several lines

Asked = str | Record  # a text to continue, or a record for a task
OnAsked = Callable[[str | None, Asked, Sampling], None]  # task (None: continue); prints a reply
OnTask = Callable[[str | None], object]  # called with the task of the next prompts


class Leave(Exception):
    """Raised when the user leaves the session."""


class Typed(NamedTuple):
    """One input: a text of one or several lines, or a command and what follows its name."""

    text: str
    command: str = ""  # begins with /
    argument: str = ""


class Redirected(Exception):
    """Raised if a command is typed where a question or a text was asked for."""

    def __init__(self, typed: Typed) -> None:
        super().__init__()
        self.typed = typed


class Repl:
    """An interactive session: the current task and settings, and the prompts so far."""

    def __init__(
        self,
        reply: OnAsked,
        sampling: Sampling,
        task: str | None,
        on_task: OnTask = lambda _: None,
    ) -> None:
        self.sampling, self.task = sampling, task
        self.history: list[tuple[str | None, Asked]] = []
        self._reply, self._on_task = reply, on_task
        self._may_leave = False  # Ctrl-C was just pressed at the prompt

    def run(self) -> None:
        """Read and answer inputs until the user leaves."""
        console.note("Type or paste a text; /help lists the commands, Ctrl-D leaves.")
        if not keeps_pastes_whole():
            console.note(
                f"Here a pasted text ends at its first line break: put {BLOCK} on a line before "
                "and after it, or use /file PATH."
            )
        self._on_task(self.task)
        with contextlib.suppress(Leave):
            while True:
                self._turn()

    def _turn(self) -> None:
        """Handle one input. A user's mistake costs only that input."""
        at_rest = True
        try:
            line = read_line(self._prompt())
            at_rest = self._may_leave = False
            try:
                self._handle(whole_input(line))
            except Redirected as instead:
                console.note(f"(dropped the text before {instead.typed.command})")
                self._handle(instead.typed)
        except BrokenPipeError:  # the program reading the replies has exited
            raise
        except ClingptError as error:
            console.note(f"error: {error}")
        except OSError as error:
            console.note(f"error: {console.describe_os_error(error)}")
        except KeyboardInterrupt:
            console.say("")
            if at_rest and self._may_leave:
                raise Leave from None
            console.note(LEAVE if at_rest else "(stopped)")
            self._may_leave = at_rest

    def _prompt(self) -> str:
        """Say which task is set, and what it needs first."""
        if self.task is None:
            return f"{CONTINUE}: text to continue> "
        wanted = "question" if asks_first(self.task) else "text (paste a report, or /file PATH)"
        return f"{self.task}: {wanted}> "

    def _handle(self, typed: Typed) -> None:
        commands: dict[str, Callable[[str], object]] = {
            "/task": self._set_task,
            "/set": self._set,
            "/settings": self._show_settings,
            "/file": self._ask_file,
            "/history": self._show_history,
            "/again": self._again,
            "/help": lambda _: console.note(HELP),
            "/quit": leave,
        }
        if typed.command in commands:
            commands[typed.command](typed.argument)
        elif name := typed.command:
            raise ConfigError(f"unknown command {shortened(name)}{hint(typed)}; /help lists them")
        elif typed.text.strip():
            self._ask_typed(typed.text)

    def _set_task(self, name: str) -> None:
        names = (CONTINUE, *PROMPTED)
        if name not in names:
            near = settings.did_you_mean(name, names)
            what = f"unknown task {name!r}{near}" if name else "/task needs a name"
            raise ConfigError(f"{what}; choose from {', '.join(names)}")
        self.task = None if name == CONTINUE else name
        self._on_task(self.task)

    def _show_settings(self, _: str) -> None:
        pairs = [(name, repr(getattr(self.sampling, name))) for name in SETTINGS]
        console.note(console.key_values("", pairs))

    def _ask_typed(self, text: str) -> None:
        if self.task is None:
            self._ask(text)
        elif asks_first(self.task):
            context = read_part("text to answer from (paste it, or /file PATH; Enter for none)> ")
            self._ask(from_json({"text": context, "question": text}))
        else:
            self._ask_record(from_json({"text": text}))

    def _ask_record(self, record: Record) -> None:
        """Apply the current task to a record, asking first for a question that it lacks."""
        needed = self.task is not None and TASK_TABLE[self.task].asks
        while needed and not record.question:
            question = read_input("question> ")
            if question.command:
                raise Redirected(question)
            record = replace(record, question=clean(question.text))
            if not record.question:
                console.note("(type a question about this text; Ctrl-C drops the text)")
        self._ask(record)

    def _ask(self, asked: Asked) -> None:
        self.history.append((self.task, asked))
        self._reply(self.task, asked, self.sampling)

    def _set(self, assignment: str) -> None:
        name, equals, text = assignment.partition("=")
        name = name.strip()
        if not equals or name not in SETTINGS:
            near = settings.did_you_mean(name, SETTINGS)
            raise ConfigError(
                f"expected NAME=VALUE, where NAME is one of {', '.join(SETTINGS)}{near}"
            )
        values = settings.to_json(self.sampling) | {name: parse_value(name, text)}
        self.sampling = settings.from_dict(Sampling, values, source="/set")

    def _ask_file(self, argument: str) -> None:
        path, text = read_file(argument)
        if self.task is None:
            self._ask(text)
        elif path.suffix == ".jsonl":
            flags = (f"--task={self.task}", f"--input={path}", "--output=replies.jsonl")
            command = console.command("sample.py", *flags)
            raise DataError(f"{path} has a record in each line; leave, and run: {command}")
        elif path.suffix == ".json":
            self._ask_record(parse_record(text, str(path)))
        else:
            self._ask_record(from_json({"text": text}))

    def _show_history(self, _: str) -> None:
        if not self.history:
            console.note("(no prompts yet)")
        for n, (task, asked) in enumerate(self.history, start=1):
            if isinstance(asked, Record):
                asked = " ".join([asked.question, *(text for _, text in asked.sections)])
            console.note(f"{n:>3}  {task or CONTINUE:<9}  {shortened(asked)}")

    def _again(self, number: str) -> None:
        if not self.history:
            raise ConfigError("no prompt to repeat yet")
        by_number = {str(n): each for n, each in enumerate(self.history, start=1)}
        chosen = by_number.get(number or str(len(by_number)))
        if chosen is None:
            raise ConfigError(f"no prompt {shortened(number)}; /history lists them")
        self._reply(*chosen, self.sampling)


def leave(_: str) -> NoReturn:
    """End the session."""
    raise Leave


def asks_first(task: str) -> bool:
    """Whether the question comes before the text, because the text is optional."""
    return TASK_TABLE[task].context == "optional"


def hint(typed: Typed) -> str:
    """Return a hint at the command that was probably meant."""
    if os.path.isfile(typed.text.strip()):  # such as a file dragged into the terminal
        return f"; did you mean /file {typed.text.strip()}?"
    return settings.did_you_mean(typed.command, COMMANDS)


def shortened(text: str, most: int = SHOWN) -> str:
    """Return the beginning of a text on one line, of at most `most` characters."""
    line = console.one_line(text)
    return line if len(line) <= most else f"{line[: most - 1]}…"


def shortened_before_reply(text: str) -> str:
    """Return the end of a text, to which a reply is joined; the user has just typed the rest."""
    *earlier, last = text.split("\n")
    return f"…{last[-SHOWN:]}" if earlier or len(last) > SHOWN else text


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


# Reading from the terminal


def keeps_pastes_whole() -> bool:
    """Let the line editor insert a pasted text as it is; return False if it cannot.

    Without this "bracketed paste", each line of a paste is a separate input. Python turns it off
    in GNU readline, and libedit (Apple's and many portable builds of Python) lacks it.
    """
    try:
        import readline
    except ImportError:
        return False
    found = re.match(r"\d+", str(getattr(readline, "_READLINE_LIBRARY_VERSION", "")))
    if found is None or int(found[0]) < PASTES_SINCE:
        return False
    readline.parse_and_bind("set enable-bracketed-paste on")
    # input() only uses the line editor if both ends are a terminal.
    return sys.stdin.isatty() and sys.stdout.isatty()


def read_input(prompt: str) -> Typed:
    """Read a text or a command; raise Leave at the end of input."""
    return whole_input(read_line(prompt))


def whole_input(line: str | None) -> Typed:
    """Return the input that a line, or a paste, begins; reads on if it begins a block."""
    if line is None:
        raise Leave
    if line.strip() == BLOCK:
        return Typed(read_block())
    text = line.strip("\n")
    first, *lines = text.split("\n")
    if lines and first.strip() == lines[-1].strip() == BLOCK:
        return Typed("\n".join(lines[:-1]))
    if lines or not text.lstrip().startswith("/"):
        return Typed(text)
    name, _, rest = text.strip().partition(" ")
    return Typed(text, name, rest.strip())


def read_part(prompt: str) -> str:
    """Read a further part of a prompt: a text, or /file PATH."""
    typed = read_input(prompt)
    if typed.command == "/file":
        return read_file(typed.argument)[1]
    if typed.command:
        raise Redirected(typed)
    return typed.text


def read_line(prompt: str) -> str | None:
    """Read a line, or a paste of several, from the user; return None at the end of input."""
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


def read_file(argument: str) -> tuple[Path, str]:
    """Read the file that a user named, as typed or as a shell would understand it.

    Raises DataError if there is no such file or no text in it.
    """
    if not argument:
        raise ConfigError("/file needs a path: /file PATH, a text file or a record in a .json file")
    names = [argument]
    with contextlib.suppress(ValueError):  # an apostrophe in a name is not an open quote
        words = shlex.split(argument)  # "my note.txt", or my\ note.txt, as a dragged file appears
        names += words if len(words) == 1 else []
    # Path.expanduser would raise for an unknown user.
    paths = [Path(os.path.expanduser(name)) for name in names]
    path = next(filter(Path.exists, paths), paths[0])
    if not path.exists():
        raise DataError(f"{path} does not exist; check the path")
    if path.is_dir():
        raise DataError(f"{path} is a folder; name one of its files")
    text = read_text(path)
    if not text.strip():
        raise DataError(f"{path} is empty")
    return path, text


def parse_record(text: str, source: str) -> Record:
    """Parse a record from JSON, or raise a DataError that names `source`."""
    try:
        return from_json(json.loads(text))
    except RecordError as error:
        raise DataError(f"{source} is not a record: {error.problem}") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{source} is not a record: {error}") from None
