"""A task is added in clingpt/text/tasks.py, and every command finds the rest there."""

import ast
import json
from pathlib import Path

import pytest

from clingpt.evaluation.baselines import COMMONEST, NEAREST, SUMMARIES
from clingpt.text.tasks import COPIES, TASK_TABLE, TASKS
from eval import EvalConfig
from tests.helpers.commands import ROOT, run, run_flags


def test_a_task_added_to_the_table_works_in_every_command(tmp_path: Path) -> None:
    table, data, out = tmp_path / "notes.csv", tmp_path / "data", tmp_path / "run"
    rows = [f'{n},"Pain fell by {n}% in the treated group.",Does it help {n}?' for n in range(60)]
    table.write_text("\n".join(["id,note,question", *rows]), "utf-8")
    best = f"--checkpoint={out / 'best'}"
    training = run_flags("--steps=2", "--eval_records=1", "--max_new_tokens=8")
    session = "/task title\nPain fell by 7% in the treated group.\n"
    commands = [
        ["prepare.py", f"--source={table}", f"--out={data}", "--task=title", "--workers=0"],
        ["train.py", *training, f"--data={data}", f"--out={out}"],
        ["sample.py", best, "--task=title", f"--input={data / 'val.jsonl'}", "--max_new_tokens=8"],
        ["sample.py", best, "--max_new_tokens=8"],
        ["eval.py", best, "--split=val", "--max_new_tokens=8", "--device=cpu"],
    ]
    prepare = ["--block_size=256", "--val_share=0.1", "--test_share=0.1", "--allow_overlap=True"]
    commands[0] += prepare
    script = tmp_path / "commands.json"
    script.write_text(json.dumps(commands), "utf-8")
    done = run("tests/helpers/made_up_task.py", script, stdin=session)

    example = json.loads((data / "manifest.json").read_text("utf-8"))["counts"]["train"]["examples"]
    assert example["title"] > 20
    assert "title: text (paste a report, or /file PATH)> " in done.stderr
    assert "This model was trained to title; try /task title" in done.stderr
    assert "(reference:" not in done.stderr  # the conclusion is not what the task writes
    report = json.loads((out / "eval_val" / "report.json").read_text("utf-8"))
    assert list(report["texts"]) == ["title"]
    systems = ["reference", "lead-1", "lead-3", COMMONEST, NEAREST, "model"]
    assert list(report["texts"]["title"]["systems"]) == systems
    assert "It writes the question" in (out / "best" / "README.md").read_text("utf-8")


def test_the_table_names_baselines_and_flags_that_exist() -> None:
    assert tuple(SUMMARIES) == COPIES
    for task in TASK_TABLE.values():
        assert {*task.baselines} <= {*SUMMARIES}
        assert isinstance(getattr(EvalConfig(checkpoint=("gpt2",)), task.limit_flag), int)


SOURCES = [*ROOT.glob("*.py"), *(ROOT / "clingpt").rglob("*.py")]
OWN_ROUTES = {"clingpt/serving/app.py", "clingpt/serving/tasks.py"}  # docs/architecture.md


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_no_other_module_has_a_table_of_tasks(path: Path) -> None:
    """Or a new task would be missing from it."""
    name = str(path.relative_to(ROOT))
    if name in OWN_ROUTES or path.samefile(ROOT / "clingpt/text/tasks.py"):
        return
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        keys: list[ast.expr | None] = []
        if isinstance(node, ast.Dict):
            keys = node.keys
        elif isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Tuple):  # Literal
            keys = [*node.slice.elts]
        found = {each.value for each in keys if isinstance(each, ast.Constant)} & {*TASKS}
        assert len(found) < 2, f"{name} lists {found}: {ast.unparse(node)}"
