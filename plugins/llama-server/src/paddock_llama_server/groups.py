"""What the system says about processes and process groups."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path

import msgspec

PROC = Path("/proc")
POLL = 0.02
LISTENING = "0A"  # the state in /proc/net/tcp


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """What a process group takes: resident bytes, and seconds of processor time since its processes began."""

    memory_bytes: int
    cpu_seconds: float


def started(pid: int) -> str | None:
    """What tells this process from a later one with its number; None when there is no such process."""
    try:
        stat = (PROC / str(pid) / "stat").read_bytes()
    except OSError:
        if (PROC / "self" / "stat").exists():
            return None
        return _created(pid)
    return stat[stat.rindex(b")") + 2 :].split()[19].decode()


def _created(pid: int) -> str | None:
    import psutil  # noqa: PLC0415  on first use

    try:
        return str(psutil.Process(pid).create_time())
    except psutil.Error:
        return None


def boot_id() -> str:
    """Differs after every boot of the machine; empty where the system doesn't say."""
    try:
        return (PROC / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def members(group: int) -> list[int]:
    """The living processes of a group. Zombies, which only wait for their parent to notice, are none."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return []
    except PermissionError:
        pass
    import psutil  # noqa: PLC0415  on first use

    return [pid for pid in psutil.pids() if group_of(pid) == group and not _is_zombie(pid)]


async def vanished(group: int, timeout: float) -> bool:
    """Wait until a group has no living member; false after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while await asyncio.to_thread(members, group):
        if time.monotonic() >= deadline:
            return False
        await asyncio.sleep(POLL)
    return True


def group_of(pid: int) -> int | None:
    """The process group of a process, None when it is gone."""
    try:
        return os.getpgid(pid)
    except OSError:
        return None


def _is_zombie(pid: int) -> bool:
    import psutil  # noqa: PLC0415  on first use

    try:
        return bool(psutil.Process(pid).status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD))
    except psutil.NoSuchProcess:
        return True


def signal_group(group: int, number: signal.Signals) -> None:
    """Signal every process of a group; nothing happens when there is none."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def usage(wanted: Iterable[int]) -> dict[int, Usage]:
    """What each of the groups takes now, from one walk over all processes. May block some milliseconds."""
    import psutil  # noqa: PLC0415  on first use

    asked = set(wanted)
    found: dict[int, Usage] = {}
    for pid in psutil.pids() if asked else ():
        group = group_of(pid)
        if group not in asked or group is None:
            continue
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(pid)
            times, before = process.cpu_times(), found.get(group, Usage(memory_bytes=0, cpu_seconds=0))
            found[group] = Usage(
                memory_bytes=before.memory_bytes + process.memory_info().rss,
                cpu_seconds=before.cpu_seconds + times.user + times.system,
            )
    return found


def environment_values(name: str) -> dict[int, dict[str, str]]:
    """The environment of every process of this user that has a variable `name`, by process. May block."""
    found = {}
    for entry in PROC.glob("[0-9]*/environ"):
        with contextlib.suppress(OSError, ValueError):
            pairs = (part.partition(b"=") for part in entry.read_bytes().split(b"\0"))
            values = {key.decode("utf-8", "replace"): value.decode("utf-8", "replace") for key, _, value in pairs}
            if name in values:
                found[int(entry.parent.name)] = values
    return found


def listening(port: int) -> set[str] | None:
    """The sockets that listen on a TCP port, as /proc names them; None where there is no /proc."""
    found: set[str] = set()
    for table in ("tcp", "tcp6"):
        try:
            lines = (PROC / "net" / table).read_text().splitlines()[1:]
        except OSError:
            if table == "tcp":
                return None
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                found.add(f"socket:[{fields[9]}]")
    return found


def holds(pid: int, sockets: set[str]) -> bool:
    """Whether a process has one of these sockets open."""
    try:
        for entry in (PROC / str(pid) / "fd").iterdir():
            with contextlib.suppress(OSError):
                if str(entry.readlink()) in sockets:
                    return True
    except OSError:
        return False
    return False


def holder(port: int) -> str:
    """Who listens on a port, for a message: ``process 17 (nginx)``, or ``another process`` when that can't be seen."""
    sockets = listening(port)
    for entry in PROC.glob("[0-9]*") if sockets else ():
        if sockets and holds(int(entry.name), sockets):
            with contextlib.suppress(OSError):
                return f"process {entry.name} ({(entry / 'comm').read_text().strip()})"
    return "another process"
