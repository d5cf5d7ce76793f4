"""Console output: results, notes, tables, progress bars, and how a command exits.

Results go to standard output, diagnostics to standard error. Text from records and models is
untrusted: its control characters are escaped and never reach the terminal.
"""

import contextlib
import errno
import io
import math
import os
import re
import shlex
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, TextIO, TypeVar

from clingpt.base.errors import ClingptError

if TYPE_CHECKING:
    from tqdm import tqdm

Item = TypeVar("Item")
Cell = str | int | float | None

PAGE_COLUMNS = 100  # the widest table
LINE_EVERY_S = 60.0  # between progress lines, if stderr is not a terminal
NARROWEST_TEXT = 16  # but never narrow a column of text below this
SHELL_INTERRUPTED = 130  # 128 + SIGINT, as shells report it
SHELL_BROKEN_PIPE = 141  # 128 + SIGPIPE

# C0 except tab and newline, DEL, C1, marks that reorder text (CVE-2021-42574), lone surrogates.
UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
# A number, with a short unit or interval after it: "3 min 12 s", "55.2 (50.8–59.5)".
NUMERIC = re.compile(r"[-+−~<>≤≥]?\s?\d\S*( .{0,16})?|–?")

BOLD_GREEN, DIM, PLAIN = "\x1b[1;32m", "\x1b[2m", "\x1b[0m"
RED, YELLOW = "\x1b[31m", "\x1b[33m"
UNSURE, NOT_SURE = 0.5, 0.9  # words below these probabilities are marked red, or yellow

OURS = ("clingpt", "benchmarks", "model", "train")  # if one of these is missing, it is a bug

_muted = False  # set by mute()

ADVICE = {
    errno.ENOENT: "check the path",
    errno.ENOTDIR: "check the path",
    errno.EISDIR: "choose a file instead",
    errno.EEXIST: "choose another name or remove it first",
    errno.ENOTEMPTY: "choose another name or empty it first",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EACCES: "check its owner and permissions",
    errno.EPERM: "check its owner and permissions",
    errno.EROFS: "choose a writable location",
    errno.ENOSPC: "free some space or choose another disk",
    errno.EDQUOT: "free some space or choose another disk",
    errno.EFBIG: "choose a disk that allows larger files",
    errno.EIO: "check the disk",
    errno.ENODEV: "check that the disk is still connected",
    errno.ENXIO: "check that the disk is still connected",
    errno.ENOTCONN: "check that the disk is still connected",
    errno.EHOSTDOWN: "check that the disk is still connected",
    errno.ETIMEDOUT: "check that the disk is still connected",
    errno.ESTALE: "check that the disk is still connected",
    errno.EBUSY: "close the program that uses it",
    errno.ELOOP: "check the path",
    errno.ENOTSUP: "choose another file system",
    errno.EXDEV: "choose another file system",
    errno.ENOLCK: "choose another file system",
    errno.EMFILE: "raise the limit on open files (ulimit -n)",
    errno.ENFILE: "close other programs",
    errno.ENOMEM: "close other programs, or use a machine with more memory",
    errno.EAGAIN: "raise the limit on processes (ulimit -u), or start fewer workers",
    errno.EADDRINUSE: "choose another port, or stop the program that uses this one",
}
UNKNOWN_REASON = "check that the disk has space and is still connected"

# What a library says if the system refused something, but its exception is not an OSError:
# safetensors, SQLite and torch's writer of archives, its allocator, and Python's threads.
QUOTED = (
    (re.compile(r"\(os error (\d+)\)"), None),
    (re.compile(r"database or disk is full"), errno.ENOSPC),
    (re.compile(r"disk I/O error"), errno.EIO),
    (re.compile(r"readonly database"), errno.EROFS),
    (re.compile(r"DefaultCPUAllocator: can't allocate memory"), errno.ENOMEM),
    (re.compile(r"can't start new thread"), errno.EAGAIN),
)
# Reasons for which any other exception may be raised while an OSError with one is being handled.
OF_DISKS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.ESTALE}


