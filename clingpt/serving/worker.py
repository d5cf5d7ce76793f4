"""The thread that owns the model: jobs come in from an event loop, what it writes goes back to it.

One engine with continuous batching; everything that touches weights happens in this thread. Every
method but the private ones belongs to the event loop's thread, which needs no lock for it.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any, TypeVar

from clingpt.base.errors import ClingptError
from clingpt.decoding.engine import Engine, FinishReason, Reply
from clingpt.decoding.sampling import Sampling, TokenLogProb
from clingpt.evaluation.calibration import Calibration
from clingpt.evaluation.scorer import Scorer

T = TypeVar("T")


@dataclass(frozen=True)
class Served:
    """A model that can be asked."""

    name: str
    scorer: Scorer
    calibration: Calibration | None  # by eval.py, where it was run
    fingerprint: str  # of the weights
    precision: str  # float32, bfloat16, float16 or int8

    @property
    def context(self) -> int:
        """Tokens of a prompt and its reply together."""
        return self.scorer.context


@dataclass(frozen=True)
class Piece:
    """What a step added to a reply."""

    text: str
    ids: tuple[int, ...]
    log_probs: tuple[TokenLogProb, ...]
    finish_reason: FinishReason | None
    first_log_probs: tuple[float, ...] = ()  # with the first token, where it was one of a few
    error: ClingptError | None = None  # why the reply could not go on


class WorkerDied(Exception):
    """The worker ended by an error; no job will go on."""


@dataclass(eq=False)
class Job:
    """A reply that is asked for; times are of time.monotonic."""

    prompt: list[int]
    sampling: Sampling
    first_among: tuple[int, ...] = ()  # tokens of which the reply begins with the likeliest
    pieces: "asyncio.Queue[Piece | None]" = field(default_factory=asyncio.Queue)  # None: no more
    submitted: float = field(default_factory=time.monotonic)
    started: float = 0.0  # 0: waits for a row
    first: float = 0.0
    last: float = 0.0
    n_tokens: int = 0
    _reply: Reply | None = None


class Worker:
    """Loads a model, then answers jobs until it is stopped or an error ends it."""

    def __init__(
        self,
        load: Callable[[], Served],
        *,
        rows: int,
        prefill_tokens: int,
        on_change: Callable[[], object],
        on_token: Callable[[Job, float], object],
    ) -> None:
        """`on_change` is called in the loop when the state has changed; `on_token` in the worker's
        thread, with the seconds since the reply's token before (its first: since it was asked)."""
        self._load, self.rows, self._prefill_tokens = load, rows, prefill_tokens
        self._on_change, self._on_token = on_change, on_token
        self._asked: set[Job] = set()  # of the loop: jobs that someone waits for
        self._computing: set[asyncio.Future[Any]] = set()
        self._inbox: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._engine: Engine | None = None  # this and what follows is the thread's
        self._waiting: deque[Job] = deque()
        self._at_work: dict[int, Job] = {}  # by the id of their reply
        self._stopping = False
        self.served: Served | None = None  # once it is loaded
        self.failure: BaseException | None = None
        self.ended = False

    # Of the event loop

    def start(self) -> None:
        """Begin to load; to be called in the event loop."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="clingpt-worker", daemon=True)
        self._thread.start()

    def stop(self, patience_s: float) -> None:
        """End after the step at hand; jobs that are left get no more pieces."""
        self._inbox.put(self._stop)
        self._thread.join(patience_s)

    def submit(self, job: Job) -> None:
        """Have a job done; its pieces come into its queue. Whoever submits also cancels, always."""
        if self.ended:
            raise WorkerDied
        self._asked.add(job)
        self._inbox.put(lambda: self._waiting.append(job))

    def cancel(self, job: Job) -> None:
        """Free a job's row before the next step; where it has ended, it is only forgotten."""
        self._asked.discard(job)
        self._inbox.put(lambda: self._cancel(job))

    async def compute(self, work: Callable[[Served], T]) -> T:
        """Something else that needs the model, between two steps."""
        if self.ended:
            raise WorkerDied
        done: asyncio.Future[T] = self._loop.create_future()
        self._computing.add(done)
        self._inbox.put(lambda: self._compute(work, done))
        try:
            return await done
        finally:
            self._computing.discard(done)

    @property
    def n_running(self) -> int:
        """Jobs that have a row."""
        return len(self._at_work)

    @property
    def n_waiting(self) -> int:
        """Jobs that wait for a row."""
        return max(0, len(self._asked) - len(self._at_work))

    @property
    def cache_use(self) -> float:
        """The share of the cache's places that hold a token, 0 to 1."""
        if self.served is None:
            return 0.0
        held = sum(len(job.prompt) + job.n_tokens for job in list(self._at_work.values()))
        return held / (self.rows * self.served.context)

    # Of the thread

    def _run(self) -> None:
        try:
            served = self._load()
            with served.scorer.rt.autocast():
                self._engine = engine = Engine(
                    served.scorer.decoder,
                    served.scorer.tokenizer,
                    rows=self.rows,
                    context=served.context,
                    prefill_tokens=self._prefill_tokens,
                )
                self.served = served
                self._tell(self._on_change)
                while not self._stopping:
                    self._obey()
                    self._start_jobs(engine)
                    self._deliver(engine.step())
        except BaseException as error:  # told to every job and, by the server, to its user
            self.failure = error
        finally:
            self._tell(self._end_all)

    def _tell(self, call: Callable[[], object]) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(call)

    def _end_all(self) -> None:
        """In the loop: no more pieces for anyone."""
        self.ended = True
        for job in self._asked:
            job.pieces.put_nowait(None)
        for done in self._computing:
            _settle(done, None, WorkerDied())
        self._on_change()

    def _obey(self) -> None:
        """Do what was asked meanwhile; with nothing else to do, wait for it."""
        idle = not (self._waiting or self._at_work)
        while idle or not self._inbox.empty():
            self._inbox.get()()
            idle = False

    def _start_jobs(self, engine: Engine) -> None:
        while self._waiting and len(self._at_work) < self.rows:
            job = self._waiting.popleft()
            job.started = time.monotonic()
            job._reply = engine.submit(job.prompt, job.sampling, job.first_among)
            self._at_work[id(job._reply)] = job

    def _deliver(self, moved: list[Reply]) -> None:
        """Hand over what a step gave, all at once: waking the loop costs more than a piece."""
        now, pieces = time.monotonic(), list[tuple[Job, Piece]]()
        for reply in moved:
            job = self._at_work[id(reply)]
            pieces.append((job, self._piece(job, reply)))
            self._on_token(job, now - (job.last or job.submitted))
            job.first, job.last = job.first or now, now
            if reply.finish_reason is not None:
                del self._at_work[id(reply)]
        if pieces:
            self._tell(lambda: _hand_over(pieces))

    def _piece(self, job: Job, reply: Reply) -> Piece:
        new, job.n_tokens = reply.ids[job.n_tokens :], len(reply.ids)
        log_probs = reply.log_probs[len(reply.log_probs) - len(new) :] if reply.log_probs else []
        first = tuple(reply.first_log_probs) if len(reply.ids) == len(new) == 1 else ()
        ended = reply.finish_reason
        return Piece(reply.new_text, tuple(new), tuple(log_probs), ended, first, reply.error)

    def _cancel(self, job: Job) -> None:
        if job in self._waiting:
            self._waiting.remove(job)
        elif self._engine is not None and self._at_work.pop(id(job._reply), None) is not None:
            assert job._reply is not None, "a job at work has a reply"
            self._engine.cancel(job._reply)

    def _compute(self, work: Callable[[Served], T], done: "asyncio.Future[T]") -> None:
        result: Any = None
        failure: Exception | None = None
        try:
            assert self.served is not None, "the loop asks a loaded model alone"
            result = work(self.served)
        except Exception as error:  # of this work alone, and told to who asked for it
            failure = error
        self._tell(lambda: _settle(done, result, failure))

    def _stop(self) -> None:
        self._stopping = True


def _hand_over(pieces: list[tuple[Job, Piece]]) -> None:
    for job, piece in pieces:
        job.pieces.put_nowait(piece)


def _settle(done: "asyncio.Future[T]", result: T, failure: Exception | None) -> None:
    if done.cancelled():
        return
    if failure is not None:
        done.set_exception(failure)
    else:
        done.set_result(result)
