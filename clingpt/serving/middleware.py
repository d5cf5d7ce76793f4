"""What stands before every route: an end for bodies that are too large or too slow, keys, headers,
a line in the log, and errors that never say what a user sent.

Plain ASGI; nothing here reads a body's content.
"""

import asyncio
import hmac
import json
import time
import traceback
import uuid
from collections.abc import Callable, Iterable, Sequence

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from clingpt.serving.metrics import Gauges
from clingpt.serving.service import ApiError

BODY_TIMEOUT_S = 30.0  # for a whole body to arrive
READ_ON = 8  # times the limit, kept nowhere: many clients read no answer before they have sent all
SECURITY_HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}


async def refuse(error: ApiError, send: Send) -> None:
    """Answer with an error."""
    body = json.dumps(error.body()).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    headers += [(name.encode(), value.encode()) for name, value in error_headers(error).items()]
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def error_headers(error: ApiError) -> dict[str, str]:
    """What goes with an error beside its body."""
    headers = {}
    if error.retry_after_s is not None:
        headers["retry-after"] = str(error.retry_after_s)
    if error.status == 401:
        headers["www-authenticate"] = "Bearer"
    if error.status == 408:
        headers["connection"] = "close"  # what is left of the body is not waited for
    return headers


class Shield:
    """The outermost layer: an id for each response, counts and a log line, no exception beyond.

    An exception is logged by its kind and places: its message may hold what a user sent.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        gauges: Gauges,
        log: Callable[[str], object],
        note: Callable[[str], object],
    ) -> None:
        """`log` takes a line for each request, `note` one for each error."""
        self._app, self._gauges, self._log, self._note = app, gauges, log, note

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, status, request_id = time.monotonic(), 0, uuid.uuid4().hex

        async def send_and_note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(raw=message.setdefault("headers", []))
                headers["x-request-id"] = request_id
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            await self._app(scope, receive, send_and_note)
        except Exception as error:
            self._note(f"error in request {request_id}: {places(error)}")
            if not status:
                await refuse(ApiError(500, "an error in the server"), send_and_note)
        finally:
            route, shown = route_of(scope), str(status or "gone")
            self._gauges.responses.labels(route, shown).inc()
            seconds = time.monotonic() - begun
            self._log(f"{method_of(scope)} {route} {shown} {seconds:.3f} s {request_id}")


def route_of(scope: Scope) -> str:
    """The route's own path, never what was asked for: that may hold anything."""
    return getattr(scope.get("route"), "path", "") or "unmatched"


def method_of(scope: Scope) -> str:
    known = ("GET", "POST", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE")
    return scope["method"] if scope["method"] in known else "other"


def places(error: BaseException) -> str:
    """The kind of an exception and where it came through, innermost last."""
    frames = traceback.extract_tb(error.__traceback__)[-8:]
    where = " > ".join(f"{f.filename.rpartition('/')[2]}:{f.lineno} {f.name}" for f in frames)
    return f"{type(error).__name__} at {where}"


class Keys:
    """401 without one of the keys, but for the paths that are public."""

    def __init__(self, app: ASGIApp, *, keys: Sequence[str], public: Iterable[str]) -> None:
        self._app, self._public = app, frozenset(public)
        self._keys = [key.encode() for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in self._public and not self._known(scope):
            message = "a key is needed; send it as Authorization: Bearer KEY"
            await refuse(ApiError(401, message, code="invalid_api_key"), send)
            return
        await self._app(scope, receive, send)

    def _known(self, scope: Scope) -> bool:
        kind, _, given = Headers(scope=scope).get("authorization", "").partition(" ")
        # All of them, whatever the first ones give: the time taken tells nothing.
        same = [hmac.compare_digest(given.encode("latin-1"), key) for key in self._keys]
        return kind.lower() == "bearer" and any(same)


class BodyLimit:
    """413 for a body that is too large, announced or not, and 408 for one that does not come."""

    def __init__(self, app: ASGIApp, *, most: int, timeout_s: float = BODY_TIMEOUT_S) -> None:
        self._app, self._most, self._timeout_s = app, most, timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            body = await asyncio.wait_for(self._read(scope, receive), self._timeout_s)
        except ApiError as error:
            await refuse(error, send)
            return
        except TimeoutError:
            await refuse(ApiError(408, f"no whole body within {self._timeout_s:g} s"), send)
            return
        if body is None:
            return
        given = False

        async def receive_whole() -> Message:
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, receive_whole, send)

    async def _read(self, scope: Scope, receive: Receive) -> bytes | None:
        """The body; None where the client has gone."""
        announced = Headers(scope=scope).get("content-length", "")
        too_large = ApiError(413, f"the body exceeds {self._most} bytes", code="body_too_large")
        if announced.isdecimal() and int(announced) > READ_ON * self._most:
            raise too_large
        body, size = bytearray(), 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            part = message.get("body", b"")
            size += len(part)
            if size <= self._most:
                body += part
            if size > READ_ON * self._most:
                raise too_large
            if not message.get("more_body", False):
                if size > self._most:
                    raise too_large
                return bytes(body)
