"""The decoding engine: requests in, tokens and text out, any number of them at once.

It knows no GPT: anything will do that appends tokens to the rows of a cache and gives the logits
behind them. Requests take a row of the cache as one gets free and leave it when they end, at any
step (continuous batching: Yu et al. 2022, "Orca", section 3.1). Nothing here trims: a prompt that
does not fit is refused with both numbers. R rows, V the vocabulary.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from clingpt.base.errors import ClingptError, DataError
from clingpt.decoding.sampling import Chooser, Sampling, TokenLogProb, checked, log_prob_of
from clingpt.text.tokenizer import EOT, VOCAB_SIZE, TextStream, Tokenizer

# Prompts come in pieces of so many tokens, or a multiple; model.ATTENDED says why it is this many.
PIECE = 128
PREFILL_TOKENS = 2048  # of prompts in a step, all rows together: bounds memory and waiting


FinishReason = Literal["stop", "length", "cancelled", "error"]


def check_fits(prompt: Sequence[int], max_new_tokens: int, context: int) -> None:
    """Raise DataError if a prompt is empty, has ids outside the vocabulary, or is too long."""
    if not prompt:
        raise DataError("a prompt is empty; give at least one token")
    if not (0 <= min(prompt) and max(prompt) < VOCAB_SIZE):
        raise DataError(f"a prompt has a token id outside GPT-2's vocabulary (0 to {EOT})")
    if len(prompt) + max_new_tokens > context:
        raise DataError(
            f"a prompt of {len(prompt)} tokens and {max_new_tokens} new ones exceed the "
            f"context of {context}; shorten the prompt or lower max_new_tokens"
        )


class Cache(Protocol):
    """Rows that tokens are appended to."""

    def clear(self, row: int) -> None:
        """Empty a row."""
        ...


class Decoder(Protocol):
    """What decoding needs of a model; model.GPT is one, a five-line fake another."""

    def new_cache(self, *, rows: int, capacity: int) -> Any: ...

    def step(
        self, ids: Mapping[int, Sequence[int]], cache: Any, among: Sequence[int] | None = None
    ) -> Tensor:
        """Append tokens to rows; logits (len(ids), V) behind the last one of each, in their order,
        or of the tokens `among` alone."""
        ...


@dataclass(frozen=True)
class Completion:
    """A reply: its tokens (no end of text), its text (no stop string), and why it ended."""

    ids: list[int]
    text: str
    finish_reason: FinishReason
    stopped_by: str | None = None  # the stop string; None: the end of text, or not at all
    log_probs: list[TokenLogProb] = field(default_factory=list)  # one a token, where asked for


class Reply:
    """A reply in the making."""

    def __init__(
        self,
        prompt: Sequence[int],
        sampling: Sampling,
        tokenizer: Tokenizer,
        first_among: tuple[int, ...] = (),
    ) -> None:
        self.prompt, self.sampling = list(prompt), sampling
        self.first_among = first_among  # tokens of which it begins with the likeliest; (): any
        self.first_log_probs: list[float] = []  # of these, among them
        self.ids: list[int] = []
        self.log_probs: list[TokenLogProb] = []
        self.new_text = ""  # what the last step added
        self.finish_reason: FinishReason | None = None
        self.error: ClingptError | None = None  # why it could not go on
        self._fed = 0  # tokens of prompt and reply that the cache holds
        self._chooser = Chooser(sampling, prompt)
        self._stream = TextStream(tokenizer, sampling.stop)

    @property
    def n_waiting(self) -> int:
        """Prompt tokens that the cache does not hold yet."""
        return max(0, len(self.prompt) - self._fed)

    def feed(self, most: int) -> list[int]:
        """The next tokens for the cache: a piece of the prompt, or the last token chosen."""
        if not self.n_waiting:
            return self.ids[-1:]
        piece = self.prompt[self._fed : self._fed + most]
        self._fed += len(piece)
        return piece

    @property
    def next_among(self) -> tuple[int, ...] | None:
        """The tokens that the next one is chosen from; None: all."""
        return self.first_among if self.first_among and not (self.ids or self.n_waiting) else None

    def take(self, logits_V: Tensor, highest: float, best: int) -> None:
        """Choose a token; `best` is the place of the highest logit, which is `highest`.

        The logits are those of `next_among` where it names some.
        """
        sampling, among = self.sampling, self.next_among
        if among is not None:
            token = among[checked(highest, best)]
            self.first_log_probs = logits_V.float().log_softmax(0).tolist()
        elif sampling.is_plain:
            token = checked(highest, best)
        else:
            token = self._chooser.choose(logits_V)
        self.new_text = ""
        if token == EOT and not sampling.ignore_end:
            self.end("stop")
            return
        self.ids.append(token)
        if sampling.log_probs is not None and among is None:
            self.log_probs.append(log_prob_of(logits_V, token, sampling.log_probs))
        self.new_text = self._stream.push(token)
        if self._stream.stopped_by is not None:
            self.finish_reason = "stop"
        elif len(self.ids) == sampling.max_new_tokens:
            self.end("length")

    def end(self, reason: FinishReason) -> None:
        """No more tokens; what was held back in case of a stop string is text after all."""
        self.new_text += self._stream.end()
        self.finish_reason = reason

    def completion(self) -> Completion:
        """What has come of it."""
        stream = self._stream
        reason = self.finish_reason or "cancelled"
        return Completion(self.ids, stream.text, reason, stream.stopped_by, self.log_probs)


class Engine:
    """Decodes many requests, each in a row of one cache.

    A reply, greedy or sampled, is the same bits in any row and any company, wherever the decoder's
    own are (docs/results.md says where). Not thread-safe: one thread owns it.
    """

    def __init__(
        self,
        decoder: Decoder,
        tokenizer: Tokenizer,
        *,
        rows: int,
        context: int,
        prefill_tokens: int = PREFILL_TOKENS,
    ) -> None:
        self._decoder, self._tokenizer, self._context = decoder, tokenizer, context
        self._prefill_tokens = max(PIECE, prefill_tokens)
        self._cache = decoder.new_cache(rows=rows, capacity=context)
        self._free = list(range(rows))[::-1]
        self._waiting: deque[Reply] = deque()
        self._at_work: dict[int, Reply] = {}

    @property
    def n_waiting(self) -> int:
        """Requests without a row."""
        return len(self._waiting)

    @property
    def n_at_work(self) -> int:
        """Requests with a row."""
        return len(self._at_work)

    def submit(
        self, prompt: Sequence[int], sampling: Sampling, first_among: tuple[int, ...] = ()
    ) -> Reply:
        """Take on a request; DataError where it does not fit the context."""
        check_fits(prompt, sampling.max_new_tokens, self._context)
        reply = Reply(prompt, sampling, self._tokenizer, first_among)
        self._waiting.append(reply)
        return reply

    def cancel(self, reply: Reply) -> None:
        """End a reply; its row is free for the next step."""
        if reply.finish_reason is not None:
            return
        reply.new_text = ""
        reply.end("cancelled")
        if reply in self._waiting:
            self._waiting.remove(reply)
        for row in [row for row, other in self._at_work.items() if other is reply]:
            self._release(row)

    def step(self) -> list[Reply]:
        """One step of the model for all rows; the replies that got a token or came to their end.

        Where it fails, whatever the reason, those that have a row are cancelled: what their rows
        hold is not known any more. Others can go on.
        """
        while self._free and self._waiting:
            self._at_work[self._free.pop()] = self._waiting.popleft()
        if not self._at_work:
            if self._waiting:  # a caller that steps until all is done would never end
                raise RuntimeError(f"{len(self._waiting)} requests wait for a row; there is none")
            return []
        try:
            return self._take_step(self._next_tokens())
        except BaseException:
            for reply in list(self._at_work.values()):
                self.cancel(reply)
            raise

    @torch.no_grad()
    def _take_step(self, fed: Mapping[int, Sequence[int]]) -> list[Reply]:
        groups: dict[tuple[int, ...] | None, dict[int, Sequence[int]]] = {}
        for row, tokens in fed.items():
            groups.setdefault(self._at_work[row].next_among, {})[row] = tokens
        moved = []
        for among, group in groups.items():
            logits_RV = self._decoder.step(group, self._cache, among)
            highest_R, best_R = (x.tolist() for x in logits_RV.max(dim=-1))
            for row, *choice in zip(group, logits_RV, highest_R, best_R, strict=True):
                if not self._at_work[row].n_waiting:
                    moved.append(self._choose(row, *choice))
        return moved

    def _choose(self, row: int, logits_V: Tensor, highest: float, best: int) -> Reply:
        reply = self._at_work[row]
        try:
            reply.take(logits_V, highest, best)
        except ClingptError as error:  # of this reply alone
            reply.error = error
            reply.end("error")
        if reply.finish_reason is not None:
            self._release(row)
        return reply

    def _next_tokens(self) -> dict[int, list[int]]:
        """Each row's tokens for a step: a token, or of a prompt as much as there is room for.

        Prompts that came first go first.
        """
        fed, room = {}, self._prefill_tokens
        for row, reply in self._at_work.items():
            if reply.n_waiting and room < min(PIECE, reply.n_waiting):
                continue
            most = room if room >= reply.n_waiting else room // PIECE * PIECE
            room -= min(most, reply.n_waiting)
            fed[row] = reply.feed(most)
        return fed

    def _release(self, row: int) -> None:
        del self._at_work[row]
        try:
            self._cache.clear(row)
        finally:
            self._free.append(row)
            self._free.sort(reverse=True)


OnReply = Callable[[int, Reply], None]  # a prompt's number and its reply, after each token


def generate(
    decoder: Decoder,
    tokenizer: Tokenizer,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    *,
    context: int,
    rows: int = 16,
    seeds: Sequence[int] | None = None,
    on_reply: OnReply | None = None,
) -> list[Completion]:
    """A reply to each prompt; number n samples with a seed of its own, `sampling.seed + n`.

    `rows` at once, the longest prompt first: memory peaks at the start, and the short ones fill up.
    """
    for prompt in prompts:
        check_fits(prompt, sampling.max_new_tokens, context)
    if not prompts:
        return []
    capacity, rows = max(map(len, prompts)) + sampling.max_new_tokens, min(rows, len(prompts))
    engine = Engine(decoder, tokenizer, rows=rows, context=capacity)
    return answer_all(engine, prompts, sampling, seeds=seeds, on_reply=on_reply)


def answer_all(
    engine: Engine,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    *,
    seeds: Sequence[int] | None = None,
    on_reply: OnReply | None = None,
) -> list[Completion]:
    """As `generate`, by an engine that is there and has nothing else to do."""
    replies: dict[int, Reply] = {}
    for n in by_length(prompts):
        seed = sampling.seed + n if seeds is None else seeds[n]
        replies[n] = engine.submit(prompts[n], replace(sampling, seed=seed))
    numbers = {id(reply): n for n, reply in replies.items()}
    while engine.n_waiting or engine.n_at_work:
        for reply in engine.step():
            if reply.error is not None:
                raise reply.error
            if on_reply:
                on_reply(numbers[id(reply)], reply)
    return [replies[n].completion() for n in range(len(prompts))]


def by_length(prompts: Sequence[Sequence[int]]) -> list[int]:
    """The numbers of the prompts, the longest first."""
    return sorted(range(len(prompts)), key=lambda n: -len(prompts[n]))
