"""The built-in implementations of the endpoint contracts, and how they are put together."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import ModuleType

from paddock.builtin.plugin import BuiltIn
from paddock.contracts import accounts as account_contracts
from paddock.contracts import anomaly as anomaly_contracts
from paddock.contracts import chat as chat_contracts
from paddock.contracts import classifiers as classifier_contracts
from paddock.contracts import datasets as dataset_contracts
from paddock.contracts import events as event_contracts
from paddock.contracts import examples as example_contracts
from paddock.contracts import files as file_contracts
from paddock.contracts import gateway as gateway_contracts
from paddock.contracts import instances as instance_contracts
from paddock.contracts import instances_older as older_instance_contracts
from paddock.contracts import keys as key_contracts
from paddock.contracts import metrics as metrics_contracts
from paddock.contracts import model_cache as model_cache_contracts
from paddock.contracts import operations as operation_contracts
from paddock.contracts import projects as project_contracts
from paddock.contracts import rag as rag_contracts
from paddock.contracts import system as system_contracts
from paddock.contracts import tasks as task_contracts
from paddock.contracts import text_models as text_contracts
from paddock.contracts import vision as vision_contracts
from paddock.contracts.providers import Provider
from paddock.resources import conf_folder
from paddock.services.accounts import Accounts
from paddock.services.chat import ChatService
from paddock.services.core import Core
from paddock.services.database_keeper import DatabaseKeeper
from paddock.services.databases import Databases
from paddock.services.datasets import Datasets
from paddock.services.events import EventLog, EventService
from paddock.services.examples import Examples
from paddock.services.gateway import GatewayService
from paddock.services.keys import Keys
from paddock.services.metrics import MetricsService
from paddock.services.model_cache import ModelCache
from paddock.services.operations import Operations
from paddock.services.pages import Pages
from paddock.services.preview import Preview
from paddock.services.project_files import ProjectFiles
from paddock.services.projects import Projects
from paddock.services.rag import Rag
from paddock.services.reembedding import Reembedding
from paddock.services.retrieval import Retrieval
from paddock.services.stores import Stores
from paddock.services.system import SystemService
from paddock.services.tasks import TaskService
from paddock.services.text_models import TextModels
from paddock.services.uploaded import UploadedFiles
from paddock.services.vision import Vision

__all__ = ["CONTRACTS", "Core", "Services"]

CONTRACTS: Sequence[ModuleType] = (
    system_contracts,
    example_contracts,
    model_cache_contracts,
    project_contracts,
    chat_contracts,
    dataset_contracts,
    rag_contracts,
    task_contracts,
    event_contracts,
    gateway_contracts,
    text_contracts,
    key_contracts,
    account_contracts,
    operation_contracts,
    metrics_contracts,
    instance_contracts,
    older_instance_contracts,
    classifier_contracts,
    anomaly_contracts,
    file_contracts,
    vision_contracts,
)  # in URL order


class Services:
    """Every service, built over one Core."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.keys = Keys(core)
        self.accounts = Accounts(core)
        self.files = ProjectFiles(core)
        self.events = EventLog(core)
        self.stores = Stores(core, self.files)
        self.tasks = TaskService(core, self.files)
        self.datasets = Datasets(core, self.files, self.stores, self.tasks, self.events)
        reembedding = Reembedding(self.datasets.ingest, self.tasks)
        self.keeper = DatabaseKeeper(core, self.stores, self.tasks, reembedding)
        self.retrieval = Retrieval(core, self.stores)
        self.chat = ChatService(core, self.files, self.retrieval, self.events)
        self.gateway = GatewayService(core, self.events)
        self.pages = Pages(core)
        self.uploaded = UploadedFiles(core, self.datasets.rows.stored, self.pages)
        self.projects = Projects(core, self.files)
        self.projects.on_delete += [self.datasets.forget, self.chat.forget, self.events.forget]
        self.projects.on_update.append(self.keeper.check_project)
        self.projects.after_delete += [self.chat.forget, self.events.forget]

    def implementations(self) -> list[object]:
        """The objects to register as the core's own plugins."""
        folders = [conf_folder() / "examples", *(Path(one) for one in self.core.settings.projects.example_dirs)]
        return [
            BuiltIn(),
            SystemService(self.core, self.providers_in_use),
            Examples(self.core, self.files, self.datasets, folders),
            ModelCache(self.core, self.events),
            self.projects,
            self.chat,
            self.datasets,
            Rag(self.files, self.retrieval, self.stores, self.events),
            Databases(self.files, self.keeper),
            Preview(self.core, self.files, self.datasets.rows, self.datasets.ingest),
            self.tasks,
            self.uploaded,
            Vision(self.core, self.pages, self.uploaded),
            EventService(self.events, self.files),
            TextModels(self.core, self.gateway),
            self.gateway,
            MetricsService(self.core, self.gateway),
            self.keys,
            self.accounts,
            Operations(self.core),
        ]

    async def providers_in_use(self) -> list[Provider]:
        """The chat providers and embedders that the projects name."""
        found: list[Provider] = []
        for namespace in await self.files.namespaces():
            for project in await self.files.list(namespace):
                if project.config is None:
                    continue
                found += filter(
                    None, map(self.core.plugins.chat_models.get, (m.provider for m in project.config.runtime.models))
                )
                for database in project.config.rag.databases:
                    found += filter(
                        None, map(self.core.plugins.embedders.get, (e.type for e in database.embedding_strategies))
                    )
        return list(dict.fromkeys(found))

    @asynccontextmanager
    async def admitting(self) -> AsyncIterator[None]:
        """Know the stored keys and users inside: before anything else runs, because it decides where the server may listen."""
        await self.keys.start()
        async with self.accounts.running():
            yield

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Start what works in the background; stop it in reverse at the end."""
        async with AsyncExitStack() as stack:
            await self.files.prepare()
            await self.events.start()
            stack.push_async_callback(self.events.close)
            await self.chat.start()
            stack.push_async_callback(self.chat.close)
            await stack.enter_async_context(self.stores.running())
            await stack.enter_async_context(self.tasks.running())
            await stack.enter_async_context(self.datasets.running())
            await stack.enter_async_context(self.gateway.running())
            await stack.enter_async_context(self.uploaded.running())
            yield
