"""For proving a conformance suite: run it on a fake that is broken on purpose, and see which tests fail."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest


async def failures_of(suite: object, **fixtures: Any) -> set[str]:
    """The tests of a suite that fail, without ``test_``; each runs with all its parameters, and with the `fixtures` it names."""
    failed = set()
    for name, test in inspect.getmembers(suite, inspect.iscoroutinefunction):
        if name.startswith("test_"):
            wanted = inspect.signature(test).parameters
            for given in parameters_of(test):
                ready = {key: value for key, value in fixtures.items() if key in wanted}
                try:
                    await test(**ready, **given)
                except (Exception, pytest.fail.Exception):  # noqa: BLE001  any failure counts
                    failed.add(name.removeprefix("test_"))
    return failed


def parameters_of(test: Callable[..., Any]) -> list[dict[str, Any]]:
    """The combinations of a test's parametrize marks."""
    rounds: list[dict[str, Any]] = [{}]
    for mark in getattr(test, "pytestmark", []):
        names = mark.args[0] if isinstance(mark.args[0], tuple) else (mark.args[0],)
        values = [value if isinstance(mark.args[0], tuple) else (value,) for value in mark.args[1]]
        rounds = [{**given, **dict(zip(names, value, strict=True))} for given in rounds for value in values]
    return rounds


def name_of(value: object) -> str:
    """A readable id for parametrize: a text as it is, anything else by its class."""
    return value if isinstance(value, str) else type(value).__name__
