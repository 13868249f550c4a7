"""Settings: defaults, then ``--config FILE``, then ``{data}/settings.toml`` (what PUT /api/config saved), then the
environment, then the command line; one frozen struct at the end.

Environment: ``PADDOCK_SECTION__KEY`` (lists comma-separated, tables as JSON), and the two short names ``PADDOCK_DATA_DIR``
and ``LF_DATA_DIR``; weaker than the file are the hub's own HF_HUB_CACHE, HF_HOME, HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE.
A key that no struct knows is refused by name. A plugin declares its own section with the hook ``paddock_settings``.
"""

from __future__ import annotations

import difflib
import os
import tomllib
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from paddock.errors import FieldError, ValidationFailed, field_error
from paddock.resources import conf_folder

S = TypeVar("S", bound=msgspec.Struct)
Positive = Annotated[int, msgspec.Meta(ge=1)]
Count = Annotated[int, msgspec.Meta(ge=0)]
Seconds = Annotated[float, msgspec.Meta(ge=0)]
PREFIX = "PADDOCK_"
SHIPPED = "paddock.toml"
HUB_NAMES = "the hub's environment"
SAVED = "settings.toml"  # in the data folder


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all sections."""


class Server(Section, frozen=True, kw_only=True):
    """Where the server listens and what it takes."""

    host: str = "127.0.0.1"
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 8000
    data_dir: str = "~/.paddock"
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    insecure: bool = False
    swagger: bool = False
    max_body_bytes: Positive = 32 * 1024 * 1024
    max_header_bytes: Positive = 64 * 1024
    body_timeout: Seconds = 30
    write_timeout: Seconds = 60
    shutdown_grace: Seconds = 10


class Auth(Section, frozen=True, kw_only=True):
    """Keys. Without any, everything is allowed on the loopback and nothing elsewhere."""

    management_keys: tuple[str, ...] = ()
    inference_keys: tuple[str, ...] = ()
    admin_password: Annotated[str, msgspec.Meta(max_length=1000)] = ""
    token_ttl: Annotated[float, msgspec.Meta(ge=1)] = 86_400


class RateLimit(Section, frozen=True, kw_only=True):
    """Requests a minute to ``/api`` without ``/v1`` for each key, user or address; 0 is no limit."""

    requests_per_minute: Annotated[int, msgspec.Meta(ge=0)] = 100
    expensive_per_minute: Annotated[int, msgspec.Meta(ge=0)] = 10


class Log(Section, frozen=True, kw_only=True):
    """Logs go to standard output."""

    format: Literal["auto", "human", "json"] = "auto"
    level: Literal["debug", "info", "warning", "error"] = "info"


class Plugins(Section, frozen=True, kw_only=True):
    """Plugins are installed packages; `required` ones must load, `disabled` ones are left out."""

    required: tuple[str, ...] = ()
    disabled: tuple[str, ...] = ()


class Outgoing(Section, frozen=True, kw_only=True):
    """What projects may reach. `allow`: host:port that may be loopback or private; `env`: names that ${env:NAME} may read."""

    allow: tuple[str, ...] = tuple(
        f"{host}:{port}" for host in ("127.0.0.1", "localhost") for port in (11434, 11534, 1234, 8080)
    )
    env: tuple[str, ...] = ()
    connect_timeout: Seconds = 10
    first_byte_timeout: Seconds = 300
    timeout: Seconds = 3600


class Uploads(Section, frozen=True, kw_only=True):
    """Uploaded files."""

    max_bytes: Positive = 4 * 1024 * 1024 * 1024


class Models(Section, frozen=True, kw_only=True):
    """The model cache, in the hub's layout. `cache_dir` empty: ``{data}/models/hub``. With `auto_download` a model that is
    needed and not there is fetched; without, the error names the command that does."""

    cache_dir: str = ""
    auto_download: bool = False


class Files(Section, frozen=True, kw_only=True):
    """Files that stand for themselves, under /v1/files. `ttl` is how long one stays when its uploader does not say, `max_ttl`
    the longest that may be asked for; `max_pages` bounds the pages that one reply or request may hold."""

    ttl: Annotated[float, msgspec.Meta(gt=0)] = 3600
    max_ttl: Annotated[float, msgspec.Meta(gt=0)] = 30 * 86_400
    max_bytes: Positive = 100 * 1024 * 1024
    max_total_bytes: Positive = 2 * 1024 * 1024 * 1024
    max_count: Positive = 1000
    max_pages: Positive = 100


class Projects(Section, frozen=True, kw_only=True):
    """Further folders with templates (NAME.yaml) and examples (FOLDER/manifest.yaml) beside the shipped ones."""

    template_dirs: tuple[str, ...] = ()
    example_dirs: tuple[str, ...] = ()
    default_template: str = "default"


class Chat(Section, frozen=True, kw_only=True):
    """Project chat."""

    session_ttl: Seconds = 1800
    max_history_messages: Positive = 200
    rag_context_tokens: Positive = 6000


class Upstream(Section, frozen=True, kw_only=True):
    """One server of models that the gateway passes requests to. `models` empty: it is asked for them. `aliases` are further
    names of its models. Times in seconds; 0: those of the gateway."""

    base_url: str
    api_key: str = ""
    headers: dict[str, str] = {}
    models: tuple[str, ...] = ()
    aliases: dict[str, str] = {}
    first_token_timeout: Seconds = 0
    timeout: Seconds = 0


class Gateway(Section, frozen=True, kw_only=True):
    """The gateway under /v1. `concurrency` counts requests of one model, `key_concurrency` those of one key; 0 is no limit.
    Times in seconds; `first_token_timeout` and `timeout` 0: each server's own."""

    upstreams: dict[str, Upstream] = {}
    aliases: dict[str, str] = {}
    fallbacks: dict[str, tuple[str, ...]] = {}
    concurrency: Count = 0
    model_concurrency: dict[str, Count] = {}
    key_concurrency: Count = 0
    retries: Annotated[int, msgspec.Meta(ge=0, le=10)] = 2
    longest_wait: Seconds = 5
    first_token_timeout: Seconds = 0
    timeout: Seconds = 0
    catalogue_ttl: Seconds = 10
    catalogue_wait: Seconds = 2


