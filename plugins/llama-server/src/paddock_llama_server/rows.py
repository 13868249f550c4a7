"""What is kept of instances: one row each (what is wanted, what went wrong), one for each process that was started."""

from __future__ import annotations

import os
from typing import Literal

import msgspec

from paddock.contracts.providers import Records
from paddock_llama_server import groups
from paddock_llama_server.spec import Spec

INSTANCES, SPAWNED = "instance", "spawned"


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """Why an instance is in the state failed: a code for programs, a sentence with the last log lines for people."""

    code: str
    message: str


class Row(msgspec.Struct, kw_only=True):
    """An instance as it is stored. `id` is its own for life and marks its processes; times in seconds since 1970."""

    id: str
    name: str
    spec: Spec
    wanted: Literal["running", "stopped"] = "stopped"
    created: float
    updated: float
    last_used: float | None = None
    failure: Failure | None = None


class Spawned(msgspec.Struct, frozen=True, kw_only=True):
    """A process that was started, told apart from any other by its start time and the machine's boot; `owner` is the paddock
    that started it (``pid:start time``)."""

    pid: int
    started: str
    boot_id: str
    instance: str
    owner: str


def me() -> str:
    """This process as the owner of children."""
    return f"{os.getpid()}:{groups.started(os.getpid())}"


def lives(owner: str) -> bool:
    """Whether that paddock still runs on this machine."""
    pid, _, start = owner.partition(":")
    return pid.isdigit() and groups.started(int(pid)) == start


class Rows:
    """The rows through `Host.records`. Raises ProviderUnavailable when the disk takes no more."""

    def __init__(self, records: Records) -> None:
        self._records = records

    async def all(self) -> list[Row]:
        """Every instance, the oldest first."""
        return [msgspec.convert(body, Row) for body in (await self._records.all(INSTANCES)).values()]

    async def save(self, row: Row) -> None:
        """Store the row as it is now."""
        await self._records.put(INSTANCES, row.name, msgspec.to_builtins(row))

    async def delete(self, name: str) -> None:
        """Forget an instance."""
        await self._records.delete(INSTANCES, name)

    async def note(self, spawned: Spawned) -> None:
        """A process was started."""
        await self._records.put(SPAWNED, spawned.instance, msgspec.to_builtins(spawned))

    async def forget(self, instance: str) -> None:
        """Its process is gone."""
        await self._records.delete(SPAWNED, instance)

    async def spawned(self) -> list[Spawned]:
        """The processes of an earlier life that nobody saw end."""
        return [msgspec.convert(body, Spawned) for body in (await self._records.all(SPAWNED)).values()]
