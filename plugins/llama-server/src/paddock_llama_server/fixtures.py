"""Pytest fixtures for tests with child processes, loaded through the pytest11 entry point."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from paddock.testing.fixtures import async_fixture

if TYPE_CHECKING:
    from paddock_llama_server.bench import Bench

OpenBench = Callable[..., Awaitable["Bench"]]


@async_fixture
async def open_bench(tmp_path: Path) -> AsyncIterator[OpenBench]:
    """Opens benches (`paddock_llama_server.bench`) with settings as the test wants them; all are closed at its end."""
    from paddock_llama_server.bench import bench_of  # noqa: PLC0415  pytest runs that use none pay nothing

    async with AsyncExitStack() as stack:

        async def open_one(**settings: Any) -> Bench:
            return await stack.enter_async_context(bench_of(tmp_path, **settings))

        yield open_one


@async_fixture
async def bench(open_bench: OpenBench) -> Bench:
    """A bench with the usual settings."""
    return await open_bench()


@pytest.fixture(scope="session")
def real_llama_server() -> str:
    """The real llama-server's path. Skips without one, except in CI."""
    built = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "paddock" / "llama-server"
    given = os.environ.get("PADDOCK_LLAMA_SERVER__COMMAND")
    found = [Path(given)] if given else sorted(built.glob("*/llama-server"))
    if found and os.access(found[-1], os.X_OK):
        return str(found[-1])
    if os.environ.get("CI"):
        pytest.fail("no llama-server: run .ci/llama-server")
    pytest.skip("no llama-server: run .ci/llama-server")
