"""The exception tree. Every error that may reach a caller is one of these; anything else is our bug and answers 500.

::

    PaddockError                    500  internal_error
    ├── BadRequest                  400  invalid_request
    │   └── BadName                 400  invalid_name
    ├── Unauthenticated             401  unauthenticated
    ├── Forbidden                   403  forbidden
    ├── NotFound                    404  not_found
    │   ├── ProjectNotFound, DatasetNotFound, DatabaseNotFound, FileNotFound, TaskNotFound,
    │   ├── SessionNotFound, EventNotFound, ExampleNotFound, TemplateNotFound, StrategyNotFound, ModelNotFound,
    │   ├── KeyNotFound
    │   └── InstanceNotFound        404  instance_not_found
    ├── MethodNotAllowed            405  method_not_allowed
    ├── RequestTimeout              408  request_timeout
    ├── Conflict                    409  conflict
    │   ├── InstanceExists          409  instance_exists
    │   ├── InstanceRunning         409  instance_running
    │   └── InstanceLimit           409  max_instances_reached
    ├── TooLarge                    413  too_large
    ├── ValidationFailed            422  validation_failed
    │   └── UnknownType             422  unknown_type
    ├── RateLimited                 429  rate_limited
    ├── UpstreamError               the upstream's own status
    ├── ProviderUnavailable         503  unavailable
    └── UpstreamTimeout             504  timeout

A backend's errors are translated once, where the backend is called, with ``raise … from error``.
"""

import re
import typing
from collections.abc import Mapping, Sequence
from typing import ClassVar

import msgspec

__all__ = [
    "BadName",
    "BadRequest",
    "Conflict",
    "DatabaseNotFound",
    "DatasetNotFound",
    "EventNotFound",
    "ExampleNotFound",
    "FieldError",
    "FileNotFound",
    "Forbidden",
    "InstanceExists",
    "InstanceLimit",
    "InstanceNotFound",
    "InstanceRunning",
    "KeyNotFound",
    "MethodNotAllowed",
    "ModelNotFound",
    "NotFound",
    "PaddockError",
    "ProjectNotFound",
    "ProviderUnavailable",
    "RateLimited",
    "RequestTimeout",
    "SessionNotFound",
    "StrategyNotFound",
    "TaskNotFound",
    "TemplateNotFound",
    "TooLarge",
    "Unauthenticated",
    "UnknownType",
    "UpstreamError",
    "UpstreamTimeout",
    "ValidationFailed",
    "field_error",
]

_LONGEST = 200  # characters of a caller's value that an error repeats
_PLACE = re.compile(r"(.*) - at `\$\.?([^`]*)`", re.DOTALL)
_FIELD = re.compile(r"Object (missing required|contains unknown) field `(.*)`", re.DOTALL)


class FieldError(msgspec.Struct, frozen=True):
    """One thing wrong with the input: where (``rag.databases[0].type``) and why."""

    field: str
    reason: str


def field_error(error: msgspec.ValidationError, where: str = "", kind: object = None) -> FieldError:
    """What msgspec found wrong, in our words: the field's path (`where` when the value itself is wrong) and the reason. `kind`
    is the struct that was read, which knows the allowed words."""
    placed = _PLACE.fullmatch(str(error))
    reason, field = placed.groups() if placed else (str(error), "")
    named = _FIELD.fullmatch(reason)
    if named is None:
        words = _words(kind, field) if reason.startswith("Invalid enum value") else ()
        hint = f"; use one of {', '.join(words)}" if words else ""
        return FieldError(field or where, f"{_shown(reason)}{hint}")
    missing = named[1] == "missing required"
    text = "is required" if missing else "unknown field: leave it out, or check its spelling"
    return FieldError(f"{field}.{_shown(named[2])}" if field else _shown(named[2]), text)


