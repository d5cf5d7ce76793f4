"""Rules that keep the tree readable and that no linter knows."""

import ast
import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from clingpt.base import settings

ROOT = Path(__file__).parents[1]
COMMANDS = ("prepare", "train", "sweep", "sample", "eval", "audit", "serve", "export")
SOURCES = [ROOT / "model.py", *(ROOT / f"{name}.py" for name in COMMANDS)]
SOURCES += sorted(
    path for name in ("clingpt", "benchmarks", "deploy") for path in (ROOT / name).rglob("*.py")
)
PRESETS = sorted((ROOT / "config").glob("*.py"))


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def test_every_module_is_in_a_package() -> None:
    """There are at most twelve, and each says what it contains and what it may import."""
    loose = {path.name for path in (ROOT / "clingpt").glob("*.py")}
    assert loose == {"__init__.py"}
    packages = sorted(path.parent for path in (ROOT / "clingpt").glob("*/__init__.py"))
    assert len(packages) <= 12
    for package in packages:
        holds = ast.get_docstring(ast.parse((package / "__init__.py").read_text("utf-8")))
        assert holds and "May import: " in holds, package.name


def test_model_imports_only_torch() -> None:
    tree = ast.parse((ROOT / "model.py").read_text("utf-8"))
    tops = {
        alias.name.split(".")[0]
        for n in tree.body
        if isinstance(n, ast.Import)
        for alias in n.names
    }
    tops |= {(n.module or "").split(".")[0] for n in tree.body if isinstance(n, ast.ImportFrom)}
    assert tops - set(sys.stdlib_module_names) == {"torch"}


def test_preparing_data_needs_no_torch() -> None:
    packages = ("base", "text", "privacy", "data")
    parts = [path for name in packages for path in (ROOT / "clingpt" / name).rglob("*.py")]
    names = sorted({"prepare", *(module_name(path) for path in parts)})
    code = f"import {', '.join(names)}, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_only_the_runtime_knows_about_ranks(path: Path) -> None:
    found = re.findall(r"torch\.distributed|os\.environ|WORLD_SIZE|LOCAL_RANK", path.read_text())
    ranks = {"torch.distributed", "os.environ", "WORLD_SIZE", "LOCAL_RANK"}
    allowed = {"clingpt.nn.runtime": ranks, "clingpt.base.console": {"os.environ"}}
    allowed["clingpt.training.tracker"] = {"os.environ"}  # where W&B and MLflow send figures
    allowed["serve"] = {"os.environ"}  # keys, and the ports and routes of platforms
    allowed["deploy.entrypoint"] = {"os.environ"}  # what platforms say by it
    assert set(found) <= allowed.get(module_name(path), set())


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_importing_a_module_has_no_side_effects(path: Path) -> None:
    tree = ast.parse(path.read_text("utf-8"))
    assert ast.get_docstring(tree), "a module says what it is for"
    loose = (ast.For, ast.While, ast.With, ast.Try, ast.Delete)
    for node in tree.body:
        is_guard = isinstance(node, ast.If) and "__name__" in ast.unparse(node.test)
        is_types = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        assert not isinstance(node, loose), f"line {node.lineno} runs at import"
        is_version = isinstance(node, ast.If) and "version_info" in ast.unparse(node.test)
        harmless = is_guard or is_types or is_version
        assert not isinstance(node, ast.If) or harmless, f"line {node.lineno}"


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_end_with_a_main_guard_of_one_call(name: str) -> None:
    source = (ROOT / f"{name}.py").read_text()
    guard = r'\nif __name__ == "__main__":\n    console\.run\(main(, requirements="[\w.-]+")?\)\n\Z'
    assert re.search(guard, source)


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_presets_load_and_say_what_to_expect(path: Path) -> None:
    command = "prepare" if path.stem.endswith("_data") else "train"
    configuration = getattr(importlib.import_module(command), f"{command.title()}Config")
    settings.parse(configuration, [str(path)], prog=command, description="", preset=True)
    head = path.read_text().split("\n\n")[0]
    for word in ("run:", "Hardware:", "Time:", "Expected:"):
        assert word in head, f"{path.name} does not say {word}"


def test_architecture_page_shows_the_enforced_layers() -> None:
    """The Mermaid picture of docs/architecture.md against import-linter's contract."""
    layers = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"][
        "contracts"
    ][0]["layers"]
    enforced = [re.findall(r"(?:clingpt\.)?(\w+)", layer) for layer in layers]
    picture = (ROOT / "docs/architecture.md").read_text("utf-8").split("```mermaid")[1]
    picture = picture.split("```")[0]
    chains = [
        [re.findall(r"\w+", layer) for layer in line.split("-->")]
        for line in picture.splitlines()
        if "-->" in line
    ]
    drawn = [*chains[0]]
    for chain in chains[1:]:
        assert chain[0] == drawn[-1]
        drawn += chain[1:]
    assert drawn == enforced
    named = {path.name for path in (ROOT / "clingpt").iterdir() if (path / "__init__.py").exists()}
    assert {name for layer in enforced for name in layer} == named | {"benchmarks"}


def test_architecture_page_names_existing_files() -> None:
    text = (ROOT / "docs/architecture.md").read_text("utf-8")
    for name in re.findall(r"`((?:\w+/)*\w+\.(?:py|md|toml))`|`((?:\w+/)+)`", text):
        path = name[0] or name[1]
        assert (ROOT / path).exists() or (ROOT / "clingpt" / path).exists(), path
