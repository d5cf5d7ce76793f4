"""POST /v1/completions as OpenAI has it: requests, choices, log-probabilities, streamed chunks.

platform.openai.com/docs/api-reference/completions; what it knows and this server does not is
refused by name, never ignored. Of vLLM's additions it takes top_k, min_p and repetition_penalty.
"""

import asyncio
import codecs
import time
import uuid
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch

from clingpt.base.errors import ConfigError
from clingpt.decoding.sampling import Sampling, TokenLogProb, log_prob_of
from clingpt.serving.responses import Emit, together
from clingpt.serving.schemas import CompletionRequest
from clingpt.serving.service import (
    LONGEST_TOKEN_BYTES,
    ApiError,
    Finished,
    Service,
    setting_refused,
)
from clingpt.serving.worker import Piece, Served
from clingpt.text.tokenizer import EOT, VOCAB_SIZE, Tokenizer


def check_supported(request: CompletionRequest) -> None:
    """ApiError for what OpenAI's API has and this one has not."""
    asked = {
        "best_of": request.best_of not in (None, request.n_choices),
        "suffix": request.suffix is not None,
        "presence_penalty": bool(request.presence_penalty),
        "frequency_penalty": bool(request.frequency_penalty),
        "logit_bias": bool(request.logit_bias),
    }
    for name in (name for name, is_asked in asked.items() if is_asked):
        raise ApiError(400, f"{name} is not supported", param=name, code="unsupported_parameter")
    if request.stream_options is not None and not request.stream:
        message = "stream_options is only for stream=true"
        raise ApiError(400, message, param="stream_options")


def encode_prompt(prompt: str | list[int], served: Served, max_tokens: int) -> list[int]:
    """Token ids of a prompt; ApiError where they are none, or leave no room for the reply."""
    ids = prompt if isinstance(prompt, list) else encode_text(prompt, served)
    if not all(0 <= token < VOCAB_SIZE for token in ids):
        message = f"a token id is not GPT-2's; they go from 0 to {EOT}"
        raise ApiError(400, message, param="prompt")
    if len(ids) + max_tokens > served.context:
        message = (
            f"a prompt of {len(ids)} tokens and max_tokens {max_tokens} exceed the context of "
            f"{served.context}; shorten the prompt or lower max_tokens"
        )
        param = "max_tokens" if len(ids) < served.context else "prompt"
        raise ApiError(400, message, param=param, code="context_length_exceeded")
    return ids


def encode_text(prompt: str, served: Served) -> list[int]:
    """Token ids of a text; ApiError where it need not be encoded to see that it cannot fit."""
    most = LONGEST_TOKEN_BYTES * served.context
    try:
        too_long = len(prompt) > most or len(prompt.encode()) > most
    except UnicodeEncodeError:
        message = "the prompt holds half of a surrogate pair, which is no character"
        raise ApiError(400, message, param="prompt") from None
    if too_long:
        message = f"the prompt has more than {most} bytes, which no {served.context} tokens hold"
        raise ApiError(400, message, param="prompt", code="context_length_exceeded")
    return served.scorer.tokenizer.encode(prompt) or [EOT]


