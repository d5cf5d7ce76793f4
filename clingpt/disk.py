"""Files that a crash must not spoil: replaced whole, synced, hashed."""

import hashlib
import os
from collections.abc import Set
from pathlib import Path

from clingpt.errors import CheckpointError

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