def run(main: Callable[[], object], *, requirements: str = "requirements.txt") -> None:
    """Run a command: report a user's mistake in one line and exit; let bugs raise a traceback.

    `requirements` names the file that lists the packages of this command.
    """
    _open_closed_streams()
    _show_what_cannot_be_encoded()
    explain_missing_packages(requirements)
    try:
        main()
        with _naming(sys.stdout):  # report a full disk or a closed pipe here, not at shutdown
            sys.stdout.flush()
    except ClingptError as error:
        _end(f"error: {error}", status=error.exit_status)
    except ModuleNotFoundError as error:
        if (line := missing_package(error, requirements)) is None:
            raise
        _end(f"error: {line}", status=1)
    except KeyboardInterrupt as interrupt:
        _end(": ".join(["interrupted", *map(str, interrupt.args)]), status=SHELL_INTERRUPTED)
    except BrokenPipeError:
        _end(None, status=SHELL_BROKEN_PIPE)
    except Exception as error:
        cause = os_error_in(error)
        if cause is None or (advice := advice_on(cause)) is None:
            raise
        _end(f"error: {describe_os_error(cause)}; {advice}", status=1)


@contextlib.contextmanager
def on_interrupt(left: Callable[[], str]) -> Iterator[None]:
    """Let `run` report after Ctrl-C what the block has left behind, and how to continue."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(left()) from None


def explain_missing_packages(requirements: str = "requirements.txt") -> None:
    """From now on, report a package that is not installed in one line instead of a traceback.

    A hook, because commands import most packages before they call run(). `requirements` names the
    file that lists what the command needs.
    """

    def report(
        kind: type[BaseException], error: BaseException, traceback: TracebackType | None
    ) -> None:
        if line := missing_package(error, requirements):
            mute(unless=True)
            note(f"error: {line}")
        else:
            sys.__excepthook__(kind, error, traceback)

    sys.excepthook = report


def missing_package(error: BaseException, requirements: str) -> str | None:
    """Say which package is not installed and what to do; None for any other error."""
    if not isinstance(error, ModuleNotFoundError):
        return None
    name = (error.name or OURS[0]).split(".")[0]
    if name in OURS:
        return None
    missing = f"the package {name} is not installed for {sys.executable}"
    root = Path(__file__).parents[2]
    environment = root / ".venv"
    in_use = environment.resolve() == Path(sys.prefix).resolve()
    if in_use or not (environment / "bin/python").exists():
        pip = command("-m", "pip", "install", "-r", _from_here(root / requirements))
        return f"{missing}; run: {pip}"
    # Without the flags, which may contain a patient's text.
    given = sys.orig_argv
    script = given[given.index("-m") :][:2] if "-m" in given else sys.argv[:1]
    start = shlex.join([_from_here(environment / "bin/python"), *script])
    activate = shlex.join([".", _from_here(environment / "bin/activate")])
    return f"{missing}; run: {start} …, or activate the environment first: {activate}"


def describe_os_error(error: OSError) -> str:
    """Describe an error as the file or files concerned, then the reason."""
    names = [str(name) for name in (error.filename, error.filename2) if name is not None]
    reason = error.strerror or one_line(str(error)) or type(error).__name__
    return f"{' -> '.join(names)}: {reason}" if names else reason


def os_error_in(error: BaseException) -> OSError | None:
    """Return the system's error that an exception is, wraps or only quotes; None if there is none.

    torch.save raises a RuntimeError whose context is the OSError of a full disk, and others give
    the reason as text (QUOTED). A ClingptError has its own message, whatever its cause.
    """
    if isinstance(error, ClingptError):
        return None
    if isinstance(error, OSError):
        return None if isinstance(error, io.UnsupportedOperation) else error
    if isinstance(error, MemoryError):
        return OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, OSError) and link.errno in OF_DISKS:
            return link
        for pattern, code in QUOTED:
            if found := pattern.search(str(link)):
                code = code or int(found[1])
                return OSError(code, os.strerror(code))
        link = link.__cause__ or link.__context__
    return None


def advice_on(error: OSError) -> str | None:
    """Say what to do about an error of the system; None if it is a bug of the program.

    numpy's tofile and Pillow raise an OSError without a number if a disk is full.
    """
    if error.errno in ADVICE:
        return ADVICE[error.errno]
    return UNKNOWN_REASON if error.errno is None or error.filename is not None else None


def why_not_written(error: BaseException) -> tuple[str, str]:
    """Return why something could not be written, without its path, and what to do about it."""
    cause = os_error_in(error)
    if cause is None:
        return one_line(str(error)), UNKNOWN_REASON
    reason = cause.strerror or describe_os_error(cause)
    return reason, advice_on(cause) or UNKNOWN_REASON


def _end(message: str | None, *, status: int) -> NoReturn:
    if message is not None:
        mute(unless=True)
        with contextlib.suppress(OSError):
            note(one_line(message))
    _give_up_broken_streams()
    raise SystemExit(status)


def _give_up_broken_streams() -> None:
    """Keep the interpreter from flushing to a closed pipe or a full disk at shutdown.

    docs.python.org/3/library/signal.html#note-on-sigpipe
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _open_closed_streams() -> None:
    """Open standard streams that the caller has closed (`>&-`), for which Python has None.

    Otherwise the next file that is opened would get a stream's number, and whatever a library
    prints would be written into it.
    """
    if None not in (sys.stdin, sys.stdout, sys.stderr):
        return
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    sys.stdin, sys.stdout, sys.stderr = (
        stream or open(number, mode, encoding="utf-8", closefd=False)
        for number, (stream, mode) in enumerate(
            ((sys.stdin, "r"), (sys.stdout, "w"), (sys.stderr, "w"))
        )
    )


