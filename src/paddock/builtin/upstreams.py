"""The named upstreams of the settings as model servers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import cast

from paddock.builtin.openai_wire import Target
from paddock.builtin.serving import WireServer
from paddock.contracts.providers import HttpClient, ModelServer, TypeName
from paddock.errors import FieldError, ValidationFailed
from paddock.settings import Gateway, Upstream

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_HEADER = re.compile(r"[A-Za-z0-9-]{1,100}")
_VALUE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")
_FRAMING = frozenset({"host", "content-length", "content-type", "transfer-encoding", "connection", "accept-encoding"})


def upstream_servers(http: HttpClient, gateway: Gateway) -> list[ModelServer]:
    """One server for each ``[gateway.upstreams.NAME]``. Raises ValidationFailed naming the key that is wrong."""
    return [_server(http, name, upstream) for name, upstream in gateway.upstreams.items()]


def _server(http: HttpClient, name: str, upstream: Upstream) -> ModelServer:
    field = f"gateway.upstreams.{name}"
    if not _NAME.fullmatch(name):
        reason = (
            "a name has 1 to 64 letters, digits, dots, underscores and hyphens: it stands before the slash of models"
        )
        raise ValidationFailed.of([FieldError(field, reason)])
    _check_headers(f"{field}.headers", upstream.headers)
    target = Target(
        base_url=upstream.base_url.rstrip("/"),
        api_key=upstream.api_key or None,
        extra=upstream.headers,
    )
    # The name belongs to the type, as with every provider.
    kind = cast("type[WireServer]", type("UpstreamServer", (WireServer,), {"types": (TypeName(name),)}))
    server = kind(http, target, listed=upstream.models, aliases=upstream.aliases)
    server.first_token_timeout = upstream.first_token_timeout or None
    server.timeout = upstream.timeout or None
    return server


def _check_headers(field: str, headers: Mapping[str, str]) -> None:
    for name, value in headers.items():
        if not _HEADER.fullmatch(name) or not _VALUE.fullmatch(value):
            raise ValidationFailed.of([FieldError(field, f"{name[:64]!r} or its value can't stand in a header")])
        if name.lower() in _FRAMING:
            raise ValidationFailed.of([FieldError(field, f"{name} is written by paddock itself: leave it out")])
