"""The HTTP routes: OpenAI's API, the tasks, health, metrics, the page, and cloud platforms' routes.

`make_app` builds the application; API keys, body limits, headers and the request log are in
clingpt/serving/middleware.py. Every error has the shape of OpenAI's.
"""

import base64
import hashlib
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from fastapi import Body, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from fastapi_offline import FastAPIOffline
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from clingpt.reports import DISCLAIMER
from clingpt.serving.completions import Completions
from clingpt.serving.errors import ApiError, internal_error, route_not_found
from clingpt.serving.middleware import BodyLimit, PathPrefix, RequestLog, RequireKey, route_path
from clingpt.serving.responses import CancellableResponse, Emit, run_together
from clingpt.serving.schemas import (
    MAX_PROMPTS,
    MAX_STOP_LENGTH,
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
from clingpt.serving.service import Service
from clingpt.serving.tasks import Tasks

PAGE = Path(__file__).with_name("serve.html")
DOCS, STATIC = "/docs", "/docs-static"
PUBLIC = ("/", "/health", "/ready", "/ping")
DESCRIPTION = f"""A small clinical language model. **{DISCLAIMER}**

Text that you send is kept in memory while it is processed, and is not stored anywhere.
Replies may be wrong: check `warnings`, `abstained`, `unlike_training` and `trimmed_tokens`."""
# FastAPI turns its telemetry on if the process has OpenTelemetry, and exports invalid requests
# together with the text in them.
NO_TELEMETRY = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}
TASK_NOTE = "x-clingpt-task-note"  # header of replies to a task that the model was not trained on
STATUSES = (400, 401, 404, 405, 408, 413, 429, 500, 503, 504)
ERRORS: dict[int | str, dict[str, Any]] = {status: {"model": ErrorBody} for status in STATUSES}


@dataclass(frozen=True, kw_only=True)
class Site:
    """Options of a deployment."""

    root_path: str = ""  # under which a proxy publishes the server, such as /clingpt
    keys: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()
    frame_ancestors: tuple[str, ...] = ()
    health_routes: tuple[str, ...] = ()  # in addition to /health and /ping
    predict_routes: tuple[str, ...] = ()
    log: Callable[[str], object] = field(default=lambda _: None)  # one line for each request
    note: Callable[[str], object] = field(default=lambda _: None)  # one for each unexpected error


def make_app(service: Service, site: Site) -> ASGIApp:
    """Build the application with all of its middleware."""
    app: ASGIApp = make_routes(service, site)
    app = BodyLimit(app, max_bytes=service.limits.max_body_bytes)
    if site.keys:
        app = RequireKey(app, keys=site.keys, public=(*PUBLIC, *site.health_routes))
    if site.cors_origins:
        app = CORSMiddleware(
            app,
            allow_origins=site.cors_origins,
            allow_methods=("GET", "POST"),
            allow_headers=("authorization", "content-type"),
        )
    app = RequestLog(app, metrics=service.metrics, log=site.log, note=site.note)
    return PathPrefix(app, root_path=site.root_path) if site.root_path else app


def make_routes(service: Service, site: Site) -> FastAPI:
    """Build the FastAPI application: routes and error handlers."""
    app = FastAPIOffline(
        docs_url=None,  # add_docs adds it, with relative addresses
        redoc_url=None,
        static_url=STATIC,
        servers=[{"url": "."}],  # relative to openapi.json, whatever the path that a proxy adds
        root_path_in_servers=False,
        title="clinGPT",
        version="1",
        description=DESCRIPTION,
        responses=ERRORS,
        redirect_slashes=False,
        telemetry=NO_TELEMETRY,
    )
    add_docs(app)
    add_operations(app, service, site)
    add_apis(app, service)
    add_platforms(app, service, site)
    add_error_handlers(app)
    describe = app.openapi
    app.openapi = lambda: without_422(describe())  # type: ignore[method-assign]
    return app


def add_docs(app: FastAPI) -> None:
    """Add the page that describes the API; a proxy may publish it under any path."""
    static = STATIC.removeprefix("/")

    @app.get(DOCS, include_in_schema=False)
    async def show_docs() -> HTMLResponse:
        return get_swagger_ui_html(
            openapi_url="openapi.json",
            title="clinGPT: API",
            swagger_js_url=f"{static}/swagger-ui-bundle.js",
            swagger_css_url=f"{static}/swagger-ui.css",
            swagger_favicon_url=f"{static}/favicon.png",
        )


