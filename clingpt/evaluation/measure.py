"""A checkpoint measured on a split, record by record: labels, texts and losses of tokens.

Every result is an item of clingpt/evaluation/results_store.py, so that a measurement that was
stopped goes on and many processes share one; what becomes of the items is
clingpt/reports/report.py. None depends on the others, on their order or on how many are
measured at once."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from clingpt.base import console, files
from clingpt.base.errors import ConfigError, DataError
from clingpt.data.prepared import Prepared, open_prepared
from clingpt.decoding.engine import Completion, Engine, Reply
from clingpt.decoding.sampling import Sampling
from clingpt.evaluation.results_store import Parts
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
from clingpt.text.records import Record
from clingpt.text.tasks import NotApplicable, Prompt

AHEAD = 8  # times the rows of a batch: records looked at together, the longest first
TEXT_PIECE = 20_000  # characters of a free text that are one item

Numbered = tuple[int, Record]
Asked = tuple[Record, Prompt, str]  # with the reference


def open_data(loaded: Loaded, source: str, folder: Path | None, *, split: str) -> Prepared:
    """A prepared folder with records in a split, by default the one that a model was trained on.

    Says a word where it is another. ConfigError where none is named, DataError for an empty split.
    """
    trained_on = loaded.card.get("data", {})
    folder = folder or trained_on.get("folder")
    if folder is None:
        raise ConfigError(f"{source} does not name its data; give --data=data/pubmedqa")
    data = open_prepared(Path(folder), loaded.tokenizer)
    if trained_on and trained_on["fingerprint"] != data.fingerprint:
        console.note(f"{source} was trained on other data than {folder} now holds")
    if not data.record_ids(split):
        raise DataError(
            f"{data.folder} holds no {split} record; prepare it with more records or a larger "
            f"--{split}_share"
        )
    return data


@dataclass(frozen=True)
class Evaluation:
    """What measures, on what, and where the results go."""

    scorer: Scorer
    data: Prepared
    parts: Parts

    def labels(self, name: str, split: str, *, reasoning_free: bool) -> None:
        """Three log-probabilities of each record with a question."""
        for batch, bar in self._batches(name, split, "scoring labels"):
            asked = [(n, record) for n, record in batch if record.question]
            scores = score_labels(
                self.scorer,
                [record for _, record in asked],
                reasoning_free=reasoning_free,
                on_batch=bar,
            )
            found = {n: asdict(score) for (n, _), score in zip(asked, scores, strict=True)}
            self.parts.add(name, ((n, found.get(n, {})) for n, _ in batch))

    def texts(self, task: str, split: str, sampling: Sampling, limit: int | None) -> None:
        """A greedy reply to each of the first `limit` records that have a reference."""
        todo = self.parts.todo(task, self._n_records(split, limit))
        rows = max(1, min(self.scorer.batch_size, len(todo)))
        engine = Engine(
            self.scorer.decoder, self.scorer.tokenizer, rows=rows, context=self.scorer.context
        )
        with (
            console.progress_bar(label=f"writing: {task}", total=len(todo), unit=" texts") as bar,
            self.scorer.rt.autocast(),
        ):
            requests = self._requests(task, self._chosen(split, todo), sampling, bar.update)
            for n, (record, prompt, reference), reply in answer_each(engine, requests, sampling):
                output = output_of(record.id, task, prompt, reference, reply)
                self.parts.add(task, [(n, asdict(output))])
                bar.update()

    def _requests(
        self, task: str, records: Iterable[Numbered], sampling: Sampling, skip: Callable[[], Any]
    ) -> Iterator[list[tuple[int, Asked]]]:
        """Prompts by the window, the longest of it first; records without a reference are done."""
        while window := list(islice(records, AHEAD * self.scorer.batch_size)):
            asked = []
            for n, record in window:
                try:
                    asked.append((n, (record, *ask(self.scorer, task, record, sampling))))
                except NotApplicable as reason:
                    self.parts.add(task, [(n, {"id": record.id, "skipped": str(reason)})])
                    skip()
            yield sorted(asked, key=lambda item: -len(item[1][1].ids))

    def losses(
        self, name: str, split: str, passage_of: Callable[[Scorer, Record], Passage]
    ) -> None:
        """Losses of a passage of each record that has one."""
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
        """Losses of a text file in pieces, each from its start, cut between lines or words."""
        pieces = list(iter_pieces(read_text(path)))
        todo = self.parts.todo(name, len(pieces))
        for n in console.progress(todo, label=f"perplexity: {name}", unit=" pieces"):
            self._add_losses(name, [n], {n: context_passage(self.scorer, pieces[n])})

    def _add_losses(self, name: str, numbers: Sequence[int], passages: dict[int, Passage]) -> None:
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
        self.parts.add(name, items.items())

    def _batches(
        self, name: str, split: str, label: str
    ) -> Iterator[tuple[list[Numbered], Callable[[int], Any]]]:
        """The records that are left, by the window, and the bar to move."""
        todo = self.parts.todo(name, self._n_records(split, None))
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


def answer_each(
    engine: Engine, windows: Iterator[list[tuple[int, Asked]]], sampling: Sampling
) -> Iterator[tuple[int, Asked, Completion]]:
    """Replies as they come to their end; a window is taken whenever no request waits for a row."""
    at_work: dict[int, tuple[int, Asked, Reply]] = {}
    for window in windows:
        for n, asked in window:
            reply = engine.submit(asked[1].ids, sampling)
            at_work[id(reply)] = n, asked, reply
        while engine.n_waiting:
            yield from _ended(engine, at_work)
    while engine.n_at_work:
        yield from _ended(engine, at_work)


def _ended(
    engine: Engine, at_work: dict[int, tuple[int, Asked, Reply]]
) -> Iterator[tuple[int, Asked, Completion]]:
    for reply in engine.step():
        if reply.error is not None:
            raise reply.error
        if reply.finish_reason is not None:
            n, asked, _ = at_work.pop(id(reply))
            yield n, asked, reply.completion()


def record_context(scorer: Scorer, record: Record) -> Passage:
    """The record's context alone; NotApplicable where it has none."""
    if not record.sections:
        raise NotApplicable("no text")
    return context_passage(scorer, record.context())


def passages_of(tasks: Sequence[str]) -> Mapping[str, Callable[[Scorer, Record], Passage]]:
    """What is scored of a record by name; prose only of a model that was to write such."""
    passages = {"context": record_context, "explanation": explanation_passage}
    return passages | ({"prose": prose_passage} if "explain" in tasks else {})


def read_text(path: Path) -> str:
    """A text of one's own; DataError where it cannot be read as one."""
    try:
        text = files.read_text(path)
    except OSError as error:
        raise DataError(f"cannot read {path}: {console.describe_os_error(error)}") from None
    if not text.strip():
        raise DataError(f"{path} holds no text; give another")
    return text


def iter_pieces(text: str) -> Iterator[str]:
    """The text in pieces of at most TEXT_PIECE characters that together are the whole of it."""
    start = 0
    while start < len(text):
        end = min(len(text), start + TEXT_PIECE)
        if end < len(text):
            cut = max(text.rfind(blank, start + 1, end) for blank in "\n ")
            end = cut if cut > start else end
        if text[start:end].strip():
            yield text[start:end]
        start = end
