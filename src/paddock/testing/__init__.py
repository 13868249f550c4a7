"""The kit for plugin authors: a conformance suite for each contract, fakes that are real plugins, a real server.

Nothing is imported here; take what you need from its module. The suites need pytest and pytest-asyncio (with
``asyncio_mode = "auto"``), those of chat models openai too: its client is the strictest reader of a reply.

A suite is a class to derive from, with one fixture to override; each of its tests says in its docstring what to look at
when it fails. Something that can't hold for your provider is marked in the subclass with ``xfail(strict=True, reason=…)``.

| you write | suite | module |
|---|---|---|
| a chat model | `ChatModelSuite`; `UpstreamChatSuite` when a server of somebody else answers | `paddock.testing.chat` |
| a model server | `ModelServerSuite`; `UpstreamServerSuite` when it passes requests on | `paddock.testing.serving` |
| an embedder | `EmbedderSuite` | `paddock.testing.embedder` |
| a reranker | `RerankerSuite` | `paddock.testing.reranker` |
| a parser, a chunker | `ParserSuite`, `ChunkerSuite` | `paddock.testing.parser` |
| a metadata extractor | `ExtractorSuite` | `paddock.testing.extractor` |
| a vector store | `VectorStoreSuite` | `paddock.testing.vector_store` |
| a retrieval strategy | `RetrievalStrategySuite` | `paddock.testing.retrieval` |
| an OCR engine | `OcrEngineSuite` | `paddock.testing.ocr` |
| a model source | `ModelSourceSuite` | `paddock.testing.source` |
| a task queue | `TaskQueueSuite` | `paddock.testing.queue` |

| you need | fake | module |
|---|---|---|
| a chat model that says what the test wants | `EchoModel`, `Say` | `paddock.testing.chat` |
| a server that speaks OpenAI's and Ollama's API, and breaks on demand | `FakeUpstream`, `Plan` | `paddock.testing.upstream` |
| a hub of models, whose transfers break on demand | `FakeHub`, `Faults` | `paddock.testing.hub` |
| a model in the cache | `cache_model` | `paddock.testing.hub_cache` |
| a vector store without a file | `MemoryStore`, `MemoryStorePlugin` | `paddock.testing.memory_store` |
| a queue that runs its items at once | `InlineQueue`, `InlineQueuePlugin` | `paddock.testing.queue` |
| what a retrieval strategy gets | `StoreTools` | `paddock.testing.retrieval` |
| a whole paddock on a free port | `running_server`, or the fixture `paddock_server` | `paddock.testing.server` |
| a whole paddock in a process of its own | `server_process` | `paddock.testing.process` |
| bodies that no client would send, what may be answered | `hostile_bodies`, `check_refusal` | `paddock.testing.hostile` |
| commands and what they print | `Shell` | `paddock.testing.shell` |
| the host and the context of a service without a server | `MemoryHost`, `context` | `paddock.testing.host` |
| proof that a suite of your own finds what it looks for | `failures_of` | `paddock.testing.proof` |

Fixtures, known in every pytest run where paddock is installed (`paddock.testing.fixtures`):

- ``paddock_server``: a `RunningServer` with the installed plugins, its data in the test's ``tmp_path``.
- ``paddock_plugins``: override it to add plugin objects by name; one with an installed plugin's name stands in for it.
- ``paddock_settings``: override it to change settings: sections of keys, as in the settings file.
- ``paddock_upstream``: a `FakeUpstream` that runs.
"""
