"""What every owner works with, made once by the manager."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from paddock.contracts.providers import Host, HttpClient
from paddock.errors import BadRequest, PaddockError, ProviderUnavailable
from paddock_llama_server.logs import Logs
from paddock_llama_server.ports import Ports
from paddock_llama_server.process import Guardian
from paddock_llama_server.rows import Rows
from paddock_llama_server.settings import LlamaServerSettings
from paddock_llama_server.slots import Slots
from paddock_llama_server.spec import Change, Spec


class NotStarted(PaddockError):
    """llama-server itself can't be run."""

    code = "not_started"


class ModelFileMissing(BadRequest):
    """A file that the instance names is not there, or is not what it should be."""

    code = "model_file_missing"


_REASONS = {
    "model_file_missing": "a file of its model is missing or no usable GGUF file",
    "bad_option": "llama-server refuses one of its options",
    "out_of_memory": "memory is short",
    "port_taken": "its port is taken",
    "start_timeout": "it was not ready in time",
    "crash_loop": "it crashes again and again",
    "not_started": "llama-server can't be run",
}


class StartFailed(ProviderUnavailable):
    """What requests hear of an instance whose start failed. `code` is the failure's; log lines and paths are none of it, since
    they are for those who manage instances: see `Instance.last_error`."""

    def __init__(self, name: str, code: str, retry_after: float = 5) -> None:
        reason = _REASONS.get(code, "its start failed")
        super().__init__(f"{name} can't answer: {reason}; GET /api/v1/instances/{name} tells the cause", retry_after)
        self.code = code


class StartAborted(ProviderUnavailable):
    """A start that requests waited for was given up by an order to stop."""

    code = "start_aborted"


@dataclass(frozen=True, kw_only=True)
class Tools:
    """`check` raises PaddockError for what can be seen before a start; `executable` finds the command, or raises NotStarted;
    `waiting` counts the requests that wait for a place; `publish` spreads news."""

    settings: LlamaServerSettings
    host: Host
    http: HttpClient
    slots: Slots
    ports: Ports
    logs: Logs
    rows: Rows
    guardian: Guardian
    boot_id: str
    check: Callable[[Spec], Awaitable[None]]
    executable: Callable[[Spec], str]
    waiting: Callable[[], int]
    publish: Callable[[Change], None]
