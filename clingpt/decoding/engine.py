"""The decoding engine: many requests at once, each in a row of one static KV cache.

    engine = Engine(model, tokenizer, rows=8, context=1024)
    reply = engine.submit(tokenizer.encode("Metformin is"), Sampling(max_new_tokens=40))
    while reply.finish_reason is None:
        engine.step()                # one forward pass for all requests, at most one new token each
    print(reply.completion().text)

`sample.py`, `eval.py` and the server all generate through this file. Read `Engine.step` first: it
admits waiting requests to free rows, feeds prompts to the cache in pieces (prefill) alongside rows
that are already generating, runs the model once, chooses a token for each row and frees the rows of
replies that have ended. Requests join and leave at any step (continuous batching: Yu et al. 2022,
"Orca", section 3.1), so a short reply never waits for a long one. `Engine.cancel` ends a reply
early.

The engine does not know GPT: a `Decoder` appends tokens to rows of a cache and returns logits.
Shapes: R rows of a step, V the vocabulary, L labels.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from clingpt.base.errors import ClingptError, DataError
from clingpt.decoding.sampling import Chooser, Sampling, TokenLogProb, log_prob_of, require_finite
from clingpt.text.tokenizer import TextStream, Tokenizer

# A long prompt is fed in multiples of this many tokens. It is a multiple of model.ATTENDED, the
# queries that share one attention call, so that a prompt fed in pieces gets the same kernel calls,
# and therefore the same bits, as one fed whole.
PIECE = 128
# Prompt tokens in one step, all rows together. This bounds the memory of a step and how long rows
# that are already generating wait for their next token.
PREFILL_TOKENS = 2048

Labels = Sequence[Sequence[int]]  # the tokens of each label
FinishReason = Literal["stop", "length", "cancelled", "error"]


class Decoder(Protocol):
    """The model as the engine sees it: `model.GPT`, a CUDA-graph wrapper, or a fake in tests."""

    def new_cache(self, *, rows: int, capacity: int) -> Any:
        """Allocate keys and values for `rows` sequences of up to `capacity` tokens.

        The cache has the methods `clear(row)` and `rewind(row, n_tokens)`. It is allocated once and
        never grows: appending with torch.cat would copy every layer at every token.
        """
        ...

    def step(
        self, ids: Mapping[int, Sequence[int]], cache: Any, among: Sequence[int] | None = None
    ) -> Tensor:
        """Append tokens to some rows and return logits (R, V) after the last token of each.

        R counts the rows in `ids`, in their order. With `among`, only the logits of those tokens
        are computed (R, len(among)).
        """
        ...


@dataclass(frozen=True)
class Completion:
    """A finished reply: its tokens (without the end of text) and its text (without stop string)."""

    ids: list[int]
    text: str
    finish_reason: FinishReason
    stopped_by: str | None = None  # None if no stop string ended it
    log_probs: list[TokenLogProb] = field(default_factory=list)  # one per token if requested


class Reply:
    """One request and the state of its reply, from `Engine.submit` until it has ended."""

    def __init__(
        self,
        prompt: Sequence[int],
        sampling: Sampling,
        tokenizer: Tokenizer,
        first_among: Labels = (),
    ) -> None:
        self.prompt, self.sampling = list(prompt), sampling
        self.first_among = first_among  # the reply must begin with one of these; (): with any token
        self.first_log_probs: list[float] = []  # of `first_among`, normalised over them
        self.ids: list[int] = []
        self.log_probs: list[TokenLogProb] = []
        self.new_text = ""  # text that the latest step added
        self.finish_reason: FinishReason | None = None  # None until it ends
        self.error: ClingptError | None = None  # set together with the finish reason "error"
        self.n_cached = 0  # tokens already in the cache, of the prompt and then of the reply
        # Each reply has its own random numbers, so that a sampled reply does not depend on others.
        self._chooser = Chooser(sampling, prompt)
        self._ends = tokenizer.ends
        # Holds back half characters and what may turn out to be the start of a stop string.
        self._stream = TextStream(tokenizer, sampling.stop)

    @property
    def n_to_prefill(self) -> int:
        """Number of prompt tokens that are not in the cache yet."""
        return max(0, len(self.prompt) - self.n_cached)

    @property
    def awaits_label(self) -> bool:
        """Whether the next tokens are one of `first_among`."""
        return bool(self.first_among) and not (self.ids or self.n_to_prefill)

    @property
    def next_among(self) -> tuple[int, ...] | None:
        """The tokens that the next one is chosen from; None for the whole vocabulary."""
        return single_tokens(self.first_among) if self.awaits_label else None

    def take(self, logits_V: Tensor, highest: float, best: int) -> None:
        """Choose the next token from its logits, or end the reply.

        `highest` is the largest of `logits_V` and `best` its index. The logits are those of the
        tokens in `next_among` unless that is None. Raises CheckpointError if they are not finite.
        """
        sampling, among = self.sampling, self.next_among
        if among is not None:
            token = among[require_finite(highest, best)]
            self.first_log_probs = logits_V.float().log_softmax(0).tolist()
        elif sampling.is_greedy:
            token = require_finite(highest, best)
        else:
            token = self._chooser.choose(logits_V)
        self.new_text = ""
        if token in self._ends and not sampling.ignore_end:
            self.end("stop")
            return
        if sampling.log_probs is not None and among is None:
            self.log_probs.append(log_prob_of(logits_V, token, sampling.log_probs))
        self._append([token])

    def take_label(self, log_probs_L: Tensor) -> None:
        """Begin with the most probable of `first_among`, given all their log-probabilities.

        Raises CheckpointError if they are not finite.
        """
        highest, best = log_probs_L.max(0)
        label = self.first_among[require_finite(float(highest), int(best))]
        self.first_log_probs = log_probs_L.tolist()
        self.new_text = ""
        self._append(label)

    def _append(self, tokens: Sequence[int]) -> None:
        """Append tokens to the reply, and end it at a stop string or at its longest length."""
        for token in tokens:
            self.ids.append(token)
            self.new_text += self._stream.push(token)
        if self._stream.stopped_by is not None:
            self.finish_reason = "stop"  # not `end`, which would release the withheld stop string
        elif len(self.ids) >= self.sampling.max_new_tokens:
            self.end("length")

    def end(self, reason: FinishReason) -> None:
        """Accept no more tokens; release text held back as the possible start of a stop string."""
        self.new_text += self._stream.end()
        self.finish_reason = reason

    def completion(self) -> Completion:
        """The reply as it is now; one that has not ended counts as cancelled."""
        reason = self.finish_reason or "cancelled"
        stream = self._stream
        return Completion(self.ids, stream.text, reason, stream.stopped_by, self.log_probs)


class Engine:
    """Continuous batching over the rows of one cache.

    Batch-invariant: in fp32 on the CPU a reply, greedy or sampled, has the same bits in any row and
    next to any other requests. Evaluation results then do not depend on the batch size, and a reply
    can be reproduced alone. The decoder does its part (attention runs row by row, and linear layers
    sum in an order that does not depend on the number of rows), and the engine does the rest with
    separate random numbers for each reply and pieces of a fixed size. Measurements are in
    docs/results.md.

    Not thread-safe: one thread owns an engine.
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
        self._free = list(range(rows))[::-1]  # descending, so that pop() takes the lowest row
        self._waiting: deque[Reply] = deque()
        self._at_work: dict[int, Reply] = {}  # by row, in the order of admission

    @property
    def n_waiting(self) -> int:
        """Number of requests waiting for a row."""
        return len(self._waiting)

    @property
    def n_at_work(self) -> int:
        """Number of requests that have a row."""
        return len(self._at_work)

    def submit(self, prompt: Sequence[int], sampling: Sampling, first_among: Labels = ()) -> Reply:
        """Queue a request; raise DataError if prompt and longest reply do not fit the context.

        With `first_among`, the reply begins with the most probable of these sequences, whole even
        if it exceeds `max_new_tokens`. The engine never trims: what may be left out of a prompt is
        for its task to decide.
        """
        longest = max([sampling.max_new_tokens, *map(len, first_among)])
        check_fits(prompt, longest, self._context, self._tokenizer)
        reply = Reply(prompt, sampling, self._tokenizer, first_among)
        self._waiting.append(reply)
        return reply

    def cancel(self, reply: Reply) -> None:
        """End a reply early, for example because its client has disconnected.

        The reply keeps its text so far, and its row is free for the next step. Cancelling a reply
        that has ended does nothing.
        """
        if reply.finish_reason is not None:
            return
        reply.new_text = ""
        reply.end("cancelled")
        if reply in self._waiting:
            self._waiting.remove(reply)
        for row in [row for row, other in self._at_work.items() if other is reply]:
            self._release(row)

    @torch.no_grad()
    def step(self) -> list[Reply]:
        """Run the model once for all rows; return the replies that got a token or ended.

        If the model fails, every reply that has a row is cancelled, because an interrupted forward
        pass leaves unknown keys and values in their rows. "cancelled" and not "error", because the
        exception itself tells the caller why. Waiting requests can still be answered.
        """
        # Admit: waiting requests take free rows, first come, first served.
        while self._free and self._waiting:
            self._at_work[self._free.pop()] = self._waiting.popleft()
        if not self._at_work:
            if self._waiting:  # an engine without rows: the caller's loop would never end
                raise RuntimeError(
                    f"{len(self._waiting)} requests wait for a row, but the engine has none"
                )
            return []
        try:
            return self._run_model(self._next_tokens())
        except BaseException:  # KeyboardInterrupt too, which may arrive during a forward pass
            for reply in list(self._at_work.values()):
                self.cancel(reply)
            raise

    def _next_tokens(self) -> dict[int, list[int]]:
        """Choose what to append to each row: its latest token, or the next piece of its prompt.

        Prompts share a budget of tokens, and those admitted first are served first. A row whose
        piece does not fit the budget sits this step out.
        """
        ids, room = {}, self._prefill_tokens
        for row, reply in self._at_work.items():
            n_left = reply.n_to_prefill
            if not n_left:
                # Chosen by the step before, and not in the cache yet: one token, or a label.
                ids[row] = reply.ids[reply.n_cached - len(reply.prompt) :]
                reply.n_cached += len(ids[row])
                continue
            # The last piece of a prompt may have any length; all others are multiples of PIECE.
            n = n_left if n_left <= room else room // PIECE * PIECE
            if n:
                ids[row] = reply.prompt[reply.n_cached : reply.n_cached + n]
                reply.n_cached += n
                room -= n
        return ids

    def _run_model(self, ids: Mapping[int, Sequence[int]]) -> list[Reply]:
        """Append tokens to rows, then choose the next token of each row with a complete prompt."""
        # A reply that must begin with one of a few tokens (a label) needs only their logits, so it
        # goes through a separate forward pass. Usually all rows are in one group.
        groups: dict[tuple[int, ...] | None, dict[int, Sequence[int]]] = {}
        for row, tokens in ids.items():
            groups.setdefault(self._at_work[row].next_among, {})[row] = tokens
        moved = []
        for among, group in groups.items():
            logits_RV = self._decoder.step(group, self._cache, among)
            labels_L = {
                row: sequence_log_probs(
                    self._decoder, self._cache, [row], logits_V[None], reply.first_among
                )[0]
                for row, logits_V in zip(group, logits_RV, strict=True)
                if among is None and (reply := self._at_work[row]).awaits_label
            }
            if among is None:
                logits_RV = of_tokens(logits_RV, self._tokenizer)
            # One transfer from the GPU for all rows; greedy replies need nothing else.
            highest_R, best_R = (x.tolist() for x in logits_RV.max(dim=-1))
            for row, *choice in zip(group, logits_RV, highest_R, best_R, strict=True):
                reply = self._at_work[row]
                if reply.n_to_prefill:
                    continue  # logits inside a prompt predict a token that is already known
                try:
                    if row in labels_L:
                        reply.take_label(labels_L[row])
                    else:
                        reply.take(*choice)
                except ClingptError as error:  # for example NaN logits, of this row only
                    reply.error = error
                    reply.end("error")
                if reply.finish_reason is not None:
                    self._release(row)
                moved.append(reply)
        return moved

    def _release(self, row: int) -> None:
        """Detach the reply from its row and free the row."""
        del self._at_work[row]
        try:
            # Zeroed, not just marked as empty: clinical text must not outlive its request, not even
            # as keys and values in memory.
            self._cache.clear(row)
        finally:
            self._free.append(row)
            self._free.sort(reverse=True)


