"""What a llamafarm.yaml may say: all its forms, and every error with the path in the file."""

from pathlib import Path

import pytest

from paddock.contracts.base import Json
from paddock.services.core import Core
from paddock.services.project_checks import check, check_file
from tests.projects.looking import MODELS, RAG, Look, fields, good, only

REQUIRED = "{type: HeadingExtractor, required_for: [x]}"


# -- forms


def test_the_current_form_needs_no_more_than_a_runtime(look: Look) -> None:
    config = good(look(MODELS))
    assert (config.version, config.name, config.namespace) == ("v1", "p", "ns")
    assert config.model().provider == "extractive"
    assert config.rag.databases == []


def test_the_legacy_runtime_is_one_model_called_default(look: Look) -> None:
    checked = look(
        "runtime:\n  provider: openai\n  model: gpt\n  base_url: http://127.0.0.1:11434/v1\n  prompt_format: x\n"
    )
    model = good(checked).model("default")
    assert (model.provider, model.model, model.base_url) == ("openai", "gpt", "http://127.0.0.1:11434/v1")
    assert checked.warnings == ["runtime.prompt_format: unknown key, kept without effect"]


def test_errors_of_the_legacy_runtime_name_its_own_keys(look: Look) -> None:
    assert only(look("runtime: {provider: nobody, model: x}"))[0] == "runtime.provider"
    assert only(look("runtime: {provider: openai, model: 5}"))[0] == "runtime.model"


def test_models_may_be_a_mapping_by_name(look: Look) -> None:
    config = good(
        look(
            "runtime:\n  models:\n    fast: {provider: openai, model: m}\n    slow: {provider: ollama, model: n, default: true}\n"
        )
    )
    assert [model.name for model in config.runtime.models] == ["fast", "slow"]
    assert config.model().name == "slow"
    assert only(look("runtime:\n  models:\n    fast: {provider: no, model: m}\n"))[0] == "runtime.models.fast.provider"


def test_default_true_marks_a_model_unless_default_model_names_one(look: Look) -> None:
    models = "models: [{name: a, provider: openai, model: m}, {name: b, provider: openai, model: m, default: true}]"
    assert good(look(f"runtime: {{{models}}}")).model().name == "b"
    assert good(look(f"runtime: {{default_model: a, {models}}}")).model().name == "a"


def test_flat_prompts_become_one_set_that_every_model_gets(look: Look) -> None:
    config = good(look(MODELS + "prompts:\n  - {content: One}\n  - {role: user, content: Two}\n"))
    assert [(one.role, one.content) for one in config.prompt_messages(config.model())] == [
        ("system", "One"),
        ("user", "Two"),
    ]
    assert only(look(MODELS + "prompts:\n  - {content: One}\n  - {content: 2}\n"))[0] == "prompts[1].content"


def test_prompt_sets_are_merged_in_the_order_that_the_model_names_them(look: Look) -> None:
    text = (
        "runtime:\n  models:\n    - {name: m, provider: openai, model: m, prompts: [b, a]}\n"
        "    - {name: n, provider: openai, model: m}\n"
        "prompts:\n  - {name: a, messages: [{role: system, content: A}]}\n  - {name: b, messages: [{role: user, content: B}]}\n"
    )
    config = good(look(text))
    assert [one.content for one in config.prompt_messages(config.model("m"))] == ["B", "A"]
    assert [one.content for one in config.prompt_messages(config.model("n"))] == ["A", "B"]


COMPONENTS = """\
  components:
    embedding_strategies:
      - {name: shared_e, type: HashingEmbedder}
    retrieval_strategies:
      - {name: shared_r, type: BasicSimilarityStrategy, config: {top_k: 3}}
      - {name: unused, type: BasicSimilarityStrategy}
    parsers:
      - {name: text, type: TextParser}
    defaults: {retrieval_strategy: shared_r}
"""


