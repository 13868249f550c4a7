"""What a server and the helper that tries its models say to each other."""

from __future__ import annotations

import msgspec


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """A model to try: its folder, its graph, the bytes that it needs in memory, and the execution providers."""

    folder: str
    graph: str
    size: int
    providers: tuple[str, ...]


class Verdict(msgspec.Struct, frozen=True):
    """What is wrong with it; empty: nothing."""

    problem: str
