"""What a long measurement has found so far, an item a line, so that it can be stopped and go on.

Each process appends to files of its own and reads everybody's: an item is measured once, whatever
the number of processes before and after a stop. Memory holds where each line stands, not the lines.
"""

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from clingpt.base.files import write_whole
from clingpt.nn.runtime import Runtime

SETTINGS = "settings.json"
Place = tuple[Path, int]  # a file, and where in it a line begins


class Parts:
    """A folder of items by name and number; all of them made with the same settings."""

    def __init__(self, folder: Path, settings: Mapping[str, Any], rt: Runtime) -> None:
        self._folder, self._rt = folder, rt
        self.is_new = rt.on_main(lambda: _begin(folder, settings))
        self._places = _places(folder)
        rt.agreed(True)  # nobody writes before all have read

    def n_done(self) -> int:
        """Items of all names that are there."""
        return sum(map(len, self._places.values()))

    def names(self) -> list[str]:
        """Of what there are items."""
        return sorted(self._places)

    def todo(self, name: str, n_items: int) -> list[int]:
        """This process' share of the numbers below n_items that nobody has measured."""
        done = self._places.get(name, {})
        return self._rt.share([n for n in range(n_items) if n not in done])

    def add(self, name: str, items: Iterable[tuple[int, Mapping[str, Any]]]) -> None:
        """Keep items, synced to the disk."""
        lines = "".join(json.dumps({"n": n, **item}) + "\n" for n, item in items)
        with (self._folder / f"{name}.{self._rt.rank}.jsonl").open("ab") as file:
            file.write(lines.encode())
            file.flush()
            os.fsync(file.fileno())

    def gather(self) -> None:
        """Have every process see what all have added; each must call it."""
        self._rt.agreed(True)
        self._places = _places(self._folder)

    def items(self, name: str) -> Iterator[dict[str, Any]]:
        """The items of a name, in the order of their numbers."""
        places = self._places.get(name, {})
        files = {path: path.open("rb") for path in {path for path, _ in places.values()}}
        try:
            for n in sorted(places):
                path, start = places[n]
                files[path].seek(start)
                yield json.loads(files[path].readline())
        finally:
            for file in files.values():
                file.close()

    def remove(self) -> None:
        """Forget all items, once they are written down elsewhere."""
        shutil.rmtree(self._folder)


def _begin(folder: Path, settings: Mapping[str, Any]) -> bool:
    """Keep what was measured with the same settings, drop the rest; whether nothing is kept."""
    wanted = json.dumps(settings, indent=1, sort_keys=True)
    path = folder / SETTINGS
    if path.exists() and path.read_text("utf-8") == wanted:
        for file in folder.glob("*.jsonl"):
            _cut_off_broken_end(file)
        return not _places(folder)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    write_whole(path, wanted)
    return True


def _cut_off_broken_end(path: Path) -> None:
    """Drop the first line that is no item, of a process that was killed, and all behind it."""
    whole = 0
    with path.open("rb+") as file:
        for line in file:
            if _number(line) is None:
                break
            whole += len(line)
        file.truncate(whole)


def _number(line: bytes) -> int | None:
    try:
        n = json.loads(line)["n"] if line.endswith(b"\n") else None
    except (ValueError, KeyError, TypeError):
        return None
    return n if isinstance(n, int) else None


def _places(folder: Path) -> dict[str, dict[int, Place]]:
    """Where each item stands, by name and number."""
    places: dict[str, dict[int, Place]] = {}
    for path in sorted(folder.glob("*.jsonl")):
        found = places.setdefault(path.name.rsplit(".", 2)[0], {})
        start = 0
        with path.open("rb") as file:
            for line in file:
                n = _number(line)
                if n is not None:
                    found[n] = (path, start)
                start += len(line)
    return places
