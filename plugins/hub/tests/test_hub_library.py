"""The hub's own library reads the cache that paddock writes, and paddock the one that it writes."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

from paddock_hub import HubSource

from paddock.builtin.hub_cache import HubCache
from paddock.testing.hub import FakeHub, pulled

MODEL = "org/model"
READ = """
import sys
from huggingface_hub import scan_cache_dir, snapshot_download
cache, repo = sys.argv[1:]
found = scan_cache_dir(cache)
assert not found.warnings, found.warnings
[repo_info] = found.repos
[revision] = repo_info.revisions
print(snapshot_download(repo, cache_dir=cache, local_files_only=True), repo_info.size_on_disk, *revision.refs)
"""
WRITE = """
import sys
from huggingface_hub import snapshot_download
cache, repo, endpoint = sys.argv[1:]
print(snapshot_download(repo, cache_dir=cache, endpoint=endpoint))
"""


async def library(code: str, *args: str) -> list[str]:
    """Run code that uses huggingface_hub; the words that it prints."""
    env = {
        **os.environ,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }
    env = {name: value for name, value in env.items() if not name.endswith("_PROXY") and name != "HF_ENDPOINT"}
    command = [sys.executable, "-c", code, *args]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


async def test_the_library_finds_what_paddock_fetched(source: HubSource, cache: HubCache) -> None:
    await pulled(source, MODEL)
    snapshot = cache.snapshot(MODEL)
    assert await library(READ, str(cache.root), MODEL) == [str(snapshot), "300005", "main"]


async def test_paddock_finds_what_the_library_fetched(source: HubSource, hub: FakeHub, cache: HubCache) -> None:
    [snapshot] = await library(WRITE, str(cache.root), MODEL, hub.endpoint)
    assert cache.snapshot(MODEL) == Path(snapshot)
    [model] = cache.models()
    assert (model.size, model.revisions) == (300_005, ("main",))
    hub.requests.clear()
    await pulled(source, MODEL)
    assert hub.transfers() == []
