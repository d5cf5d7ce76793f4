"""Rules that keep the tree readable and that no linter knows: layers, budgets, README, presets."""

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from clingpt.base import settings as config

ROOT = Path(__file__).parents[1]
COMMANDS = ("prepare", "train", "sweep", "sample", "eval", "audit", "serve", "export", "bench")
SOURCES = [ROOT / "model.py", *(ROOT / f"{name}.py" for name in COMMANDS)]
SOURCES += sorted(path for name in ("clingpt", "deploy") for path in (ROOT / name).glob("*.py"))
PRESETS = sorted((ROOT / "config").glob("*.py"))

FUNCTION_LINES = 60
FILE_LINES = {"model": 450}
OTHER_FILE_LINES = 350


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def imported(path: Path) -> set[str]:
    """Our own modules that a file imports, wherever in it the import stands."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names & {module_name(source) for source in SOURCES}


IMPORTS = {module_name(path): imported(path) for path in SOURCES}


def knows_the_model(name: str) -> bool:
    """Whether a part imports model.py, itself or through another part."""
    return any(other == "model" or knows_the_model(other) for other in IMPORTS[name])


def layer(name: str) -> int:
    """0 model.py, 1 parts that know nothing of it, 2 parts that do, 3 commands."""
    if name == "model":
        return 0
    if not name.startswith("clingpt."):
        return 3
    return 2 if knows_the_model(name) else 1


@pytest.mark.parametrize("name", IMPORTS)
def test_imports_point_down(name: str) -> None:
    wrong = {other for other in IMPORTS[name] if other != "model" and layer(other) > layer(name)}
    wrong |= {other for other in IMPORTS[name] if layer(other) == 3}
    assert not wrong, f"{name} must not import {sorted(wrong)}; move the shared code down"


def test_imports_make_no_circle() -> None:
    done: set[str] = set()
    while ready := {name for name in IMPORTS if name not in done and IMPORTS[name] <= done}:
        done |= ready
    assert not IMPORTS.keys() - done, "these import one another in a circle"


def test_model_imports_torch_alone() -> None:
    tree = ast.parse((ROOT / "model.py").read_text("utf-8"))
    tops = {
        alias.name.split(".")[0]
        for n in tree.body
        if isinstance(n, ast.Import)
        for alias in n.names
    }
    tops |= {(n.module or "").split(".")[0] for n in tree.body if isinstance(n, ast.ImportFrom)}
    assert tops - set(sys.stdlib_module_names) == {"torch"}


PARTS = (
    "tokenizer records sources splits tasks overlap prepared dataset metrics baselines synthetic"
    " canaries"
)
TORCH_FREE = ("prepare", *(f"clingpt.{part}" for part in PARTS.split()))


def test_data_work_needs_no_torch() -> None:
    code = f"import {', '.join(TORCH_FREE)}, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_only_the_runtime_knows_about_ranks(path: Path) -> None:
    found = re.findall(r"torch\.distributed|os\.environ|WORLD_SIZE|LOCAL_RANK", path.read_text())
    ranks = {"torch.distributed", "os.environ", "WORLD_SIZE", "LOCAL_RANK"}
    allowed = {"clingpt.nn.runtime": ranks, "clingpt.base.console": {"os.environ"}}
    allowed["clingpt.text.tokenizer"] = {"os.environ"}  # TIKTOKEN_CACHE_DIR
    allowed["serve"] = {"os.environ"}  # keys, and the ports and routes of platforms
    allowed["deploy.entrypoint"] = {"os.environ"}  # what platforms say by it
    assert set(found) <= allowed.get(module_name(path), set())


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_files_and_functions_keep_to_their_budget(path: Path) -> None:
    text = path.read_text("utf-8")
    assert text.count("\n") <= FILE_LINES.get(module_name(path), OTHER_FILE_LINES)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= FUNCTION_LINES, f"{node.name} has {length} lines"


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_importing_does_nothing(path: Path) -> None:
    tree = ast.parse(path.read_text("utf-8"))
    assert ast.get_docstring(tree), "a module says what it is for"
    loose = (ast.For, ast.While, ast.With, ast.Try, ast.Delete)
    for node in tree.body:
        is_guard = isinstance(node, ast.If) and "__name__" in ast.unparse(node.test)
        is_types = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        assert not isinstance(node, loose), f"line {node.lineno} runs at import"
        assert not isinstance(node, ast.If) or is_guard or is_types, f"line {node.lineno}"


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_end_in_a_guard_of_one_call(name: str) -> None:
    assert (
        (ROOT / f"{name}.py")
        .read_text()
        .endswith('if __name__ == "__main__":\n    console.run(main)\n')
    )


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_presets_load_and_say_what_to_expect(path: Path) -> None:
    command = "prepare" if path.stem.endswith("_data") else "train"
    settings = getattr(importlib.import_module(command), f"{command.title()}Config")
    config.parse(settings, [str(path)], prog=command, description="", preset=True)
    head = path.read_text().split("\n\n")[0]
    for word in ("run:", "Hardware:", "Time:", "Expected:"):
        assert word in head, f"{path.name} does not say {word}"


def test_readme_map_is_the_tree() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    block = re.search(r"## Map\n+```\n(.*?)```", readme, re.DOTALL)
    assert block, "README.md has a section '## Map' that opens with a code block"
    named = set(re.findall(r"^ *([\w./-]+?)/?(?= {2,}|$)", block[1], re.MULTILINE))
    made = {"out", "exported", "__pycache__"}
    tops = {path.name for path in ROOT.iterdir() if not path.name.startswith(".")} - made
    inside = {path.name for folder in ("clingpt", "docs") for path in (ROOT / folder).iterdir()}
    assert named == tops | inside - {"__init__.py", "__pycache__"}
