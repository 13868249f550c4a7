"""The OpenAPI 3.1 document, from the contracts alone."""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from typing import Any

import msgspec

from paddock.contracts.base import Api, Download, Endpoint, Reply, parameter_plan, path_names
from paddock.errors import PaddockError, RequestTimeout, TooLarge, Unauthenticated, UpstreamError, ValidationFailed

ANY_METHOD = ("get", "post", "put", "patch", "delete")
REF = "#/components/schemas/{name}"


class ErrorField(msgspec.Struct):
    """One thing wrong with the input."""

    field: str
    reason: str


class Problem(msgspec.Struct, omit_defaults=True):
    """An error of the LlamaFarm and Universal Runtime paths."""

    detail: str
    errors: list[ErrorField] = []


class OpenAIErrorDetail(msgspec.Struct):
    """OpenAI's error object."""

    message: str
    type: str
    param: str | None
    code: str | None


class OpenAIProblem(msgspec.Struct):
    """An error of the OpenAI paths."""

    error: OpenAIErrorDetail


class ChatProblem(msgspec.Struct, omit_defaults=True):
    """An error of project chat, which clients of both kinds read."""

    detail: str
    error: OpenAIErrorDetail
    errors: list[ErrorField] = []


class LlamactlProblem(msgspec.Struct):
    """An error of /api/v1."""

    error: str


class AnthropicProblem(msgspec.Struct):
    """An error in Anthropic's shape."""

    type: str
    error: dict[str, Any]


class OldLlamactlProblem(msgspec.Struct):
    """An error of /api."""

    error: str
    code: str
    details: str


_PROBLEMS: dict[Api, type] = {
    "llamafarm": Problem,
    "chat": ChatProblem,
    "openai": OpenAIProblem,
    "anthropic": AnthropicProblem,
    "llamactl": LlamactlProblem,
    "llamactl-old": OldLlamactlProblem,
}


