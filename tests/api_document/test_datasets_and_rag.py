"""Datasets and retrieval of the API document."""

from typing import Any

import pytest

P = "http://localhost:8000/v1/projects/my-org/chatbot"
DATASET = {"name": "research_papers", "database": "main_db", "data_processing_strategy": "universal_processor"}
EMBEDDINGS = {"name": "embeddings", "type": "OllamaEmbedder"}
DETAIL = {
    "name": "main_db",
    "type": "ChromaStore",
    "config": {"collection_name": "documents", "distance_function": "cosine"},
    "embedding_strategies": [{"name": "default_embeddings", "type": "HashingEmbedder", "config": {}, "priority": 0}],
    "retrieval_strategies": [
        {"name": "basic_search", "type": "BasicSimilarityStrategy", "config": {}, "default": True}
    ],
    "default_embedding_strategy": "default_embeddings",
    "default_retrieval_strategy": "basic_search",
    "dependent_datasets": [],
}
SUMMARY = {
    "name": "main_db",
    "type": "ChromaStore",
    "is_default": True,
    "embedding_strategies": [
        {"name": "default_embeddings", "type": "OllamaEmbedder", "priority": 0, "is_default": True}
    ],
    "retrieval_strategies": [{"name": "basic_search", "type": "BasicSimilarityStrategy", "is_default": True}],
}


async def test_a_dataset_is_created_listed_and_deleted(client: Any) -> None:
    created = await client.send("POST", "/datasets", DATASET)
    assert created.status == 200
    client.fits(created.json(), {"dataset": {**DATASET, "files": []}})
    assert (await client.send("POST", "/datasets", DATASET)).status == 409
    listed = await client.get("/datasets")
    client.fits(listed, {"total": 1, "datasets": [{**DATASET, "files": []}]})
    assert await client.get("/datasets/") == listed
    assert (await client.get("/datasets?include_extra_details=false"))["datasets"][0]["details"] is None
    deleted = await client.good(f"curl -X DELETE {P}/datasets/research_papers")
    client.fits(deleted, {"dataset": {**DATASET, "files": []}})
    assert (await client.curl(f"curl -X DELETE {P}/datasets/research_papers")).status == 404


async def test_a_dataset_is_created_under_the_path_with_a_slash_too(client: Any) -> None:
    assert (await client.send("POST", "/datasets/", DATASET)).status == 200


async def test_strategies_and_databases_are_listed(client: Any) -> None:
    found = await client.get("/datasets/strategies")
    assert {"universal_processor", "custom_strategy"} <= set(found["data_processing_strategies"])
    assert found["databases"] == ["main_db", "research_db", "fda_db", "old_db"]


async def test_a_file_is_uploaded_processed_listed_and_removed(client: Any) -> None:
    await client.send("POST", "/datasets", DATASET)
    uploaded = await client.good(f'curl -X POST {P}/datasets/research_papers/data \\\n-F "file=@paper1.pdf"')
    client.fits(uploaded, {"filename": "paper1.pdf", "hash": "abc123def456", "processed": False})
    assert (uploaded["skipped"], uploaded["status"], uploaded["processed"]) == (False, "uploaded", False)
    again = await client.good(f'curl -X POST {P}/datasets/research_papers/data \\\n-F "file=@paper1.pdf"')
    assert (again["skipped"], again["hash"]) == (True, uploaded["hash"])
    started = (await client.send("POST", "/datasets/research_papers/actions", {"action_type": "process"})).json()
    assert started["message"] == "Accepted"
    assert started["task_uri"] == f"{client.server.base_url}/v1/projects/my-org/chatbot/tasks/{started['task_id']}"
    assert (await client.finished(started["task_id"]))["state"] == "SUCCESS"
    (found,) = (await client.get("/datasets"))["datasets"]
    assert found["files"] == [uploaded["hash"]]
    file = {"hash": "abc123", "original_filename": "paper1.pdf", "size": 524288, "timestamp": 1677652288.0}
    client.fits(found["details"], {"total_files": 2, "total_size_bytes": 1048576, "file_details": [file]})
    meta = {
        "original_file_name": "a",
        "resolved_file_name": "a",
        "timestamp": 1.0,
        "size": 1,
        "mime_type": "a",
        "hash": "a",
    }
    client.fits(found["details"], {"files_metadata": [meta]})
    client.names["hash"] = uploaded["hash"]
    removed = await client.good(f"curl -X DELETE {P}/datasets/research_papers/data/abc123")
    client.fits(removed, {"file_hash": "abc123", "deleted_chunks": 2})
    assert (await client.curl(f"curl -X DELETE {P}/datasets/research_papers/data/abc123")).status == 404


