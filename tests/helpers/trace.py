"""Count our files that a command runs through.

    python tests/helpers/trace.py prepare.py --source=notes.csv ...   # any command

A file counts once one of its functions runs in this process; module and class bodies do not
count. tests/test_trace.py holds the counts down; a reader can use it as a map.
"""

import contextlib
import runpy
import sys
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

ROOT = Path(__file__).parents[2]
IS_FUNCTION = 0x3  # CO_OPTIMIZED | CO_NEWLOCALS: set for functions, not for module or class bodies

COMPREHENSIONS = ("<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>")


class Tracer:
    """Collects the files whose functions run in this thread while it is active."""

    def __init__(self) -> None:
        self.files: set[str] = set()
        self._seen: set[CodeType] = set()

    def __enter__(self) -> "Tracer":
        sys.setprofile(self._on_event)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _on_event(self, frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if event != "call" or code in self._seen:
            return
        caller = frame.f_back.f_code if frame.f_back else None
        if code.co_name in COMPREHENSIONS and caller and caller.co_name == "<module>":
            return  # a table that an import builds; Python 3.12 runs it within the module's body
        self._seen.add(code)
        if code.co_flags & IS_FUNCTION != IS_FUNCTION or code.co_filename.startswith("<"):
            return
        path = Path(code.co_filename).absolute()
        if path.suffix != ".py":  # Jinja2 compiles a template to code under the template's name
            return
        if ROOT in path.parents and path.relative_to(ROOT).parts[0] not in ("tests", ".venv"):
            self.files.add(str(path.relative_to(ROOT)))


def main() -> None:
    sys.path.insert(0, str(ROOT))
    del sys.argv[0]
    with Tracer() as tracer, contextlib.suppress(SystemExit):
        runpy.run_path(sys.argv[0], run_name="__main__")
    sys.stderr.write("\n".join([str(len(tracer.files)), *sorted(tracer.files)]) + "\n")


if __name__ == "__main__":
    main()
