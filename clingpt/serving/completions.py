"""POST /v1/completions in OpenAI's format: requests, choices, log-probabilities, streamed chunks.

platform.openai.com/docs/api-reference/completions. Parameters that this server does not support are
refused by name, never ignored. Of vLLM's additions it supports top_k, min_p and repetition_penalty.
"""

import asyncio
import codecs
import time
import uuid
from collections.abc import Sequence
from typing import Any

import torch

from clingpt.base.errors import ConfigError
from clingpt.decoding.engine import of_tokens
from clingpt.decoding.sampling import Sampling, TokenLogProb, log_prob_of
from clingpt.serving.errors import ApiError, invalid_setting, unsupported_field
from clingpt.serving.responses import Emit, run_together
from clingpt.serving.schemas import CompletionRequest, usage
from clingpt.serving.service import Finished, Service
from clingpt.serving.worker import Piece, Served
from clingpt.text.tokenizer import Tokenizer


def check_supported(request: CompletionRequest) -> None:
    """Raise ApiError for parameters of OpenAI's API that this server does not support."""
    unsupported = {
        "best_of": request.best_of not in (None, request.n_choices),
        "suffix": bool(request.suffix),
        "presence_penalty": bool(request.presence_penalty),
        "frequency_penalty": bool(request.frequency_penalty),
        "logit_bias": bool(request.logit_bias),
    }
    for name, is_used in unsupported.items():
        if is_used:
            raise unsupported_field(name, type(request).model_fields)
    if request.longest_reply == 0 and not request.echo:
        message = "max_tokens=0 requires echo=true, which returns the prompt"
        raise ApiError(400, message, param="max_tokens")
    if request.stream_options is not None and not request.stream:
        message = "stream_options requires stream=true"
        raise ApiError(400, message, param="stream_options")
    if request.stream_options is not None and request.stream_options.include_obfuscation:
        raise unsupported_field("include_obfuscation", type(request.stream_options).model_fields)


def encode_prompt(prompt: str | list[int], served: Served, max_tokens: int) -> list[int]:
    """Return a prompt's token ids; raise ApiError if they are invalid or too many."""
    tokenizer = served.scorer.tokenizer
    if isinstance(prompt, list):
        ids = prompt
        if not tokenizer.has(ids):
            message = (
                f"a token id is not in the vocabulary of {tokenizer.name} "
                f"(0 to {tokenizer.size - 1})"
            )
            raise ApiError(400, message, param="prompt")
    else:
        # Tokenising takes time, so a text that is too long in bytes is refused without it.
        max_bytes = tokenizer.longest * served.context
        try:
            too_long = len(prompt) > max_bytes or len(prompt.encode()) > max_bytes
        except UnicodeEncodeError:
            message = "the prompt contains an unpaired surrogate, which is not a character"
            raise ApiError(400, message, param="prompt") from None
        if too_long:
            message = (
                f"the prompt has more than {max_bytes} bytes and cannot fit into a context of "
                f"{served.context} tokens"
            )
            raise ApiError(400, message, param="prompt", code="context_length_exceeded")
        ids = tokenizer.encode(prompt) or [tokenizer.eot]
    if len(ids) + max_tokens > served.context:
        message = (
            f"a prompt of {len(ids)} tokens and max_tokens={max_tokens} exceed the context of "
            f"{served.context}; shorten the prompt or lower max_tokens"
        )
        param = "max_tokens" if len(ids) < served.context else "prompt"
        raise ApiError(400, message, param=param, code="context_length_exceeded")
    return ids