async def test_a_file_can_be_removed_from_the_disk_too(filled: Any) -> None:
    removed = await filled.good(f'curl -X DELETE "{P}/datasets/research_papers/data/abc123?remove_from_disk=true"')
    assert (removed["file_hash"], removed["removed_from_disk"]) == (filled.names["hash"], True)


async def test_the_alias_ingest_processes(filled: Any) -> None:
    started = await filled.send("POST", "/datasets/research_papers/actions", {"action_type": "ingest"})
    task = await filled.finished(started.json()["task_id"])
    assert task["result"]["skipped_files"] == 1


async def test_a_query_answers_as_printed(filled: Any) -> None:
    body = {"query": "What are the clinical trial requirements?", "database": "main_db", "top_k": 5}
    found = (await filled.send("POST", "/rag/query", body)).json()
    result = {"content": "text", "score": 0.92, "metadata": {"page": None}, "chunk_id": "c", "document_id": "d"}
    printed = {"query": "q", "results": [result], "total_results": 5, "processing_time_ms": 45.2}
    filled.fits(found, {**printed, "retrieval_strategy_used": "hybrid", "database_used": "fda_db"})
    assert (found["query"], found["database_used"], found["total_results"]) == (body["query"], "main_db", 2)
    assert found["retrieval_strategy_used"] == "basic_search"
    assert found["results"][0]["document_id"] == filled.names["hash"]


async def test_the_whole_printed_query_is_understood(filled: Any) -> None:
    body = {
        "query": "What are the clinical trial requirements?",
        "database": "main_db",
        "top_k": 5,
        "score_threshold": 0.1,
        "retrieval_strategy": "hybrid",
        "metadata_filters": {"document_type": "txt"},
    }
    found = (await filled.send("POST", "/rag/query", body)).json()
    assert found["retrieval_strategy_used"] == "hybrid"
    assert all(hit["score"] >= 0.1 and hit["metadata"]["document_type"] == "txt" for hit in found["results"])
    other = (await filled.send("POST", "/rag/query", {**body, "metadata_filters": {"document_type": "pdf"}})).json()
    assert (len(found["results"]) > 0, other["results"]) == (True, [])


async def test_every_field_of_a_query_changes_the_answer(filled: Any) -> None:
    body = {"query": "protocol of a trial", "retrieval_strategy": "hybrid"}
    plain = (await filled.send("POST", "/rag/query", body)).json()
    for change in (
        {"top_k": 1},
        {"score_threshold": 1.0},
        {"metadata_filters": {"filename": "other"}},
        {"max_tokens": 5},
        {"distance_metric": "manhattan"},
        {"hybrid_alpha": 1.0},
        {"query_expansion": True},
        {"retrieval_strategy": "bm25"},
        {"database": "fda_db"},
        {"data_processing_strategy": "custom_strategy"},
    ):
        changed = (await filled.send("POST", "/rag/query", {**body, **change})).json()
        assert changed["results"] != plain["results"], change


async def test_an_optional_field_that_is_null_counts_as_absent(filled: Any) -> None:
    names = (
        "database top_k score_threshold retrieval_strategy metadata_filters distance_metric hybrid_alpha rerank_model"
    )
    nulls = dict.fromkeys((*names.split(), "query_expansion", "max_tokens"))
    plain = (await filled.send("POST", "/rag/query", {"query": "protocol"})).json()
    assert (await filled.send("POST", "/rag/query", {"query": "protocol", **nulls})).json()["results"] == plain[
        "results"
    ]


async def test_what_a_query_cannot_do_is_refused(filled: Any) -> None:
    for fields, status in (
        ({"rerank_model": "reranker"}, 404),
        ({"retrieval_strategy": "CrossEncoderRerankedStrategy"}, 404),
        ({"retrieval_strategy": "nope"}, 404),
        ({"database": "nope"}, 404),
        ({"data_processing_strategy": "nope"}, 404),
        ({"query": " "}, 422),
        ({"top_k": 0}, 422),
        ({"distance_metric": "furlong"}, 422),
        ({"hybrid_alpha": 0.5, "retrieval_strategy": "basic_search"}, 422),
        ({"metadata_filters": {"page": {"near": 3}}}, 422),
        ({"unknown": 1}, 422),
    ):
        reply = await filled.send("POST", "/rag/query", {"query": "x", **fields})
        assert (reply.status, type(reply.json()["detail"])) == (status, str), fields


STRATEGIES = (
    "semantic bm25 hybrid mmr BasicSimilarityStrategy MetadataFilteredStrategy MultiQueryStrategy RerankedStrategy"
    " BM25Retriever HybridRetriever VectorRetriever RerankedRetriever"
)


async def test_a_strategy_answers_to_its_type_and_its_short_name(filled: Any) -> None:
    for name in STRATEGIES.split():
        body = {"query": "protocol of a trial", "retrieval_strategy": name}
        found = (await filled.send("POST", "/rag/query", body)).json()
        assert (found["retrieval_strategy_used"], found["total_results"] > 0) == (name, True)


