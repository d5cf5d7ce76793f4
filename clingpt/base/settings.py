"""Settings of a command, defaults < preset < flags, checked into one frozen dataclass.

A command declares its settings as a flat dataclass: fields of type int, float, bool, str, Path or
Literal, each also `| None`, and tuples of one of these. Its source is its documentation:

    # --- model ---
    n_layer: int = 12  # transformer blocks; only with --init_from=scratch
    # Train low-rank updates (LoRA) of this rank instead of the weights; 0 trains the weights.
    lora_rank: int = 0

A `# --- name ---` line starts a group of flags in --help; the comment after a field, or the lines
above it, are the flag's help text. Flags are written --name=value or --name value, a tuple
--name a b (or --name= for an empty one), and a bare --name sets a bool to True.

The same checks read back what `to_json` wrote: see `from_dict` and `read_json`.
"""

import contextlib
import dataclasses
import difflib
import inspect
import io
import json
import math
import re
import runpy
import shutil
import textwrap
import traceback
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from types import NoneType, UnionType
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Literal,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from clingpt.base import console
from clingpt.base.errors import ClingptError, ConfigError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")

BOOLS = {"true": "True", "1": "True", "false": "False", "0": "False", "none": "None"}
# What other programs call a setting.
SYNONYMS = {
    "limit": ("texts", "records"),
    "lr": ("learning_rate",),
    "max_tokens": ("max_new_tokens",),
    "model": ("checkpoint", "init_from"),
    "output": ("out",),
}
CLOSE = 0.7  # a wrong name this similar to a right one was probably meant to be that (difflib)
NAMES_OF_TYPES = {
    int: "a whole number",
    float: "a finite number",
    bool: "True or False",
    str: "a string",
    Path: "a path",
    NoneType: "None",
    tuple: "a list",
    list: "a list",
}


def parse(
    cls: type[T], argv: Sequence[str], *, prog: str, description: str, preset: bool = False
) -> T:
    """Parse a command line into settings; --help prints them with their defaults and exits.

    With `preset`, the first argument without dashes names a file of plain assignments that is run
    before the flags are applied. Every mistake raises ConfigError with a message of one line.
    """
    if not {"-h", "--help"}.isdisjoint(argv):
        path = argv[0] if preset and not argv[0].startswith("-") else None
        if preset:
            prog += " [config/NAME.py]"
            description += (
                "\nconfig/NAME.py is a preset: lines `name = value`, run before the flags."
            )
        _run_tyro(cls, _read_preset(cls, path), ["--help"], prog, description)
    flags, rest = _split(cls, argv)
    for argument in rest[preset:]:
        raise ConfigError(f"unexpected argument {argument!r}; see {prog} --help")
    values = _read_preset(cls, rest[0] if rest else None)
    required = {field.name for field in dataclasses.fields(cls) if _is_required(field)} - {*values}
    for name in sorted(required - flags.keys()):
        raise ConfigError(f"--{name} is required")
    given = _typed_values(cls, values, flags)
    if given is None:  # tyro's message is a box of several lines, so find out which flag it means
        needed = {name: flags[name] for name in flags if name in required}
        for name, texts in {**needed, **flags}.items():
            if _typed_values(cls, values, needed | {name: texts}) is None:
                wanted = _describe(get_type_hints(cls)[name])
                raise ConfigError(f"--{name} must be {wanted}, got {' '.join(texts)!r}")
        raise AssertionError("tyro rejects flags together that it accepts one by one")
    return _build(cls, values | given, "--")


def is_flag_given(name: str, argv: Iterable[str]) -> bool:
    """Return whether a command line sets this flag, which then overrides presets and defaults."""
    return any(word.partition("=")[0].replace("-", "_") == f"__{name}" for word in argv)


def to_json(settings: "DataclassInstance") -> dict[str, Any]:
    """Return settings, or any other dataclass, in JSON's types: paths as strings, no tuples."""
    return {name: _plain(value) for name, value in dataclasses.asdict(settings).items()}


def from_dict(cls: type[T], values: object, *, source: str | Path) -> T:
    """Build a dataclass from parsed JSON, the inverse of `to_json`.

    Fields may be int, float, bool, str, Path, None, Literal, Any, dataclasses, and tuples, lists
    and dicts of these. Unknown and missing names, wrong types and non-finite numbers raise
    ConfigError, which names the value at fault: "run.json: fitted_on.records must be a whole
    number, got '12' (str)". Ranges are left to the dataclass, which can call `check_range` in its
    __post_init__.
    """
    if not isinstance(values, dict):
        raise ConfigError(f"{source} is not a JSON object, got {type(values).__name__}")
    return _build(cls, values, f"{source}: ")


