"""What is told of plugins, and of their providers' health."""

from __future__ import annotations

import asyncio

import msgspec

from paddock.contracts.providers import Health, Provider

LOOK = 2.0  # seconds that one provider's health may take


class PluginInfo(msgspec.Struct, kw_only=True):
    """What `paddock plugins` shows. `error` is set when the plugin did not load."""

    name: str
    version: str
    provides: dict[str, list[str]] = {}
    endpoints: list[str] = []
    error: str | None = None
    health: dict[str, Health] = {}


async def look_at(provider: Provider) -> Health:
    """A provider's health in at most `LOOK` seconds, whatever it does."""
    try:
        return await asyncio.wait_for(provider.health(), LOOK)
    except TimeoutError:
        return Health(status="unhealthy", message=f"no answer within {LOOK:.0f} s")
    except Exception as error:  # noqa: BLE001  a stranger's code may raise anything; it is reported by name
        return Health(status="unhealthy", message=f"its health can't be told: {error!r}")