class Completions:
    """One request on its way: its prompts and choices, and the chunks or the body made of them."""

    def __init__(self, service: Service, request: CompletionRequest) -> None:
        self._service, self._request = service, request
        self._served = service.served(request.model)
        check_supported(request)
        self.stream = bool(request.stream)
        self.n_replies = len(request.prompts) * request.n_choices
        self._head = {
            "id": f"cmpl-{uuid.uuid4().hex}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": self._served.name,
            "system_fingerprint": self._served.fingerprint[:16],
        }

    async def work(self, emit: Emit) -> dict[str, Any]:
        """Write all choices; the whole body."""
        request, tokenizer = self._request, self._served.scorer.tokenizer
        try:
            settings = [request.sampling(n) for n in range(self.n_replies)]
        except ConfigError as error:
            raise setting_refused(error) from None
        most = settings[0].max_new_tokens
        encode = partial(encode_prompt, served=self._served, max_tokens=most)
        prompts = await together([asyncio.to_thread(encode, p) for p in request.prompts])
        choices = [
            Choice(self._head, n, prompts[n // request.n_choices], settings[n], request, tokenizer)
            for n in range(self.n_replies)
        ]
        bodies = await together([self._write(choice, emit) for choice in choices])
        body = {**self._head, "choices": bodies, "usage": self._usage(prompts, choices)}
        if request.stream_options is not None and request.stream_options.include_usage:
            emit({**body, "choices": []})
        return body

    async def _write(self, choice: "Choice", emit: Emit) -> dict[str, Any]:
        prompt_log_probs: list[TokenLogProb | None] = []
        k = self._request.logprobs
        if self._request.echo and k is not None:
            compute = partial(log_probs_of_prompt, prompt=choice.prompt, n_top=k)
            prompt_log_probs = [None, *await self._service.worker.compute(compute)]
        if first := choice.echo(prompt_log_probs):
            emit(first)
        await self._service.reply(
            choice.prompt, choice.sampling, on_piece=lambda piece: choice.add(piece, emit)
        )
        return choice.body()

    def _usage(self, prompts: Sequence[list[int]], choices: Sequence["Choice"]) -> dict[str, int]:
        return usage(sum(map(len, prompts)), sum(len(choice.finished.ids) for choice in choices))


def usage(prompt_tokens: int, completion_tokens: int) -> dict[str, int]:
    """OpenAI's usage object."""
    total = prompt_tokens + completion_tokens
    counted = {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens}
    return {**counted, "total_tokens": total}


class Choice:
    """One reply, and how it is told."""

    def __init__(
        self,
        head: dict[str, Any],
        index: int,
        prompt: list[int],
        sampling: Sampling,
        request: CompletionRequest,
        tokenizer: Tokenizer,
    ) -> None:
        self._head, self._index, self.prompt = head, index, prompt
        self.sampling, self._tokenizer = sampling, tokenizer
        self._echo = bool(request.echo)
        usage_asked = request.stream_options is not None and request.stream_options.include_usage
        self._usage = {"usage": None} if usage_asked else {}
        self._told = LogProbs(tokenizer)
        self._text = ""
        self.finished = Finished()

    def echo(self, log_probs: Sequence[TokenLogProb | None]) -> dict[str, Any] | None:
        """The chunk that repeats the prompt, where that is asked for."""
        if not self._echo:
            return None
        self._text = self._tokenizer.decode(self.prompt)
        told = self._told.add(self.prompt, log_probs) if log_probs else None
        return self._chunk(self._text, told, None)

    def add(self, piece: Piece, emit: Emit) -> None:
        """Take what a step gave, and emit it where it can be seen."""
        self.finished.add(piece)
        self._text += piece.text
        wanted = self.sampling.log_probs is not None and piece.ids
        told = self._told.add(piece.ids, piece.log_probs) if wanted else None
        if piece.text or told or piece.finish_reason:
            emit(self._chunk(piece.text, told, piece.finish_reason))

    def body(self) -> dict[str, Any]:
        """The whole choice."""
        told = self._told.all() if self.sampling.log_probs is not None else None
        reason = self.finished.finish_reason
        return {"text": self._text, **self._parts(told, reason)}

    def _chunk(self, text: str, told: Any, finish_reason: str | None) -> dict[str, Any]:
        choice = {"text": text, **self._parts(told, finish_reason)}
        return {**self._head, "choices": [choice], **self._usage}

    def _parts(self, told: Any, finish_reason: str | None) -> dict[str, Any]:
        return {"index": self._index, "logprobs": told, "finish_reason": finish_reason}


class LogProbs:
    """OpenAI's logprobs object, growing: four lists of one length."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._length = 0  # of the text so far
        self._lists: dict[str, list[Any]] = {
            name: [] for name in ("tokens", "token_logprobs", "top_logprobs", "text_offset")
        }

    def add(self, ids: Sequence[int], found: Sequence[TokenLogProb | None]) -> dict[str, Any]:
        """What these tokens add."""
        before = len(self._lists["tokens"])
        for token, one in zip(ids, found, strict=True):
            self._lists["tokens"].append(self._name(token))
            self._lists["text_offset"].append(self._length)
            self._length += len(self._decoder.decode(self._tokenizer.decode_bytes([token])))
            self._lists["token_logprobs"].append(one and one.log_prob)
            top = {} if one is None else {**dict(one.top), one.token: one.log_prob}
            named = {self._name(other): value for other, value in top.items()}
            self._lists["top_logprobs"].append(named if one is not None else None)
        return {name: values[before:] for name, values in self._lists.items()}

    def all(self) -> dict[str, Any]:
        """Of all tokens so far."""
        return dict(self._lists)

    def _name(self, token: int) -> str:
        """A token's text, or where that is no whole character its bytes, as OpenAI spells them."""
        content = self._tokenizer.decode_bytes([token])
        try:
            return content.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in content)


def log_probs_of_prompt(served: Served, *, prompt: Sequence[int], n_top: int) -> list[TokenLogProb]:
    """What the model thinks of each prompt token but the first, given those before it."""
    scorer = served.scorer
    with torch.no_grad():
        logits_TV = scorer.model(torch.tensor([prompt], device=scorer.rt.device))[0]
        return [
            log_prob_of(logits_V, token, n_top)
            for logits_V, token in zip(logits_TV[:-1], prompt[1:], strict=True)
        ]
