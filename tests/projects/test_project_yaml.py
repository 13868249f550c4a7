"""Reading llamafarm.yaml, hostile ones included, and writing plain data."""

import itertools
import json

import pytest

from paddock.errors import ValidationFailed
from paddock.services.project_yaml import MAX_BYTES, check_plain, dump, parse, same


def refused(text: str | bytes) -> str:
    """The message for a file that is refused."""
    with pytest.raises(ValidationFailed) as caught:
        parse(text if isinstance(text, bytes) else text.encode())
    return caught.value.message


def test_all_kinds_of_values_become_what_json_can_say() -> None:
    raw = parse(
        b"a: 1\nb: 1.5\nc: yes\nd: true\ne: ~\nf: 2024-01-01\ng: [x, {y: 0x10}]\n1: one\nh: |\n  two\n  lines\n"
    ).raw
    assert raw == {
        "a": 1, "b": 1.5, "c": "yes", "d": True, "e": None, "f": "2024-01-01", "g": ["x", {"y": 16}], "1": "one",
        "h": "two\nlines\n",
    }  # fmt: skip
    assert json.loads(json.dumps(raw)) == raw


def test_anchors_aliases_and_merge_keys_are_expanded() -> None:
    raw = parse(b"base: &base {a: 1, b: 2}\none: {<<: *base, b: 3}\ntwo: {<<: [*base, {c: 4}]}\nthree: *base\n").raw
    assert raw["one"] == {"a": 1, "b": 3}
    assert raw["two"] == {"a": 1, "b": 2, "c": 4}
    assert raw["three"] == {"a": 1, "b": 2}


def test_a_byte_order_mark_is_accepted() -> None:
    assert parse(b"\xef\xbb\xbfa: 1\n").raw == {"a": 1}


def test_a_duplicate_key_is_named_with_its_path_and_lines() -> None:
    message = refused("runtime:\n  models:\n    - name: a\n      model: x\n      name: b\n")
    assert message == "runtime.models[0].name: defined twice, in the lines 3 and 5"


def test_every_duplicate_key_is_named() -> None:
    with pytest.raises(ValidationFailed) as caught:
        parse(b"a: 1\na: 2\nb: {c: 1, c: 2}\n")
    assert [error.field for error in caught.value.errors] == ["a", "b.c"]


def test_a_syntax_error_names_line_and_column() -> None:
    assert "line 2, column 4" in refused("a: 1\n  b: 2\n c")


@pytest.mark.parametrize(
    "text",
    [
        "a: !!python/object/apply:os.system [id]",
        "!!map\na: 1",
        "a: !custom x",
        "a: ! x",
        "%TAG ! tag:x,2000:\n---\na: !b c",
    ],
)
def test_tags_are_refused(text: str) -> None:
    assert "tags" in refused(text)


@pytest.mark.parametrize("opening", ["[", "{a: ", "- ", "? ", "a:\n"])
def test_deep_nesting_is_refused(opening: str) -> None:
    text = "".join(f"{' ' * level}a:\n" for level in range(200)) if opening == "a:\n" else opening * 100_000
    assert "nested more than 64 levels" in refused(text)


def test_an_alias_bomb_is_refused() -> None:
    names = "abcdefghij"
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    lines += [f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]" for old, new in itertools.pairwise(names)]
    assert "aliases expand to too much" in refused("\n".join(lines))


def test_an_alias_to_itself_is_refused() -> None:
    assert "aliases expand to too much" in refused("a: &a [*a]")
    assert "aliases expand to too much" in refused("a: &a {<<: *a}")


def test_many_values_many_aliases_and_many_bytes_are_refused() -> None:
    assert "more than 20000 values" in refused("a: [" + "1," * 30_000 + "]")
    assert "more than 200 aliases" in refused("a: &a 1\nb: [" + "*a, " * 300 + "]")
    assert f"larger than {MAX_BYTES} bytes" in refused(b"#" * (MAX_BYTES + 1))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("# only a comment", "empty"),
        ("- a", "not a mapping"),
        ("a", "not a mapping"),
        (b"\xff\xfe", "not UTF-8"),
        ("a: \x00", "special characters"),
        ("a: 1\n---\nb: 2", "another document"),
        ("a: .inf", "not a number"),
        ("a: .nan", "not a number"),
        ("a: " + "9" * 5000, "not a number"),
        ("? [a]\n: b", "a key is text"),
        ("<<: 1", "only mappings can be merged"),
        ("a: *nothing", "undefined alias"),
        ("a: [", "stream end"),
    ],
)
def test_what_is_no_configuration_is_refused_with_the_reason(text: str | bytes, reason: str) -> None:
    assert reason in refused(text)


def test_data_that_came_as_json_is_bounded_without_recursion() -> None:
    deep: object = 1
    for _ in range(100_000):
        deep = [deep]
    for value in ({"a": deep}, {"a": [0] * 30_000}, {"a": 2**70}):
        with pytest.raises(ValidationFailed):
            check_plain(value)
    check_plain({"a": [1, {"b": None}]})


def test_equality_is_that_of_json() -> None:
    assert same({"a": 1, "b": [True]}, {"b": [True], "a": 1})
    assert not same({"a": 1}, {"a": True})
    assert not same([1], [1.0])


@pytest.mark.parametrize(
    "text",
    [
        "yes",
        "1",
        "1.0",
        "null",
        "~",
        "2024-01-01",
        "<<",
        "a: b",
        "#x",
        "- a",
        " x ",
        "a\nb",
        "a\n\n b\n",
        "\tx",
        "é\x07",
        "*a",
    ],
)
def test_text_is_written_so_that_it_reads_back_as_the_same_text(text: str) -> None:
    value = {"key": text, text or "k": [text, {"x": text}]}
    assert same(parse(dump(value).encode()).raw, value)


def test_writing_keeps_the_order_of_keys_and_repeats_shared_values() -> None:
    shared = {"z": 1, "a": [1]}
    assert dump({"b": shared, "a": shared}) == "b:\n  z: 1\n  a:\n    - 1\na:\n  z: 1\n  a:\n    - 1\n"


def test_half_a_surrogate_pair_is_refused_from_both_sides() -> None:
    assert "a: a text holds half of a surrogate pair" in refused('a: "\\ud800"')
    with pytest.raises(ValidationFailed, match="surrogate"):
        check_plain({"a": ["\ud800"]})
