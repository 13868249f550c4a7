"""Pytest fixtures of the kit, loaded through the pytest11 entry point in every pytest run: it imports next to nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

try:
    from pytest_asyncio import fixture as async_fixture
except ImportError:  # the fixtures below then fail where they are used, and only there
    async_fixture = pytest.fixture  # type: ignore[assignment]  # the same call, other overloads

if TYPE_CHECKING:
    from paddock.testing.server import RunningServer
    from paddock.testing.upstream import FakeUpstream

__all__ = ["async_fixture", "paddock_plugins", "paddock_server", "paddock_settings", "paddock_upstream"]


@pytest.fixture
def paddock_plugins() -> Mapping[str, object]:
    """Plugin objects by name, beside the installed ones. Override it."""
    return {}


@pytest.fixture
def paddock_settings() -> Mapping[str, Mapping[str, Any]]:
    """Sections of settings that differ from the defaults. Override it."""
    return {}


@async_fixture
async def paddock_server(
    tmp_path: Path, paddock_plugins: Mapping[str, object], paddock_settings: Mapping[str, Mapping[str, Any]]
) -> AsyncIterator[RunningServer]:
    """A real server with the installed plugins and those of `paddock_plugins`, its data in `tmp_path`."""
    from paddock.testing.server import running_server  # noqa: PLC0415  pytest runs that use no server pay nothing

    async with running_server(tmp_path / "paddock", plugins=paddock_plugins, settings=paddock_settings) as server:
        yield server


@async_fixture
async def paddock_upstream() -> AsyncIterator[FakeUpstream]:
    """A fake upstream that speaks OpenAI's and Ollama's API."""
    from paddock.testing.upstream import FakeUpstream  # noqa: PLC0415  as above

    async with FakeUpstream() as upstream:
        yield upstream
