"""Crash-safe file access: atomic replacement, fsync, locks and hashes.

While a command writes a folder or file, a lock keeps other processes from writing it too. It is
flock on a small file that names its owner. The kernel releases it however the process ends, so a
lock file left behind by a killed process never blocks the next one. Only writers take it: a
checkpoint can be read while its run is training.
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import socket
import sys
import time
from collections.abc import Iterator, Set
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import IO, Any

from clingpt.base import console
from clingpt.base.errors import BusyError, CheckpointError, DataError

SUMS = "SHA256SUMS"
# Suffixes of files that must be listed in SHA256SUMS.
HASHED = {".safetensors", ".json", ".pt", ".onnx", ".data", ".ts", ".pt2", ".gguf"}
NOT_SUPPORTED = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
OF_WRITING = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}  # errors that reading cannot have
LONGEST_NAME = 255  # bytes of a file's name
NAME_S = 1.0  # seconds to wait for a new owner to write its name into the lock file
ATTEMPTS = 100  # to lock a file that others keep removing, or whose inode number is not stable


def sha256(path: Path) -> str:
    """Return the hex digest of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_text(path: Path | None) -> str:
    """Return the text of a UTF-8 file, or of standard input if `path` is None.

    A byte order mark and trailing newlines are removed. Raises DataError for any other encoding.
    """
    try:
        text = path.read_text("utf-8") if path else sys.stdin.read()
    except UnicodeDecodeError as error:
        source = path or "standard input"
        raise DataError(f"{source} is not UTF-8 (byte {error.start}); convert it first") from None
    return text.removeprefix("\ufeff").rstrip("\n")


@cache
def note_once(text: str) -> None:
    """Print a note about the file system, the first time only."""
    console.note(text)


def fsync(descriptor: int) -> None:
    """fsync an open file or directory; say once if the file system cannot."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in NOT_SUPPORTED:
            raise
        note_once("this file system cannot fsync: a power failure may lose what was just written")


def sync(path: Path) -> None:
    """fsync a file, or a directory, so that its names survive a power failure."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fsync(descriptor)
    finally:
        os.close(descriptor)


def try_lock(file: IO[Any]) -> bool:
    """Lock an open file exclusively until it is closed; return False if another process holds it.

    The kernel drops the lock of a process that dies, so a killed owner never blocks the next one.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # some network file systems do not support locks
        note_once(
            "this file system does not support locks, so make sure that no other process writes "
            "to the same folder or file"
        )
    return True


def point(link: Path, name: str) -> None:
    """Make `link` lead to the folder `name` next to it; replace an older link atomically.

    Where symbolic links fail (SMB, exFAT, mounted drives), the link is a small file with the name.
    """
    scratch = link.with_name(f".{link.name}.partial")
    try:
        scratch.unlink(missing_ok=True)
        scratch.symlink_to(name)
        os.replace(scratch, link)
    except OSError:
        write_whole(link, f"{name}\n")


def followed(path: Path) -> Path:
    """Return the folder that a link written by `point` leads to; any other path unchanged.

    Readers follow a link once, so that they read one checkpoint even while training moves `best`.
    """
    try:
        if path.is_symlink():
            name = os.readlink(path)
        elif path.is_file() and path.stat().st_size <= LONGEST_NAME:
            name = path.read_text("utf-8").rstrip("\n")
        else:
            return path
    except (OSError, UnicodeDecodeError):
        return path
    target = path.parent / name
    return target if target.name == name != ".." and target.is_dir() else path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a scratch file that replaces `path` if the block succeeds, and is removed if not.

    Each process has its own: two evaluations may write one checkpoint's card. An OSError names
    `path` instead of the scratch file, or of nothing, as on a full disk.
    """
    scratch = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield scratch
        os.replace(scratch, path)
    except OSError as error:
        if error.filename in (None, str(scratch), scratch):
            _name(error, path)
        raise
    finally:
        with contextlib.suppress(OSError):
            scratch.unlink(missing_ok=True)


def _name(error: OSError, path: Path) -> None:
    """Let an error name a path, and keep the text of one without a number, as numpy's have none."""
    if error.errno is None and error.strerror is None:
        error.strerror = str(error)
    error.filename, error.filename2 = str(path), None


