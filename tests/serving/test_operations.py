"""serve.py in operation: loading, keys, metrics, load, disconnects, errors, signals, endurance.

Real processes on real sockets serve a random model. tests/helpers/faulty_server.py makes steps slow
or raises where a prompt asks for it, so that durations can be compared with those of the faults."""

import base64
import hashlib
import http.client
import inspect
import json
import os
import random
import re
import select
import shutil
import signal
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import openai
import pytest
from prometheus_client.parser import text_string_to_metric_families

from clingpt.base import console
from clingpt.reports import DISCLAIMER
from clingpt.serving import middleware
from clingpt.serving.app import Site, make_routes
from clingpt.text.tokenizer import VOCAB_SIZE, Tokenizer
from tests.helpers.commands import write_sums
from tests.helpers.models import make_tiny_model
from tests.helpers.patience import PATIENCE
from tests.helpers.servers import (
    FAULTY,
    Answer,
    Server,
    complete,
    error_of,
    events,
    eventually,
    fork,
    frames,
    official_client,
    serving,
    unloaded_service,
)

TOKENIZER = Tokenizer.load()
KEYS = ("correct-Horse-battery", "clé", "of-the-environment")
SITE, OTHER_SITE = "https://clinic.example", "https://elsewhere.example"
COMPLETIONS = "/v1/completions"
SECRET = "Zebulon Quirke was born on 4 May"
ENDED = (0, -signal.SIGTERM, 128 + signal.SIGTERM)  # exit statuses after a signal
Sample = tuple[str, tuple[tuple[str, str], ...]]  # a metric's name and labels


class Keyed(Server):
    """A server whose requests carry a key."""

    def ask(self, path: str, body: object = None, **options: Any) -> Answer:
        headers = {"authorization": f"Bearer {KEYS[0]}"} | (options.pop("headers", None) or {})
        return super().ask(path, body, headers=headers, **options)


@pytest.fixture(scope="module")
def wide(checkpoint: Path) -> Iterator[Server]:
    """Eight rows, no keys."""
    with serving(checkpoint, "--rows=8", program=FAULTY) as started:
        yield started


@pytest.fixture(scope="module")
def narrow(checkpoint: Path) -> Iterator[Keyed]:
    """One row and a queue of two, a timeout of four seconds, API keys, and one allowed origin.

    Not forked, so that its command line is the real one.
    """
    folder = checkpoint.parent
    (folder / "keys").write_text(f"{KEYS[0]}\n\n  {KEYS[1]} \n", "utf-8")
    flags = ("--rows=1", "--queue=2", "--request_timeout=4", f"--api_key_file={folder / 'keys'}")
    site = ("--cors_origins", SITE, "--frame_ancestors", SITE)
    with serving(
        checkpoint,
        *flags,
        *site,
        command=("-m", FAULTY),
        FAULTY_SETTINGS=json.dumps({"ping_s": 0.3, "sending_s": 1}),
        CLINGPT_API_KEYS=KEYS[2],
    ) as started:
        yield Keyed(started.process, started.url, started.log)


@pytest.fixture(scope="module")
def late(checkpoint: Path) -> Iterator[Server]:
    """Four rows; loading takes three more seconds, and the fixture does not wait for it."""
    flags, settings = ("--rows=4", "--shutdown_timeout=20"), json.dumps({"load_s": 3})
    with serving(
        checkpoint, *flags, program=FAULTY, wait=False, FAULTY_SETTINGS=settings
    ) as started:
        yield started


def all_at_once(calls: Sequence[Callable[[], Any]]) -> list[Any]:
    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result() for future in [pool.submit(call) for call in calls]]


def n_open(server: Server) -> float:
    """Return how many replies are being decoded or wait."""
    return server.gauge("num_requests_running") + server.gauge("num_requests_waiting")


def is_idle(server: Server) -> bool:
    return n_open(server) == 0


