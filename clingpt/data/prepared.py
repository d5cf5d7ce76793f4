"""The prepared folder on disk: token files, their index, ids, held-out records and the manifest.

docs/formats.md describes every file. A folder is written next to its final location and renamed as
a whole, so that a crash leaves the old folder or the new one. It is read only after every byte has
been checked against the manifest.

Also what a checkpoint's card (clingpt.json) says about the training data: whether they contained
identifiers, and which tasks they taught. The card names the tasks of the last phase of training,
which the model knows best, and those that only earlier phases trained. A phase on plain text
(--tasks=text) teaches no task. A model answers any task nevertheless, so this informs and never
refuses.
"""

import contextlib
import hashlib
import json
import os
import shutil
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray

from clingpt.base import console
from clingpt.base.errors import DataError
from clingpt.base.files import sha256, sync
from clingpt.data import canaries
from clingpt.text.documents import DocumentForm
from clingpt.text.records import SPLITS, Record, from_json, to_json
from clingpt.text.tasks import PROMPTED, TASK_TABLE, TASKS, Example
from clingpt.text.tokenizer import GPT2_FINGERPRINT, RELEASED, Tokenizer

FORMAT = 1
MANIFEST = "manifest.json"
RECEIPT = "receipt.json"
RECEIPT_FORMAT = 2
RECEIPT_FORMATS = (1, RECEIPT_FORMAT)  # that can be read; 1 did not count copies or name detectors
HELD_OUT = ("val", "test")  # splits whose records are kept as JSON too, for eval.py
FILES = {f"{split}.{suffix}" for split in SPLITS for suffix in ("bin", "idx", "ids")}
FILES |= {f"{split}.jsonl" for split in HELD_OUT}
ARTICLES = "articles.json"
ARTICLES_FORMAT = 1
BESIDE = (RECEIPT, canaries.FILE, ARTICLES)  # optional files about the data, not part of it
VIEWS = ("results", "question")  # of a training record, besides section dropout's
VIEW_SUFFIXES = ("#results", "#question", "#dropout")  # after the record's id, in train.ids
INDEX_COLUMNS = ("start", "first_target", "end", "task", "record")

# What was done about the identifiers that were found.
Done = Literal["none", "published", "allowed", "tags", "surrogates"]
DONE = {
    "none": "no identifiers were allowed",
    "published": "the texts are published and were left unchanged",
    "allowed": "identifiers were allowed to stay",
    "tags": "identifiers were replaced by tags",
    "surrogates": "identifiers were replaced by surrogates",
}
# Kinds that a receipt counts but that identify nobody: privacy.identifiers.REPORTED_ONLY, repeated
# here because the receipt's format must be readable without the rules.
HARMLESS = frozenset({"month_year"})


class Piece:
    """Records and examples of one split in the form of its files, with offsets from 0.

    Worker processes build pieces; FolderWriter.append shifts the offsets and writes them in order.
    """

    def __init__(self, split: str) -> None:
        self.split = split
        self.ids: list[str] = []
        self.lines: list[str] = []  # of val.jsonl or test.jsonl
        self.tokens: list[bytes] = []
        self.rows: list[tuple[int, ...]] = []  # INDEX_COLUMNS
        self.n_tokens = 0

    def add(self, record: Record, examples: Iterable[tuple[str, Example]]) -> None:
        """Append a record and its (task, example) pairs."""
        number = len(self.ids)
        self.ids.append(record.id + "\n")
        if self.split in HELD_OUT:
            self.lines.append(json.dumps(to_json(record), ensure_ascii=False) + "\n")
        for task, example in examples:
            start = self.n_tokens
            first_target = start + len(example.prompt_ids)
            self.n_tokens = first_target + len(example.target_ids)
            self.tokens.append(array("H", example.prompt_ids + example.target_ids).tobytes())
            row = (start, first_target, self.n_tokens, TASKS.index(task), number)
            self.rows.append(row)


