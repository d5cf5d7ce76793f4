"""POST /v1/answer, /v1/summarize, /v1/document and /v1/explain: one record or a batch.

Each result contains what a reader needs to judge it: the probability of the label, how much of the
report did not fit or was split, and which numbers, units, comparators, negations and terms the
report does not support.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from clingpt.base.errors import ConfigError, DataError
from clingpt.decoding.replies import what_is_wrong
from clingpt.decoding.sampling import Sampling
from clingpt.evaluation.calibration import LabelScores
from clingpt.evaluation.scorer import label_prompt
from clingpt.evaluation.terms import warnings_json
from clingpt.reports import DISCLAIMER
from clingpt.serving.errors import ApiError, invalid_setting
from clingpt.serving.responses import Emit, run_together
from clingpt.serving.schemas import (
    AnswerRequest,
    DocumentRequest,
    RecordIn,
    TaskRequest,
    usage,
)
from clingpt.serving.service import PROSE_TOKEN_BYTES, Finished, Service
from clingpt.serving.worker import Piece
from clingpt.text.documents import OPENING, join_documents, join_windows, parse_document
from clingpt.text.records import LABELS, Record, clean, from_json
from clingpt.text.tasks import (
    TASK_TABLE,
    NotApplicable,
    Prompt,
    explained,
    label_ids,
    make_prompt,
)
from clingpt.text.windows import draft_sections, join_summaries, split_windows

T = TypeVar("T")


@dataclass(frozen=True)
class Item:
    """One record of a request."""

    index: int
    id: str | None  # the client's, returned unchanged
    name: str  # in messages, which never contain the client's id
    record: Record


class Tasks:
    """A request: its records, and the events or the body of its response."""

    def __init__(self, service: Service, request: TaskRequest) -> None:
        self._service, self._request = service, request
        self._served = service.served(request.model)
        single = (request.id, request.question, request.text, request.sections)
        if request.records is not None and any(value is not None for value in single):
            raise ApiError(400, "send either one record or `records`, not both", param="records")
        tasks = self._served.tasks
        self.task_note = tasks.note(request.task) if tasks else None
        self._sampling = self._make_sampling()
        if any(name != clean(name) for name in self._headings):
            message = "headings must be lines of text without surrounding or repeated spaces"
            raise ApiError(400, message, param="headings")
        self._items = [self._make_item(n, given) for n, given in enumerate(request.given)]
        self.n_replies, self.stream = len(self._items), request.stream
        # No record is answered until all have their prompts, so that one that cannot be answered
        # refuses the whole request: once a stream has an event, its status is 200.
        self._all_have_prompts = asyncio.Barrier(len(self._items))

    def _make_sampling(self) -> Sampling:
        context = self._served.context
        try:
            sampling = self._request.sampling(context)
        except ConfigError as error:
            raise invalid_setting(error) from None
        if sampling.max_new_tokens >= context:
            message = (
                f"max_new_tokens={sampling.max_new_tokens} leaves no room for a prompt in a "
                f"context of {context} tokens"
            )
            raise ApiError(400, message, param="max_new_tokens", code="context_length_exceeded")
        return sampling

    def _make_item(self, index: int, given: RecordIn) -> Item:
        number = str(index + 1)
        name = "the record" if self._request.records is None else f"record {number}"
        most = PROSE_TOKEN_BYTES * self._served.context * self._service.limits.max_windows
        sections = (part for pair in given.sections or () for part in pair)
        texts = [given.question, given.text, *sections]
        if sum(len(text) for text in texts if text) > most:
            message = f"{name} has more than {most} characters; split it into parts"
            raise ApiError(400, message, param="text", code="context_length_exceeded")
        fields = given.model_dump(include={"question", "text", "sections"}, exclude_none=True)
        try:
            return Item(index, given.id, name, from_json(fields, default_id=number))
        except DataError as error:
            raise ApiError(400, str(error), param="text") from None

    async def work(self, emit: Emit) -> dict[str, Any]:
        """Run the task on all records; return the one result, or those of a batch as a list."""
        tasks = {"answer": self._answer, "explain": self._explain}
        run = tasks.get(self._request.task, self._write)
        results = await run_together([run(item, emit) for item in self._items])
        if self._request.records is None:
            return dict(results[0])
        counts = [result["usage"] for result in results]
        n_prompt, n_written = (
            sum(one[name] for one in counts) for name in ("prompt_tokens", "completion_tokens")
        )
        return {"results": results, "usage": usage(n_prompt, n_written)}

    async def _answer(self, item: Item, emit: Emit) -> dict[str, Any]:
        """Choose a label by its log-probability, as eval.py does, then let the model explain it."""
        scorer, context = self._served.scorer, self._served.context
        explains = isinstance(self._request, AnswerRequest) and self._request.explain
        prompt = await self._prepare(item, lambda: label_prompt(scorer, item.record))
        await self._all_have_prompts.wait()
        labels = label_ids(scorer.tokenizer)
        longest = max(self._sampling.max_new_tokens, *map(len, labels))
        fits = len(prompt.ids) + longest <= context
        label: dict[str, Any] = {}
        explanation_text = AfterMarker("Explanation:")

        def on_piece(piece: Piece) -> None:
            if piece.first_log_probs and not label:
                label.update(self._label(item, piece.first_log_probs, prompt))
                emit({"type": "label", "index": item.index, **label})
            if text := explanation_text.push(piece.text):
                emit({"type": "text", "index": item.index, "window": 0, "text": text})

        sampling = (
            self._sampling if explains and fits else replace(self._sampling, max_new_tokens=1)
        )
        finished = await self._service.reply(
            prompt.ids, sampling, first_among=labels, on_piece=on_piece
        )
        trimmed, counts = prompt.trimmed_tokens, usage(len(prompt.ids), len(finished.ids))
        if explains and not fits:
            # The label saw as much of the report as fits the context. The explanation needs room
            # for itself, so it is written from a shorter prompt, after the label already chosen.
            budget = context - longest
            shorter = await self._prepare(
                item, lambda: make_prompt("answer", item.record, scorer.tokenizer, budget=budget)
            )
            chosen, n_label = labels[LABELS.index(label["label"])], len(finished.ids)
            finished = await self._service.reply(
                shorter.ids, self._sampling, first_among=(chosen,), on_piece=on_piece
            )
            trimmed = shorter.trimmed_tokens
            counts = usage(len(prompt.ids) + len(shorter.ids), n_label + len(finished.ids))
        explanation = explained(finished.text) if explains else None
        fields = {**label, "explanation": explanation}
        reason = finished.finish_reason if explains else None
        return await self._finish(item, emit, explanation or "", fields, reason, trimmed, counts)

    def _label(self, item: Item, log_probs: tuple[float, ...], prompt: Prompt) -> dict[str, Any]:
        scores = LabelScores(item.record.id, None, log_probs, prompt.trimmed_tokens)
        calibration = self._served.calibration
        threshold = calibration.threshold if calibration else None
        return {**scores.judge(calibration, prompt.ids), "threshold": threshold}

    async def _explain(self, item: Item, emit: Emit) -> dict[str, Any]:
        """Answer in prose; a long report loses whole sentences, as it does for a label."""
        tokenizer, budget = self._served.scorer.tokenizer, self._budget
        prompt = await self._prepare(
            item, lambda: make_prompt("explain", item.record, tokenizer, budget=budget)
        )
        await self._all_have_prompts.wait()
        reply = await self._reply(item, emit, prompt)
        text, counts = reply.text.strip(), usage(len(prompt.ids), len(reply.ids))
        fields, reason = {"explanation": text}, reply.finish_reason
        return await self._finish(item, emit, text, fields, reason, prompt.trimmed_tokens, counts)

    async def _write(self, item: Item, emit: Emit) -> dict[str, Any]:
        """Write a summary or a document; a long report is split into windows, one after another."""
        task, context, budget = self._request.task, self._served.context, self._budget
        if task == "document":
            if self._headings or self._served.scorer.form.window:
                return await self._write_sections(item, emit)
            # A document is as long as its notes: with longer ones it would be cut off.
            budget = min(budget, max(self._sampling.max_new_tokens, context // 4))
        tokenizer, most = self._served.scorer.tokenizer, self._service.limits.max_windows
        prompts = await self._prepare(
            item, lambda: split_windows(task, item.record, tokenizer, budget=budget, most=most)
        )
        self._check_windows(item, len(prompts))
        await self._all_have_prompts.wait()
        replies = [await self._reply(item, emit, p, window=n) for n, p in enumerate(prompts)]
        texts = [reply.text for reply in replies]
        if task == "summarize":
            text = join_summaries(texts)
            fields: dict[str, Any] = {"summary": text}
        else:
            text = join_documents(texts, self._served.scorer.form.headings)
            fields = self._document(text, self._served.scorer.form.headings)
        fields["windows"] = len(prompts)
        return await self._finish_written(item, emit, text, fields, prompts, replies)

    async def _write_sections(self, item: Item, emit: Emit) -> dict[str, Any]:
        """Write a document section by section, each from all windows of the notes."""
        scorer, most = self._served.scorer, self._service.limits.max_windows
        plan = await self._prepare(
            item,
            lambda: draft_sections(
                item.record,
                scorer.tokenizer,
                scorer.form,
                context=scorer.context,
                longest=self._sampling.max_new_tokens,
                headings=self._headings,
                most=most,
            ),
        )
        self._check_windows(item, plan.windows)
        await self._all_have_prompts.wait()
        sampling = replace(self._sampling, max_new_tokens=plan.longest)
        replies = []
        for n, prompt in enumerate(plan.prompts):
            replies.append(await self._service.reply(prompt.ids, sampling))
            # Shown when it is complete, because NOTHING is not to be shown.
            if text := join_windows([replies[-1].text]):
                place = {"window": n % plan.windows, "heading": plan.heading(n)}
                emit({"type": "text", "index": item.index, **place, "text": text})
        text = plan.join([reply.text for reply in replies])
        fields = self._document(text, plan.headings) | {"windows": plan.windows}
        return await self._finish_written(item, emit, text, fields, plan.prompts, replies)

    @property
    def _headings(self) -> tuple[str, ...]:
        """The sections that the client asks for; () leaves the choice to the model's training."""
        given = self._request.headings if isinstance(self._request, DocumentRequest) else None
        return tuple(dict.fromkeys(given or ()))

    def _document(self, text: str, headings: Sequence[str]) -> dict[str, Any]:
        """Return a document and its sections; text before the first heading is in none."""
        names = [name for name in headings if name != OPENING]
        sections = [{"heading": name, "text": body} for name, body in parse_document(text, names)]
        return {"document": text, "sections": sections}

    def _check_windows(self, item: Item, n_windows: int) -> None:
        if n_windows > (most := self._service.limits.max_windows):
            message = f"{item.name} needs more than {most} windows; split it into parts"
            raise ApiError(400, message, param="text", code="context_length_exceeded")

    async def _finish_written(
        self,
        item: Item,
        emit: Emit,
        text: str,
        fields: dict[str, Any],
        prompts: Sequence[Prompt],
        replies: Sequence[Finished],
    ) -> dict[str, Any]:
        """Finish a text that was written from several prompts."""
        is_cut = any(reply.finish_reason == "length" for reply in replies)
        counts = usage(sum(len(p.ids) for p in prompts), sum(len(r.ids) for r in replies))
        reason = "length" if is_cut else "stop"
        return await self._finish(item, emit, text, fields, reason, 0, counts)

    @property
    def _budget(self) -> int:
        """Return how many tokens a prompt may have, so that the reply still fits the context."""
        return self._served.context - self._sampling.max_new_tokens

    async def _prepare(self, item: Item, make: Callable[[], T]) -> T:
        """Make prompts in another thread, since tokenising a long report takes time."""
        try:
            return await asyncio.to_thread(make)
        except NotApplicable as reason:
            task = self._request.task
            message = f"{item.name} {what_is_wrong(task, str(reason))}"
            # Prompts with a question drop as much of the report as necessary, so what does not
            # fit there is the question.
            param = "question" if TASK_TABLE[task].asks else "text"
            raise ApiError(400, message, param=param) from None

    async def _reply(self, item: Item, emit: Emit, prompt: Prompt, *, window: int = 0) -> Finished:
        event = {"type": "text", "index": item.index, "window": window}

        def on_piece(piece: Piece) -> None:
            if piece.text:
                emit({**event, "text": piece.text})

        return await self._service.reply(prompt.ids, self._sampling, on_piece=on_piece)

    async def _finish(
        self,
        item: Item,
        emit: Emit,
        text: str,
        fields: dict[str, Any],
        finish_reason: str | None,
        trimmed_tokens: int,
        counts: dict[str, int],
    ) -> dict[str, Any]:
        """Compare the reply with its source, and emit and return the result."""
        warnings = await asyncio.to_thread(
            warnings_json, text, item.record, self._request.task, self._served.terms
        )
        result = {
            "id": item.id,
            "model": self._served.name,
            **fields,
            "finish_reason": finish_reason,
            "warnings": warnings,
            "trimmed_tokens": trimmed_tokens,
            "task_note": self.task_note,
            "seed": self._sampling.seed,
            "usage": counts,
            "notice": DISCLAIMER,
        }
        emit({"type": "result", "index": item.index, "result": result})
        return result


class AfterMarker:
    """Passes on the part of a streamed text that follows a marker and the whitespace after it."""

    def __init__(self, marker: str) -> None:
        self._marker, self._before, self._found = marker, "", False

    def push(self, piece: str) -> str:
        """Add a piece and return what can be shown of it."""
        if self._found:
            return piece
        self._before += piece
        _, marker, after = self._before.partition(self._marker)
        after = after.lstrip()
        self._found = bool(marker and after)
        return after
