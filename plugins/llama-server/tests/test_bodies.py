"""Bodies: three forms become one spec and come back; what is not honoured is refused by name; secrets stay inside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from paddock_llama_server.bodies import (
    RESERVED,
    check_name,
    model_of,
    nested_view,
    older_view,
    read_create,
    read_older_create,
    read_older_update,
    read_update,
)
from paddock_llama_server.guard import check_files, environment_problem, model_folders
from paddock_llama_server.masking import MASK
from paddock_llama_server.settings import LlamaServerSettings
from paddock_llama_server.spec import Spec

from paddock.contracts.instances_older import OlderCreate, OlderUpdate
from paddock.errors import BadName, BadRequest

SETTINGS = LlamaServerSettings()
MODEL = "/models/llama-2-7b.gguf"


def made(**given: Any) -> Spec:
    return read_create({"model": MODEL, **given}, SETTINGS)


def changed(spec: Spec, **given: Any) -> Spec:
    return read_update(given, spec, SETTINGS)


def test_the_flat_nested_and_older_forms_are_one_spec() -> None:
    flat = read_create({"model": MODEL, "ctx_size": 2048, "threads": 4, "gpu_layers": 0, "port": 9100}, SETTINGS)
    options = {"model": MODEL, "ctx_size": 2048, "threads": 4, "gpu_layers": 0}
    nested = read_create({"backend_type": "llama_cpp", "backend_options": options, "port": 9100}, SETTINGS)
    older_options = {"threads": 4, "context_size": 2048, "gpu_layers": 0}
    older = read_older_create(OlderCreate(name="x", model_path=MODEL, port=9100, options=older_options), SETTINGS)
    assert flat == nested == older
    assert (flat.port, flat.options) == (9100, options)


def test_fields_beside_the_options_may_stand_among_them() -> None:
    given = {"model": MODEL, "port": 0, "extra_args": {"new-flag": ""}, "environment": {"A": "1"}, "idle_timeout": 0}
    spec = read_create({"backend_options": given}, SETTINGS)
    assert (spec.port, spec.extra_args, spec.environment, spec.idle_timeout) == (None, ("--new-flag",), {"A": "1"}, 0)


def test_an_update_merges_and_null_removes() -> None:
    spec = made(
        ctx_size=10, temp=0, environment={"A": "1", "B": "2"}, idle_timeout=5, group="g", extra_args=["-x"], port=9100
    )
    new = changed(spec, ctx_size=None, jinja=False, environment={"A": None, "C": "3"}, idle_timeout=None, port=None)
    assert new.options == {"model": MODEL, "temp": 0, "jinja": False}
    assert new.environment == {"B": "2", "C": "3"}
    assert (new.idle_timeout, new.group, new.extra_args, new.port) == (None, "g", ("-x",), None)
    assert changed(new, extra_args=None, group=None, environment=None) == Spec(options=new.options)
    assert changed(new, backend_options={"ctx_size": 4}).options["ctx_size"] == 4


def test_an_update_of_nothing_changes_nothing() -> None:
    spec = made(temp=0.5, environment={"A_KEY": "x"}, api_key="k")
    assert changed(spec) == spec


def test_the_view_is_the_body_that_makes_the_same_instance() -> None:
    spec = made(
        ctx_size=0, jinja=False, lora=["/models/a"], extra_args=["--b", "1"], environment={"A": "1"}, auto_restart=False,
        max_restarts=0, restart_delay=0.5, on_demand_start=False, idle_timeout=0, pinned=True, group="g", max_memory_bytes=10**9,
        on_client_disconnect="drain", port=9100,
    )  # fmt: skip
    shown = msgspec.json.decode(msgspec.json.encode(nested_view(spec)))
    assert shown["backend_type"] == "llama_cpp"
    assert read_create(shown, SETTINGS) == msgspec.convert(msgspec.to_builtins(spec), Spec)
    assert nested_view(made()) == {"backend_type": "llama_cpp", "backend_options": {"model": MODEL}}


def test_the_older_view_has_the_documented_options_always() -> None:
    assert older_view(made()) == {"threads": None, "context_size": None, "gpu_layers": None}
    assert older_view(made(ctx_size=5, ngl="0", temp=1, api_key="k")) == {
        "threads": None, "context_size": 5, "gpu_layers": 0, "temp": 1, "api_key": MASK,
    }  # fmt: skip
    assert model_of(made()) == MODEL
    assert model_of(read_create({"hf_repo": "a/b:Q4"}, SETTINGS)) == "a/b:Q4"


def test_an_older_update_merges() -> None:
    spec = made(threads=4)
    new = read_older_update(OlderUpdate(options={"threads": None, "context_size": 4096}, port=9100), spec, SETTINGS)
    assert (new.options, new.port) == ({"model": MODEL, "ctx_size": 4096}, 9100)
    assert read_older_update(OlderUpdate(model_path="/m2"), new, SETTINGS).options["model"] == "/m2"
    with pytest.raises(BadRequest, match="ctx_size is given twice"):
        read_older_update(OlderUpdate(options={"context_size": 1, "ctx_size": 2}), spec, SETTINGS)


@pytest.mark.parametrize("given", [{"model": None}, {"model": ""}, {"backend_options": None}])
def test_an_update_may_name_another_model_but_take_none_away(given: dict[str, Any]) -> None:
    with pytest.raises(BadRequest, match="model can't be removed"):
        read_update(given, made(), SETTINGS)
    with pytest.raises(BadRequest, match="model can't be removed"):
        read_older_update(OlderUpdate(model_path=""), made(), SETTINGS)
    other = read_update({"model": None, "hf_repo": "org/name"}, made(), SETTINGS)
    assert other.options == {"hf_repo": "org/name"}


def test_secrets_are_hidden_and_a_mask_keeps_them() -> None:
    spec = made(
        api_key="top",
        hf_token="hf",
        environment={"HF_TOKEN": "env", "A": "1"},
        extra_args=["--api-key", "arg", "--hf-token=t", "-x"],
    )
    shown = nested_view(spec)
    text = msgspec.json.encode([shown, older_view(spec)]).decode()
    assert all(secret not in text for secret in ('"top"', '"hf"', '"env"', '"arg"', "=t"))
    assert shown["environment"] == {"HF_TOKEN": MASK, "A": "1"}
    assert changed(spec, **shown) == spec
    assert changed(spec, api_key="new", environment={"HF_TOKEN": "other"}).options["api_key"] == "new"


@pytest.mark.parametrize(
    "given",
    [{"api_key": MASK}, {"environment": {"A_TOKEN": MASK}}, {"extra_args": ["--api-key", MASK]}],
)
def test_a_mask_where_nothing_is_stored_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(BadRequest, match="stands for a stored secret"):
        made(**given)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"backend_type": "vllm"}, "backend_type"), ({"docker_enabled": True}, "docker_enabled"),
        ({"nodes": ["a"]}, "nodes"), ({"preset_ini": "[x]"}, "preset_ini"), ({"backend_options": []}, "backend_options"),
        ({"command_override": "/bin/sh"}, "allow_command_override"), ({"port": 70000}, "port"), ({"port": "x"}, "port"),
        ({"idle_timeout": -1}, "idle_timeout"), ({"max_restarts": 1.5}, "max_restarts"), ({"group": "a b"}, "group"),
        ({"auto_restart": 1}, "auto_restart"), ({"environment": {"A": 1}}, "environment"), ({"environment": []}, "environment"),
        ({"max_memory_bytes": 0}, "max_memory_bytes"), ({"on_client_disconnect": "x"}, "on_client_disconnect"),
        ({"host": "0.0.0.0"}, "llama_server.host"), ({"log_file": "/x"}, "log_file"), ({"unknown": 1}, "unknown"),
        ({"backend_options": {"ctx_size": "1"}}, "backend_options.ctx_size"), ({"extra_args": ["--host", "x"]}, "--host"),
    ],
)  # fmt: skip
def test_what_is_not_honoured_is_refused_by_name(given: dict[str, Any], words: str) -> None:
    with pytest.raises(BadRequest, match=words):
        made(**given)


def test_what_asks_for_nothing_is_taken() -> None:
    given = {
        "docker_enabled": False,
        "nodes": [],
        "preset_ini": "",
        "backend_type": None,
        "host": "127.0.0.1",
        "group": None,
    }
    assert made(**given) == made()


def test_a_command_may_be_named_where_the_setting_permits_it() -> None:
    settings = LlamaServerSettings(allow_command_override=True)
    assert read_create({"model": MODEL, "command_override": "/opt/x"}, settings).command_override == "/opt/x"


def test_an_instance_needs_a_model() -> None:
    with pytest.raises(BadRequest, match="names no model"):
        read_create({"ctx_size": 5}, SETTINGS)
    with pytest.raises(BadRequest, match="names no model"):
        read_create({"model": None}, SETTINGS)
    assert read_create({"embd_gemma_default": True}, SETTINGS).options == {"embd_gemma_default": True}


@pytest.mark.parametrize("name", [*sorted(RESERVED), "", ".", "..", "a/b", "a" * 65, "a b", "ä", "a\0", "a\n"])
def test_reserved_and_other_names_are_refused(name: str) -> None:
    with pytest.raises(BadName):
        check_name(name)


def test_dots_are_fine_in_names() -> None:
    assert check_name("llama-3.1_8b") == "llama-3.1_8b"


@pytest.mark.parametrize(
    "name",
    [
        "LD_PRELOAD", "LD_LIBRARY_PATH", "LD_AUDIT", "ld_preload", "PYTHONPATH", "PYTHONSTARTUP", "DYLD_INSERT_LIBRARIES", "PATH",
        "GGML_BACKEND_PATH", "CUDA_INJECTION64_PATH", "VK_ICD_FILENAMES", "VK_LAYER_PATH", "VK_INSTANCE_LAYERS", "GCONV_PATH",
        "OPENSSL_CONF", "LLAMA_ARG_LOG_FILE", "LLAMA_API_KEY", "PADDOCK_INSTANCE", "BASH_ENV", "ENV", "NODE_OPTIONS", "A B", "",
        "1A",
        "A=B", "A\0",
    ],
)  # fmt: skip
def test_variables_that_load_code_or_set_options_are_refused(name: str) -> None:
    assert environment_problem(name) is not None
    with pytest.raises(BadRequest, match=r"environment\."):
        made(environment={name: "x"})


@pytest.mark.parametrize(
    "name", ["CUDA_VISIBLE_DEVICES", "HF_TOKEN", "GGML_CUDA_ENABLE_UNIFIED_MEMORY", "OMP_NUM_THREADS", "TZ"]
)
def test_other_variables_pass(name: str) -> None:
    assert made(environment={name: "x"}).environment == {name: "x"}


class TestFiles:
    def test_only_files_in_the_model_folders_may_be_named_once_there_are_keys(self, tmp_path: Path) -> None:
        folder, other = tmp_path / "models", tmp_path / "other"
        folder.mkdir()
        other.mkdir()
        (folder / "link.gguf").symlink_to(other / "x.gguf")
        check_files(Spec(options={"model": str(folder / "x.gguf"), "lora": [str(folder / "l")]}), [folder])
        outside: list[dict[str, Any]] = [
            {"model": str(other / "x")}, {"model": str(folder / "../other/x")}, {"model": str(folder / "link.gguf")},
            {"slot_save_path": str(other)}, {"lora_scaled": [f"{folder}/a:1,{other}/b:2"]}, {"media_path": "/"},
        ]  # fmt: skip
        for options in outside:
            with pytest.raises(BadRequest, match=r"llama_server\.model_dirs"):
                check_files(Spec(options=options), [folder])
            check_files(Spec(options=options), None)
        with pytest.raises(BadRequest, match=r"model_draft.*model_dirs"):
            check_files(Spec(extra_args=("-md", str(other / "x"))), [folder])

    def test_a_relative_path_is_refused_always(self) -> None:
        with pytest.raises(BadRequest, match="model: write the whole path"):
            check_files(Spec(options={"model": "x.gguf"}), None)

    def test_the_folders_are_the_settings_or_the_usual_ones(self, tmp_path: Path) -> None:
        assert model_folders(LlamaServerSettings(model_dirs=("/a",)), tmp_path, {}) == (Path("/a"),)
        usual = (tmp_path / "models", Path("/hf/hub"), Path("/models"))
        assert model_folders(SETTINGS, tmp_path, {"HF_HOME": "/hf"}) == usual
        assert model_folders(SETTINGS, tmp_path, {"HF_HUB_CACHE": "/hf/hub", "HF_HOME": "/x"}) == usual