class FolderWriter:
    """Write a prepared folder piece by piece.

    A context manager: unless `finish` succeeds, it leaves no new folder and keeps the old one. A
    `dry` writer only counts: no record's text reaches the disk, even if the process is killed. The
    caller makes sure that no other process writes the same folder (base/files.py).
    """

    def __init__(self, folder: Path, tokenizer: Tokenizer, *, dry: bool = False) -> None:
        _check_replaceable(folder)
        self.dry = dry
        self.folder, self.tokenizer = Path(os.path.realpath(folder)), tokenizer
        self.partial = self.folder.with_name(f".{self.folder.name}.partial")
        self.old = self.folder.with_name(f".{self.folder.name}.old")
        self.n_tokens, self.n_records = Counter[str](), Counter[str]()
        self.n_examples: Counter[tuple[str, str]] = Counter()
        self.files: dict[str, IO[Any]] = {}
        self.beside = set[str]()  # files of BESIDE that were written
        self.scratches = set[Path]()
        self.finished = False

    def __enter__(self) -> "FolderWriter":
        try:
            self._open_files()
        except BaseException:
            self._leave()
            raise
        return self

    def _open_files(self) -> None:
        shutil.rmtree(self.partial, ignore_errors=True)  # left by a process that was killed
        self.partial.mkdir(parents=True)
        if self.old.exists() and not self.folder.exists():  # … between the two renames
            self.old.rename(self.folder)
        for name in sorted(FILES):
            mode = "wb" if name.endswith((".bin", ".idx")) else "w"
            encoding = None if mode == "wb" else "utf-8"
            path = Path(os.devnull) if self.dry else self.partial / name
            self.files[name] = path.open(mode, encoding=encoding)

    def append(self, piece: Piece) -> None:
        """Append the records and examples of a piece to its split."""
        split, start = piece.split, self.n_tokens[piece.split]
        rows = np.array(piece.rows, dtype=np.int64).reshape(-1, len(INDEX_COLUMNS))
        rows += [start, start, start, 0, self.n_records[split]]
        self.files[f"{split}.ids"].writelines(piece.ids)
        if split in HELD_OUT:
            self.files[f"{split}.jsonl"].writelines(piece.lines)
        self.files[f"{split}.bin"].writelines(piece.tokens)
        self.files[f"{split}.idx"].write(rows.tobytes())
        self.n_tokens[split] += piece.n_tokens
        self.n_records[split] += len(piece.ids)
        for task, n in zip(TASKS, np.bincount(rows[:, 3], minlength=len(TASKS)), strict=True):
            self.n_examples[split, task] += int(n)

    def counts(self) -> dict[str, Any]:
        """Return the records, tokens and examples of each split, as the manifest lists them."""
        return {
            split: {
                "records": self.n_records[split],
                "tokens": self.n_tokens[split],
                "examples": {task: self.n_examples[split, task] for task in TASKS},
            }
            for split in SPLITS
        }

    def scratch(self, name: str) -> Path:
        """Return the path of a temporary file, removed when the folder is finished."""
        self.scratches.add(self.partial / name)
        return self.partial / name

    def add_json(self, name: str, content: object) -> None:
        """Write a file about the data, one of BESIDE; it does not change the fingerprint."""
        with (self.partial / name).open("w", encoding="utf-8") as file:
            file.write(json.dumps(content, ensure_ascii=False, indent=1) + "\n")
        self.beside.add(name)

    def add_receipt(
        self, receipt: Mapping[str, Any], articles: Mapping[str, Sequence[str]]
    ) -> None:
        """Write the receipt, and the published articles of the held-out splits if any are known."""
        self.add_json(RECEIPT, receipt)
        if any(articles.values()):
            self.add_json(ARTICLES, {"format": ARTICLES_FORMAT, **articles})

    def finish(self, settings: dict[str, Any], form: DocumentForm | None = None) -> None:
        """Close the files, add the tokenizer and the manifest, and move the folder into place.

        `form` is that of the documents, if their headings are the data's own.
        """
        for file in self.files.values():
            file.close()
        for path in self.scratches:
            path.unlink(missing_ok=True)
        written = [self.partial / name for name in sorted(FILES | self.beside)]
        written = sorted([*written, *self.tokenizer.save(self.partial)])
        manifest = {
            "format": FORMAT,
            "tokenizer": self.tokenizer.fingerprint,
            "tokenizer_name": self.tokenizer.name,
            "settings": settings,
            "counts": self.counts(),
            **({"document": form.to_json()} if form else {}),
            "files": {path.name: file_entry(path) for path in written},
        }
        text = json.dumps(manifest, indent=1) + "\n"
        (self.partial / MANIFEST).write_text(text, encoding="utf-8")
        for path in (*written, self.partial / MANIFEST, self.partial):
            sync(path)
        self._swap()

    def _swap(self) -> None:
        """Move the old folder aside and the new one into place; undo that on failure."""
        shutil.rmtree(self.old, ignore_errors=True)
        try:
            if self.folder.exists():
                self.folder.rename(self.old)
            self.partial.rename(self.folder)
        except OSError as error:
            if self.old.exists() and not self.folder.exists():
                self.old.rename(self.folder)
            reason = f"cannot be replaced ({error.strerror}); choose another --out"
            raise DataError(f"{self.folder} {reason}") from error
        self.finished = True
        sync(self.folder.parent)
        shutil.rmtree(self.old, ignore_errors=True)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._leave()

    def _leave(self) -> None:
        """Close the files, and remove an unfinished folder."""
        for file in self.files.values():
            with contextlib.suppress(OSError):  # a full disk: the file is removed anyway
                file.close()
        if not self.finished:
            shutil.rmtree(self.partial, ignore_errors=True)


