"""One request on its way: attempts, fallbacks, the reply from its first piece to its end."""

from __future__ import annotations

import asyncio
import random
import sys
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from paddock.contracts.base import Caller, Reply
from paddock.contracts.gateway import GatewayRequest
from paddock.contracts.providers import GatewayCall, HttpReply, Operation
from paddock.errors import BadRequest, PaddockError, ProviderUnavailable, UpstreamError, UpstreamTimeout
from paddock.services.gateway.accounts import Account
from paddock.services.gateway.bodies import named
from paddock.services.gateway.directory import Route
from paddock.services.gateway.failures import by_name, cleaned, error_piece, falls_back, refusal, wait_before_retry
from paddock.services.gateway.limits import Limits
from paddock.services.gateway.usage import is_whole, usage_at_end, usage_of
from paddock.settings import Gateway, Outgoing

WHOLE = 1024 * 1024  # bytes of a reply that are read before it is sent on; a larger one is relayed as it comes
TAIL = 8  # last pieces of a stream that are kept to read its usage
EVENTS = "text/event-stream"
STREAM_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
CHATS: frozenset[Operation] = frozenset({"chat/completions", "completions"})


@dataclass(slots=True, kw_only=True)
class Job:
    """A request to pass on. `headers` are those that go with it."""

    operation: Operation
    data: GatewayRequest
    headers: Mapping[str, str]
    caller: Caller
    request_id: str
    account: Account


class Opened:
    """A reply that has begun: its first pieces, the rest to come, and what has to be left at the end."""

    __slots__ = ("_context", "_limits", "_pieces", "_route", "ended", "media_type", "reply", "server", "start")

    def __init__(
        self, limits: Limits, route: Route, context: AbstractAsyncContextManager[HttpReply], reply: HttpReply
    ) -> None:
        self._limits = limits
        self._route: Route | None = route
        self._context = context
        self._pieces: AsyncIterator[bytes] | None = None
        self.reply = reply
        self.server = route.server.name
        self.media_type = reply.headers.get("Content-Type", "application/json")
        self.start: list[bytes] = []
        self.ended = False

    @property
    def events(self) -> bool:
        """Whether it is a stream of events."""
        return self.media_type.startswith(EVENTS)

    async def begin(self, seconds: float) -> None:
        """Read the first piece of a stream, in so many seconds, or all of a reply that is not too large."""
        self._pieces = aiter(self.reply.chunks())
        if self.events:
            try:
                async with asyncio.timeout(seconds):
                    await self._more()
            except TimeoutError as error:
                raise UpstreamTimeout(f"the answer did not begin in {seconds:g} seconds") from error
            return
        size = 0
        while not self.ended and size <= WHOLE:
            await self._more()
            size += len(self.start[-1])

    async def _more(self) -> None:
        assert self._pieces is not None
        piece = await anext(self._pieces, None)
        self.ended = piece is None
        self.start.append(piece or b"")

    @property
    def rest(self) -> AsyncIterator[bytes]:
        """What comes behind `start`."""
        assert self._pieces is not None
        return self._pieces

    async def close(self) -> None:
        """Leave the server; what still runs there ends. Idempotent."""
        route, self._route = self._route, None
        if route is None:
            return
        try:
            close = getattr(self._pieces, "aclose", None)
            if close is not None:
                await close()
        finally:
            self._limits.models.free(route.qualified)
            await self._context.__aexit__(*sys.exc_info())


