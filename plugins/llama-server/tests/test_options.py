"""Options: every one of the table reaches the command line, under every name, and absent is neither 0 nor false."""

from __future__ import annotations

from typing import Any

import pytest
from paddock_llama_server.options import argv, canonical, file_values, flag, read_argument, read_arguments, read_options
from paddock_llama_server.table import ALIASES, FILES, KINDS, NEGATIVES, REFUSED

from paddock.errors import BadRequest

SAMPLES: dict[str, Any] = {
    "flag": True, "int": 7, "float": 0.5, "text": "a b", "list": ["x", "y"], "switch": "auto", "layers": "all",
}  # fmt: skip
NUMBERS = [name for name, kind in KINDS.items() if kind in ("int", "float", "layers") and name not in REFUSED]
FREE = [name for name in KINDS if name not in REFUSED]


def test_no_other_spelling_hides_a_canonical_name_or_leads_nowhere() -> None:
    assert not set(ALIASES) & set(KINDS)
    assert set(ALIASES.values()) <= set(KINDS)
    assert (set(FILES) | set(REFUSED)) <= set(KINDS)


@pytest.mark.parametrize("name", FREE)
def test_every_option_reaches_the_argument_list(name: str) -> None:
    value = SAMPLES[KINDS[name]]
    stored = read_options({name: value})
    expected = {
        "flag": [flag(name)], "list": [flag(name), "x", flag(name), "y"],
    }.get(KINDS[name], [flag(name), str(value)])  # fmt: skip
    assert argv(stored) == expected


@pytest.mark.parametrize("other", ALIASES)
def test_every_other_spelling_means_its_canonical_name(other: str) -> None:
    name = ALIASES[other]
    if name in REFUSED:
        with pytest.raises(BadRequest, match=other):
            read_options({other: SAMPLES[KINDS[name]]})
    else:
        assert read_options({other: SAMPLES[KINDS[name]]}) == {name: SAMPLES[KINDS[name]]}
    assert read_argument("-" + other) == name


@pytest.mark.parametrize("name", NUMBERS)
def test_zero_is_said_and_absent_is_not(name: str) -> None:
    assert argv(read_options({name: 0})) == [flag(name), "0"]
    assert argv(read_options({name: None})) == []


@pytest.mark.parametrize("name", [name for name in FREE if KINDS[name] == "flag"])
def test_false_is_said_where_llama_server_has_a_word_for_it(name: str) -> None:
    expected = [flag(NEGATIVES[name])] if name in NEGATIVES else []
    assert argv(read_options({name: False})) == expected


