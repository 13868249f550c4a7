"""Errors and values as bytes, in the shape of each API."""

from __future__ import annotations

from typing import Any

import msgspec

from paddock.contracts.base import Api
from paddock.errors import BadRequest, PaddockError, UpstreamError, ValidationFailed

encode = msgspec.json.Encoder(decimal_format="number").encode

_OPENAI_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "invalid_request_error",
    422: "invalid_request_error",
    429: "rate_limit_error",
}


_ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    529: "overloaded_error",
}


_OPENAI_PATHS = frozenset(
    f"/v1/{name}"
    for name in ("models", "chat/completions", "completions", "embeddings", "rerank", "reranking", "responses")
)


def api_of(path: str) -> Api:
    """Which API a path belongs to that no endpoint answers, or not yet: its error has that API's shape."""
    if path in _OPENAI_PATHS:
        return "openai"
    if f"{path}/".startswith("/v1/files/"):
        return "chat"
    if f"{path}/".startswith("/v1/messages/"):
        return "anthropic"
    if f"{path}/".startswith("/api/v1/"):
        return "llamactl"
    if f"{path}/".startswith("/api/"):
        return "llamactl-old"
    return "llamafarm"


def error_status(error: PaddockError, api: Api) -> int:
    """The status of an error; only LlamaFarm's paths, and project chat, know the status 422: the others answer 400."""
    status = error.http_status
    known = api in ("llamafarm", "chat") or isinstance(error, UpstreamError)  # an upstream's status is its own
    return 400 if status == 422 and not known else status


def error_body(error: PaddockError, api: Api) -> dict[str, Any]:
    """The body of an error reply."""
    if api == "llamactl":
        return {"error": error.message}
    if api == "llamactl-old":
        code = BadRequest.code if isinstance(error, ValidationFailed) else error.code
        return {"error": error.message, "code": code.upper(), "details": _details(error)}
    if api == "anthropic":
        return anthropic_error(error)
    body: dict[str, Any] = {}
    if api != "openai":
        body["detail"] = error.message
        if isinstance(error, ValidationFailed):
            body["errors"] = [{"field": one.field, "reason": one.reason} for one in error.errors]
    if api != "llamafarm":
        body["error"] = openai_error(error)
    return body


def openai_error(error: PaddockError) -> dict[str, Any]:
    """OpenAI's error object; an upstream's own type, param and code are kept."""
    if isinstance(error, UpstreamError):
        kind = error.upstream_type or _OPENAI_TYPES.get(error.http_status, "upstream_error")
        return {"message": error.message, "type": kind, "param": error.upstream_param, "code": error.upstream_code}
    param = error.errors[0].field if isinstance(error, ValidationFailed) and error.errors else None
    kind = _OPENAI_TYPES.get(error.http_status, "server_error" if error.http_status >= 500 else "invalid_request_error")
    return {"message": error.message, "type": kind, "param": param, "code": error.code}


def anthropic_error(error: PaddockError) -> dict[str, Any]:
    """Anthropic's error, the whole body; an upstream's own type is kept."""
    kind = error.upstream_type if isinstance(error, UpstreamError) else None
    kind = kind or _ANTHROPIC_TYPES.get(error_status(error, "anthropic"), "api_error")
    return {"type": "error", "error": {"type": kind, "message": error.message}}


def _details(error: PaddockError) -> str:
    if isinstance(error, ValidationFailed):
        return "; ".join(f"{one.field}: {one.reason}" for one in error.errors)
    return ""


def error_event(error: PaddockError) -> bytes:
    """A failure in the middle of a stream, as clients of OpenAI streams expect it; no [DONE] follows."""
    return b"data: " + encode({"error": openai_error(error)}) + b"\n\n"