class Completions:
    """One request: its prompts and choices, and the chunks or the body made from them."""

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
        """Decode all choices and return the response's body."""
        request, served = self._request, self._served
        try:
            settings = [request.sampling(n) for n in range(self.n_replies)]
        except ConfigError as error:
            raise invalid_setting(error) from None
        longest = request.longest_reply
        prompts = await run_together(
            [asyncio.to_thread(encode_prompt, p, served, longest) for p in request.prompts]
        )
        tokenizer = served.scorer.tokenizer
        choices = [
            Choice(n, prompts[n // request.n_choices], settings[n], tokenizer)
            for n in range(self.n_replies)
        ]
        bodies = await run_together([self._decode(choice, emit) for choice in choices])
        n_written = sum(len(choice.finished.ids) for choice in choices)
        counts = usage(sum(map(len, prompts)), n_written)
        if request.include_usage:
            emit({**self._head, "choices": [], "usage": counts})
        return {**self._head, "choices": bodies, "usage": counts}

    async def _decode(self, choice: "Choice", emit: Emit) -> dict[str, Any]:
        counts = {"usage": None} if self._request.include_usage else {}

        def emit_chunk(new: dict[str, Any]) -> None:
            emit({**self._head, "choices": [new], **counts})

        if self._request.echo:
            log_probs: list[TokenLogProb | None] = []
            if (n_top := self._request.logprobs) is not None:
                found = await self._service.worker.compute(
                    lambda served: prompt_log_probs(served, choice.prompt, n_top)
                )
                log_probs = [None, *found]
            emit_chunk(choice.echo(log_probs))

        def on_piece(piece: Piece) -> None:
            if new := choice.add(piece):
                emit_chunk(new)

        if self._request.longest_reply == 0:
            on_piece(Piece("", (), (), "length"))
        else:
            await self._service.reply(choice.prompt, choice.sampling, on_piece=on_piece)
        return choice.body()


class Choice:
    """One reply of a completion: the parts that are streamed, and the whole."""

    def __init__(
        self, index: int, prompt: list[int], sampling: Sampling, tokenizer: Tokenizer
    ) -> None:
        self._index, self.prompt, self.sampling = index, prompt, sampling
        self._tokenizer, self._log_probs = tokenizer, LogProbs(tokenizer)
        self._text = ""
        self.finished = Finished()

    def echo(self, log_probs: Sequence[TokenLogProb | None]) -> dict[str, Any]:
        """Add the prompt to the reply's text and return it as a part."""
        self._text = self._tokenizer.decode(self.prompt)
        new = self._log_probs.add(self.prompt, log_probs) if log_probs else None
        return self._part(self._text, new, None)

    def add(self, piece: Piece) -> dict[str, Any] | None:
        """Add what one step of the engine produced, and return it unless it is empty."""
        self.finished.add(piece)
        self._text += piece.text
        has_log_probs = self.sampling.log_probs is not None and piece.ids
        new = self._log_probs.add(piece.ids, piece.log_probs) if has_log_probs else None
        if not (piece.text or new or piece.finish_reason):
            return None
        return self._part(piece.text, new, piece.finish_reason)

    def body(self) -> dict[str, Any]:
        """Return the complete choice."""
        log_probs = self._log_probs.lists if self.sampling.log_probs is not None else None
        return self._part(self._text, log_probs, self.finished.finish_reason)

    def _part(self, text: str, log_probs: Any, finish_reason: str | None) -> dict[str, Any]:
        fields = {"text": text, "index": self._index, "logprobs": log_probs}
        return {**fields, "finish_reason": finish_reason}


class LogProbs:
    """OpenAI's logprobs object, which grows token by token: four lists of equal length."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._n_characters = 0  # of the text so far
        names = ("tokens", "token_logprobs", "top_logprobs", "text_offset")
        self.lists: dict[str, list[Any]] = {name: [] for name in names}

    def add(self, ids: Sequence[int], found: Sequence[TokenLogProb | None]) -> dict[str, Any]:
        """Append tokens and return the part of each list that is new."""
        before = len(self.lists["tokens"])
        for token, one in zip(ids, found, strict=True):
            self.lists["tokens"].append(self._name(token))
            self.lists["text_offset"].append(self._n_characters)
            self._n_characters += len(self._decoder.decode(self._tokenizer.decode_bytes([token])))
            if one is None:  # the first token of a prompt has nothing before it
                self.lists["token_logprobs"].append(None)
                self.lists["top_logprobs"].append(None)
                continue
            self.lists["token_logprobs"].append(one.log_prob)
            top = {**dict(one.top), one.token: one.log_prob}
            self.lists["top_logprobs"].append({self._name(k): value for k, value in top.items()})
        return {name: values[before:] for name, values in self.lists.items()}

    def _name(self, token: int) -> str:
        """Return a token's text, or OpenAI's spelling of its bytes if they are not valid UTF-8."""
        content = self._tokenizer.decode_bytes([token])
        try:
            return content.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in content)


@torch.no_grad()
def prompt_log_probs(served: Served, prompt: Sequence[int], n_top: int) -> list[TokenLogProb]:
    """Return the log-probability of each prompt token after the first, given those before it."""
    scorer = served.scorer
    logits_1TV = scorer.model(torch.tensor([prompt], device=scorer.rt.device))
    logits_TV = of_tokens(logits_1TV[0], scorer.tokenizer)
    return [
        log_prob_of(logits_V, token, n_top)
        for logits_V, token in zip(logits_TV[:-1], prompt[1:], strict=True)
    ]