def read_json(
    cls: type[T], path: Path, *, version: int, error: type[ClingptError], advice: str
) -> T:
    """Read a dataclass from a JSON file with the output of `to_json` and a "format" version.

    Anything wrong with the content raises `error`, with what is wrong and `advice`.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
        if not isinstance(content, dict) or "format" not in content:
            raise ConfigError(f"{path} has no format number")
        if (found := content.pop("format")) != version:
            raise ConfigError(f"{path} has format {found}, this version reads {version}")
        return from_dict(cls, content, source=path)
    except ConfigError as reason:
        # A dataclass's own checks do not know the file.
        where = "" if str(path) in str(reason) else f"{path}: "
        raise error(f"{where}{reason}; {advice}") from None
    except (ValueError, RecursionError):
        raise error(f"{path} is not JSON; {advice}") from None


def check(holds: bool, message: str) -> None:
    """Raise ConfigError unless a condition between settings holds; for `__post_init__`."""
    if not holds:
        raise ConfigError(message)


def check_range(
    settings: "DataclassInstance",
    *names: str,
    at_least: float = -math.inf,
    above: float = -math.inf,
    at_most: float = math.inf,
    below: float = math.inf,
) -> None:
    """Raise ConfigError for numbers out of bounds, NaN and infinities; None ("off") passes."""
    bounds = {"at least": at_least, "above": above, "at most": at_most, "below": below}
    rules = [f"{word} {bound}" for word, bound in bounds.items() if math.isfinite(bound)]
    for name in names:
        value = getattr(settings, name)
        inside = value is None or (at_least <= value <= at_most and above < value < below)
        check(inside, f"{name} must be {' and '.join(rules) or 'finite'}, got {value}")


# Command line


def _split(cls: type[T], argv: Sequence[str]) -> tuple[dict[str, list[str]], list[str]]:
    """Sort a command line into flags (name → texts) and positional arguments.

    tyro would accept a flag twice, and would answer a typo with a box of several lines.
    """
    types = get_type_hints(cls)
    flags: dict[str, list[str]] = {}
    rest: list[str] = []
    tokens = list(reversed(argv))
    while tokens:
        token = tokens.pop()
        typed, equals, text = token.partition("=")
        name = typed.removeprefix("--").replace("-", "_")
        if not token.startswith("-"):
            if equals and typed in types:
                raise ConfigError(f"unexpected argument {token!r}; did you mean --{token}?")
            rest.append(token)
            continue
        if not typed.startswith("--") or name not in types:
            raise ConfigError(f"unknown flag {typed}{_hint(name.strip('_'), types, '--')}")
        if name in flags:
            raise ConfigError(f"--{name} is given twice; keep one")
        is_bool, is_tuple = bool in _options(types[name]), get_origin(types[name]) is tuple
        texts = [text] if equals else []
        if is_bool and not equals:
            texts = [tokens.pop() if tokens and tokens[-1].lower() in BOOLS else "True"]
        # A single value may start with a dash; in a list, "-x" would be ambiguous.
        flag = re.compile(r"--|-[a-zA-Z]" if is_tuple else r"--")
        while not equals and tokens and not flag.match(tokens[-1]) and (is_tuple or not texts):
            texts.append(tokens.pop())
        # Path("") is the current folder, but an empty text is an unset shell variable.
        if not texts or (texts == [""] and Path in _options(types[name])):
            raise ConfigError(f"--{name} needs a value: --{name}=VALUE")
        if is_bool:
            texts = [BOOLS.get(text.lower(), text) for text in texts]
        flags[name] = [text for text in texts if text] if is_tuple else texts
    return flags, rest


def _typed_values(
    cls: type[T], values: dict[str, Any], flags: Mapping[str, list[str]]
) -> dict[str, Any] | None:
    """Convert the texts of flags to the types of their settings; None if that fails."""
    args: list[str] = []
    for name, texts in flags.items():
        # The form with "=" lets a value start with a dash.
        args += [f"--{name}={texts[0]}"] if len(texts) == 1 else [f"--{name}", *texts]
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            return _run_tyro(cls, values, args, prog="")
    except SystemExit:
        return None


def _run_tyro(
    cls: type[T], values: dict[str, Any], args: list[str], prog: str, description: str = ""
) -> dict[str, Any]:
    """Parse flags by tyro, with one nested dataclass for each group, which --help shows as such.

    `cls` itself is not built here: a preset alone need not pass its checks, only the sum of preset
    and flags.
    """
    import tyro  # not above: reading stored settings needs no tyro

    types, groups = get_type_hints(cls), dict[str, list[Any]]()
    defaults: dict[str, Any] = {field.name: field.default for field in dataclasses.fields(cls)}
    defaults.update(values)
    for name, (group, text) in _documentation(cls).items():
        help_text = tyro.conf.arg(help=text, help_behavior_hint=_default_hint)
        entry = (name, Annotated[types[name], help_text], dataclasses.field())
        if defaults[name] is not dataclasses.MISSING:
            entry = (*entry[:2], dataclasses.field(default=defaults[name]))
        groups.setdefault(group, []).append(entry)
    nested = [
        (f"group_{i}", Annotated[_dataclass(group, entries), tyro.conf.arg(name=group)])
        for i, (group, entries) in enumerate(groups.items())
    ]
    if description:
        console.say(_wrapped(description) + "\n")  # tyro would join the lines of commands
    parsed = tyro.cli(
        _dataclass(cls.__name__, nested),
        args=args,
        prog=prog,
        description="",
        use_underscores=True,
        config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagConversionOff),
    )
    return {name: value for group in vars(parsed).values() for name, value in vars(group).items()}


def _wrapped(text: str) -> str:
    """Wrap a text to the terminal, at 80 columns at most; indented lines stay as they are.

    Indented lines are commands to paste, and tables.
    """
    width = min(80, shutil.get_terminal_size().columns)
    wrapper = textwrap.TextWrapper(width, break_long_words=False, break_on_hyphens=False)
    lines: list[str] = []
    for plain, each in groupby(inspect.cleandoc(text).splitlines(), lambda line: line[:1] > " "):
        group = list(each)
        lines += wrapper.wrap(" ".join(group)) if plain else group
    return "\n".join(lines)


def _dataclass(name: str, fields: list[Any]) -> Any:
    return dataclasses.make_dataclass(name.title().replace(" ", ""), fields, kw_only=True)


def _default_hint(default: str) -> str:
    return f"(default: {default or 'none'})"


def _documentation(cls: type[T]) -> dict[str, tuple[str, str]]:
    """Return each field's group and help text, from the comments in the source of the dataclass."""
    found: dict[str, tuple[str, str]] = {}
    group, above = "other", list[str]()
    names = {field.name for field in dataclasses.fields(cls)}
    for line in inspect.getsource(cls).splitlines():
        line = line.strip()
        if heading := re.fullmatch(r"# --- (.+) ---", line):
            group, above = heading[1], []
        elif line.startswith("# "):
            above.append(line[2:])
        elif (name := line.partition(":")[0]) in names and name not in found:
            after = line.rpartition("  # ")
            found[name] = group, (after[2] if after[1] else " ".join(above)).removesuffix(".")
            above = []
        else:
            above = []
    return found