def test_components_are_put_where_they_are_referred_to(look: Look) -> None:
    text = (
        MODELS
        + "rag:\n"
        + COMPONENTS
        + (
            "  databases:\n    - {name: main, type: ChromaStore, embedding_strategy: shared_e}\n"
            "  data_processing_strategies:\n    - {name: s, parsers: [text, auto, {type: CSVParser}]}\n"
        )
    )
    checked = look(text)
    database = good(checked).database()
    assert database.embedding().type == "HashingEmbedder"
    assert database.retrieval().config == {"top_k": 3}
    assert [parser.type for parser in checked.config.processing("s").parsers] == ["TextParser", "auto", "CSVParser"]  # type: ignore[union-attr]  # it is there
    assert checked.warnings == ["rag.components.retrieval_strategies[1]: nothing refers to it"]


def test_components_may_stand_at_the_top_level(look: Look) -> None:
    text = MODELS + "components:\n  embedding_strategies: [{name: e, type: HashingEmbedder}]\n"
    config = good(look(text + "rag:\n  databases: [{name: main, type: ChromaStore, embedding_strategy: e}]\n"))
    assert config.database("main").embedding("e").type == "HashingEmbedder"


def test_an_error_inside_a_component_names_the_component(look: Look) -> None:
    text = MODELS + "rag:\n  components:\n    embedding_strategies: [{name: e, type: Nothing}]\n"
    checked = look(text + "  databases: [{name: main, type: ChromaStore, embedding_strategy: e}]\n")
    assert only(checked)[0] == "rag.components.embedding_strategies[0].type"


def test_a_reference_to_no_component_lists_the_known_ones(look: Look) -> None:
    checked = look(
        MODELS + "rag:\n" + COMPONENTS + "  databases: [{name: main, type: ChromaStore, embedding_strategy: no}]\n"
    )
    field, reason = only(checked)
    assert field == "rag.databases[0].embedding_strategy"
    assert "known: shared_e" in reason


def test_the_built_in_processing_strategy_is_always_there(look: Look) -> None:
    config = good(look(MODELS + RAG + "datasets: [{name: d, database: main}]\n"))
    strategy = config.processing(config.dataset("d").data_processing_strategy)
    assert [parser.type for parser in strategy.parsers] == ["auto"]
    assert [one.type for one in strategy.extractors] == ["ContentStatisticsExtractor", "HeadingExtractor"]


def test_a_project_may_define_its_own_universal_rag(look: Look) -> None:
    own = "  data_processing_strategies: [{name: universal_rag, parsers: [{type: TextParser}]}]\n"
    assert good(look(MODELS + RAG + own)).processing().parsers[0].type == "TextParser"


def test_what_waits_for_a_plugin_is_kept_with_a_warning(look: Look) -> None:
    text = MODELS + "voice: {enabled: true}\nagents: {}\nnodes: {}\nrouter: {}\nschema: s.py::C\nother: 1\n"
    checked = look(text + "mcp:\n  servers: [{name: fs, transport: stdio, command: npx}]\n")
    config = good(checked)
    assert config.extra["voice"] == {"enabled": True}
    assert [warning.split(":")[0] for warning in checked.warnings] == [
        "voice",
        "agents",
        "nodes",
        "router",
        "schema",
        "other",
        "mcp",
    ]
    assert "wait for their plugin" in checked.warnings[-1]


def test_empty_values_are_absent_ones(look: Look) -> None:
    assert good(look(MODELS + "datasets:\nprompts:\nrag:\nmcp:\n")).datasets == []


