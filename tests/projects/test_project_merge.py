"""New values go into an old file without disturbing what stays."""

import copy
import random
from typing import Any

import pytest

from paddock.contracts.base import Json
from paddock.services.project_merge import merge
from paddock.services.project_yaml import parse, same

FILE = """\
# My farm
version: v1   # keep
name: chat

# ---- models
runtime:      # the models
  default_model: fast   # quick one
  models:
    # the fast one
    - name: fast   # first
      provider: ollama
      model: "llama3.2:3b"   # quoted

    # the slow one
    - name: slow
      provider: ollama
      model: llama3.2:70b
      # tuned by hand
      model_api_parameters: {temperature: 0.2}  # cold
prompts:
- name: a
  messages:
  - role: system
    content: |
      # Title

      Be good.

  # for users
  - {role: user, content: hi}
# ---- data
datasets: []   # none yet
rag:
  databases:
    - name: main
      type: ChromaStore
# the end
"""


def changed(text: str, change: Any) -> str:
    """`text` after `change` altered its values."""
    old = parse(text.encode())
    new = copy.deepcopy(old.raw)
    change(new)
    result = merge(old, new)
    assert same(parse(result.encode()).raw, new)
    return result


def line_changes(before: str, after: str) -> tuple[list[str], list[str]]:
    """Lines that went and lines that came."""
    old, new = before.splitlines(), after.splitlines()
    return [line for line in old if line not in new], [line for line in new if line not in old]


def test_nothing_changed_leaves_every_byte() -> None:
    assert changed(FILE, lambda raw: None) == FILE


def test_a_changed_value_keeps_the_comment_behind_it_and_every_other_line() -> None:
    after = changed(FILE, lambda raw: raw["runtime"].update(default_model="slow"))
    assert line_changes(FILE, after) == (
        ["  default_model: fast   # quick one"],
        ["  default_model: slow   # quick one"],
    )


def test_a_value_deep_in_lists_is_changed_in_place() -> None:
    after = changed(FILE, lambda raw: raw["runtime"]["models"][1].update(model="x: y"))
    assert line_changes(FILE, after) == (["      model: llama3.2:70b"], ["      model: 'x: y'"])


def test_an_appended_dataset_stays_above_the_comment_of_the_next_section() -> None:
    text = "datasets:\n  - name: a   # first\n    database: main\n    # about a\n\n# The models\nruntime: {}\n"
    after = changed(text, lambda raw: raw["datasets"].append({"name": "b", "database": "main"}))
    assert after == (
        "datasets:\n  - name: a   # first\n    database: main\n    # about a\n  - name: b\n    database: main\n"
        "\n# The models\nruntime: {}\n"
    )


def test_a_removed_dataset_takes_its_own_comments_and_no_others() -> None:
    text = "datasets:\n  # about a\n  - name: a\n    database: main   # a's\n  # about b\n  - name: b\n"
    text += "# The models\nruntime: {}\n"
    assert (
        changed(text, lambda raw: raw["datasets"].pop(0))
        == "datasets:\n  # about b\n  - name: b\n# The models\nruntime: {}\n"
    )
    assert changed(text, lambda raw: raw["datasets"].pop(1)) == (
        "datasets:\n  # about a\n  - name: a\n    database: main   # a's\n# The models\nruntime: {}\n"
    )


def test_the_first_entry_of_an_empty_list_is_added() -> None:
    after = changed(FILE, lambda raw: raw["datasets"].append({"name": "d", "database": "main"}))
    assert line_changes(FILE, after)[0] == ["datasets: []   # none yet"]
    assert "datasets:   # none yet\n  - name: d\n    database: main\nrag:" in after


def test_entries_that_change_places_take_their_comments_along() -> None:
    after = changed(FILE, lambda raw: raw["runtime"]["models"].reverse())
    assert (
        after.index("# the slow one")
        < after.index("- name: slow")
        < after.index("# the fast one")
        < after.index("- name: fast")
    )
    assert '"llama3.2:3b"   # quoted' in after


def test_a_new_key_at_the_end_stays_above_the_closing_comment() -> None:
    after = changed(FILE, lambda raw: raw.update(extra=[1]))
    assert after.endswith("      type: ChromaStore\nextra:\n  - 1\n# the end\n")


def test_a_block_of_text_is_replaced_whole() -> None:
    after = changed(FILE, lambda raw: raw["prompts"][0]["messages"][0].update(content="Short."))
    assert "    content: Short.\n" in after
    assert "# Title" not in after
    assert "  # for users\n" in after


def test_aliases_and_merge_keys_are_written_out_where_they_change() -> None:
    text = "# top\nbase: &base {a: 1}\none:   # uses base\n  <<: *base\n  b: 2\ntwo: *base\n# end\n"
    after = changed(text, lambda raw: raw["one"].update(b=3))
    assert "# top\nbase: &base {a: 1}\n" in after
    assert after.endswith("two: *base\n# end\n")


def test_removing_an_anchor_that_is_still_used_writes_the_file_anew() -> None:
    after = changed("# top\nbase: &base {a: 1}\none: *base\n", lambda raw: raw.pop("base"))
    assert after == "# top\none:\n  a: 1\n"


@pytest.mark.parametrize(
    "text",
    [
        "{a: 1, b: [1, 2]}\n",
        "a: 1\r\nb: 2\r\n",
        "---\na: 1\n...\n",
        "a: 1",
        "? a\n: 1\n",
        "a:\n- - 1\n  - 2\n- 3\n",
        "a: 'x\u2028y'\n",
    ],
)
def test_unusual_files_survive_a_change(text: str) -> None:
    changed(text, lambda raw: raw.update(a="new"))
    changed(text, lambda raw: raw.update(z={"k": [1, {"m": None}]}))


def mutated(value: Json, chance: random.Random) -> Json:
    """A value with random changes, additions and removals."""
    if isinstance(value, dict):
        kept = {
            key: mutated(one, chance) if chance.random() < 0.35 else one
            for key, one in value.items()
            if chance.random() > 0.07
        }
        if chance.random() < 0.2:
            odd = [
                1,
                "a: b",
                [1],
                {"q": "z\n# hash\n"},
                None,
                True,
                "",
                {},
                [],
                "- a",
                "#c",
                " lead\nb",
                "\ta",
                "1e3",
                "\u2028x",
            ]
            kept[f"k{chance.randrange(5)}"] = chance.choice(odd)
        return kept
    if isinstance(value, list):
        items = [mutated(one, chance) if chance.random() < 0.35 else one for one in value if chance.random() > 0.15]
        if chance.random() < 0.3:
            items.insert(
                chance.randrange(len(items) + 1),
                chance.choice([1, "s", {"name": "new", "role": "x"}, ["a", ["b"]], []]),
            )
        if chance.random() < 0.1:
            chance.shuffle(items)
        return items
    return chance.choice([value, 1, "s", "a\nb\n", None, [1, {"a": 2}], {"m": {"n": 1}}, 1.5, False])


@pytest.mark.parametrize("seed", range(40))
def test_any_series_of_changes_reads_back_as_it_was_meant(seed: int) -> None:
    chance = random.Random(seed)
    current = parse(FILE.encode())
    for _ in range(6):
        new = mutated(copy.deepcopy(current.raw), chance)
        if isinstance(new, dict) and new:
            current = parse(merge(current, new).encode())
            assert same(current.raw, new)
