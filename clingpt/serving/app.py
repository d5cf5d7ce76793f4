"""The HTTP routes: the two APIs, health, figures, the page, and what cloud platforms expect.

An application is made by `make_app`; everything around it (keys, limits, headers, log) is
clingpt/serving/middleware.py. Every error has the shape of OpenAI's.
"""

import base64
import hashlib
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from fastapi import Body, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from fastapi_offline import FastAPIOffline
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from clingpt.reports.page import DISCLAIMER
from clingpt.serving.completions import Completions
from clingpt.serving.middleware import BodyLimit, Keys, Shield, error_headers
from clingpt.serving.responses import Emit, Exchange, Work, together
from clingpt.serving.schemas import (
    LONGEST_STOP,
    MAX_PROMPTS,
    MAX_STOPS,
    Answer,
    AnswerRequest,
    Batch,
    Completion,
    CompletionRequest,
    Document,
    DocumentRequest,
    ErrorBody,
    ExplainRequest,
    Explanation,
    Model,
    ModelList,
    Strict,
    SummarizeRequest,
    Summary,
    TaskRequest,
)
from clingpt.serving.service import ApiError, Service
from clingpt.serving.tasks import Tasks

PAGE = Path(__file__).with_name("serve.html")
DOCS, STATIC = "/docs", "/docs-static"
PUBLIC = ("/", "/health", "/ready", "/ping")
DESCRIPTION = f"""A small clinical language model. **{DISCLAIMER}**

Text that is sent is kept in memory while it is answered and nowhere else.
Replies may be wrong; read `warnings`, `abstained` and `trimmed_tokens`."""
# FastAPI's own, on wherever a process has OpenTelemetry: it exports what was not valid, as it came.
NO_TELEMETRY = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}
STATUSES = (400, 401, 404, 405, 408, 413, 429, 500, 503, 504)
ERRORS: dict[int | str, dict[str, Any]] = {status: {"model": ErrorBody} for status in STATUSES}


@dataclass(frozen=True, kw_only=True)
class Site:
    """How the application is put up."""

    keys: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()
    frame_ancestors: tuple[str, ...] = ()
    health_routes: tuple[str, ...] = ()  # beside /health, for a platform that names its own
    predict_routes: tuple[str, ...] = ()
    log: Callable[[str], object] = field(default=lambda _: None)  # a line for each request
    note: Callable[[str], object] = field(default=lambda _: None)  # and one for each error


def make_app(service: Service, site: Site) -> ASGIApp:
    """The application with all that stands before it."""
    inner: ASGIApp = make_routes(service, site)
    inner = BodyLimit(inner, most=service.limits.max_body_bytes)
    if site.keys:
        inner = Keys(inner, keys=site.keys, public=(*PUBLIC, *site.health_routes))
    if site.cors_origins:
        methods, headers = ("GET", "POST"), ("authorization", "content-type")
        inner = CORSMiddleware(
            inner, allow_origins=site.cors_origins, allow_methods=methods, allow_headers=headers
        )
    return Shield(inner, gauges=service.gauges, log=site.log, note=site.note)


def make_routes(service: Service, site: Site) -> FastAPI:
    """Routes and error handlers."""
    app = FastAPIOffline(
        docs_url=DOCS,
        redoc_url=None,
        static_url=STATIC,
        title="clinGPT",
        version="1",
        description=DESCRIPTION,
        responses=ERRORS,
        redirect_slashes=False,
        telemetry=NO_TELEMETRY,
    )
    add_operations(app, service, site)
    add_apis(app, service)
    add_platforms(app, service, site)
    add_error_handlers(app)
    describe = app.openapi
    app.openapi = lambda: without_422(describe())  # type: ignore[method-assign]
    return app


def add_operations(app: FastAPI, service: Service, site: Site) -> None:
    """The page, health and figures."""
    page = PAGE.read_text("utf-8")
    policy = content_policy(page, site.frame_ancestors)

    @app.get("/", include_in_schema=False)
    async def show_page() -> HTMLResponse:
        return HTMLResponse(page, headers={"content-security-policy": policy})

    async def health() -> JSONResponse:
        """200 while the process can go on; restart it otherwise."""
        failed = service.state == "failed"
        return JSONResponse({"status": service.state}, status_code=503 if failed else 200)

    async def ready() -> JSONResponse:
        """200 where requests are taken; 503 while loading and shutting down."""
        service.served()
        return JSONResponse({"status": service.state})

    app.get("/health", tags=["operations"])(health)
    app.get("/ready", tags=["operations"])(ready)
    for path in ("/ping", *site.health_routes):
        app.get(path, include_in_schema=False)(ready)

    @app.get("/metrics", tags=["operations"], response_class=PlainTextResponse)
    async def metrics() -> Response:
        """Figures for Prometheus."""
        return Response(service.gauges.text(), media_type=CONTENT_TYPE_LATEST)


