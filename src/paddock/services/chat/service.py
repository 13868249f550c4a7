"""The endpoints of project chat."""

from __future__ import annotations

import contextlib
import sys
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from paddock.contracts.base import Context, Reply, hookimpl
from paddock.contracts.chat import (
    ChatHistory,
    ChatPath,
    ChatRequest,
    SessionDeleted,
    SessionListPath,
    SessionPath,
    SessionsDeleted,
)
from paddock.contracts.config import ProjectConfig
from paddock.contracts.providers import ChatModel, Passage
from paddock.errors import ProjectNotFound
from paddock.services.chat.assembly import Assembled, assemble, new_messages, question_of
from paddock.services.chat.context import Retriever, search, search_of, within
from paddock.services.chat.relay import Relay
from paddock.services.chat.replying import Replied, replied
from paddock.services.chat.sessions import Message, Sessions, Turn
from paddock.services.chat.wire import DONE, tokens_of
from paddock.services.core import Core
from paddock.services.events import Event, EventLog
from paddock.services.project_files import ProjectFiles
from paddock.services.redaction import CLIP, redacted
from paddock.storage import check_name

SOURCES_LIMIT = 10
LOGGED_MESSAGES = 10
STREAM_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


@dataclass(kw_only=True)
class Job:
    """One request, ready to run. `session` is None in stateless mode; `sources` None when they were not asked for."""

    namespace: str
    project: str
    session: str | None
    request: ChatRequest
    assembled: Assembled
    provider: ChatModel
    event: Event
    sources: list[Passage] | None

    @property
    def headers(self) -> dict[str, str]:
        """What the reply's headers say besides its kind."""
        headers = {"X-Session-ID": self.session} if self.session is not None else {}
        if self.assembled.notices:
            headers["X-Paddock-Notice"] = "; ".join(self.assembled.notices)
        return headers


