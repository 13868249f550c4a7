"""What every owner works with, made once by the manager."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from paddock.contracts.providers import Host, HttpClient
from paddock.errors import BadRequest, PaddockError
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
