"""The host as the older API shows it, and the settings that can be changed over HTTP."""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
import socket
import time
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from paddock.contracts.base import Context, Json, hookimpl
from paddock.contracts.operations import (
    ConfigChange,
    ConfigChanged,
    Resources,
    SystemInfo,
    SystemStatus,
)
from paddock.contracts.providers import InstanceCounts
from paddock.errors import ProviderUnavailable
from paddock.services.core import Core
from paddock.services.saved_settings import changed, settable, shown, toml
from paddock.settings import SAVED, Raw, read_settings
from paddock.storage import replace_file

# What Go, whose words the older API speaks, calls a processor.
_ARCHES = {
    "x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64", "i386": "386", "i686": "386",
    "armv6l": "arm", "armv7l": "arm", "ppc64le": "ppc64le", "riscv64": "riscv64", "s390x": "s390x",
}  # fmt: skip
_SAMPLE = 0.1  # seconds over which the use of the CPU is measured when it was never looked at before


class Operations:
    """Implements `paddock.contracts.operations`."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._version = metadata.version("paddock")
        self._started = time.monotonic()
        self._saving = asyncio.Lock()
        self._looked = False

    @hookimpl
    async def system_status_get(self, ctx: Context) -> SystemStatus:
        resources = await asyncio.to_thread(self._resources)
        uptime = int(time.monotonic() - self._started)
        return SystemStatus(version=self._version, uptime=uptime, instances=self._counts(), resources=resources)

    def _counts(self) -> InstanceCounts:
        found = [one for server in self._core.plugins.model_servers.all() if (one := server.instance_counts())]
        total, running, stopped = (sum(getattr(one, name) for one in found) for name in ("total", "running", "stopped"))
        return InstanceCounts(total=total, running=running, stopped=stopped)

    def _resources(self) -> Resources:
        import psutil  # noqa: PLC0415  on first use

        cpu = psutil.cpu_percent(interval=None if self._looked else _SAMPLE)
        self._looked = True
        memory = psutil.virtual_memory()
        usage = shutil.disk_usage(self._core.settings.data_dir)
        disk = round(usage.used / usage.total * 100, 1) if usage.total else 0.0
        return Resources(cpu_usage=cpu, memory_usage=memory.used, memory_total=memory.total, disk_usage=disk)

    @hookimpl
    async def system_info_get(self, ctx: Context) -> SystemInfo:
        import psutil  # noqa: PLC0415  on first use

        machine = platform.machine().lower()
        return SystemInfo(
            hostname=socket.gethostname(),
            os=platform.system().lower(),
            arch=_ARCHES.get(machine, machine),
            cpu_count=os.cpu_count() or 1,
            memory_total=psutil.virtual_memory().total,
            version=self._version,
            build_time=await asyncio.to_thread(_build_time),
        )

    @hookimpl
    async def config_get(self, ctx: Context) -> dict[str, Json]:
        return shown(self._core.settings)

    @hookimpl
    async def config_update(self, ctx: Context, data: ConfigChange) -> ConfigChanged:
        layers = self._core.layers
        for section, keys in data.given.items():
            for key in keys:
                settable(section, key, layers)
        path = self._core.settings.data_dir / SAVED
        async with self._saving:
            saved = changed(await asyncio.to_thread(_saved, path), data.given)
            settings = layers.load(saved)  # refuses by name what does not fit
            self._core.plugins.task_queues.find(settings.tasks.queue)
            await asyncio.to_thread(_write, path, saved)
        names = [f"{section}.{key}" for section, keys in data.given.items() for key in keys]
        self._core.log.event("config_updated", settings=", ".join(names), by=ctx.caller.label)
        return ConfigChanged(
            message="Configuration updated: it counts from the next start on",
            requires_restart=True,
            config=shown(settings),
        )


def _saved(path: Path) -> Raw:
    return read_settings(path) if path.is_file() else {}


def _write(path: Path, saved: Raw) -> None:
    try:
        replace_file(path, toml(saved).encode())
    except OSError as error:
        raise ProviderUnavailable(f"the settings can't be saved ({error.strerror}): look at the data folder") from error


def _build_time() -> str:
    """When this installation was made."""
    found = [file for file in metadata.files("paddock") or () if file.name in ("METADATA", "RECORD")]
    path = Path(str(found[0].locate())) if found else Path(__file__)
    return datetime.fromtimestamp(int(path.stat().st_mtime), UTC).isoformat().replace("+00:00", "Z")
