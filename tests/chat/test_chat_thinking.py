"""Reasoning: told apart from the answer, whole and streamed, in fields and in tags."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from paddock.services.chat.thinking import ThinkSplitter, split_thinking
from paddock.testing.chat import Say

if TYPE_CHECKING:
    from tests.chat.conftest import Lab

THOUGHT = "<think>\n15% of 85 is <b>12.75</b>\n</think>\n\nIt is **12.75**."


async def test_reasoning_fields_become_the_thinking_object(lab: Lab) -> None:
    lab.echo.script.append(Say(reasoning=["because", " so"], texts=["42"]))
    found = (await lab.ask("x", think=True)).json()
    assert found["thinking"] == {"content": "because so", "tokens": None}
    assert found["choices"][0]["message"]["content"] == "42"


async def test_counted_reasoning_tokens_are_reported(lab: Lab) -> None:
    usage: dict[str, object] = {
        "prompt_tokens": 1,
        "completion_tokens": 9,
        "completion_tokens_details": {"reasoning_tokens": 7},
    }
    lab.echo.script.append(Say(reasoning=["hm"], texts=["42"], usage=usage))  # type: ignore[arg-type]  # nested details
    assert (await lab.ask("x")).json()["thinking"] == {"content": "hm", "tokens": 7}


async def test_tags_at_the_start_become_the_thinking_object(lab: Lab) -> None:
    lab.echo.script.append(Say(texts=[THOUGHT]))
    found = (await lab.ask("x")).json()
    message = found["choices"][0]["message"]
    assert found["thinking"]["content"] == message["reasoning_content"] == "15% of 85 is <b>12.75</b>"
    assert message["content"] == "It is **12.75**."


async def test_an_answer_without_reasoning_has_no_thinking(lab: Lab) -> None:
    assert "thinking" not in (await lab.ask("x", think=True)).json()


@pytest.mark.parametrize("session", [None, ""])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
async def test_tags_are_split_off_a_stream_however_it_is_cut(lab: Lab, size: int, session: str | None) -> None:
    lab.echo.script.append(Say(texts=[THOUGHT[at : at + size] for at in range(0, len(THOUGHT), size)]))
    answered = await lab.ask("x", stream=True, session=session)
    assert answered.joined("reasoning_content") == "15% of 85 is <b>12.75</b>"
    assert answered.text == "It is **12.75**."
    assert answered.chunks[-1]["choices"][0]["finish_reason"] == "stop"


async def test_reasoning_fields_pass_through_a_stream(lab: Lab) -> None:
    for session in (None, ""):
        lab.echo.script.append(Say(reasoning=["a", "b"], texts=["c"]))
        answered = await lab.ask("x", stream=True, session=session)
        assert (answered.joined("reasoning_content"), answered.text) == ("ab", "c")


async def test_a_tag_later_in_the_text_is_text(lab: Lab) -> None:
    text = "Write <think>like this</think>."
    for stream in (False, True):
        lab.echo.script.append(Say(texts=list(text) if stream else [text]))
        assert (await lab.ask("x", stream=stream)).text == text


async def test_reasoning_is_not_stored_in_a_session(lab: Lab) -> None:
    for stream in (False, True):
        lab.echo.script.append(Say(texts=[THOUGHT]))
        session = (await lab.ask("x", stream=stream, session="")).session
        assert (await lab.history(session))[1] == {"role": "assistant", "content": "It is **12.75**."}


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("<think>a</think>b", ("a", "b")),
        ("  \n<think>\n\na\n\n</think>\n b", ("a", "b")),
        ("<think>never closed", ("never closed", "")),
        ("<think></think>b", ("", "b")),
        ("<thin", ("", "<thin")),
        ("<thinking>a", ("", "<thinking>a")),
        ("a<think>b</think>", ("", "a<think>b</think>")),
        ("", ("", "")),
        ("<think>a</think>b</think>c<think>", ("a", "b</think>c<think>")),
    ],
)
def test_splitting_does_not_depend_on_where_a_text_is_cut(text: str, parts: tuple[str, str]) -> None:
    assert split_thinking(text) == parts
    for size in range(1, len(text) + 1):
        splitter = ThinkSplitter()
        found = [splitter.feed(text[at : at + size]) for at in range(0, len(text), size)]
        found.append(splitter.flush())
        assert ("".join(one for one, _ in found), "".join(two for _, two in found)) == parts
