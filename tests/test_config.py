"""What others ask a checked configuration."""

import pytest

from paddock.contracts.config import (
    DatabaseConfig,
    DatasetConfig,
    EmbeddingStrategyConfig,
    ModelConfig,
    ProjectConfig,
    PromptMessage,
    PromptSet,
    RagConfig,
    RetrievalStrategyConfig,
    RuntimeConfig,
)
from paddock.errors import DatabaseNotFound, DatasetNotFound, ModelNotFound, StrategyNotFound


def model(name: str, *, default: bool = False, prompts: list[str] | None = None) -> ModelConfig:
    return ModelConfig(name=name, provider="p", model="m", default=default, prompts=prompts or [])


def project(
    *models: ModelConfig,
    default_model: str | None = None,
    rag: RagConfig | None = None,
    prompts: list[PromptSet] | None = None,
) -> ProjectConfig:
    return ProjectConfig(
        name="p",
        namespace="ns",
        runtime=RuntimeConfig(models=list(models), default_model=default_model),
        rag=rag or RagConfig(),
        prompts=prompts or [],
        datasets=[DatasetConfig(name="docs", database="a")],
    )


def test_the_default_model_is_the_named_one_else_the_marked_one_else_the_first() -> None:
    assert project(model("a"), model("b", default=True), model("c"), default_model="c").model().name == "c"
    assert project(model("a"), model("b", default=True)).model().name == "b"
    assert project(model("a"), model("b")).model().name == "a"


def test_a_missing_model_lists_near_matches() -> None:
    with pytest.raises(ModelNotFound, match="did you mean assistant"):
        project(model("assistant"), model("x")).model("asistant")
    with pytest.raises(ModelNotFound, match="known: assistant, x"):
        project(model("assistant"), model("x")).model("zzz")
    with pytest.raises(ModelNotFound, match="defines none"):
        project().model()


def test_a_hostile_name_is_shown_short_and_printable() -> None:
    with pytest.raises(ModelNotFound) as caught:
        project(model("a")).model("\x1b[31m\n" + "é" * 10_000)
    assert caught.value.message.isascii()
    assert "\x1b" not in caught.value.message
    assert len(caught.value.message) < 1000


def test_databases_and_strategies_have_defaults() -> None:
    strategies = [
        RetrievalStrategyConfig(name="r1", type="T"),
        RetrievalStrategyConfig(name="r2", type="T", default=True),
    ]
    embedders = [EmbeddingStrategyConfig(name="e1", type="T"), EmbeddingStrategyConfig(name="e2", type="T")]
    first = DatabaseConfig(name="a", type="T", retrieval_strategies=strategies, embedding_strategies=embedders)
    second = DatabaseConfig(
        name="b",
        type="T",
        retrieval_strategies=strategies,
        embedding_strategies=embedders,
        default_retrieval_strategy="r1",
        default_embedding_strategy="e2",
    )
    assert project(rag=RagConfig(databases=[first, second])).database().name == "a"
    config = project(rag=RagConfig(databases=[first, second], default_database="b"))
    assert config.database().name == "b"
    assert config.database("a").retrieval().name == "r2"
    assert config.database("b").retrieval().name == "r1"
    assert config.database("b").retrieval("r2").name == "r2"
    assert config.database("a").embedding().name == "e1"
    assert config.database("b").embedding().name == "e2"


def test_what_is_missing_has_an_error_of_its_own() -> None:
    empty = DatabaseConfig(name="a", type="T")
    config = project(rag=RagConfig(databases=[empty]))
    with pytest.raises(DatabaseNotFound):
        config.database("b")
    with pytest.raises(DatabaseNotFound):
        project().database()
    with pytest.raises(StrategyNotFound):
        empty.retrieval()
    with pytest.raises(StrategyNotFound):
        empty.embedding("x")
    with pytest.raises(StrategyNotFound):
        config.processing("x")
    with pytest.raises(DatasetNotFound, match="did you mean docs"):
        config.dataset("doc")


def test_prompt_sets_are_merged_and_all_of_them_when_none_is_named() -> None:
    prompts = [PromptSet(name=name, messages=[PromptMessage(role="system", content=name)]) for name in "abc"]
    config = project(model("x", prompts=["c", "a"]), model("y"), prompts=prompts)
    assert [one.content for one in config.prompt_messages(config.model("x"))] == ["c", "a"]
    assert [one.content for one in config.prompt_messages(config.model("y"))] == ["a", "b", "c"]
