"""The projects endpoints, called as the routes call them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from paddock.contracts import projects as contracts
from paddock.contracts.base import Context, endpoints_of
from paddock.contracts.projects import NamespacePath, Project, ProjectCreate, ProjectPath, ProjectUpdate
from paddock.errors import BadName, BadRequest, Conflict, ProjectNotFound, TemplateNotFound, ValidationFailed
from paddock.resources import conf_folder
from paddock.services.core import Core
from paddock.services.project_files import ProjectFiles
from paddock.services.projects import Projects

ENDPOINTS = {item.name: item for item in endpoints_of(contracts)}
NS = NamespacePath(namespace="ns")
PATH = ProjectPath(namespace="ns", project="p")
CONFIG: dict[str, Any] = {
    "version": "v1",
    "name": "p",
    "namespace": "ns",
    "runtime": {
        "models": [
            {"name": "fast", "provider": "ollama", "model": "x", "description": "Quick", "extra_option": 1},
            {
                "name": "own",
                "provider": "openai",
                "model": "y",
                "base_url": "http://127.0.0.1:8080/v1",
                "api_key": "sk",
            },
        ]
    },
}


def ctx(name: str = "project_get") -> Context:
    return Context(ENDPOINTS[name], "req", "http://127.0.0.1:8000", {})


@pytest.fixture
def service(make_core: Callable[..., Core], tmp_path: Path) -> Projects:
    own = tmp_path / "templates"
    own.mkdir()
    (own / "mine.yaml").write_text("# mine\nruntime: {provider: extractive, model: extractive}\n")
    core = make_core(projects={"template_dirs": [str(own)], "default_template": "mine"})
    return Projects(core, ProjectFiles(core))


@pytest.fixture
async def created(service: Projects) -> Project:
    await service.project_create(ctx(), NS, ProjectCreate(name="p"))
    return (await service.project_update(ctx(), PATH, ProjectUpdate(config=CONFIG))).project


def test_every_contract_has_the_documented_operation_id_tag_and_status() -> None:
    assert list(ENDPOINTS) == [
        "projects_list",
        "project_create",
        "project_get",
        "project_update",
        "project_delete",
        "models_list",
    ]
    assert all("mcp" in item.tags and item.status == 200 for item in ENDPOINTS.values())


async def test_every_contract_is_implemented(make_core: Callable[..., Core]) -> None:
    core = make_core()
    again = make_core(Projects(core, ProjectFiles(core)))
    assert again.plugins.missing() == []
    assert (await again.plugins.call("projects_list", ctx("projects_list"), params=NS)).total == 0


async def test_a_project_is_created_from_the_default_template(service: Projects) -> None:
    project = (await service.project_create(ctx(), NS, ProjectCreate(name="p"))).project
    assert project.config == {
        "runtime": {"provider": "extractive", "model": "extractive"}, "name": "p", "namespace": "ns",
    }  # fmt: skip


async def test_replies_round_trip_and_print_their_nulls(created: Project) -> None:
    encoded = msgspec.json.encode(created)
    assert msgspec.json.decode(encoded, type=Project) == created
    assert b'"validation_error":null' in encoded


async def test_an_unknown_template_lists_the_known_ones(service: Projects) -> None:
    with pytest.raises(TemplateNotFound, match="mine") as caught:
        await service.project_create(ctx(), NS, ProjectCreate(name="p", config_template="no"))
    assert "default" in caught.value.message


@pytest.mark.parametrize("template", ["default", "rag", "server"])
async def test_the_shipped_templates_are_valid_and_keep_their_comments(
    service: Projects, tmp_path: Path, template: str
) -> None:
    project = (await service.project_create(ctx(), NS, ProjectCreate(name="p", config_template=template))).project
    assert (project.name, project.validation_error, project.warnings) == ("p", None, [])
    written = (tmp_path / "projects" / "ns" / "p" / "llamafarm.yaml").read_text().splitlines()
    shipped = (conf_folder() / "templates" / f"{template}.yaml").read_text().splitlines()
    assert [line for line in shipped if line not in written] == [
        line for line in shipped if line.startswith(("name:", "namespace:"))
    ]


@pytest.mark.parametrize("name", ["../mine", "/etc/passwd", ".", "mine.yaml/..", "a\x00b"])
async def test_a_template_name_is_never_a_path(service: Projects, name: str) -> None:
    with pytest.raises(TemplateNotFound):
        await service.project_create(ctx(), NS, ProjectCreate(name="p", config_template=name))


async def test_bad_names_conflicts_and_the_reserved_namespace_are_refused(service: Projects, created: Project) -> None:
    with pytest.raises(BadName):
        await service.project_create(ctx(), NS, ProjectCreate(name="../p"))
    with pytest.raises(Conflict):
        await service.project_create(ctx(), NS, ProjectCreate(name="p"))
    with pytest.raises(BadRequest):
        await service.project_create(ctx(), NamespacePath(namespace="llamafarm"), ProjectCreate(name="p"))
    with pytest.raises(BadRequest, match="differs"):
        await service.project_create(ctx(), NS, ProjectCreate(name="q", namespace="other"))


@pytest.mark.parametrize("key", ["name", "namespace"])
async def test_a_body_for_another_project_is_refused(service: Projects, created: Project, key: str) -> None:
    for value in ("other", 5):
        with pytest.raises(BadRequest, match="differs"):
            await service.project_update(ctx(), PATH, ProjectUpdate(config={**CONFIG, key: value}))


async def test_a_body_without_names_takes_those_of_the_path(service: Projects, created: Project) -> None:
    body = {"runtime": {"provider": "ollama", "model": "m"}}
    project = (await service.project_update(ctx(), PATH, ProjectUpdate(config=body))).project
    assert project.config == {**body, "name": "p", "namespace": "ns"}


async def test_what_does_not_exist_is_not_found(service: Projects) -> None:
    for call in (service.project_get, service.project_delete, service.models_list):
        with pytest.raises(ProjectNotFound):
            await call(ctx(), PATH)
    with pytest.raises(ProjectNotFound):
        await service.project_update(ctx(), PATH, ProjectUpdate(config=CONFIG))


async def test_an_invalid_update_says_field_and_reason(service: Projects, created: Project) -> None:
    with pytest.raises(ValidationFailed) as caught:
        await service.project_update(ctx(), PATH, ProjectUpdate(config={**CONFIG, "runtime": {"models": [{}]}}))
    assert [error.field for error in caught.value.errors] == [
        f"runtime.models[0].{key}" for key in ("name", "provider", "model")
    ]


async def test_secrets_are_in_no_reply(service: Projects, created: Project) -> None:
    replies = [
        created,
        await service.project_get(ctx(), PATH),
        await service.projects_list(ctx(), NS),
        await service.models_list(ctx(), PATH),
        await service.project_delete(ctx(), PATH),
    ]
    for reply in replies:
        text = msgspec.json.encode(reply)
        assert b'"sk"' not in text
        assert b'"api_key":"********"' in text


async def test_what_was_read_can_be_sent_back(service: Projects, created: Project) -> None:
    await service.project_update(ctx(), PATH, ProjectUpdate(config=created.config))
    stored = await service._files.load("ns", "p")
    assert stored.raw == CONFIG


async def test_the_list_shows_invalid_projects_with_the_reason(
    service: Projects, created: Project, tmp_path: Path
) -> None:
    await service.project_create(ctx(), NS, ProjectCreate(name="a"))
    (tmp_path / "projects" / "ns" / "a" / "llamafarm.yaml").write_text("runtime: 5\n")
    reply = await service.projects_list(ctx(), NS)
    assert reply.total == 2
    assert [(one.name, one.validation_error) for one in reply.projects] == [
        ("a", "runtime: expected a mapping, got 5"),
        ("p", None),
    ]
    assert reply.projects[0].config == {"runtime": 5}


async def test_models_have_the_printed_fields_and_every_other_key(service: Projects, created: Project) -> None:
    reply = await service.models_list(ctx(), PATH)
    assert reply.total == 2
    fast, own = reply.models
    assert fast == {
        "name": "fast", "provider": "ollama", "model": "x", "base_url": fast["base_url"], "default": True,
        "description": "Quick", "extra_option": 1,
    }  # fmt: skip
    assert "11434" in fast["base_url"]
    assert own["base_url"] == "http://127.0.0.1:8080/v1"
    assert (own["default"], own["description"], own["api_key"]) == (False, None, "********")


async def test_the_models_of_the_legacy_form_are_listed(service: Projects, created: Project) -> None:
    await service.project_update(
        ctx(), PATH, ProjectUpdate(config={"runtime": {"provider": "extractive", "model": "e"}})
    )
    reply = await service.models_list(ctx(), PATH)
    assert reply.models == [
        {
            "name": "default",
            "provider": "extractive",
            "model": "e",
            "base_url": None,
            "default": True,
            "description": None,
        }
    ]


async def test_the_models_of_an_invalid_project_are_an_error(
    service: Projects, created: Project, tmp_path: Path
) -> None:
    (tmp_path / "projects" / "ns" / "p" / "llamafarm.yaml").write_text("runtime: 5\n")
    with pytest.raises(ValidationFailed):
        await service.models_list(ctx(), PATH)


async def test_deleting_asks_everybody_to_clean_up_before_the_folder_goes(
    service: Projects, created: Project, tmp_path: Path
) -> None:
    folder = tmp_path / "projects" / "ns" / "p"
    asked: list[tuple[str, str, str, bool]] = []

    def listener(label: str) -> Callable[[str, str], Any]:
        async def forget(namespace: str, project: str) -> None:
            asked.append((label, namespace, project, folder.exists()))

        return forget

    service.on_delete += [listener("tasks"), listener("vectors")]
    reply = await service.project_delete(ctx(), PATH)
    assert reply.project.name == "p"
    assert asked == [("tasks", "ns", "p", True), ("vectors", "ns", "p", True)]
    assert not folder.exists()