def _shown(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _words(kind: object, field: str) -> list[str]:
    """The words that a field of a struct, or a value of its map, may be; empty for other fields."""
    if not isinstance(kind, type) or not issubclass(kind, msgspec.Struct):
        return []
    stated = typing.get_type_hints(kind).get(field.removesuffix("[...]"))
    choices = [stated, *typing.get_args(stated)]
    choices += [inner for one in choices for inner in typing.get_args(one)]
    words = [str(word) for one in choices if typing.get_origin(one) is typing.Literal for word in typing.get_args(one)]
    return list(dict.fromkeys(words))


class PaddockError(Exception):
    """Base of all errors that a caller may see. `message` is one readable sentence that tells the next step; `where` is the
    ``host:port`` that it names, where it is about a connection."""

    status: ClassVar[int] = 500
    code: str = "internal_error"
    where: str = ""

    def __init__(self, message: str, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.headers = dict(headers or {})

    @property
    def http_status(self) -> int:
        """The status of the reply; only UpstreamError differs from its class."""
        return self.status


class BadRequest(PaddockError):
    """The request can't be served as it stands, and no single field is to blame."""

    status = 400
    code = "invalid_request"


class BadName(BadRequest):
    """A name or id outside ``[A-Za-z0-9._-]{1,64}``, or one that would walk the file tree."""

    code = "invalid_name"


class Unauthenticated(PaddockError):
    """A key is needed and none, or a wrong one, was given."""

    status = 401
    code = "unauthenticated"

    def __init__(self, message: str) -> None:
        super().__init__(message, headers={"WWW-Authenticate": "Bearer"})


class Forbidden(PaddockError):
    """The key is good, but not for this."""

    status = 403
    code = "forbidden"


class NotFound(PaddockError):
    """The named thing does not exist, or belongs to somebody else."""

    status = 404
    code = "not_found"


class ProjectNotFound(NotFound):
    """No such namespace and project."""

    @classmethod
    def of(cls, namespace: str, name: str) -> "ProjectNotFound":
        """The one sentence for a project that is not there, and for one that is not there for this caller."""
        return cls(f"project {namespace}/{name} not found: create it with POST /v1/projects/{namespace}")


class DatasetNotFound(NotFound):
    """The project has no such dataset."""


class DatabaseNotFound(NotFound):
    """The project has no such database."""


class FileNotFound(NotFound):
    """The dataset holds no file with this hash."""


class TaskNotFound(NotFound):
    """The project has no such task."""


class SessionNotFound(NotFound):
    """The project has no such chat session, or it expired."""


class EventNotFound(NotFound):
    """The project has no such event."""


class ExampleNotFound(NotFound):
    """No such example project."""


class TemplateNotFound(NotFound):
    """No such project template."""


class StrategyNotFound(NotFound):
    """The database has no such retrieval strategy."""


class ModelNotFound(NotFound):
    """No model of that name; the message lists near matches."""


class InstanceNotFound(NotFound):
    """No llama-server instance of that name."""

    code = "instance_not_found"


class KeyNotFound(NotFound):
    """No key with that id."""


class MethodNotAllowed(PaddockError):
    """The path exists, but not with this method."""

    status = 405
    code = "method_not_allowed"


class RequestTimeout(PaddockError):
    """The body did not arrive in the time that the settings allow; the connection is closed."""

    status = 408
    code = "request_timeout"

    def __init__(self, message: str) -> None:
        super().__init__(message, headers={"Connection": "close"})


class Conflict(PaddockError):
    """The thing exists already, or something still depends on it."""

    status = 409
    code = "conflict"


class InstanceExists(Conflict):
    """An instance has the name already."""

    code = "instance_exists"


class InstanceRunning(Conflict):
    """The instance must be stopped first."""

    code = "instance_running"


class InstanceLimit(Conflict):
    """As many instances exist, or run, as the settings allow."""

    code = "max_instances_reached"


class TooLarge(PaddockError):
    """The body, file or part is over a limit of the settings, which the message names."""

    status = 413
    code = "too_large"


class ValidationFailed(PaddockError):
    """The input was understood and is wrong; `errors` names each field and the reason."""

    status = 422
    code = "validation_failed"

    def __init__(self, message: str, errors: Sequence[FieldError] = ()) -> None:
        super().__init__(message)
        self.errors = list(errors)

    @classmethod
    def of(cls, errors: Sequence[FieldError]) -> "ValidationFailed":
        """Build the readable sentence from the single errors."""
        return cls("; ".join(f"{error.field}: {error.reason}" for error in errors), errors)


class UnknownType(ValidationFailed):
    """A component type that no loaded plugin provides; the message lists the known ones and the plugin to install."""

    code = "unknown_type"


class RateLimited(PaddockError):
    """Too many requests; Retry-After says when to come back."""

    status = 429
    code = "rate_limited"

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message, headers={"Retry-After": str(max(1, round(retry_after)))})


class UpstreamError(PaddockError):
    """An upstream refused or failed; its status and message reach the caller unchanged."""

    status = 502
    code = "upstream_error"

    def __init__(
        self,
        message: str,
        upstream_status: int,
        *,
        type_: str | None = None,
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, headers=headers)
        self.upstream_status = upstream_status
        self.upstream_type = type_
        self.upstream_code = code
        self.upstream_param = param

    @property
    def http_status(self) -> int:
        """The upstream's status if it is an error status, else 502."""
        return self.upstream_status if 400 <= self.upstream_status < 600 else 502


class ProviderUnavailable(PaddockError):
    """A provider or upstream can't be reached, or its plugin is not installed. Down is not empty.

    `unsent` tells that nothing reached the upstream, so that the same request may be sent again.
    """

    status = 503
    code = "unavailable"

    def __init__(self, message: str, retry_after: float = 5, *, unsent: bool = False) -> None:
        super().__init__(message, headers={"Retry-After": str(max(1, round(retry_after)))})
        self.unsent = unsent


class UpstreamTimeout(PaddockError):
    """An upstream did not answer in the time that the settings allow."""

    status = 504
    code = "timeout"
