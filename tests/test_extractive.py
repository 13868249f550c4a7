"""The extractive model: what it answers, and what it refuses."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import pytest

from paddock.builtin.extractive import LIMIT, ExtractiveModel, answer
from paddock.contracts.providers import ChatCall, Passage
from paddock.errors import BadRequest
from paddock.testing.chat import ChatModelSuite, collect, content_of, make_call, sse_events

COWS = """# Keeping dairy cows

## Water
Cows need clean water at all times. A lactating dairy cow drinks between 60 and 110 litres of water a day, approx. 4 to 5
litres for every litre of milk. In hot weather, i.e. above 25 °C, the need may double. Calves drink much less.

## Feed
A dairy cow eats per day:
- 20 to 25 kg of dry matter
- 300 g of minerals

| Animal | Water (litres/day) | Feed (kg) |
|---|---|---|
| Sheep | 8 | 2 |
| Horse | 40 | 10 |
"""
GOATS = """Goats are kept for milk and meat. They are curious. Goats must be milked twice a day because their
udders are small. The barn was built in 1987 by Anna Berg."""
HERD = "name: Bella\nbreed: Holstein\nmilk: 28 litres\n\nname: Rosa\nbreed: Jersey\nmilk: 19 litres"


def passage(number: int, content: str, filename: str = "farm.md") -> Passage:
    return Passage(
        number=number,
        content=content,
        filename=filename,
        page=None,
        score=1 / number,
        chunk_id=f"c{number}",
        document_id="d",
    )


SOURCES = (passage(1, COWS), passage(2, GOATS, "goats.txt"), passage(3, HERD, "herd.csv"))


class TestShape(ChatModelSuite):
    @pytest.fixture
    def model(self) -> ExtractiveModel:
        return ExtractiveModel()

    def call(self, *, stream: bool, **fields: Any) -> ChatCall:
        call = make_call("How many litres of water does a dairy cow need a day?", stream=stream, **fields)
        call.sources = SOURCES
        return call


@pytest.mark.parametrize(
    ("question", "beginning"),
    [
        (
            "How many litres of water does a dairy cow need a day?",
            "A lactating dairy cow drinks between 60 and 110 litres",
        ),
        ("How much water does a sheep drink?", "Animal: Sheep; Water (litres/day): 8; Feed (kg): 2 [1]"),
        ("Why are goats milked twice?", "Goats must be milked twice a day because their udders are small. [2]"),
        ("When was the barn built?", "The barn was built in 1987 by Anna Berg. [2]"),
        ("Who built the barn?", "The barn was built in 1987 by Anna Berg. [2]"),
        ("What breed is Rosa?", "name: Rosa; breed: Jersey; milk: 19 litres [3]"),
        ("minerals", "A dairy cow eats per day: 300 g of minerals [1]"),
        ("Do calves drink a lot?", "Calves drink much less. [1]"),
    ],
)
def test_the_best_sentence_comes_first(question: str, beginning: str) -> None:
    assert answer(question, SOURCES).startswith(beginning)


def test_every_sentence_is_followed_by_a_number_of_the_sources() -> None:
    text = answer("How much water and feed does an animal need a day?", SOURCES)
    numbers = re.findall(r"\[(\d+)\]", text)
    assert 1 <= len(numbers) <= LIMIT
    assert {int(number) for number in numbers} <= {1, 2, 3}
    assert text.endswith("]")


def test_no_more_than_five_sentences_are_chosen() -> None:
    places = ("meadow", "barn", "garden", "river", "wood", "hill", "road", "yard", "pond")
    sources = [passage(number + 1, f"The cow Berta was in the {place}.") for number, place in enumerate(places)]
    assert len(re.findall(r"\[\d+\]", answer("Where was the cow Berta?", sources))) <= LIMIT


def test_the_same_sentence_in_two_passages_is_said_once() -> None:
    text = answer("Who built the barn?", [passage(1, GOATS), passage(2, GOATS)])
    assert text.count("Anna Berg") == 1


def test_numbers_in_brackets_of_the_sources_are_not_taken_for_citations() -> None:
    assert answer("How old is the barn?", [passage(4, "The barn is old [17].")]) == "The barn is old. [4]"


def test_without_sources_it_says_so() -> None:
    assert "no passages" in answer("How old is the barn?", [])


def test_sources_that_do_not_fit_are_not_sold_as_an_answer() -> None:
    assert answer("What is the capital of France?", SOURCES).startswith("No passage answers this question")


def test_a_question_without_content_gets_the_beginnings() -> None:
    assert answer("Please summarise this.", SOURCES).startswith("Cows need clean water at all times. [1]")


def test_hostile_passages_take_no_time() -> None:
    start = time.process_time()
    for text in (
        "." * 60_000,
        "Dr. " * 15_000,
        "[" * 60_000,
        "**" * 30_000,
        "a-\n" * 20_000,
        "| a " * 20_000,
        "a:" * 30_000,
    ):
        answer("a b c", [passage(1, text)])
    assert time.process_time() - start < 5  # each took minutes when its cost was quadratic


async def test_it_streams_word_by_word() -> None:
    call = ChatCall(
        body={"messages": [{"role": "user", "content": "Who built the barn?"}]}, stream=True, sources=SOURCES
    )
    deltas = [event["choices"][0]["delta"] for event in sse_events(await collect(ExtractiveModel(), call))[:-1]]
    assert [delta["content"] for delta in deltas if delta.get("content")][:3] == ["The ", "barn ", "was "]


async def test_the_last_message_of_the_user_is_the_question() -> None:
    messages = [
        {"role": "system", "content": "You talk about goats."},
        {"role": "user", "content": "Why are goats milked twice?"},
        {"role": "assistant", "content": "Because."},
        {"role": "user", "content": [{"type": "text", "text": "Who built the barn?"}]},
    ]
    call = ChatCall(body={"messages": messages}, stream=False, sources=SOURCES)
    assert "Anna Berg" in content_of(await collect(ExtractiveModel(), call), stream=False)


async def test_max_tokens_bounds_the_answer() -> None:
    call = make_call("Who built the barn?", max_tokens=3)
    call.sources = SOURCES
    reply = json.loads(await collect(ExtractiveModel(), call))
    assert reply["choices"][0]["message"]["content"].rstrip() == "The barn was"
    assert reply["choices"][0]["finish_reason"] == "length"
    assert reply["usage"]["completion_tokens"] == 3


@pytest.mark.parametrize("stream", [False, True])
async def test_stop_ends_the_answer(stream: bool) -> None:
    call = make_call("Who built the barn?", stream=stream, stop=["1987", "zzz"])
    call.sources = SOURCES
    assert content_of(await collect(ExtractiveModel(), call), stream=stream) == "The barn was built in "


async def test_harmless_sampling_fields_are_accepted() -> None:
    call = make_call(
        temperature=0.2, top_p=0.5, top_k=3, seed=1, presence_penalty=1, user="me", n=1, tools=[], logprobs=False
    )
    assert content_of(await collect(ExtractiveModel(), call), stream=False)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tools", [{"type": "function"}]), ("tool_choice", "required"), ("response_format", {"type": "json_object"}), ("n", 2),
        ("logprobs", True), ("max_tokens", 0), ("max_tokens", "many"), ("stop", [1]), ("stop", ""), ("messages", "hello"),
        ("messages", [{"role": "user", "content": 7}]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("stream", [False, True])
async def test_what_it_can_not_do_is_refused_by_name(field: str, value: Any, stream: bool) -> None:
    with pytest.raises(BadRequest, match=field):
        await collect(ExtractiveModel(), make_call(stream=stream, **{field: value}))


async def test_reasoning_is_refused() -> None:
    call = make_call()
    call.think = True
    with pytest.raises(BadRequest, match="think"):
        await collect(ExtractiveModel(), call)


async def test_an_option_of_other_providers_is_refused_by_name() -> None:
    call = make_call()
    call.options = {"n_ctx": 4096}
    with pytest.raises(BadRequest, match="n_ctx"):
        await collect(ExtractiveModel(), call)