def _show_what_cannot_be_encoded() -> None:
    """Escape what the terminal's encoding lacks (±), as standard error does by default."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def mute(*, unless: bool) -> None:
    """Silence results, notes and progress unless this is the process that reports for its run."""
    global _muted
    _muted = not unless


def say(text: str, *, end: str = "\n", styled: bool = False) -> None:
    """Print a result. `styled` text was escaped and coloured by mark() or shade() already."""
    _write(text if styled else visible(text), sys.stdout, end=end)


def note(text: str) -> None:
    """Print a diagnostic to standard error."""
    _write(visible(text), sys.stderr, end="\n")


def _write(text: str, stream: TextIO, *, end: str) -> None:
    if _muted:
        return
    with _naming(stream):
        if (bars := sys.modules.get("tqdm")) is not None:
            bars.tqdm.write(text, file=stream, end=end)  # redraws progress bars below the text
        else:
            stream.write(f"{text}{end}")
        stream.flush()


@contextlib.contextmanager
def _naming(stream: TextIO) -> Iterator[None]:
    """Name the stream in an OSError of the block: the system gives no name for a full disk."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = "standard output" if stream is sys.stdout else "standard error"
        raise


def visible(text: str) -> str:
    """Escape control characters, so that data cannot control the terminal."""
    return UNSAFE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def one_line(text: str) -> str:
    """Join the lines of a text with single spaces."""
    return " ".join(stripped for line in text.splitlines() if (stripped := line.strip()))


def safe_line(text: str) -> str:
    """Escape a text and put it on one line, as a table needs it."""
    return visible(one_line(text)).replace("\t", " ")


def colour_enabled(stream: TextIO) -> bool:
    """Return whether to use colours: on a capable terminal without NO_COLOR (no-color.org)."""
    wanted = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return wanted and stream.isatty()


