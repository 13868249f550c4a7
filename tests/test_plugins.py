"""Loading plugins: failures are named, nobody takes the others down, duplicates are refused."""

import re
from importlib import metadata
from pathlib import Path
from types import ModuleType

import msgspec
import pytest

from paddock.app import create_app
from paddock.contracts.base import Context, hookimpl
from paddock.contracts.providers import Embedder, TextKind, TypeName, Vectors
from paddock.contracts.system import Alive, Info
from paddock.errors import ValidationFailed
from paddock.plugins import Loaded, discover
from paddock.settings import Settings, load_settings
from paddock.testing.server import running_server


class NoEmbedder(Embedder):
    """Provides a type name and nothing else."""

    types = (TypeName("NoEmbedder"),)

    async def embed_batch(self, texts: object, config: object, kind: TextKind) -> Vectors:
        raise AssertionError("not called")


class Good:
    """A plugin with one embedder."""

    @hookimpl
    def paddock_embedders(self) -> list[Embedder]:
        return [NoEmbedder()]


class Misspelt:
    """A plugin with a hook that does not exist."""

    @hookimpl
    def paddock_embeders(self) -> list[Embedder]:
        return []


class Replacing:
    """A plugin that answers an endpoint of the core."""

    @hookimpl
    async def info_get(self) -> Info:
        return Info(version="mine", data_directory="elsewhere")

    @hookimpl
    def liveness_get(self, ctx: Context) -> None:
        return None


def settings_in(folder: Path, **sections: dict[str, object]) -> Settings:
    return load_settings({}, environ={}, overrides={"server": {"data_dir": str(folder)}, **sections})


def test_a_plugin_with_an_unknown_hook_is_named_and_left_out(tmp_path: Path) -> None:
    app = create_app(settings_in(tmp_path), [Loaded("bad", "1", Misspelt()), Loaded("good", "1", Good())])
    assert {item.name: bool(item.error) for item in app.plugins.loaded} == {"bad": True, "good": False}
    assert "paddock_embeders" in str(app.plugins.loaded[0].error)
    assert app.plugins.embedders.get("NoEmbedder") is not None


def test_a_type_that_is_provided_twice_is_refused_with_both_names(tmp_path: Path) -> None:
    with pytest.raises(ValidationFailed, match=r"NoEmbedder.*(one|two).*and (one|two)"):
        create_app(settings_in(tmp_path), [Loaded("one", "1", Good()), Loaded("two", "1", Good())])


@pytest.mark.parametrize(
    "loaded", [[], [Loaded("wanted", "1", error="ImportError: no")], [Loaded("wanted", "1", Misspelt())]]
)
def test_a_required_plugin_that_is_missing_or_broken_stops_the_start(tmp_path: Path, loaded: list[Loaded]) -> None:
    with pytest.raises(ValidationFailed, match="wanted"):
        create_app(settings_in(tmp_path, plugins={"required": ["wanted"]}), loaded)


async def test_a_plugin_is_asked_before_the_core_and_may_leave_a_call_to_it(tmp_path: Path) -> None:
    async with running_server(tmp_path, plugins={"mine": Replacing()}, installed=False) as server:
        assert (await server.ask("GET", "/info")).json() == {"version": "mine", "data_directory": "elsewhere"}
        assert (await server.ask("GET", "/health/liveness")).json() == msgspec.to_builtins(Alive(status="alive"))


async def test_the_list_shows_what_each_plugin_provides_and_what_failed(tmp_path: Path) -> None:
    class Broken(ModuleType):
        """Not a plugin at all."""

    plugins = {"good": Good(), "bad": Misspelt()}
    async with running_server(tmp_path, plugins=plugins, installed=False) as server:
        shown = {item["name"]: item for item in (await server.ask("GET", "/v1/system/plugins")).json()["plugins"]}
    assert shown["good"]["provides"] == {"embedder": ["NoEmbedder"]}
    assert shown["good"]["health"]["NoEmbedder"]["status"] == "healthy"
    assert "paddock_embeders" in shown["bad"]["error"]
    assert "extractive" in shown["core"]["provides"]["chat model provider"]


def test_an_unknown_type_names_the_plugin_to_install(tmp_path: Path) -> None:
    app = create_app(settings_in(tmp_path))
    with pytest.raises(ValidationFailed, match="paddock-onnx"):
        app.plugins.embedders.find("HuggingFaceEmbedder")
    with pytest.raises(ValidationFailed, match="did you mean 'HashingEmbedder'"):
        app.plugins.embedders.find("HashingEmbeder")


def test_the_default_plugins_load() -> None:
    named = [one for one in metadata.requires("paddock") or () if "extra == 'default'" in one.replace('"', "'")]
    expected = {re.split(r"[^a-z-]", one)[0].removeprefix("paddock-") for one in named}
    assert {item.name: item.error for item in discover()} == dict.fromkeys(expected)


def test_a_disabled_plugin_is_not_imported() -> None:
    assert "ollama" not in {item.name for item in discover(["ollama"])}
