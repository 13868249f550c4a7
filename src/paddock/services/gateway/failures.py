"""Error replies of upstreams: passed on when they are in the format of the path, else told in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from paddock.builtin.openai_wire import TRANSIENT, Target, error_of
from paddock.contracts.providers import HttpReply, Operation
from paddock.errors import (
    Conflict,
    PaddockError,
    ProviderUnavailable,
    RateLimited,
    UpstreamError,
    UpstreamTimeout,
)
from paddock.replies import anthropic_error, encode, openai_error

ERROR_BODY = 256 * 1024  # of an error's body no more is read
ANTHROPIC: frozenset[Operation] = frozenset({"messages", "messages/count_tokens"})

# Of the connection, of whoever stands in between, or of the upstream's own pages: nothing for our caller.
_DROPPED = frozenset({
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer",
    "transfer-encoding", "upgrade", "content-length", "content-type", "date", "server", "via", "x-powered-by", "set-cookie",
    "set-cookie2", "alt-svc", "strict-transport-security", "content-security-policy", "x-content-type-options", "location",
    "x-request-id", "www-authenticate", "vary",
})  # fmt: skip


class Passed(UpstreamError):
    """An error whose body is good as it is."""

    body: bytes = b""


class Named(Target, frozen=True, kw_only=True):
    """A server as error texts call it: by its name, since its address is nobody's business."""

    @property
    def where(self) -> str:
        """The name."""
        return self.base_url


def by_name(error: BaseException, server: str) -> None:
    """Let an error of a connection name the server instead of its address."""
    if isinstance(error, PaddockError) and error.where:
        error.message, error.where = error.message.replace(error.where, server), ""


def cleaned(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers of an upstream that may reach the caller."""
    found: dict[str, str] = {}
    named: str = ""
    for key, value in headers.items():
        name = key.lower()
        if name == "connection":
            named = value.lower()
        if name not in _DROPPED and not name.startswith("access-control-"):
            found[name] = value
    if named and named not in ("keep-alive", "close"):
        for name in named.split(","):
            found.pop(name.strip(), None)
    return found


async def refusal(reply: HttpReply, operation: Operation, server: str) -> UpstreamError:
    """The error that a reply of a status from 300 on is."""
    body = b""
    async for piece in reply.chunks():
        body += piece
        if len(body) > ERROR_BODY:
            break
    return refused(reply.status, reply.headers, body[:ERROR_BODY], operation, server)


def refused(status: int, headers: Mapping[str, str], body: bytes, operation: Operation, server: str) -> UpstreamError:
    """The same of a body that was read."""
    told = error_of(status, headers, body, Named(base_url=server))
    if status < 400 or not _in_format(body, operation):
        return told
    passed = Passed(told.message, status, type_=told.upstream_type, code=told.upstream_code, headers=cleaned(headers))
    passed.body = body
    return passed


def _in_format(body: bytes, operation: Operation) -> bool:
    try:
        value: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    error = value.get("error") if isinstance(value, dict) else None
    if not isinstance(error, dict) or not isinstance(error.get("message"), str):
        return False
    return operation not in ANTHROPIC or value.get("type") == "error"


def error_piece(error: PaddockError, operation: Operation) -> bytes:
    """A failure in the middle of a stream as the last event of it; no [DONE] follows."""
    if operation in ANTHROPIC:
        return b"event: error\ndata: " + encode(anthropic_error(error)) + b"\n\n"
    told = openai_error(error)
    if operation == "responses":
        event = {"type": "error", **{name: told[name] for name in ("code", "message", "param")}, "sequence_number": 0}
        return b"event: error\ndata: " + encode(event) + b"\n\n"
    return b"data: " + encode({"error": told}) + b"\n\n"


def falls_back(error: PaddockError) -> bool:
    """Whether another model may do what this one could not."""
    if isinstance(error, UpstreamError):
        return error.upstream_status in TRANSIENT
    return isinstance(error, ProviderUnavailable | UpstreamTimeout | RateLimited | Conflict)


def wait_before_retry(error: PaddockError, attempt: int, longest: float) -> float | None:
    """Seconds until the same request may be sent again; None when that is not safe, or of no use.

    Safe is what did nothing yet: it never reached the server, or the server refused it for now and said until when.
    """
    if isinstance(error, ProviderUnavailable):
        return 0.1 * float(2**attempt) if error.unsent else None
    if not isinstance(error, UpstreamError) or error.upstream_status not in (429, 503):
        return None
    asked = next((value for name, value in error.headers.items() if name.lower() == "retry-after"), "")
    try:
        seconds = float(asked)
    except ValueError:
        return None
    return seconds if 0 <= seconds <= longest else None