def mark(text: str, *, trained: bool, colour: bool) -> str:
    """Escape a text and mark whether it is trained on: bold green or dim; [[…]] without colour.

    Plain ASCII brackets survive every pipe and can be searched for.
    """
    text = visible(text)
    if not text:
        return text
    if colour:
        return f"{BOLD_GREEN if trained else DIM}{text}{PLAIN}"
    return f"[[{text}]]" if trained else text


def shade(text: str, *, log_prob: float, colour: bool) -> str:
    """Escape a text and mark how uncertain the model was: red or yellow; [[…]] without colour."""
    text, probability = visible(text), math.exp(log_prob)
    if not colour:
        return f"[[{text}]]" if probability < UNSURE and text else text
    if probability >= NOT_SURE:
        return text
    return f"{RED if probability < UNSURE else YELLOW}{text}{PLAIN}"


def command(*arguments: object) -> str:
    """Format a command line to paste that runs `arguments` with the Python that is running now."""
    return shlex.join([python(), *map(str, arguments)])


def python() -> str:
    """Return "python" if that starts this interpreter, else its path.

    Unless the environment is activated, "python" is another interpreter, without our packages.
    """
    found = shutil.which("python")
    if not sys.executable or (found and _location(found) == _location(sys.executable)):
        return "python"
    return _from_here(Path(sys.executable))


def _from_here(path: Path) -> str:
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def _location(executable: str) -> tuple[Path, Path]:
    # With its folder, because the interpreters of all environments are links to the same file.
    return Path(executable).parent.resolve(), Path(executable).resolve()


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
    """Format a plain-text table: numbers right-aligned, long text and headings wrapped.

    It is at most as wide as the terminal; where even that is too narrow, each row becomes a list of
    names and values. Without rows, the result is the title and "none".
    """
    body = [[cell_text(cell) for cell in row] for row in rows]
    if title and not body:
        return f"{safe_line(title)}: none"
    head = [safe_line(column) for column in columns]
    cells = list(zip(head, *body, strict=True))  # one tuple per column
    right = [bool(body) and all(map(NUMERIC.fullmatch, column[1:])) for column in cells]
    widths = fit_widths(cells, right, page_columns())
    if widths is None:
        blocks = [key_values(row[0], zip(head[1:], row[1:], strict=True)) for row in body]
        return "\n".join([paragraph(title), *blocks] if title else blocks)
    rule = ["-" * width for width in widths]
    lines = [line for row in [head, rule, *body] for line in row_lines(row, widths, right)]
    return "\n".join([paragraph(title), *lines] if title else lines)


def key_values(title: str, pairs: Iterable[tuple[str, Cell]]) -> str:
    """Format names and values, one pair per line, with the values aligned."""
    texts = [(safe_line(name), cell_text(value)) for name, value in pairs]
    width = max((len(name) for name, _ in texts), default=0)
    lines = [f"  {name.ljust(width)}  {value}".rstrip() for name, value in texts]
    return "\n".join([safe_line(title), *lines] if title else lines)


def paragraph(text: str) -> str:
    """Break a text into lines of the terminal's width, between words."""
    wrapped = textwrap.wrap(
        safe_line(text), page_columns(), break_long_words=False, break_on_hyphens=False
    )
    return "\n".join(wrapped)


def cell_text(cell: Cell) -> str:
    """Format a cell on one line: thousands separators, two decimals, a dash for None."""
    if cell is None:
        return "–"
    if isinstance(cell, str):
        return safe_line(cell)
    if isinstance(cell, bool):
        return str(cell)
    return count(cell) if isinstance(cell, int) else f"{cell:,.2f}"


def page_columns() -> int:
    """Return the width of tables: PAGE_COLUMNS, or that of a narrower terminal."""
    return min(PAGE_COLUMNS, shutil.get_terminal_size((PAGE_COLUMNS, 24)).columns)