def add_operations(app: FastAPI, service: Service, site: Site) -> None:
    """Add the page, health checks and metrics."""
    page = PAGE.read_text("utf-8")
    policy = content_policy(page, site.frame_ancestors)

    @app.get("/", include_in_schema=False)
    async def show_page() -> HTMLResponse:
        return HTMLResponse(page, headers={"content-security-policy": policy})

    async def health() -> JSONResponse:
        """Liveness: 200 unless the model crashed and the process must be restarted."""
        failed = service.state == "failed"
        return JSONResponse({"status": service.state}, status_code=503 if failed else 200)

    async def ready() -> JSONResponse:
        """Readiness: 200 while requests are accepted, 503 during loading and shutdown."""
        service.served()
        return JSONResponse({"status": service.state})

    app.get("/health", tags=["operations"])(health)
    app.get("/ready", tags=["operations"])(ready)
    for path in ("/ping", *site.health_routes):
        app.get(path, include_in_schema=False)(ready)

    @app.get("/metrics", tags=["operations"], response_class=PlainTextResponse)
    async def metrics() -> Response:
        """Metrics in Prometheus' format."""
        return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)


def add_apis(app: FastAPI, service: Service) -> None:
    """Add OpenAI's routes and those of the tasks."""
    created = int(time.time())

    def model(name: str | None = None) -> Model:
        served = service.served(name)
        threshold = served.calibration.threshold if served.calibration else None
        tasks = served.tasks
        return Model(
            id=served.name,
            created=created,
            context=served.context,
            precision=served.precision,
            threshold=threshold,
            tasks=list(tasks.latest) if tasks else None,
            task_notes=tasks.notes(REQUESTS) if tasks else {},
            generated_data=bool(tasks and tasks.generated),
        )

    @app.get("/v1/models", tags=["OpenAI"])
    async def models() -> ModelList:
        """List the model that this server offers."""
        return ModelList(data=[model()])

    @app.get("/v1/models/{name:path}", tags=["OpenAI"])
    async def one_model(name: str) -> Model:
        """Describe the model with this name."""
        return model(name)

    @app.post("/v1/completions", tags=["OpenAI"], responses=documented(Completion))
    async def completions(body: CompletionRequest) -> Response:
        """Continue texts, like OpenAI's legacy completions."""
        return respond(service, Completions(service, body))

    @app.post("/v1/answer", tags=["tasks"], responses=documented(Answer | Batch[Answer]))
    async def answer(body: AnswerRequest) -> Response:
        """Answer a question with yes, no or maybe, their probabilities, and an explanation."""
        return respond(service, Tasks(service, body))

    @app.post("/v1/summarize", tags=["tasks"], responses=documented(Summary | Batch[Summary]))
    async def summarize(body: SummarizeRequest) -> Response:
        """Summarise a report."""
        return respond(service, Tasks(service, body))

    @app.post("/v1/document", tags=["tasks"], responses=documented(Document | Batch[Document]))
    async def document(body: DocumentRequest) -> Response:
        """Turn notes into a structured report."""
        return respond(service, Tasks(service, body))

    @app.post("/v1/explain", tags=["tasks"], responses=documented(Explanation | Batch[Explanation]))
    async def explain(body: ExplainRequest) -> Response:
        """Answer a question in prose, with or without a report."""
        return respond(service, Tasks(service, body))


def add_platforms(app: FastAPI, service: Service, site: Site) -> None:
    """Add SageMaker's /invocations and Vertex AI's prediction routes."""

    @app.post("/invocations", tags=["platforms"])
    async def invocations(body: Annotated[dict[str, Any], Body()]) -> Response:
        """Run any of the tasks, chosen by `task`; without it, a completion."""
        return respond(service, choose_task(service, body))

    async def predict(body: Prediction) -> Response:
        """Run a batch for Vertex AI: each instance is a request, `parameters` apply to all."""
        common = body.parameters or {}
        jobs = list[Completions | Tasks]()
        for number, instance in enumerate(body.instances, 1):
            with naming_instance(number):
                jobs.append(choose_task(service, {**common, **instance}))
        if any(job.stream for job in jobs):
            raise ApiError(400, "predictions cannot be streamed", param="stream")

        async def run(number: int, job: Completions | Tasks, emit: Emit) -> dict[str, Any]:
            with naming_instance(number):
                return await job.work(emit)

        async def work(emit: Emit) -> dict[str, Any]:
            runs = [run(number, job, emit) for number, job in enumerate(jobs, 1)]
            return {"predictions": await run_together(runs)}

        n_replies = sum(job.n_replies for job in jobs)
        return CancellableResponse(service, work, n_replies=n_replies, stream=False)

    for path in site.predict_routes:
        app.post(path, tags=["platforms"])(predict)


class Prediction(Strict):
    """A batch of requests in Vertex AI's format."""

    instances: Annotated[list[dict[str, Any]], Body(min_length=1, max_length=16)]
    parameters: dict[str, Any] | None = None


REQUESTS: Mapping[str, type[TaskRequest]] = {
    "answer": AnswerRequest,
    "summarize": SummarizeRequest,
    "document": DocumentRequest,
    "explain": ExplainRequest,
}


