"""Settings: layers, names, types."""

from pathlib import Path

import msgspec
import pytest

from paddock.app import create_app
from paddock.errors import ValidationFailed
from paddock.plugins import discover, settings_sections
from paddock.resources import conf_folder
from paddock.settings import CORE, SHIPPED, Settings, load_settings


def test_the_shipped_file_states_every_key_with_its_default() -> None:
    import tomllib

    shown = tomllib.loads((conf_folder() / SHIPPED).read_text(encoding="utf-8"))
    known = {**CORE, **settings_sections(discover())}
    assert {name: set(keys) for name, keys in shown.items()} == {
        name: {field.name for field in msgspec.structs.fields(kind)} for name, kind in known.items()
    }
    for name, keys in shown.items():
        assert msgspec.convert(keys, known[name], strict=False) == known[name](), name


def test_defaults_need_no_file_and_no_environment() -> None:
    assert load_settings({}, environ={}) == Settings()


def test_each_layer_overrides_the_one_below(tmp_path: Path) -> None:
    config = tmp_path / "my.toml"
    config.write_text("[server]\nport = 1\nhost = '127.0.0.2'\n[tasks]\nworkers = 7\n")
    environ = {"PADDOCK_SERVER__PORT": "2", "PADDOCK_AUTH__MANAGEMENT_KEYS": "a, b", "LF_DATA_DIR": "/x"}
    settings = load_settings({}, config=config, environ=environ, overrides={"server": {"port": 3}})
    assert (settings.server.port, settings.server.host, settings.tasks.workers) == (3, "127.0.0.2", 7)
    assert settings.auth.management_keys == ("a", "b")
    assert settings.data_dir == Path("/x")


@pytest.mark.parametrize(
    ("environ", "text"),
    [
        ({"PADDOCK_SERVER__PROT": "1"}, "did you mean 'port'"),
        ({"PADDOCK_SEVER__PORT": "1"}, "did you mean 'server'"),
        ({"PADDOCK_SERVER__PORT": "x"}, "server.port"),
        ({"PADDOCK_SERVER__PORT": "70000"}, "server.port"),
        ({"PADDOCK_TASKS__WORKERS": "0"}, "tasks.workers"),
        ({"PADDOCK_GATEWAY__ALIASES": "fast=x"}, "gateway.aliases.*JSON"),
        ({"PADDOCK_GATEWAY__ALIASES": "[" * 100_000}, "gateway.aliases.*JSON"),
        ({"PADDOCK_GATEWAY__MODEL_CONCURRENCY": '{"m": -1}'}, "gateway.model_concurrency"),
        ({"PADDOCK_GATEWAY__UPSTREAMS": '{"x": {"base_url": "http://x", "kye": ""}}'}, "kye"),
        ({"PADDOCK_GATEWAY__UPSTREAMS": '{"x": {}}'}, "base_url"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(environ: dict[str, str], text: str) -> None:
    with pytest.raises(ValidationFailed, match=text):
        load_settings({}, environ=environ)


def test_tables_come_from_the_file_or_as_json_from_the_environment(tmp_path: Path) -> None:
    config = tmp_path / "my.toml"
    config.write_text("[gateway.upstreams.vllm]\nbase_url = 'http://192.0.2.1:8000/v1'\nmodels = ['a', 'b']\n")
    environ = {"PADDOCK_GATEWAY__FALLBACKS": '{"a": ["b", "c"]}'}
    gateway = load_settings({}, config=config, environ=environ).gateway
    assert gateway.upstreams["vllm"].models == ("a", "b")
    assert gateway.fallbacks == {"a": ("b", "c")}


@pytest.mark.parametrize(
    ("name", "upstream", "text"),
    [
        ("a/b", {}, "stands before the slash"),
        ("x", {"base_url": "ftp://x"}, r"gateway\.upstreams\.x\.base_url"),
        ("x", {"headers": {"X": "a\r\nb"}}, "can't stand in a header"),
        ("x", {"headers": {"Host": "b"}}, "written by paddock itself"),
        ("core", {}, "provided twice"),
    ],
)
def test_an_upstream_that_can_not_be_is_refused_at_start(
    tmp_path: Path, name: str, upstream: dict[str, object], text: str
) -> None:
    sections: dict[str, dict[str, object]] = {
        "server": {"data_dir": str(tmp_path)},
        "gateway": {"upstreams": {name: {"base_url": "http://192.0.2.1/v1", **upstream}}},
    }
    with pytest.raises(ValidationFailed, match=text):
        create_app(load_settings({}, environ={}, overrides=sections))


def test_a_broken_or_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    broken = tmp_path / "broken.toml"
    broken.write_text("[server\n")
    with pytest.raises(ValidationFailed, match=r"broken\.toml"):
        load_settings({}, config=broken, environ={})
    with pytest.raises(ValidationFailed, match="does not exist"):
        load_settings({}, config=tmp_path / "none.toml", environ={})


def test_a_plugins_section_is_known_only_with_the_plugin(tmp_path: Path) -> None:
    class Mine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
        """A plugin's section."""

        depth: int = 1

    assert load_settings({"mine": Mine}, environ={"PADDOCK_MINE__DEPTH": "4"}).sections["mine"] == Mine(4)
    with pytest.raises(ValidationFailed, match="mine"):
        load_settings({}, environ={"PADDOCK_MINE__DEPTH": "4"})
