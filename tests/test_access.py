"""Keys: where they are read from, and what they admit."""

import pytest

from paddock.access import Gatekeeper, credential
from paddock.errors import Forbidden, Unauthenticated, ValidationFailed
from paddock.settings import Auth

KEEPER = Gatekeeper(Auth(management_keys=("manage-me",), inference_keys=("ask-me",)))


@pytest.mark.parametrize(
    ("headers", "query", "found"),
    [
        ({"authorization": "Bearer k"}, b"", "k"),
        ({"authorization": "bearer  k "}, b"", "k"),
        ({"authorization": "Basic k"}, b"", None),
        ({"x-api-key": "k"}, b"", "k"),
        ({}, b"a=1&api_key=k%2B", "k+"),
        ({"authorization": "Bearer first", "x-api-key": "second"}, b"api_key=third", "first"),
        ({"x-api-key": ""}, b"", None),
    ],
)
def test_a_key_is_read_from_one_place_in_a_fixed_order(
    headers: dict[str, str], query: bytes, found: str | None
) -> None:
    assert credential(headers, query) == found


def test_without_keys_everybody_is_admitted() -> None:
    assert Gatekeeper(Auth()).admit("manage", {}, b"").kind == "anonymous"


def test_a_management_key_admits_to_everything() -> None:
    for access in ("open", "read", "write", "infer", "manage"):
        KEEPER.admit(access, {"x-api-key": "manage-me"}, b"")


def test_an_inference_key_admits_to_inference_only() -> None:
    assert KEEPER.admit("infer", {"x-api-key": "ask-me"}, b"").kind == "inference"
    with pytest.raises(Forbidden):
        KEEPER.admit("read", {"x-api-key": "ask-me"}, b"")


@pytest.mark.parametrize("key", ["", "manage-m", "manage-mee", "MANAGE-ME", "\x00", "ключ"])
def test_any_other_key_is_refused_without_repeating_it(key: str) -> None:
    with pytest.raises(Unauthenticated) as caught:
        KEEPER.admit("read", {"x-api-key": key}, b"")
    assert not key or key not in caught.value.message


def test_the_keeper_holds_no_key_in_clear() -> None:
    assert "manage-me" not in repr(vars(KEEPER))


@pytest.mark.parametrize("key", ["", " ", "a b", "schlüssel", "a\n"])
def test_a_key_that_no_client_can_send_stops_the_start_without_being_shown(key: str) -> None:
    with pytest.raises(ValidationFailed, match=r"auth\.inference_keys") as caught:
        Gatekeeper(Auth(inference_keys=("good", key)))
    assert not key.strip() or key not in caught.value.message
