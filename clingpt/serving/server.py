"""The uvicorn server around a service: start-up, signals, and graceful shutdown."""

import asyncio
import socket
from collections.abc import Callable
from types import FrameType
from typing import Any

import uvicorn

from clingpt.base.errors import ClingptError, ServingError
from clingpt.serving.app import Site, make_app
from clingpt.serving.errors import traceback_summary
from clingpt.serving.service import Limits, Service
from clingpt.serving.worker import Served

__all__ = ["Limits", "Site", "run"]

ABORT_S = 3.0  # for requests to send their 503 once the shutdown timeout has passed
MAX_HEADER_BYTES = 16 * 1024
WORKER_STOP_S = 2.0  # for the worker to finish its current step


def run(
    load: Callable[[], Served],
    *,
    limits: Limits,
    site: Site,
    listening: socket.socket,
    shutdown_timeout_s: float,
) -> None:
    """Serve until a signal, or raise the worker's error if it fails.

    A crash after loading raises ServingError with stack frames only: the exception's own message
    may contain what users sent.
    """
    service = Service(load, limits)
    settings = uvicorn.Config(
        make_app(service, site),
        lifespan="off",
        log_config=None,
        log_level="critical",  # uvicorn logs tracebacks, whose messages may contain what users sent
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=int(shutdown_timeout_s + ABORT_S),
        h11_max_incomplete_event_size=MAX_HEADER_BYTES,
        http="h11",
        ws="none",
    )
    Server(settings, service, shutdown_timeout_s, site.note).run(sockets=[listening])
    failure, was_ready = service.worker.failure, service.worker.served is not None
    if failure is not None and was_ready and not isinstance(failure, ClingptError):
        raise ServingError(f"the model crashed: {traceback_summary(failure)}")
    if failure is not None:
        raise failure


class Server(uvicorn.Server):
    """uvicorn's server, which also starts and stops the service."""

    def __init__(
        self,
        settings: uvicorn.Config,
        service: Service,
        shutdown_timeout_s: float,
        note: Callable[[str], object],
    ) -> None:
        super().__init__(settings)
        self._service, self._shutdown_timeout_s, self._note = service, shutdown_timeout_s, note
        service.on_failure = self._exit

    def _exit(self) -> None:
        self.should_exit = True

    def _on_loop_error(self, _: object, context: dict[str, Any]) -> None:
        """Log an exception outside any request, without its message, which asyncio would log."""
        error = context.get("exception")
        what = context["message"] if error is None else traceback_summary(error)
        self._note(f"error: {what}")

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        asyncio.get_running_loop().set_exception_handler(self._on_loop_error)
        self._service.worker.start()
        await super().startup(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Shut down gracefully at the first signal, and at once at the second."""
        again = self.should_exit
        super().handle_exit(sig, frame)
        self._service.draining = True
        self.force_exit = self.force_exit or again

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let requests finish; those that exceed the shutdown timeout receive a 503."""
        self._service.draining = True
        timer = asyncio.get_running_loop().call_later(self._shutdown_timeout_s, self._service.abort)
        await super().shutdown(sockets)
        timer.cancel()
        self._service.worker.stop(WORKER_STOP_S)
