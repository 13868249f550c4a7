"""The section ``llama_server`` of the settings."""

from __future__ import annotations

from typing import Annotated

import msgspec

Seconds = Annotated[float, msgspec.Meta(ge=0)]
Count = Annotated[int, msgspec.Meta(ge=-1)]
Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]


class LlamaServerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How instances are run. Times in seconds, sizes in bytes; -1 is no limit.

    `command` is llama-server's path or name; `args` stand before every instance's own. `model_dirs` are the folders whose
    GGUF files may be named once callers have keys (empty: the data folder's models, the hub cache, /models). `preload`
    names instances that are started with the server, `groups` sets of which one member runs at a time. Requests in flight
    have `stop_grace` to end before their instance is signalled, and that has `kill_grace` before it is killed. A request that
    waited `queue_patience` for room makes busy instances finish what they do and take nothing new. `parallel_load` instances
    start at once with the server; memory is looked at every `watch_interval`. Figures of running instances are sent over
    ``/api/ws`` every `stats_interval`; less room than `low_disk_bytes` is an alert there.
    """

    command: str = "llama-server"
    args: tuple[str, ...] = ()
    environment: dict[str, str] = {}
    allow_command_override: bool = False
    model_dirs: tuple[str, ...] = ()
    host: str = "127.0.0.1"
    port_first: Port = 9001
    port_last: Port = 9999
    max_instances: Count = -1
    max_running_instances: Count = -1
    lru_eviction: bool = True
    auto_restart: bool = True
    max_restarts: Annotated[int, msgspec.Meta(ge=0)] = 3
    restart_delay: Seconds = 5
    restart_window: Seconds = 600
    on_demand_start: bool = True
    idle_timeout: Seconds = 1800
    start_timeout: Seconds = 120
    stop_grace: Seconds = 30
    kill_grace: Seconds = 5
    queue_size: Annotated[int, msgspec.Meta(ge=0)] = 100
    queue_timeout: Seconds = 120
    queue_patience: Seconds = 10
    log_max_bytes: Annotated[int, msgspec.Meta(ge=4096)] = 10 * 1024 * 1024
    log_files: Annotated[int, msgspec.Meta(ge=1, le=100)] = 5
    log_ring_bytes: Annotated[int, msgspec.Meta(ge=4096)] = 256 * 1024
    preload: tuple[str, ...] = ()
    groups: dict[str, tuple[str, ...]] = {}
    stats_interval: Annotated[float, msgspec.Meta(ge=0.1, le=5)] = 2
    low_disk_bytes: Annotated[int, msgspec.Meta(ge=0)] = 1024 * 1024 * 1024
    watch_interval: Annotated[float, msgspec.Meta(gt=0)] = 2
    parallel_load: Annotated[int, msgspec.Meta(ge=1)] = 2
