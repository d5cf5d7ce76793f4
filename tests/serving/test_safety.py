"""serve.py under attack: malformed bytes, long texts, file names, and planted secrets.

Real processes on real sockets; tests/helpers/faulty_server.py provokes what valid requests cannot.
"""

import asyncio
import itertools
import json
import re
import socket
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, seed, settings
from starlette.types import Message, Receive, Scope, Send

import serve
from clingpt.base.errors import ConfigError, DataError
from clingpt.reports import DISCLAIMER
from clingpt.serving.app import Site, make_app
from clingpt.serving.middleware import BodyLimit, RequestLog
from clingpt.serving.service import Metrics
from tests.helpers.commands import ROOT
from tests.helpers.patience import PATIENCE
from tests.helpers.servers import FAULTY, Answer, Server, call, error_of, serving, unloaded_service

COMPLETIONS = "/v1/completions"
QUESTIONS = ("/v1/answer", "/v1/explain")
TASKS = (*QUESTIONS, "/v1/summarize", "/v1/document")
POSTS = (COMPLETIONS, *TASKS, "/invocations", "/predict")
KEY = "a-key-of-the-clinic"
NAMES = ("../../etc/passwd", "file:///etc/passwd", "http://169.254.169.254/latest", "/etc/shadow")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything that the server writes goes here: its log, HOME and TMPDIR."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "tmp").mkdir()
    return folder


@pytest.fixture(scope="module")
def witness(folder: Path) -> Path:
    """The server's audit events once its model is loaded: files opened, connections made."""
    return folder / "witness"


@pytest.fixture(scope="module")
def server(checkpoint: Path, folder: Path, witness: Path) -> Iterator[Server]:
    """Two rows and a short queue."""
    with serving(
        checkpoint,
        "--rows=2",
        "--queue=6",
        "--request_timeout=8",
        program=FAULTY,
        log=folder / "log",
        FAULTY_SETTINGS=json.dumps({"witness": str(witness)}),
        AIP_PREDICT_ROUTE="/predict",
        TMPDIR=str(folder / "tmp"),
        HOME=str(folder),
    ) as started:
        yield started


def lives(server: Server) -> bool:
    """Return whether the server still answers a valid request."""
    answer = server.ask(COMPLETIONS, {"prompt": "Pain", "max_tokens": 1})
    return answer.status == 200 and server.process.poll() is None


# ------------------------------------------------------------------------------------------------
# Bytes