def choose_task(service: Service, body: Mapping[str, Any]) -> Completions | Tasks:
    """Validate `body` as the request that its field `task` names."""
    fields = dict(body)
    task = fields.pop("task", "completions")
    if task == "completions":
        return Completions(service, CompletionRequest.model_validate(fields))
    if not isinstance(task, str) or task not in REQUESTS:
        names = ", ".join(["completions", *REQUESTS])
        raise ApiError(400, f"task must be one of {names}", param="task")
    return Tasks(service, REQUESTS[task].model_validate(fields))


@contextmanager
def naming_instance(number: int) -> Iterator[None]:
    """Put "instance 2: " in front of a refusal of the second request in a batch."""
    try:
        yield
    except ValidationError as error:
        refused = describe_invalid(error.errors())
    except ApiError as error:
        refused = error
    else:
        return
    if refused.status_code == 400:
        refused.detail = f"instance {number}: {refused.detail}"
    raise refused


def respond(service: Service, job: Completions | Tasks) -> Response:
    """Return the response that runs a request."""
    note = job.task_note if isinstance(job, Tasks) else None
    return CancellableResponse(
        service,
        job.work,
        n_replies=job.n_replies,
        stream=job.stream,
        more_headers={TASK_NOTE: note} if note else {},
    )


def documented(body: Any) -> dict[int | str, dict[str, Any]]:
    """Return FastAPI's `responses` for a route whose response may be streamed."""
    streamed: dict[str, Any] = {"text/event-stream": {}}  # OpenAPI 3.1 cannot describe events
    return {
        200: {"model": body, "content": streamed, "description": "JSON, or events if streamed."}
    }


def without_422(description: dict[str, Any]) -> dict[str, Any]:
    """Remove FastAPI's 422 from the OpenAPI description: invalid requests get 400 here."""
    for path in description["paths"].values():
        for operation in path.values():
            operation["responses"].pop("422", None)
    for name in ("HTTPValidationError", "ValidationError"):
        description.get("components", {}).get("schemas", {}).pop(name, None)
    return description


def add_error_handlers(app: FastAPI) -> None:
    """Give all errors OpenAI's shape, without anything that the request contained."""

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> JSONResponse:
        if isinstance(error, ApiError):
            return error.response()
        if error.status_code == 404:
            return route_not_found(route_path(request.scope)).response()
        if error.status_code == 405:
            allow = (error.headers or {}).get("Allow", "GET")
            response = ApiError(405, f"method not allowed; use {allow}").response()
            response.headers["allow"] = allow
            return response
        return ApiError(error.status_code, "the request body is not readable as JSON").response()

    @app.exception_handler(Exception)
    async def unexpected(_: Request, error: Exception) -> JSONResponse:
        return internal_error().response()

    @app.exception_handler(RequestValidationError)
    @app.exception_handler(ValidationError)
    async def invalid(_: Request, error: Any) -> JSONResponse:
        return describe_invalid(error.errors()).response()


def describe_invalid(errors: list[Any]) -> ApiError:
    """Convert pydantic's errors into one about the first, naming only fields that a schema has.

    Keys of an object and tags of a union may also be in an error's location.
    """
    first = errors[0]
    where = [part for part in first["loc"] if part in FIELD_NAMES or isinstance(part, int)]
    param = next((part for part in where if isinstance(part, str)), None)
    if first["type"] == "json_invalid":
        return ApiError(400, "the request body is not valid JSON")
    if not where:
        return ApiError(400, "the request body must be a JSON object")
    reason = first["msg"].removeprefix("Value error, ").replace(" after validation", "")
    # For a union such as `prompt`, pydantic reports why each of its types does not match.
    messages = {error["msg"] for error in errors if error["loc"][:2] == first["loc"][:2]}
    if "sections" in where or (len(messages) > 1 and param in EXPECTED):
        reason = EXPECTED["sections" if "sections" in where else str(param)]
    reason = f"{reason[:1].lower()}{reason[1:]}"
    return ApiError(400, f"{place(where)}: {reason}", param=param)


def place(where: Sequence[str | int]) -> str:
    """Return the place of an error in words, such as "record 2, text", counting from 1."""
    words = list[str]()
    for i, part in enumerate(where):
        if isinstance(part, str):
            words.append(part)
        elif where[i - 1] in ("records", "instances", "sections"):
            words[-1] = f"{words[-1].removesuffix('s')} {part + 1}"
    return ", ".join(words)


EXPECTED = {  # in place of what pydantic says about the parts of a type
    "sections": 'must be pairs of a heading and a text, such as [["RESULTS", "…"], …]',
    "prompt": f"must be a string, a list of token ids, or a list of up to {MAX_PROMPTS} of either",
    "stop": f"must be a string of 1 to {MAX_STOP_LENGTH} characters, or up to {MAX_STOPS} of them",
}
SCHEMAS: tuple[type[Strict], ...] = (CompletionRequest, *REQUESTS.values(), Prediction)
FIELD_NAMES = {name for schema in SCHEMAS for name in schema.model_fields}


def content_policy(page: str, frame_ancestors: tuple[str, ...]) -> str:
    """Return a Content-Security-Policy that allows only the page's script and style, by hash."""
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