def of_tokens(logits: Tensor, tokenizer: Tokenizer) -> Tensor:
    """Keep the logits (…, V) of ids that have a token, so that no other id is ever chosen.

    Models have more rows than their tokenizer has tokens if the vocabulary was padded to a round
    number, or resized for tokens that were never added. GPT-2 itself has none.
    """
    logits = logits[..., : tokenizer.size]
    if not tokenizer.unused:
        return logits
    unused = torch.tensor(tokenizer.unused, device=logits.device)
    return logits.index_fill(-1, unused, -torch.inf)


def check_fits(
    prompt: Sequence[int], max_new_tokens: int, context: int, tokenizer: Tokenizer
) -> None:
    """Raise DataError if a prompt is empty, has ids outside the vocabulary, or is too long."""
    if not prompt:
        raise DataError("a prompt is empty; pass at least one token")
    if not tokenizer.has(prompt):
        raise DataError(
            f"a prompt has a token id that is not in the vocabulary of {tokenizer.name} "
            f"(0 to {tokenizer.size - 1})"
        )
    if len(prompt) + max_new_tokens > context:
        raise DataError(
            f"a prompt of {len(prompt)} tokens and {max_new_tokens} new ones exceed the "
            f"context of {context}; shorten the prompt or lower max_new_tokens"
        )


