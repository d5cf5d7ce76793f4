"""Settings of a command: defaults < preset file < flags, checked into one frozen dataclass.

It knows no command's settings: names, comments and ranges stand in the command's own dataclass.

A settings class is flat: fields of type int, float, bool, str, Path or Literal, each of them also
`| None`, and tuple[str, ...]. The comment behind a field is its --help text. A flag always takes a
value: `--compile=False` (true, false, 1, 0 in any case), `--top_k=None`; for a tuple `--stop a b`,
or `--stop=` for an empty one.
"""

import contextlib
import dataclasses
import difflib
import io
import math
import runpy
import traceback
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import tyro

from clingpt.base.errors import ConfigError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")

# Without FlagConversionOff, tyro has `--compile` and `--no-compile` instead of `--compile=False`.
TYRO = (tyro.conf.FlagConversionOff,)
BOOLS = {"true": "True", "1": "True", "false": "False", "0": "False"}


def parse(
    settings: type[T], argv: Sequence[str], *, prog: str, description: str, preset: bool = False
) -> T:
    """The settings that a command line asks for; --help prints them and exits."""
    if not {"-h", "--help"}.isdisjoint(argv):
        paths = [path for path in argv[:1] if preset and not path.startswith("-")]
        _print_help(settings, _read_presets(settings, paths), prog, description, preset)
    flags, rest = _split(settings, argv)
    for argument in rest[preset:]:
        raise ConfigError(f"unexpected argument {argument!r}; see {prog} --help")
    values = _read_presets(settings, rest)
    values |= {name: _parse_flag(settings, name, texts) for name, texts in flags.items()}
    return _build(settings, values, "--")


def to_json(settings: "DataclassInstance") -> dict[str, Any]:
    """The settings as JSON holds them: paths as text, tuples as lists."""
    values = dataclasses.asdict(settings)
    texts = {name: str(value) for name, value in values.items() if isinstance(value, Path)}
    lists = {name: list(value) for name, value in values.items() if isinstance(value, tuple)}
    return values | texts | lists


def from_dict(settings: type[T], values: Mapping[str, Any], *, source: str | Path) -> T:
    """Settings that `to_json` gave and `source` kept; names, types and ranges are checked again."""
    where = f"{source}: "
    return _build(settings, _check(settings, values, where), where)


def check(holds: bool, message: str) -> None:
    """Refuse settings that cannot work together; for `__post_init__`."""
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
    """Refuse numbers out of bounds, NaN and infinities; None means "off" and passes."""
    bounds = {"at least": at_least, "above": above, "at most": at_most, "below": below}
    rules = [f"{word} {bound}" for word, bound in bounds.items() if math.isfinite(bound)]
    for name in names:
        value = getattr(settings, name)
        inside = value is None or (at_least <= value <= at_most and above < value < below)
        check(inside, f"{name} must be {' and '.join(rules) or 'finite'}, got {value}")


# Names


def _split(settings: type[T], argv: Sequence[str]) -> tuple[dict[str, list[str]], list[str]]:
    """Sort a command line into flags (name → texts) and the arguments that are none."""
    types = _types(settings)
    flags: dict[str, list[str]] = {}
    rest: list[str] = []
    tokens = list(reversed(argv))
    while tokens:
        token = tokens.pop()
        typed, equals, text = token.partition("=")
        if not token.startswith("-"):
            if equals and typed in types:
                raise ConfigError(f"unexpected argument {token!r}; did you mean --{token}?")
            rest.append(token)
            continue
        name = _known(types, typed)
        if name in flags:
            raise ConfigError(f"--{name} is given twice; keep one")
        flags[name] = [text] if equals else _take(tokens, many=get_origin(types[name]) is tuple)
    return flags, rest


def _take(tokens: list[str], *, many: bool) -> list[str]:
    """Pop a flag's value, or a tuple's values, off the reversed rest of a command line."""
    texts: list[str] = []
    while tokens and not tokens[-1].startswith("--") and (many or not texts):
        texts.append(tokens.pop())
    return texts


def _known(names: Iterable[str], typed: str) -> str:
    """The setting that a flag names, with hyphens or underscores."""
    name = typed.removeprefix("--").replace("-", "_")
    if not typed.startswith("--") or name not in names:
        raise ConfigError(f"unknown setting {typed}{_hint(name.strip('_'), names, '--')}")
    return name


def _hint(wrong: str, names: Iterable[str], prefix: str = "") -> str:
    near = difflib.get_close_matches(wrong, list(names), n=1)
    return f"; did you mean {prefix}{near[0]}?" if near else "; --help lists them all"


def _types(settings: type[T]) -> dict[str, Any]:
    hints = get_type_hints(settings)
    return {field.name: hints[field.name] for field in dataclasses.fields(settings)}


def _required(settings: type[T]) -> list[str]:
    fields, missing = dataclasses.fields(settings), dataclasses.MISSING
    return [each.name for each in fields if each.default is each.default_factory is missing]


# Values


def _parse_flag(settings: type[T], name: str, texts: list[str]) -> Any:
    """A flag's texts as the type of its setting."""
    wanted = _types(settings)[name]
    # An empty path is the current folder to Path, and an unset variable to whoever typed it.
    if not texts or (texts == [""] and Path in _options(wanted)):
        raise ConfigError(f"--{name} lacks its value; write --{name}=VALUE")
    if get_origin(wanted) is tuple:
        item = get_args(wanted)[0]
        given = [text for text in texts if texts != [""]]
        value: Any = given if item is str else [_parse_text(name, item, text) for text in given]
    else:
        value = _parse_text(name, wanted, texts[0])
    return _check(settings, {name: value}, "--")[name]


