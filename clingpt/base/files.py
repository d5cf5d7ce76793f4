"""Crash-safe file access: atomic replacement, fsync, locks and hashes."""

import errno
import fcntl
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterator, Set
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import IO, Any

from clingpt.base import console
from clingpt.base.errors import CheckpointError, DataError

SUMS = "SHA256SUMS"
# Suffixes of files that must be listed in SHA256SUMS.
HASHED = {".safetensors", ".json", ".pt", ".onnx", ".data", ".ts", ".pt2"}
NOT_SUPPORTED = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
LONGEST_NAME = 255  # bytes of a file's name


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


def write_whole(path: Path, text: str) -> None:
    """Replace a file's content atomically: readers see the old text or the new, never half.

    Each process has its own scratch file: two evaluations may write one checkpoint's card.
    """
    scratch = path.with_name(f".{path.name}.{os.getpid()}.partial")
    scratch.write_text(text, encoding="utf-8")
    os.replace(scratch, path)


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
