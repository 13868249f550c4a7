"""Bodies to specs and back: llamactl's flat, nested and older forms over the one `Spec` that is stored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from paddock.contracts.base import Json
from paddock.contracts.instances_older import OlderCreate, OlderUpdate
from paddock.errors import BadName, BadRequest, field_error
from paddock.storage import check_name as check_path_name
from paddock_llama_server.guard import check_environment
from paddock_llama_server.masking import masked, restored
from paddock_llama_server.options import read_arguments, read_options
from paddock_llama_server.settings import LlamaServerSettings
from paddock_llama_server.spec import Spec

RESERVED = frozenset({"start-all", "stop-all", "version", "server"})
OLDER_NAMES = {"context_size": "ctx_size"}
_SOURCES = ("model", "hf_repo", "docker_repo", "models_dir")
_FOREIGN = {
    "docker_enabled": "paddock runs llama-server itself, not in a container",
    "nodes": "paddock manages the instances of its own machine",
    "preset_ini": "write the options by name: GET /api/v1/server/help lists them",
}
_NONE: tuple[Json, ...] = (None, False, "", [], {})  # what asks for nothing

Text = Annotated[str, msgspec.Meta(max_length=10_000)]


class Managed(msgspec.Struct, frozen=True, kw_only=True):
    """What stands beside the options in a body. UNSET is absent; null takes the setting's default again."""

    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] | UnsetType | None = UNSET
    environment: dict[str, Text | None] | UnsetType | None = UNSET
    auto_restart: bool | UnsetType | None = UNSET
    max_restarts: Annotated[int, msgspec.Meta(ge=0)] | UnsetType | None = UNSET
    restart_delay: Annotated[float, msgspec.Meta(ge=0, le=86_400)] | UnsetType | None = UNSET
    on_demand_start: bool | UnsetType | None = UNSET
    idle_timeout: Annotated[float, msgspec.Meta(ge=0, le=1_000_000)] | UnsetType | None = UNSET
    pinned: bool | UnsetType | None = UNSET
    group: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._-]{1,64}\Z")] | UnsetType | None = UNSET
    max_memory_bytes: Annotated[int, msgspec.Meta(ge=1)] | UnsetType | None = UNSET
    on_client_disconnect: Literal["cancel", "drain"] | UnsetType | None = UNSET
    command_override: Annotated[str, msgspec.Meta(min_length=1, max_length=10_000)] | UnsetType | None = UNSET


_MANAGED = Managed.__struct_fields__
_DEFAULTS: Mapping[str, Json] = msgspec.to_builtins(Spec())


def check_name(name: str) -> str:
    """The name of a new instance. Raises BadName."""
    if name in RESERVED:
        raise BadName(f"the name {name} is reserved, because paths of the API have it: choose another")
    return check_path_name(name, "instance name")


def read_create(given: Mapping[str, Json], settings: LlamaServerSettings) -> Spec:
    """The spec of a new instance from a flat or nested body. Raises BadRequest naming the field."""
    return _complete(read_update(given, Spec(), settings))


def read_update(given: Mapping[str, Json], old: Spec, settings: LlamaServerSettings) -> Spec:
    """The spec with a body merged into it: null removes, a mask keeps. Raises BadRequest naming the field."""
    foreign = next((name for name in _FOREIGN if given.get(name) not in _NONE), None)
    if foreign is not None:
        raise BadRequest(f"{foreign} can't be set: {_FOREIGN[foreign]}")
    if given.get("backend_type") not in (None, "llama_cpp"):
        raise BadRequest('backend_type must be "llama_cpp": paddock manages llama-server only')
    beside = {key: value for key, value in given.items() if key not in ("backend_type", "backend_options", *_FOREIGN)}
    nested = given.get("backend_options", {})
    if nested is not None and not isinstance(nested, dict):
        raise BadRequest("backend_options must be an object of llama-server's options")
    spec = (
        msgspec.structs.replace(old, options={})
        if nested is None
        else _merged(old, nested, "backend_options.", settings)
    )
    return restored(_with_a_model(_merged(spec, beside, "", settings), old), old)


def read_older_create(data: OlderCreate, settings: LlamaServerSettings) -> Spec:
    """The spec of a new instance from the older body. Raises BadRequest naming the field."""
    change = OlderUpdate(model_path=data.model_path, port=data.port, options=data.options)
    return _complete(read_older_update(change, Spec(), settings))