def add_apis(app: FastAPI, service: Service) -> None:
    """OpenAI's routes and those of the tasks."""
    created = int(time.time())

    def model(name: str | None = None) -> Model:
        served = service.served(name)
        threshold = served.calibration.threshold if served.calibration else None
        return Model(
            id=served.name,
            created=created,
            context=served.context,
            precision=served.precision,
            threshold=threshold,
        )

    @app.get("/v1/models", tags=["OpenAI"])
    async def models() -> ModelList:
        """The model that is served."""
        return ModelList(data=[model()])

    @app.get("/v1/models/{name:path}", tags=["OpenAI"])
    async def one_model(name: str) -> Model:
        """The same, by its name."""
        return model(name)

    @app.post("/v1/completions", tags=["OpenAI"], responses=documented(Completion))
    async def completions(body: CompletionRequest) -> Response:
        """Continue texts, as OpenAI's legacy completions."""
        return exchange(service, Completions(service, body))

    @app.post("/v1/answer", tags=["tasks"], responses=documented(Answer | Batch[Answer]))
    async def answer(body: AnswerRequest) -> Response:
        """Yes, no or maybe, how probable each is, and why."""
        return exchange(service, Tasks(service, body))

    @app.post("/v1/summarize", tags=["tasks"], responses=documented(Summary | Batch[Summary]))
    async def summarize(body: SummarizeRequest) -> Response:
        """What a report comes to."""
        return exchange(service, Tasks(service, body))

    @app.post("/v1/document", tags=["tasks"], responses=documented(Document | Batch[Document]))
    async def document(body: DocumentRequest) -> Response:
        """Notes as a structured report."""
        return exchange(service, Tasks(service, body))

    @app.post("/v1/explain", tags=["tasks"], responses=documented(Explanation | Batch[Explanation]))
    async def explain(body: ExplainRequest) -> Response:
        """A question answered in prose, with a report or without."""
        return exchange(service, Tasks(service, body))


def add_platforms(app: FastAPI, service: Service, site: Site) -> None:
    """SageMaker's /invocations, and Vertex's instances → predictions."""

    @app.post("/invocations", tags=["platforms"])
    async def invocations(body: Annotated[dict[str, Any], Body()]) -> Response:
        """Any of the other requests, named by `task`; without one a completion."""
        return exchange(service, chosen(service, body))

    async def predict(body: Prediction) -> Response:
        """Vertex AI: each instance is such a request, `parameters` are added to each."""
        plans = [chosen(service, {**(body.parameters or {}), **one}) for one in body.instances]
        if any(plan.stream for plan in plans):
            raise ApiError(400, "predictions are not streamed", param="stream")

        async def work(emit: Emit) -> dict[str, Any]:
            return {"predictions": await together([plan.work(emit) for plan in plans])}

        n_replies = sum(plan.n_replies for plan in plans)
        return Exchange(service, work, n_replies=n_replies, stream=False)

    for path in site.predict_routes:
        app.post(path, tags=["platforms"])(predict)


class Prediction(Strict):
    """Vertex AI's request."""

    instances: Annotated[list[dict[str, Any]], Body(min_length=1, max_length=16)]
    parameters: dict[str, Any] | None = None


REQUESTS: Mapping[str, type[TaskRequest]] = {
    "answer": AnswerRequest,
    "summarize": SummarizeRequest,
    "document": DocumentRequest,
    "explain": ExplainRequest,
}


def chosen(service: Service, body: Mapping[str, Any]) -> "Completions | Tasks":
    """The request that `task` names."""
    fields = dict(body)
    task = fields.pop("task", "completions")
    if task == "completions":
        return Completions(service, CompletionRequest.model_validate(fields))
    if not isinstance(task, str) or task not in REQUESTS:
        names = ", ".join(["completions", *REQUESTS])
        raise ApiError(400, f"task must be one of {names}", param="task")
    return Tasks(service, REQUESTS[task].model_validate(fields))


