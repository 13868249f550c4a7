"""Plugins that misbehave: each is named with what it did, and none takes the others or the server down."""

# mypy: disable-error-code="empty-body"

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from paddock.app import create_app
from paddock.contracts.base import Context, endpoint, hookimpl
from paddock.contracts.providers import Embedder, Health, TextKind, TypeName, Vectors
from paddock.errors import ValidationFailed
from paddock.plugins import Loaded, settings_sections
from paddock.settings import Section, Settings, load_settings
from paddock.testing.server import running_server


class NoEmbedder(Embedder):
    """Provides a type name and nothing else."""

    types = (TypeName("NoEmbedder"),)

    async def embed_batch(self, texts: object, config: object, kind: TextKind) -> Vectors:
        raise AssertionError("not called")


class Mine(Section, frozen=True, kw_only=True):
    """A plugin's section."""

    depth: int = 1


class Good:
    """A plugin with one embedder."""

    @hookimpl
    def paddock_embedders(self) -> list[Embedder]:
        return [NoEmbedder()]


class RaisingHook:
    """Fails when it is asked for its providers."""

    @hookimpl
    def paddock_chat_models(self) -> list[Any]:
        raise KeyError("no configuration here")


class NoList:
    """Hands over one provider instead of a list."""

    @hookimpl
    def paddock_embedders(self) -> Any:
        return NoEmbedder()


class WrongKind:
    """Hands an embedder over as a chat model."""

    @hookimpl
    def paddock_chat_models(self) -> Any:
        return [NoEmbedder()]


class RaisingSettings:
    """Fails when it is asked for its settings."""

    @hookimpl
    def paddock_settings(self) -> Any:
        raise KeyError("no settings here")


class OddSettings:
    """Declares settings in a wrong form."""

    @hookimpl
    def paddock_settings(self) -> Any:
        return Mine


class CoreSettings:
    """Declares a section that the core has."""

    @hookimpl
    def paddock_settings(self) -> Any:
        return "server", Mine


class RaisingContracts:
    """Fails when it is asked for its contracts."""

    @property
    def paddock_contracts(self) -> Any:
        raise KeyError("no contracts here")


@endpoint("GET", "/somewhere/else", access="read")
def info_get(ctx: Context) -> Awaitable[None]:
    """Have the name of one of the core's contracts."""


class TakenName:
    """Declares a contract whose name is taken."""

    paddock_contracts = (SimpleNamespace(info_get=info_get),)


@endpoint("GET", "/info", access="read")
def other_info_get(ctx: Context) -> Awaitable[None]:
    """Have the path of one of the core's contracts."""


class TakenPath:
    """Declares a contract whose path is taken."""

    paddock_contracts = (SimpleNamespace(other_info_get=other_info_get),)


FAULTS: list[tuple[Callable[[], object], str]] = [
    (RaisingHook, "no configuration here"),
    (NoList, "paddock_embedders"),
    (WrongKind, "ChatModel"),
    (RaisingSettings, "no settings here"),
    (OddSettings, "paddock_settings"),
    (CoreSettings, "server"),
    (RaisingContracts, "no contracts here"),
    (TakenName, "info_get"),
    (TakenPath, "/info"),
]


def settings_for(folder: Path, loaded: list[Loaded], **sections: dict[str, object]) -> Settings:
    known = settings_sections(loaded)
    return load_settings(known, environ={}, overrides={"server": {"data_dir": str(folder)}, **sections})


@pytest.mark.parametrize(("make", "text"), FAULTS, ids=lambda value: getattr(value, "__name__", None))
def test_a_plugin_that_fails_is_named_and_left_out(tmp_path: Path, make: Callable[[], object], text: str) -> None:
    loaded = [Loaded("bad", "1", make()), Loaded("good", "1", Good())]
    app = create_app(settings_for(tmp_path, loaded), loaded)
    bad, good = app.plugins.loaded
    assert (bad.name, good.error) == ("bad", None)
    assert text in (bad.error or "")
    assert app.plugins.embedders.get("NoEmbedder") is not None


@pytest.mark.parametrize(("make", "text"), FAULTS, ids=lambda value: getattr(value, "__name__", None))
def test_a_required_plugin_that_fails_stops_the_start(tmp_path: Path, make: Callable[[], object], text: str) -> None:
    loaded = [Loaded("bad", "1", make())]
    with pytest.raises(ValidationFailed, match="the required plugin bad"):
        create_app(settings_for(tmp_path, loaded, plugins={"required": ["bad"]}), loaded)


def test_two_plugins_of_one_name_are_told_apart(tmp_path: Path) -> None:
    loaded = [Loaded("same", "1", Good()), Loaded("same", "2", Good())]
    app = create_app(settings_for(tmp_path, loaded), loaded)
    assert [bool(item.error) for item in app.plugins.loaded] == [False, True]
    assert app.plugins.embedders.get("NoEmbedder") is not None


def test_two_plugins_with_one_section_are_refused_by_name() -> None:
    class Other(Section, frozen=True, kw_only=True):
        """Another section."""

    def declaring(kind: type[msgspec.Struct]) -> object:
        return SimpleNamespace(paddock_settings=lambda: ("mine", kind))

    loaded = [Loaded("one", "1", declaring(Mine)), Loaded("two", "1", declaring(Other))]
    assert settings_sections(loaded) == {"mine": Mine}
    assert "one" in (loaded[1].error or "")


def test_the_section_of_a_plugin_that_did_not_load_or_is_disabled_is_no_error(tmp_path: Path) -> None:
    sections: dict[str, dict[str, object]] = {"sqlite_vec": {"fast": False}}
    loaded = [Loaded("sqlite-vec", "1", error="ImportError: no")]
    settings = load_settings({}, environ={}, overrides=sections, absent=["sqlite-vec"])
    assert settings.sections == {}
    create_app(settings, loaded)
    with pytest.raises(ValidationFailed, match="sqlite_vec"):
        load_settings({}, environ={}, overrides=sections)


class Ill(NoEmbedder):
    """Its health can't be told."""

    types = (TypeName("Ill"),)

    async def health(self) -> Health:
        raise KeyError("no pulse")

    async def close(self) -> None:
        raise KeyError("can't close")


class Dreaming(NoEmbedder):
    """Its health never comes."""

    types = (TypeName("Dreaming"),)

    async def health(self) -> Health:
        await asyncio.Event().wait()
        raise AssertionError

    closed = False

    async def close(self) -> None:
        await asyncio.sleep(0)
        self.closed = True


async def test_a_provider_whose_health_or_end_fails_harms_only_itself(tmp_path: Path) -> None:
    dreaming = Dreaming()

    class Odd:
        @hookimpl
        def paddock_embedders(self) -> list[Embedder]:
            return [Ill(), dreaming]

    async with running_server(tmp_path, plugins={"odd": Odd()}, installed=False) as server:
        reply = await server.ask("GET", "/v1/system/plugins")
        shown = {item["name"]: item["health"] for item in reply.json()["plugins"]}
    assert shown["odd"]["Ill"]["status"] == "unhealthy"
    assert "no pulse" in shown["odd"]["Ill"]["message"]
    assert "no answer" in shown["odd"]["Dreaming"]["message"]
    assert dreaming.closed


def test_a_module_can_be_a_plugin(tmp_path: Path) -> None:
    module = sys.modules[__name__]
    loaded = [Loaded("module", "1", module)]
    assert create_app(settings_for(tmp_path, loaded), loaded).plugins.loaded[0].error is None
