"""serve.py as a real process on real sockets.

Most servers are forked from one process that has already imported torch, which saves seconds each.
"""

import asyncio
import contextlib
import importlib
import itertools
import json
import multiprocessing
import multiprocessing.process
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Protocol
from unittest import mock

import openai
from starlette.types import ASGIApp, Message, Receive

from clingpt.serving.service import Limits, Service
from clingpt.serving.worker import Served
from tests.helpers.commands import ROOT
from tests.helpers.patience import PATIENCE

START_S = 180 * PATIENCE
RAW_REQUEST_S = 30 * PATIENCE
FAULTY, SCRIPTED = "tests.helpers.faulty_server", "tests.helpers.scripted_server"
PRELOADED = ["serve", "clingpt.serving.server", FAULTY, SCRIPTED]
NUMBERS = itertools.count()
CANARY = "xyzzy plugh"  # is sent in requests, and must not appear in any error


class Process(Protocol):
    """The part of Popen that tests use."""

    @property
    def pid(self) -> int: ...

    def poll(self) -> int | None: ...

    def wait(self, timeout: float) -> int: ...

    def send_signal(self, number: int) -> None: ...


class Forked:
    """A forked process with the interface of Popen."""

    def __init__(self, process: multiprocessing.process.BaseProcess) -> None:
        self._process = process
        assert process.pid is not None
        self.pid = process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(self._process.name, timeout)
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)


