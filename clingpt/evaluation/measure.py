"""Measuring a checkpoint on a split, record by record: labels, generated texts, losses of passages.

Every result is stored at once under its record number, so that an interrupted evaluation can resume
and several processes can share the work. No result depends on the other records, their order or the
batch size. clingpt/reports/report.py turns the stored results into figures.
"""

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

from clingpt.base import console, files, jsonl
from clingpt.base.errors import ConfigError, DataError
from clingpt.base.files import check_still_owned
from clingpt.data.prepared import Prepared, open_prepared
from clingpt.decoding.engine import Completion, Engine, Reply
from clingpt.decoding.sampling import Sampling
from clingpt.evaluation.scorer import (
    Passage,
    Scorer,
    ask,
    context_passage,
    explanation_passage,
    output_of,
    passage_losses,
    prose_passage,
    score_labels,
)
from clingpt.nn.checkpoint import Loaded
from clingpt.nn.runtime import Runtime
from clingpt.text.documents import Draft
from clingpt.text.records import Record
from clingpt.text.tasks import NotApplicable

AHEAD = 8  # batches of records that are read ahead and sorted by length
TEXT_PIECE = 20_000  # characters of a text file that are scored as one item
LOOKS = "test_looks.jsonl"

Numbered = tuple[int, Record]  # a record and its number in the split
Asked = tuple[Record, Draft, str]  # a record, its prompts and its reference


def open_data(loaded: Loaded, source: str, folder: Path | None, *, split: str) -> Prepared:
    """Open a prepared folder, by default the one that the checkpoint was trained on.

    Prints a note if the data differ from the training data. Raises ConfigError if no folder is
    known, and DataError if the split is empty.
    """
    trained_on = loaded.card.get("data", {})
    folder = folder or trained_on.get("folder")
    if folder is None:
        raise ConfigError(
            f"{source} does not name its training data; specify a prepared folder, for example "
            "--data=data/pubmedqa"
        )
    data = open_prepared(Path(folder), loaded.tokenizer, checkpoint=source)
    if trained_on and trained_on["fingerprint"] != data.fingerprint:
        console.note(f"{source} was trained on different data than {folder} now contains")
    if not data.record_ids(split):
        raise DataError(
            f"{data.folder} has no {split} records; prepare it with more records or a larger "
            f"--{split}_share"
        )
    return data


def count_look(run: Path, checkpoint: str, fingerprint: str, *, is_new: bool) -> int:
    """Count the evaluations of a run on the test records of one prepared folder.

    A checkpoint or setting that was chosen by its test score has not been tested, so the report
    shows this count. A new evaluation is recorded in the run folder; one that continues is not.
    """
    path = run / LOOKS
    if is_new:
        run.mkdir(parents=True, exist_ok=True)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        jsonl.append(path, {"time": now, "checkpoint": checkpoint, "data": fingerprint})
    looks = [look for look in jsonl.read(path) if look["data"] == fingerprint]
    return max(1, len(looks))


class ResultStore:
    """Results by name and record number, in JSON Lines files that survive a killed process.

    All results in a folder were measured with the same settings. Each process appends to its own
    files and reads those of all processes, so that nothing is measured twice, whatever the number
    of processes before and after a stop. Only the offset of each line is kept in memory, not the
    lines.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], rt: Runtime) -> None:
        """Open a folder; results measured with different settings are deleted."""
        self._folder, self._rt = folder, rt
        self.is_new = rt.on_main(lambda: self._begin(settings))
        self._offsets = self._scan()
        rt.agreed(True)  # no process writes before all have read

    def _begin(self, settings: Mapping[str, Any]) -> bool:
        """Return whether the folder has no results with these settings."""
        wanted = json.dumps(settings, indent=1, sort_keys=True)
        path = self._folder / "settings.json"
        if path.exists() and path.read_text("utf-8") == wanted:
            return not self._scan()
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        files.write_whole(path, wanted)
        return True

    def _scan(self) -> dict[str, dict[int, tuple[Path, int]]]:
        """Find the file and byte offset of each result, by name and number."""
        offsets: dict[str, dict[int, tuple[Path, int]]] = {}
        for path in sorted(self._folder.glob("*.jsonl")):
            name = path.name.rsplit(".", 2)[0]  # without rank and suffix
            for start, row in jsonl.scan(path):
                if isinstance(row.get("n"), int):
                    offsets.setdefault(name, {})[row["n"]] = (path, start)
        return offsets

    def n_done(self) -> int:
        """Return the number of stored results."""
        return sum(map(len, self._offsets.values()))

    def names(self) -> list[str]:
        """Return the names that have at least one stored result."""
        return sorted(self._offsets)

    def todo(self, name: str, n_items: int) -> list[int]:
        """Return this process's share of the numbers below `n_items` without a result."""
        done = self._offsets.get(name, {})
        return self._rt.share([n for n in range(n_items) if n not in done])

    def add(self, name: str, items: Iterable[tuple[int, Mapping[str, Any]]]) -> None:
        """Append numbered results and fsync them."""
        check_still_owned(self._folder.parent)
        path = self._folder / f"{name}.{self._rt.rank}.jsonl"
        jsonl.append(path, *({"n": n, **item} for n, item in items), sync=True)

    def gather(self) -> None:
        """Make the results of all processes visible to each; every process must call this."""
        self._rt.agreed(True)
        self._offsets = self._scan()

    def items(self, name: str) -> Iterator[dict[str, Any]]:
        """Yield the results of a name in the order of their numbers."""
        offsets = self._offsets.get(name, {})
        opened = {path: path.open("rb") for path in {path for path, _ in offsets.values()}}
        try:
            for _, (path, start) in sorted(offsets.items()):
                opened[path].seek(start)
                yield json.loads(opened[path].readline())
        finally:
            for file in opened.values():
                file.close()

    def remove(self) -> None:
        """Delete the folder, once the report has been written."""
        shutil.rmtree(self._folder)


