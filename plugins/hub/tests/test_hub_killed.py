"""kill -9 in the middle of a download: nothing half is ever a model, and the next download goes on."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from paddock_hub import HubSource

from paddock.builtin.hub_cache import HubCache
from paddock.testing.hub import FakeHub, pulled

BIG = b"0123456789abcdef" * 400_000
CHILD = """
import asyncio, sys
from pathlib import Path
from paddock.outgoing import OutgoingClient
from paddock_hub import HubSettings, HubSource

async def main() -> None:
    cache, endpoint, *allow = sys.argv[1:]
    settings = HubSettings(endpoint=endpoint, cdn_hosts=tuple(allow))
    async for progress in HubSource(OutgoingClient(allow), settings, Path(cache)).pull("org/big"):
        print(progress.completed, flush=True)

asyncio.run(main())
"""


async def test_a_download_that_was_killed_is_no_model_and_is_resumed(
    make_source: Callable[..., HubSource], hub: FakeHub, tmp_path: Path
) -> None:
    cache = HubCache(tmp_path / "hub")
    hub.add("org/big", {"config.json": b"{}", "model.safetensors": BIG})
    hub.faults.stall_after = 5_500_000
    arguments = ("-c", CHILD, str(cache.root), hub.endpoint, *hub.allow)
    child = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=asyncio.subprocess.PIPE)
    assert child.stdout is not None
    async for line in child.stdout:
        if int(line) >= 3_000_000:
            break
    child.send_signal(signal.SIGKILL)
    await child.communicate()
    [partial] = cache.root.rglob("*.incomplete")
    kept = partial.stat().st_size
    assert kept >= 3_000_000
    assert cache.models() == []
    assert not cache.holds("org/big")

    progress = await pulled(make_source(), "org/big")
    assert progress[0].completed == kept + 2
    assert hub.transfers("model.safetensors")[-1].headers["Range"] == f"bytes={kept}-"
    snapshot = cache.snapshot("org/big")
    assert snapshot is not None
    assert (snapshot / "model.safetensors").read_bytes() == BIG
