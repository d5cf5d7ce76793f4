"""Errors in the shape of OpenAI's API.

No message, and nothing that is logged about an exception, contains text that a client sent.
"""

import traceback

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from clingpt.base.errors import ConfigError


class ApiError(HTTPException):
    """A refused or failed request: an HTTP status and the fields of OpenAI's error object.

    Derives from HTTPException because FastAPI turns any other exception that is raised while it
    reads a request body into a 400.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        headers = {}
        if retry_after_s is not None:
            headers["retry-after"] = str(retry_after_s)
        if status == 401:
            headers["www-authenticate"] = "Bearer"
        if status == 408:
            headers["connection"] = "close"  # do not wait for the rest of the body
        super().__init__(status, message, headers)
        self.param, self.code = param, code

    def body(self) -> dict[str, object]:
        """Return OpenAI's error object."""
        kinds = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}
        default = "server_error" if self.status_code >= 500 else "invalid_request_error"
        kind = kinds.get(self.status_code, default)
        fields = {"message": self.detail, "type": kind, "param": self.param, "code": self.code}
        return {"error": fields}

    def response(self) -> JSONResponse:
        """Return the error as a response."""
        return JSONResponse(self.body(), self.status_code, self.headers)


def internal_error() -> ApiError:
    """Return the error for an unexpected exception, whose own message may quote the client."""
    return ApiError(500, "internal server error")


def invalid_setting(error: ConfigError) -> ApiError:
    """Convert an error from `Sampling`, whose message starts with the setting's name."""
    return ApiError(400, str(error), param=str(error).split()[0])


def traceback_summary(error: BaseException) -> str:
    """Return an exception's type and its innermost stack frames, without its message."""
    frames = traceback.extract_tb(error.__traceback__)[-8:]
    where = " > ".join(f"{f.filename.rpartition('/')[2]}:{f.lineno} {f.name}" for f in frames)
    return f"{type(error).__name__} at {where}"
