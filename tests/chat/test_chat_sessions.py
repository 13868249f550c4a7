"""Sessions: history, expiry, order, isolation, deletion, and that a turn is stored whole or not at all."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from paddock.errors import ProjectNotFound, ProviderUnavailable, SessionNotFound
from paddock.services.chat.sessions import Sessions
from paddock.testing.chat import Say

if TYPE_CHECKING:
    from tests.chat.conftest import Lab

TTL = 1800


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def answer(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


@pytest.mark.parametrize("stream", [False, True])
async def test_a_session_remembers_what_was_said(lab: Lab, stream: bool) -> None:
    first = await lab.ask("one", session="", stream=stream)
    lab.echo.script.append(Say(texts=["tw", "o!"]))
    second = await lab.ask("two", session=first.session, stream=stream)
    assert second.session == first.session
    assert lab.sent["messages"] == [user("one"), answer("one"), user("two")]
    assert await lab.history(first.session) == [user("one"), answer("one"), user("two"), answer("two!")]


async def test_a_caller_may_choose_the_id(lab: Lab) -> None:
    assert (await lab.ask("x", session="my-chat.1")).session == "my-chat.1"
    assert await lab.history("my-chat.1") == [user("x"), answer("x")]


async def test_a_new_session_gets_an_unguessable_id_each_time(lab: Lab) -> None:
    ids = {(await lab.ask("x", session=blank)).session for blank in ("", " ", "")}
    assert len(ids) == 3
    assert all(len(one) == 36 for one in ids)


async def test_stateless_requests_store_nothing_and_say_no_session(lab: Lab) -> None:
    for stream in (False, True):
        assert "X-Session-ID" not in (await lab.ask("x", stream=stream)).headers
    assert await lab.delete_all() == ("Deleted 0 session(s)", 0)


async def test_a_client_that_sends_the_whole_conversation_does_not_double_it(lab: Lab) -> None:
    session = (await lab.ask("one", session="")).session
    await lab.ask([user("one"), answer("one"), user("two")], session=session)
    assert lab.sent["messages"] == [user("one"), answer("one"), user("two")]
    assert await lab.history(session) == [user("one"), answer("one"), user("two"), answer("two")]


async def test_system_messages_are_sent_but_not_stored(lab: Lab) -> None:
    session = (await lab.ask([{"role": "system", "content": "s"}, user("one")], session="")).session
    await lab.ask("two", session=session)
    assert lab.sent["messages"] == [user("one"), answer("one"), user("two")]


async def test_tool_calls_and_results_are_stored(lab: Lab) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    for stream in (False, True):
        lab.echo.script.extend([Say(tool_calls=[call]), "done"])
        session = (await lab.ask("x", session="", stream=stream)).session
        result = {"role": "tool", "tool_call_id": "c", "content": "1"}
        await lab.ask([result], session=session, stream=stream)
        asked = {"role": "assistant", "content": None, "tool_calls": [call]}
        assert await lab.history(session) == [user("x"), asked, result, answer("done")]


async def test_changing_the_model_keeps_the_history(lab: Lab) -> None:
    models = [{"name": name, "provider": "echo", "model": name} for name in ("a", "b")]
    lab.project(runtime={"models": models})
    session = (await lab.ask("one", session="", model="a")).session
    await lab.ask("two", session=session, model="b")
    assert len(lab.sent["messages"]) == 3


async def test_an_expired_session_starts_empty(lab: Lab) -> None:
    await lab.ask("old", session="s")
    lab.clock.now += TTL + 1
    with pytest.raises(SessionNotFound):
        await lab.history("s")
    await lab.ask("new", session="s")
    assert lab.sent["messages"] == [user("new")]
    assert await lab.history("s") == [user("new"), answer("new")]


async def test_each_turn_renews_the_time_to_live(lab: Lab) -> None:
    for _ in range(4):
        lab.clock.now += TTL - 1
        await lab.ask("x", session="s")
    assert len(await lab.history("s")) == 8


async def test_reading_a_history_does_not_renew_it(lab: Lab) -> None:
    await lab.ask("x", session="s")
    lab.clock.now += TTL - 1
    await lab.history("s")
    lab.clock.now += 2
    with pytest.raises(SessionNotFound):
        await lab.history("s")


async def test_the_sweep_deletes_expired_sessions_but_none_in_use(lab: Lab) -> None:
    hold = asyncio.Event()
    for name in ("idle", "busy"):
        await lab.ask("one", session=name)
    lab.echo.script.append(Say(texts=["late"], hold=hold))
    lab.echo.started.clear()
    running = asyncio.ensure_future(lab.ask("two", session="busy"))
    await lab.echo.started.wait()
    lab.clock.now += TTL + 1
    assert await lab.chat.sessions.sweep() == 1
    hold.set()
    await running
    assert [one["content"] for one in await lab.history("busy")] == ["one", "one", "two", "late"]


async def test_sessions_survive_a_restart(lab: Lab) -> None:
    await lab.ask("x", session="s")
    again = Sessions(lab.core, clock=lab.clock)
    assert len(await again.history("n", "p", "s")) == 2


async def test_history_is_bounded_and_begins_with_the_user(lab: Lab) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    lab.echo.script.append(Say(tool_calls=[call]))
    await lab.ask("0", session="s")
    await lab.ask([{"role": "tool", "tool_call_id": "c", "content": "r"}], session="s")
    for number in range(1, 5):
        await lab.ask(str(number), session="s")
    found = await lab.history("s")
    assert [one["content"] for one in found if one["role"] == "user"] == ["1", "2", "3", "4"]
    assert found[0]["role"] == "user"


async def test_an_unknown_session_has_no_history_and_gets_none_by_asking(lab: Lab) -> None:
    for _ in range(2):
        with pytest.raises(SessionNotFound):
            await lab.history("nobody")
    assert await lab.delete_all() == ("Deleted 0 session(s)", 0)


async def test_a_session_belongs_to_its_project(lab: Lab) -> None:
    lab.project("q")
    await lab.ask("secret", session="s")
    with pytest.raises(SessionNotFound):
        await lab.history("s", project="q")
    with pytest.raises(SessionNotFound):
        await lab.delete("s", project="q")
    await lab.ask("x", session="s", project="q")
    assert lab.sent["messages"] == [user("x")]
    assert await lab.delete_all(project="q") == ("Deleted 1 session(s)", 1)
    assert len(await lab.history("s")) == 2


async def test_sessions_of_an_unknown_project_are_not_found(lab: Lab) -> None:
    for work in (lab.history("s", project="x"), lab.delete("s", project="x"), lab.delete_all(project="x")):
        with pytest.raises(ProjectNotFound):
            await work


async def test_deleting_a_session_deletes_it_for_good(lab: Lab) -> None:
    await lab.ask("x", session="s")
    assert await lab.delete("s") == "Session s deleted"
    with pytest.raises(SessionNotFound):
        await lab.history("s")
    with pytest.raises(SessionNotFound):
        await lab.delete("s")


async def test_deleting_all_counts_them(lab: Lab) -> None:
    for name in ("a", "b", "c"):
        await lab.ask("x", session=name)
    assert await lab.delete_all() == ("Deleted 3 session(s)", 3)
    rows = await lab.core.state.read(lambda db: db.execute("SELECT count(*) FROM session_messages").get)
    assert rows == 0


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("what", ["one", "all", "project"])
async def test_a_turn_that_runs_while_its_session_is_deleted_is_not_stored(lab: Lab, what: str, stream: bool) -> None:
    hold = asyncio.Event()
    lab.echo.script.append(Say(texts=["late"], hold=hold))
    running = asyncio.ensure_future(lab.ask("x", session="s", stream=stream))
    await lab.echo.started.wait()
    if what == "one":
        await lab.delete("s")
    elif what == "all":
        await lab.delete_all()
    else:
        await lab.chat.forget("n", "p")
    hold.set()
    assert (await running).text == "late"
    with pytest.raises(SessionNotFound):
        await lab.history("s")


async def test_a_turn_that_outlives_its_project_is_not_stored(lab: Lab) -> None:
    hold = asyncio.Event()
    lab.echo.script.append(Say(texts=["late"], hold=hold))
    running = asyncio.ensure_future(lab.ask("x", session="s"))
    await lab.echo.started.wait()
    await lab.files.delete("n", "p")
    hold.set()
    assert (await running).text == "late"
    lab.project()
    with pytest.raises(SessionNotFound):
        await lab.history("s")


async def test_two_requests_of_one_session_run_one_after_the_other(lab: Lab) -> None:
    hold = asyncio.Event()
    lab.echo.script.extend([Say(texts=["first"], hold=hold), Say(texts=["second"])])
    one = asyncio.ensure_future(lab.ask("a", session="s", stream=True))
    await lab.echo.started.wait()
    two = asyncio.ensure_future(lab.ask("b", session="s"))
    other = await lab.ask("c", session="other")
    assert len(lab.echo.calls) == 2
    assert other.text == "second"
    hold.set()
    await asyncio.gather(one, two)
    assert [one["content"] for one in await lab.history("s")] == ["a", "first", "b", "b"]
    assert lab.chat.sessions._active == {}


@pytest.mark.parametrize("stream", [False, True])
async def test_a_failed_turn_leaves_the_session_as_it_was(lab: Lab, stream: bool) -> None:
    await lab.ask("one", session="s")
    lab.echo.script.append(Say(texts=["a", "b"], error=ProviderUnavailable("gone"), error_after=1))
    with pytest.raises(ProviderUnavailable):
        await lab.ask("two", session="s", stream=stream)
    assert len(await lab.history("s")) == 2
    await lab.ask("three", session="s")
    assert len(await lab.history("s")) == 4


async def test_a_stream_that_the_client_leaves_stores_nothing(lab: Lab) -> None:
    lab.echo.script.append(Say(texts=["a", "b", "c"], hold_after=2))
    reply = await lab.start("x", session="s", stream=True)
    assert not isinstance(reply.body, bytes)
    assert b'"a"' in await anext(reply.body)
    await reply.body.aclose()  # type: ignore[attr-defined]  # a generator
    assert lab.echo.gone.is_set()
    with pytest.raises(SessionNotFound):
        await lab.history("s")
    assert lab.chat.sessions._active == {}
    assert "client left" in str((await lab.event()).error)


async def test_the_turn_is_stored_before_the_stream_says_done(lab: Lab) -> None:
    reply = await lab.start("x", session="s", stream=True)
    assert not isinstance(reply.body, bytes)
    async for piece in reply.body:
        if b"[DONE]" in piece:
            assert len(await lab.history("s")) == 2
            return
    pytest.fail("no [DONE]")