def _parse_text(name: str, wanted: Any, text: str) -> Any:
    """One value by tyro, asked flag by flag so that what it refuses can be named on one line."""
    if bool in _options(wanted):
        text = BOOLS.get(text.lower(), text)
    one_flag = dataclasses.make_dataclass("OneFlag", [(name, wanted)])
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # tyro draws a box around its complaint
            parsed: Any = tyro.cli(one_flag, args=[f"--{name}={text}"], config=TYRO)
    except SystemExit:
        raise ConfigError(f"--{name} wants {_describe(wanted)}, got {text!r}") from None
    return getattr(parsed, name)


def _build(settings: type[T], values: dict[str, Any], where: str) -> T:
    for name in _required(settings):
        if name not in values:
            raise ConfigError(f"{where}{name} is missing; it has no default")
    return settings(**values)


def _check(settings: type[T], values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Values by name, from a file or a flag, as the types that the settings declare."""
    types = _types(settings)
    checked = {}
    for name, value in values.items():
        if name not in types:
            raise ConfigError(f"{where}unknown setting {name}{_hint(name, types)}")
        try:
            checked[name] = _convert(types[name], value)
        except (TypeError, OverflowError):
            wanted, seen = _describe(types[name]), f"{value!r} ({type(value).__name__})"
            raise ConfigError(f"{where}{name} wants {wanted}, got {seen}") from None
    return checked


def _convert(wanted: Any, value: Any) -> Any:
    """`value` as `wanted` where nothing is lost (int to float, str to Path); else TypeError."""
    for option in _options(wanted):
        kind = get_origin(option) or option
        if kind is tuple and isinstance(value, list | tuple):
            return tuple(_convert(get_args(option)[0], item) for item in value)
        if kind is Literal and any(
            value == one and type(value) is type(one) for one in get_args(option)
        ):
            return value
        # By exact type: to Python a bool is an int, but True is no learning rate.
        if kind is float and type(value) in (int, float) and math.isfinite(value):
            return float(value)
        if kind is Path and isinstance(value, str | Path) and value != "":
            return Path(value)
        if kind in (int, bool, str, NoneType) and type(value) is kind:
            return value
    raise TypeError


def _options(wanted: Any) -> tuple[Any, ...]:
    """The types that a setting may have: (int, NoneType) of `int | None`."""
    return get_args(wanted) if get_origin(wanted) in (Union, UnionType) else (wanted,)


def _describe(wanted: Any) -> str:
    """A setting's type in words: "int or None"."""
    names = {NoneType: "None", bool: "True or False", float: "a finite number", Path: "a path"}
    words: list[str] = []
    for option in _options(wanted):
        kind = get_origin(option) or option
        choices = [str(choice) for choice in get_args(option)] if kind is Literal else []
        if kind is tuple:
            choices = [f"a list of {_describe(get_args(option)[0])}"]
        words += choices or [names.get(kind, kind.__name__)]
    return " or ".join(words)


# Presets


def _read_presets(settings: type[T], paths: Sequence[str]) -> dict[str, Any]:
    """What the preset, if any, sets."""
    values: dict[str, Any] = {}
    for path in paths:
        values |= _check(settings, _run_preset(Path(path)), f"{path}: ")
    return values


def _run_preset(path: Path) -> dict[str, Any]:
    """The names that a preset assigns, run in a namespace of its own."""
    if not path.is_file():
        raise ConfigError(_no_preset(path))
    try:
        names = runpy.run_path(str(path))
    except (Exception, SystemExit) as error:
        # str(SyntaxError) repeats the file's name; its msg doesn't.
        said = f"{type(error).__name__}: {getattr(error, 'msg', error)}"
        raise ConfigError(f"{path}{_line(error, path)}: {' '.join(said.split())}") from None
    return {name: value for name, value in names.items() if not (name[:2] == name[-2:] == "__")}


def _no_preset(path: Path) -> str:
    if path.is_dir():
        return f"{path} is a folder; name the preset in it"
    found = {near.name: str(near) for near in sorted(path.parent.glob("*.py"))}
    near = difflib.get_close_matches(path.name, list(found), n=1)
    return f"preset {path} does not exist" + (f"; did you mean {found[near[0]]}?" if near else "")


def _line(error: BaseException, path: Path) -> str:
    """ ":12" when the error points at the preset's line 12, else nothing."""
    if isinstance(error, SyntaxError):
        return f":{error.lineno}" if error.lineno else ""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [f":{frame.lineno}" for frame in frames if frame.filename == str(path)]
    return lines[-1] if lines else ""


# Help


def _print_help(
    settings: type[T], values: dict[str, Any], prog: str, description: str, preset: bool
) -> None:
    """Print every setting with its comment and its value so far; exit 0."""
    # A preset alone need neither pass __post_init__ nor hold what is required: flags complete it.
    # The names are those by which tyro finds the source, and in it the comments.
    names = {name: getattr(settings, name) for name in ("__module__", "__qualname__")}
    unchecked = type(settings.__name__, (settings,), names | {"__post_init__": lambda self: None})
    missing = dict.fromkeys(_required(settings), tyro.MISSING)
    if preset:
        prog += " [config/NAME.py]"
        description += "\n\nconfig/NAME.py: a preset, lines of `name = value`; flags win over it."
    tyro.cli(
        unchecked,
        prog=prog,
        description=description,
        args=["--help"],
        default=unchecked(**missing | values),
        use_underscores=True,
        config=TYRO,
    )