class Passing:
    """Passes requests on as the settings say."""

    def __init__(self, settings: Gateway, outgoing: Outgoing, limits: Limits) -> None:
        self._settings = settings
        self._limits = limits
        self._first_token = settings.first_token_timeout or None
        self._timeout = settings.timeout or None
        self._first_piece = outgoing.first_byte_timeout

    async def pass_on(self, job: Job, routes: Sequence[Route]) -> Reply:
        """Answer from the first route that can. Raises what the first one failed with when none can."""
        failure: PaddockError | None = None
        for route in routes:
            try:
                opened = await self._opened(job, route)
            except PaddockError as error:
                failure = failure or error
                if not falls_back(error):
                    if failure is error:
                        raise
                    raise failure from error
                job.account.failed(route.qualified, error)
            else:
                return await self._reply(job, opened)
        assert failure is not None
        raise failure

    async def _opened(self, job: Job, route: Route) -> Opened:
        """One route, tried as often as is safe."""
        call = await self._call(job, route)
        for attempt in range(self._settings.retries):
            try:
                return await self._open(job, route, call)
            except PaddockError as error:
                wait = wait_before_retry(error, attempt, self._settings.longest_wait)
                if wait is None:
                    raise
                job.account.failed(route.qualified, error)
                await asyncio.sleep(wait * random.uniform(1, 1.2))  # noqa: S311  jitter, not a secret
        return await self._open(job, route, call)

    async def _call(self, job: Job, route: Route) -> GatewayCall:
        data = job.data
        if job.operation not in route.server.operations:
            can = ", ".join(f"/v1/{one}" for one in sorted(route.server.operations))
            raise BadRequest(f"{route.server.name} does not serve /v1/{job.operation}; it serves {can}")
        return GatewayCall(
            operation=job.operation,
            model=route.model,
            body=data.raw if route.model == data.model else await named(data.raw, route.model),
            stream=data.stream,
            headers=job.headers,
            caller=job.caller,
            request_id=job.request_id,
            first_token_timeout=(route.server.first_token_timeout or self._first_token) if data.stream else None,
            timeout=route.server.timeout or self._timeout,
        )

    async def _open(self, job: Job, route: Route, call: GatewayCall) -> Opened:
        self._limits.take_model(route.qualified, route.model, job.data.model)
        try:
            context = route.server.serve(call)
            reply = await context.__aenter__()
        except BaseException as error:
            by_name(error, route.server.name)
            self._limits.models.free(route.qualified)
            raise
        opened = Opened(self._limits, route, context, reply)
        try:
            if reply.status >= 300:
                raise await refusal(reply, job.operation, route.server.name)
            if opened.media_type.startswith("text/html"):
                raise UpstreamError(f"{route.server.name} sent a web page instead of JSON: check its base_url", 502)
            await opened.begin(call.first_token_timeout or self._first_piece)
        except BaseException as error:
            by_name(error, route.server.name)
            await opened.close()
            raise
        job.account.began(route.qualified)
        return opened

    async def _reply(self, job: Job, opened: Opened) -> Reply:
        headers = cleaned(opened.reply.headers)
        if not opened.ended or opened.events:
            if opened.events:
                headers |= STREAM_HEADERS
            elif length := opened.reply.headers.get("Content-Length"):
                headers["content-length"] = length
            return Reply(
                body=relayed(job, opened), media_type=opened.media_type, status=opened.reply.status, headers=headers
            )
        await opened.close()
        body = b"".join(opened.start)
        job.account.finish(opened.reply.status, usage_of(body))
        return Reply(body=body, media_type=opened.media_type, status=opened.reply.status, headers=headers)


async def relayed(job: Job, opened: Opened) -> AsyncGenerator[bytes, None]:
    """The pieces as they come. A stream of events that breaks off ends with an event that says so, anything else with a
    broken connection."""
    tail: deque[bytes] = deque(opened.start, maxlen=TAIL)
    keep = tail.append
    try:
        try:
            for piece in opened.start:
                yield piece
            async for piece in opened.rest:
                keep(piece)
                yield piece
            if opened.events and job.operation in CHATS and not is_whole(tail):
                raise ProviderUnavailable("the answer broke off before its end: ask again")
        except PaddockError as error:
            by_name(error, opened.server)
            job.account.fail(error)
            if not opened.events:
                raise
            cut = b"" if not tail or tail[-1].endswith((b"\n\n", b"\r\n\r\n")) else b"\n\n"
            yield cut + error_piece(error, job.operation)
        else:
            job.account.finish(opened.reply.status, usage_at_end(b"".join(tail)))
    except BaseException as error:
        job.account.fail(error)
        raise
    finally:
        await opened.close()
