"""Run commands with one more task in TASK_TABLE: `title`, which writes the question of a report.

    python tests/helpers/made_up_task.py COMMANDS.json

COMMANDS.json lists the arguments of each command, beginning with its file. They run one after the
other in this process; the first that fails ends it.
"""

import json
import runpy
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from clingpt.text import tasks
from clingpt.text.records import Record

ROOT = Path(__file__).parents[2]


def title_target(record: Record) -> str:
    """Write the question."""
    if not record.question:
        raise tasks.NotApplicable("no question")
    return f" {record.question}"


def register() -> None:
    """Append the task, before any other module reads the names."""
    tasks.TASK_TABLE["title"] = tasks.Task(
        opening="Report:",
        cue="Title:",
        target=title_target,
        writes_question=True,
        skill="writes the question that a report answers",
        baselines=("lead-1", "lead-3"),
        needed=("question", "input"),
    )
    tasks.TASKS += ("title",)
    tasks.PROMPTED += ("title",)


def main() -> None:
    register()
    # Without a terminal, sample.py would take its input for one prompt instead of a session.
    sys.stdin.isatty = lambda: True  # type: ignore[method-assign]
    for argv in json.loads(Path(sys.argv[1]).read_text("utf-8")):
        sys.argv = argv
        try:
            runpy.run_path(str(ROOT / argv[0]), run_name="__main__")
        except SystemExit as end:
            if end.code:
                raise


if __name__ == "__main__":
    main()
