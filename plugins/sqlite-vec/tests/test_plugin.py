"""Type names, configs, the plugin's hooks, files on disk."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from paddock_sqlite_vec import SqliteVecSettings, plugin
from paddock_sqlite_vec.provider import SqliteVecProvider
from paddock_sqlite_vec.schema import FILE_NAME
from sqlite_vec_kit import DIMENSION, FAST, PLAIN, content, fill, opened

from paddock.contracts.providers import Environment
from paddock.errors import ProviderUnavailable, ValidationFailed
from paddock.testing.host import MemoryHost


@pytest.fixture
def provider() -> SqliteVecProvider:
    return SqliteVecProvider(SqliteVecSettings())


def test_the_plugin_declares_its_settings_and_its_store(tmp_path: Path) -> None:
    assert plugin.paddock_settings() == ("sqlite_vec", SqliteVecSettings)
    env = Environment(SqliteVecSettings(), tmp_path, http=None, host=MemoryHost(), hub_cache=tmp_path)  # type: ignore[arg-type]  # a store reaches nobody
    (store,) = plugin.paddock_vector_stores(env)
    assert [declared.name for declared in store.types] == ["SqliteVecStore", "ChromaStore", "QdrantStore", "FAISSStore"]


def test_importing_the_plugin_imports_nothing_heavy() -> None:
    code = "import sys, paddock_sqlite_vec.provider; print(*{'numpy', 'usearch', 'tantivy', 'sqlite_vec'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""


@pytest.mark.parametrize(
    ("type_name", "key"),
    [
        ("SqliteVecStore", "metric"),
        ("SqliteVecStore", "distance_function"),
        ("SqliteVecStore", "distance_metric"),
        ("SqliteVecStore", "distance"),
        ("ChromaStore", "distance_function"),
        ("ChromaStore", "distance_metric"),
        ("QdrantStore", "distance"),
        ("FAISSStore", "metric"),
    ],
)
@pytest.mark.parametrize(
    ("spelling", "metric"),
    [
        ("cosine", "cosine"),
        ("Cosine", "cosine"),
        ("l2", "l2"),
        ("L2", "l2"),
        ("Euclid", "l2"),
        ("euclidean", "l2"),
        ("ip", "dot"),
        ("IP", "dot"),
        ("Dot", "dot"),
        ("dot", "dot"),
        ("l1", "l1"),
        ("manhattan", "l1"),
    ],
)
def test_every_spelling_of_a_metric_is_known(
    provider: SqliteVecProvider, type_name: str, key: str, spelling: str, metric: str
) -> None:
    assert provider.metric(provider.configure(type_name, {key: spelling}).config) == metric


@pytest.mark.parametrize(
    ("type_name", "raw", "warned"),
    [
        ("SqliteVecStore", {}, []),
        ("SqliteVecStore", {"collection_name": "x", "dimension": 8, "enable_deduplication": True}, []),
        ("ChromaStore", {"host": None, "port": 8000, "distance_function": "l2"}, ["host", "port"]),
        (
            "ChromaStore",
            {"embedding_function": None, "persist_directory": "./db"},
            ["embedding_function", "persist_directory"],
        ),
        ("ChromaStore", {"enable_deduplication": False, "embedding_dimension": 768}, ["enable_deduplication"]),
        ("QdrantStore", {"host": "h", "port": 1, "grpc_port": 2, "api_key": "k", "on_disk": True, "vector_size": 4}, 5),
        ("FAISSStore", {"dimension": 4, "index_type": "HNSW", "nlist": 1, "nprobe": 1, "use_gpu": False}, 4),
    ],
)
def test_documented_keys_are_honoured_or_warned_about(
    provider: SqliteVecProvider, type_name: str, raw: Mapping[str, Any], warned: list[str] | int
) -> None:
    warnings = provider.configure(type_name, raw).warnings
    if isinstance(warned, int):
        assert len(warnings) == warned
    else:
        assert [warning.partition(":")[0] for warning in warnings] == warned


@pytest.mark.parametrize(
    ("type_name", "raw", "named"),
    [
        ("SqliteVecStore", {"nonsense": 1}, "nonsense"),
        ("ChromaStore", {"distance_function": "hamming"}, "distance_function"),
        ("ChromaStore", {"distance_function": "l2", "distance_metric": "ip"}, "distance_metric"),
        ("SqliteVecStore", {"dimension": 8, "vector_size": 9}, "vector_size"),
        ("FAISSStore", {"dimension": 0}, "dimension"),
        ("QdrantStore", {"vector_size": 100_000}, "vector_size"),
    ],
)
def test_what_cant_be_honoured_is_refused_by_name(
    provider: SqliteVecProvider, type_name: str, raw: Mapping[str, Any], named: str
) -> None:
    with pytest.raises(ValidationFailed) as caught:
        provider.configure(type_name, raw)
    assert named in [error.field for error in caught.value.errors]


async def test_a_dimension_in_the_config_is_checked(tmp_path: Path) -> None:
    async with opened(tmp_path, vector_size=DIMENSION + 1) as store:
        with pytest.raises(ValidationFailed, match="config says dimension"):
            await fill(store, range(1))
        assert (await store.stats()).documents == 0


async def test_the_collection_name_is_shown(tmp_path: Path) -> None:
    async with opened(tmp_path, collection_name="papers") as store:
        assert (await store.stats()).indexes["collection_name"] == "papers"


async def test_a_chunk_id_of_another_file_is_refused(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await fill(store, range(1))
        file, _, vectors = content(1, 20, "first")
        with pytest.raises(ValidationFailed, match="already in the database"):
            await store.replace(file, content(0, 20, "first")[1], vectors)
        assert await store.find_file(file.dataset, file.file_hash) is None


async def test_a_damaged_file_says_what_to_do(tmp_path: Path, provider: SqliteVecProvider) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"this is no database" * 1000)
    with pytest.raises(ProviderUnavailable, match="restore a backup"):
        await provider.open(tmp_path, provider.configure("SqliteVecStore", {}).config)


@pytest.mark.parametrize("settings", [PLAIN, FAST])
async def test_dropping_leaves_other_files_alone(tmp_path: Path, settings: SqliteVecSettings) -> None:
    folder = tmp_path / "database"
    async with opened(folder, settings) as store:
        await fill(store, range(5))
        await store.level()
    dropper = SqliteVecProvider(settings)
    (folder / "note.txt").write_text("mine")
    await dropper.drop(folder, None)
    assert [path.name for path in folder.iterdir()] == ["note.txt"]
    (folder / "note.txt").unlink()
    await dropper.drop(folder, None)
    assert not folder.exists()


async def test_health_tells_whether_the_indexes_are_there(provider: SqliteVecProvider) -> None:
    health = await provider.health()
    assert (health.status, health.details) == ("healthy", {"fast": True})
