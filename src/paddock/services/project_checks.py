"""Whether a llamafarm.yaml can be used: its structure, its references, its components, its addresses.

Errors and warnings name the path as it stands in the file. A warning is about something that is kept without effect, an
error about something that would surprise later.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from paddock.contracts.base import Json
from paddock.contracts.config import DatabaseConfig, ModelConfig, ProcessingStrategyConfig, ProjectConfig, RuntimeConfig
from paddock.errors import FieldError, ValidationFailed
from paddock.outgoing import check_url
from paddock.plugins import Plugins, Registry
from paddock.services.project_convert import Converter
from paddock.services.project_legacy import Normal, normalise
from paddock.services.project_secrets import env_problems, outgoing_allow, resolve_env
from paddock.services.project_yaml import parse
from paddock.settings import Settings

MAX_ERRORS = 50
_WAITING = {
    "agents": "kept; agents wait for their plugin",
    "nodes": "kept; nodes wait for their plugin",
    "router": "kept; the router waits for its plugin",
    "schema": "kept, without effect: ask for structured replies with response_format in the request",
    "voice": "kept; voice waits for its plugin",
}
_CROSS_ENCODER = "CrossEncoderRerankedStrategy"


class Checked(msgspec.Struct, kw_only=True):
    """The outcome; `config` is None exactly when there are errors."""

    config: ProjectConfig | None
    errors: list[FieldError]
    warnings: list[str]


def check(raw: dict[str, Json], namespace: str, name: str, plugins: Plugins, settings: Settings) -> Checked:
    """Check a whole file for the project ``namespace/name``. Never raises for what the file says."""
    return _Checker(raw, namespace, name, plugins, settings).run()


def check_file(path: Path, plugins: Plugins, settings: Settings) -> tuple[list[FieldError], list[str]]:
    """Errors and warnings of a file anywhere, for ``paddock conf check``; its own name and namespace count."""
    try:
        raw = parse(path.read_bytes()).raw
    except OSError as error:
        return [FieldError(str(path), f"can't be read: {error.strerror}")], []
    except ValidationFailed as error:
        return error.errors, []
    missing = [FieldError(key, "is required") for key in ("name", "namespace") if raw.get(key) is None]
    names = [str(raw.get(key) or "unnamed") for key in ("namespace", "name")]
    checked = check(raw, names[0], names[1], plugins, settings)
    return missing + checked.errors, checked.warnings


class _Checker:
    def __init__(self, raw: dict[str, Json], namespace: str, name: str, plugins: Plugins, settings: Settings) -> None:
        self._normal: Normal = normalise(raw)
        self._own = {"name": name, "namespace": namespace}
        self._plugins = plugins
        self._settings = settings
        self._allow = outgoing_allow(settings)
        self._convert = Converter()
        self._errors: list[FieldError] = []
        self._warnings: list[str] = []

    def run(self) -> Checked:
        config = self._structure()
        for look in (
            self._top,
            self._models,
            self._prompts,
            self._databases,
            self._processing,
            self._datasets,
            self._mcp,
        ):
            look(config)
        normal = self._normal
        found = normal.errors + [
            FieldError(normal.written(one.field), one.reason) for one in self._convert.errors + self._errors
        ]
        errors = list({(one.field, one.reason): one for one in found}.values())
        if len(errors) > MAX_ERRORS:
            errors = [*errors[:MAX_ERRORS], FieldError("…", f"{len(errors) - MAX_ERRORS} more errors")]
        return Checked(
            config=None if errors else config,
            errors=errors,
            warnings=list(dict.fromkeys(normal.warnings + self._warnings)),
        )

    def _structure(self) -> ProjectConfig:
        values = self._normal.values
        for key, own in self._own.items():
            written = values.get(key)
            if written is not None and written != own:
                self._warn(key, f"{str(written)[:64]!r} differs from the folder's {own!r}, which counts")
        config = self._convert.struct(ProjectConfig, {**values, **self._own}, "")
        if config is None:  # the runtime is missing or wrong, which was noted; go on with the rest
            rest = {key: value for key, value in values.items() if key != "runtime"}
            noted = list(self._convert.errors)
            config = self._convert.struct(ProjectConfig, {**rest, **self._own, "runtime": {}}, "")
            self._convert.errors = noted
        return config or ProjectConfig(
            name=self._own["name"], namespace=self._own["namespace"], runtime=RuntimeConfig()
        )

    def _fail(self, path: str, reason: str) -> None:
        self._errors.append(FieldError(path, reason))

    def _warn(self, path: str, reason: str) -> None:
        self._warnings.append(f"{self._normal.written(path)}: {reason}")

    # -- references

    def _names(self, *keys: str) -> list[str]:
        """The names in a list of the file, those of broken entries included: a reference to one is not wrong too."""
        value: Any = self._normal.values
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        items = value if isinstance(value, list) else []
        return [item["name"] for item in items if isinstance(item, dict) and isinstance(item.get("name"), str)]

    def _refer(self, path: str, name: str | None, known: Iterable[str], what: str) -> None:
        names = list(known)
        if name is not None and name not in names:
            near = difflib.get_close_matches(name, names, 1)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(names) or 'none'}"
            self._fail(path, f"no {what} is called {name[:64]!r}; {hint}")

    def _unique(self, items: Iterable[Any]) -> None:
        seen: set[str] = set()
        for item in items:
            if item.name in seen:
                self._fail(f"{self._convert.path(item)}.name", f"{item.name[:64]!r} is defined twice")
            seen.add(item.name)

    # -- parts

    def _top(self, config: ProjectConfig) -> None:
        for key in config.extra:
            self._warn(key, _WAITING.get(key, "unknown key, kept without effect"))
        for key in config.runtime.extra:
            self._warn(f"runtime.{key}", "unknown key, kept without effect")

    def _prompts(self, config: ProjectConfig) -> None:
        self._unique(config.prompts)

    def _models(self, config: ProjectConfig) -> None:
        runtime = config.runtime
        self._unique(runtime.models)
        self._refer("runtime.default_model", runtime.default_model, self._names("runtime", "models"), "model")
        if runtime.default_model is None and sum(model.default for model in runtime.models) > 1:
            self._warn("runtime.models", "several have default: true; the first of them counts")
        rerankers = {
            strategy.config.get("model_name", "reranker")
            for database in config.rag.databases
            for strategy in database.retrieval_strategies
            if strategy.type == _CROSS_ENCODER
        }
        for model in runtime.models:
            self._model(model, encodes=model.encoder_config is not None or model.name in rerankers)

    def _model(self, model: ModelConfig, *, encodes: bool) -> None:
        path = self._convert.path(model)
        if self._plugins.chat_models.get(model.provider) is None:
            reason = self._plugins.chat_models.unknown(model.provider)
            # A reranker or embedding model is nobody's chat model: it may wait for the plugin that runs it.
            (self._warn if encodes else self._fail)(f"{path}.provider", reason)
        for at, name in enumerate(model.prompts):
            self._refer(f"{path}.prompts[{at}]", name, self._names("prompts"), "prompt set")
        for at, name in enumerate(model.mcp_servers or ()):
            self._refer(f"{path}.mcp_servers[{at}]", name, self._names("mcp", "servers"), "MCP server")
        self._refer(f"{path}.target_database", model.target_database, self._names("rag", "databases"), "database")
        self._unique(model.tools)
        self._environment(
            {
                key: getattr(model, key)
                for key in ("model", "base_url", "api_key", "model_api_parameters", "extra_body")
            },
            path,
        )
        if model.base_url is not None:
            self._address(model.base_url, f"{path}.base_url")
        if model.instructor_mode is not None:
            self._warn(f"{path}.instructor_mode", "without effect: ask for structured replies with response_format")
        if model.keep_loaded:
            self._warn(f"{path}.keep_loaded", "without effect: the provider decides how long a model stays loaded")
        for key in model.extra:
            self._warn(f"{path}.{key}", "unknown key, kept without effect")

    def _databases(self, config: ProjectConfig) -> None:
        self._unique(config.rag.databases)
        self._refer("rag.default_database", config.rag.default_database, self._names("rag", "databases"), "database")
        for database in config.rag.databases:
            path = self._convert.path(database)
            self._component(self._plugins.vector_stores, database.type, database.config, path)
            self._embedding(database, path)
            self._retrieval(database, path)

    def _embedding(self, database: DatabaseConfig, path: str) -> None:
        strategies = database.embedding_strategies
        self._unique(strategies)
        names = [item.name for item in strategies]
        self._refer(
            f"{path}.default_embedding_strategy", database.default_embedding_strategy, names, "embedding strategy"
        )
        if not strategies:
            self._warn(path, "has no embedding strategy: nothing can be stored in it or found")
        for item in strategies:
            where = self._convert.path(item)
            self._component(self._plugins.embedders, item.type, item.config, where)
            if item.condition:
                self._warn(f"{where}.condition", "kept, but conditions are not evaluated")
            if item.priority:
                self._warn(f"{where}.priority", "without effect: name the strategy in default_embedding_strategy")

    def _retrieval(self, database: DatabaseConfig, path: str) -> None:
        strategies = database.retrieval_strategies
        self._unique(strategies)
        names = [item.name for item in strategies]
        self._refer(
            f"{path}.default_retrieval_strategy", database.default_retrieval_strategy, names, "retrieval strategy"
        )
        if database.default_retrieval_strategy is None and sum(item.default for item in strategies) > 1:
            self._warn(f"{path}.retrieval_strategies", "several have default: true; the first of them counts")
        for item in strategies:
            where = self._convert.path(item)
            self._component(self._plugins.retrieval_strategies, item.type, item.config, where)
            for inner in _nested(item.config, f"{where}.config"):
                self._component(self._plugins.retrieval_strategies, inner.type, inner.config, inner.at, inner.config_at)

    def _processing(self, config: ProjectConfig) -> None:
        self._unique(config.rag.data_processing_strategies)
        for strategy in config.rag.data_processing_strategies:
            self._parsers(strategy)
            self._extractors(strategy)

    def _parsers(self, strategy: ProcessingStrategyConfig) -> None:
        for parser in strategy.parsers:
            path = self._convert.path(parser)
            self._component(self._plugins.parsers, parser.type, parser.config, path)
            if parser.fallback_parser and self._plugins.parsers.get(parser.fallback_parser) is None:
                self._fail(f"{path}.fallback_parser", self._plugins.parsers.unknown(parser.fallback_parser))

    def _extractors(self, strategy: ProcessingStrategyConfig) -> None:
        for extractor in strategy.extractors:
            path = self._convert.path(extractor)
            self._component(self._plugins.extractors, extractor.type, extractor.config, path)
            for at, name in enumerate(extractor.required_for or ()):
                self._refer(f"{path}.required_for[{at}]", name, self._names("rag", "databases"), "database")
            if extractor.condition:
                self._warn(f"{path}.condition", "kept, but conditions are not evaluated")

    def _datasets(self, config: ProjectConfig) -> None:
        self._unique(config.datasets)
        strategies = [*self._names("rag", "data_processing_strategies"), *(item.name for item in config.strategies())]
        for dataset in config.datasets:
            path = self._convert.path(dataset)
            self._refer(f"{path}.database", dataset.database, self._names("rag", "databases"), "database")
            strategy = dataset.data_processing_strategy
            self._refer(f"{path}.data_processing_strategy", strategy, strategies, "data processing strategy")
            for key in dataset.extra:
                reason = (
                    "kept without effect: the server itself knows the files" if key == "files" else "unknown key, kept"
                )
                self._warn(f"{path}.{key}", reason)

    def _mcp(self, config: ProjectConfig) -> None:
        self._unique(config.mcp.servers)
        for server in config.mcp.servers:
            path = self._convert.path(server)
            needed = "command" if server.transport == "stdio" else "base_url"
            if not getattr(server, needed):
                self._fail(f"{path}.{needed}", f"is required for the transport {server.transport}")
            self._environment({"env": server.env, "headers": server.headers, "base_url": server.base_url}, path)
            if server.base_url and server.transport != "stdio":
                self._address(server.base_url, f"{path}.base_url")
        if config.mcp.servers:
            self._warn("mcp", "kept; tool servers wait for their plugin")

    # -- components and addresses

    def _component(
        self, registry: Registry[Any], type_name: str, options: dict[str, Json], path: str, config_path: str = ""
    ) -> None:
        """Check one component. `path` is the mapping that holds ``type`` and ``config``, or with `config_path` the type."""
        provider = registry.get(type_name)
        where = config_path or f"{path}.config"
        self._environment(options, where)
        if isinstance(options.get("base_url"), str):
            self._address(options["base_url"], f"{where}.base_url")
        if provider is None:
            self._fail(path if config_path else f"{path}.type", registry.unknown(type_name))
            return
        try:
            configured = provider.configure(type_name, options)
        except ValidationFailed as error:
            for one in error.errors or [FieldError("", error.message)]:
                self._fail(f"{where}.{one.field}".rstrip("."), one.reason)
        else:
            for warning in configured.warnings:
                self._warn(where, warning)

    def _environment(self, value: Json, path: str) -> None:
        for where, text in _texts(value, path):
            for problem in env_problems(text, self._settings):
                self._fail(where, problem)

    def _address(self, url: str, path: str) -> None:
        if "${env:" in url:
            missing = env_problems(url, self._settings, os.environ)
            if missing:
                self._warn(path, "; ".join(missing))
                return
            url = resolve_env(url, self._settings)
        try:
            check_url(url, self._allow, path)
        except ValidationFailed as error:
            self._errors += error.errors


class _Inner(msgspec.Struct, frozen=True):
    """A strategy inside another one's options: where its type stands, the type, its options and where they stand."""

    at: str
    type: str
    config: dict[str, Json]
    config_at: str


def _nested(options: dict[str, Json], path: str) -> Iterator[_Inner]:
    """The strategies that a strategy is composed of, and those that these are composed of."""
    found: list[tuple[Json, Json, str, str]] = []
    listed = options.get("strategies")
    for at, item in enumerate(listed if isinstance(listed, list) else []):
        if isinstance(item, dict):
            where = f"{path}.strategies[{at}]"
            found.append((item.get("type"), item.get("config"), f"{where}.type", f"{where}.config"))
    for key, config in (("base_strategy", "base_strategy_config"), ("reranker_strategy", "reranker_config")):
        found.append((options.get(key), options.get(config), f"{path}.{key}", f"{path}.{config}"))
    for type_name, inner, at_type, at_config in found:
        if isinstance(type_name, str):
            one = _Inner(at_type, type_name, inner if isinstance(inner, dict) else {}, at_config)
            yield one
            yield from _nested(one.config, at_config)


def _texts(value: Json, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _texts(item, f"{path}.{key}")
    elif isinstance(value, list):
        for at, item in enumerate(value):
            yield from _texts(item, f"{path}[{at}]")