LEGAL = {"NUL", "duplicate keys", "a byte order mark", "UTF-16"}  # unusual, but valid JSON
FUZZ: dict[str, bytes] = {
    "lone surrogate": rb'{"prompt": "\ud800 \udfff", "max_tokens": 1}',
    "NaN": b'{"prompt": "a", "temperature": NaN}',
    "infinity": b'{"prompt": "a", "temperature": 1e999}',
    "minus infinity": b'{"prompt": "a", "top_p": -Infinity}',
    "invalid UTF-8": b'{"prompt": "\xff\xfe"}',
    "half a character": b'{"prompt": "\xc3"}',
    "nested deeply": b'{"prompt": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "objects nested deeply": b'{"prompt":' * 50_000 + b"1" + b"}" * 50_000,
    "a number of 5,000 digits": b'{"prompt": "a", "seed": ' + b"9" * 5000 + b"}",
    "a number of 4,000 digits": b'{"prompt": "a", "max_tokens": ' + b"9" * 4000 + b"}",
    "duplicate keys": b'{"prompt": 7, "prompt": "a", "max_tokens": 1}',
    "an array": b'[{"prompt": "a"}]',
    "a text": b'"prompt"',
    "null": b"null",
    "NUL": b'{"prompt": "a\\u0000b", "max_tokens": 1}',
    "raw NUL": b'{"prompt": "a\x00b"}',
    "nothing": b"",
    "blanks": b"   \n",
    "a byte order mark": b'\xef\xbb\xbf{"prompt": "a", "max_tokens": 1}',
    "UTF-16": '{"prompt": "a", "max_tokens": 1}'.encode("utf-16"),
    "half": b'{"prompt": "a',
    "a prototype": b'{"__proto__": {"a": 1}, "constructor": 1, "prompt": "a"}',
    "a large id": b'{"prompt": [99999999999999999999]}',
    "overflowing logits": b'{"prompt": "a b c d e f", "repetition_penalty": 1e-300}',
    "a division by nothing": b'{"prompt": "a", "temperature": 1e-320}',
    "booleans": b'{"prompt": [true, false]}',
    "many errors": b'{"prompt": [' + b"[]," * 300_000 + b"1]}",
}


def adapt(body: bytes, path: str) -> bytes:
    """Translate a completion's body to the fields of another route."""
    if path == "/predict":
        return b'{"instances": [' + body + b"]}"
    if path in (COMPLETIONS, "/invocations"):
        return body
    field, longest = b"question" if path in QUESTIONS else b"text", b"max_new_tokens"
    for old, new in ((b"prompt", field), (b"max_tokens", longest)):
        body = body.replace(old, new)
    return body


@pytest.mark.parametrize("path", POSTS)
def test_malformed_bodies_are_refused(path: str, server: Server) -> None:
    fine = set()
    for name, body in FUZZ.items():
        answer = server.ask(path, adapt(body, path))
        if answer.status == 200:
            fine.add(name)
        else:
            error_of(answer, 400)
    # A task replaces an unpaired surrogate.
    assert fine - {"lone surrogate"} <= LEGAL and {"NUL", "duplicate keys"} <= fine
    assert lives(server)


@pytest.mark.parametrize("kind", ["text/plain", "", "multipart/form-data; boundary=x", "a/b/c"])
def test_only_json_is_accepted(kind: str, server: Server) -> None:
    body, headers = b'{"prompt": "a", "max_tokens": 1}', {"content-type": kind}
    assert server.ask(COMPLETIONS, body, headers=headers).status == 400


RAW = {
    "not HTTP": b"\x16\x03\x01\x02\x00\x01\x00" * 9 + b"\r\n\r\n",
    "half a line": b"GET",
    "an endless header": b"GET / HTTP/1.1\r\nhost: a\r\nx: " + b"a" * 100_000,
    "two lengths": b"POST /v1/completions HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n"
    b"content-length: 3\r\n\r\n{}",
    "a negative length": b"POST /v1/completions HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n",
    "malformed chunks": b"POST /v1/completions HTTP/1.1\r\nhost: a\r\n"
    b"transfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("name", RAW)
def test_malformed_http_is_rejected(name: str, server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=30 * PATIENCE) as connection:
        with suppress(OSError):
            connection.sendall(RAW[name])
            connection.shutdown(socket.SHUT_WR)
        with suppress(OSError):
            assert not connection.recv(65536).startswith((b"HTTP/1.1 5", b"HTTP/1.1 2"))
    assert lives(server)


@pytest.mark.parametrize("letter", ["a", "0", "é", "\n", " ", "🙂"])
@pytest.mark.parametrize("path", (COMPLETIONS, *TASKS))
def test_oversized_text_is_refused_before_tokenising(
    path: str, letter: str, server: Server
) -> None:
    text = "@encode9000 " + letter * (900_000 // len(json.dumps(letter)))
    fields = {"prompt": text} if path == COMPLETIONS else {"text": text, "question": "Why?"}
    started_at = time.monotonic()
    assert error_of(server.ask(path, fields), 400)["code"] == "context_length_exceeded"
    assert time.monotonic() - started_at < 8, "it was tokenised, which takes nine seconds here"
    assert server.gauge("num_requests_running") == 0


# ------------------------------------------------------------------------------------------------
# Names in a text are only text


def bodies_with(text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield a request to every route, with the text in each field that accepts one."""
    short: dict[str, Any] = {"max_tokens": 2, "temperature": 0}
    yield COMPLETIONS, {**short, "prompt": text, "stop": [text[:64]], "user": text}
    yield COMPLETIONS, {**short, "prompt": [text, text], "model": text}
    record = {"question": text, "text": text, "id": text[:200]}
    for path in TASKS:
        yield path, {**record, "max_new_tokens": 2, "stop": [text[:64]]}
        yield path, {"records": [{"question": text, "sections": [[text, text]]}], "model": text}
    yield "/invocations", {"task": text, "text": text}
    yield "/predict", {"instances": [{"prompt": text, "max_tokens": 1}]}


@pytest.mark.parametrize("name", NAMES)
def test_file_names_and_urls_in_requests_are_never_opened(
    name: str, server: Server, witness: Path
) -> None:
    for path, body in bodies_with(name):
        assert server.ask(path, body).status in (200, 400, 404)
    server.ask(f"/v1/models/{name}")
    server.ask("/docs-static/../../../../etc/passwd")
    server.ask("/docs-static/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd")
    seen = witness.read_text("utf-8")
    assert "etc/passwd" not in seen and "169.254" not in seen and "shadow" not in seen
    assert "socket.connect" not in seen and "subprocess.Popen" not in seen


def test_witness_records_opened_files(server: Server, witness: Path) -> None:
    """The test above can fail: a file that the server does open is recorded."""
    assert server.ask("/docs-static/swagger-ui.css").status == 200
    assert "swagger-ui.css" in witness.read_text("utf-8")


def test_typed_end_of_text_is_only_text(server: Server, witness: Path) -> None:
    for path, body in bodies_with("Pain <|endoftext|> fell. <|endoftext|>"):
        server.ask(path, body)
    assert "end_of_text" not in witness.read_text("utf-8")
    assert server.ask(COMPLETIONS, {"prompt": "", "max_tokens": 1}).status == 200
    assert "end_of_text" in witness.read_text("utf-8")  # an empty prompt becomes one


def test_texts_are_accepted_only_by_post_and_never_cached(server: Server) -> None:
    for path in POSTS:
        for method in ("GET", "PUT", "DELETE", "PATCH"):
            answer = server.ask(f"{path}?prompt=secret", method=method)
            assert answer.status == 405 and answer.headers["allow"] == "POST"
    answers = [server.ask(path) for path in ("/", "/health", "/v1/models", "/metrics", "/nowhere")]
    answers.append(server.ask(COMPLETIONS, {"prompt": "a", "max_tokens": 1}))
    assert all("no-store" in answer.headers["cache-control"] for answer in answers)
    assert all(answer.headers["x-content-type-options"] == "nosniff" for answer in answers)


# ------------------------------------------------------------------------------------------------
# Secrets


def disconnect(server: Server, secret: str, *, stream: bool) -> None:
    body = {"prompt": f"@sleep20 {secret}", "max_tokens": 100, "stream": stream}
    content = json.dumps(body).encode()
    head = f"POST {COMPLETIONS} HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(f"{head}content-length: {len(content)}\r\n\r\n".encode() + content)
        time.sleep(0.1)


def planted(server: Server) -> list[Callable[[str], Answer | None]]:
    """Return requests with every outcome, each of which carries a secret."""
    post, few = server.ask, {"max_tokens": 2}
    return [
        lambda s: post(COMPLETIONS, {"prompt": s, **few}),
        lambda s: post(COMPLETIONS, {"prompt": s, **few, "stream": True, "echo": True}),
        lambda s: post(COMPLETIONS, {"prompt": s, **few, "stop": [s], "user": s}),
        lambda s: post(COMPLETIONS, {"prompt": s, **few, s: s}),
        lambda s: post(COMPLETIONS, {"prompt": s, **few, "model": s}),
        lambda s: post(COMPLETIONS, {"prompt": s, **few, "temperature": s}),
        lambda s: post(COMPLETIONS, {"prompt": [{s: s}]}),
        lambda s: post(COMPLETIONS, {"prompt": s, "max_tokens": 9999}),
        lambda s: post(COMPLETIONS, f'{{"prompt": "{s}", {s}'.encode()),
        lambda s: post(COMPLETIONS, {"prompt": s}, headers={"content-type": s}),
        lambda s: post(COMPLETIONS, {"prompt": s + " " * 2**20}),
        lambda s: post(f"/{s}/{s}?{s}={s}", {"prompt": s}),
        lambda s: post(f"{COMPLETIONS}?{s}", headers={"x-request-id": s, "cookie": s}),
        lambda s: post(f"/v1/models/{s}"),
        lambda s: post("/v1/answer", {"question": s, "text": s, "id": s, "max_new_tokens": 2}),
        lambda s: post("/v1/answer", {"records": [{"text": s}], "explain": False}),
        lambda s: post("/v1/summarize", {"text": f"{s} " * 300, "max_new_tokens": 2}),
        lambda s: post("/v1/document", {"sections": [[s, s]], "max_new_tokens": 2}),
        lambda s: post("/invocations", {"task": s, s: s}),
        lambda s: post("/predict", {"instances": [{"task": "answer", "text": s}]}),
        lambda s: post(COMPLETIONS, {"prompt": f"@nan1 {s}", "max_tokens": 4}),
        lambda s: post(COMPLETIONS, {"prompt": f"@nan1 {s}", "max_tokens": 4, "stream": True}),
        lambda s: post("/v1/summarize", {"text": f"@flags0 {s}", "max_new_tokens": 2}),
        lambda s: post(COMPLETIONS, {"prompt": f"@stray0 {s}", **few}),
        lambda s: disconnect(server, s, stream=True),
        lambda s: disconnect(server, s, stream=False),
    ]


def written_since(started_at: float, folder: Path) -> dict[Path, str]:
    """Return files written since then, except by tools; some may vanish while they are read."""
    found = {}
    for inside in folder.iterdir():
        for path in (inside, *inside.rglob("*")) if inside.name not in (".git", ".venv") else ():
            with suppress(OSError):
                if path.is_file() and path.stat().st_mtime >= started_at - 1:
                    found[path] = path.read_bytes().decode(errors="replace")
    return found


def test_no_secret_is_left_behind(server: Server, folder: Path) -> None:
    started_at, statuses, secrets = time.time(), Counter[int](), []
    for n, send in zip(range(208), itertools.cycle(planted(server)), strict=False):
        secrets.append(f"Qx{n}z{uuid.uuid4().hex}")
        answer = send(secrets[-1])
        if answer is not None:
            statuses[answer.status] += 1
            if answer.status >= 400:
                assert secrets[-1] not in answer.body.decode()
                error_of(answer, answer.status)
    assert {200, 400, 404, 405, 413, 500} <= set(statuses), statuses
    assert server.process.poll() is None
    new = written_since(started_at, folder) | written_since(started_at, ROOT)
    assert "error in request" in new[server.log]
    left = [server.ask("/metrics").body.decode(), *new.values()]
    assert not [secret for secret, text in itertools.product(secrets, left) if secret in text]


def test_refusals_and_a_crash_reveal_nothing(checkpoint: Path) -> None:
    """Provoke 401, 429, 504 and a crash, with a secret in every request."""
    flags = ("--rows=1", "--queue=0", "--request_timeout=1")
    with serving(checkpoint, *flags, program=FAULTY, CLINGPT_API_KEYS=KEY) as server:

        def post(text: str, key: str = KEY) -> Answer:
            headers = {"authorization": f"Bearer {key}"}
            return server.ask(COMPLETIONS, {"prompt": text, "max_tokens": 200}, headers=headers)

        with ThreadPoolExecutor(6) as pool:
            answers = list(pool.map(post, ["@sleep50 Zebulon"] * 6))
        assert Counter(answer.status for answer in answers) == {429: 5, 504: 1}
        answers += [post("Zebulon", "Zebulon-401")]
        figures = server.ask("/metrics", headers={"authorization": f"Bearer {KEY}"}).body.decode()
        answers += [post("@crash3 Zebulon")]
        assert [answer.status for answer in answers[-2:]] == [401, 500]
        assert server.process.wait(60 * PATIENCE) == 1
    left = "".join([figures, server.log.read_text(), *(answer.body.decode() for answer in answers)])
    assert "Zebulon" not in left and KEY not in left and "RuntimeError at" in left


def test_telemetry_receives_nothing(server: Server, witness: Path) -> None:
    """FastAPI would export invalid requests together with their text."""
    assert server.ask(COMPLETIONS, {"prompt": "a", "temperature": "b"}).status == 400
    assert server.ask("/docs").status == 200
    assert "clingpt.telemetry" not in witness.read_text("utf-8")


# ------------------------------------------------------------------------------------------------
# The OpenAPI description and the source code


@pytest.mark.slow
def test_schemathesis_finds_no_server_error(server: Server) -> None:
    """No generated request gets a 5xx, and every response is one that OpenAPI describes."""
    import schemathesis

    found: Any = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    known = schemathesis.checks.CHECKS.get_all()
    # Prompts that exceed the context are valid by the description and must still be refused.
    skipped = [check for check in known if check.__name__ == "positive_data_acceptance"]
    statuses = Counter[int]()
    for operation in (result.ok() for result in found.get_all_operations()):

        @seed(1)
        @settings(
            max_examples=25,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy())
        def attack(case: Any) -> None:
            if isinstance(case.body, dict):
                case.body.pop("model", None)  # a generated name is nearly always an unknown model
            answer = case.call(base_url=server.url)
            statuses[answer.status_code] += 1
            case.validate_response(answer, excluded_checks=skipped)

        attack()
    for path in TASKS:  # valid bodies, since few generated ones are
        record, short = {"question": "Did it fall?", "text": "It fell."}, {"max_new_tokens": 2}
        for kind in (record, {"records": [record] * 2}, {**record, "stream": True}):
            body = {**kind, **short}
            case = found[path]["POST"].Case(body=body, media_type="application/json")
            assert case.call_and_validate(base_url=server.url).status_code == 200
    assert statuses[200] and statuses[400] and lives(server)


def test_intended_use_is_stated_everywhere(server: Server) -> None:
    assert DISCLAIMER in server.ask("/openapi.json").json["info"]["description"]
    assert DISCLAIMER in server.ask("/").body.decode()
    assert DISCLAIMER in (ROOT / "README.md").read_text("utf-8")
    answer = server.ask("/v1/summarize", {"text": "Pain fell.", "max_new_tokens": 1})
    assert answer.json["notice"] == DISCLAIMER


UNSAFE = (
    r"pickle\.load|weights_only=False|allow_pickle=True|trust_remote_code=True|(?<![\w.])eval\("
    r"|(?<![\w.])exec\(|shell=True|yaml\.load\("
)


def test_old_torch_is_refused_and_not_pinned() -> None:
    """Before 2.10, weights_only could be circumvented (CVE-2026-24747)."""
    with (
        mock.patch.object(sys, "argv", ["serve.py"]),
        mock.patch.object(torch, "__version__", "2.9.1"),
        pytest.raises(ConfigError, match="too old"),
    ):
        serve.main()
    [pinned] = re.findall(r"^torch==(\d+)\.(\d+)", (ROOT / "requirements.txt").read_text(), re.M)
    assert tuple(map(int, pinned)) >= serve.OLDEST_TORCH


def test_a_file_of_keys_that_is_empty_or_not_utf8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_bytes("clé\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"keys is not UTF-8 \(byte 2\); convert it first$"):
        serve.read_keys(path, "")
    path.write_bytes(b"\n \n")
    with pytest.raises(ConfigError, match="keys contains no key; write one per line"):
        serve.read_keys(path, "")


def test_code_never_executes_data() -> None:
    folders = ("clingpt", "config", "deploy")
    inside = (path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    sources = [*ROOT.glob("*.py"), *inside]
    assert len(sources) > 100
    found = [path.name for path in sources if re.search(UNSAFE, path.read_text("utf-8"))]
    assert not found
    assert "multipart" not in (ROOT / "requirements-serve.txt").read_text("utf-8")


async def _fails(scope: Scope, receive: Receive, send: Send) -> None:
    raise ValueError("Zebulon has diabetes")


async def _nothing_more() -> Message:
    return {"type": "http.disconnect"}


def test_errors_are_logged_even_without_a_request_log() -> None:
    """--log_requests=False silences only request lines; an exception's message is never logged."""
    noted = list[str]()
    app = RequestLog(_fails, metrics=Metrics(), log=lambda _: None, note=noted.append)
    assert call(app, "/", _nothing_more)[0]["status"] == 500
    [line] = noted
    assert "ValueError at" in line and "_fails" in line and "Zebulon" not in line


@pytest.mark.parametrize("announced", ["2000", None])
def test_oversized_body_is_refused_only_after_it_was_read(announced: str | None) -> None:
    """Many clients send their whole body before they read a response."""
    parts = [b"x" * 100] * 20

    async def receive() -> Message:
        return {"type": "http.request", "body": parts.pop(), "more_body": bool(parts)}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_late(message: Message) -> None:
            assert not parts, "it answered before it had read the body"
            await send(message)

        await make_app(unloaded_service(max_body_bytes=1000), Site())(scope, receive, send_late)

    length = {"content_length": announced} if announced else {}
    sent = call(app, COMPLETIONS, receive, content_type="application/json", **length)
    assert sent[0]["status"] == 413
    assert json.loads(sent[1]["body"])["error"]["code"] == "body_too_large"
    assert len(sent) == 2


def test_slow_body_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BodyLimit.__init__, "__kwdefaults__", {"timeout_s": 0.05})

    async def receive() -> Message:
        return await asyncio.Future()  # never arrives

    app = make_app(unloaded_service(), Site())
    headers = {"content_type": "application/json", "content_length": "99"}
    sent = call(app, COMPLETIONS, receive, **headers)
    assert sent[0]["status"] == 408 and (b"connection", b"close") in sent[0]["headers"]
    error = json.loads(sent[1]["body"])["error"]
    assert error["type"] == "invalid_request_error" and "did not arrive within" in error["message"]
