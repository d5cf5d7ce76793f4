"""The thread that owns the model: it takes jobs from the event loop and sends tokens back.

It runs one engine with continuous batching, and nothing outside this thread touches the weights.
Public methods belong to the event loop, private ones to the thread. State has one owner, and the
two talk through a queue and `call_soon_threadsafe`, so there are no locks.
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
from clingpt.data.prepared import TrainedTasks
from clingpt.decoding.engine import Engine, FinishReason, Labels, Reply
from clingpt.decoding.sampling import Sampling, TokenLogProb
from clingpt.evaluation.calibration import Calibration
from clingpt.evaluation.scorer import Scorer

T = TypeVar("T")


@dataclass(frozen=True)
class Served:
    """A loaded model and what is known about it."""

    name: str
    scorer: Scorer
    calibration: Calibration | None  # None: eval.py has not fitted one
    fingerprint: str  # a hash of the weights
    precision: str  # float32, bfloat16, float16 or int8
    tasks: TrainedTasks | None = None  # that the model was trained on; None: not known
    terms: frozenset[str] = frozenset()  # learned from the training texts by eval.py

    @property
    def context(self) -> int:
        """Maximum length of a prompt and its reply together, in tokens."""
        return self.scorer.context


@dataclass(frozen=True)
class Piece:
    """What one step of the engine added to a reply."""

    text: str
    ids: tuple[int, ...]
    log_probs: tuple[TokenLogProb, ...]
    finish_reason: FinishReason | None
    first_log_probs: tuple[float, ...] = ()  # of each label, once one is chosen
    error: ClingptError | None = None  # why the reply could not continue


class WorkerDied(Exception):
    """The worker has crashed, and its jobs get no more pieces."""


@dataclass(eq=False)
class Job:
    """A requested reply. Times are in seconds of `time.monotonic`."""

    prompt: list[int]
    sampling: Sampling
    first_among: Labels = ()  # the reply begins with the most probable of these
    pieces: "asyncio.Queue[Piece | None]" = field(
        default_factory=asyncio.Queue
    )  # None: the worker has ended
    submitted: float = field(default_factory=time.monotonic)
    started: float = 0.0  # when it got a row; 0: it is still waiting
    first: float = 0.0  # when its first token came
    last: float = 0.0
    n_tokens: int = 0
    _reply: Reply | None = None


class Worker:
    """Loads a model, then decodes jobs until it is stopped or crashes."""

    def __init__(
        self,
        load: Callable[[], Served],
        *,
        rows: int,
        prefill_tokens: int,
        on_change: Callable[[], object],
        on_token: Callable[[Job, float], object],
    ) -> None:
        """`on_change` is called in the event loop after each change of state.

        `on_token` is called in the worker's thread with the seconds since the reply's previous
        token, or for its first token since the job was submitted.
        """
        self._load, self.rows, self._prefill_tokens = load, rows, prefill_tokens
        self._on_change, self._on_token = on_change, on_token
        self._open_jobs: set[Job] = set()  # owned by the event loop: jobs that a request waits for
        self._computing: set[asyncio.Future[Any]] = set()
        self._inbox: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._engine: Engine | None = None  # this and the next three are owned by the thread
        self._waiting: deque[Job] = deque()
        self._running: dict[int, Job] = {}  # by the id() of their engine reply
        self._stopping = False
        self.served: Served | None = None  # None: still loading
        self.failure: BaseException | None = None
        self.ended = False

    # Called in the event loop

    def start(self) -> None:
        """Start the thread, which loads the model first."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="clingpt-worker", daemon=True)
        self._thread.start()

    def stop(self, patience_s: float) -> None:
        """Stop after the current step, waiting up to `patience_s`; open jobs get no more pieces."""
        self._inbox.put(self._stop)
        self._thread.join(patience_s)

    def submit(self, job: Job) -> None:
        """Queue a job; the caller must `cancel` it in the end, even if it has finished."""
        if self.ended:
            raise WorkerDied
        self._open_jobs.add(job)
        self._inbox.put(lambda: self._waiting.append(job))

    def cancel(self, job: Job) -> None:
        """Forget a job, and free its row before the next step if it has not finished."""
        self._open_jobs.discard(job)
        self._inbox.put(lambda: self._cancel(job))

    async def compute(self, work: Callable[[Served], T]) -> T:
        """Run `work` on the model between two steps of the engine, and return its result."""
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
        """Jobs being decoded."""
        return len(self._running)

    @property
    def n_waiting(self) -> int:
        """Jobs waiting for a row."""
        return max(0, len(self._open_jobs) - len(self._running))

    @property
    def cache_use(self) -> float:
        """The share of the KV cache that is in use, 0 to 1."""
        if self.served is None:
            return 0.0
        # A copy, since the thread may change the dict meanwhile.
        held = sum(len(job.prompt) + job.n_tokens for job in list(self._running.values()))
        return held / (self.rows * self.served.context)

    # Called in the worker's thread

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
                self._call_in_loop(self._on_change)
                while not self._stopping:
                    self._handle_inbox()
                    self._start_jobs(engine)
                    self._deliver(engine.step())
        except BaseException as error:  # reported to every job, and by the server to its operator
            self.failure = error
        finally:
            self._call_in_loop(self._end_all)

    def _call_in_loop(self, call: Callable[[], object]) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(call)

    def _end_all(self) -> None:
        """Tell all jobs that there are no more pieces; runs in the event loop."""
        self.ended = True
        for job in self._open_jobs:
            job.pieces.put_nowait(None)
        for done in self._computing:
            _settle(done, None, WorkerDied())
        self._on_change()

    def _handle_inbox(self) -> None:
        """Run the calls queued since the last step; if there is nothing to decode, wait for one."""
        idle = not (self._waiting or self._running)
        while idle or not self._inbox.empty():
            self._inbox.get()()
            idle = False

    def _start_jobs(self, engine: Engine) -> None:
        while self._waiting and len(self._running) < self.rows:
            job = self._waiting.popleft()
            job.started = time.monotonic()
            job._reply = engine.submit(job.prompt, job.sampling, job.first_among)
            self._running[id(job._reply)] = job

    def _deliver(self, moved: list[Reply]) -> None:
        """Send the pieces of one step to their jobs."""
        now, pieces = time.monotonic(), list[tuple[Job, Piece]]()
        for reply in moved:
            job = self._running[id(reply)]
            pieces.append((job, self._piece_of(job, reply)))
            self._on_token(job, now - (job.last or job.submitted))
            job.first, job.last = job.first or now, now
            if reply.finish_reason is not None:
                del self._running[id(reply)]
        if pieces:  # in one call: waking the event loop costs more than handing over a piece
            self._call_in_loop(lambda: _put_pieces(pieces))

    def _piece_of(self, job: Job, reply: Reply) -> Piece:
        new, job.n_tokens = reply.ids[job.n_tokens :], len(reply.ids)
        log_probs = reply.log_probs[len(reply.log_probs) - len(new) :] if reply.log_probs else []
        first = tuple(reply.first_log_probs) if len(reply.ids) == len(new) else ()
        ended = reply.finish_reason
        return Piece(reply.new_text, tuple(new), tuple(log_probs), ended, first, reply.error)

    def _cancel(self, job: Job) -> None:
        if job in self._waiting:
            self._waiting.remove(job)
        elif self._engine is not None and self._running.pop(id(job._reply), None) is not None:
            assert job._reply is not None, "a running job has a reply"
            self._engine.cancel(job._reply)

    def _compute(self, work: Callable[[Served], T], done: "asyncio.Future[T]") -> None:
        result: Any = None
        failure: Exception | None = None
        try:
            assert self.served is not None, "work is submitted only once a model is loaded"
            result = work(self.served)
        except Exception as error:  # concerns only this work, and is raised to its caller
            failure = error
        self._call_in_loop(lambda: _settle(done, result, failure))

    def _stop(self) -> None:
        self._stopping = True


def _put_pieces(pieces: list[tuple[Job, Piece]]) -> None:
    for job, piece in pieces:
        job.pieces.put_nowait(piece)


def _settle(done: "asyncio.Future[T]", result: T, failure: Exception | None) -> None:
    if done.cancelled():
        return
    if failure is not None:
        done.set_exception(failure)
    else:
        done.set_result(result)
