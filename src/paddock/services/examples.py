"""Example projects: folders with a manifest, found in ``conf/examples`` and in the folders of ``projects.example_dirs``."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import msgspec

from paddock.contracts.base import Context, Json, hookimpl
from paddock.contracts.examples import (
    Example,
    ExampleDataset,
    ExampleDatasetList,
    ExampleList,
    ExamplePath,
    ImportData,
    ImportDataset,
    Imported,
    ImportedDataset,
    ImportProject,
)
from paddock.errors import BadRequest, ExampleNotFound, ValidationFailed
from paddock.services.core import Core
from paddock.services.project_files import ProjectFiles
from paddock.services.project_yaml import parse
from paddock.storage import check_name

MANIFEST = "manifest.yaml"
_KINDS = {
    ".pdf": "pdf", ".csv": "csv", ".tsv": "csv", ".md": "markdown", ".json": "json", ".png": "images", ".jpg": "images",
    ".jpeg": "images", ".tif": "images", ".tiff": "images", ".html": "html", ".txt": "text", ".eml": "email",
}  # fmt: skip


class DatasetManifest(msgspec.Struct, frozen=True):
    """A dataset of an example; `ingest` are patterns relative to the example's folder."""

    name: str
    strategy: str
    database: str
    ingest: list[str]


class ConfigManifest(msgspec.Struct, frozen=True):
    """Where the project's configuration is, relative to the example's folder."""

    yaml_path: str | None = None


class Manifest(msgspec.Struct, frozen=True):
    """manifest.yaml of an example."""

    id: str
    title: str
    slug: str | None = None
    description: str = ""
    primaryModel: str | None = None  # noqa: N815  the documented name
    tags: list[str] = []
    config: ConfigManifest = ConfigManifest()
    datasets: list[DatasetManifest] = []


class Found(msgspec.Struct, frozen=True):
    """An example on disk; `manifest` None when the folder has none: it is listed, and can't be imported."""

    id: str
    folder: Path
    manifest: Manifest | None


class DatasetKeeper(Protocol):
    """What importing needs of the datasets."""

    async def ensure(self, namespace: str, project: str, name: str, strategy: str, database: str) -> None:
        """Create the dataset; one that exists stays as it is."""

    async def add_file(self, namespace: str, project: str, dataset: str, path: Path) -> object:
        """Store a file of this machine in the dataset; bytes that are there already stay there once."""

    async def process(self, namespace: str, project: str, dataset: str) -> str:
        """Process what is not processed yet; returns the task's id."""