# -- errors


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("version: v2\n", "version"),
        ("prompts: [{name: Bad Name, messages: []}]\n", "prompts[0].name"),
        ("prompts: [{name: a, messages: [{role: user}]}]\n", "prompts[0].messages[0].content"),
        ("prompts: 5\n", "prompts"),
        ("datasets: [{name: a b, database: main}]\n", "datasets[0].name"),
        ("datasets: [{name: .., database: main}]\n", "datasets[0].name"),
        ("datasets: [{name: d, database: main, auto_process: perhaps}]\n", "datasets[0].auto_process"),
        ("datasets: [{name: d, database: mian}]\n", "datasets[0].database"),
        (
            "datasets: [{name: d, database: main, data_processing_strategy: no}]\n",
            "datasets[0].data_processing_strategy",
        ),
        ("datasets: [{name: d, database: main}, {name: d, database: main}]\n", "datasets[1].name"),
        ("mcp: {servers: [{name: a, transport: stdio}]}\n", "mcp.servers[0].command"),
        ("mcp: {servers: [{name: a, transport: http}]}\n", "mcp.servers[0].base_url"),
        ("mcp: {servers: [{name: a, transport: pipe}]}\n", "mcp.servers[0].transport"),
        ("mcp: {servers: [{name: a, transport: http, base_url: 'http://10.0.0.1/'}]}\n", "mcp.servers[0].base_url"),
    ],
)
def test_an_error_names_its_path(look: Look, text: str, field: str) -> None:
    assert only(look(MODELS + RAG + text))[0] == field


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ("name: main", "name: Main", "rag.databases[0].name"),
        ("name: main", "name: " + "a" * 51, "rag.databases[0].name"),
        ("type: ChromaStore", "type: NoStore", "rag.databases[0].type"),
        ("type: ChromaStore", "type: ChromaStore\n      extra: 1", "rag.databases[0].extra"),
        (
            "type: ChromaStore",
            "type: ChromaStore\n      config: {colection_name: x}",
            "rag.databases[0].config.colection_name",
        ),
        (
            "type: ChromaStore",
            "default_retrieval_strategy: q\n      type: ChromaStore",
            "rag.databases[0].default_retrieval_strategy",
        ),
        (
            "type: ChromaStore",
            "default_embedding_strategy: q\n      type: ChromaStore",
            "rag.databases[0].default_embedding_strategy",
        ),
        ("HashingEmbedder", "HashEmbedder", "rag.databases[0].embedding_strategies[0].type"),
        (
            "HashingEmbedder}",
            "HashingEmbedder, config: {dimension: x}}",
            "rag.databases[0].embedding_strategies[0].config.dimension",
        ),
        (
            "BasicSimilarityStrategy}",
            "BasicSimilarityStrategy, config: {top_k: x}}",
            "rag.databases[0].retrieval_strategies[0].config.top_k",
        ),
        ("rag:\n", "rag:\n  default_database: no\n", "rag.default_database"),
        ("rag:\n", "rag:\n  more: 1\n", "rag.more"),
        (
            "rag:\n",
            "rag:\n  data_processing_strategies: [{name: s, parsers: []}]\n",
            "rag.data_processing_strategies[0].parsers",
        ),
        ("rag:\n", "rag:\n  data_processing_strategies: [{name: s}]\n", "rag.data_processing_strategies[0].parsers"),
        (
            "rag:\n",
            "rag:\n  data_processing_strategies: [{name: s, parsers: [{type: auto, priority: 1001}]}]\n",
            "rag.data_processing_strategies[0].parsers[0].priority",
        ),
        (
            "rag:\n",
            "rag:\n  data_processing_strategies: [{name: s, parsers: [{type: auto, file_extensions: [md]}]}]\n",
            "rag.data_processing_strategies[0].parsers[0].file_extensions[0]",
        ),
        (
            "rag:\n",
            "rag:\n  data_processing_strategies: [{name: s, parsers: [{type: auto, fallback_parser: NoParser}]}]\n",
            "rag.data_processing_strategies[0].parsers[0].fallback_parser",
        ),
        (
            "rag:\n",
            "rag:\n  data_processing_strategies: [{name: s, parsers: [auto], extractors: [{type: EntityExtractor}]}]\n",
            "rag.data_processing_strategies[0].extractors[0].type",
        ),
        (
            "rag:\n",
            "rag:\n  data_processing_strategies: [{name: s, parsers: [auto], extractors: [" + REQUIRED + "]}]\n",
            "rag.data_processing_strategies[0].extractors[0].required_for[0]",
        ),
    ],
)
def test_an_error_in_rag_names_its_path(look: Look, old: str, new: str, field: str) -> None:
    assert field in fields(look(MODELS + RAG.replace(old, new, 1)))


def test_all_errors_are_told_at_once(look: Look) -> None:
    text = "version: 2\nruntime: {default_model: x, models: [{name: a, provider: no, model: m}, 5]}\n"
    text += "datasets: [{name: d, database: q}]\n"
    assert fields(look(text)) == [
        "version",
        "runtime.models[1]",
        "runtime.default_model",
        "runtime.models[0].provider",
        "datasets[0].database",
    ]