class Tasks(Section, frozen=True, kw_only=True):
    """Background work. `workers` files are parsed at once; retries back off from `retry_delay` seconds, doubling."""

    queue: str = "inprocess"
    workers: Positive = 2
    max_attempts: Positive = 4
    retry_delay: Seconds = 2
    max_waiting: Positive = 100_000
    keep_days: Positive = 30


class Events(Section, frozen=True, kw_only=True):
    """The event log."""

    enabled: bool = True
    keep_count: Positive = 10_000
    keep_days: Positive = 30


class System(Section, frozen=True, kw_only=True):
    """About the installation itself."""

    version_check: bool = False


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """All settings. `sections` holds those of the plugins by section name."""

    server: Server = Server()
    auth: Auth = Auth()
    rate_limit: RateLimit = RateLimit()
    log: Log = Log()
    plugins: Plugins = Plugins()
    outgoing: Outgoing = Outgoing()
    uploads: Uploads = Uploads()
    models: Models = Models()
    files: Files = Files()
    projects: Projects = Projects()
    chat: Chat = Chat()
    gateway: Gateway = Gateway()
    tasks: Tasks = Tasks()
    events: Events = Events()
    system: System = System()
    sections: Mapping[str, Any] = {}

    @property
    def data_dir(self) -> Path:
        """The data folder, absolute."""
        return Path(self.server.data_dir).expanduser().absolute()

    @property
    def hub_cache(self) -> Path:
        """The folder of the model cache, absolute."""
        own = self.models.cache_dir
        return Path(own).expanduser().absolute() if own else self.data_dir / "models" / "hub"