@dataclass(frozen=True)
class Evaluation:
    """Measures one checkpoint on one prepared folder; each method skips what is stored already."""

    scorer: Scorer
    data: Prepared
    store: ResultStore

    def labels(self, name: str, split: str, *, reasoning_free: bool) -> None:
        """Store the three log-probabilities of each record with a question."""
        for batch, bar in self._batches(name, split, "scoring labels"):
            asked = [(n, record) for n, record in batch if record.question]
            scores = score_labels(
                self.scorer,
                [record for _, record in asked],
                reasoning_free=reasoning_free,
                on_batch=bar,
            )
            found = {n: asdict(score) for (n, _), score in zip(asked, scores, strict=True)}
            self.store.add(name, ((n, found.get(n, {})) for n, _ in batch))

    def texts(self, task: str, split: str, sampling: Sampling, limit: int | None) -> None:
        """Store a greedy reply to each of the first `limit` records that have a reference."""
        todo = self.store.todo(task, self._n_records(split, limit))
        rows = max(1, min(self.scorer.batch_size, len(todo)))
        engine = Engine(
            self.scorer.decoder, self.scorer.tokenizer, rows=rows, context=self.scorer.context
        )
        with (
            console.progress_bar(label=f"writing: {task}", total=len(todo), unit=" texts") as bar,
            self.scorer.rt.autocast(),
        ):
            requests = self._requests(task, self._chosen(split, todo), sampling, bar.update)
            for n, (record, plan, reference), replies in answer_each(engine, requests, sampling):
                output = output_of(record.id, task, plan, reference, replies)
                self.store.add(task, [(n, asdict(output))])
                bar.update()

    def _requests(
        self, task: str, records: Iterable[Numbered], sampling: Sampling, skip: Callable[[], Any]
    ) -> Iterator[list[tuple[int, Asked]]]:
        """Yield windows of prompts, longest first; store records without a reference as skipped.

        Long replies that start last would run alone in a batch at the end of each window.
        """
        while window := list(islice(records, AHEAD * self.scorer.batch_size)):
            asked = []
            for n, record in window:
                try:
                    asked.append((n, (record, *ask(self.scorer, task, record, sampling))))
                except NotApplicable as reason:
                    self.store.add(task, [(n, {"id": record.id, "skipped": str(reason)})])
                    skip()
            yield sorted(asked, key=lambda item: -len(item[1][1].prompts[0].ids))

    def losses(
        self, name: str, split: str, passage_of: Callable[[Scorer, Record], Passage]
    ) -> None:
        """Store the losses of a passage of each record that has one."""
        for batch, bar in self._batches(name, split, f"perplexity: {name}"):
            passages: dict[int, Passage] = {}
            for n, record in batch:
                try:
                    passages[n] = passage_of(self.scorer, record)
                except NotApplicable:
                    continue
            self._add_losses(name, [n for n, _ in batch], passages)
            bar(len(batch))

    def text_losses(self, name: str, path: Path) -> None:
        """Store the losses of a text file in pieces, each scored from its own start."""
        pieces = list(iter_pieces(read_text(path)))
        todo = self.store.todo(name, len(pieces))
        for n in console.progress(todo, label=f"perplexity: {name}", unit=" pieces"):
            self._add_losses(name, [n], {n: context_passage(self.scorer, pieces[n])})

    def _add_losses(self, name: str, numbers: Sequence[int], passages: dict[int, Passage]) -> None:
        """Store the losses of the passages, and empty results for the other numbers."""
        items: dict[int, Mapping[str, Any]] = {n: {} for n in numbers}
        sums = passage_losses(self.scorer, list(passages.values())).tolist()
        for (n, passage), (nats, tokens, end_nats, ends) in zip(
            passages.items(), sums, strict=True
        ):
            items[n] = {
                "nats": nats,
                "tokens": int(tokens),
                "end_nats": end_nats,
                "ends": int(ends),
                "words": len(passage.text.split()),
                "bytes": len(passage.text.encode()),
            }
        self.store.add(name, items.items())

    def _batches(
        self, name: str, split: str, label: str
    ) -> Iterator[tuple[list[Numbered], Callable[[int], Any]]]:
        """Yield the records without a result in windows, with the progress bar's updater."""
        todo = self.store.todo(name, self._n_records(split, None))
        records = self._chosen(split, todo)
        with console.progress_bar(label=label, total=len(todo), unit=" records") as bar:
            while window := list(islice(records, AHEAD * self.scorer.batch_size)):
                yield window, bar.update

    def _chosen(self, split: str, numbers: Sequence[int]) -> Iterator[Numbered]:
        wanted = set(numbers)
        return ((n, r) for n, r in enumerate(self.data.records(split)) if n in wanted)

    def _n_records(self, split: str, limit: int | None) -> int:
        n_records = len(self.data.record_ids(split))
        return n_records if limit is None else min(limit, n_records)


