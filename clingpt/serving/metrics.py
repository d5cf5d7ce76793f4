"""What the server counts and times, in Prometheus' terms; no text and no name of a user's in it.

Base units, `_total` for counters, labels from fixed sets (prometheus.io/docs/practices/naming).
The names are vLLM's where it has one.
"""

from collections.abc import Callable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)

from clingpt.serving.worker import Job

PREFIX = "clingpt"
SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
TOKENS = (1, 4, 16, 32, 64, 128, 256, 512, 1024)


class Gauges:
    """Every figure of /metrics."""

    def __init__(self) -> None:
        # A second series for every counter, which nobody asks for.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        self.prompt_tokens = self._counter("prompt_tokens", "Prompt tokens of finished replies.")
        self.generation_tokens = self._counter("generation_tokens", "Tokens written.")
        self.replies = self._counter("replies", "Replies by how they ended.", "finish_reason")
        self.rejected = self._counter("rejected_requests", "Requests told to come back later.")
        self.responses = self._counter("http_responses", "Responses.", "route", "status")
        self.first_token = self._times("time_to_first_token", "From asking to the first token.")
        self.between_tokens = self._times("inter_token_latency", "Between two tokens of a reply.")
        self.request_time = self._times("e2e_request_latency", "From asking to the last token.")
        self.queue_time = self._times("request_queue_time", "Waiting for a row.")
        self.prefill_time = self._times("request_prefill_time", "From a row to the first token.")
        self.decode_time = self._times("request_decode_time", "From the first token to the last.")
        self.prompt_sizes = self._sizes("request_prompt_tokens", "Of a prompt.")
        self.reply_sizes = self._sizes("request_generation_tokens", "Of a reply.")

    def watch(self, name: str, text: str, value: Callable[[], float]) -> None:
        """A gauge that is read when somebody looks."""
        Gauge(f"{PREFIX}_{name}", text, registry=self._registry).set_function(value)

    def token(self, seconds: float, *, is_first: bool) -> None:
        """A token came so long after the one before, or the first so long after it was asked."""
        (self.first_token if is_first else self.between_tokens).observe(seconds)

    def ended(self, job: Job, finish_reason: str) -> None:
        """A reply came to its end, whatever it was; one without a token has no times."""
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
        """The exposition format, version 0.0.4."""
        return generate_latest(self._registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"{PREFIX}_{name}_total", text, labels, registry=self._registry)

    def _times(self, name: str, text: str) -> Histogram:
        args = f"{PREFIX}_{name}_seconds", text
        return Histogram(*args, registry=self._registry, buckets=SECONDS)

    def _sizes(self, name: str, text: str) -> Histogram:
        return Histogram(f"{PREFIX}_{name}", text, registry=self._registry, buckets=TOKENS)