CORE: dict[str, type[Section]] = {
    field.name: field.type for field in msgspec.structs.fields(Settings) if field.name != "sections"
}
Raw = dict[str, dict[str, Any]]


def load_settings(
    sections: Mapping[str, type[msgspec.Struct]],
    *,
    config: Path | None = None,
    environ: Mapping[str, str] = os.environ,
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
    absent: Iterable[str] = (),
) -> Settings:
    """Put the layers together. `sections` are the plugins' own; `absent` are plugins that are disabled or did not load,
    whose sections (by the plugin's name) are passed over. Raises ValidationFailed naming the key and its layer."""
    return Layers(sections, config, environ, overrides or {}, list(absent)).load()


class Layers(msgspec.Struct, frozen=True):
    """What settings are put together from, so that it can be done again: see `load_settings`."""

    sections: Mapping[str, type[msgspec.Struct]] = {}
    config: Path | None = None
    environ: Mapping[str, str] = {}
    overrides: Mapping[str, Mapping[str, Any]] = {}
    absent: Sequence[str] = ()

    @property
    def known(self) -> dict[str, type[msgspec.Struct]]:
        """Every section by name."""
        return {**CORE, **self.sections}

    def load(self, saved: Raw | None = None) -> Settings:
        """Put the layers together, with `saved` in the place of the saved file if given. Raises ValidationFailed naming the
        key and its layer."""
        layers = self.raw()
        if saved is None:
            saved = _read_saved(_merged(layers, self.known, self.absent).get("server", {}))
        merged = _merged([*layers[:-2], (SAVED, saved), *layers[-2:]], self.known, self.absent)
        built = {name: _build(name, merged.get(name, {}), kind) for name, kind in self.known.items()}
        core: dict[str, Any] = {name: built.pop(name) for name in CORE}
        return Settings(**core, sections=built)

    def raw(self) -> list[tuple[str, Raw]]:
        """The layers but the saved one, weakest first; the last two are the environment and the command line."""
        return raw_layers(self.config, self.environ, self.overrides)

    def above(self, section: str, key: str) -> str | None:
        """The layer that fixes a setting whatever is saved, or None."""
        return next((name for name, values in self.raw()[-2:] if key in values.get(section, {})), None)


def _read_saved(server: Mapping[str, Any]) -> Raw:
    folder = Path(str(server.get("data_dir", Server().data_dir))).expanduser()
    return read_settings(folder / SAVED) if (folder / SAVED).is_file() else {}


def _merged(layers: Iterable[tuple[str, Raw]], known: Mapping[str, type[msgspec.Struct]], absent: Iterable[str]) -> Raw:
    passed = {name.replace("-", "_") for name in absent} - set(known)
    merged: Raw = {}
    for layer, given in layers:
        # The shipped file and the hub's variables also set the sections of plugins that may not be installed here.
        general = layer in (SHIPPED, HUB_NAMES)
        values = {name: keys for name, keys in given.items() if name in known or not (general or name in passed)}
        _check_keys(layer, values, known)
        for section, keys in values.items():
            merged.setdefault(section, {}).update(keys)
    return merged


def plugin_settings(config: Path | None, environ: Mapping[str, str] = os.environ) -> Plugins:
    """Only the section `plugins`: needed before the plugins, and with them all other sections, are known."""
    merged: dict[str, Any] = {}
    for _, values in raw_layers(config, environ, None):
        merged.update(values.get("plugins", {}))
    built = _build("plugins", merged, Plugins)
    assert isinstance(built, Plugins)
    return built