# ------------------------------------------------------------------------------------------------
# Batches: all prompts are known, and the caller waits for all replies

OnReply = Callable[[int, Reply], None]  # called after each token with the prompt's number


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
    """Complete every prompt, at most `rows` at once; raise DataError up front if one is invalid.

    Prompt number n samples with its own seed: `seeds[n]`, or `sampling.seed + n` by default.
    """
    for prompt in prompts:
        check_fits(prompt, sampling.max_new_tokens, context, tokenizer)
    if not prompts:
        return []
    # The cache is as long as this batch needs, which is often much less than the context.
    capacity = max(map(len, prompts)) + sampling.max_new_tokens
    engine = Engine(decoder, tokenizer, rows=min(rows, len(prompts)), context=capacity)
    return answer_all(engine, prompts, sampling, seeds=seeds, on_reply=on_reply)


def answer_all(
    engine: Engine,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    *,
    seeds: Sequence[int] | None = None,
    on_reply: OnReply | None = None,
) -> list[Completion]:
    """Like `generate`, on an existing engine that has no other requests."""
    replies: dict[int, Reply] = {}
    for n in longest_first(prompts):
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


def longest_first(prompts: Sequence[Sequence[int]]) -> list[int]:
    """Return the indices of the prompts in order of descending length.

    Memory then peaks in the first step instead of failing late, and short prompts fill the rows
    that become free at the end.
    """
    return sorted(range(len(prompts)), key=lambda n: -len(prompts[n]))


