"""Admission control and request lifetimes: queue limits, deadlines, cancellation, and metrics.

It knows nothing about HTTP except the status codes of errors.
"""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Literal

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)

from clingpt.base import console
from clingpt.base.errors import DataError
from clingpt.decoding.engine import FinishReason, Labels, check_fits
from clingpt.decoding.sampling import Sampling
from clingpt.serving.errors import ApiError
from clingpt.serving.worker import Job, Piece, Served, Worker, WorkerDied

State = Literal["loading", "ready", "draining", "failed"]
MAX_RETRY_S = 120  # OpenAI's client ignores a longer Retry-After
PROSE_TOKEN_BYTES = 8  # upper bound for text that is split into windows; English averages 4 to 5
SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)  # histogram buckets
TOKENS = (1, 4, 16, 32, 64, 128, 256, 512, 1024)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How large a request may be, and how many may be in progress."""

    rows: int  # replies that are decoded at the same time
    queue: int  # replies that may wait for a row
    prefill_tokens: int  # prompt tokens in one step of the engine
    request_timeout_s: float
    max_body_bytes: int
    max_windows: int  # pieces that a long report may be split into


@dataclass
class Finished:
    """A complete reply."""

    ids: list[int] = field(default_factory=list)
    text: str = ""
    first_log_probs: tuple[float, ...] = ()
    finish_reason: FinishReason = "cancelled"

    def add(self, piece: Piece) -> None:
        """Append what one step of the engine produced."""
        self.ids += piece.ids
        self.text += piece.text
        self.first_log_probs = self.first_log_probs or piece.first_log_probs
        self.finish_reason = piece.finish_reason or self.finish_reason


OnPiece = Callable[[Piece], object]


class Service:
    """The worker, the requests that wait for it, and their metrics.

    All methods must be called in the event loop.
    """

    def __init__(self, load: Callable[[], Served], limits: Limits) -> None:
        self.limits, self.metrics = limits, Metrics()
        self.draining = False
        self.on_failure: Callable[[], object] = lambda: None  # called once if the worker fails
        self._n_admitted = 0
        self._timeouts: set[asyncio.Timeout] = set()
        self._aborted = False
        self._seconds_per_reply = 1.0  # a moving average
        self.worker = worker = Worker(
            load,
            rows=limits.rows,
            prefill_tokens=limits.prefill_tokens,
            on_change=self._on_worker_change,
            on_token=self.metrics.on_token,
        )
        watch = self.metrics.watch
        watch("num_requests_running", "Replies being decoded.", lambda: worker.n_running)
        watch("num_requests_waiting", "Replies waiting for a row.", lambda: worker.n_waiting)
        watch("kv_cache_usage_ratio", "Share of the cache in use.", lambda: worker.cache_use)
        watch("ready", "1 while requests are accepted.", lambda: self.state == "ready")

    @property
    def state(self) -> State:
        """What the server can do at the moment."""
        if self.worker.failure is not None:
            return "failed"
        if self.draining or self.worker.ended:
            return "draining"
        return "loading" if self.worker.served is None else "ready"

    def served(self, name: str | None = None) -> Served:
        """Return the model; raise ApiError 503 if unavailable, 404 if `name` is another model."""
        state = self.state
        unavailable = {
            "loading": ("the model is loading; try again in a few seconds", 5),
            "draining": ("the server is shutting down; retry on another replica", 1),
            "failed": ("the model crashed; the server's log has the details", None),
        }
        if state in unavailable:
            message, retry_after_s = unavailable[state]
            raise ApiError(503, message, code=f"model_{state}", retry_after_s=retry_after_s)
        served = self.worker.served
        assert served is not None, "the state is ready only once a model is loaded"
        if name not in (None, served.name):
            message = f"model not found; this server serves {served.name}"
            raise ApiError(404, message, param="model", code="model_not_found")
        return served

    @contextmanager
    def admitted(self, n_replies: int) -> Iterator[None]:
        """Hold `n_replies` slots, or raise before any work is done on them.

        Raises ApiError 429 if too few slots are free, 400 if the server does not have that many at
        all.
        """
        slots = self.limits.rows + self.limits.queue
        if n_replies > slots:
            raise ApiError(
                400,
                f"the request asks for {console.count(n_replies, 'reply', 'replies')}, and this "
                f"server accepts at most {slots} at a time; split the request",
            )
        if self._n_admitted + n_replies > slots:
            self.metrics.rejected.inc()
            # Half of the time that the admitted replies would take if each row did its share.
            seconds = self._seconds_per_reply * self._n_admitted / self.limits.rows / 2
            raise ApiError(
                429,
                f"all slots ({slots}) are in use; try again later",
                code="queue_full",
                retry_after_s=min(MAX_RETRY_S, max(1, math.ceil(seconds))),
            )
        self._n_admitted += n_replies
        try:
            yield
        finally:
            self._n_admitted -= n_replies

    async def reply(
        self,
        prompt: Sequence[int],
        sampling: Sampling,
        *,
        first_among: Labels = (),
        on_piece: OnPiece = lambda _: None,
    ) -> Finished:
        """Decode a reply; cancelling the caller also frees the reply's row in the engine.

        Raises ApiError if the prompt does not fit, the logits are not finite, or the worker died.
        """
        try:
            served = self.served()
            longest = max([sampling.max_new_tokens, *map(len, first_among)])
            check_fits(prompt, longest, served.context, served.scorer.tokenizer)
        except DataError as error:
            raise ApiError(400, str(error), code="context_length_exceeded") from None
        job, finished = Job(list(prompt), sampling, first_among), Finished()
        try:
            self.worker.submit(job)
            while (piece := await job.pieces.get()) is not None:
                if piece.error is not None:
                    raise ApiError(500, "the model's logits are not finite")
                finished.add(piece)
                on_piece(piece)
                if piece.finish_reason is not None:
                    return finished
            raise WorkerDied
        except WorkerDied:
            finished.finish_reason = "error"
            raise ApiError(500, "the model crashed", code="engine_failed") from None
        finally:
            self.worker.cancel(job)
            self.metrics.on_end(job, finished.finish_reason)
            seconds = time.monotonic() - job.submitted
            self._seconds_per_reply += 0.1 * (seconds - self._seconds_per_reply)

    def _on_worker_change(self) -> None:
        if self.worker.failure is not None:
            self.on_failure()

    @asynccontextmanager
    async def in_time(self) -> AsyncIterator[None]:
        """Limit the block to a request's time: ApiError 504 at its end, 503 after `abort`."""
        try:
            async with asyncio.timeout(self.limits.request_timeout_s) as timeout:
                self._timeouts.add(timeout)
                yield
        except TimeoutError:
            if self._aborted:
                raise ApiError(503, "the server is shutting down", retry_after_s=1) from None
            seconds = self.limits.request_timeout_s
            message = f"no complete reply within {seconds:g} s; lower max_tokens or try again later"
            raise ApiError(504, message, code="timeout") from None
        finally:
            self._timeouts.discard(timeout)

    def abort(self) -> None:
        """End all requests now; each receives a 503 in its own format."""
        self._aborted = True
        for timeout in self._timeouts:
            if not timeout.expired():  # an expired timeout cannot be rescheduled
                timeout.reschedule(asyncio.get_running_loop().time())


