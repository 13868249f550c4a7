"""What a server and the helper that tries its models say to each other."""

from __future__ import annotations

import msgspec


class Trial(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A model to try: its folder, its graph, the bytes that it needs in memory, and the execution providers."""

    folder: str
    graph: str
    size: int
    providers: tuple[str, ...]


class Build(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A model to complete: its folder in the cache, and the bytes of weights that it may have."""

    folder: str
    limit: int


class Verdict(msgspec.Struct, frozen=True):
    """What is wrong with it; empty: nothing. `here`: with this host, not with the model."""

    problem: str
    here: bool = False