def _check_replaceable(folder: Path) -> None:
    """Raise DataError if the folder contains anything that a FolderWriter did not write."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder; choose another --out")
    found = {path.name for path in folder.iterdir()}
    try:
        known = {MANIFEST, *read_manifest(folder)["files"]} if found else set()
    except DataError:
        reason = "exists and is not prepared data; remove it or choose another --out"
        raise DataError(f"{folder} {reason}") from None
    if strange := found - known:
        reason = f"contains {min(strange)}, which prepare.py did not write; choose another --out"
        raise DataError(f"{folder} {reason}")


def origin(record_id: str) -> str:
    """Return the id of the record that a view was made from, or any other id unchanged."""
    suffix = next((each for each in VIEW_SUFFIXES if record_id.endswith(each)), "")
    return record_id.removesuffix(suffix)


def file_entry(path: Path) -> dict[str, Any]:
    """Return a file's size and sha256 as an entry of the manifest."""
    return {"bytes": path.stat().st_size, "sha256": sha256(path)}


@dataclass(frozen=True)
class Split:
    """One split: memory-mapped tokens, and an index with one row per example.

    `index` is (N, 5) with INDEX_COLUMNS: an example's prompt is tokens[start:first_target], its
    target tokens[first_target:end]. `eot` is the id that ends a text.
    """

    name: str
    tokens: NDArray[np.uint16]
    index: NDArray[np.int64]
    eot: int

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Return the length of each example in tokens, prompt and target together."""
        return self.index[:, 2] - self.index[:, 0]

    def rows_of(self, task: str) -> NDArray[np.int64]:
        """Return the rows of the index that belong to one task."""
        rows: NDArray[np.int64] = self.index[self.index[:, 3] == TASKS.index(task)]
        return rows

    def example(self, row: NDArray[np.int64]) -> Example:
        """Read the example that a row of the index describes."""
        start, first_target, end, *_ = row.tolist()
        return Example(
            prompt_ids=self.tokens[start:first_target].tolist(),
            target_ids=self.tokens[first_target:end].tolist(),
            trimmed_tokens=0,  # not kept on disk
        )


@dataclass(frozen=True)
class Prepared:
    """A prepared folder whose files all match its manifest."""

    folder: Path
    manifest: dict[str, Any]

    @cached_property
    def fingerprint(self) -> str:
        """Hash the manifest's file hashes: equal for equal data, wherever the folder is."""
        files = {name: each for name, each in self.manifest["files"].items() if name not in BESIDE}
        text = json.dumps(files, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """Load the tokenizer that the texts were encoded with."""
        return Tokenizer.load(self.folder)

    @property
    def tasks(self) -> list[str]:
        """List the tasks that the folder was prepared for."""
        settings: dict[str, Any] = self.manifest["settings"]
        return [task for task in TASKS if task in settings["tasks"]]

    @property
    def document_form(self) -> DocumentForm:
        """Return the headings of the folder's documents, and whether they are asked for one by one.

        Folders whose manifest names none have documents made of structured abstracts.
        """
        found = self.manifest.get("document")
        return DocumentForm.from_json(found) if found else DocumentForm()

    @cached_property
    def receipt(self) -> dict[str, Any] | None:
        """Return the content of receipt.json, or None in older folders without one."""
        if RECEIPT not in self.manifest["files"]:
            return None
        found: dict[str, Any] = json.loads((self.folder / RECEIPT).read_text("utf-8"))
        return found

    def split(self, name: str) -> Split:
        """Open train, val or test."""
        path = self.folder / f"{name}.bin"
        empty = np.empty(0, dtype=np.uint16)  # an empty file cannot be mapped
        tokens = np.memmap(path, dtype=np.uint16, mode="r") if path.stat().st_size else empty
        index = np.fromfile(self.folder / f"{name}.idx", dtype=np.int64)
        return Split(name, tokens, index.reshape(-1, len(INDEX_COLUMNS)), self.tokenizer.eot)

    def record_ids(self, split: str) -> list[str]:
        """List the ids of a split's records, in the order of the index's record numbers."""
        return (self.folder / f"{split}.ids").read_text("utf-8").split("\n")[:-1]

    def articles(self, split: str) -> list[str]:
        """List the published articles of a held-out split's records; none in older folders."""
        if ARTICLES not in self.manifest["files"]:
            return []
        found: dict[str, Any] = json.loads((self.folder / ARTICLES).read_text("utf-8"))
        if found["format"] != ARTICLES_FORMAT:
            raise DataError(
                f"{self.folder / ARTICLES} has format {found['format']}, but this version reads "
                f"{ARTICLES_FORMAT}; run prepare.py again"
            )
        return list(found[split])

    def records(self, split: str) -> Iterator[Record]:
        """Read the records of a held-out split one by one."""
        with (self.folder / f"{split}.jsonl").open(encoding="utf-8") as lines:
            for line in lines:
                yield from_json(json.loads(line))


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read a folder's manifest; only its outline is checked, not the files that it lists."""
    path = folder / MANIFEST
    if not path.exists():
        raise DataError(f"{folder} is not prepared data (it has no {MANIFEST}); run prepare.py")
    try:
        manifest: dict[str, Any] = json.loads(path.read_text("utf-8"))
        version, tokenizer, files = (manifest[key] for key in ("format", "tokenizer", "files"))
        whole = isinstance(version, int) and isinstance(tokenizer, str)
        whole = whole and all(isinstance(manifest[key], dict) for key in ("settings", "counts"))
        whole = whole and all(entry.keys() == {"bytes", "sha256"} for entry in files.values())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        whole = False
    if not whole:
        raise DataError(f"{path} is not a valid manifest; remove {folder} and run prepare.py again")
    return manifest


@cache
def official_places() -> dict[str, int]:
    """Map each official PMID to its validation fold, or to -1 for the test set.

    Jin et al. 2019, section 3.4: 500 test ids and ten folds of 50 for validation. The official
    script derives them from the order of keys in its file; pubmedqa_ids.json keeps the resulting
    ids, so that they apply however the records arrive.
    """
    lists = json.loads(Path(__file__).with_name("pubmedqa_ids.json").read_text("utf-8"))
    folds = {str(pmid): fold for fold, pmids in enumerate(lists["folds"]) for pmid in pmids}
    return folds | {str(pmid): -1 for pmid in lists["test"]}


def official_test_ids() -> set[str]:
    """Return the 500 PMIDs that PubMedQA's leaderboard scores."""
    return {pmid for pmid, fold in official_places().items() if fold == -1}


def official_folds(ids: Iterable[str]) -> list[int] | None:
    """Return the validation fold of each id, -1 for a test id; None unless all are PubMedQA-L's."""
    folds = [official_places().get(name) for name in ids]
    return None if None in folds else [fold for fold in folds if fold is not None]


def open_prepared(
    folder: Path, tokenizer: Tokenizer | None = None, *, checkpoint: str = "CHECKPOINT"
) -> Prepared:
    """Open a folder after checking every file; raise DataError if one differs.

    With the `tokenizer` of a checkpoint, the texts must have been encoded by the same.
    """
    again = "run prepare.py again"
    manifest = read_manifest(folder)
    version, fingerprint, files = (manifest[key] for key in ("format", "tokenizer", "files"))
    if version != FORMAT:
        seen = f"{folder / MANIFEST} has format {version}, but this version reads {FORMAT}"
        raise DataError(f"{seen}; {again}")
    if missing := FILES - files.keys():
        raise DataError(f"{folder / MANIFEST} does not list {min(missing)}; {again}")
    if tokenizer and fingerprint != tokenizer.fingerprint:
        is_gpt2 = fingerprint == GPT2_FINGERPRINT  # older manifests have no name
        name = manifest.get("tokenizer_name", "GPT-2's tokenizer" if is_gpt2 else "another one")
        source, mix = map(manifest["settings"].get, ("source", "mix"))
        flags = ["--mix", *mix] if mix else [f"--source={source}"]
        flags += [f"--out={folder}", f"--tokenizer={checkpoint}"]
        raise DataError(
            f"{folder} was prepared with {name} ({fingerprint[:8]}), but {checkpoint} has "
            f"{tokenizer.name} ({tokenizer.fingerprint[:8]}); prepare the data again for it: "
            f"{console.command('prepare.py', *flags)} and the other settings of {folder / MANIFEST}"
        )
    for name, wanted in files.items():
        if not (folder / name).exists():
            raise DataError(f"{folder / name} is missing; {again}")
        found = file_entry(folder / name)
        if found["bytes"] != wanted["bytes"]:
            sizes = f"{found['bytes']} bytes instead of {wanted['bytes']}"
            raise DataError(f"{folder / name} has {sizes}: truncated or changed; {again}")
        if found != wanted:
            raise DataError(f"{folder / name} differs from its manifest; {again}")
    return Prepared(folder, manifest)


def carried(card: Mapping[str, Any], new: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    """List the receipts of all data that went into a model, oldest first, each once.

    `card` is the card of the checkpoint that training starts from; `new` is the receipt of the data
    that it is trained on now.
    """
    known = list(card.get("receipts", []))
    return known if new is None or new in known else [*known, new]


def identifiers_found(receipt: Mapping[str, Any]) -> int:
    """Count the identifiers that the training split still contains, according to its receipt.

    Returns 0 if they were replaced or if all texts are published, since most names in published
    abstracts are not patients'. Raises DataError if the receipt has a different format.
    """
    if receipt.get("format") not in RECEIPT_FORMATS or receipt.get("done") not in DONE:
        raise DataError(
            f"{RECEIPT} is not a receipt of format {RECEIPT_FORMAT}; "
            "prepare the data again with this version"
        )
    if receipt["done"] in ("published", "tags", "surrogates"):
        return 0
    kinds = receipt["identifiers"].items()
    return sum(row["by_split"].get("train", 0) for kind, row in kinds if kind not in HARMLESS)


def searched_with(receipt: Mapping[str, Any]) -> str:
    """Name the detectors that a receipt's texts were searched with; older receipts do not say."""
    used = receipt.get("detectors") or {"rules": True}
    names = [name for name in ("rules", "tagger") if used.get(name)]
    names += ["a list of known names"] if used.get("roster") else []
    names += [str(used["engine"])] if used.get("engine") else []
    return ", ".join(names)


def warning(card: Mapping[str, Any]) -> str | None:
    """Return a warning if a model's training data contained identifiers, else None."""
    if not (found := sum(map(identifiers_found, card.get("receipts", [])))):
        return None
    return (
        f"the training data contained {console.count(found, 'likely identifier')} (names, dates, "
        "numbers; prepared with --allow_phi). The model may reproduce any: keep it wherever that "
        "data must be kept"
    )


@dataclass(frozen=True)
class TrainedTasks:
    """The tasks that a model was trained on."""

    latest: tuple[str, ...]  # by the last phase
    earlier: tuple[str, ...] = ()  # only by earlier phases
    generated: bool = False  # the last phase's data were prepare.py's --source=synthetic
    released: bool = False  # one of OpenAI's models, not fine-tuned
    plain_text: bool = False  # a phase used --tasks=text, so the model learned to write contexts
    form: DocumentForm = DocumentForm()  # of the documents that the model learned to write

    def to_card(self) -> dict[str, Any]:
        """Return the entries of a card."""
        tasks, earlier = list(self.latest), list(self.earlier)
        known = {"tasks": tasks, "earlier_tasks": earlier, "generated_data": self.generated}
        form = {"document": self.form.to_json()} if self.form != DocumentForm() else {}
        return known | {"plain_text": self.plain_text} | form

    def trained_to_write(self, passage: str) -> bool | None:
        """Whether a phase trained the model to write such passages, not just to read them.

        Passages are named as in clingpt/evaluation/measure.passages_of. Returns None for a released
        model, whose training text is not known.
        """
        if self.released:
            return None
        tasks = {*self.latest, *self.earlier}
        if passage == "context":  # a document restates the context
            return self.plain_text or "document" in tasks
        return {"explanation": "answer", "prose": "explain"}[passage] in tasks

    def note(self, task: str) -> str | None:
        """Return a sentence for a user who asks for a task, or None if the last phase trained it.

        The sentence contains only names of tasks, never anything that a user typed.
        """
        if task in self.latest:
            return None
        asked = listed([task])
        if task in self.earlier:
            last = f"trained it to {listed(self.latest)}" if self.latest else "used plain text"
            return (
                f"This model was trained to {asked} only in an earlier phase. The last phase "
                f"{last}, so it may have forgotten much."
            )
        model = "GPT-2 as released" if self.released else "This model"
        if known := (*self.latest, *self.earlier):
            what = f"was not trained to {asked}, only to {listed(known)}"
        else:
            what = f"was not trained to {asked} or for any other task: it only continues text"
        return f"{model} {what}. Do not expect a useful reply."

    def notes(self, tasks: Iterable[str]) -> dict[str, str]:
        """Return the notes on those of the tasks that have one, by task."""
        found = {task: self.note(task) for task in tasks if task in PROMPTED}
        return {task: note for task, note in found.items() if note is not None}


def listed(tasks: Sequence[str]) -> str:
    """Name tasks after "trained to": answer, summarize and draft documents."""
    # A card of another version may name a task that this one does not have.
    verbs = {name: task.verb or name for name, task in TASK_TABLE.items()}
    *others, last = [verbs.get(task, task) for task in tasks]
    return f"{', '.join(others)} and {last}" if others else last


def after_training(before: TrainedTasks | None, data: Prepared) -> TrainedTasks:
    """Return the tasks of a model that had those of `before`, and was then trained on `data`."""
    rows_of = data.split("train").rows_of
    latest = tuple(task for task in PROMPTED if len(rows_of(task)))
    known = {*before.latest, *before.earlier} if before else {}
    earlier = tuple(task for task in PROMPTED if task in known and task not in latest)
    plain_text = len(rows_of("text")) > 0 or (before is not None and before.plain_text)
    form = before.form if before and "document" not in latest else data.document_form
    return TrainedTasks(
        latest, earlier, generated=is_generated(data), plain_text=plain_text, form=form
    )


def trained_tasks(card: Mapping[str, Any], source: str) -> TrainedTasks | None:
    """Return the tasks of the model that a user named `source`, or None if nothing is known.

    A card written before cards named tasks is completed from its training data, if that folder is
    still there. A model without a card has no known tasks, unless it is OpenAI's GPT-2.
    """
    if "tasks" in card:
        latest, earlier = (tuple(card.get(name, ())) for name in ("tasks", "earlier_tasks"))
        flags = {"generated": "generated_data", "plain_text": "plain_text"}
        known = {field: card.get(name, False) for field, name in flags.items()}
        form = DocumentForm.from_json(card["document"]) if "document" in card else DocumentForm()
        return TrainedTasks(latest, earlier, **known, form=form)
    if not card:
        is_copy = Path(source).name in RELEASED and Path(source).is_dir()
        name = source.removeprefix("openai-community/")
        return TrainedTasks((), released=True) if name in RELEASED or is_copy else None
    trained_on = card.get("data", {})
    try:
        folder = Path(trained_on["folder"])
        data = Prepared(folder, read_manifest(folder))
        if data.fingerprint == trained_on["fingerprint"]:
            latest = tuple(task for task in data.tasks if task in PROMPTED)
            plain_text = "text" in data.tasks
            return TrainedTasks(
                latest,
                generated=is_generated(data),
                plain_text=plain_text,
                form=data.document_form,
            )
    except (DataError, OSError, KeyError, TypeError):
        pass  # the data are elsewhere, or another tool wrote the card
    return None


def is_generated(data: Prepared) -> bool:
    """Whether all records of a prepared folder were invented by clingpt/data/synthetic.py."""
    settings = data.manifest["settings"]
    return settings.get("source") == "synthetic" and not settings.get("mix")