async def test_databases_are_listed(client: Any) -> None:
    found = await client.get("/rag/databases")
    client.fits(found, {"databases": [SUMMARY], "default_database": "main_db"})
    assert found["default_database"] == "main_db"
    assert [item["is_default"] for item in found["databases"]] == [True, False, False, False]


async def test_a_database_shows_its_configuration_and_what_depends_on_it(filled: Any) -> None:
    found = await filled.get("/rag/databases/main_db")
    filled.fits(found, DETAIL)
    assert (found["default_retrieval_strategy"], found["dependent_datasets"]) == ("basic_search", ["research_papers"])
    assert (await filled.curl(f"curl {P}/rag/databases/nope")).status == 404


async def test_the_printed_databases_are_created(client: Any) -> None:
    long = {
        "name": "new_database",
        "type": "ChromaStore",
        "config": {"collection_name": "my_collection", "distance_function": "cosine"},
        "embedding_strategies": [{**EMBEDDINGS, "config": {"model": "nomic-embed-text", "dimension": 768}}],
        "retrieval_strategies": [
            {"name": "basic_search", "type": "BasicSimilarityStrategy", "config": {"top_k": 10}, "default": True}
        ],
    }
    short = {
        "name": "newer_database",
        "type": "ChromaStore",
        "embedding_strategies": [{**EMBEDDINGS, "config": {"model": "nomic-embed-text"}}],
        "retrieval_strategies": [{"name": "basic", "type": "BasicSimilarityStrategy", "config": {}, "default": True}],
    }
    for body in (long, short):
        created = await client.send("POST", "/rag/databases", body)
        assert created.status == 201
        client.fits(created.json(), {"database": SUMMARY})
        assert created.json()["database"]["is_default"] is False
        assert (await client.send("POST", "/rag/databases", body)).status == 409
    assert (await client.get("/rag/databases/new_database"))["config"] == long["config"]


async def test_a_database_of_an_unknown_type_is_refused_with_the_known_ones(client: Any) -> None:
    reply = await client.send("POST", "/rag/databases", {"name": "x", "type": "ChromeStore"})
    assert (reply.status, "ChromaStore" in reply.json()["detail"]) == (422, True)
    assert reply.json()["errors"][0]["field"].endswith(".type")


async def test_a_database_gets_a_reranking_strategy(client: Any) -> None:
    reranked = {"name": "reranked_search", "type": "CrossEncoderRerankedStrategy"}
    body = {
        "retrieval_strategies": [
            {"name": "basic_search", "type": "BasicSimilarityStrategy", "config": {"top_k": 10}},
            {**reranked, "config": {"model_name": "reranker", "initial_k": 30}},
        ],
        "default_retrieval_strategy": "reranked_search",
    }
    changed = await client.send("PATCH", "/rag/databases/main_db", body)
    assert changed.status == 200, changed.body
    client.fits(changed.json(), DETAIL)
    assert changed.json()["default_retrieval_strategy"] == "reranked_search"
    assert changed.json() == await client.get("/rag/databases/main_db")
    query = await client.send("POST", "/rag/query", {"query": "x"})
    assert (query.status, "paddock models download" in query.json()["detail"]) == (404, True)


async def test_what_a_database_keeps_cannot_be_patched(client: Any) -> None:
    for body, word in (
        ({"name": "other"}, "immutable"),
        ({"type": "QdrantStore"}, "immutable"),
        ({"default_embedding_strategy": "new_default"}, "default_embeddings"),
        ({"default_retrieval_strategy": "nope"}, "basic_search"),
    ):
        reply = await client.send("PATCH", "/rag/databases/main_db", body)
        assert (reply.status, word in reply.json()["detail"]) == (400, True)


async def test_a_changed_metric_counts_at_once_and_the_rest_stays(client: Any) -> None:
    before = await client.get("/rag/databases/main_db")
    changed = (
        await client.send("PATCH", "/rag/databases/main_db", {"config": {"distance_function": "euclidean"}})
    ).json()
    assert changed["config"]["distance_function"] == "euclidean"
    assert changed["embedding_strategies"] == before["embedding_strategies"]
    if changed["task_id"]:
        assert (await client.finished(changed["task_id"]))["state"] == "SUCCESS"
    assert (await client.get("/rag/stats"))["distance_metric"] == "l2"


async def test_a_database_is_deleted_with_or_without_its_data(client: Any) -> None:
    deleted = await client.good(f"curl -X DELETE {P}/rag/databases/old_db")
    assert (deleted["message"], deleted["collection_deleted"]) == ("Database 'old_db' deleted successfully", True)
    client.fits(deleted["database"], {"name": "old_db", "type": "ChromaStore"})
    kept = await client.good(f'curl -X DELETE "{P}/rag/databases/fda_db?delete_collection=false"')
    assert kept["collection_deleted"] is False
    assert (await client.curl(f"curl -X DELETE {P}/rag/databases/old_db")).status == 404