class Examples:
    """Implements contracts/examples.py."""

    def __init__(self, core: Core, files: ProjectFiles, datasets: DatasetKeeper, folders: Sequence[Path]) -> None:
        self._core = core
        self._files = files
        self._datasets = datasets
        self._folders = folders

    @hookimpl
    async def examples_list(self, ctx: Context) -> ExampleList:
        return ExampleList(examples=await asyncio.to_thread(self._list))

    def _list(self) -> list[Example]:
        return [shown(found) for found in find(self._folders)]

    @hookimpl
    async def examples_datasets_list(self, ctx: Context) -> ExampleDatasetList:
        return ExampleDatasetList(datasets=await asyncio.to_thread(self._datasets_of, None))

    @hookimpl
    async def example_datasets_list(self, ctx: Context, params: ExamplePath) -> ExampleDatasetList:
        return ExampleDatasetList(datasets=await asyncio.to_thread(self._datasets_of, params.example_id))

    def _datasets_of(self, example_id: str | None) -> list[ExampleDataset]:
        found = find(self._folders) if example_id is None else [self._one(example_id)]
        return [shown_dataset(one, item) for one in found if one.manifest for item in one.manifest.datasets]

    @hookimpl
    async def example_import_project(self, ctx: Context, params: ExamplePath, data: ImportProject) -> Imported:
        found, manifest = await self._importable(params.example_id)
        text = await asyncio.to_thread(config_text, found, manifest)
        await self._files.create(data.namespace, data.name, text)
        tasks = await self._fill(found, manifest.datasets, data.namespace, data.name, process=data.process)
        names = [item.name for item in manifest.datasets]
        return Imported(project=data.name, namespace=data.namespace, datasets=names, task_ids=tasks)

    @hookimpl
    async def example_import_data(self, ctx: Context, params: ExamplePath, data: ImportData) -> Imported:
        found, manifest = await self._importable(params.example_id)
        await self._files.config(data.namespace, data.project)
        if data.include_strategies:
            await self._merge(found, manifest, data.namespace, data.project, manifest.datasets)
        tasks = await self._fill(found, manifest.datasets, data.namespace, data.project, process=data.process)
        names = [item.name for item in manifest.datasets]
        return Imported(project=data.project, namespace=data.namespace, datasets=names, task_ids=tasks)

    @hookimpl
    async def example_import_dataset(self, ctx: Context, params: ExamplePath, data: ImportDataset) -> ImportedDataset:
        found, manifest = await self._importable(params.example_id)
        wanted = next((item for item in manifest.datasets if item.name == data.dataset), None)
        if wanted is None:
            known = ", ".join(item.name for item in manifest.datasets)
            raise ExampleNotFound(f"example {found.id} has no dataset {data.dataset[:64]!r}; known: {known}")
        await self._files.config(data.namespace, data.project)
        target = check_name(data.target_dataset or wanted.name, "target_dataset")
        if data.include_strategies:
            await self._merge(found, manifest, data.namespace, data.project, [wanted])
        renamed = msgspec.structs.replace(wanted, name=target)
        tasks = await self._fill(found, [renamed], data.namespace, data.project, process=data.process)
        return ImportedDataset(
            project=data.project,
            namespace=data.namespace,
            dataset=target,
            file_count=len(await asyncio.to_thread(files_of, found.folder, wanted.ingest)),
            task_id=tasks[0] if tasks else None,
        )

    def _one(self, example_id: str) -> Found:
        check_name(example_id, "example")
        known = find(self._folders)
        for found in known:
            if found.id == example_id:
                return found
        raise ExampleNotFound(f"no example {example_id!r}; known: {', '.join(one.id for one in known) or 'none'}")

    async def _importable(self, example_id: str) -> tuple[Found, Manifest]:
        found = await asyncio.to_thread(self._one, example_id)
        if found.manifest is None:
            raise ExampleNotFound(f"example {found.id} has no {MANIFEST}: it is only there to look at")
        return found, found.manifest

    async def _fill(
        self, found: Found, items: Sequence[DatasetManifest], namespace: str, project: str, *, process: bool
    ) -> list[str]:
        for item in items:
            await self._datasets.ensure(namespace, project, item.name, item.strategy, item.database)
            for path in await asyncio.to_thread(files_of, found.folder, item.ingest):
                await self._datasets.add_file(namespace, project, item.name, path)
        return [await self._datasets.process(namespace, project, item.name) for item in items if process]

    async def _merge(
        self, found: Found, manifest: Manifest, namespace: str, project: str, items: Sequence[DatasetManifest]
    ) -> None:
        text = await asyncio.to_thread(config_text, found, manifest)
        theirs = (await asyncio.to_thread(parse, text.encode())).raw.get("rag") or {}
        databases = {item.database for item in items}
        strategies = {item.strategy for item in items}

        def change(raw: dict[str, Json]) -> None:
            rag = raw.get("rag")
            if not isinstance(rag, dict):  # `rag:` with nothing behind it is null
                rag = raw["rag"] = {}
            _add_missing(rag, "databases", theirs, databases)
            _add_missing(rag, "data_processing_strategies", theirs, strategies)

        await self._files.edit(namespace, project, change)


def _add_missing(rag: dict[str, Any], key: str, theirs: dict[str, Any], wanted: set[str]) -> None:
    known = {item.get("name") for item in rag.get(key) or []}
    new = [item for item in theirs.get(key) or [] if item["name"] in wanted and item["name"] not in known]
    if new:
        rag[key] = [*(rag.get(key) or []), *new]