def read_older_update(data: OlderUpdate, old: Spec, settings: LlamaServerSettings) -> Spec:
    """The spec with an older body merged into it. Raises BadRequest naming the field."""
    options = {OLDER_NAMES.get(key, key): value for key, value in data.options.items()}
    if len(options) != len(data.options):
        raise BadRequest("options: ctx_size is given twice, under two names: leave one out")
    spec = _merged(old, options, "options.", settings)
    if data.model_path is not UNSET:
        spec = _merged(spec, {"model": data.model_path}, "", settings)
    if data.port is not UNSET:
        spec = msgspec.structs.replace(spec, port=data.port or None)
    return restored(_with_a_model(spec, old), old)


def _has_model(spec: Spec) -> bool:
    return any(spec.options.get(name) for name in _SOURCES) or any("_default" in name for name in spec.options)


def _with_a_model(spec: Spec, old: Spec) -> Spec:
    """The spec, whose model may be another, but not taken away."""
    if _has_model(old) and not _has_model(spec):
        raise BadRequest("model can't be removed, nor be empty: name another, or delete the instance")
    return spec


def _complete(spec: Spec) -> Spec:
    if not _has_model(spec):
        raise BadRequest('the body names no model: "model" is the path of a GGUF file')
    return spec


def _merged(spec: Spec, given: Mapping[str, Json], where: str, settings: LlamaServerSettings) -> Spec:
    """One object of a body merged in: fields beside the options and options may stand in both places."""
    managed = {key: value for key, value in given.items() if key in _MANAGED}
    rest = {key: value for key, value in given.items() if key not in _MANAGED and key != "extra_args"}
    if rest.get("host") == settings.host:
        del rest["host"]  # what it is anyway
    changes = _changes(managed, spec, where, settings)
    if "extra_args" in given:
        changes["extra_args"] = read_arguments(given["extra_args"] or [], f"{where}extra_args")
    options = {**spec.options, **read_options(rest, where)}
    changes["options"] = {name: value for name, value in options.items() if value is not None}
    return msgspec.structs.replace(spec, **changes)


def _changes(managed: dict[str, Json], spec: Spec, where: str, settings: LlamaServerSettings) -> dict[str, Any]:
    try:
        read = msgspec.convert(managed, Managed, strict=True)
    except msgspec.ValidationError as error:
        found = field_error(error, kind=Managed)
        raise BadRequest(f"{where}{found.field}: {found.reason}") from error
    if isinstance(read.command_override, str) and not settings.allow_command_override:
        raise BadRequest("command_override can't be set: see the setting llama_server.allow_command_override")
    changes = {name: getattr(read, name) for name in managed}
    changes = {name: _DEFAULTS[name] if value is None else value for name, value in changes.items()}
    if "port" in changes:
        changes["port"] = changes["port"] or None
    if "environment" in managed:
        changes["environment"] = _environment(spec.environment, managed["environment"])
    return changes


def _environment(old: Mapping[str, str], given: Mapping[str, str | None] | None) -> dict[str, str]:
    if given is None:
        return {}
    merged = {**old, **given}
    found = {name: value for name, value in merged.items() if value is not None}
    check_environment(found)
    return found


def nested_view(spec: Spec) -> dict[str, Json]:
    """The body that would make the same instance, secrets masked; what is as the settings have it is left out."""
    shown: dict[str, Json] = msgspec.to_builtins(masked(spec))
    options = shown.pop("options")
    beside = {name: value for name, value in shown.items() if value != _DEFAULTS[name] and name != "managed"}
    return {"backend_type": "llama_cpp", "backend_options": options, **beside}


def older_view(spec: Spec) -> dict[str, Json]:
    """The options by their older names, the documented three always, secrets masked; the model stands beside them."""
    shown = dict(masked(spec).options)
    shown.pop("model", None)
    first = {"threads": shown.pop("threads", None), "context_size": shown.pop("ctx_size", None)}
    return {**first, "gpu_layers": shown.pop("gpu_layers", None), **shown}


def model_of(spec: Spec) -> str:
    """What the older API calls model_path: the file, or where the model comes from."""
    return str(next((spec.options[name] for name in _SOURCES if spec.options.get(name)), ""))
