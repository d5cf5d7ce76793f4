"""The server behind a proxy that publishes it under a path: with --root_path, and without it."""

import re

import pytest
from starlette.testclient import TestClient

from clingpt.base.errors import ConfigError
from clingpt.serving.app import Site, make_app
from serve import ServeConfig
from tests.helpers.servers import unloaded_service

PREFIX = "/clingpt"


def client(**site: object) -> TestClient:
    """Return a client of an application in this process, whose model is still loading."""
    app = make_app(unloaded_service(), Site(**site))  # type: ignore[arg-type]
    return TestClient(app, follow_redirects=False)


@pytest.mark.parametrize("forwarded", [PREFIX, "", "/a/b"])
def test_routes_work_whether_the_proxy_forwards_its_path_or_removes_it(forwarded: str) -> None:
    asked = client(root_path=forwarded or PREFIX)
    for path in ("/health", "/docs", "/openapi.json", "/docs-static/swagger-ui.css", "/metrics"):
        assert asked.get(forwarded + path).status_code == 200, path
    page = asked.get(f"{forwarded}/")
    assert page.status_code == 200 and "clinGPT" in page.text
    assert asked.post(f"{forwarded}/v1/completions", json={"prompt": "a"}).status_code == 503
    error = asked.post(f"{forwarded}/v1/chat/completions", json={}).json()["error"]
    assert "this server has no chat" in error["message"]
    assert asked.get(f"{forwarded}/v1/completions").headers["allow"] == "POST"


def test_a_prefix_without_its_slash_leads_to_the_page() -> None:
    answer = client(root_path=PREFIX).get(PREFIX)
    assert (answer.status_code, answer.headers["location"]) == (307, f"{PREFIX}/")
    assert client(root_path=PREFIX).get(f"{PREFIX}er/health").status_code == 404


@pytest.mark.parametrize("prefix", [PREFIX, ""])
def test_keys_protect_the_same_routes_under_a_prefix(prefix: str) -> None:
    asked = client(root_path=PREFIX, keys=("key",), health_routes=("/isalive",))
    for path in ("/", "/health"):
        assert asked.get(prefix + path).status_code == 200
    assert asked.get(f"{prefix}/isalive").status_code == 503  # not refused, but not ready
    for path in ("/docs", "/metrics", "/v1/models", "/nowhere", "/health/"):
        assert asked.get(prefix + path).status_code == 401, path
    assert asked.get(f"{PREFIX}{PREFIX}/health").status_code == 401


def test_no_address_is_absolute() -> None:
    """So that pages work under any path, also without the flag."""
    asked = client()
    for path in ("/", "/docs"):
        text = asked.get(path).text
        addresses = re.findall(r"""(?:src|href)="([^"]*)"|fetch\("([^"]*)"|url: '([^']*)'""", text)
        assert [one for found in addresses for one in found if one.startswith(("/", "http"))] == []
    assert asked.get("/openapi.json").json()["servers"] == [{"url": "."}]


@pytest.mark.parametrize("given", ["clingpt", "https://example.org/clingpt", "/a b", "//", "/a?b"])
def test_a_root_path_must_be_a_path(given: str) -> None:
    with pytest.raises(ConfigError, match="root_path must be a path such as /clingpt, got "):
        ServeConfig(root_path=given)
    for accepted in ("", "/", "/clingpt", "/clingpt/", "/user/me/proxy/8000"):
        ServeConfig(root_path=accepted)
