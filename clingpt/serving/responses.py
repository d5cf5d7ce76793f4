"""Responses that notice when nobody listens: whole ones, and streams of server-sent events.

The work behind both is one coroutine that is handed `emit`; it is cancelled where the client leaves
or the time is up, and with it every reply that it waits for.
"""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from fastapi.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from clingpt.serving.service import ApiError, Service

Emit = Callable[[object], None]
Work = Callable[[Emit], Awaitable[Any]]
PING_S = 15.0  # proxies close a connection that is silent for longer, often after 30 or 60 s
SENDING_S = 10.0  # beyond a request's time, for a client to take what was sent
SSE_HEADERS = {"cache-control": "no-cache, no-store", "x-accel-buffering": "no"}


class Exchange(Response):
    """What `work` returns, as JSON; or with `stream` what it emits, as it goes on.

    A failure before anything was sent is raised, and becomes a response of its own. In a stream
    each thing is a `data:` frame, a failure one with `error`, and [DONE] is the last one
    (html.spec.whatwg.org, section 9.2.6; [DONE] and `error` as OpenAI's client expects them).
    """

    def __init__(self, service: Service, work: Work, *, n_replies: int, stream: bool) -> None:
        super().__init__(headers=SSE_HEADERS, media_type="text/event-stream")
        del self.headers["content-length"]  # Starlette's, of no body
        self._service, self._work = service, work
        self._n_replies, self._stream = n_replies, stream
        self._frames: asyncio.Queue[str | None] = asyncio.Queue()  # None: look what has happened

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._service.admitted(self._n_replies):
            work = asyncio.ensure_future(self._in_time())
            gone = asyncio.ensure_future(until_gone(receive))
            for task in (work, gone):
                task.add_done_callback(lambda _: self._frames.put_nowait(None))
            try:
                if self._stream:
                    await self._send_in_time(self._send_frames(work, gone, send))
                else:
                    await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
                    if work.done():
                        await JSONResponse(work.result())(scope, receive, send)
            finally:
                await end([work, gone])

    async def _send_in_time(self, sending: Awaitable[None]) -> None:
        """See to an end of it: a client that reads no more would hold its places for ever."""
        most_s = self._service.limits.request_timeout_s + SENDING_S
        try:
            async with asyncio.timeout(most_s) as timeout:
                await sending
        except TimeoutError:
            if not timeout.expired():
                raise

    async def _in_time(self) -> Any:
        async with self._service.in_time():
            return await self._work(self._emit if self._stream else lambda _: None)

    def _emit(self, event: object) -> None:
        self._frames.put_nowait(f"data: {json.dumps(event, ensure_ascii=False)}\n\n")

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
        unknown = ApiError(500, "an error in the server")
        if failure is not None:
            error = failure if isinstance(failure, ApiError) else unknown
            await send_part(f"data: {json.dumps(error.body())}\n\n")
        await send_part("data: [DONE]\n\n", more=False)
        if failure is not None and error is unknown:
            raise failure

    async def _next_frame(self) -> str | None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PING_S):
                return await self._frames.get()
        return ": ping\n\n"


async def until_gone(receive: Receive) -> None:
    """Wait for the end of the connection; the body must have been read."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def end(tasks: "Sequence[asyncio.Future[Any]]") -> None:
    """Cancel tasks and see them end, so that what they hold is free."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def together(works: Sequence[Awaitable[Any]]) -> list[Any]:
    """All results in order; the first failure cancels the others and is raised alone."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        await end(tasks)