class Metrics:
    """Everything that /metrics shows. Contains no text and no user's name.

    The names follow prometheus.io/docs/practices/naming (base units, `_total` for counters), and
    equal vLLM's for the metrics that it has too. Label values come from fixed sets.
    """

    def __init__(self) -> None:
        # Otherwise every counter has a second time series with its creation time.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        self.prompt_tokens = self._counter("prompt_tokens", "Prompt tokens of finished replies.")
        self.generation_tokens = self._counter("generation_tokens", "Generated tokens.")
        self.replies = self._counter("replies", "Replies by finish reason.", "finish_reason")
        self.rejected = self._counter("rejected_requests", "Requests refused with 429.")
        self.responses = self._counter("http_responses", "Responses.", "route", "status")
        self.first_token = self._seconds("time_to_first_token", "From request to first token.")
        self.between_tokens = self._seconds("inter_token_latency", "Between tokens of a reply.")
        self.request_time = self._seconds("e2e_request_latency", "From request to last token.")
        self.queue_time = self._seconds("request_queue_time", "Waiting for a row.")
        self.prefill_time = self._seconds("request_prefill_time", "From row to first token.")
        self.decode_time = self._seconds("request_decode_time", "From first to last token.")
        self.prompt_sizes = self._tokens("request_prompt_tokens", "Prompt tokens per reply.")
        self.reply_sizes = self._tokens("request_generation_tokens", "Generated tokens per reply.")

    def watch(self, name: str, text: str, value: Callable[[], float]) -> None:
        """Add a gauge that calls `value` whenever /metrics is read."""
        Gauge(f"clingpt_{name}", text, registry=self._registry).set_function(value)

    def on_token(self, job: Job, seconds: float) -> None:
        """Record the time since the job's previous token, or since its request."""
        (self.between_tokens if job.first else self.first_token).observe(seconds)

    def on_end(self, job: Job, finish_reason: str) -> None:
        """Record a reply that has ended; one without any token has no times."""
        self.replies.labels(finish_reason).inc()
        self.generation_tokens.inc(job.n_tokens)
        if not job.n_tokens:
            return
        self.prompt_tokens.inc(len(job.prompt))
        self.prompt_sizes.observe(len(job.prompt))
        self.reply_sizes.observe(job.n_tokens)
        self.queue_time.observe(job.started - job.submitted)
        self.prefill_time.observe(job.first - job.started)
        self.decode_time.observe(job.last - job.first)
        self.request_time.observe(job.last - job.submitted)

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format, version 0.0.4."""
        return generate_latest(self._registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"clingpt_{name}_total", text, labels, registry=self._registry)

    def _seconds(self, name: str, text: str) -> Histogram:
        name = f"clingpt_{name}_seconds"
        return Histogram(name, text, registry=self._registry, buckets=SECONDS)

    def _tokens(self, name: str, text: str) -> Histogram:
        return Histogram(f"clingpt_{name}", text, registry=self._registry, buckets=TOKENS)
