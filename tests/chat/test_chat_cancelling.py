"""A caller that goes away cancels the model's work: before the first word, in the middle, and without streaming."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest

from paddock.testing.chat import Say

if TYPE_CHECKING:
    from tests.chat.conftest import Lab

SESSIONS = pytest.mark.parametrize("session", [None, "s"])


@SESSIONS
async def test_before_the_first_word(lab: Lab, session: str | None) -> None:
    lab.echo.script.append(Say(texts=["a"], hold=asyncio.Event()))
    reply = await lab.start("x", session=session, stream=True)
    assert not isinstance(reply.body, bytes)
    first = asyncio.ensure_future(anext(reply.body))
    await lab.echo.started.wait()
    first.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await first
    await asyncio.wait_for(lab.echo.gone.wait(), 10)
    assert (await lab.event()).status == "failed"
    assert lab.chat.sessions._active == {}


@SESSIONS
async def test_in_the_middle_of_a_stream(lab: Lab, session: str | None) -> None:
    lab.echo.script.append(Say(texts=["a", "b", "c"], hold_after=2))
    reply = await lab.start("x", session=session, stream=True)
    assert not isinstance(reply.body, bytes)
    await anext(reply.body)
    await reply.body.aclose()  # type: ignore[attr-defined]  # a generator
    assert lab.echo.gone.is_set()


@SESSIONS
async def test_without_streaming(lab: Lab, session: str | None) -> None:
    lab.echo.script.append(Say(texts=["a"], hold=asyncio.Event()))
    asking = asyncio.ensure_future(lab.start("x", session=session))
    await lab.echo.started.wait()
    asking.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asking
    assert lab.echo.gone.is_set()
    assert (await lab.event()).error == "the client left, or the server stopped, before the answer was whole"


async def test_while_it_waits_for_its_turn(lab: Lab) -> None:
    hold = asyncio.Event()
    lab.echo.script.append(Say(texts=["a"], hold=hold))
    one = asyncio.ensure_future(lab.ask("one", session="s"))
    await lab.echo.started.wait()
    two = asyncio.ensure_future(lab.ask("two", session="s"))
    while lab.chat.sessions._active["n", "p", "s"].users < 2:  # noqa: ASYNC110  lets the other task run, waits for no time
        await asyncio.sleep(0)
    two.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await two
    hold.set()
    await one
    assert len(lab.echo.calls) == 1
    assert len(await lab.history("s")) == 2
