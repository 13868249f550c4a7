"""Project chat in OpenAI's format, and its sessions.

Fields of the request that are not listed here are forwarded to the provider as they are, because that is what clients of
gateways expect (``guided_json``, ``chat_template_kwargs`` …); a field that is null counts as absent. The fields that
would lead paddock elsewhere (base_url, api_base, api_key) are refused.

Streams carry OpenAI's events and end with ``data: [DONE]``. An error after the first event is an event
``data: {"error": {…}}`` without [DONE]. Reasoning arrives as ``delta.reasoning_content``, also when the model wrote it
between ``<think>`` tags. With `include_sources` the first event is a chunk with an empty delta and a list ``sources``.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Annotated, Literal

import msgspec

from paddock.contracts.base import Context, In, Json, Name, Reply, endpoint
from paddock.contracts.projects import ProjectPath
from paddock.contracts.providers import Passage
from paddock.errors import (
    BadName,
    BadRequest,
    Conflict,
    DatabaseNotFound,
    FieldError,
    ModelNotFound,
    ProjectNotFound,
    ProviderUnavailable,
    SessionNotFound,
    StrategyNotFound,
    UpstreamError,
    UpstreamTimeout,
    ValidationFailed,
)

Meta = msgspec.Meta
Penalty = Annotated[float, Meta(ge=-2, le=2)]
Share = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=1)]
Object = dict[str, Json]
REFUSED = ("base_url", "api_base", "api_key")


class ChatPath(ProjectPath, frozen=True, kw_only=True):
    """A project, and the session: a blank or missing X-Session-ID begins a new one; X-No-Session, whatever its value,
    asks for none."""

    session_id: Annotated[str | None, In("X-Session-ID")] = None
    no_session: Annotated[str | None, In("X-No-Session")] = None


class SessionPath(ProjectPath, frozen=True, kw_only=True):
    """One session of a project."""

    session_id: Name


class SessionListPath(ProjectPath, frozen=True, kw_only=True):
    """All sessions of a project."""


class ChatMessage(msgspec.Struct, kw_only=True):
    """One message. Content is text or OpenAI's parts (text, image_url, …); further fields pass unchanged."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[Object] | None = None
    name: str | None = None
    tool_calls: list[Object] | None = None
    tool_call_id: str | None = None


class ChatRequest(msgspec.Struct, kw_only=True, dict=True):
    """A chat completion.

    `model` is a name of the project's models, by default its default one. Every other field of OpenAI's, and every field
    that is not listed, goes to the provider; the model's ``model_api_parameters`` fill in what is absent.

    Retrieval is on when the project has a database, unless the model or the request says otherwise; naming `database`,
    `rag_retrieval_strategy` or `rag_queries` switches it on. `rag_queries` replace the last user message as what is
    searched for: they run at once, and their chunks are merged, best first, cut to `rag_top_k`.

    `variables` fill ``{{name}}`` and ``{{name | default}}`` in the project's prompts and tools. `think` asks for
    reasoning of at most `thinking_budget` tokens besides `max_tokens`. `n_ctx`, `auto_truncate` and
    `truncation_strategy` are for providers that run the model themselves; the others refuse them by name.
    """

    messages: Annotated[list[ChatMessage], Meta(min_length=1, max_length=10_000)]
    model: str | None = None
    stream: bool | None = None
    stream_options: Object | None = None

    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Share | None = None
    top_k: int | None = None
    min_p: Share | None = None
    typical_p: Share | None = None
    repeat_penalty: Annotated[float, Meta(ge=0)] | None = None
    repetition_penalty: Annotated[float, Meta(ge=0)] | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    max_tokens: Count | None = None
    max_completion_tokens: Count | None = None
    n: Annotated[int, Meta(ge=1, le=128)] | None = None
    logit_bias: dict[str, float] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    response_format: Object | None = None
    tools: list[Object] | None = None
    tool_choice: str | Object | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: str | None = None
    metadata: Object | None = None
    user: str | None = None

    rag_enabled: bool | None = None
    database: str | None = None
    rag_retrieval_strategy: str | None = None
    rag_top_k: Annotated[int, Meta(ge=1, le=1000)] | None = None
    rag_score_threshold: Share | None = None
    rag_queries: Annotated[list[Annotated[str, Meta(max_length=100_000)]], Meta(max_length=20)] | None = None
    include_sources: bool | None = None
    sources_limit: Annotated[int, Meta(ge=1, le=50)] | None = None

    think: bool | None = None
    thinking_budget: Count | None = None
    n_ctx: Count | None = None
    auto_truncate: bool | None = None
    truncation_strategy: str | None = None
    variables: Object | None = None

    @classmethod
    def decode(cls, body: bytes) -> ChatRequest:
        """The request with all its fields; `given` has those that are not listed too."""
        fields = msgspec.json.decode(body)
        request = msgspec.convert(fields, cls, strict=True)
        refused = [name for name in REFUSED if name in fields]
        if refused:
            reason = "where a model runs is the project's to say: set it in llamafarm.yaml"
            raise ValidationFailed.of([FieldError(name, reason) for name in refused])
        request.__dict__["given"] = {name: value for name, value in fields.items() if value is not None}
        return request

    @property
    def given(self) -> dict[str, Json]:
        """What the request says, as plain values without nulls."""
        found: dict[str, Json] | None = self.__dict__.get("given")
        if found is None:
            fields = msgspec.to_builtins(self)
            found = self.__dict__["given"] = {name: value for name, value in fields.items() if value is not None}
            for message in found["messages"]:
                for name in [name for name, value in message.items() if value is None and name != "content"]:
                    del message[name]
        return found


