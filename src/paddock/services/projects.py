"""The projects endpoints."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

from paddock.contracts.base import Context, Json, hookimpl
from paddock.contracts.config import ModelConfig, ProjectConfig
from paddock.contracts.projects import (
    ModelEntry,
    ModelList,
    NamespacePath,
    Project,
    ProjectCreate,
    ProjectList,
    ProjectPath,
    ProjectReply,
    ProjectUpdate,
)
from paddock.errors import BadRequest, Forbidden, TemplateNotFound
from paddock.services.core import Core
from paddock.services.project_files import LoadedProject, ProjectFiles
from paddock.services.project_legacy import normalise
from paddock.services.project_secrets import masked

_PRINTED = ("name", "provider", "model", "base_url", "default", "description")


class Projects:
    """Implements `paddock.contracts.projects`.

    Each of `on_delete` is awaited with namespace and project before the folder of a project is removed: stop what runs
    for it, forget what is kept about it. They run in order; one that raises leaves the project there. Each of `after_delete`
    is awaited when the folder is gone, for what was written between the two. Each of `on_update` is awaited with namespace,
    project, the old and the new configuration before a new one is written; one that raises leaves the old one.
    """

    def __init__(self, core: Core, files: ProjectFiles) -> None:
        self._core = core
        self._files = files
        self.on_delete: list[Callable[[str, str], Awaitable[None]]] = []
        self.after_delete: list[Callable[[str, str], Awaitable[None]]] = []
        self.on_update: list[Callable[[str, str, ProjectConfig, ProjectConfig], Awaitable[None]]] = []

    @hookimpl
    async def projects_list(self, ctx: Context, params: NamespacePath) -> ProjectList:
        projects = await self._files.list(params.namespace)
        found = [shown(one) for one in projects if ctx.caller.may_enter(one.namespace, one.name)]
        return ProjectList(total=len(found), projects=found)

    @hookimpl
    async def project_create(self, ctx: Context, params: NamespacePath, data: ProjectCreate) -> ProjectReply:
        _same_as_path("namespace", data.namespace, params.namespace)
        if not ctx.caller.may_enter(params.namespace, data.name):
            raise Forbidden("this key is limited to other projects: it can't create this one")
        self._files.folder(params.namespace, data.name)  # a bad name is told before a missing template
        template = await self.template(data.config_template or self._core.settings.projects.default_template)
        return ProjectReply(project=shown(await self._files.create(params.namespace, data.name, template)))

    @hookimpl
    async def project_get(self, ctx: Context, params: ProjectPath) -> ProjectReply:
        return ProjectReply(project=shown(await self._files.load(params.namespace, params.project)))

    @hookimpl
    async def project_update(self, ctx: Context, params: ProjectPath, data: ProjectUpdate) -> ProjectReply:
        _same_as_path("name", data.config.get("name"), params.project)
        _same_as_path("namespace", data.config.get("namespace"), params.namespace)

        async def before(old: ProjectConfig, new: ProjectConfig) -> None:
            for look in self.on_update:
                await look(params.namespace, params.project, old, new)

        return ProjectReply(
            project=shown(await self._files.save(params.namespace, params.project, data.config, before))
        )

    @hookimpl
    async def project_delete(self, ctx: Context, params: ProjectPath) -> ProjectReply:
        deleted = await self._files.delete(params.namespace, params.project, self._clean_up)
        for forget in self.after_delete:
            await forget(deleted.namespace, deleted.name)
        return ProjectReply(project=shown(deleted))

    @hookimpl
    async def models_list(self, ctx: Context, params: ProjectPath) -> ModelList:
        project = await self._files.load(params.namespace, params.project)
        config = await self._files.config(params.namespace, params.project)
        models = self._models(config, normalise(project.raw).values)
        created = int(datetime.fromisoformat(project.last_modified).timestamp())
        entries = [ModelEntry(id=item.name, created=created, owned_by=item.provider) for item in config.runtime.models]
        return ModelList(total=len(models), models=models, data=entries)

    async def template(self, name: str) -> str:
        """The YAML text of a template. Raises TemplateNotFound, which lists the known ones."""
        known: list[str] = []
        for source in self._core.plugins.template_sources.all():
            text = await source.read(name)
            if text is not None:
                return text
            known += await source.names()
        raise TemplateNotFound(f"template {name[:64]!r} not found; known: {', '.join(known) or 'none'}")

    async def _clean_up(self, project: LoadedProject) -> None:
        for forget in self.on_delete:
            await forget(project.namespace, project.name)

    def _models(self, config: ProjectConfig, values: dict[str, Any]) -> list[dict[str, Json]]:
        default = config.default_model()
        written = values["runtime"].get("models") or []
        return [
            self._model(model, raw, default=model is default)
            for model, raw in zip(config.runtime.models, written, strict=True)
        ]

    def _model(self, model: ModelConfig, raw: dict[str, Json], *, default: bool) -> dict[str, Json]:
        provider = self._core.plugins.chat_models.get(model.provider)
        base_url = model.base_url or (provider.default_base_url if provider else None)
        item = {**raw, "base_url": base_url, "default": default}
        shown_item: dict[str, Json] = masked({key: item.get(key) for key in (*_PRINTED, *raw)})
        return shown_item


def shown(project: LoadedProject) -> Project:
    """A project as replies show it: secrets masked."""
    return Project(
        namespace=project.namespace,
        name=project.name,
        config=masked(project.raw),
        validation_error=project.validation_error,
        last_modified=project.last_modified,
        warnings=list(project.warnings),
    )


def _same_as_path(what: str, given: Json, expected: str) -> None:
    if given is not None and given != expected:
        raise BadRequest(
            f"the {what} in the body differs from {expected!r} in the path: write the same, or leave it out"
        )