def fork(program: str, flags: list[str], log: Path, **environment: str) -> Forked:
    """Start a program's `main` in a process that has imported everything; it logs to a file."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    log.write_text("")
    settings = {"HF_HUB_OFFLINE": "1", "NO_COLOR": "1", "OMP_NUM_THREADS": "1"}
    process = context.Process(
        target=run_program, args=(program, flags, log, settings | environment), daemon=True
    )
    # OpenMP reads its variable when torch is imported, in the process that all others fork from.
    with mock.patch.dict(os.environ, settings):
        process.start()
    return Forked(process)


def run_program(program: str, flags: list[str], log: Path, environment: dict[str, str]) -> None:
    """Run in the forked process."""
    from clingpt.base import console

    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.environ.update(environment)
    sys.argv = [program, *flags]
    console.run(importlib.import_module(program).main)


@dataclass
class Answer:
    """A response."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Server:
    """A server process and its address."""

    process: Process
    url: str
    log: Path  # its stdout and stderr

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def ask(
        self,
        path: str,
        body: object = None,
        *,
        method: str | None = None,
        headers: dict[str, str] | None = None,
        timeout: float = 60 * PATIENCE,
    ) -> Answer:
        """Send GET, or POST with `body` as JSON; bytes are sent unchanged."""
        content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, content, method=method)
        for name, value in ({"content-type": "application/json"} | (headers or {})).items():
            request.add_header(name, value)
        try:
            with urllib.request.urlopen(request, timeout=timeout) as response:
                return Answer(response.status, lower(response.headers), response.read())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, lower(error.headers), error.read())

    def raw(self, content: bytes) -> bytes:
        """Send bytes over a new connection and return all that comes back."""
        with socket.create_connection(
            ("127.0.0.1", self.port), timeout=RAW_REQUEST_S
        ) as connection:
            connection.sendall(content)
            parts = []
            while part := connection.recv(65536):
                parts.append(part)
        return b"".join(parts)

    def gauge(self, name: str) -> float:
        """Return a metric's value, summed over its labels."""
        text = self.ask("/metrics").body.decode()
        found = re.findall(rf"^clingpt_{name}(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE)
        return sum(map(float, found))

    def wait_until(self, path: str, status: int) -> None:
        """Ask until the response has this status."""

        def has_status() -> bool:
            with contextlib.suppress(OSError):
                if self.ask(path, timeout=5).status == status:
                    return True
            assert self.process.poll() is None, self.log.read_text()
            return False

        eventually(has_status, within_s=START_S)


def lower(headers: Any) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def eventually(holds: Callable[[], object], *, within_s: float = 60 * PATIENCE) -> None:
    """Wait until a condition holds."""
    end = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < end, f"the condition did not hold within {within_s} s: {holds}"
        time.sleep(0.02)


@contextmanager
def serving(
    checkpoint: Path,
    *flags: str,
    log: Path | None = None,
    program: str = "serve",
    command: Sequence[str] = (),
    wait: bool = True,
    **environment: str,
) -> Iterator[Server]:
    """Run a server on a free port, wait until it is ready, and kill it in the end.

    It is forked and runs a module's `main`; or, with `command`, a new interpreter runs that. By
    default it logs to a new file beside the checkpoint.
    """
    log = log or checkpoint.parent / f"server_{next(NUMBERS)}.log"
    arguments = [f"--checkpoint={checkpoint}", "--device=cpu", *flags]
    if not any(flag.startswith("--port") for flag in flags):
        arguments.append("--port=0")
    process: Process
    if not command:
        process = fork(program, arguments, log, **environment)
    else:
        settings = os.environ | {"HF_HUB_OFFLINE": "1", "NO_COLOR": "1"} | environment
        with log.open("w") as file:
            process = subprocess.Popen(
                [sys.executable, *command, *arguments],
                cwd=ROOT,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=settings,
            )
    try:
        server = Server(process, find_address(process, log), log)
        if wait:
            server.wait_until("/ready", 200)
        yield server
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(30 * PATIENCE)


@contextmanager
def behind_proxy(server: Server, prefix: str, *, strip: bool) -> Iterator[str]:
    """Publish a server under a path, and nothing else; return its address there.

    With `strip`, requests are forwarded without the path, as nginx does it if proxy_pass ends in
    a slash.
    """

    class Proxy(BaseHTTPRequestHandler):
        def forward(self) -> None:
            if not self.path.startswith(f"{prefix}/"):
                self.send_error(404)
                return
            path = self.path.removeprefix(prefix) if strip else self.path
            body = self.rfile.read(int(self.headers.get("content-length", "0")))
            connection = HTTPConnection("127.0.0.1", server.port, timeout=RAW_REQUEST_S)
            connection.request(self.command, path, body, dict(self.headers.items()))
            answer = connection.getresponse()
            content = answer.read()
            connection.close()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                    self.send_header(name, value)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = forward

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{proxy.server_address[1]}{prefix}"
        proxy.shutdown()


def find_address(process: Process, log: Path) -> str:
    """Return the address that the server logs once it listens."""
    end = time.monotonic() + START_S
    while time.monotonic() < end and process.poll() is None:
        if found := re.search(r"at (http://\S+)", log.read_text()):
            return found[1]
        time.sleep(0.02)
    raise AssertionError(f"serve.py does not listen: {log.read_text()}")


def unloaded_service(**changes: Any) -> Service:
    """Return a service for tests of routes, whose model must not be loaded."""
    limits = {"rows": 1, "queue": 1, "prefill_tokens": 1, "request_timeout_s": 1}
    limits |= {"max_body_bytes": 2000, "max_windows": 1}

    def load() -> Served:
        raise AssertionError("the model must not be loaded")

    return Service(load, Limits(**limits | changes))


def complete(server: Server, **fields: Any) -> Answer:
    """Ask for a completion."""
    return server.ask("/v1/completions", fields)


def error_of(answer: Answer, status: int) -> Any:
    """Return a response's error, checked for OpenAI's shape and against quoting the request."""
    assert answer.status == status, answer.body[:500]
    assert answer.headers["content-type"] == "application/json"
    [(name, error)] = answer.json.items()
    assert name == "error" and set(error) == {"message", "type", "param", "code"}
    assert isinstance(error["message"], str) and error["message"]
    assert CANARY not in answer.body.decode()
    return error


def frames(answer: Answer) -> list[Any]:
    """Return the events of a streamed response."""
    assert answer.status == 200
    return events(answer.body)


def events(stream: bytes) -> list[Any]:
    """Return a stream's events, checked for their format and without the final [DONE]."""
    *parts, end, nothing = stream.decode().split("\n\n")
    assert (end, nothing) == ("data: [DONE]", "")
    assert all(part.startswith("data: ") for part in parts)
    return [json.loads(part.removeprefix("data: ")) for part in parts]


def official_client(server: Server, key: str = "none") -> openai.OpenAI:
    """Return OpenAI's client for a server; it does not retry."""
    url = f"{server.url}/v1"
    return openai.OpenAI(base_url=url, api_key=key, max_retries=0, timeout=60 * PATIENCE)


def call(app: ASGIApp, path: str, receive: Receive, **headers: str) -> list[Message]:
    """Send a POST to an application in this process and return its messages."""
    sent = list[Message]()

    async def send(message: Message) -> None:
        sent.append(message)

    pairs = [(k.replace("_", "-").encode(), v.encode()) for k, v in headers.items()]
    scope = {"type": "http", "method": "POST", "path": path, "headers": pairs}

    async def run() -> None:
        await app(scope | {"query_string": b"", "root_path": ""}, receive, send)

    asyncio.run(run())
    return sent
