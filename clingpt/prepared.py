"""The prepared folder on disk: token files, their index, ids, held-out records and the manifest.

docs/formats.md describes every file. Written beside its final place and renamed whole; read only
after every byte has been checked against the manifest. What becomes of the tokens while training is
clingpt/dataset.py's concern.
"""

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from clingpt.errors import DataError
from clingpt.records import Record, to_json
from clingpt.sources import read_jsonl
from clingpt.splits import SPLITS
from clingpt.tasks import TASKS, Example
from clingpt.tokenizer import Tokenizer

FORMAT = 1
HELD_OUT = ("val", "test")  # their records are kept whole, for eval.py
INDEX_COLUMNS = ("start", "first_target", "end", "task", "record")


class FolderWriter:
    """Writes a prepared folder example by example; a context that ends whole or leaves nothing."""

    def __init__(self, folder: Path, tokenizer: Tokenizer) -> None:
        if folder.exists() and not (folder / "manifest.json").exists() and any(folder.iterdir()):
            raise DataError(f"{folder} exists and is not prepared data; choose another --out")
        self.folder, self.tokenizer = folder, tokenizer
        self.partial = folder.with_name(f".{folder.name}.partial")
        self.n_tokens, self.n_records = Counter[str](), Counter[str]()
        self.n_examples: Counter[tuple[str, str]] = Counter()
        self.files: dict[str, IO[Any]] = {}

    def __enter__(self) -> "FolderWriter":
        shutil.rmtree(self.partial, ignore_errors=True)
        self.partial.mkdir(parents=True)
        for split in SPLITS:
            for suffix, mode in (("bin", "wb"), ("idx", "wb"), ("ids", "w")):
                self._open(f"{split}.{suffix}", mode)
        for split in HELD_OUT:
            self._open(f"{split}.jsonl", "w")
        return self

    def _open(self, name: str, mode: str) -> None:
        encoding = None if "b" in mode else "utf-8"
        self.files[name] = (self.partial / name).open(mode, encoding=encoding)

    def add(self, split: str, record: Record, examples: list[tuple[str, Example]]) -> None:
        """Append a record and its (task, example) pairs to a split."""
        number = self.n_records[split]
        self.n_records[split] += 1
        self.files[f"{split}.ids"].write(record.id + "\n")
        if split in HELD_OUT:
            line = json.dumps(to_json(record), ensure_ascii=False)
            self.files[f"{split}.jsonl"].write(line + "\n")
        for task, example in examples:
            start = self.n_tokens[split]
            first_target = start + len(example.prompt_ids)
            end = first_target + len(example.target_ids)
            ids = np.array(example.prompt_ids + example.target_ids, dtype=np.uint16)
            row = np.array([start, first_target, end, TASKS.index(task), number], dtype=np.int64)
            self.files[f"{split}.bin"].write(ids.tobytes())
            self.files[f"{split}.idx"].write(row.tobytes())
            self.n_tokens[split] = end
            self.n_examples[split, task] += 1

    def finish(self, settings: dict[str, Any]) -> None:
        """Close the files, add the tokenizer and the manifest, and move the folder into place."""
        for file in self.files.values():
            file.flush()
            os.fsync(file.fileno())
            file.close()
        self.tokenizer.save(self.partial)
        files = {path.name: file_entry(path) for path in sorted(self.partial.iterdir())}
        manifest = {
            "format": FORMAT,
            "tokenizer": self.tokenizer.fingerprint,
            "settings": settings,
            "counts": {
                split: {
                    "records": self.n_records[split],
                    "tokens": self.n_tokens[split],
                    "examples": {task: self.n_examples[split, task] for task in TASKS},
                }
                for split in SPLITS
            },
            "files": files,
        }
        (self.partial / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
        old = self.folder.with_name(f".{self.folder.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        if self.folder.exists():
            self.folder.rename(old)
        self.partial.rename(self.folder)
        shutil.rmtree(old, ignore_errors=True)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for file in self.files.values():
            file.close()
        shutil.rmtree(self.partial, ignore_errors=True)


def file_entry(path: Path) -> dict[str, Any]:
    """A file's size and sha256, as manifests keep them."""
    with path.open("rb") as file:
        return {
            "bytes": path.stat().st_size,
            "sha256": hashlib.file_digest(file, "sha256").hexdigest(),
        }


@dataclass(frozen=True)
class Split:
    """One split's tokens, memory-mapped, and an index of one row an example (INDEX_COLUMNS)."""

    name: str
    tokens: NDArray[np.uint16]
    index: NDArray[np.int64]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each example, prompt and target."""
        return self.index[:, 2] - self.index[:, 0]


@dataclass(frozen=True)
class Prepared:
    """A prepared folder whose every file matches its manifest."""

    folder: Path
    manifest: dict[str, Any]

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over the manifest's hashes: equal for equal data, whatever folder holds it."""
        text = json.dumps(self.manifest["files"], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def split(self, name: str) -> Split:
        """Open one of train, val and test."""
        path = self.folder / f"{name}.bin"
        empty = np.empty(0, dtype=np.uint16)  # an empty file cannot be mapped
        tokens = np.memmap(path, dtype=np.uint16, mode="r") if path.stat().st_size else empty
        index = np.fromfile(self.folder / f"{name}.idx", dtype=np.int64)
        return Split(name, tokens, index.reshape(-1, len(INDEX_COLUMNS)))

    def record_ids(self, split: str) -> list[str]:
        """The ids of a split's records, in the order of the index's record numbers."""
        return (self.folder / f"{split}.ids").read_text("utf-8").split("\n")[:-1]

    def records(self, split: str) -> Iterator[Record]:
        """The records behind val or test."""
        return read_jsonl(self.folder / f"{split}.jsonl")


def open_prepared(folder: Path, tokenizer: Tokenizer) -> Prepared:
    """Check a folder against its manifest and tokenizer; DataError names the first difference."""
    again = "run prepare.py again"
    path = folder / "manifest.json"
    if not path.exists():
        raise DataError(f"{folder} is not prepared data (it has no manifest.json); run prepare.py")
    try:
        manifest = json.loads(path.read_text("utf-8"))
        version, fingerprint, files = (manifest[k] for k in ("format", "tokenizer", "files"))
    except (ValueError, KeyError, TypeError):
        raise DataError(f"{path} is not a manifest; {again}") from None
    if version != FORMAT:
        raise DataError(f"{path} has format {version}, this version reads {FORMAT}; {again}")
    if fingerprint != tokenizer.fingerprint:
        raise DataError(
            f"{folder} was tokenised by another tokenizer ({fingerprint[:12]}, this one is "
            f"{tokenizer.fingerprint[:12]}); {again}"
        )
    for name, wanted in files.items():
        if not (folder / name).exists():
            raise DataError(f"{folder / name} is missing; {again}")
        found = file_entry(folder / name)
        if found["bytes"] != wanted["bytes"]:
            sizes = f"{found['bytes']} bytes, its manifest says {wanted['bytes']}"
            raise DataError(f"{folder / name} has {sizes}: truncated or changed; {again}")
        if found != wanted:
            raise DataError(f"{folder / name} is not the file its manifest names; {again}")
    return Prepared(folder, manifest)
