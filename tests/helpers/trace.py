"""Count the files of ours whose functions run on the way from a record to a loss, and on two others.

    python tests/helpers/trace.py prepare.py --source=notes.csv ...   # any command; prints its files

A file counts once one of its functions is called in this process (module bodies and class bodies
do not count). House-keeping for tests/test_trace.py, and a map for whoever reads the code.
"""

import sys
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

ROOT = Path(__file__).parents[2]
SKIPPED = ("tests", ".venv")


class Tracer:
    """Collects the files whose functions are called while it is active, in all threads."""

    def __init__(self) -> None:
        self.files: set[str] = set()
        self._seen: set[CodeType] = set()

    def __enter__(self) -> "Tracer":
        import threading

        threading.setprofile_all_threads(self._call) if hasattr(
            threading, "setprofile_all_threads"
        ) else threading.setprofile(self._call)
        sys.setprofile(self._call)
        return self

    def __exit__(self, *_: object) -> None:
        import threading

        sys.setprofile(None)
        threading.setprofile(None)

    def _call(self, frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if event != "call" or code in self._seen:
            return
        self._seen.add(code)
        path = Path(code.co_filename).absolute()
        # Function bodies alone have both flags; those of modules and classes do not.
        if code.co_flags & 0x3 != 0x3 or ROOT not in path.parents:
            return
        relative = path.relative_to(ROOT)
        if relative.parts[0] not in SKIPPED:
            self.files.add(str(relative))


def main() -> None:
    import runpy

    sys.path.insert(0, str(ROOT))
    sys.argv = sys.argv[1:]
    with Tracer() as tracer:
        try:
            runpy.run_path(sys.argv[0], run_name="__main__")
        except SystemExit:
            pass
    print(len(tracer.files), *sorted(tracer.files), sep="\n", file=sys.stderr)


if __name__ == "__main__":
    main()