@dataclass
class Pending:
    """A record whose prompts are being answered; holding the replies keeps their ids unique."""

    n: int
    asked: Asked
    replies: list[Reply]
    n_open: int


def answer_each(
    engine: Engine, windows: Iterator[list[tuple[int, Asked]]], sampling: Sampling
) -> Iterator[tuple[int, Asked, list[Completion]]]:
    """Yield the completions of each record when its last prompt has been answered.

    The next window is read when no request waits.
    """
    pending: dict[int, Pending] = {}
    for window in windows:
        for n, asked in window:
            plan = asked[1]
            chosen = replace(sampling, max_new_tokens=plan.longest)
            replies = [engine.submit(prompt.ids, chosen) for prompt in plan.prompts]
            one = Pending(n, asked, replies, len(replies))
            pending |= {id(reply): one for reply in replies}
        while engine.n_waiting:
            yield from _finished(engine, pending)
    while engine.n_at_work:
        yield from _finished(engine, pending)


def _finished(
    engine: Engine, pending: dict[int, Pending]
) -> Iterator[tuple[int, Asked, list[Completion]]]:
    """Decode one step and yield the records whose last open request it finished."""
    for reply in engine.step():
        if reply.error is not None:
            raise reply.error
        if reply.finish_reason is not None:
            one = pending.pop(id(reply))
            one.n_open -= 1
            if not one.n_open:
                yield one.n, one.asked, [each.completion() for each in one.replies]


def record_context(scorer: Scorer, record: Record) -> Passage:
    """Return the record's context as a passage; raise NotApplicable if it has none."""
    if not record.sections:
        raise NotApplicable("no text")
    return context_passage(scorer, record.context())


def passages_of(tasks: Sequence[str]) -> Mapping[str, Callable[[Scorer, Record], Passage]]:
    """Return the passages to score, by name; `prose` only if the model was trained to write it."""
    passages = {"context": record_context, "explanation": explanation_passage}
    return passages | ({"prose": prose_passage} if "explain" in tasks else {})


def read_text(path: Path) -> str:
    """Read a text file named by the user; raise DataError if it cannot be read or is empty."""
    try:
        text = files.read_text(path)
    except OSError as error:
        raise DataError(f"cannot read {path}: {console.describe_os_error(error)}") from None
    if not text.strip():
        raise DataError(f"{path} contains no text; specify another file")
    return text


def iter_pieces(text: str) -> Iterator[str]:
    """Split a text into pieces of at most TEXT_PIECE characters, at line breaks or spaces.

    The pieces add up to the whole text, except that pieces with only white space are skipped.
    """
    start = 0
    while start < len(text):
        end = min(len(text), start + TEXT_PIECE)
        if end < len(text):
            cut = max(text.rfind(space, start + 1, end) for space in "\n ")
            end = cut if cut > start else end
        if text[start:end].strip():
            yield text[start:end]
        start = end
