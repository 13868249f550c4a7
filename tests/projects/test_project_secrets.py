"""Secrets are hidden in what is shown, come back when sent back hidden, and never follow a changed address."""

from typing import Any

import pytest

from paddock.errors import ValidationFailed
from paddock.services.project_secrets import MASK, masked, outgoing_allow, resolve_env, restore
from paddock.settings import Outgoing, Section, Settings

STORED: dict[str, Any] = {
    "runtime": {
        "models": [
            {"name": "a", "provider": "openai", "model": "m", "base_url": "https://a.example/v1", "api_key": "sk-1"},
            {"name": "b", "provider": "openai", "model": "m", "api_key": "sk-2"},
        ]
    }
}


@pytest.mark.parametrize(
    "key",
    ["api_key", "API_KEY", "x-api-key", "hf_token", "token", "password", "client_secret", "Authorization", "index_key"],
)
def test_a_secret_is_masked_under_any_of_its_names(key: str) -> None:
    assert masked({"a": [{key: "hush"}]}) == {"a": [{key: MASK}]}


@pytest.mark.parametrize("key", ["max_tokens", "model", "keep_loaded", "collection_name", "token_model", "keywords"])
def test_other_keys_are_shown(key: str) -> None:
    assert masked({key: "seen"}) == {key: "seen"}


def test_headers_and_environments_of_tool_servers_are_masked_by_any_hint() -> None:
    server = {"headers": {"X-Auth": "a", "Accept": "b"}, "env": {"GITHUB_PAT_TOKEN": "c", "KEYFILE": "d", "LANG": "e"}}
    assert masked(server) == {
        "headers": {"X-Auth": MASK, "Accept": "b"},
        "env": {"GITHUB_PAT_TOKEN": MASK, "KEYFILE": MASK, "LANG": "e"},
    }


def test_a_reference_to_the_environment_is_no_secret() -> None:
    value = {"api_key": "${env:KEY}", "headers": {"Authorization": "Bearer ${env:KEY}"}}
    assert masked(value) == value
    assert masked({"api_key": "sk-${env:KEY}"}) == {"api_key": MASK}


def test_credentials_inside_an_address_are_masked() -> None:
    assert masked({"base_url": "https://me:pw@host/v1"}) == {"base_url": f"https://{MASK}@host/v1"}


def test_numbers_are_masked_and_empty_values_shown() -> None:
    assert masked({"password": 1234, "token": "", "api_key": None}) == {"password": MASK, "token": "", "api_key": None}


def test_what_is_shown_and_sent_back_is_what_was_stored() -> None:
    assert restore(masked(STORED), STORED) == STORED


def test_masking_changes_nothing_in_place() -> None:
    masked(STORED)["runtime"]["models"].clear()
    assert STORED["runtime"]["models"][0]["api_key"] == "sk-1"


def test_secrets_find_their_model_by_name_after_a_change_of_order() -> None:
    shown = masked(STORED)
    shown["runtime"]["models"].reverse()
    assert [model["api_key"] for model in restore(shown, STORED)["runtime"]["models"]] == ["sk-2", "sk-1"]


def test_a_new_secret_replaces_the_stored_one() -> None:
    shown = masked(STORED)
    shown["runtime"]["models"][0]["api_key"] = "sk-9"
    assert restore(shown, STORED)["runtime"]["models"][0]["api_key"] == "sk-9"


@pytest.mark.parametrize(
    "change", [{"base_url": "https://evil.example/v1"}, {"base_url": None}, {"provider": "lemonade"}]
)
def test_a_stored_secret_does_not_follow_a_changed_address(change: dict[str, Any]) -> None:
    shown = masked(STORED)
    shown["runtime"]["models"][0] |= change
    with pytest.raises(ValidationFailed) as caught:
        restore(shown, STORED)
    assert caught.value.errors[0].field == "runtime.models[0].api_key"
    assert "sk-1" not in caught.value.message


def test_a_header_does_not_follow_the_changed_address_of_its_server() -> None:
    stored = {"servers": [{"name": "s", "base_url": "https://a.example", "headers": {"Authorization": "Bearer x"}}]}
    shown = masked(stored)
    shown["servers"][0]["base_url"] = "https://evil.example"
    with pytest.raises(ValidationFailed, match="address it goes to was changed"):
        restore(shown, stored)


def test_a_mask_without_a_stored_secret_is_an_error() -> None:
    shown = masked(STORED)
    shown["runtime"]["models"][0]["name"] = "renamed"
    with pytest.raises(ValidationFailed, match="none is stored here"):
        restore(shown, STORED)


def test_stars_in_a_text_stay_stars() -> None:
    value = {"prompts": [{"content": f"{MASK}\nask me@example.org"}]}
    assert restore(value, {}) == value


def test_a_listed_variable_is_resolved_at_use() -> None:
    settings = Settings(outgoing=Outgoing(env=("KEY", "HOST")))
    value = {"api_key": "${env:KEY}", "urls": ["https://${env:HOST}/v1"], "n": 1}
    environ = {"KEY": "k", "HOST": "h"}
    assert resolve_env(value, settings, environ) == {"api_key": "k", "urls": ["https://h/v1"], "n": 1}
    assert value["api_key"] == "${env:KEY}"


def test_an_unlisted_or_unset_variable_is_refused_without_its_value() -> None:
    settings = Settings(outgoing=Outgoing(env=("KEY",)))
    with pytest.raises(ValidationFailed, match=r"outgoing\.env") as caught:
        resolve_env("${env:HOME}", settings, {"HOME": "/home/me"})
    assert "/home/me" not in caught.value.message
    with pytest.raises(ValidationFailed, match="not set"):
        resolve_env("${env:KEY}", settings, {})


def test_addresses_of_the_settings_are_allowed() -> None:
    class Mine(Section, frozen=True, kw_only=True):
        base_url: str = "http://10.0.0.5:9000/v1"

    settings = Settings(outgoing=Outgoing(allow=("127.0.0.1:1",)), sections={"mine": Mine()})
    assert outgoing_allow(settings) == ("127.0.0.1:1", "10.0.0.5:9000")