class Thinking(msgspec.Struct, kw_only=True):
    """What the model thought before it answered; tokens are null when the provider does not count them."""

    content: str
    tokens: int | None


class Choice(msgspec.Struct, kw_only=True):
    """One answer."""

    index: int
    message: ChatMessage
    finish_reason: str | None


class ChatCompletion(msgspec.Struct, kw_only=True):
    """The reply without streaming, as the provider sent it. `thinking` is there when the model reasoned, `sources`
    when they were asked for; `number` is the [n] of citations."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[Choice]
    usage: Object | None = None
    thinking: Thinking | None = None
    sources: list[Passage] | None = None


class ChatHistory(msgspec.Struct, kw_only=True):
    """The messages of a session, oldest first: what was asked and answered, without prompts and retrieved text."""

    messages: list[Object]


class SessionDeleted(msgspec.Struct, kw_only=True):
    """One session is gone."""

    message: str


class SessionsDeleted(msgspec.Struct, kw_only=True):
    """How many sessions are gone."""

    message: str
    count: int


@endpoint(
    "POST",
    "/v1/projects/{namespace}/{project}/chat/completions",
    access="infer",
    api="chat",
    kind="reply",
    tags=("chat",),
    reply=ChatCompletion,
    raises=(
        BadName,
        BadRequest,
        ProjectNotFound,
        ModelNotFound,
        DatabaseNotFound,
        StrategyNotFound,
        Conflict,
        ValidationFailed,
        UpstreamError,
        ProviderUnavailable,
        UpstreamTimeout,
    ),
)
def chat_completions(ctx: Context, params: ChatPath, data: ChatRequest) -> Awaitable[Reply]:
    """Answer. In a session the server adds its history, so send only what is new; X-Session-ID in the reply names it.

    A turn is stored whole after it ended well; one that fails or is cancelled leaves the session as it was. Two requests
    of one session run one after the other. A session that nobody used for ``chat.session_ttl`` seconds starts empty.
    """


@endpoint(
    "GET",
    "/v1/projects/{namespace}/{project}/chat/sessions/{session_id}/history",
    access="read",
    tags=("chat",),
    raises=(BadName, ProjectNotFound, SessionNotFound),
)
def chat_history_get(ctx: Context, params: SessionPath) -> Awaitable[ChatHistory]:
    """Return what was said in a session. Changes nothing."""


@endpoint(
    "DELETE",
    "/v1/projects/{namespace}/{project}/chat/sessions/{session_id}",
    access="write",
    tags=("chat",),
    raises=(BadName, ProjectNotFound, SessionNotFound),
)
def chat_session_delete(ctx: Context, params: SessionPath) -> Awaitable[SessionDeleted]:
    """Delete a session. A turn that is running in it is answered, but no longer stored."""


@endpoint(
    "DELETE",
    "/v1/projects/{namespace}/{project}/chat/sessions",
    access="write",
    tags=("chat",),
    raises=(BadName, ProjectNotFound),
)
def chat_sessions_delete(ctx: Context, params: SessionListPath) -> Awaitable[SessionsDeleted]:
    """Delete all sessions of a project, as `chat_session_delete` does one. Idempotent."""
