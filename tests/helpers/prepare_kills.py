"""Kill prepare.py wherever it touches a file of its output, and prepare again; for test_prepare.py.

    python tests/helpers/prepare_kills.py POINTS FOLDER [arguments of prepare.py]

FOLDER/data exists already. An audit hook counts what a run does to files in FOLDER (open, rename,
remove, mkdir, lock); each further run is a fork that is killed at one of these events, or just
after a write in between. Prints a line of JSON for each run: the event, what the kill left, what
became of the data, and what is left after the next run.
"""

import hashlib
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import prepare
from clingpt.data.prepared import FolderWriter
from tests.helpers.commands import here

EVENTS = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "shutil.rmtree", "fcntl.flock"}


def contents(folder: Path) -> dict[str, str] | None:
    """Return the hashes of a folder's files; None if there is no folder."""
    if not folder.is_dir():
        return None
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())}


def count_events(within: Path, see: Callable[[str], None]) -> None:
    """Call `see` with each event that concerns a file in a folder, and after each piece written."""

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in EVENTS and (event == "fcntl.flock" or str(within) in str(arguments[0])):
            see(f"{event} {arguments[0]}")

    append = FolderWriter.append

    def appending(self: FolderWriter, piece: Any) -> None:
        append(self, piece)
        for file in self.files.values():
            file.flush()
        see("a piece was written")

    FolderWriter.append = appending  # type: ignore[method-assign]
    sys.addaudithook(hook)


def in_a_fork(work: Callable[[], object]) -> int:
    """Return the exit status of a fork of this process that does some work."""
    child = os.fork()
    if child == 0:
        work()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main() -> None:
    n_points, folder, flags = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]
    data, saved = folder / "data", folder.parent / "saved"
    shutil.copytree(data, saved)
    old = contents(data)
    log = folder.parent / "events"

    def count() -> None:
        names: list[str] = []
        count_events(folder, names.append)
        assert here(prepare.main, *flags).returncode == 0
        log.write_text("\n".join(names))

    assert in_a_fork(count) == 0
    events, new = log.read_text().split("\n"), contents(data)
    renames = [n for n, name in enumerate(events) if name.startswith("os.rename")]
    spread = [len(events) * n // n_points for n in range(n_points)]
    for point in sorted({*spread, *renames, *(n + 1 for n in renames)}):
        for stray in folder.iterdir():
            shutil.rmtree(stray)
        shutil.copytree(saved, data)

        def die(point: int = point) -> None:
            seen = 0

            def see(_: str) -> None:
                nonlocal seen
                if seen == point:
                    os.kill(os.getpid(), signal.SIGKILL)
                seen += 1

            count_events(folder, see)
            here(prepare.main, *flags)

        status = in_a_fork(die)
        left = sorted(path.name for path in folder.iterdir())
        found = contents(data) or contents(folder / ".data.old")  # killed between two renames
        kept = "old" if found == old else "new" if found == new else "neither"
        again = here(prepare.main, *flags)
        report = {
            "event": events[point] if point < len(events) else "the end",
            "killed": status == -signal.SIGKILL,
            "left": left,
            "kept": kept,
            "again": (again.returncode, again.stderr, contents(data) == new),
            "finally": sorted(path.name for path in folder.iterdir()),
        }
        sys.stdout.write(json.dumps(report) + "\n")
        sys.stdout.flush()  # before the next fork, which would write it again


if __name__ == "__main__":
    main()