def test_the_negatives_are_those_of_llama_server() -> None:
    assert {"jinja", "mmap", "kv_offload", "warmup", "webui", "cont_batching", "context_shift", "slots"} <= set(
        NEGATIVES
    )
    assert NEGATIVES["kv_offload"] == "no_kv_offload"


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"rope_freq_base": 1e6}, "1000000"), ({"rope_freq_base": 1e22}, "10000000000000000000000"),
        ({"temp": 1e-7}, "0.0000001"), ({"temp": 0.8}, "0.8"), ({"seed": -1}, "-1"), ({"temp": 2}, "2"),
    ],
)  # fmt: skip
def test_numbers_have_no_exponent(given: dict[str, Any], text: str) -> None:
    assert argv(read_options(given))[1] == text


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ({"ngl": "0"}, {"gpu_layers": 0}), ({"c": " 4096 "}, {"ctx_size": 4096}), ({"temperature": "0.7"}, {"temp": 0.7}),
        ({"ngl": "all"}, {"gpu_layers": "all"}), ({"ot": "a=b"}, {"override_tensor": ["a=b"]}),
        ({"fa": True}, {"flash_attn": "on"}), ({"flash_attn": False}, {"flash_attn": "off"}),
    ],
)  # fmt: skip
def test_other_spellings_are_lenient(given: dict[str, Any], stored: dict[str, Any]) -> None:
    assert read_options(given) == stored


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"ctx_size": "4096"}, "ctx_size must be a whole number"),
        ({"ctx_size": True}, "ctx_size"), ({"ctx_size": 1.5}, "ctx_size"), ({"ctx_size": 2**64}, "ctx_size"),
        ({"temp": "0.5"}, "temp must be a number"), ({"temp": float("nan")}, "temp"),
        ({"jinja": "yes"}, "jinja must be true or false"), ({"jinja": 1}, "jinja"),
        ({"model": 5}, "model must be a text"), ({"model": "a\0b"}, "NUL"), ({"model": "\ud800"}, "model"),
        ({"lora": "x"}, "lora must be a list"), ({"lora": [1]}, "lora"),
        ({"flash_attn": "maybe"}, "flash_attn"), ({"gpu_layers": "some"}, "gpu_layers"), ({"ngl": "x"}, "ngl"),
        ({"ctx_sise": 1}, "ctx_sise: .*did you mean ctx_size"), ({"wholly_unknown": 1}, "wholly_unknown.*server/help"),
        ({"c": 1, "ctx_size": 2}, "ctx_size is given twice"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(given: dict[str, Any], words: str) -> None:
    with pytest.raises(BadRequest, match=words):
        read_options(given)


@pytest.mark.parametrize("name", REFUSED)
def test_a_refused_option_is_named_with_its_reason_under_every_name(name: str) -> None:
    for spelling in [name, *(other for other, meant in ALIASES.items() if meant == name)]:
        with pytest.raises(BadRequest, match=f"{spelling} can't be set: "):
            read_options({spelling: SAMPLES[KINDS[name]]})
        for written in (f"--{spelling}", "--" + spelling.replace("_", "-"), f"-{spelling}"):
            with pytest.raises(BadRequest, match="can't be set"):
                read_arguments(["--verbose", written, "x"])
            with pytest.raises(BadRequest, match="can't be set"):
                read_arguments([f"{written}=x"])


def test_extra_arguments_keep_their_order_and_come_last() -> None:
    extra = read_arguments(["--b", "2", "--a", "-1"])
    assert argv({"ctx_size": 5}, extra) == ["--ctx-size", "5", "--b", "2", "--a", "-1"]


def test_extra_arguments_may_be_the_map_of_llamactl() -> None:
    given = {"new-flag": "", "--other": "v", "bare": True, "count": 3, "rate": 1e-7}
    expected = ("--new-flag", "--other", "v", "--bare", "--count", "3", "--rate", "0.0000001")
    assert read_arguments(given) == expected


@pytest.mark.parametrize("given", ["--x", 5, [1], ["a\0"], {"x": [1]}, {"x": False}, None])
def test_other_forms_of_extra_arguments_are_refused(given: Any) -> None:
    with pytest.raises(BadRequest, match="extra_args"):
        read_arguments(given)


def test_every_path_is_found_in_options_and_arguments() -> None:
    options = {
        "model": "/m.gguf",
        "lora": ["/a,/b"],
        "lora_scaled": ["/c:0.5,/d:1"],
        "slot_save_path": "/s",
        "alias": "/no",
    }
    extra = ["-md", "/draft", "--lora-scaled", "/e:0.1", "--chat_template_file=/t", "--mmproj"]
    assert sorted(file_values(options, extra)) == sorted([
        ("model", "/m.gguf"), ("lora", "/a"), ("lora", "/b"), ("lora_scaled", "/c"), ("lora_scaled", "/d"),
        ("slot_save_path", "/s"), ("model_draft", "/draft"), ("lora_scaled", "/e"), ("chat_template_file", "/t"),
    ])  # fmt: skip


def test_canonical_knows_both_kinds_of_names_and_nothing_else() -> None:
    assert (canonical("ngl"), canonical("gpu_layers"), canonical("nope")) == ("gpu_layers", "gpu_layers", None)