def fit_widths(
    columns: Sequence[Sequence[str]], numeric: Sequence[bool], most: int
) -> list[int] | None:
    """Shrink the widest columns until a table of these cells fits; None if it cannot.

    Headings, the first cell of each column, wrap between words, and so does text. Numbers do not.
    """
    widths = [max(map(len, column)) for column in columns]
    least = []
    for (heading, *cells), is_numeric, width in zip(columns, numeric, widths, strict=True):
        kept = cells if is_numeric else ["x" * min(width, NARROWEST_TEXT)]
        least.append(max(map(len, [*heading.split(), *kept, ""])))
    while sum(widths) + 2 * (len(widths) - 1) > most:
        wide = [i for i, width in enumerate(widths) if width > least[i]]
        if not wide:
            return None
        widths[max(wide, key=lambda i: widths[i])] -= 1
    return widths


def row_lines(row: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> list[str]:
    """Format a row as lines of text, as many as its longest cell needs."""
    wrapped = [
        textwrap.wrap(cell, width, break_on_hyphens=False) if len(cell) > width else [cell]
        for cell, width in zip(row, widths, strict=True)
    ]
    height = max(map(len, wrapped), default=0)
    lines = []
    for i in range(height):
        pieces = [cell[i] if i < len(cell) else "" for cell in wrapped]
        aligned = [
            piece.rjust(width) if to_right else piece.ljust(width)
            for piece, width, to_right in zip(pieces, widths, right, strict=True)
        ]
        lines.append("  ".join(aligned).rstrip())
    return lines


def progress(
    items: Iterable[Item],
    *,
    label: str,
    total: int | None = None,
    unit: str = "it",
    initial: int = 0,
) -> "tqdm[Item]":
    """Iterate with a progress bar on standard error, or a line a minute without a terminal.

    Without a terminal, nothing is printed if it takes less than a minute.
    """
    from tqdm import tqdm  # imported late: most commands show no bar

    if sys.stderr.isatty():
        how: dict[str, Any] = {"file": sys.stderr, "dynamic_ncols": True}
    else:
        # A log gets lines instead of a bar. Items may be uneven, so each one checks the time.
        how = {"file": _Lines(), "ncols": 0, "miniters": 1}
        how |= {"delay": LINE_EVERY_S, "mininterval": LINE_EVERY_S}
    return tqdm(
        items,
        desc=label,
        total=total,
        unit=unit,
        initial=initial,
        leave=None,  # a nested bar disappears when it is done
        disable=_muted or total == 1,
        **how,
    )


class _Lines(io.TextIOBase):
    """Turns what tqdm draws, with carriage returns and cursor movements, into plain lines."""

    def write(self, drawn: str) -> int:
        if line := drawn.replace("\x1b[A", "").strip():
            note(line)
        return len(drawn)


def progress_bar(
    *, label: str, total: int | None, unit: str = "it", initial: int = 0
) -> "tqdm[None]":
    """Return a bar to be updated by hand: update(n), set_postfix_str(…, refresh=False), close()."""
    return progress((), label=label, total=total, unit=unit, initial=initial)


def count(n: int, one: str = "", many: str | None = None) -> str:
    """Format a count: 12,345; with words for what is counted: 1 record, 2 records.

    `many` is the plural if it is not `one` with an s: count(n, "entry", "entries").
    """
    words = one if n == 1 else f"{one}s" if many is None else many
    return f"{n:,} {words}" if one else f"{n:,}"


def duration(seconds: float) -> str:
    """Format a duration in at most two units: 0.4 s, 3 min 12 s, 2 h 5 min, 1 d 3 h."""
    if not math.isfinite(seconds):
        return "–"
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours < 24 else f"{hours // 24} d {hours % 24} h"


def size(n_bytes: int) -> str:
    """Format a size in decimal units, as disks are sold: 999 B, 1.5 kB, 497.8 MB."""
    if n_bytes < 1000:
        return f"{n_bytes} B"
    value = float(n_bytes)
    for unit in ("kB", "MB", "GB"):
        value /= 1000
        if round(value, 1) < 1000:
            return f"{value:.1f} {unit}"
    return f"{value / 1000:.1f} TB"