async def test_a_database_with_datasets_is_not_deleted(client: Any) -> None:
    for name in ("dataset1", "dataset2"):
        await client.send("POST", "/datasets", {**DATASET, "name": name})
    reply = await client.curl(f"curl -X DELETE {P}/rag/databases/main_db")
    assert reply.status == 409
    assert reply.json() == {
        "detail": "Cannot delete database 'main_db': 2 dataset(s) depend on it. "
        "Delete or reassign these datasets first: ['dataset1', 'dataset2']"
    }


@pytest.mark.parametrize("query", ["", "?database=main_db"])
async def test_health_and_statistics_of_a_database(filled: Any, query: str) -> None:
    part = {"name": "vector_store", "status": "healthy", "latency": 15.2, "message": "text"}
    printed = {"status": "healthy", "database": "main_db", "last_check": "2024-01-15T10:30:00Z", "issues": None}
    health = await filled.get("/rag/health" + query)
    filled.fits(health, {**printed, "components": {"vector_store": part, "embeddings": part}})
    assert (health["status"], health["database"], health["issues"]) == ("healthy", "main_db", None)
    stats = await filled.get("/rag/stats" + query)
    sizes = {"storage_bytes": 52428800, "collection_size_bytes": 1, "index_size_bytes": 1, "storage_human": "50 MB"}
    counts = {"vector_count": 1250, "document_count": 1, "chunk_count": 1, "embedding_dimension": 768}
    names = {"database": "main_db", "collection_name": "documents", "distance_metric": "cosine", "last_updated": "2024"}
    filled.fits(stats, {**sizes, **counts, **names})
    assert (stats["vector_count"], stats["document_count"], stats["collection_name"]) == (2, 1, "documents")
    assert (await filled.curl(f'curl "{P}/rag/stats?database=nope"')).status == 404


async def test_an_embedder_that_is_down_makes_the_database_unhealthy(client: Any) -> None:
    await client.send(
        "POST", "/rag/databases", {"name": "d", "type": "ChromaStore", "embedding_strategies": [EMBEDDINGS]}
    )
    health = await client.get("/rag/health?database=d")
    assert (health["status"], health["components"]["embeddings"]["status"]) == ("unhealthy", "unhealthy")
    assert health["issues"]


async def test_the_documents_of_a_database_are_listed(filled: Any) -> None:
    found = await filled.get("/rag/databases/main_db/documents")
    printed = {"id": "abc123def456", "filename": "a.pdf", "chunk_count": 45, "size_bytes": 1048576, "parser_used": "P"}
    meta = {"source_dataset": "research_papers"}
    filled.fits(found, [{**printed, "date_ingested": "2024-01-15T10:30:00Z", "metadata": meta}])
    assert (found[0]["id"], found[0]["chunk_count"]) == (filled.names["hash"], 2)
    assert found == await filled.get("/rag/databases/main_db/documents?limit=100")
    assert await filled.get("/rag/databases/main_db/documents?offset=1") == []
    for limit in (0, 1001):
        assert (await filled.curl(f'curl "{P}/rag/databases/main_db/documents?limit={limit}"')).status == 422


async def test_a_preview_shows_the_chunks_and_stores_nothing(filled: Any) -> None:
    body = {"dataset_id": "research_papers", "file_hash": filled.names["hash"], "chunk_size": 60, "chunk_overlap": 10}
    found = (await filled.send("POST", "/rag/databases/main_db/preview", body)).json()
    chunk = {"chunk_index": 0, "content": "a", "start_position": 0, "end_position": 1, "char_count": 1, "word_count": 1}
    words = {"original_text": "a", "filename": "a", "content_type": "a", "parser_used": "a", "chunk_strategy": "a"}
    sizes = {"size_bytes": 1, "chunk_size": 1, "chunk_overlap": 1, "total_chunks": 1, "total_size_with_overlaps": 1}
    means = {"avg_chunk_size": 1.0, "avg_overlap_size": 1.0, "warnings": []}
    filled.fits(found, {"chunks": [{**chunk, "metadata": {}}], **words, **sizes, **means})
    text = found["original_text"]
    assert all(text[item["start_position"] : item["end_position"]] == item["content"] for item in found["chunks"])
    assert (await filled.get("/rag/stats"))["chunk_count"] == 2
    wrong = await filled.send("POST", "/rag/databases/main_db/preview", {**body, "chunk_strategy": "slices"})
    assert (wrong.status, wrong.json()["errors"][0]["field"]) == (422, "chunk_strategy")
