"""From a request and its project to the call of a chat model: model, prompts, tools, defaults, history.

Precedence, weakest first: the model's ``model_api_parameters``, its ``extra_body``, the request.

System prompts, by the model's ``prompts_mode``: ``api_supplement`` (the default) sends the project's, then the caller's;
``api_replace`` sends the caller's instead when there are any; ``config_only`` leaves the caller's out. Tools likewise by
``tools_mode``; a tool of the caller's replaces the project's of the same name. What was left out is named in the reply's
header X-Paddock-Notice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from paddock.builtin.text_model import text_of
from paddock.contracts.base import Json
from paddock.contracts.chat import ChatRequest
from paddock.contracts.config import ModelConfig, ProjectConfig, ToolConfig
from paddock.contracts.providers import ChatCall, Passage
from paddock.services.chat.context import context_text
from paddock.services.chat.templates import Template
from paddock.services.chat.toolprompt import as_text, tools_text, without_calls
from paddock.services.project_secrets import resolve_env
from paddock.settings import Settings

Message = dict[str, Json]

# Fields that are paddock's own; every other one is the provider's.
OWN = frozenset({
    "messages", "model", "stream", "rag_enabled", "database", "rag_retrieval_strategy", "rag_top_k", "rag_score_threshold",
    "rag_queries", "include_sources", "sources_limit", "think", "thinking_budget", "n_ctx", "auto_truncate",
    "truncation_strategy", "variables", "tools", "tool_choice",
})  # fmt: skip
OPTIONS = ("n_ctx", "auto_truncate", "truncation_strategy")
LIMITS = ("max_tokens", "max_completion_tokens")
_SYSTEM = frozenset({"system", "developer"})


@dataclass(kw_only=True)
class Assembled:
    """A request with everything but the session's history. `incoming` is what the caller said, without system messages
    at its start; `tool_names` is set when tool calls have to be read from the text; `notices` are for the caller."""

    model: ModelConfig
    body: dict[str, Json]
    system: list[Message]
    examples: list[Message]
    incoming: list[Message]
    passages: list[Passage] = field(default_factory=list)
    tool_names: frozenset[str] | None = None
    one_call: bool = False
    notices: list[str] = field(default_factory=list)

    def add_context(self, passages: list[Passage]) -> None:
        """Put what was retrieved into the prompt."""
        self.passages = passages
        text = context_text(passages)
        self.system.append({"role": "system", "content": text if self.tool_names is None else without_calls(text)})

    def messages(self, history: Sequence[Message]) -> list[Message]:
        """All messages, in the order in which the model reads them."""
        found = [*joined(self.system), *self.examples, *history, *self.incoming]
        return found if self.tool_names is None else [as_text(message) for message in found]

    def call(self, history: Sequence[Message], request: ChatRequest, settings: Settings) -> ChatCall:
        """The call of the provider. Raises ValidationFailed for an ``${env:NAME}`` that may not be read."""
        model = self.model
        self.body["messages"] = self.messages(history)
        given = request.given
        return ChatCall(
            body=self.body,
            stream=bool(request.stream),
            base_url=resolve_env(model.base_url, settings),
            api_key=resolve_env(model.api_key, settings),
            think=request.think,
            thinking_budget=request.thinking_budget,
            sources=self.passages,
            options={name: given[name] for name in OPTIONS if name in given},
        )


def assemble(config: ProjectConfig, model: ModelConfig, request: ChatRequest, settings: Settings) -> Assembled:
    """Put everything together that does not need the session or retrieval. Raises ValidationFailed."""
    template = Template(request.variables)
    assembled = Assembled(model=model, body=_fields(model, request, settings), system=[], examples=[], incoming=[])
    _prompts(assembled, config, request, template)
    _tools(assembled, request, template)
    return assembled


def _fields(model: ModelConfig, request: ChatRequest, settings: Settings) -> dict[str, Json]:
    given = request.given
    own = {name: value for name, value in given.items() if name not in OWN}
    defaults: dict[str, Json] = {}
    if model.model_api_parameters or model.extra_body:
        defaults = resolve_env({**model.model_api_parameters, **model.extra_body}, settings)
        defaults = {
            name: value for name, value in defaults.items() if value is not None and name not in ("messages", "stream")
        }
        if any(name in own for name in LIMITS):  # two names of one limit
            defaults = {name: value for name, value in defaults.items() if name not in LIMITS}
    return {**defaults, **own, "model": model.model}


def _prompts(assembled: Assembled, config: ProjectConfig, request: ChatRequest, template: Template) -> None:
    given = [_clean(message) for message in request.given["messages"]]
    start = next((at for at, message in enumerate(given) if message["role"] not in _SYSTEM), len(given))
    asked = any(message["role"] in _SYSTEM for message in given)
    configured: list[Message] = []
    for prompt in config.prompt_messages(assembled.model):
        message: Message = {"role": prompt.role, "content": template.text(prompt.content)}
        if prompt.tool_call_id is not None:
            message["tool_call_id"] = prompt.tool_call_id
        (configured if prompt.role in _SYSTEM else assembled.examples).append(message)
    mode = assembled.model.prompts_mode
    if mode == "config_only" and asked:
        given, start = [message for message in given if message["role"] not in _SYSTEM], 0
        assembled.notices.append("the project's prompts_mode config_only leaves out the system messages of requests")
    elif mode == "api_replace" and asked:
        configured = []
    assembled.system = [*configured, *given[:start]]
    assembled.incoming = given[start:]


def _clean(message: Message) -> Message:
    """Without the nulls that clients add when they send an answer back; many servers refuse them."""
    if None not in message.values():
        return message
    return {name: value for name, value in message.items() if value is not None or name == "content"}


def _tools(assembled: Assembled, request: ChatRequest, template: Template) -> None:
    model = assembled.model
    given = request.tools or []
    choice = request.given.get("tool_choice")
    configured: list[Json] = [_nested(tool, template) for tool in model.tools]
    if model.tools_mode == "config_only" and given:
        given = []
        assembled.notices.append("the project's tools_mode config_only leaves out the tools of requests")
    elif model.tools_mode == "api_replace" and given:
        configured = []
    names = {_name(tool) for tool in given}
    tools = [*(tool for tool in configured if _name(tool) not in names), *given]
    if model.tool_call_strategy == "native_api":
        assembled.body |= {"tools": tools} if tools else {}
        assembled.body |= {"tool_choice": choice} if choice is not None else {}
    elif tools and choice != "none":
        assembled.tool_names = frozenset(_name(tool) for tool in tools)
        assembled.one_call = assembled.body.pop("parallel_tool_calls", None) is False
        assembled.system.append({"role": "system", "content": tools_text(tools, choice)})


def _nested(tool: ToolConfig, template: Template) -> Json:
    function = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    return {"type": "function", "function": template.value(function)}


def _name(tool: Json) -> str:
    function = tool.get("function") if isinstance(tool, dict) else None
    return str(function.get("name", "")) if isinstance(function, dict) else ""


def joined(system: Sequence[Message]) -> list[Message]:
    """System messages as one, because many models take only one, at the start. One alone stays as it is, and so do
    those that hold more than text."""
    if len(system) < 2:
        return list(system)
    plain = [message for message in system if _is_text(message.get("content"))]
    texts = [text for message in plain if (text := text_of(message.get("content")))]
    others = [message for message in system if not _is_text(message.get("content"))]
    return [{"role": system[0]["role"], "content": "\n\n".join(texts)}, *others]


def _is_text(content: Json) -> bool:
    return not isinstance(content, list) or all(part.get("type") == "text" for part in content)


def question_of(messages: Sequence[Message]) -> str:
    """The text of the last message of the user."""
    asked = next((message for message in reversed(messages) if message.get("role") == "user"), None)
    return text_of(asked.get("content")) if asked else ""


def new_messages(history: Sequence[Message], incoming: Sequence[Message]) -> list[Message]:
    """What a session does not know yet, for clients that send the whole conversation each time."""
    size = len(history)
    if 0 < size < len(incoming) and all(map(_same, history, incoming)):
        return list(incoming[size:])
    return list(incoming)


def _same(kept: Message, sent: Message) -> bool:
    return all(
        (kept.get(name) or None) == (sent.get(name) or None)
        for name in ("role", "content", "tool_calls", "tool_call_id")
    )