def exchange(service: Service, plan: "Completions | Tasks") -> Exchange:
    """A request's response."""
    work: Work = plan.work
    return Exchange(service, work, n_replies=plan.n_replies, stream=plan.stream)


def documented(body: Any) -> dict[int | str, dict[str, Any]]:
    """What a route's description says of its response."""
    streamed: dict[str, Any] = {"text/event-stream": {}}  # OpenAPI 3.1 has no word for its events
    return {200: {"model": body, "content": streamed, "description": "Whole, or streamed."}}


def without_422(description: dict[str, Any]) -> dict[str, Any]:
    """A request that is not valid gets 400, not what FastAPI writes down for it."""
    for path in description["paths"].values():
        for operation in path.values():
            operation["responses"].pop("422", None)
    for name in ("HTTPValidationError", "ValidationError"):
        description.get("components", {}).get("schemas", {}).pop(name, None)
    return description


# Errors


def add_error_handlers(app: FastAPI) -> None:
    """OpenAI's shape for all of them, and nothing of the request in any."""

    @app.exception_handler(ApiError)
    async def refused(_: Request, error: ApiError) -> JSONResponse:
        return JSONResponse(error.body(), error.status, headers=error_headers(error))

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        messages = {404: "there is no such route", 405: "this route has another method"}
        message = messages.get(error.status_code, "the body cannot be read as JSON")
        allowed = {k: v for k, v in (error.headers or {}).items() if k.lower() == "allow"}
        return JSONResponse(ApiError(error.status_code, message).body(), error.status_code, allowed)

    @app.exception_handler(Exception)
    async def unforeseen(_: Request, error: Exception) -> JSONResponse:
        return JSONResponse(ApiError(500, "an error in the server").body(), 500)

    @app.exception_handler(RequestValidationError)
    @app.exception_handler(ValidationError)
    async def invalid(request: Request, error: Any) -> JSONResponse:
        return await refused(request, describe_invalid(error.errors()))


def describe_invalid(errors: list[Any]) -> ApiError:
    """The first thing that is wrong; names only fields that some request has."""
    first = errors[0]
    where = [part for part in first["loc"] if part != "body"]
    field_names = [part for part in where if part in FIELD_NAMES]
    param = str(field_names[0]) if field_names else None
    if first["type"] == "json_invalid":
        return ApiError(400, "the body is not JSON")
    if first["type"] == "extra_forbidden":
        named = where[-1] if where[-1] in FIELD_NAMES else "a field of this name"
        return ApiError(400, f"{named} is not supported", param=param, code="unsupported_parameter")
    said = first["msg"].removeprefix("Value error, ")
    # A text, or a list of one kind: pydantic tells what is wrong with each in turn.
    many = len({error["msg"] for error in errors if error["loc"][:2] == first["loc"][:2]}) > 1
    if many and param in WANTED:
        said = WANTED[param]
    return ApiError(400, f"{param or 'the body'}: {said[:1].lower()}{said[1:]}", param=param)


WANTED = {
    "prompt": f"it must be a text, a list of token ids, or up to {MAX_PROMPTS} of either",
    "stop": f"it must be a text of 1 to {LONGEST_STOP} characters, or up to {MAX_STOPS} of them",
}
SCHEMAS: tuple[type[Strict], ...] = (CompletionRequest, *REQUESTS.values(), Prediction)
FIELD_NAMES = {name for schema in SCHEMAS for name in schema.model_fields} | {
    *("messages", "tools", "tool_choice", "functions", "response_format", "max_completion_tokens"),
    *("include_usage", "task", "top_logprobs", "logits_processors"),
    *("decision", "long_answer", "document"),
}


def content_policy(page: str, frame_ancestors: tuple[str, ...]) -> str:
    """A Content-Security-Policy that allows the page's own script and style, and this server."""
    hashes = {
        tag: " ".join(
            "'sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode() + "'"
            for content in re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        )
        for tag in ("script", "style")
    }
    ancestors = " ".join(frame_ancestors) or "'none'"
    return (
        f"default-src 'none'; script-src {hashes['script']}; style-src {hashes['style']}; "
        f"connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
        f"frame-ancestors {ancestors}"
    )
