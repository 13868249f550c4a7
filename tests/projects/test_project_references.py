"""What a llamafarm.yaml refers to outside of itself, and what is said without being an error."""

import pytest

from tests.projects.looking import MODELS, RAG, Look, fields, good, only


@pytest.mark.parametrize(
    "url",
    [
        "http://10.0.0.7/v1",
        "http://169.254.169.254/",
        "http://localhost:9999",
        "http://2130706433/",
        "http://[::ffff:10.0.0.1]/",
    ],
)
def test_an_address_that_is_not_allowed_names_the_path(look: Look, url: str) -> None:
    assert only(look(f"runtime: {{provider: openai, model: m, base_url: '{url}'}}"))[0] == "runtime.base_url"
    checked = look(MODELS + RAG.replace("HashingEmbedder", f"OpenAIEmbedder, config: {{base_url: '{url}'}}"))
    assert "rag.databases[0].embedding_strategies[0].config.base_url" in fields(checked)


def test_a_private_address_that_is_not_allowed_names_the_setting(look: Look) -> None:
    assert "outgoing.allow" in only(look("runtime: {provider: openai, model: m, base_url: 'http://10.0.0.7/v1'}"))[1]


@pytest.mark.parametrize("url", ["https://api.example.com/v1", "http://127.0.0.1:11434", "http://localhost:1234/v1"])
def test_public_and_allowed_addresses_pass(look: Look, url: str) -> None:
    good(look(f"runtime: {{provider: openai, model: m, base_url: '{url}'}}"))


def test_only_listed_environment_variables_may_be_named(look: Look) -> None:
    field, reason = only(look("runtime: {provider: openai, model: m, api_key: '${env:HOME}'}"))
    assert field == "runtime.api_key"
    assert "outgoing.env" in reason
    assert good(
        look("runtime: {provider: openai, model: m, api_key: '${env:PADDOCK_TEST_UNSET}'}")
    ).model().api_key == ("${env:PADDOCK_TEST_UNSET}")
    embedder = RAG.replace("HashingEmbedder", "OpenAIEmbedder, config: {api_key: 'x${env:HOME}'}")
    assert only(look(MODELS + embedder))[0] == "rag.databases[0].embedding_strategies[0].config.api_key"


def test_an_address_from_an_unset_variable_is_a_warning(look: Look) -> None:
    checked = look("runtime: {provider: openai, model: m, base_url: '${env:PADDOCK_TEST_UNSET}'}")
    assert good(checked)
    assert checked.warnings == [
        "runtime.base_url: the environment variable PADDOCK_TEST_UNSET is not set: set it and start paddock again"
    ]


def test_text_of_prompts_is_never_a_reference(look: Look) -> None:
    good(look(MODELS + "prompts: [{name: a, messages: [{role: system, content: 'say ${env:HOME}'}]}]\n"))


def test_options_without_meaning_here_are_warnings_with_their_path(look: Look) -> None:
    store = RAG.replace("type: ChromaStore", "type: ChromaStore\n      config: {host: example.org}")
    assert look(MODELS + store).warnings == ["rag.databases[0].config: host: the store runs inside paddock"]
    extractors = "[{type: KeywordExtractor, config: {max_keywords: 0}}]"
    strategy = f"  data_processing_strategies: [{{name: s, parsers: [auto], extractors: {extractors}}}]\n"
    warnings = look(MODELS + RAG + strategy).warnings
    assert warnings == ["rag.data_processing_strategies[0].extractors[0].config: max_keywords 0 finds nothing"]


def test_several_defaults_are_a_warning_and_the_first_counts(look: Look) -> None:
    one = "{name: r, type: BasicSimilarityStrategy}"
    more = "".join(f"\n        - {{name: {name}, type: HybridRetriever, default: true}}" for name in "xy")
    checked = look(MODELS + RAG.replace(one, one + more))
    assert good(checked).database().retrieval().name == "x"
    assert checked.warnings == [
        "rag.databases[0].retrieval_strategies: several have default: true; the first of them counts"
    ]


def test_a_name_that_differs_from_the_folder_is_a_warning(look: Look) -> None:
    checked = look("name: other\n" + MODELS)
    assert good(checked).name == "p"
    assert "differs from the folder" in checked.warnings[0]
