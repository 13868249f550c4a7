"""Projects and the models they name."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Literal

import msgspec

from paddock.contracts.base import Context, Json, Name, endpoint
from paddock.errors import BadName, BadRequest, Conflict, ProjectNotFound, TemplateNotFound, ValidationFailed


class NamespacePath(msgspec.Struct, frozen=True, kw_only=True):
    """A namespace."""

    namespace: Name


class ProjectPath(msgspec.Struct, frozen=True, kw_only=True):
    """A project."""

    namespace: Name
    project: Name


class Project(msgspec.Struct, kw_only=True):
    """A project as its file stands on disk.

    `config` is what the user wrote, in the form the user chose, with secrets shown as ``********``. `validation_error`
    tells why it can't be used, `warnings` what is kept without effect. `last_modified` is ISO 8601 in UTC.
    """

    namespace: str
    name: str
    config: dict[str, Json]
    validation_error: str | None = None
    last_modified: str | None = None
    warnings: list[str] = []


class ProjectList(msgspec.Struct, kw_only=True):
    """The projects of a namespace, by name."""

    total: int
    projects: list[Project]


class ProjectReply(msgspec.Struct, kw_only=True):
    """One project."""

    project: Project


class ProjectCreate(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A new project. Without `config_template` the setting ``projects.default_template`` names it."""

    name: str
    namespace: str | None = None
    config_template: str | None = None


class ProjectUpdate(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The whole new configuration. A secret sent back as ``********`` keeps its stored value."""

    config: dict[str, Json]


class ModelEntry(msgspec.Struct, kw_only=True):
    """A model as OpenAI's clients list it: `id` is the name that a chat request gives, `owned_by` the provider."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str


class ModelList(msgspec.Struct, kw_only=True):
    """The models of a project in the order of the file.

    Each has name, provider, model, base_url (the provider's own where the file names none), default and description,
    and besides them every other key of the file, with secrets shown as ``********``. `object` and `data` are the same list
    for OpenAI's clients, whose base_url is the project; `created` is when the file was last changed.
    """

    total: int
    models: list[dict[str, Json]]
    object: Literal["list"] = "list"
    data: list[ModelEntry]


@endpoint("GET", "/v1/projects/{namespace}", access="read", tags=("mcp",), raises=(BadName,))
def projects_list(ctx: Context, params: NamespacePath) -> Awaitable[ProjectList]:
    """List the projects of a namespace. An unknown namespace is empty. Invalid projects are listed with the reason."""


@endpoint(
    "POST",
    "/v1/projects/{namespace}",
    access="write",
    tags=("mcp",),
    raises=(BadName, BadRequest, TemplateNotFound, Conflict, ValidationFailed),
)
def project_create(ctx: Context, params: NamespacePath, data: ProjectCreate) -> Awaitable[ProjectReply]:
    """Create a project from a template. 409 if it exists, 400 in the reserved namespace ``llamafarm``."""


@endpoint(
    "GET",
    "/v1/projects/{namespace}/{project}",
    access="read",
    tags=("mcp",),
    raises=(BadName, ProjectNotFound),
)
def project_get(ctx: Context, params: ProjectPath) -> Awaitable[ProjectReply]:
    """Return one project; an invalid file comes with `validation_error` instead of an error."""


@endpoint(
    "PUT",
    "/v1/projects/{namespace}/{project}",
    access="write",
    tags=("mcp",),
    raises=(BadName, BadRequest, Conflict, ProjectNotFound, ValidationFailed),
)
def project_update(ctx: Context, params: ProjectPath, data: ProjectUpdate) -> Awaitable[ProjectReply]:
    """Replace the configuration. Comments of what stays are kept, the former file becomes ``llamafarm.yaml.bak``.

    Name and namespace must be those of the path, or absent. Nothing is written when anything is wrong. A database that
    holds chunks keeps its store and its embedder (409 otherwise). Idempotent.
    """


@endpoint(
    "DELETE",
    "/v1/projects/{namespace}/{project}",
    access="write",
    tags=("mcp",),
    raises=(BadName, ProjectNotFound),
)
def project_delete(ctx: Context, params: ProjectPath) -> Awaitable[ProjectReply]:
    """Delete a project with its datasets, vectors, tasks, sessions and events; returns what it was."""


@endpoint(
    "GET",
    "/v1/projects/{namespace}/{project}/models",
    access="read",
    tags=("mcp",),
    raises=(BadName, ProjectNotFound, ValidationFailed),
)
def models_list(ctx: Context, params: ProjectPath) -> Awaitable[ModelList]:
    """List the models that the project names. `default` is true for the one that answers when a request names none."""
