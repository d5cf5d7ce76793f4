"""One writer at a time: the lock on a folder or file while a command writes it.

The lock is flock on a small file that names its owner. The kernel releases it when the process
ends, however it ends, so a lock file that a killed process left behind never blocks the next one.
Only writers take it: a checkpoint can be read while its run is training.
"""

import contextlib
import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import IO

from clingpt.base import console
from clingpt.base.errors import BusyError
from clingpt.base.files import try_lock

NAME_S = 1.0  # seconds to wait for a new owner to write its name into the lock file
ATTEMPTS = 100  # at a lock file that others keep removing, or whose inode number is not stable


@dataclass(frozen=True)
class Owner:
    """The process that holds a lock."""

    command: str = field(default_factory=lambda: Path(sys.argv[0]).name)
    pid: int = field(default_factory=os.getpid)
    host: str = field(default_factory=socket.gethostname)
    since: str = field(default_factory=lambda: f"{datetime.now():%Y-%m-%d %H:%M:%S}")

    @property
    def is_here(self) -> bool:
        """Whether it ran on this host."""
        return self.host == socket.gethostname()

    @property
    def has_ended(self) -> bool:
        """Whether it ran on this host and is known to have ended."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return self.is_here
        except OSError:
            pass  # it is another user's
        return False

    def __str__(self) -> str:
        return f"{self.command}, process {self.pid} on {self.host}, since {self.since}"


_held: dict[Path, tuple[Path, Owner]] = {}  # lock files of this process, by what they lock


@contextmanager
def one_writer(target: Path, *, inside: bool = False, flag: str = "--out") -> Iterator[None]:
    """Keep other processes from writing `target`; raise BusyError at once if one already does.

    The lock file is .lock in a folder that is filled in place (`inside`), and .NAME.lock next to
    a file, or next to a folder that is renamed as a whole. It is removed at the end. `flag` is the
    one with which the user chose `target`.
    """
    real = Path(os.path.realpath(target))  # one lock for all links to it
    path = real / ".lock" if inside else real.with_name(f".{real.name}.lock")
    me = Owner()
    try:
        created = [folder for folder in (path.parent, *path.parent.parents) if not folder.exists()]
        file = _acquire(target, path, me, flag)
    except OSError as error:  # name what the user chose, not the lock file
        raise OSError(error.errno, error.strerror, str(target)) from error
    _held[real] = path, me
    try:
        yield
    finally:
        del _held[real]
        with contextlib.suppress(OSError):
            if _read(path) == me:  # it may be another process's, if somebody removed the folder
                path.unlink()  # while it is still locked: then nobody else can have taken it over
        file.close()
        with contextlib.suppress(OSError):  # they have content: the command wrote something
            for folder in created:
                folder.rmdir()


def check_still_owned(target: Path) -> None:
    """Raise BusyError if this process took `target` with `one_writer` but has lost it since.

    That happens if somebody removes the folder of a run that they have forgotten, and starts anew.
    """
    if (held := _held.get(Path(os.path.realpath(target)))) is None:
        return
    path, me = held
    try:
        now = _read(path)
    except FileNotFoundError:
        raise BusyError(
            f"{target} was removed while this process was writing it, so it stops; the same "
            "command starts again"
        ) from None
    if now != me:
        raise BusyError(
            f"{target} is now being written by {now or 'another process'}, so this one stops"
        )


def _acquire(target: Path, path: Path, me: Owner, flag: str) -> IO[str]:
    """Open and lock the lock file, and write this process's name into it."""
    for attempt in range(ATTEMPTS):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            file = path.open("a+", encoding="utf-8")
            if not try_lock(file):
                file.close()
                owner = _wait_for_name(path) or "another process"
                how = f" (kill {owner.pid})" if isinstance(owner, Owner) and owner.is_here else ""
                raise BusyError(
                    f"{target} is being written by {owner}; wait until it ends, stop it{how}, or "
                    f"choose another {flag}"
                )
            is_current = os.path.samestat(path.stat(), os.fstat(file.fileno()))
        except FileNotFoundError:  # the last owner has ended in between, and removed it
            continue
        if is_current or attempt == ATTEMPTS - 1:
            _note_other_host(target, _read(path))
            file.truncate(0)
            file.write(json.dumps(asdict(me)) + "\n")
            file.flush()
            return file
        file.close()  # the last owner has removed this file, and another process may have a new one
    raise BusyError(f"{target} is being written by other processes; choose another {flag}")


def _note_other_host(target: Path, before: Owner | None) -> None:
    """Say whose lock is taken over, if only its host could tell for certain that it has ended."""
    if before is not None and not before.is_here:
        console.note(
            f"{target} was last written by {before}, which did not finish and no longer holds its "
            "lock; if it is still running there, stop this command"
        )


def _wait_for_name(path: Path) -> Owner | None:
    """Return the owner of a lock that another process holds, or None if it does not say.

    A new owner needs a moment to write its name; until then the file is empty or names the last
    one. Raises FileNotFoundError if the owner has ended.
    """
    give_up_at = time.monotonic() + NAME_S
    owner = _read(path)
    while (owner is None or owner.has_ended) and time.monotonic() < give_up_at:
        time.sleep(0.01)
        owner = _read(path)
    return owner


def _read(path: Path) -> Owner | None:
    """Return the owner that a lock file names, or None if it is empty or half written."""
    try:
        return Owner(**json.loads(path.read_text("utf-8")))
    except (ValueError, TypeError):
        return None
