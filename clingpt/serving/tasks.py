"""POST /v1/answer, /v1/summarize, /v1/document, /v1/explain: one record or a batch, or streamed.

Each reply says what a person needs to judge it: how sure the label is, what of the text did not fit
or was taken in pieces, and what it claims that the text does not hold.
"""

import asyncio
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from clingpt.base.errors import ConfigError, DataError
from clingpt.decoding.sampling import Sampling
from clingpt.evaluation.faithfulness import FlagKind, find_flags
from clingpt.evaluation.label_scores import LabelScores
from clingpt.evaluation.scorer import label_prompt
from clingpt.reports.page import DISCLAIMER
from clingpt.serving.completions import usage
from clingpt.serving.responses import Emit, together
from clingpt.serving.schemas import AnswerRequest, RecordIn, TaskRequest
from clingpt.serving.service import PROSE_TOKEN_BYTES, ApiError, Finished, Service, setting_refused
from clingpt.serving.worker import Piece
from clingpt.text.documents import join_documents, parse_document
from clingpt.text.records import LABELS, Record, from_json
from clingpt.text.tasks import (
    CUES,
    LABEL_IDS,
    NotApplicable,
    Prompt,
    explained,
    make_prompt,
    source_text,
)
from clingpt.text.windows import join_summaries, split_windows

MESSAGES: dict[FlagKind, str] = {
    "number": "this number does not stand in the text",
    "unit": "the text has this number with another unit",
    "comparator": "the text has this number with another comparator",
    "negation": "the text says this with a negation more or less",
}


@dataclass(frozen=True)
class Item:
    """A record on its way through a task."""

    index: int
    name: str | None  # its id, given back
    record: Record


