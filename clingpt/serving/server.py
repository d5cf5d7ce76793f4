"""A service behind uvicorn: started, listened to, and ended so that nobody is cut off in a word."""

import asyncio
import socket
from collections.abc import Callable
from types import FrameType
from typing import Any

import uvicorn

from clingpt.base.errors import ClingptError, ServingError
from clingpt.serving.app import Site, make_app
from clingpt.serving.middleware import places
from clingpt.serving.service import Limits, Service
from clingpt.serving.worker import Served

__all__ = ["Limits", "Site", "nothing", "run"]

BACKSTOP_S = 3.0  # after requests were told that their time is up
HEADER_BYTES = 16 * 1024
WORKER_PATIENCE_S = 2.0


def nothing(_: str) -> None:
    """Where no log is wanted."""


def run(
    load: Callable[[], Served],
    *,
    limits: Limits,
    site: Site,
    listening: socket.socket,
    shutdown_timeout_s: float,
) -> None:
    """Serve until a signal, or until the model fails: its error then, ServingError where it is a
    bug's, whose message may hold what users sent."""
    service = Service(load, limits)
    settings = uvicorn.Config(
        make_app(service, site),
        lifespan="off",
        log_config=None,
        log_level="critical",  # its errors are tracebacks, whose messages may hold what users sent
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=int(shutdown_timeout_s + BACKSTOP_S),
        h11_max_incomplete_event_size=HEADER_BYTES,
        http="h11",
        ws="none",
    )
    Server(settings, service, shutdown_timeout_s, site.note).run(sockets=[listening])
    failure, was_ready = service.worker.failure, service.worker.served is not None
    if failure is not None and was_ready and not isinstance(failure, ClingptError):
        raise ServingError(f"the model has stopped by an error: {places(failure)}")
    if failure is not None:
        raise failure


class Server(uvicorn.Server):
    """uvicorn's, with a service that begins and ends with it."""

    def __init__(
        self,
        settings: uvicorn.Config,
        service: Service,
        patience_s: float,
        log: Callable[[str], object],
    ) -> None:
        super().__init__(settings)
        self._service, self._patience_s, self._log = service, patience_s, log
        service.on_failure = self._fail

    def _fail(self) -> None:
        self.should_exit = True

    def _note_stray(self, _: object, context: dict[str, Any]) -> None:
        """An error that no request waits for; asyncio itself would write its message down."""
        error = context.get("exception")
        self._log(f"error: {places(error) if error is not None else context['message']}")

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        asyncio.get_running_loop().set_exception_handler(self._note_stray)
        self._service.worker.start()
        await super().startup(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal ends with patience, another one without."""
        again = self.should_exit
        super().handle_exit(sig, frame)
        self._service.draining = True
        self.force_exit = self.force_exit or again

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let requests end; when their time is up they are told so, in their own format."""
        self._service.draining = True
        timer = asyncio.get_running_loop().call_later(self._patience_s, self._service.abort)
        await super().shutdown(sockets)
        timer.cancel()
        self._service.worker.stop(WORKER_PATIENCE_S)