def request_to(server: Server, **fields: Any) -> http.client.HTTPConnection:
    """Send a completion request; the caller may read the response or leave."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60 * PATIENCE)
    headers = {"content-type": "application/json", "authorization": f"Bearer {KEYS[0]}"}
    connection.request("POST", COMPLETIONS, json.dumps(fields).encode(), headers)
    return connection


def next_frame(response: http.client.HTTPResponse) -> bytes:
    line, blank = response.readline(), response.readline()
    assert blank == b"\n"
    return line


def metrics(server: Server) -> dict[Sample, float]:
    """Return all of /metrics except durations and the count of requests to /metrics."""
    families = text_string_to_metric_families(server.ask("/metrics").body.decode())
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
        if not sample.name.endswith(("_seconds_sum", "_bucket"))
        and sample.labels.get("route") != "/metrics"
    }


def changes(before: dict[Sample, float], after: dict[Sample, float]) -> dict[Sample, float]:
    found = {name: value - before.get(name, 0) for name, value in after.items()}
    return {name: change for name, change in found.items() if change}


# ------------------------------------------------------------------------------------------------
# Loading


def test_loading_server_is_alive_but_not_ready(late: Server) -> None:
    assert late.ask("/health").json == {"status": "loading"}
    assert late.ask("/").status == 200
    asked = {COMPLETIONS: {"prompt": "Pain"}, "/v1/summarize": {"text": "It fell."}}
    for path, body in ({"/ready": None, "/ping": None, "/v1/models": None} | asked).items():
        answer = late.ask(path, body)
        assert error_of(answer, 503)["code"] == "model_loading"
        assert 1 <= int(answer.headers["retry-after"]) <= 120
    assert late.gauge("ready") == 0
    late.wait_until("/ready", 200)
    assert late.ask("/health").json == late.ask("/ready").json == {"status": "ready"}
    assert all(late.ask(path, body).status == 200 for path, body in asked.items())
    assert late.gauge("ready") == 1


# ------------------------------------------------------------------------------------------------
# Keys, other sites, the page


# Written out, so that no route becomes public by accident.
PUBLIC = {"/", "/health", "/ready", "/ping"}


def all_routes() -> dict[str, set[str] | None]:
    """Return the application's paths with their methods."""
    routes = make_routes(unloaded_service(), Site()).routes
    return {getattr(route, "path", ""): getattr(route, "methods", None) for route in routes}


def test_every_private_route_requires_a_key(narrow: Keyed) -> None:
    paths = all_routes()
    assert {COMPLETIONS, "/metrics", "/docs", "/openapi.json", "/docs-static"} | PUBLIC < set(paths)
    asked = [(path, method) for path, methods in paths.items() for method in methods or ["GET"]]
    asked += [(path, "GET") for path in ("/nowhere", "/health/", "/HEALTH", "//", "/docs-static/x")]
    for path, method in asked:
        filled = re.sub(r"\{.*?\}", "x", path)
        answer = Server.ask(narrow, filled, b"{}" if method == "POST" else None, method=method)
        if path in PUBLIC:
            assert answer.status == 200
        elif method != "HEAD":
            assert error_of(answer, 401)["code"] == "invalid_api_key", path
            assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    "header",
    [
        *("Bearer wrong", f"Bearer {KEYS[0].upper()}", f"Bearer {KEYS[0][:-1]}", "Bearer "),
        *(f"Bearer {KEYS[0]}x", f"Bearer {KEYS[0]} {KEYS[2]}", f"Basic {KEYS[0]}", KEYS[0]),
        *(f"Bearer {KEYS[0]},{KEYS[2]}", f"Bearer  {KEYS[0]}"),
    ],
)
def test_almost_correct_keys_are_refused(header: str, narrow: Keyed) -> None:
    error_of(narrow.ask("/v1/models", headers={"authorization": header}), 401)
    error_of(Server.ask(narrow, f"/v1/models?api_key={KEYS[0]}"), 401)


def test_keys_come_from_a_file_and_the_environment(narrow: Keyed) -> None:
    for key in KEYS:
        sent = f"bearer {key}".encode().decode("latin-1")  # as a client sends UTF-8
        assert narrow.ask("/v1/models", headers={"authorization": sent}).status == 200
    command = Path(f"/proc/{narrow.process.pid}/cmdline")
    shown = narrow.log.read_text() + (command.read_text() if command.exists() else "")
    assert not any(key in shown for key in KEYS)
    # Timing does not reveal how much of a key was right.
    assert "compare_digest" in inspect.getsource(middleware.RequireKey)


