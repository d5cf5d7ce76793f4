"""A real serve.py, in a process of its own, over real sockets."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.helpers.commands import ROOT

STARTING_S = 60.0


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
    """A process that listens."""

    process: "subprocess.Popen[str]"
    url: str
    log: Path  # what it wrote to both streams

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
        timeout: float = 60,
    ) -> Answer:
        """GET, or POST of JSON or of bytes as they are."""
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

    def raw(self, content: bytes, *, wait_s: float = 10) -> bytes:
        """What comes back for bytes that are sent as they are."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=wait_s) as connection:
            connection.sendall(content)
            parts = []
            while part := connection.recv(65536):
                parts.append(part)
        return b"".join(parts)

    def gauge(self, name: str) -> float:
        """The sum of a figure of /metrics over its labels."""
        text = self.ask("/metrics").body.decode()
        found = re.findall(rf"^clingpt_{name}(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE)
        return sum(map(float, found))

    def wait_until(self, path: str, status: int, *, within_s: float = STARTING_S) -> None:
        """Ask until the answer has this status."""
        end = time.monotonic() + within_s
        while time.monotonic() < end:
            try:
                if self.ask(path, timeout=5).status == status:
                    return
            except OSError:
                pass
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.02)
        raise AssertionError(f"{path} did not answer {status}: {self.log.read_text()}")


def lower(headers: Any) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


@contextmanager
def serving(
    checkpoint: Path,
    *flags: str,
    log: Path,
    script: Path = ROOT / "serve.py",
    wait: bool = True,
    **environment: str,
) -> Iterator[Server]:
    """A server on a free port, ready unless it is not waited for, and killed in the end."""
    command = [sys.executable, str(script), f"--checkpoint={checkpoint}", "--device=cpu", *flags]
    if not any(flag.startswith("--port") for flag in flags):
        command.append("--port=0")
    settings = os.environ | {"HF_HUB_OFFLINE": "1", "NO_COLOR": "1"} | environment
    with log.open("w") as file:
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, text=True, env=settings
        )
    try:
        server = Server(process, address(process, log), log)
        if wait:
            server.wait_until("/ready", 200)
        yield server
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(10)


def address(process: "subprocess.Popen[str]", log: Path) -> str:
    """What the server says that it listens to."""
    end = time.monotonic() + STARTING_S
    while time.monotonic() < end and process.poll() is None:
        if found := re.search(r"at (http://\S+)", log.read_text()):
            return found[1]
        time.sleep(0.02)
    raise AssertionError(f"serve.py does not listen: {log.read_text()}")