def single_tokens(labels: Labels) -> tuple[int, ...] | None:
    """Return the tokens of labels that have one token each, or None if a label has several."""
    return tuple(label[0] for label in labels) if all(len(one) == 1 for one in labels) else None


@torch.no_grad()
def label_log_probs(
    decoder: Decoder,
    prompts: Sequence[Sequence[int]],
    labels: Labels,
    *,
    rows: int = 16,
    on_batch: Callable[[int], object] | None = None,
) -> list[list[float]]:
    """Return the log-probability of each of a few labels as what follows each prompt.

    They are normalised over the labels, and nothing is generated. Each prompt is prefilled once,
    and many prompts share a forward pass. Of labels with one token each, only their rows of the
    output head are multiplied. `on_batch` gets the size of each batch.
    """
    found: dict[int, list[float]] = {}
    among = single_tokens(labels)
    longest = max(map(len, prompts), default=0) + max(map(len, labels)) - 1
    cache = decoder.new_cache(rows=max(1, min(rows, len(prompts))), capacity=max(1, longest))
    queue = deque(longest_first(prompts))
    while queue:
        # At least one prompt, then as many as there are rows and room for in a step.
        batch = [queue.popleft()]
        n_tokens = len(prompts[batch[0]])
        while queue and len(batch) < rows and n_tokens + len(prompts[queue[0]]) <= PREFILL_TOKENS:
            n_tokens += len(prompts[queue[0]])
            batch.append(queue.popleft())
        logits = decoder.step({row: prompts[n] for row, n in enumerate(batch)}, cache, among)
        if among is None:
            log_probs_RL = sequence_log_probs(decoder, cache, range(len(batch)), logits, labels)
        else:
            log_probs_RL = logits.float().log_softmax(dim=-1)
        found |= zip(batch, log_probs_RL.tolist(), strict=True)
        for row in range(len(batch)):
            cache.clear(row)
        if on_batch:
            on_batch(len(batch))
    return [found[n] for n in range(len(prompts))]


def sequence_log_probs(
    decoder: Decoder, cache: Any, rows: Sequence[int], logits_RV: Tensor, labels: Labels
) -> Tensor:
    """Return the log-probabilities (R, L) of sequences of tokens, normalised over the sequences.

    `logits_RV` are those after the prompts in these rows of the cache. The tokens of each sequence
    but the last are appended one by one, and then forgotten again, so that the prompts are read
    only once and the cache is left as it was.
    """
    sums: list[Tensor] = []
    for label in labels:
        # Log-probabilities but for a constant that is the same for all labels and drops out below.
        sum_R = logits_RV[:, label[0]].float()
        for before, token in pairwise(label):
            next_RV = decoder.step({row: [before] for row in rows}, cache)
            sum_R = sum_R + next_RV.float().log_softmax(dim=-1)[:, token]
        for row in rows:
            cache.rewind(row, len(label) - 1)
        sums.append(sum_R)
    return torch.stack(sums, dim=1).log_softmax(dim=-1)