def write_whole(path: Path, text: str) -> None:
    """Replace a file's content atomically: readers see the old text or the new, never half."""
    with replacing(path) as scratch:
        scratch.write_text(text, encoding="utf-8")


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Name `path`, which the user knows, in an OSError of the block."""
    try:
        yield
    except OSError as error:
        _name(error, path)
        raise


def write_json(path: Path, content: object) -> None:
    """Replace a file's content atomically with `content` as indented JSON."""
    write_whole(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


@contextmanager
def written_whole(folder: Path) -> Iterator[Path]:
    """Yield a scratch folder that becomes `folder` if the block succeeds, and is removed if not.

    SHA256SUMS is added, and everything is fsynced before the rename, so that a folder under its
    final name is complete even after a power failure.
    """
    scratch = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        yield scratch
        files = sorted(path for path in scratch.rglob("*") if path.is_file())
        names = [path.relative_to(scratch).as_posix() for path in files]
        sums = "".join(f"{sha256(scratch / name)}  {name}\n" for name in names)
        (scratch / SUMS).write_text(sums)
        for path in (*scratch.rglob("*"), scratch):
            sync(path)
        if folder.exists():
            raise CheckpointError(f"{folder} exists already; nothing was overwritten")
        scratch.rename(folder)
        sync(folder.parent)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def verify_sums(folder: Path, *, required: Set[str], exempt: Set[str] = frozenset()) -> None:
    """Compare a folder's files with its SHA256SUMS; raise CheckpointError if one differs.

    `required` files must be listed; `exempt` ones may be missing from the list.
    """
    if not (folder / SUMS).exists():
        raise CheckpointError(f"{folder / SUMS} is missing; use another checkpoint of the run")
    lines = (folder / SUMS).read_text("utf-8", errors="replace").splitlines()
    wanted = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    present = {path.name for path in folder.iterdir() if path.suffix in HASHED} - exempt
    if unlisted := (present | required) - wanted.keys():
        raise CheckpointError(
            f"{folder / SUMS} is damaged (it lacks {min(unlisted)}); use another checkpoint"
        )
    for name, digest in wanted.items():
        path = folder / name
        if not path.exists():
            raise CheckpointError(f"{path} is missing; use another checkpoint of the run")
        if sha256(path) != digest:
            raise CheckpointError(f"{path} is damaged (its hash differs); use another checkpoint")


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
    a file, or next to a folder that is renamed as a whole. It is removed at the end. The user
    chose `target` with `flag`.
    """
    real = Path(os.path.realpath(target))  # one lock for all links to it
    if not real.name:
        raise DataError(f"{target} is the root of a file system; choose another {flag}")
    path = real / ".lock" if inside else real.with_name(f".{real.name}.lock")
    me, created = Owner(), list[Path]()
    try:
        with naming(target):
            created += (each for each in (path.parent, *path.parent.parents) if not each.exists())
            file = _acquire(target, path, me, flag)
        _held[real] = path, me
        try:
            yield
        except Exception as error:
            cause = console.os_error_in(error)
            if cause is None or cause.errno not in OF_WRITING or cause.filename is not None:
                raise
            raise OSError(cause.errno, cause.strerror, str(target)) from error
        finally:
            del _held[real]
            with contextlib.suppress(OSError):
                # It may be another process's, if somebody removed the folder. It is removed while
                # it is still locked: then nobody else can have taken it over.
                if _read(path) == me:
                    path.unlink()
            with contextlib.suppress(OSError):
                file.close()
    finally:
        with contextlib.suppress(OSError):  # they have content: the command wrote something
            for folder in created:
                folder.rmdir()


def check_still_owned(target: Path) -> None:
    """Raise BusyError if this process took `target` with `one_writer` but has lost it since.

    That happens if someone deletes the folder of a run that is still going, or starts another one.
    """
    if (held := _held.get(Path(os.path.realpath(target)))) is None:
        return
    path, me = held
    try:
        now = _read(path)
    except FileNotFoundError:
        raise BusyError(
            f"{target} was removed while this process was writing it; run the same command to "
            "start again"
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
        except FileNotFoundError:  # the last owner has just ended and removed it
            if attempt == ATTEMPTS - 1:  # no: files cannot be created here, as in /proc
                raise
            continue
        if is_current or attempt == ATTEMPTS - 1:
            _note_other_host(target, _read(path))
            try:
                file.truncate(0)
                file.write(json.dumps(asdict(me)) + "\n")
                file.flush()
            except OSError:  # such as a full disk
                path.unlink()  # while it is still locked
                with contextlib.suppress(OSError):
                    file.close()  # which tries to write once more
                raise
            return file
        file.close()  # the last owner has removed this file, and another process may have a new one
    raise BusyError(f"{target} is being written by other processes; choose another {flag}")


def _note_other_host(target: Path, before: Owner | None) -> None:
    """Name the last owner if it ran on another host, where this one cannot see whether it ended."""
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
