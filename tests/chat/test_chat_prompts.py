"""Prompts and tools of the project: which are sent, in which order, and how variables fill them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from paddock.errors import ValidationFailed
from paddock.services.chat.templates import MAX_CHARACTERS, Template
from paddock.testing.chat import Say

if TYPE_CHECKING:
    from tests.chat.conftest import Lab

PROMPTS = [
    {"name": "base", "messages": [{"role": "system", "content": "Be brief."}]},
    {
        "name": "shots",
        "messages": [
            {"role": "system", "content": "Speak {{language | English}}."},
            {"role": "user", "content": "1+1?"},
            {"role": "assistant", "content": "2"},
        ],
    },
]
ASKED = [{"role": "system", "content": "Be a pirate."}, {"role": "user", "content": "hi"}]
WEATHER = {
    "type": "function",
    "name": "weather",
    "description": "Weather in {{city | Oslo}}",
    "parameters": {"type": "object"},
}
TIME = {"type": "function", "function": {"name": "time", "description": "now", "parameters": {}}}


async def test_all_prompt_sets_come_first_in_the_order_of_the_file(lab: Lab) -> None:
    lab.project(prompts=PROMPTS)
    await lab.ask("hi")
    assert lab.roles == [
        ("system", "Be brief.\n\nSpeak English."),
        ("user", "1+1?"),
        ("assistant", "2"),
        ("user", "hi"),
    ]


async def test_a_model_names_its_prompt_sets(lab: Lab) -> None:
    lab.project(prompts=PROMPTS, model={"prompts": ["base"]})
    await lab.ask("hi")
    assert lab.roles == [("system", "Be brief."), ("user", "hi")]


@pytest.mark.parametrize(
    ("mode", "system"),
    [
        (None, "Be brief.\n\nBe a pirate."),
        ("api_supplement", "Be brief.\n\nBe a pirate."),
        ("api_replace", "Be a pirate."),
        ("config_only", "Be brief."),
    ],
)
async def test_the_callers_system_message_meets_the_projects(lab: Lab, mode: str | None, system: str) -> None:
    lab.project(prompts=PROMPTS[:1], model={"prompts_mode": mode} if mode else {})
    answered = await lab.ask(ASKED)
    assert lab.roles == [("system", system), ("user", "hi")]
    assert ("X-Paddock-Notice" in answered.headers) == (mode == "config_only")


@pytest.mark.parametrize("mode", ["api_supplement", "api_replace", "config_only"])
async def test_without_a_system_message_of_the_caller_the_projects_is_sent(lab: Lab, mode: str) -> None:
    lab.project(prompts=PROMPTS[:1], model={"prompts_mode": mode})
    answered = await lab.ask("hi")
    assert lab.roles == [("system", "Be brief."), ("user", "hi")]
    assert "X-Paddock-Notice" not in answered.headers


async def test_a_system_message_in_the_middle_stays_in_its_place(lab: Lab) -> None:
    said = [
        {"role": "user", "content": "a"},
        {"role": "system", "content": "Louder."},
        {"role": "user", "content": "b"},
    ]
    await lab.ask(said)
    assert [role for role, _ in lab.roles] == ["user", "system", "user"]


async def test_a_single_system_message_passes_unchanged(lab: Lab) -> None:
    message = {"role": "developer", "content": [{"type": "text", "text": "x"}], "name": "me"}
    await lab.ask([message, {"role": "user", "content": "hi"}])
    assert lab.sent["messages"][0] == message


async def test_variables_fill_prompts_but_never_a_callers_text(lab: Lab) -> None:
    lab.project(prompts=PROMPTS[1:])
    await lab.ask("say {{language}}", variables={"language": "{{secret}}"})
    assert lab.roles[0] == ("system", "Speak {{secret}}.")
    assert lab.roles[-1] == ("user", "say {{language}}")


async def test_a_variable_without_value_and_default_is_named(lab: Lab) -> None:
    lab.project(prompts=[{"name": "a", "messages": [{"role": "system", "content": "Dear {{ name }}"}]}])
    with pytest.raises(ValidationFailed) as caught:
        await lab.ask("hi", variables={"nom": "Bob"})
    assert caught.value.errors[0].field == "variables.name"


@pytest.mark.parametrize(
    ("source", "filled"),
    [
        ("{{a}}{{ a }}{{a | x}}", "111"),
        ("{{b | General Assistant }}!", "General Assistant!"),
        ("{{b|}}", ""),
        ("{{obj}}", '{"k":[1,true,null]}'),
        (r"\{{a}}", "{{a}}"),
        (
            "{{ 1 + 1 }} {% for x in y %} {{a.b}} {{__class__.x}} {{a()}}",
            "{{ 1 + 1 }} {% for x in y %} {{a.b}} {{__class__.x}} {{a()}}",
        ),
        ("{{{a}}}", "{1}"),
        ("{{" * 50_000, "{{" * 50_000),
    ],
)
def test_only_plain_slots_are_filled(source: str, filled: str) -> None:
    assert Template({"a": 1, "obj": {"k": [1, True, None]}}).text(source) == filled


def test_variables_cannot_blow_prompts_up() -> None:
    template = Template({"a": "x" * (MAX_CHARACTERS // 2)})
    with pytest.raises(ValidationFailed, match="variables"):
        template.text("{{a}}" * 3)


@pytest.mark.parametrize(
    ("mode", "names"),
    [
        (None, ["weather", "time"]),
        ("api_supplement", ["weather", "time"]),
        ("api_replace", ["time"]),
        ("config_only", ["weather"]),
    ],
)
async def test_tools_of_project_and_caller_meet(lab: Lab, mode: str | None, names: list[str]) -> None:
    lab.project(model={"tools": [WEATHER], **({"tools_mode": mode} if mode else {})})
    answered = await lab.ask("x", tools=[TIME], tool_choice="required")
    assert [tool["function"]["name"] for tool in lab.sent["tools"]] == names
    assert lab.sent["tool_choice"] == "required"
    assert ("X-Paddock-Notice" in answered.headers) == (mode == "config_only")


async def test_a_projects_tool_is_sent_nested_with_its_slots_filled(lab: Lab) -> None:
    lab.project(model={"tools": [WEATHER]})
    await lab.ask("x", variables={"city": "Rome"})
    function = {"name": "weather", "description": "Weather in Rome", "parameters": {"type": "object"}}
    assert lab.sent["tools"] == [{"type": "function", "function": function}]


async def test_a_callers_tool_replaces_the_projects_of_the_same_name(lab: Lab) -> None:
    lab.project(model={"tools": [WEATHER]})
    own = {"type": "function", "function": {"name": "weather", "parameters": {"mine": True}}}
    await lab.ask("x", tools=[own])
    assert lab.sent["tools"] == [own]


CALL = '<tool_call>{"name": "weather", "arguments": {"city": "Oslo"}}</tool_call>'
PROMPTED: dict[str, Any] = {"tools": [WEATHER], "tool_call_strategy": "prompt_based"}


async def test_prompt_based_tools_are_described_and_their_calls_read(lab: Lab) -> None:
    lab.project(model=PROMPTED)
    lab.echo.script.append(Say(texts=[f"Let me see. {CALL}"]))
    answered = await lab.ask("x", tool_choice="auto")
    assert "tools" not in lab.sent
    assert "tool_choice" not in lab.sent
    assert '"name":"weather"' in lab.roles[0][1]
    choice = answered.json()["choices"][0]
    assert choice["message"]["content"] == "Let me see."
    assert choice["finish_reason"] == "tool_calls"
    function = choice["message"]["tool_calls"][0]["function"]
    assert function == {"name": "weather", "arguments": '{"city":"Oslo"}'}


async def test_prompt_based_calls_are_read_from_a_stream_cut_anywhere(lab: Lab) -> None:
    lab.project(model=PROMPTED)
    lab.echo.script.append(Say(texts=list(f"Hm <b> {CALL}\n{CALL}")))
    answered = await lab.ask("x", stream=True)
    assert answered.text == "Hm <b> "
    last = answered.chunks[-1]["choices"][0]
    assert [call["index"] for call in last["delta"]["tool_calls"]] == [0, 1]
    assert last["finish_reason"] == "tool_calls"


async def test_text_that_only_looks_like_a_call_comes_back_whole(lab: Lab) -> None:
    lab.project(model=PROMPTED)
    for text in ("<tool_call>not json</tool_call>", '<tool_call>{"name": "unknown"}</tool_call>', "<tool_cal", "a < b"):
        lab.echo.script.extend([Say(texts=[text]), Say(texts=list(text))])
        assert (await lab.ask("x")).text == text
        assert (await lab.ask("x", stream=True)).text == text


async def test_one_call_is_enough_when_parallel_calls_are_off(lab: Lab) -> None:
    lab.project(model=PROMPTED)
    lab.echo.script.append(Say(texts=[CALL + CALL]))
    answered = await lab.ask("x", parallel_tool_calls=False)
    assert len(answered.json()["choices"][0]["message"]["tool_calls"]) == 1
    assert "parallel_tool_calls" not in lab.sent


async def test_what_a_tool_answered_reaches_a_model_without_tools_as_text(lab: Lab) -> None:
    lab.project(model=PROMPTED)
    call = {"id": "c", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
    await lab.ask([
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": "rain"},
    ])  # fmt: skip
    assert lab.roles[2:] == [("assistant", CALL), ("user", "<tool_response>\nrain\n</tool_response>")]