class Tasks:
    """One request on its way."""

    def __init__(self, service: Service, request: TaskRequest) -> None:
        self._service, self._request = service, request
        self._served = service.served(request.model)
        own = (request.id, request.question, request.text, request.sections)
        if request.records is not None and any(value is not None for value in own):
            raise ApiError(400, "give one record or a list of records, not both", param="records")
        self._sampling = self._settings()
        self.items = [self._item(n, given) for n, given in enumerate(request.given)]
        self.n_replies, self.stream = len(self.items), request.stream

    def _settings(self) -> Sampling:
        context = self._served.context
        try:
            sampling = self._request.sampling(context)
        except ConfigError as error:
            raise setting_refused(error) from None
        if (longest := sampling.max_new_tokens) >= context:
            message = f"max_new_tokens {longest} leaves no room in a context of {context}"
            raise ApiError(400, message, param="max_new_tokens", code="context_length_exceeded")
        return sampling

    def _item(self, index: int, given: RecordIn) -> Item:
        most = PROSE_TOKEN_BYTES * self._served.context * self._service.limits.max_windows
        texts = [
            given.question,
            given.text,
            *(part for pair in given.sections or () for part in pair),
        ]
        if sum(len(text) for text in texts if text) > most:
            message = f"record {index} has more than {most} characters; send it in parts"
            raise ApiError(400, message, param="text", code="context_length_exceeded")
        fields = given.model_dump(include={"question", "text", "sections"}, exclude_none=True)
        try:
            return Item(index, given.id, from_json(fields, default_id=f"number {index}"))
        except DataError as error:
            raise ApiError(400, str(error), param="text") from None

    async def work(self, emit: Emit) -> dict[str, Any]:
        """Do the task with all records; one result as it is, of a batch a list."""
        tasks = {"answer": self._answer, "explain": self._explain}
        do = tasks.get(self._request.task, self._write)
        results = await together([do(item, emit) for item in self.items])
        if self._request.records is None:
            return dict(results[0])
        counts = [result["usage"] for result in results]
        total = usage(
            *(sum(one[k] for one in counts) for k in ("prompt_tokens", "completion_tokens"))
        )
        return {"results": results, "usage": total}

    async def _answer(self, item: Item, emit: Emit) -> dict[str, Any]:
        """The label by its log-probability, as eval.py has it, and the text behind that label."""
        prompt = await self._prepare(item, partial(label_prompt, self._served.scorer, item.record))
        explains = isinstance(self._request, AnswerRequest) and self._request.explain
        fits = len(prompt.ids) + self._sampling.max_new_tokens <= self._served.context
        told: list[dict[str, Any]] = []
        marker = AfterMarker("Explanation:")

        def on_piece(piece: Piece) -> None:
            if piece.first_log_probs and not told:
                told.append(self._label(item, piece.first_log_probs, prompt))
                emit({"type": "label", "index": item.index, **told[0]})
            if text := marker.push(piece.text):
                emit({"type": "text", "index": item.index, "window": 0, "text": text})

        label_alone = replace(self._sampling, max_new_tokens=1)
        sampling = self._sampling if explains and fits else label_alone
        finished = await self._service.reply(
            prompt.ids, sampling, first_among=LABEL_IDS, on_piece=on_piece
        )
        trimmed, counts = prompt.trimmed_tokens, usage(len(prompt.ids), len(finished.ids))
        if explains and not fits:  # the label saw all that fits the context, this may see less
            budget = self._served.context - self._sampling.max_new_tokens
            cut = partial(make_prompt, "answer", item.record, self._served.scorer.tokenizer)
            shorter = await self._prepare(item, partial(cut, budget=budget))
            first = (LABEL_IDS[LABELS.index(told[0]["label"])],)
            finished = await self._service.reply(
                shorter.ids, self._sampling, first_among=first, on_piece=on_piece
            )
            trimmed = shorter.trimmed_tokens
            counts = usage(len(prompt.ids) + len(shorter.ids), 1 + len(finished.ids))
        explanation = explained(finished.text) if explains else None
        fields = {**told[0], "explanation": explanation}
        ended = finished.finish_reason if explains else None
        result = await self._result(item, explanation or "", fields, ended, trimmed, counts)
        emit({"type": "result", "index": item.index, "result": result})
        return result

    def _label(self, item: Item, log_probs: tuple[float, ...], prompt: Prompt) -> dict[str, Any]:
        scores = LabelScores(item.record.id, None, log_probs, prompt.trimmed_tokens)
        calibration = self._served.calibration
        return {**scores.judge(calibration), "threshold": calibration and calibration.threshold}

    async def _explain(self, item: Item, emit: Emit) -> dict[str, Any]:
        """An answer in prose; of a long text whole sentences are left out, as for a label."""
        budget = self._served.context - self._sampling.max_new_tokens
        cut = partial(make_prompt, "explain", item.record, self._served.scorer.tokenizer)
        prompt = await self._prepare(item, partial(cut, budget=budget))
        show = partial(show_text, emit, {"type": "text", "index": item.index, "window": 0})
        reply = await self._service.reply(prompt.ids, self._sampling, on_piece=show)
        text, counts = reply.text.strip(), usage(len(prompt.ids), len(reply.ids))
        fields, ended, trimmed = {"explanation": text}, reply.finish_reason, prompt.trimmed_tokens
        result = await self._result(item, text, fields, ended, trimmed, counts)
        emit({"type": "result", "index": item.index, "result": result})
        return result

    async def _write(self, item: Item, emit: Emit) -> dict[str, Any]:
        """A summary or a document, of a long text from its pieces one after another."""
        task, sampling, context = self._request.task, self._sampling, self._served.context
        budget = context - sampling.max_new_tokens
        if task == "document":  # as long as its notes: longer ones would not come to their end
            budget = min(budget, max(sampling.max_new_tokens, context // 4))
        tokenizer = self._served.scorer.tokenizer
        most = self._service.limits.max_windows
        split = partial(split_windows, task, item.record, tokenizer, budget=budget, most=most)
        prompts = await self._prepare(item, split)
        if len(prompts) > most:
            message = f"record {item.index} takes more than {most} pieces; send it in parts"
            raise ApiError(400, message, param="text", code="context_length_exceeded")
        replies: list[Finished] = []
        for window, prompt in enumerate(prompts):
            show = partial(show_text, emit, {"type": "text", "index": item.index, "window": window})
            replies.append(await self._service.reply(prompt.ids, sampling, on_piece=show))
        texts = [reply.text for reply in replies]
        if task == "summarize":
            text = join_summaries(texts)
            fields: dict[str, Any] = {"summary": text}
        else:
            text = join_documents(texts)
            sections = [{"heading": name, "text": said} for name, said in parse_document(text)]
            fields = {"document": text, "sections": sections}
        limits = [reply.finish_reason == "length" for reply in replies]
        ended = "length" if any(limits) else "stop"
        counts = usage(sum(len(p.ids) for p in prompts), sum(len(r.ids) for r in replies))
        fields["windows"] = len(prompts)
        result = await self._result(item, text, fields, ended, 0, counts)
        emit({"type": "result", "index": item.index, "result": result})
        return result

    async def _prepare(self, item: Item, work: "partial[Any]") -> Any:
        """Tokens of a prompt, made in another thread."""
        try:
            return await asyncio.to_thread(work)
        except NotApplicable as reason:
            task = self._request.task
            message = f"record {item.index} cannot be used for {task}: {reason}"
            # Context is left out until these tasks' prompts fit: what is wrong is the question.
            param = "question" if task in CUES else "text"
            raise ApiError(400, message, param=param) from None

    async def _result(
        self,
        item: Item,
        text: str,
        fields: dict[str, Any],
        finish_reason: str | None,
        trimmed_tokens: int,
        counts: dict[str, int],
    ) -> dict[str, Any]:
        source, warnings = source_text(item.record, self._request.task), None
        if source is not None:
            flags = await asyncio.to_thread(find_flags, text, source)
            warnings = [{**asdict(flag), "message": MESSAGES[flag.kind]} for flag in flags]
        return {
            "id": item.name,
            "model": self._served.name,
            **fields,
            "finish_reason": finish_reason,
            "warnings": warnings,
            "trimmed_tokens": trimmed_tokens,
            "seed": self._sampling.seed,
            "usage": counts,
            "notice": DISCLAIMER,
        }


def show_text(emit: Emit, event: dict[str, Any], piece: Piece) -> None:
    """Emit what a piece adds, if anything."""
    if piece.text:
        emit({**event, "text": piece.text})


class AfterMarker:
    """Of a text that comes in pieces, what stands behind a marker and the blanks there."""

    def __init__(self, marker: str) -> None:
        self._marker, self._before, self._begun = marker, "", False

    def push(self, piece: str) -> str:
        """What can be shown of it."""
        if not self._begun:
            self._before += piece
            _, found, piece = self._before.partition(self._marker)
            piece = piece.lstrip()
            self._begun = bool(found and piece)
            return piece if self._begun else ""
        return piece
