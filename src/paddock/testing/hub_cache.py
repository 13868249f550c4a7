"""A cached model as the hub's tools leave it, for tests that need one in the cache."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from paddock.builtin.hub_cache import HubCache

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def cache_model(root: Path, repo: str, files: Mapping[str, bytes], commit: str = COMMIT, ref: str = "main") -> Path:
    """Put a repository into the cache at `root`: blobs, links to them, the ref. Returns the snapshot's folder."""
    folder = HubCache(root).folder(repo)
    snapshot = folder / "snapshots" / commit
    for made in (folder / "blobs", folder / "refs", snapshot):
        made.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        blob = folder / "blobs" / hashlib.sha256(data).hexdigest()
        blob.write_bytes(data)
        link = snapshot / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
    (folder / "refs" / ref).write_text(commit)
    return snapshot


def partials(cache: HubCache) -> list[Path]:
    """The files in the cache that are not whole."""
    return list(cache.root.rglob("*.incomplete"))
