"""HTTP responses that stop work when the client disconnects: JSON, and server-sent events.

The work behind a response is one coroutine that receives an `emit` function. It is cancelled when
the client leaves or the deadline passes, and with it every reply that it waits for.
"""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from fastapi.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from clingpt.serving.errors import ApiError, internal_error
from clingpt.serving.service import Service

Emit = Callable[[object], None]
Work = Callable[[Emit], Awaitable[Any]]
PING_S = 15.0  # many proxies close a connection that was silent for 30 or 60 s
SENDING_S = 10.0  # time for a client to read its response after the request's deadline
NO_HEADERS: Mapping[str, str] = MappingProxyType({})
SSE_HEADERS = {"cache-control": "no-cache, no-store", "x-accel-buffering": "no"}


class CancellableResponse(Response):
    """Sends what `work` returns as JSON, or with `stream` each event that it emits.

    An exception before the first event is raised and becomes an ordinary error response. In a
    stream, each event is a `data:` frame, an error is a frame with `error`, and [DONE] comes last
    (html.spec.whatwg.org, section 9.2.6; [DONE] and `error` as OpenAI's client expects them).
    """

    def __init__(
        self,
        service: Service,
        work: Work,
        *,
        n_replies: int,
        stream: bool,
        more_headers: Mapping[str, str] = NO_HEADERS,
    ) -> None:
        super().__init__(headers={**SSE_HEADERS, **more_headers}, media_type="text/event-stream")
        del self.headers["content-length"]  # Starlette set it for an empty body
        self._service, self._work, self._more_headers = service, work, dict(more_headers)
        self._n_replies, self._stream = n_replies, stream
        # None wakes up the sender because the work has ended or the client has left.
        self._frames: asyncio.Queue[str | None] = asyncio.Queue()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._service.admitted(self._n_replies):
            work = asyncio.ensure_future(self._work_in_time())
            gone = asyncio.ensure_future(wait_for_disconnect(receive))
            for task in (work, gone):
                task.add_done_callback(lambda _: self._frames.put_nowait(None))
            try:
                if self._stream:
                    await self._send_stream(work, gone, send)
                else:
                    await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
                    if work.done():
                        await JSONResponse(work.result(), headers=self._more_headers)(
                            scope, receive, send
                        )
            finally:
                await cancel_all([work, gone])

    async def _work_in_time(self) -> Any:
        async with self._service.in_time():
            return await self._work(self._emit if self._stream else lambda _: None)

    def _emit(self, event: object) -> None:
        self._frames.put_nowait(f"data: {json.dumps(event, ensure_ascii=False)}\n\n")

    async def _send_stream(
        self, work: "asyncio.Future[Any]", gone: "asyncio.Future[None]", send: Send
    ) -> None:
        """Send frames until the work ends, the client leaves, or the client stops reading."""
        # A client that stops reading blocks `send`, and would hold its slots forever.
        limit_s = self._service.limits.request_timeout_s + SENDING_S
        try:
            async with asyncio.timeout(limit_s) as timeout:
                await self._send_frames(work, gone, send)
        except TimeoutError:
            if not timeout.expired():
                raise

    async def _send_frames(
        self, work: "asyncio.Future[Any]", gone: "asyncio.Future[None]", send: Send
    ) -> None:
        async def send_part(text: str, *, more: bool = True) -> None:
            await send({"type": "http.response.body", "body": text.encode(), "more_body": more})

        started = False
        while (frame := await self._next_frame()) is not None or not (work.done() or gone.done()):
            if frame is None:
                continue
            if not started:
                head = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
                await send(head)
                started = True
            await send_part(frame)
        if not work.done():
            return
        failure = work.exception()
        if failure is not None and not started:
            raise failure
        if failure is not None:
            error = failure if isinstance(failure, ApiError) else internal_error()
            await send_part(f"data: {json.dumps(error.body())}\n\n")
        await send_part("data: [DONE]\n\n", more=False)
        if failure is not None and not isinstance(failure, ApiError):
            raise failure  # to be logged; the client already has its answer

    async def _next_frame(self) -> str | None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PING_S):
                return await self._frames.get()
        return ": ping\n\n"


async def wait_for_disconnect(receive: Receive) -> None:
    """Return once the connection is closed; the request body must have been read before."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def cancel_all(tasks: "Sequence[asyncio.Future[Any]]") -> None:
    """Cancel tasks and wait until they have released what they hold."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def run_together(works: Sequence[Awaitable[Any]]) -> list[Any]:
    """Run coroutines concurrently and return their results in order.

    The first exception cancels the others and is raised itself, not in an exception group as by
    `asyncio.TaskGroup`.
    """
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        await cancel_all(tasks)