def test_a_missing_runtime_does_not_hide_other_errors(look: Look) -> None:
    assert fields(look("datasets: [{name: d, database: q}]\n")) == ["runtime", "datasets[0].database"]


def test_a_flood_of_errors_is_cut(look: Look) -> None:
    errors = look(MODELS + "datasets: [" + "{}," * 300 + "]").errors
    assert len(errors) == 51
    assert errors[-1].reason == "550 more errors"


def test_an_unknown_key_suggests_the_known_one(look: Look) -> None:
    checked = look(MODELS + RAG.replace("embedding_strategies", "embeding_strategies"))
    assert only(checked) == ("rag.databases[0].embeding_strategies", "unknown key; did you mean embedding_strategies?")


@pytest.mark.parametrize(
    ("type_name", "package"), [("HuggingFaceEmbedder", "paddock-onnx"), ("UniversalEmbedder", "paddock-onnx")]
)
def test_a_type_of_a_missing_plugin_names_the_plugin(look: Look, type_name: str, package: str) -> None:
    assert f"install the plugin {package}" in only(look(MODELS + RAG.replace("HashingEmbedder", type_name)))[1]


def test_a_chat_provider_of_a_missing_plugin_is_an_error(look: Look) -> None:
    field, reason = only(look("runtime: {models: [{name: a, provider: universal, model: m}]}"))
    assert field == "runtime.models[0].provider"
    assert "paddock-llama-server" in reason


RERANKER = "    - {name: reranker, provider: universal, model: cross-encoder/x}\n"


def test_a_cross_encoder_and_its_model_are_accepted_before_a_reranker_is_there(look: Look) -> None:
    cross = "{name: r, type: CrossEncoderRerankedStrategy, config: {model_name: reranker}}"
    checked = look(MODELS + RERANKER + RAG.replace("{name: r, type: BasicSimilarityStrategy}", cross))
    assert good(checked).database().retrieval().type == "CrossEncoderRerankedStrategy"
    assert any(warning.startswith("runtime.models[1].provider:") for warning in checked.warnings)
    assert fields(look(MODELS + RERANKER + RAG)) == ["runtime.models[1].provider"]


def test_strategies_inside_strategies_are_checked(look: Look) -> None:
    parts = "[{type: BasicSimilarityStrategy, config: {k: 1}}, {type: No}]"
    inner = f"{{name: r, type: HybridUniversalStrategy, config: {{strategies: {parts}}}}}"
    checked = look(MODELS + RAG.replace("{name: r, type: BasicSimilarityStrategy}", inner))
    where = "rag.databases[0].retrieval_strategies[0].config.strategies"
    assert fields(checked) == [f"{where}[0].config.k", f"{where}[1].type"]
    base = "{name: r, type: CrossEncoderRerankedStrategy, config: {base_strategy: No}}"
    checked = look(MODELS + RAG.replace("{name: r, type: BasicSimilarityStrategy}", base))
    assert only(checked)[0] == "rag.databases[0].retrieval_strategies[0].config.base_strategy"


@pytest.mark.parametrize(
    "value", [None, 5, "x", [], {}, [[]], {"a": {}}, [None], [{"name": 5}], {"models": 5}, {"databases": [5]}]
)
@pytest.mark.parametrize("key", ["version", "prompts", "rag", "datasets", "runtime", "mcp", "components", "voice"])
def test_no_shape_of_a_value_breaks_the_check(core: Core, key: str, value: Json) -> None:
    checked = check({"runtime": {"models": []}, key: value}, "ns", "p", core.plugins, core.settings)
    assert (checked.config is None) == bool(checked.errors)


def test_a_file_is_checked_for_the_command_line(core: Core, tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("name: x\nnamespace: n\n" + MODELS + "voice: {}\n")
    assert check_file(path, core.plugins, core.settings) == ([], ["voice: kept; voice waits for its plugin"])
    path.write_text("name: x\nname: y\n")
    assert check_file(path, core.plugins, core.settings)[0][0].field == "name"
    path.write_text(MODELS)
    assert [error.field for error in check_file(path, core.plugins, core.settings)[0]] == ["name", "namespace"]
    assert "can't be read" in check_file(tmp_path / "none", core.plugins, core.settings)[0][0].reason