def find(folders: Iterable[Path]) -> list[Found]:
    """Every example of the folders, by id; of two with one id the first folder's counts."""
    found: dict[str, Found] = {}
    for folder in folders:
        for one in sorted(folder.iterdir()) if folder.is_dir() else ():
            if one.is_dir() and not one.name.startswith("."):
                manifest = read_manifest(one)
                known = Found(manifest.id if manifest else one.name, one, manifest)
                if manifest or (one / "files").is_dir() or (one / "llamafarm.yaml").is_file():
                    found.setdefault(known.id, known)
    return sorted(found.values(), key=lambda one: one.id)


def read_manifest(folder: Path) -> Manifest | None:
    """The folder's manifest, or None. Raises ValidationFailed naming the file when it is wrong."""
    path = folder / MANIFEST
    if not path.is_file():
        return None
    try:
        return msgspec.convert(parse(path.read_bytes()).raw, Manifest)
    except msgspec.ValidationError as error:
        raise ValidationFailed(f"the example {folder.name} has a wrong {MANIFEST}: {error}") from error


def config_text(found: Found, manifest: Manifest) -> str:
    """The example's llamafarm.yaml. Raises BadRequest when the manifest names none, or one outside of the folder."""
    if manifest.config.yaml_path is None:
        raise BadRequest(f"the {MANIFEST} of example {found.id} has no config.yaml_path")
    path = (found.folder / manifest.config.yaml_path).resolve()
    if not path.is_relative_to(found.folder.resolve()) or not path.is_file():
        raise BadRequest(f"config.yaml_path of example {found.id} leads to no file inside of the example")
    return path.read_text(encoding="utf-8")


def files_of(folder: Path, patterns: Sequence[str]) -> list[Path]:
    """The files that the patterns name, inside of the folder only, each once and in order."""
    root = folder.resolve()
    matched = {path.resolve() for pattern in patterns if ".." not in pattern for path in folder.glob(pattern)}
    return sorted(path for path in matched if path.is_file() and path.is_relative_to(root))


def shown(found: Found) -> Example:
    """An example as the list shows it."""
    manifest = found.manifest or Manifest(id=found.id, title=found.id.replace("_", " ").title())
    data = [path for item in manifest.datasets for path in files_of(found.folder, item.ingest)]
    config = found.folder / (manifest.config.yaml_path or "llamafarm.yaml")
    data_size = sum(path.stat().st_size for path in data)
    project_size = config.stat().st_size if config.is_file() else 0
    newest = max(path.stat().st_mtime for path in (found.folder, *data))
    return Example(
        id=found.id,
        slug=manifest.slug or found.id,
        title=manifest.title,
        description=manifest.description.strip(),
        primaryModel=manifest.primaryModel,
        tags=manifest.tags,
        dataset_count=len(manifest.datasets),
        data_size_bytes=data_size or None,
        data_size_human=compact_size(data_size),
        project_size_bytes=project_size or None,
        project_size_human=compact_size(project_size),
        updated_at=datetime.fromtimestamp(newest, UTC).strftime("%Y-%m-%dT%H:%M:%S"),
    )


def shown_dataset(found: Found, item: DatasetManifest) -> ExampleDataset:
    """A dataset of an example as the list shows it."""
    assert found.manifest is not None
    paths = files_of(found.folder, item.ingest)
    size = sum(path.stat().st_size for path in paths)
    kinds = {_KINDS.get(path.suffix.lower(), "other") for path in paths}
    return ExampleDataset(
        example_id=found.id,
        example_title=found.manifest.title,
        name=item.name,
        strategy=item.strategy,
        database=item.database,
        kind=kinds.pop() if len(kinds) == 1 else "mixed",
        ingest=item.ingest,
        size_bytes=size or None,
        size_human=compact_size(size),
    )


def compact_size(size: float) -> str | None:
    """Bytes as the examples write them: ``2.0MB``, ``512B``; None for nothing."""
    if not size:
        return None
    if size < 1024:
        return f"{size:.0f}B"
    for unit in ("KB", "MB", "GB"):
        size /= 1024
        if size < 1024:
            return f"{size:.1f}{unit}"
    return f"{size / 1024:.1f}TB"
