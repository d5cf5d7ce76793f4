"""The server's front desk: who may come in, and replies that end by themselves, by a deadline or
because nobody waits for them any more. It knows no HTTP but the status of a refusal.
"""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Literal

from clingpt.base.errors import ConfigError, DataError
from clingpt.decoding.engine import FinishReason, check_fits
from clingpt.decoding.sampling import Sampling
from clingpt.serving.metrics import Gauges
from clingpt.serving.worker import Job, Piece, Served, Worker, WorkerDied

State = Literal["loading", "ready", "draining", "failed"]
LONGEST_RETRY_S = 120  # the official client waits no longer
LONGEST_TOKEN_BYTES = 128  # of GPT-2's vocabulary: no prompt that fits is longer
PROSE_TOKEN_BYTES = 8  # of a text that is taken in windows; English has four to five


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a request may be and how many there may be at once."""

    rows: int  # replies written at once
    queue: int  # replies that wait for a row
    prefill_tokens: int  # of prompts in a step
    request_timeout_s: float
    max_body_bytes: int
    max_windows: int  # pieces that a long report is taken in


class ApiError(Exception):
    """A refusal, in the terms of OpenAI's API; its message never holds what a user sent."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code
        self.retry_after_s = retry_after_s

    @property
    def kind(self) -> str:
        """The `type` of OpenAI's error object."""
        kinds = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}
        server = "server_error" if self.status >= 500 else "invalid_request_error"
        return kinds.get(self.status, server)

    def body(self) -> dict[str, object]:
        """The JSON of the response."""
        fields = {"message": self.message, "type": self.kind, "param": self.param}
        return {"error": {**fields, "code": self.code}}


def setting_refused(error: ConfigError) -> ApiError:
    """The same, of a setting of Sampling's, whose message begins with its name."""
    return ApiError(400, str(error), param=str(error).split()[0])


@dataclass
class Finished:
    """A whole reply."""

    ids: list[int] = field(default_factory=list)
    text: str = ""
    first_log_probs: tuple[float, ...] = ()
    finish_reason: FinishReason = "cancelled"

    def add(self, piece: Piece) -> None:
        """Append what a step gave."""
        self.ids += piece.ids
        self.text += piece.text
        self.first_log_probs = self.first_log_probs or piece.first_log_probs
        self.finish_reason = piece.finish_reason or self.finish_reason


OnPiece = Callable[[Piece], object]