def document(endpoints: Sequence[Endpoint], version: str) -> dict[str, Any]:
    """The whole document. Paths, parameters, bodies, replies and errors of every contract."""
    types = [kind for endpoint in endpoints for kind in _types(endpoint)]
    schemas, components = msgspec.json.schema_components([*types, *_PROBLEMS.values()], ref_template=REF)
    known = dict(zip(map(_key, [*types, *_PROBLEMS.values()]), schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        if endpoint.kind != "websocket":
            operations = paths.setdefault(re.sub(r":\w+}", "}", endpoint.path), {})
            operations |= dict(_operations(endpoint, known))
    return {
        "openapi": "3.1.0",
        "info": {"title": "paddock", "version": version, "description": "One small server for local models."},
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
        },
    }


def _operations(endpoint: Endpoint, known: dict[Any, dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """One for each method; what passes every method on is listed under the usual ones, each with an id of its own."""
    for method in ANY_METHOD if endpoint.method == "*" else (endpoint.method.lower(),):
        operation = _operation(endpoint, known)
        if endpoint.method == "*" and method != "get":
            operation["operationId"] += f"_{method}"
        if endpoint.kind == "proxy" and method in ("post", "put", "patch"):
            operation["requestBody"] = {"content": {"application/json": {"schema": {}}}}
        yield method, operation


def _body_type(endpoint: Endpoint) -> Any:
    """The type to describe: a body that decodes itself may look different from the struct it becomes."""
    return getattr(endpoint.data, "described", endpoint.data)


def _key(kind: Any) -> Any:
    try:
        hash(kind)
    except TypeError:
        return repr(kind)
    return kind


def _types(endpoint: Endpoint) -> list[Any]:
    found = []
    if endpoint.params is not None:
        found += [hint for _, hint in _fields(endpoint)]
    if _has_json_body(endpoint):
        found.append(_body_type(endpoint))
    kind = _reply_type(endpoint)
    if kind is not None:
        found.append(kind)
    return found


def _has_json_body(endpoint: Endpoint) -> bool:
    return endpoint.data is not None and endpoint.kind in ("json", "text", "reply", "download")


def _reply_type(endpoint: Endpoint) -> Any:
    if endpoint.kind in ("json", "upload") and endpoint.returns not in (Reply, Download):
        return endpoint.returns
    return endpoint.reply


def _fields(endpoint: Endpoint) -> list[tuple[msgspec.structs.FieldInfo, Any]]:
    assert endpoint.params is not None
    hints = typing.get_type_hints(endpoint.params, include_extras=True)
    return [(field, hints[field.name]) for field in msgspec.structs.fields(endpoint.params)]


def _operation(endpoint: Endpoint, known: dict[Any, dict[str, Any]]) -> dict[str, Any]:
    text = inspect.cleandoc(endpoint.doc)
    operation: dict[str, Any] = {
        "operationId": endpoint.name,
        "summary": text.partition("\n")[0],
        "description": text,
        "tags": list(dict.fromkeys((endpoint.group, *endpoint.tags))),
        "x-access": endpoint.access,
        "parameters": _parameters(endpoint, known),
        "responses": _responses(endpoint, known),
    }
    if endpoint.access != "open":
        operation["security"] = [{"bearer": []}, {"apiKey": []}, {}]
    if _has_json_body(endpoint):
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": known[_key(_body_type(endpoint))]}},
        }
    elif endpoint.kind == "upload":
        files = {name: {"type": "string", "format": "binary"} for name in endpoint.form}
        schema = {"type": "object", "properties": files}
        operation["requestBody"] = {"required": True, "content": {"multipart/form-data": {"schema": schema}}}
    return operation


def _parameters(endpoint: Endpoint, known: dict[Any, dict[str, Any]]) -> list[dict[str, Any]]:
    if endpoint.params is None:  # a proxy has no struct for the rest of its path
        names = sorted(path_names(endpoint.path))
        return [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]
    sources = {name: (source, key) for name, source, key, _ in parameter_plan(endpoint)}
    found = []
    for field, hint in _fields(endpoint):
        source, key = sources[field.name]
        schema = dict(known[_key(hint)])
        item: dict[str, Any] = {"name": key, "in": source, "required": field.required, "schema": schema}
        if not field.required and field.default is not msgspec.NODEFAULT:
            schema["default"] = msgspec.to_builtins(field.default)
        found.append(item)
    return found


def _responses(endpoint: Endpoint, known: dict[Any, dict[str, Any]]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    kind = _reply_type(endpoint)
    if endpoint.kind in ("json", "reply", "upload"):
        content["application/json"] = {"schema": known[_key(kind)] if kind is not None else {}}
    if endpoint.kind == "reply":
        content["text/event-stream"] = {"schema": {"type": "string"}}
    elif endpoint.kind == "text":
        content["text/plain"] = {"schema": {"type": "string"}}
    elif endpoint.kind in ("download", "proxy"):
        content["application/octet-stream"] = {"schema": {"type": "string", "format": "binary"}}
    found = {str(endpoint.status): {"description": HTTPStatus(endpoint.status).phrase, "content": content}}
    problem = {"application/json": {"schema": known[_PROBLEMS[endpoint.api]]}}
    for status, text in sorted(_error_statuses(endpoint).items()):
        found[str(status)] = {"description": text, "content": problem}
    return found


def _error_statuses(endpoint: Endpoint) -> dict[int, str]:
    errors: list[type[PaddockError]] = list(endpoint.raises)
    if endpoint.access != "open":
        errors.append(Unauthenticated)
    if endpoint.params is not None or endpoint.data is not None:
        errors.append(ValidationFailed)
    if endpoint.data is not None:
        errors += [RequestTimeout, TooLarge]
    found: dict[int, str] = {}
    for error in errors:
        status = 400 if error.status == 422 and endpoint.api == "openai" else error.status
        text = inspect.cleandoc(error.__doc__ or "").partition("\n")[0]
        found[status] = "The upstream's own status and message." if error is UpstreamError else text
    found[500] = "Our bug; the log has the details under the request's id."
    return found
