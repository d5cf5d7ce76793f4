"""ASGI middleware around the routes: request log, API keys, and limits on request bodies.

None of it inspects the content of a body.
"""

import asyncio
import contextlib
import hmac
import time
import uuid
from collections.abc import Callable, Iterable, Sequence

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from clingpt.serving.errors import ApiError, internal_error, traceback_summary
from clingpt.serving.service import Metrics

BODY_TIMEOUT_S = 30.0  # for a whole body to arrive
DISCARD_FACTOR = 8  # read and discard up to this multiple of the limit before answering 413
SECURITY_HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}
METHODS = ("GET", "POST", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE")


def route_path(scope: Scope) -> str:
    """Return a request's path without the one that a proxy adds in front."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


class RequestLog:
    """The outermost layer: request ids, security headers, response counts, and one log line each.

    It also turns unexpected exceptions into a 500. They are logged by type and stack frames only,
    since the message of an exception may contain what a client sent.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        metrics: Metrics,
        log: Callable[[str], object],
        note: Callable[[str], object],
    ) -> None:
        """`log` receives one line for each request, `note` one for each unexpected exception."""
        self._app, self._metrics, self._log, self._note = app, metrics, log, note

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started_at, status, request_id = time.monotonic(), 0, uuid.uuid4().hex

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(raw=message.setdefault("headers", []))
                headers["x-request-id"] = request_id
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        except Exception as error:
            self._note(f"error in request {request_id}: {traceback_summary(error)}")
            if not status:
                await internal_error().response()(scope, receive, send_with_headers)
        finally:
            # The route's pattern and a known method: the path and method as sent may be anything.
            route = getattr(scope.get("route"), "path", "") or "unmatched"
            method = scope["method"] if scope["method"] in METHODS else "other"
            shown = str(status or "gone")
            self._metrics.responses.labels(route, shown).inc()
            seconds = time.monotonic() - started_at
            self._log(f"{method} {route} {shown} {seconds:.3f} s {request_id}")


class PathPrefix:
    """Serves everything under a path too, for a proxy that publishes the server there.

    The proxy may forward that path or remove it. ASGI's `path` includes `root_path`, so it is put
    back if it was removed.
    """

    def __init__(self, app: ASGIApp, *, root_path: str) -> None:
        """`root_path` starts with a slash and does not end with one."""
        self._app, self._root_path = app, root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        root, path = self._root_path, scope["path"]
        if path == root:  # the page's relative addresses need the slash at its end
            await RedirectResponse(f"{root}/")(scope, receive, send)
            return
        whole = path if path.startswith(f"{root}/") else f"{root}{path}"
        await self._app({**scope, "path": whole, "root_path": root}, receive, send)


class RequireKey:
    """Answers 401 to requests without a valid API key, except on public paths."""

    def __init__(self, app: ASGIApp, *, keys: Sequence[str], public: Iterable[str]) -> None:
        self._app, self._public = app, frozenset(public)
        self._keys = [key.encode() for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or route_path(scope) in self._public:
            await self._app(scope, receive, send)
            return
        scheme, _, key = Headers(scope=scope).get("authorization", "").partition(" ")
        # Compare with every key, whatever the result so far: the time taken must reveal nothing.
        matches = [hmac.compare_digest(key.encode("latin-1"), known) for known in self._keys]
        if scheme.lower() == "bearer" and any(matches):
            await self._app(scope, receive, send)
            return
        message = "missing or invalid API key; send it as Authorization: Bearer KEY"
        await ApiError(401, message, code="invalid_api_key").response()(scope, receive, send)


class BodyLimit:
    """Answers 413 to a body that is too large and 408 to one that arrives too slowly.

    Starlette counts the bytes, but it answers in plain text, and before the client has sent its
    body: many clients read no response until then and see a broken connection instead. So its
    response is replaced by an error in OpenAI's shape, after the rest of the body was discarded.
    """

    def __init__(self, app: ASGIApp, *, max_bytes: int, timeout_s: float = BODY_TIMEOUT_S) -> None:
        self._app = RequestBodyLimitMiddleware(app, max_body_size=max_bytes)
        self._max_bytes, self._timeout_s = max_bytes, timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        deadline = asyncio.get_running_loop().time() + self._timeout_s
        more_body, n_bytes, is_answered = True, 0, False

        async def receive_in_time() -> Message:
            nonlocal more_body, n_bytes, is_answered
            if not more_body:  # all that can follow is the disconnect, which may take its time
                return await receive()
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                text = f"the request body did not arrive within {self._timeout_s:g} s"
                raise ApiError(408, text) from None
            more_body = message.get("more_body", False)
            n_bytes += len(message.get("body", b""))
            is_answered = message["type"] == "http.disconnect"  # there is nobody to answer
            return message

        async def send_in_our_shape(message: Message) -> None:
            nonlocal is_answered
            if is_answered:
                return
            if message["type"] != "http.response.start" or message["status"] != 413:
                await send(message)
                return
            announced = int(Headers(scope=scope).get("content-length", "0"))
            most = DISCARD_FACTOR * self._max_bytes
            with contextlib.suppress(ApiError):
                while more_body and n_bytes <= most and announced <= most:
                    await receive_in_time()
            if is_answered:
                return
            is_answered = True
            text = f"the request body exceeds {self._max_bytes} bytes"
            await ApiError(413, text, code="body_too_large").response()(scope, receive, send)

        await self._app(scope, receive_in_time, send_in_our_shape)
