"""``/api/ws``: what happens to the instances, as messages. A slow client loses the oldest, and is told how many."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections import deque
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Literal

import msgspec

from paddock.contracts.base import Json, Service, Socket, hookimpl
from paddock_llama_server.spec import Change, Instances
from paddock_llama_server.views_older import rfc3339, stats
from paddock_llama_server.waiting import first_of

MessageType = Literal["instance_status_changed", "instance_stats_updated", "system_alert"]
KEPT = 256  # messages of one client that wait to be read


class Update(msgspec.Struct, frozen=True):
    """One message."""

    type: MessageType
    timestamp: str
    data: dict[str, Json]


def update(kind: MessageType, data: dict[str, Json], at: float | None = None) -> Update:
    """A message with its time."""
    return Update(kind, rfc3339(time.time() if at is None else at), data)


def told(change: Change) -> Update:
    """A change as a message."""
    if change.kind == "alert":
        data: dict[str, Json] = {"code": change.code, "name": change.name or None, "message": change.message}
        return update("system_alert", data, change.time)
    status = "deleted" if change.kind == "deleted" else change.status
    data = {"name": change.name, "status": status, "previous_status": change.before}
    return update("instance_status_changed", data, change.time)


class Mailbox:
    """The messages that wait for one client, at most `limit`; the oldest give way, and the reader is told how many did."""

    def __init__(self, limit: int = KEPT) -> None:
        self._waiting: deque[Update] = deque()
        self._limit = limit
        self._dropped = 0
        self._filled = asyncio.Event()

    def put(self, message: Update) -> None:
        """Add a message. Never blocks."""
        if len(self._waiting) >= self._limit:
            self._waiting.popleft()
            self._dropped += 1
        self._waiting.append(message)
        self._filled.set()

    async def get(self) -> Update:
        """The oldest message; before it, once, how many were lost."""
        await self._filled.wait()
        if self._dropped:
            lost, self._dropped = self._dropped, 0
            text = f"{lost} older messages were dropped: read faster"
            return update("system_alert", {"code": "messages_dropped", "count": lost, "message": text})
        message = self._waiting.popleft()
        if not self._waiting:
            self._filled.clear()
        return message


class Updates(Service):
    """Implements the websocket of `paddock.contracts.instances_older`."""

    def __init__(self, instances: Instances, data_dir: Path, *, interval: float, low_disk: int) -> None:
        """Figures are sent every `interval` seconds; fewer than `low_disk` free bytes are an alert."""
        self._instances = instances
        self._data_dir = data_dir
        self._interval = interval
        self._low_disk = low_disk

    @hookimpl
    async def older_events_socket(self, data: Socket) -> None:
        """Send until the client leaves."""
        box = Mailbox()
        async with self._instances.changes() as changes:
            await data.accept()
            await first_of(_read_away(data), _send(box, data), _watch(changes, box), self._measure(box))

    async def _measure(self, box: Mailbox) -> None:
        """Figures of what runs and the state of the disk, now and every few seconds."""
        low = False
        while True:
            for one in self._instances.all():
                measured = one.status == "running" and one.memory_bytes is not None
                figures = stats(one) if measured else None
                if figures is not None:
                    box.put(update("instance_stats_updated", {"name": one.name, **msgspec.structs.asdict(figures)}))
            free = (await asyncio.to_thread(shutil.disk_usage, self._data_dir)).free
            if free < self._low_disk and not low:
                text = f"the disk of the data folder has {free} bytes left: make room"
                box.put(update("system_alert", {"code": "low_disk", "name": None, "message": text}))
            low = free < self._low_disk
            await asyncio.sleep(self._interval)


async def _read_away(socket: Socket) -> None:
    """Wait until the client leaves; what it says changes nothing."""
    while await socket.receive() is not None:
        continue


async def _send(box: Mailbox, socket: Socket) -> None:
    while True:
        await socket.send(msgspec.json.encode(await box.get()).decode())


async def _watch(changes: AsyncIterator[Change], box: Mailbox) -> None:
    async for change in changes:
        box.put(told(change))
