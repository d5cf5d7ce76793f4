"""Presets and flags: what they accept, which takes precedence, and how mistakes are reported."""

import json
import math
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pytest

from clingpt.base import settings as config
from clingpt.base.errors import ConfigError, DataError

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of a small training command."""

    # --- data ---
    data: Path = Path("data/x")  # prepared folder, written by prepare.py

    # --- optimiser ---
    batch_size: int = 64  # rows of an optimizer step, over all ranks
    learning_rate: float = 6e-4  # peak, reached after warmup_steps
    beta1: float = 0.9  # any finite number
    dropout: float = 0.1  # share of activations set to 0
    n_layer: int = 12  # transformer blocks
    steps: int = 100  # optimizer steps
    warmup_steps: int = 0  # steps of rising learning rate
    # Compile the model with torch.compile, which takes a minute at the start and makes every step
    # faster.
    compile: bool = True

    # --- output ---
    amsgrad: bool = False  # use AMSGrad's maximum
    fused: bool | None = True  # fused kernels; None leaves the choice to PyTorch
    top_k: int | None = None  # None keeps every token
    temperature: float | None = None  # None samples greedily
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"  # arithmetic of the forward pass
    stop: tuple[str, ...] = ()  # strings that end the text
    prompt: str = ""  # text to continue
    title: str | None = None  # None leaves it out
    out: Path | None = None  # folder to write

    def __post_init__(self) -> None:
        config.check_range(self, "batch_size", "n_layer", "steps", at_least=1)
        config.check_range(self, "beta1")
        config.check_range(self, "dropout", at_least=0, below=1)
        config.check_range(self, "learning_rate", "temperature", above=0)
        config.check(
            self.warmup_steps < self.steps,
            f"warmup_steps must be below steps ({self.steps}), got {self.warmup_steps}",
        )


@dataclass(frozen=True, kw_only=True)
class Needy:
    """Settings of which one is required."""

    checkpoint: Path  # run to load
    port: int = 8000  # TCP port

    def __post_init__(self) -> None:
        config.check_range(self, "port", at_least=1, at_most=65535)


DEFAULT = Settings()


def parse(*argv: str) -> Settings:
    return config.parse(Settings, argv, prog="train.py", description="Train.", preset=True)


@pytest.fixture
def preset(tmp_path: Path) -> Callable[[str], str]:
    """Write a preset and return its path."""

    def write(text: str) -> str:
        path = tmp_path / "pubmedqa.py"
        path.write_text(text)
        return str(path)

    return write


# What works


@pytest.mark.parametrize(
    ("argv", "changes"),
    [
        ([], {}),
        (["--learning_rate=1"], {"learning_rate": 1.0}),
        (["--learning-rate", "1e-3"], {"learning_rate": 1e-3}),
        (["--batch-size=8"], {"batch_size": 8}),
        (["--batch_size", "8"], {"batch_size": 8}),
        (["--prompt=a=b"], {"prompt": "a=b"}),
        (["--prompt="], {"prompt": ""}),
        (["--prompt=--batch_size=1"], {"prompt": "--batch_size=1"}),
        (["--prompt", "-x y"], {"prompt": "-x y"}),
        (["--prompt=± µ\n<|endoftext|>"], {"prompt": "± µ\n<|endoftext|>"}),
        (["--compile=False"], {"compile": False}),
        (["--compile=false"], {"compile": False}),
        (["--compile", "0"], {"compile": False}),
        (["--compile=TRUE"], {"compile": True}),
        (["--compile"], {"compile": True}),
        (["--amsgrad"], {"amsgrad": True}),
        (["--amsgrad", "--steps=3"], {"amsgrad": True, "steps": 3}),
        (["--fused", "none"], {"fused": None}),
        (["--fused"], {"fused": True}),
        (["--top_k=50"], {"top_k": 50}),
        (["--top-k", "None"], {"top_k": None}),
        (["--temperature=2"], {"temperature": 2.0}),
        (["--dtype=bfloat16"], {"dtype": "bfloat16"}),
        (["--stop", "a", "b c", "--steps=5"], {"stop": ("a", "b c"), "steps": 5}),
        (["--stop=a"], {"stop": ("a",)}),
        (["--stop=-a"], {"stop": ("-a",)}),
        (["--stop="], {"stop": ()}),
        (["--title=None"], {"title": None}),
        (["--title=1"], {"title": "1"}),
        (["--out=exported/"], {"out": Path("exported")}),
    ],
)
def test_flags_are_parsed_by_type(argv: list[str], changes: dict[str, Any]) -> None:
    assert parse(*argv) == replace(DEFAULT, **changes)


@pytest.mark.parametrize(
    ("text", "argv", "changes"),
    [
        ("", [], {}),
        ("'''Docstring.'''\nn_layer = 3  # few", [], {"n_layer": 3}),
        ("learning_rate = 1", [], {"learning_rate": 1.0}),
        ("data = 'data/y'\nout = None", [], {"data": Path("data/y")}),
        ("data = __import__('pathlib').Path('z')", [], {"data": Path("z")}),
        ("stop = ['a']", [], {"stop": ("a",)}),
        ("compile = True", ["--compile=False"], {"compile": False}),
        ("compile = False", [], {"compile": False}),
        ("compile = False", ["--compile=True"], {}),
        ("stop = ('a', 'b')\ntop_k = 5", ["--stop=", "--top_k=None"], {}),
        ("batch_size = 12 * 40", ["--steps", "7"], {"batch_size": 480, "steps": 7}),
        # Only the sum of preset and flags has to pass the range checks.
        ("warmup_steps = 200", ["--steps=300"], {"warmup_steps": 200, "steps": 300}),
    ],
)
def test_presets_are_applied_before_flags(
    preset: Callable[[str], str], text: str, argv: list[str], changes: dict[str, Any]
) -> None:
    path = preset(text)
    assert parse(path, *argv) == parse(*argv, path) == replace(DEFAULT, **changes)


def test_a_whole_number_becomes_a_float_for_a_float_setting(preset: Callable[[str], str]) -> None:
    assert type(parse(preset("learning_rate = 1")).learning_rate) is float
    assert type(parse("--learning_rate=1").learning_rate) is float


def test_a_required_setting_can_be_given_by_flag() -> None:
    argv = ["--checkpoint=out/best"]
    parsed = config.parse(Needy, argv, prog="serve.py", description="Serve.")
    assert parsed == Needy(checkpoint=Path("out/best"))


# What is refused


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--learning_rte=1"], "unknown flag --learning_rte; did you mean --learning_rate?"),
        (["--learning-rte", "1"], "unknown flag --learning-rte; did you mean --learning_rate?"),
        (["-batch_size=1"], "unknown flag -batch_size; did you mean --batch_size?"),
        (["--lr=3"], "unknown flag --lr; did you mean --learning_rate?"),
        (["--no-compile"], "unknown flag --no-compile; did you mean --compile?"),
        (["--zzz=1"], "unknown flag --zzz; --help lists them all"),
        (["--texts=1"], "unknown flag --texts; --help lists them all"),  # steps is another thing
        (["--"], "unknown flag --; --help lists them all"),
        (["--stop", "a", "-b"], "unknown flag -b; --help lists them all"),
        (["-5"], "unknown flag -5; --help lists them all"),
        (["--steps"], "--steps needs a value: --steps=VALUE"),
        (["--steps", "--compile"], "--steps needs a value: --steps=VALUE"),
        (["--stop"], "--stop needs a value: --stop=VALUE"),
        (["--out="], "--out needs a value: --out=VALUE"),
        (["--compile", "x.py", "y.py"], "unexpected argument 'y.py'; see train.py --help"),
        (["--compile=maybe"], "--compile must be True or False, got 'maybe'"),
        (["--n_layer=3.5"], "--n_layer must be a whole number, got '3.5'"),
        (["--n_layer="], "--n_layer must be a whole number, got ''"),
        (["--n_layer=None"], "--n_layer must be a whole number, got 'None'"),
        (["--n_layer=" + "9" * 5000], "--n_layer must be a whole number, got '9999"),
        (["--top_k=x"], "--top_k must be a whole number or None, got 'x'"),
        (["--learning_rate=fast"], "--learning_rate must be a finite number, got 'fast'"),
        (["--learning_rate=nan"], "--learning_rate must be a finite number, got nan (float)"),
        (["--learning_rate=1e999"], "--learning_rate must be a finite number, got inf (float)"),
        (["--temperature=-inf"], "--temperature must be a finite number or None, got -inf (float)"),
        (["--dtype=float16"], "--dtype must be auto, float32 or bfloat16, got 'float16'"),
        (["--steps=1", "--steps=2"], "--steps is given twice; keep one"),
        (["--batch-size=1", "--batch_size", "2"], "--batch_size is given twice; keep one"),
        (["steps=3"], "unexpected argument 'steps=3'; did you mean --steps=3?"),
        (["a.py", "b.py"], "unexpected argument 'b.py'; see train.py --help"),
        (["--batch_size=0"], "batch_size must be at least 1, got 0"),
        (["--dropout=1"], "dropout must be at least 0 and below 1, got 1.0"),
        (["--learning_rate=0"], "learning_rate must be above 0, got 0.0"),
        (["--warmup_steps=100"], "warmup_steps must be below steps (100), got 100"),
    ],
)
def test_invalid_flags_are_refused(argv: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match="^" + re.escape(message)) as caught:
        parse(*argv)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("learning_rte = 1e-3", ": unknown setting learning_rte; did you mean learning_rate?"),
        ("import math", ": unknown setting math; --help lists them all"),
        ("__half = 3", ": unknown setting __half; --help lists them all"),
        ("_half = 3", ": unknown setting _half; --help lists them all"),
        ("n_layer = 'twelve'", ": n_layer must be a whole number, got 'twelve' (str)"),
        ("n_layer = 3.0", ": n_layer must be a whole number, got 3.0 (float)"),
        ("n_layer = True", ": n_layer must be a whole number, got True (bool)"),
        ("learning_rate = True", ": learning_rate must be a finite number, got True (bool)"),
        ("learning_rate = '1'", ": learning_rate must be a finite number, got '1' (str)"),
        (
            "learning_rate = float('nan')",
            ": learning_rate must be a finite number, got nan (float)",
        ),
        ("learning_rate = 10**400", ": learning_rate must be a finite number, got 1000"),
        ("compile = 0", ": compile must be True or False, got 0 (int)"),
        ("data = None", ": data must be a path, got None (NoneType)"),
        ("data = ''", ": data must be a path, got '' (str)"),
        ("dtype = 'fp8'", ": dtype must be auto, float32 or bfloat16, got 'fp8' (str)"),
        ("stop = 'ab'", ": stop must be a list, got 'ab' (str)"),
        ("stop = ['a', 1]", ": stop[1] must be a string, got 1 (int)"),
        ("top_k = 'all'", ": top_k must be a whole number or None, got 'all' (str)"),
        ("n_layer = 3\nn_layer == =", ":2: SyntaxError: invalid syntax"),
        ("steps = 3\nbatch_size = rows", ":2: NameError: name 'rows' is not defined"),
        ("def f():\n  1 / 0\nf()", ":2: ZeroDivisionError: division by zero"),
        ("raise SystemExit(0)", ":1: SystemExit: 0"),
        ("raise ValueError('two\\nlines')", ":1: ValueError: two lines"),
    ],
)
def test_invalid_presets_are_refused(preset: Callable[[str], str], text: str, message: str) -> None:
    path = preset(text)
    with pytest.raises(ConfigError, match="^" + re.escape(path + message)) as caught:
        parse(path)
    assert "\n" not in str(caught.value)


def test_a_preset_out_of_range_is_refused(preset: Callable[[str], str]) -> None:
    with pytest.raises(ConfigError, match=r"^n_layer must be at least 1, got 0$"):
        parse(preset("n_layer = 0"))


def test_a_preset_that_is_not_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "binary.py"
    path.write_bytes(b"\x89PNG\x00\xff")
    with pytest.raises(ConfigError, match=f"^{path}"):
        parse(str(path))


def test_a_missing_preset_suggests_the_nearest(preset: Callable[[str], str]) -> None:
    path = Path(preset(""))
    near = path.with_name("pubmedq.py")
    expected = f"preset {near} does not exist; did you mean {path}?"
    with pytest.raises(ConfigError, match=re.escape(expected)):
        parse(str(near))
    with pytest.raises(ConfigError, match=f"^preset {path.parent}/zz does not exist$"):
        parse(f"{path.parent}/zz")
    with pytest.raises(
        ConfigError, match=f"^{path.parent} is a folder; name one of the presets in it$"
    ):
        parse(str(path.parent))


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "--checkpoint is required"),
        (["config/a.py"], "unexpected argument 'config/a.py'; see serve.py --help"),
        (
            ["--checkpoint=x", "--port=70000"],
            "port must be at least 1 and at most 65535, got 70000",
        ),
    ],
)
def test_a_command_without_presets_refuses_one(argv: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match="^" + re.escape(message)):
        config.parse(Needy, argv, prog="serve.py", description="Serve.")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_range_checks_refuse_nan_and_infinity(value: float) -> None:
    with pytest.raises(ConfigError, match=f"^learning_rate must be above 0, got {value}$"):
        replace(DEFAULT, learning_rate=value)
    with pytest.raises(ConfigError, match=f"^beta1 must be finite, got {value}$"):
        replace(DEFAULT, beta1=value)


# Saved settings


def test_settings_survive_a_round_trip_through_json() -> None:
    settings = replace(DEFAULT, stop=("a", "b"), out=Path("x/y"), title="t", top_k=3)
    text = json.dumps(config.to_json(settings), allow_nan=False)
    assert json.loads(text) == config.to_json(settings)
    assert config.from_dict(Settings, json.loads(text), source="config.json") == settings
    assert config.from_dict(Settings, {}, source="config.json") == DEFAULT


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "run.json: checkpoint is missing"),
        ({"checkpoint": "x", "prt": 1}, "run.json: unknown setting prt; did you mean port?"),
        (
            {"checkpoint": "x", "port": "80"},
            "run.json: port must be a whole number, got '80' (str)",
        ),
        ({"checkpoint": "x", "port": 0}, "port must be at least 1 and at most 65535, got 0"),
    ],
)
def test_invalid_saved_settings_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match="^" + re.escape(message)):
        config.from_dict(Needy, values, source="run.json")


@pytest.mark.parametrize("values", [None, [], "x", 3])
def test_saved_settings_that_are_not_an_object_are_refused(values: object) -> None:
    kind = type(values).__name__
    with pytest.raises(ConfigError, match=f"^run.json is not a JSON object, got {kind}$"):
        config.from_dict(Needy, values, source="run.json")


@dataclass(frozen=True, kw_only=True)
class Source:
    """What a stored result was measured on."""

    split: Literal["val", "test"]
    records: int

    def __post_init__(self) -> None:
        config.check_range(self, "records", at_least=1)


@dataclass(frozen=True, kw_only=True)
class Result:
    """A stored result, with everything that JSON can nest."""

    sources: list[Source]
    figures: dict[str, float | None]
    interval: tuple[float, float]
    extra: Any = None


RESULT = Result(
    sources=[Source(split="val", records=3)], figures={"loss": 1.5, "f1": None}, interval=(0.0, 1.0)
)
STORED: dict[str, Any] = {"format": 2, **config.to_json(RESULT)}


def read_result(path: Path) -> Result:
    return config.read_json(Result, path, version=2, error=DataError, advice="remove it")


def test_nested_dataclasses_survive_a_round_trip_through_json(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_text(json.dumps(STORED))
    assert read_result(path) == RESULT
    assert STORED["sources"] == [{"split": "val", "records": 3}] and STORED["interval"] == [0, 1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 1}, " has format 1, this version reads 2"),
        ({"sources": {}}, ": sources must be a list, got {} (dict)"),
        ({"sources": [3]}, ": sources[0] must be an object, got 3 (int)"),
        ({"sources": [{"split": "val"}]}, ": sources[0].records is missing"),
        (
            {"sources": [{"split": "val", "records": "3"}]},
            ": sources[0].records must be a whole number, got '3' (str)",
        ),
        (
            {"sources": [{"split": "train", "records": 3}]},
            ": sources[0].split must be val or test, got 'train' (str)",
        ),
        ({"sources": [{"split": "val", "records": 0}]}, ": records must be at least 1, got 0"),
        ({"figures": {"loss": math.nan}}, ": figures.loss must be a finite number or None, got"),
        ({"figures": {"loss": True}}, ": figures.loss must be a finite number or None, got True"),
        ({"interval": [0, 1, 2]}, ": interval must be a list, got [0, 1, 2] (list)"),
        ({"intervl": [0, 1]}, ": unknown setting intervl; did you mean interval?"),
    ],
)
def test_stored_json_that_does_not_fit_is_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    path = tmp_path / "result.json"
    path.write_text(json.dumps(STORED | changes))
    with pytest.raises(DataError, match=re.escape(message)):
        read_result(path)


@pytest.mark.parametrize("content", ["", "{", "[" * 10_000, b"\xff"])
def test_a_stored_file_that_is_not_json_is_refused(tmp_path: Path, content: str | bytes) -> None:
    path = tmp_path / "result.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=r"result\.json is not JSON; remove it$"):
        read_result(path)


# Help


def test_help_shows_groups_comments_and_the_values_of_the_preset(
    preset: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = preset("batch_size = 480\nwarmup_steps = 200")
    with pytest.raises(SystemExit) as caught:
        parse(path, "--help")
    shown = capsys.readouterr().out
    assert caught.value.code == 0
    for line in [
        "usage: train.py [config/NAME.py] [-h]",
        "Train.",
        "config/NAME.py is a preset",
        "data options",
        "optimiser options",
        "output options",
        "--batch_size INT",
        "rows of an optimizer step, over all ranks (default: 480)",
        "--compile {True,False}",
        "Compile the model with torch.compile, which takes",
        "None keeps every token (default: None)",
    ]:
        assert line in shown
    assert "\x1b" not in shown


@pytest.mark.parametrize("argv", [["--help"], ["-h"], ["--port=1", "--help"], ["x", "-h"]])
def test_help_works_with_missing_and_invalid_flags(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        config.parse(Needy, argv, prog="serve.py", description="Serve.")
    shown = capsys.readouterr().out
    assert caught.value.code == 0
    assert "run to load (required)" in shown
    assert "config/NAME.py" not in shown


def test_import_is_quick() -> None:
    started_at = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import clingpt.base.settings"], cwd=ROOT, check=True)
    assert time.perf_counter() - started_at < 5  # 0.2 s alone; a busy machine takes longer
