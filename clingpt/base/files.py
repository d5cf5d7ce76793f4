"""Files that a crash must not spoil: replaced whole, synced, hashed."""

import hashlib
import os
import shutil
from collections.abc import Iterator, Set
from contextlib import contextmanager
from pathlib import Path

from clingpt.base.errors import CheckpointError

SUMS = "SHA256SUMS"
# Of files that must not go without a hash.
HASHED = {".safetensors", ".json", ".pt", ".onnx", ".data", ".ts", ".pt2"}


def sha256(path: Path) -> str:
    """Hex digest of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Have the disk hold a file, or a folder's names, before going on."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_whole(path: Path, text: str) -> None:
    """Write a text beside its place and move it there: the old content or the new, never half."""
    scratch = path.with_name(f".{path.name}.partial")
    scratch.write_text(text, encoding="utf-8")
    os.replace(scratch, path)


@contextmanager
def written_whole(folder: Path) -> Iterator[Path]:
    """A scratch folder that becomes `folder`, with SHA256SUMS and synced, if the block succeeds."""
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
    """Compare a folder's files with its SHA256SUMS; CheckpointError names the first that differs.

    `required` files must be listed, `exempt` ones need not.
    """
    if not (folder / SUMS).exists():
        raise CheckpointError(f"{folder / SUMS} is missing; use another checkpoint of the run")
    lines = (folder / SUMS).read_text("utf-8", errors="replace").splitlines()
    wanted = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    ours = {path.name for path in folder.iterdir() if path.suffix in HASHED} - exempt
    if unlisted := (ours | required) - wanted.keys():
        raise CheckpointError(
            f"{folder / SUMS} is damaged (it lacks {min(unlisted)}); use another checkpoint"
        )
    for name, digest in wanted.items():
        path = folder / name
        if not path.exists():
            raise CheckpointError(f"{path} is missing; use another checkpoint of the run")
        if sha256(path) != digest:
            raise CheckpointError(f"{path} is damaged (its hash differs); use another checkpoint")
