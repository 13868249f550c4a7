"""Example projects that ship with paddock or lie in a folder of the user's."""

from __future__ import annotations

from collections.abc import Awaitable

import msgspec

from paddock.contracts.base import Context, Name, endpoint
from paddock.errors import BadName, BadRequest, Conflict, ExampleNotFound, ProjectNotFound, ValidationFailed


class ExamplePath(msgspec.Struct, frozen=True, kw_only=True):
    """An example."""

    example_id: Name


class Example(msgspec.Struct, kw_only=True):
    """An example project; sizes in bytes and for people, `updated_at` ISO 8601."""

    id: str
    slug: str
    title: str
    description: str
    primaryModel: str | None  # noqa: N815  the documented name
    tags: list[str]
    dataset_count: int
    data_size_bytes: int | None
    data_size_human: str | None
    project_size_bytes: int | None
    project_size_human: str | None
    updated_at: str


class ExampleList(msgspec.Struct, kw_only=True):
    """All examples, by id."""

    examples: list[Example]


class ExampleDataset(msgspec.Struct, kw_only=True):
    """A dataset of an example; `kind` follows from its files (pdf, csv, markdown, images, json, mixed)."""

    example_id: str
    example_title: str
    name: str
    strategy: str
    database: str
    kind: str
    ingest: list[str]
    size_bytes: int | None
    size_human: str | None


class ExampleDatasetList(msgspec.Struct, kw_only=True):
    """Datasets of examples."""

    datasets: list[ExampleDataset]


class ImportProject(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Where to create the project, and whether to process its documents at once."""

    namespace: str
    name: str
    process: bool = True


class ImportData(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The project that gets the example's datasets. With `include_strategies` databases and processing strategies that it
    lacks are added; none is overwritten."""

    namespace: str
    project: str
    include_strategies: bool = True
    process: bool = True


class ImportDataset(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One dataset for a project, under `target_dataset` if that is given."""

    namespace: str
    project: str
    dataset: str
    target_dataset: str | None = None
    include_strategies: bool = True
    process: bool = True


class Imported(msgspec.Struct, kw_only=True):
    """What was imported; the tasks process the documents."""

    project: str
    namespace: str
    datasets: list[str]
    task_ids: list[str]


class ImportedDataset(msgspec.Struct, kw_only=True):
    """The dataset that was imported; `task_id` null when it is not processed."""

    project: str
    namespace: str
    dataset: str
    file_count: int
    task_id: str | None


@endpoint("GET", "/v1/examples", access="read")
def examples_list(ctx: Context) -> Awaitable[ExampleList]:
    """List the examples."""


@endpoint("GET", "/v1/examples/datasets", access="read")
def examples_datasets_list(ctx: Context) -> Awaitable[ExampleDatasetList]:
    """List the datasets of all examples."""


@endpoint("GET", "/v1/examples/{example_id}/datasets", access="read", raises=(ExampleNotFound, BadName))
def example_datasets_list(ctx: Context, params: ExamplePath) -> Awaitable[ExampleDatasetList]:
    """List an example's datasets."""


@endpoint(
    "POST",
    "/v1/examples/{example_id}/import-project",
    access="write",
    raises=(ExampleNotFound, BadName, BadRequest, Conflict),
)
def example_import_project(ctx: Context, params: ExamplePath, data: ImportProject) -> Awaitable[Imported]:
    """Create a project from an example, with its documents."""


@endpoint(
    "POST",
    "/v1/examples/{example_id}/import-data",
    access="write",
    raises=(ExampleNotFound, ProjectNotFound, BadName, BadRequest, ValidationFailed),
)
def example_import_data(ctx: Context, params: ExamplePath, data: ImportData) -> Awaitable[Imported]:
    """Add an example's datasets to a project. A dataset that exists gets the documents it lacks."""


@endpoint(
    "POST",
    "/v1/examples/{example_id}/import-dataset",
    access="write",
    raises=(ExampleNotFound, ProjectNotFound, BadName, BadRequest, ValidationFailed),
)
def example_import_dataset(ctx: Context, params: ExamplePath, data: ImportDataset) -> Awaitable[ImportedDataset]:
    """Add one of an example's datasets to a project."""
