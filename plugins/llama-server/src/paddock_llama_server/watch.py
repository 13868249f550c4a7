"""Looks at what the processes take, every few seconds while something runs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping

from paddock_llama_server import groups
from paddock_llama_server.owner import Owner
from paddock_llama_server.run import Run
from paddock_llama_server.spec import Change


class Watch:
    """The one who looks. Instances over their memory ceiling are recycled once they are idle."""

    def __init__(self, interval: float, owners: Mapping[str, Owner], publish: Callable[[Change], None]) -> None:
        self._interval = interval
        self._owners = owners
        self._publish = publish
        self._looked = time.monotonic()

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(self._interval)
            await self._look()

    async def _look(self) -> None:
        runs = [(owner, owner.run) for owner in self._owners.values() if owner.run is not None]
        found = await asyncio.to_thread(groups.usage, [run.child.pid for _, run in runs if run]) if runs else {}
        now = time.monotonic()
        for owner, run in runs:
            if run is not None and run.child.pid in found:
                note(run, found[run.child.pid], now - self._looked)
                self._hold_to_ceiling(owner, run)
        self._looked = now

    def _hold_to_ceiling(self, owner: Owner, run: Run) -> None:
        """Recycle what grew too large. One that served nothing yet would be as large again."""
        ceiling, usage = owner.spec.max_memory_bytes, run.usage
        if ceiling and usage and usage.memory_bytes > ceiling and run.served and not run.recycle:
            self._alert(owner.name, "memory_ceiling", f"{usage.memory_bytes} bytes are over its ceiling of {ceiling}")
            owner.recycle()

    def _alert(self, name: str, code: str, message: str) -> None:
        self._publish(Change(kind="alert", time=time.time(), name=name, code=code, message=message))


def note(run: Run, usage: groups.Usage, seconds: float) -> None:
    """Keep the figures; the processor's share since the last look in percent of one core."""
    if run.usage is not None and seconds > 0:
        run.cpu_percent = max(0.0, (usage.cpu_seconds - run.usage.cpu_seconds) / seconds * 100)
    run.usage = usage
