"""The sections of the settings, with their defaults: `conf/paddock.toml` explains every key."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

Positive = Annotated[int, msgspec.Meta(ge=1)]
Count = Annotated[int, msgspec.Meta(ge=0)]
Seconds = Annotated[float, msgspec.Meta(ge=0)]


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
    the longest that may be asked for. One request or reply may hold `max_pages` pages of together `max_pixels` pixels, which
    may take `max_seconds` seconds to make."""

    ttl: Annotated[float, msgspec.Meta(gt=0)] = 3600
    max_ttl: Annotated[float, msgspec.Meta(gt=0)] = 30 * 86_400
    max_bytes: Positive = 100 * 1024 * 1024
    max_total_bytes: Positive = 2 * 1024 * 1024 * 1024
    max_count: Positive = 1000
    max_pages: Positive = 100
    max_pixels: Positive = 500_000_000
    max_seconds: Seconds = 120


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