def _hint(wrong: str, names: Iterable[str], prefix: str = "") -> str:
    names = list(names)
    near = [name for name in SYNONYMS.get(wrong, ()) if name in names]
    near += difflib.get_close_matches(wrong, names, n=1, cutoff=CLOSE)
    return f"; did you mean {prefix}{near[0]}?" if near else "; --help lists them all"


def did_you_mean(wrong: str, names: Iterable[str]) -> str:
    """Return a hint at the most similar name, or nothing if none is similar."""
    near = difflib.get_close_matches(wrong, list(names), n=1)
    return f"; did you mean {near[0]}?" if near and near[0] != wrong else ""


# Values


def _build(cls: type[T], values: Mapping[str, Any], where: str) -> T:
    """Build an instance of `cls`; `where` comes before a name in messages."""
    checked = _check(cls, values, where)
    for field in dataclasses.fields(cls):
        if field.name not in checked and _is_required(field):
            raise ConfigError(f"{where}{field.name} is missing")
    return cls(**checked)


def _is_required(field: "dataclasses.Field[Any]") -> bool:
    return field.default is field.default_factory is dataclasses.MISSING


def _check(cls: type[T], values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return values by name, converted to the types that `cls` declares."""
    types = get_type_hints(cls)
    for name in values:
        if name not in types:
            raise ConfigError(f"{where}unknown setting {name}{_hint(name, types)}")
    return {name: _convert(types[name], value, where + name) for name, value in values.items()}


def _convert(wanted: Any, value: Any, name: str) -> Any:
    """Convert `value` if nothing is lost (int to float, str to Path, list to tuple)."""
    for option in _options(wanted):
        kind, items = get_origin(option) or option, get_args(option)
        if kind is Any or (kind is Literal and (type(value), value) in map(_typed, items)):
            return value
        if isinstance(kind, type) and dataclasses.is_dataclass(kind) and isinstance(value, dict):
            return _build(kind, value, f"{name}.")
        if kind is dict and isinstance(value, dict):
            return {key: _convert(items[1], item, f"{name}.{key}") for key, item in value.items()}
        if kind in (tuple, list) and isinstance(value, list | tuple):
            repeated = kind is list or items[-1] is Ellipsis
            kinds = items[:1] * len(value) if repeated else items
            if len(kinds) == len(value):
                each = enumerate(zip(kinds, value, strict=True))
                return kind(_convert(one, item, f"{name}[{i}]") for i, (one, item) in each)
        with contextlib.suppress(TypeError, OverflowError):
            return _scalar(kind, value)
    got = f"{value!r} ({type(value).__name__})"
    raise ConfigError(f"{name} must be {_describe(wanted)}, got {got}")


def _typed(value: object) -> tuple[type, object]:
    return type(value), value  # True == 1, but only one of them is a choice of Literal[1]


def _scalar(kind: Any, value: Any) -> Any:
    """Convert to `kind`; raise TypeError or OverflowError if that would lose something."""
    # By exact type: to Python a bool is an int, but True is not a learning rate.
    if kind is float and type(value) in (int, float) and abs(value) < math.inf:
        return float(value)  # OverflowError for 10**400
    if kind is Path and isinstance(value, str | Path) and value != "":
        return Path(value)
    if kind in (int, bool, str, NoneType) and type(value) is kind:
        return value
    raise TypeError


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _options(wanted: Any) -> tuple[Any, ...]:
    """Return the types in a union: (int, NoneType) of `int | None`."""
    return get_args(wanted) if get_origin(wanted) in (Union, UnionType) else (wanted,)


def _describe(wanted: Any) -> str:
    """Describe a type in words: "a whole number or None"."""
    words: list[str] = []
    for option in _options(wanted):
        kind = get_origin(option) or option
        if kind is Literal:
            words += map(str, get_args(option))
        else:
            words.append(NAMES_OF_TYPES.get(kind, "an object"))
    return " or ".join([", ".join(words[:-1]), words[-1]] if words[1:] else words)


# Presets


def _read_preset(cls: type[T], path: str | None) -> dict[str, Any]:
    """Run a preset in its own namespace and return the settings that it assigns."""
    if path is None:
        return {}
    if not Path(path).is_file():
        raise ConfigError(_no_preset(Path(path)))
    try:
        names = runpy.run_path(path)
    except (Exception, SystemExit) as error:
        # str(SyntaxError) repeats the file's name; its msg doesn't.
        said = f"{type(error).__name__}: {getattr(error, 'msg', error)}"
        raise ConfigError(f"{path}{_line(error, path)}: {' '.join(said.split())}") from None
    names = {name: value for name, value in names.items() if not (name[:2] == name[-2:] == "__")}
    return _check(cls, names, f"{path}: ")


def _no_preset(path: Path) -> str:
    if path.is_dir():
        return f"{path} is a folder; name one of the presets in it"
    found = {near.name: str(near) for near in sorted(path.parent.glob("*.py"))}
    near = difflib.get_close_matches(path.name, list(found), n=1)
    return f"preset {path} does not exist" + (f"; did you mean {found[near[0]]}?" if near else "")


def _line(error: BaseException, path: str) -> str:
    """ ":12" if the error points at the preset's line 12, else an empty string."""
    if isinstance(error, SyntaxError):
        return f":{error.lineno}" if error.lineno else ""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [f":{frame.lineno}" for frame in frames if frame.filename == path]
    return lines[-1] if lines else ""
