"""Errors in the shape of OpenAI's API.

No message, and nothing that is logged about an exception, contains text that a client sent.
"""

import traceback
from collections.abc import Collection

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from clingpt.base.errors import ConfigError
from clingpt.base.settings import did_you_mean

FOR_REPORTS = "/v1/answer, /v1/summarize, /v1/document or /v1/explain"
ROUTES = ("completions", "models", "answer", "summarize", "document", "explain")  # after /v1/
# OpenAI's other APIs by the first word of their paths; the clients of all of them look the same.
ABSENT = {
    **dict.fromkeys(("chat", "responses", "conversations", "assistants", "threads"), "chat"),
    **{name: name for name in ("embeddings", "edits", "moderations", "images", "audio", "files")},
    "batches": "batch jobs",
    "fine_tuning": "fine-tuning",
}

# What clients send by mistake: fields of OpenAI's other APIs, of other servers, and of data sets.
# An error names only these and our own. Any other name was made up by the client, and might be
# text from a report.
KNOWN_FIELDS = frozenset(
    """access_programs audio background background_options best_of context_management conversation
    dimensions echo encoding_format frequency_penalty function_call functions image include
    include_obfuscation input instructions logit_bias logprobs
    max_completion_tokens max_output_tokens max_tokens max_tool_calls messages metadata modalities
    moderation n parallel_tool_calls prediction presence_penalty previous_response_id prompt
    prompt_cache_key prompt_cache_options prompt_cache_retention reasoning reasoning_effort
    response_format safety_identifier service_tier store stream_options suffix text tool_choice
    tools top_logprobs truncation user verbosity web_search_options

    add_generation_prompt add_special_tokens allowed_token_ids bad_words chat_template
    do_sample grammar guided_choice guided_json guided_regex ignore_eos
    include_stop_str_in_output inputs length_penalty logits_processors max_length min_length
    min_tokens n_predict n_probs no_repeat_ngram_size num_beams num_return_sequences parameters
    priority prompt_logprobs repeat_penalty request_id return_full_text return_token_ids
    skip_special_tokens spaces_between_special_tokens stop_sequences stop_token_ids
    structured_outputs truncate truncate_prompt_tokens typical_p use_beam_search watermark

    abstract answer context contexts decision document final_decision findings impression
    instances long_answer no_repeat_ngram note notes report source summary target task
    """.split()
)
# What to use instead of a field that a request does not have: the first field here that it has, or
# a route.
INSTEAD = {
    **dict.fromkeys(
        (
            "max_tokens",
            "max_new_tokens",
            "max_completion_tokens",
            "max_output_tokens",
            "n_predict",
            "max_length",
        ),
        ("max_tokens", "max_new_tokens"),
    ),
    **dict.fromkeys(
        ("prompt", "input", "inputs", "messages", "text"), ("prompt", "text", "instances")
    ),
    **dict.fromkeys(("abstract", "context", "report", "note", "notes", "findings"), ("text",)),
    "contexts": ("sections",),
    **dict.fromkeys(("question", "sections", "records", "explain"), ("/v1/answer",)),
    **dict.fromkeys(
        ("presence_penalty", "frequency_penalty", "repeat_penalty"), ("repetition_penalty",)
    ),
    "best_of": ("n",),
    "num_return_sequences": ("n",),
    "top_logprobs": ("logprobs",),
    "prompt_logprobs": ("logprobs",),
    "n_probs": ("logprobs",),
    "return_full_text": ("echo",),
    "do_sample": ("temperature",),
    "stop_sequences": ("stop",),
    "no_repeat_ngram_size": ("no_repeat_ngram",),
}
LONGEST_NAME = 40  # characters that are compared with our fields: comparing long names is slow


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


def route_not_found(path: str) -> ApiError:
    """Return the error for a path without a route; it names the routes to use instead."""
    words = [word for word in path.split("/") if word not in ("", "v1")]
    first = words[0] if words else ""
    if first in ABSENT:
        reason = f"this server has no {ABSENT[first]}"
    elif first in ROUTES and (len(words) == 1 or first == "models"):
        message = f"route not found; use /v1/{first} (the base_url of OpenAI's client ends in /v1)"
        return ApiError(404, message, code="unknown_url")
    else:
        reason = "route not found"
    message = (
        f"{reason}; use /v1/completions to continue a text, or {FOR_REPORTS} for a report "
        "(/docs describes them)"
    )
    return ApiError(404, message, code="unknown_url")


def unsupported_field(name: str, fields: Collection[str]) -> ApiError:
    """Return the error for a field that a request with these `fields` does not support."""
    known = name in KNOWN_FIELDS or name in INSTEAD
    shown = name if known else "a field of the request"
    found = [each for each in INSTEAD.get(name, ()) if each in fields or each.startswith("/")]
    advice = f"; use {found[0]}" if found else ""
    if not known:
        advice = did_you_mean(name[:LONGEST_NAME], fields) or "; /docs lists the fields"
    return ApiError(
        400,
        f"{shown} is not supported{advice}",
        param=name if known else None,
        code="unsupported_parameter",
    )


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