def raw_layers(
    config: Path | None, environ: Mapping[str, str], overrides: Mapping[str, Mapping[str, Any]] | None
) -> list[tuple[str, Raw]]:
    """The layers but the saved file, weakest first, each with a name for messages."""
    layers: list[tuple[str, Raw]] = [(SHIPPED, read_settings(conf_folder() / SHIPPED)), (HUB_NAMES, _from_hub(environ))]
    if config is not None:
        if not config.is_file():
            raise ValidationFailed(f"the settings file {config} does not exist: check --config")
        layers.append((str(config), read_settings(config)))
    layers.append(("the environment", _from_environment(environ)))
    layers.append(("the command line", {name: dict(values) for name, values in (overrides or {}).items()}))
    return layers


def read_settings(path: Path) -> Raw:
    """A settings file's sections. Raises ValidationFailed for one that can't be read."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValidationFailed(f"the settings file {path} can't be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValidationFailed(f"{path.name} is not TOML: {error}") from error
    for name, section in values.items():
        if not isinstance(section, dict):
            raise ValidationFailed(f"{path.name}: {name} stands outside of a [section]")
    return values


def _from_environment(environ: Mapping[str, str]) -> Raw:
    found: Raw = {}
    data_dir = environ.get("PADDOCK_DATA_DIR") or environ.get("LF_DATA_DIR")
    if data_dir:
        found["server"] = {"data_dir": data_dir}
    for name, value in environ.items():
        if name.startswith(PREFIX) and "__" in name:
            section, _, key = name.removeprefix(PREFIX).lower().partition("__")
            found.setdefault(section, {})[key] = value
    return found


def _from_hub(environ: Mapping[str, str]) -> Raw:
    """The variables that every tool of the Hugging Face hub reads; any setting of paddock's own is stronger."""
    home = environ.get("HF_HOME")
    offline = environ.get("HF_HUB_OFFLINE", "").lower()
    given = {
        ("models", "cache_dir"): environ.get("HF_HUB_CACHE") or (f"{home}/hub" if home else None),
        ("hub", "endpoint"): environ.get("HF_ENDPOINT"),
        ("hub", "token"): environ.get("HF_TOKEN"),
        ("hub", "offline"): "true" if offline in ("1", "on", "yes", "true") else None,
    }
    found: Raw = {}
    for (section, key), value in given.items():
        if value:
            found.setdefault(section, {})[key] = value
    return found


def _check_keys(layer: str, values: Raw, known: Mapping[str, type[msgspec.Struct]]) -> None:
    errors = []
    for section, keys in values.items():
        if section not in known:
            errors.append(FieldError(section, f"{layer} names an unknown section{_nearest(section, known)}"))
            continue
        fields = {field.name for field in msgspec.structs.fields(known[section])}
        errors += [
            FieldError(f"{section}.{key}", f"{layer} names an unknown setting{_nearest(key, fields)}")
            for key in keys
            if key not in fields
        ]
    if errors:
        raise ValidationFailed.of(errors)


def _nearest(name: str, known: Mapping[str, Any] | set[str]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(sorted(known))}"


def _build(name: str, values: Mapping[str, Any], kind: type[S]) -> S:
    hints = typing.get_type_hints(kind)
    ready = {
        key: _from_text(f"{name}.{key}", value, hints[key]) if isinstance(value, str) else value
        for key, value in values.items()
    }
    try:
        return msgspec.convert(ready, kind, strict=False)
    except msgspec.ValidationError as error:
        found = field_error(error)
        field = f"{name}.{found.field}" if found.field else name
        raise ValidationFailed.of([FieldError(field, found.reason)]) from error


def _from_text(field: str, value: str, hint: Any) -> Any:
    """A value of the environment, which has only text: a list is split at commas, a table is JSON."""
    kind = typing.get_origin(hint)
    if kind in (tuple, list):
        return [part.strip() for part in value.split(",") if part.strip()]
    if kind is not dict:
        return value
    try:
        return msgspec.json.decode(value or "{}", type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValidationFailed.of([FieldError(field, f"write this table as a JSON object: {error}")]) from error