def test_only_configured_origins_pass_cors(wide: Server, narrow: Keyed) -> None:
    def allowed(server: Server, origin: str, **options: Any) -> dict[str, str]:
        headers = {"origin": origin, **options.pop("more", {})}
        found = server.ask("/v1/models", headers=headers, **options).headers
        return {name: value for name, value in found.items() if "access-control" in name}

    preflight = {
        "method": "OPTIONS",
        "more": {"access-control-request-method": "POST", "authorization": ""},
    }
    for origin in (SITE, OTHER_SITE):
        assert not allowed(wide, origin) | allowed(wide, origin, **preflight)
    assert allowed(narrow, SITE) == {"access-control-allow-origin": SITE}
    granted = allowed(narrow, SITE, **preflight)
    assert granted["access-control-allow-origin"] == SITE and "POST" in str(granted)
    for found in (allowed(narrow, OTHER_SITE), allowed(narrow, OTHER_SITE, **preflight), granted):
        assert "access-control-allow-credentials" not in found
        assert OTHER_SITE not in str(found) and "*" not in str(found)


def test_content_policy_allows_only_the_pages_own_script(wide: Server, narrow: Keyed) -> None:
    answer = wide.ask("/")
    page, policy = answer.body.decode(), answer.headers["content-security-policy"]
    rules = {rule.split()[0]: rule.split()[1:] for rule in policy.split("; ")}
    assert rules["default-src"] == rules["frame-ancestors"] == rules["base-uri"] == ["'none'"]
    for tag in ("script", "style"):
        [inside] = re.findall(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert rules[f"{tag}-src"] == [f"'sha256-{digest}'"]
    assert DISCLAIMER.rstrip(".") in page
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    assert f"frame-ancestors {SITE}" in narrow.ask("/").headers["content-security-policy"]


# ------------------------------------------------------------------------------------------------
# Figures


def test_metrics_are_exact(wide: Server) -> None:
    n_prompt = len(TOKENIZER.encode("Pain fell by 31 %"))
    before = metrics(wide)
    for _ in range(10):
        answer = complete(wide, prompt="Pain fell by 31 %", max_tokens=10, temperature=0)
        assert answer.status == 200
    expected = {
        "prompt_tokens_total": 10 * n_prompt,
        "generation_tokens_total": 100,
        "request_prompt_tokens_sum": 10 * n_prompt,
        "request_generation_tokens_sum": 100,
        "inter_token_latency_seconds_count": 90,
    }
    once = "time_to_first_token e2e_request_latency request_queue_time request_prefill_time"
    expected |= {f"{name}_seconds_count": 10 for name in f"{once} request_decode_time".split()}
    expected |= {f"request_{kind}_tokens_count": 10 for kind in ("prompt", "generation")}
    changed: dict[Sample, float] = {(f"clingpt_{name}", ()): n for name, n in expected.items()}
    changed["clingpt_replies_total", (("finish_reason", "length"),)] = 10
    route = (("route", COMPLETIONS), ("status", "200"))
    changed["clingpt_http_responses_total", route] = 10
    eventually(lambda: changes(before, metrics(wide)) == changed)


def test_metric_names_have_units_and_labels_come_from_fixed_sets(wide: Server) -> None:
    for path in (f"/{SECRET.replace(' ', '%20')}", "/v1/models/no-such-model", "/docs-static/x"):
        wide.ask(path)
    wide.raw(b"BREW / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    routes = {*all_routes(), "unmatched"}
    reasons = {"stop", "length", "cancelled", "error"}
    text = wide.ask("/metrics").body.decode()
    families = list(text_string_to_metric_families(text))
    assert len({family.name for family in families}) == len(families) > 15
    for family in families:
        assert re.fullmatch(r"clingpt_[a-z0-9_]+", family.name) and family.documentation
        if family.type == "histogram":
            assert family.name.endswith(("_seconds", "_tokens"))
        for sample in family.samples:
            assert sample.labels.get("route", "unmatched") in routes
            assert sample.labels.get("finish_reason", "stop") in reasons
            assert re.fullmatch(r"[1-5]\d\d|gone", sample.labels.get("status", "gone"))
            assert set(sample.labels) <= {"route", "status", "finish_reason", "le"}


# ------------------------------------------------------------------------------------------------
# Crowds


@pytest.mark.parametrize("fault", ["@sleep1000", "@encode1000"])
def test_full_queue_refuses_at_once_and_before_any_work(fault: str, narrow: Keyed) -> None:
    def asked() -> tuple[Answer, float]:
        started_at = time.monotonic()
        answer = narrow.ask(COMPLETIONS, {"prompt": fault, "max_tokens": 1})
        return answer, time.monotonic() - started_at

    eventually(lambda: is_idle(narrow))
    before = narrow.gauge("rejected_requests_total")
    answers = all_at_once([asked] * 30)
    statuses = Counter(answer.status for answer, _ in answers)
    assert set(statuses) == {200, 429} and statuses[200] >= 3
    for answer, seconds in answers:
        if answer.status == 429:
            assert error_of(answer, 429)["type"] == "rate_limit_error"
            assert 1 <= int(answer.headers["retry-after"]) <= 120
            assert seconds < 1 * PATIENCE, "the request was processed before it was refused"
    assert narrow.gauge("rejected_requests_total") - before == statuses[429]
    eventually(lambda: is_idle(narrow))
    assert complete(narrow, prompt="Pain", max_tokens=1).status == 200


def test_request_for_more_replies_than_slots_is_refused(narrow: Keyed) -> None:
    error = error_of(complete(narrow, prompt="Pain", n=4, max_tokens=1), 400)
    assert "4" in error["message"] and "3" in error["message"]


def test_more_rows_are_faster_and_short_replies_overtake_long_ones(
    wide: Server, narrow: Keyed
) -> None:
    def seconds(server: Server, n_clients: int) -> float:
        def status(n: int) -> int:
            return complete(server, prompt="@sleep15 a", max_tokens=n).status

        started_at = time.monotonic()
        with ThreadPoolExecutor(n_clients) as pool:
            assert set(pool.map(status, [2 + n % 11 for n in range(24)])) == {200}
        return time.monotonic() - started_at

    assert seconds(narrow, 3) > 1.5 * seconds(wide, 24)
    long = request_to(wide, prompt="@sleep20 a", max_tokens=200)
    with closing(long):
        eventually(lambda: wide.gauge("num_requests_running") == 1)
        assert complete(wide, prompt="Pain", max_tokens=1).status == 200
        assert wide.gauge("num_requests_running") == 1, "it waited for the long reply"
    eventually(lambda: is_idle(wide))


@pytest.mark.parametrize("settings", [{"temperature": 0}, {"temperature": 1.2, "seed": 7}])
def test_replies_do_not_depend_on_concurrent_requests(
    settings: dict[str, Any], wide: Server
) -> None:
    rng = random.Random(0)
    prompts = [" ".join(rng.choices(["pain", "fell", "31 %", "é"], k=1 + n)) for n in range(32)]
    asked = [
        {"prompt": prompt, "max_tokens": 4 + n % 13, **settings} for n, prompt in enumerate(prompts)
    ]

    def choices(fields: dict[str, Any]) -> Any:
        return complete(wide, **fields).json["choices"]

    alone = [choices(fields) for fields in asked]
    together = all_at_once([partial(choices, fields) for fields in asked[::-1]])
    assert together[::-1] == alone and len({str(choices) for choices in alone}) > 25


def test_a_reused_row_contains_nothing_of_its_previous_prompt(wide: Server, narrow: Keyed) -> None:
    def replies(server: Server, n: int) -> list[Any]:
        fields = {"max_tokens": 2, "temperature": 0, "logprobs": 5}
        return [
            complete(server, prompt=f"Pain {i % 10}", **fields).json["choices"] for i in range(n)
        ]

    assert complete(narrow, prompt=f"{SECRET} " * 9, max_tokens=60).status == 200
    assert replies(narrow, 200) == replies(wide, 10) * 20  # which never saw the secret


# ------------------------------------------------------------------------------------------------
# Clients that leave, stall or wait too long


@pytest.mark.parametrize("stream", [True, False])
def test_disconnected_client_frees_its_row(stream: bool, wide: Server) -> None:
    before = metrics(wide)
    # Slower steps on a busy machine: a bound on tokens must not depend on how soon the client acts.
    slow = f"@sleep{30 * PATIENCE:.0f} a"
    with closing(request_to(wide, prompt=slow, max_tokens=200, stream=stream)) as leaving:
        # Of eight rows of 256 tokens each; the prompt has fewer than ten.
        eventually(lambda: wide.gauge("kv_cache_usage_ratio") > 10 / 2048)
        if stream:
            response = leaving.getresponse()
            assert all(next_frame(response).startswith(b"data: {") for _ in range(3))
            response.close()
    eventually(lambda: is_idle(wide))

    def ended() -> dict[Sample, float]:
        return changes(before, metrics(wide))

    eventually(lambda: ended().get(("clingpt_replies_total", (("finish_reason", "cancelled"),))))
    assert 0 < ended()["clingpt_generation_tokens_total", ()] < 100, "it was decoded for too long"
    status = (("route", COMPLETIONS), ("status", "200" if stream else "gone"))
    eventually(lambda: ended().get(("clingpt_http_responses_total", status)) == 1)


def test_client_that_leaves_the_queue_is_forgotten(narrow: Keyed) -> None:
    with closing(request_to(narrow, prompt="@sleep100 a", max_tokens=35)) as long:
        eventually(lambda: narrow.gauge("num_requests_running") == 1)
        with closing(request_to(narrow, prompt="Pain", max_tokens=200)):
            eventually(lambda: narrow.gauge("num_requests_waiting") == 1)
        eventually(lambda: narrow.gauge("num_requests_waiting") == 0)
        assert not select.select([long.sock], [], [], 0)[0], "it waited until the long one ended"
    eventually(lambda: is_idle(narrow))


def test_request_times_out(narrow: Keyed) -> None:
    with closing(request_to(narrow, prompt="@sleep100 a", max_tokens=200, stream=True)) as shown:
        response = shown.getresponse()
        assert next_frame(response).startswith(b"data: {")
        queued = complete(narrow, prompt="@sleep100 a", max_tokens=200)
        error = error_of(queued, 504)
        assert error["code"] == "timeout" and error["type"] == "server_error"
        assert events(response.read().replace(b": ping\n\n", b""))[-1]["error"] == error
    eventually(lambda: is_idle(narrow))
    assert complete(narrow, prompt="Pain", max_tokens=1).status == 200


def test_client_that_stops_reading_frees_its_slots(narrow: Keyed) -> None:
    body = json.dumps({"prompt": "a", "n": 3, "max_tokens": 200, "logprobs": 5, "stream": True})
    head = f"POST {COMPLETIONS} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEYS[0]}\r\n"
    head += f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    with socket.socket() as stalled:
        stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        stalled.connect(("127.0.0.1", narrow.port))
        stalled.sendall((head + body).encode())
        eventually(lambda: not is_idle(narrow))
        eventually(lambda: is_idle(narrow))
        refused = complete(narrow, prompt="Pain", max_tokens=1)
        assert refused.status == 429, "the client did not block the server"
        eventually(lambda: complete(narrow, prompt="Pain", max_tokens=1).status == 200)


def test_silent_stream_is_kept_open_by_pings(narrow: Keyed) -> None:
    with closing(request_to(narrow, prompt="@sleep1000 a", max_tokens=2, stream=True)) as asked:
        response = asked.getresponse()
        assert response.headers["x-accel-buffering"] == "no"
        assert "no-cache" in response.headers["cache-control"]
        parts = response.read().split(b"\n\n")
    kinds = ["ping" if part == b": ping" else part[:5].decode() for part in parts]
    assert kinds[0] == "ping" and kinds.count("ping") >= 4 and kinds.count("data:") == 3
    with official_client(narrow, KEYS[0]) as client:
        prompt = "@sleep700 a"
        stream = client.completions.create(model="tiny", prompt=prompt, max_tokens=1, stream=True)
        assert [chunk.choices[0].finish_reason for chunk in stream] == ["length"]


# ------------------------------------------------------------------------------------------------
# Bodies


def resident_bytes(server: Server) -> int:
    """Return the memory that the process occupies."""
    ps = ["ps", "-o", "rss=", "-p", str(server.process.pid)]
    return 1024 * int(subprocess.run(ps, capture_output=True, text=True, check=True).stdout)


@pytest.mark.parametrize("chunked", [False, True])
def test_oversized_body_is_discarded_and_answered(chunked: bool, wide: Server) -> None:
    def body() -> Iterator[bytes]:
        yield from [b"x" * 2**16] * 64

    before = resident_bytes(wide)
    connection = http.client.HTTPConnection("127.0.0.1", wide.port, timeout=60 * PATIENCE)
    headers = {"content-type": "application/json"}
    headers |= {} if chunked else {"content-length": str(64 * 2**16)}
    with closing(connection):  # reused: the rest of a body must not become the next request
        for _ in range(16):
            connection.request("POST", COMPLETIONS, body(), headers, encode_chunked=chunked)
            with connection.getresponse() as response:
                assert response.status == 413
                assert json.load(response)["error"]["code"] == "body_too_large"
    assert resident_bytes(wide) - before < 20 * 2**20
    just_right = json.dumps({"prompt": "a"}).encode().ljust(2**20)
    assert wide.ask(COMPLETIONS, just_right).status == 200
    error_of(wide.ask(COMPLETIONS, just_right + b" "), 413)
    if not chunked:  # urllib reads nothing before it has sent everything
        for _ in range(4):
            error_of(wide.ask(COMPLETIONS, b"x" * 7 * 2**20), 413)


# ------------------------------------------------------------------------------------------------
# Errors


def test_non_finite_logits_fail_only_their_own_reply(wide: Server) -> None:
    whole = complete(wide, prompt="@nan0 a")
    assert error_of(whole, 500)["type"] == "server_error"
    *parts, error = frames(complete(wide, prompt="@nan3 a", stream=True, logprobs=0))
    assert len(parts) == 3 and error == whole.json
    with official_client(wide) as client, pytest.raises(openai.APIError, match="not finite"):
        list(client.completions.create(model="tiny", prompt="@nan3 a", stream=True))
    assert complete(wide, prompt="a").status == 200


def test_engine_crash_fails_every_request_and_ends_the_process(checkpoint: Path) -> None:
    with serving(checkpoint, "--rows=3", program=FAULTY) as server:
        client = official_client(server)

        def official() -> float:
            with client, pytest.raises(openai.APIError, match="the model crashed"):
                list(client.completions.create(model="tiny", prompt="@sleep200 a", stream=True))
            return time.monotonic()

        def bare() -> tuple[Answer, float]:
            return complete(server, prompt="@sleep200 a"), time.monotonic()

        crash = {"prompt": f"@crash9 {SECRET} @sleep200", "logprobs": 0, "stream": True}
        with closing(request_to(server, **crash)) as struck:
            response = struck.getresponse()
            assert next_frame(response).startswith(b"data: {")
            last, *others = all_at_once([official, *[bare] * 4])  # two are decoded, three wait
            *parts, last_error = events(response.read())
        assert server.process.wait(60 * PATIENCE) not in (None, 0)
    assert len(parts) == 8 and last_error["error"]["code"] == "engine_failed"
    assert all(answer.status == 500 and answer.json == last_error for answer, _ in others)
    moments = [last, *(moment for _, moment in others)]
    assert max(moments) - min(moments) < 2 * PATIENCE
    logged = server.log.read_text()
    assert "error: the model crashed: RuntimeError at" in logged
    assert SECRET not in logged and "Traceback" not in logged


# ------------------------------------------------------------------------------------------------
# Signals


def test_first_signal_lets_running_requests_finish(late: Server) -> None:
    late.wait_until("/ready", 200)
    with ThreadPoolExecutor(10) as pool:
        asked: list[Future[Answer]] = [
            pool.submit(
                complete, late, prompt="@sleep20 a", max_tokens=40, logprobs=0, stream=stream
            )
            for stream in (True, False) * 5
        ]
        eventually(lambda: n_open(late) == 10)
        late.process.send_signal(signal.SIGTERM)

        def refuses() -> bool:
            try:
                assert error_of(late.ask("/ready"), 503)["code"] == "model_draining"
            except OSError:
                return True
            return False

        time.sleep(0.05)
        eventually(refuses)
        assert late.process.poll() is None, "it did not wait for its requests"
        answers = [future.result() for future in asked]
    for n, answer in enumerate(answers):
        assert answer.status == 200
        if n % 2:
            assert answer.json["usage"]["completion_tokens"] == 40
        else:
            assert answer.body.count(b"data: {") == 40 and answer.body.endswith(b"[DONE]\n\n")
    assert late.process.wait(60 * PATIENCE) in ENDED
    assert "Traceback" not in late.log.read_text()


def test_shutdown_timeout_sends_errors_and_exits(checkpoint: Path) -> None:
    flags = ("--rows=1", "--shutdown_timeout=0")
    with serving(checkpoint, *flags, program=FAULTY) as server:
        shown = request_to(server, prompt="@sleep200 a", max_tokens=200, stream=True)
        response = shown.getresponse()
        assert next_frame(response).startswith(b"data: {")
        waiting = request_to(server, prompt="Pain")  # only now: it must not come first
        with closing(shown), closing(waiting):
            eventually(lambda: server.gauge("num_requests_waiting") == 1)
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(30 * PATIENCE) in ENDED  # the reply would take forty
            assert "shutting down" in events(response.read())[-1]["error"]["message"]
            assert waiting.getresponse().status == 503
    assert "Traceback" not in server.log.read_text()


def test_second_signal_exits_at_once(checkpoint: Path) -> None:
    with serving(checkpoint, "--shutdown_timeout=60", program=FAULTY) as server:
        with closing(request_to(server, prompt="@sleep200 a", max_tokens=200)):
            eventually(lambda: server.gauge("num_requests_running") == 1)
            server.process.send_signal(signal.SIGINT)
            with pytest.raises(subprocess.TimeoutExpired):
                server.process.wait(1)
            server.process.send_signal(signal.SIGINT)
            # From uvicorn, or from asyncio.
            assert server.process.wait(30 * PATIENCE) in (0, 130, -signal.SIGINT)
    assert "Traceback" not in server.log.read_text()


# ------------------------------------------------------------------------------------------------
# What cannot be served


def test_unservable_checkpoint_is_refused_in_one_line(checkpoint: Path, tmp_path: Path) -> None:
    small = {"vocab_size": VOCAB_SIZE, "block_size": 128, "n_embd": 32}
    make_tiny_model(**small | {"n_embd": 16}).save_pretrained(tmp_path / "shape")
    shutil.copy(checkpoint / "config.json", tmp_path / "shape")
    shutil.copytree(checkpoint, tmp_path / "pickle")
    (tmp_path / "pickle/model.safetensors").rename(tmp_path / "pickle/pytorch_model.bin")
    shutil.copytree(checkpoint, tmp_path / "damaged")
    (tmp_path / "damaged/clingpt.json").write_text('{"format": 1}')
    write_sums(tmp_path / "damaged")
    with (tmp_path / "damaged/model.safetensors").open("r+b") as file:
        file.seek(-9, os.SEEK_END)
        last = file.read(1)
        file.seek(-9, os.SEEK_END)
        file.write(bytes([last[0] ^ 1]))
    taken = socket.create_server(("127.0.0.1", 0))
    reasons = {
        (tmp_path / "absent", 0): "absent is not a folder",
        (tmp_path / "shape", 0): "wte",
        (tmp_path / "pickle", 0): f"export.py --checkpoint={tmp_path / 'pickle'} --format=hf",
        (tmp_path / "damaged", 0): "model.safetensors is damaged",
        (checkpoint, taken.getsockname()[1]): "choose another port",
    }
    with taken:
        for (path, port), reason in reasons.items():
            log = tmp_path / "refused.log"
            process = fork("serve", [f"--checkpoint={path}", f"--port={port}"], log)
            assert process.wait(60 * PATIENCE) == 1, log.read_text()
            *others, line = log.read_text().splitlines()
            assert line.startswith("error: ") and reason in line
            assert "Traceback" not in log.read_text() and len(others) <= 1


# ------------------------------------------------------------------------------------------------
# Endurance


def descriptors(server: Server) -> int:
    return len(os.listdir(f"/proc/{server.process.pid}/fd"))


REPORT = " ".join(f"Patient {n} had a fall of {n}.5 mmHg." for n in range(60))
SOAKED: tuple[tuple[str, Any, int], ...] = (
    (COMPLETIONS, {"prompt": "Pain fell", "max_tokens": 20}, 200),
    (COMPLETIONS, {"prompt": ["Pain", "Nausea"], "n": 2, "max_tokens": 8, "logprobs": 2}, 200),
    (COMPLETIONS, {"prompt": "Pain fell", "max_tokens": 30, "stream": True}, 200),
    (COMPLETIONS, {"prompt": "Pain", "max_tokens": 9, "echo": True, "logprobs": 1}, 200),
    ("/v1/answer", {"question": "Did it?", "text": REPORT[:400], "max_new_tokens": 20}, 200),
    ("/v1/summarize", {"text": REPORT, "max_new_tokens": 16}, 200),
    ("/v1/document", {"text": REPORT[:300], "max_new_tokens": 16, "stream": True}, 200),
    (COMPLETIONS, {"prompt": REPORT, "max_tokens": 200}, 400),
    (COMPLETIONS, b"{", 400),
    (COMPLETIONS, b" " * 2**20 + b"{}", 413),
    ("/v1/answer", {"question": "Did it?", "model": "other"}, 404),
    ("/nowhere", None, 404),
    ("/", None, 200),
    ("/metrics", None, 200),
)


def soak(server: Server, seconds: float) -> tuple[Counter[int], list[float]]:
    """Run eight clients of every kind; return response statuses and the times of /health."""
    end, statuses, waits = time.monotonic() + seconds, Counter[int](), list[float]()

    def client(number: int) -> None:
        rng = random.Random(number)
        while time.monotonic() < end:
            path, body, status = rng.choice(SOAKED)
            if status == 200 and path == COMPLETIONS and rng.random() < 0.2:
                leaving = request_to(server, **body)
                time.sleep(rng.random() * 0.05)
                leaving.close()
                continue
            answer = server.ask(path, body)
            assert answer.status == status, answer.body[:300]
            assert status != 200 or b'{"error"' not in answer.body, "a stream ended with an error"
            statuses[answer.status] += 1

    def health() -> None:
        while time.monotonic() < end:
            started_at = time.monotonic()
            assert server.ask("/health").status == 200
            waits.append(time.monotonic() - started_at)
            time.sleep(0.02)

    all_at_once([*(partial(client, n) for n in range(8)), health])
    return statuses, sorted(waits)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").exists(), reason="needs /proc to count descriptors")
def test_memory_and_latency_stay_stable_under_load(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seconds = float(os.environ.get("CLINGPT_SOAK_S", "8"))
    is_long = seconds >= 60
    # oneDNN caches code for 1,024 shapes, about 40 MB. A small cache lets other growth be seen.
    with serving(checkpoint, "--rows=4", ONEDNN_PRIMITIVE_CACHE_CAPACITY="16") as server:
        eventually(lambda: is_idle(server))
        n_files = descriptors(server)
        soak(server, seconds if is_long else seconds / 2)  # warm up the allocator
        before = resident_bytes(server)
        statuses, waits = soak(server, seconds)
        eventually(lambda: is_idle(server) and descriptors(server) <= n_files)
        drift = resident_bytes(server) / before - 1
        p99 = waits[int(0.99 * len(waits))]
    with capsys.disabled():
        console.note(
            f"\n{seconds:g} s, {sum(statuses.values())} responses {dict(statuses)}, memory "
            f"{before / 2**20:.0f} MiB {drift:+.1%}, {n_files} descriptors, "
            f"/health p50 {1000 * waits[len(waits) // 2]:.0f} ms, p99 {1000 * p99:.0f} ms"
        )
    assert set(statuses) == {200, 400, 404, 413}
    assert drift < (0.05 if is_long else 0.2)
    assert p99 < (0.1 if is_long else 1) * PATIENCE