class ChatService:
    """Implements contracts/chat.py. `start` and `close` belong around the time in which it is used."""

    def __init__(self, core: Core, files: ProjectFiles, retriever: Retriever, events: EventLog) -> None:
        self._core = core
        self._files = files
        self._retriever = retriever
        self._events = events
        self.sessions = Sessions(core)

    async def start(self) -> None:
        """Begin to delete expired sessions."""
        await self.sessions.start()

    async def close(self) -> None:
        """Stop it. Idempotent."""
        await self.sessions.close()

    async def forget(self, namespace: str, project: str) -> None:
        """Delete all sessions of a project."""
        await self.sessions.forget(namespace, project)

    # -- chat

    @hookimpl
    async def chat_completions(self, ctx: Context, params: ChatPath, data: ChatRequest) -> Reply:
        """See the contract."""
        session = self._session(params)
        project = await self._files.load(params.namespace, params.project)
        config = project.config or await self._files.config(params.namespace, params.project)
        event = self._events.begin(params.namespace, params.project, "inference", ctx.request_id, project.revision)
        with failing(event):
            job = await self._prepare(config, params, session, data, event)
            if data.stream:
                headers = {**STREAM_HEADERS, **job.headers}
                return Reply(body=self._stream(job), media_type="text/event-stream", headers=headers)
            return await self._whole(job)

    def _session(self, params: ChatPath) -> str | None:
        if params.no_session is not None:
            return None
        given = (params.session_id or "").strip()
        return check_name(given, "session id") if given else str(uuid.uuid4())

    async def _prepare(
        self, config: ProjectConfig, params: ChatPath, session: str | None, request: ChatRequest, event: Event
    ) -> Job:
        model = config.model(request.model)
        provider = self._core.plugins.chat_models.find(model.provider)
        assembled = assemble(config, model, request, self._core.settings)
        question = question_of(assembled.incoming)
        what = search_of(config, model, request, question)
        event.sub("request_received", message_length=len(question), model=model.name, rag_enabled=what is not None)
        if what is not None:
            passages = await search(self._retriever, config, what, event)
            assembled.add_context(within(passages, self._core.settings.chat.rag_context_tokens))
        limit = request.sources_limit or SOURCES_LIMIT
        return Job(
            namespace=params.namespace,
            project=params.project,
            session=session,
            request=request,
            assembled=assembled,
            provider=provider,
            event=event,
            sources=assembled.passages[:limit] if request.include_sources else None,
        )

    async def _whole(self, job: Job) -> Reply:
        async with Answering(self, job) as (turn, pieces):
            body = b"".join([piece async for piece in pieces])
            assembled = job.assembled
            found = replied(body, sources=job.sources, tools=assembled.tool_names, one_call=assembled.one_call)
            await self._keep(job, turn, found.message)
        job.event.sub("llm_inference_complete", finish_reason=found.finish_reason)
        self._finish(job, found)
        return Reply(body=found.body, headers=job.headers)

    async def _stream(self, job: Job) -> AsyncGenerator[bytes, None]:
        assembled = job.assembled
        relay = Relay(
            job.event,
            store=job.session is not None,
            sources=job.sources,
            tools=assembled.tool_names,
            one_call=assembled.one_call,
        )
        collector = relay.collector
        with failing(job.event):
            async with Answering(self, job) as (turn, pieces):
                async with contextlib.aclosing(relay.opening(pieces)) as opening:
                    async for piece in opening:
                        yield piece
                if relay.reads_all:
                    async for piece in pieces:
                        out = relay.feed(piece)
                        if out:
                            yield out
                        relay.check()
                else:
                    keep = relay.keep
                    async for piece in pieces:
                        keep(piece)
                        yield piece
                last = relay.close()
                if last:
                    yield last
                await self._keep(job, turn, collector.message())
            if relay.failed is not None:
                job.event.fail(relay.failed)
                return
            job.event.sub("stream_complete", finish_reason=collector.finish_reason)
            message = collector.message()
            self._finish(
                job, Replied(body=b"", message=message, finish_reason=collector.finish_reason, usage=collector.usage)
            )
            if relay.needs_done:
                yield DONE

    def ask(self, job: Job, turn: Turn | None) -> AsyncIterator[bytes]:
        """Call the provider with the history of the session."""
        assembled = job.assembled
        history: list[Message] = turn.history if turn is not None else []
        if history:
            assembled.incoming = new_messages(history, assembled.incoming)
        call = assembled.call(history, job.request, self._core.settings)
        job.event.sub("llm_inference_start", provider=assembled.model.provider, model=assembled.model.model)
        return job.provider.chat(call)

    async def _keep(self, job: Job, turn: Turn | None, message: Message) -> None:
        if turn is None:
            return
        try:
            await self._files.load(job.namespace, job.project)
        except ProjectNotFound:  # deleted in the meantime: a new project of that name must not find this turn
            return
        said = [one for one in job.assembled.incoming if one["role"] not in ("system", "developer")]
        await turn.keep([*said, message])

    def _finish(self, job: Job, found: Replied) -> None:
        model, request = job.assembled.model, job.request
        job.event.finish(
            model=model.model,
            model_name=model.name,
            provider=model.provider,
            stream=bool(request.stream),
            session_id=job.session,
            messages=[_logged(message) for message in request.given["messages"][-LOGGED_MESSAGES:]],
            response={**found.message, "finish_reason": found.finish_reason},
            tokens=tokens_of(found.usage),
            chunks=len(job.assembled.passages),
        )

    # -- sessions

    @hookimpl
    async def chat_history_get(self, ctx: Context, params: SessionPath) -> ChatHistory:
        """See the contract."""
        await self._known(params)
        return ChatHistory(messages=await self.sessions.history(params.namespace, params.project, params.session_id))

    @hookimpl
    async def chat_session_delete(self, ctx: Context, params: SessionPath) -> SessionDeleted:
        """See the contract."""
        await self._known(params)
        await self.sessions.delete(params.namespace, params.project, params.session_id)
        return SessionDeleted(message=f"Session {params.session_id} deleted")

    @hookimpl
    async def chat_sessions_delete(self, ctx: Context, params: SessionListPath) -> SessionsDeleted:
        """See the contract."""
        await self._files.load(params.namespace, params.project)
        count = await self.sessions.forget(params.namespace, params.project)
        return SessionsDeleted(message=f"Deleted {count} session(s)", count=count)

    async def _known(self, params: SessionPath) -> None:
        await self._files.load(params.namespace, params.project)
        check_name(params.session_id, "session id")


def _logged(message: Message) -> Message:
    """A message for the event log, cut here when it is large: the log should not hold on to images."""
    content = message.get("content")
    return message if isinstance(content, str) and len(content) <= CLIP else redacted(message)


class Answering:
    """Holds the session, if there is one, and calls the provider; at the end cancels what still runs upstream."""

    __slots__ = ("_job", "_pieces", "_service", "_turn")

    def __init__(self, service: ChatService, job: Job) -> None:
        self._service = service
        self._job = job
        self._turn: AbstractAsyncContextManager[Turn] | None = None
        self._pieces: AsyncIterator[bytes] | None = None

    async def __aenter__(self) -> tuple[Turn | None, AsyncIterator[bytes]]:
        job = self._job
        turn = None
        if job.session is not None:
            held = self._service.sessions.turn(job.namespace, job.project, job.session)
            turn = await held.__aenter__()
            self._turn = held
        try:
            self._pieces = self._service.ask(job, turn)
        except BaseException:
            await self.__aexit__(*sys.exc_info())
            raise
        return turn, self._pieces

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            close = getattr(self._pieces, "aclose", None)
            if close is not None:
                await close()
        finally:
            if self._turn is not None:
                await self._turn.__aexit__(kind, error, trace)


class failing:  # noqa: N801  used like a function
    """Ends the event badly when the block does, cancelled or closed early included."""

    __slots__ = ("_event",)

    def __init__(self, event: Event) -> None:
        self._event = event

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        if error is None:
            return
        left = not isinstance(error, Exception)  # cancelled, or the stream was closed
        self._event.fail("the client left, or the server stopped, before the answer was whole" if left else error)