class Service:
    """A worker, its guests and its figures; belongs to the event loop."""

    def __init__(self, load: Callable[[], Served], limits: Limits) -> None:
        self.limits, self.gauges = limits, Gauges()
        self.draining = False
        self.on_failure: Callable[[], object] = lambda: None  # told once where the worker fails
        self._n_admitted = 0
        self._timeouts: set[asyncio.Timeout] = set()
        self._aborted = False
        self._seconds_a_reply = 1.0  # a moving average
        self.worker = Worker(
            load,
            rows=limits.rows,
            prefill_tokens=limits.prefill_tokens,
            on_change=self._changed,
            on_token=lambda job, s: self.gauges.token(s, is_first=not job.first),
        )
        watch, worker = self.gauges.watch, self.worker
        watch("num_requests_running", "Replies being written.", lambda: worker.n_running)
        watch("num_requests_waiting", "Replies that wait for a row.", lambda: worker.n_waiting)
        watch("kv_cache_usage_ratio", "Of the cache's places.", lambda: worker.cache_use)
        watch("ready", "1 where requests are taken.", lambda: self.state == "ready")

    @property
    def state(self) -> State:
        """What the server can do now."""
        if self.worker.failure is not None:
            return "failed"
        if self.draining or self.worker.ended:
            return "draining"
        return "loading" if self.worker.served is None else "ready"

    def served(self, name: str | None = None) -> Served:
        """The model; ApiError 503 where it cannot be asked now, 404 where another one is named."""
        state = self.state
        messages = {
            "loading": ("the model is loading; try again in a few seconds", 5),
            "draining": ("the server is shutting down; ask another one", 1),
            "failed": ("the model has stopped by an error; the server's log says which", None),
        }
        if state in messages:
            message, wait_s = messages[state]
            raise ApiError(503, message, code=f"model_{state}", retry_after_s=wait_s)
        served = self.worker.served
        assert served is not None, "a ready worker has a model"
        if name not in (None, served.name):
            message = f"the model is not here; this server has {served.name}"
            raise ApiError(404, message, param="model", code="model_not_found")
        return served

    @contextmanager
    def admitted(self, n_replies: int) -> Iterator[None]:
        """Places for replies, decided before any work is done on them; ApiError 429 where full.

        400 where there are not so many at all.
        """
        places = self.limits.rows + self.limits.queue
        if n_replies > places:
            raise ApiError(
                400,
                f"{n_replies} replies in one request exceed the {places} that the server takes; "
                "send them in parts",
            )
        if self._n_admitted + n_replies > places:
            self.gauges.rejected.inc()
            raise ApiError(
                429,
                f"all {places} places are taken; try again later",
                code="queue_full",
                retry_after_s=self._wait_s(),
            )
        self._n_admitted += n_replies
        try:
            yield
        finally:
            self._n_admitted -= n_replies

    def _wait_s(self) -> int:
        """A guess at when a place gets free: a row's share of what is admitted."""
        seconds = self._seconds_a_reply * self._n_admitted / self.limits.rows / 2
        return min(LONGEST_RETRY_S, max(1, math.ceil(seconds)))

    async def reply(
        self,
        prompt: Sequence[int],
        sampling: Sampling,
        *,
        first_among: tuple[int, ...] = (),
        on_piece: OnPiece = lambda _: None,
    ) -> Finished:
        """A reply; cancelled in the model, too, where the caller is cancelled.

        ApiError: the prompt does not fit, the model gave no numbers, or the worker died.
        """
        try:
            check_fits(prompt, sampling.max_new_tokens, self.served().context)
        except DataError as error:
            raise ApiError(400, str(error), code="context_length_exceeded") from None
        job, finished = Job(list(prompt), sampling, first_among), Finished()
        try:
            self.worker.submit(job)
            while (piece := await job.pieces.get()) is not None:
                if piece.error is not None:
                    raise ApiError(500, "the model's logits are not finite numbers")
                finished.add(piece)
                on_piece(piece)
                if piece.finish_reason is not None:
                    return finished
            raise WorkerDied
        except WorkerDied:
            finished.finish_reason = "error"
            raise ApiError(500, "the model has stopped by an error", code="engine_failed") from None
        finally:
            self.worker.cancel(job)
            self._count(job, finished.finish_reason)

    def _count(self, job: Job, finish_reason: FinishReason) -> None:
        self.gauges.ended(job, finish_reason)
        seconds = time.monotonic() - job.submitted
        self._seconds_a_reply += 0.1 * (seconds - self._seconds_a_reply)

    def _changed(self) -> None:
        if self.worker.failure is not None:
            self.on_failure()

    @asynccontextmanager
    async def in_time(self) -> AsyncIterator[None]:
        """A request's time: ApiError 504 at its end, 503 where `abort` ends it."""
        try:
            async with asyncio.timeout(self.limits.request_timeout_s) as timeout:
                self._timeouts.add(timeout)
                yield
        except TimeoutError:
            if self._aborted:
                raise ApiError(503, "the server is shutting down", retry_after_s=1) from None
            seconds = self.limits.request_timeout_s
            message = f"no whole reply within {seconds:g} s; ask for fewer tokens, or another time"
            raise ApiError(504, message, code="timeout") from None
        finally:
            self._timeouts.discard(timeout)

    def abort(self) -> None:
        """End what is still being answered; each of them is told."""
        self._aborted = True
        for timeout in self._timeouts:
            if not timeout.expired():  # whose time is up at this moment cannot be moved
                timeout.reschedule(asyncio.get_running_loop().time())
