"""Speaking to a hub: a repository's files, their bytes, redirects to its CDN, its errors as ours.

The credential goes to the origin of the setting ``hub.endpoint`` and nowhere else. Redirects are followed over at most
`HOPS` steps: to the endpoint itself, or to the hosts that ``hub.cdn_hosts`` names. The core's client checks every address.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from fnmatch import fnmatchcase
from urllib.parse import quote, urljoin, urlsplit

import msgspec

from paddock.contracts.providers import HttpClient, HttpReply
from paddock.errors import (
    ModelNotFound,
    PaddockError,
    ProviderUnavailable,
    RateLimited,
    UpstreamError,
    ValidationFailed,
)
from paddock_hub.settings import HubSettings

HOPS = 4
INFO_BYTES = 32 * 1024 * 1024  # of a repository's description
DAY = 24 * 3600.0
PATIENCE = 30.0  # seconds that a hub may ask us to wait
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


class Lfs(msgspec.Struct, frozen=True):
    """A large file: its sha256 and size."""

    sha256: str
    size: int


class Sibling(msgspec.Struct, frozen=True, rename={"blob_id": "blobId"}):
    """A file of a repository as the hub describes it; `blob_id` is its git sha1."""

    rfilename: str
    size: int | None = None
    blob_id: str | None = None
    lfs: Lfs | None = None


class RepoInfo(msgspec.Struct, frozen=True):
    """A repository at a commit."""

    sha: str
    siblings: list[Sibling] = []


class Bytes(msgspec.Struct, frozen=True):
    """A file's bytes that arrive; `etag` and `size` as the hub itself (not its CDN) told them, None if it did not."""

    reply: HttpReply
    etag: str | None
    size: int | None


class Hub:
    """One hub, for one token."""

    def __init__(self, http: HttpClient, settings: HubSettings) -> None:
        self._http = http
        self._settings = settings
        self._base = settings.endpoint.rstrip("/")
        self._origin = origin(self._base)
        self._token = settings.token.strip()

    @property
    def where(self) -> str:
        """The endpoint's host, for messages."""
        return self._origin[1]

    async def info(self, repo: str) -> RepoInfo:
        """A repository's commit and files. Raises ModelNotFound, RateLimited, UpstreamError, ProviderUnavailable."""
        url = f"{self._base}/api/models/{quote(repo)}/revision/main?blobs=true"
        for attempt in range(self._settings.retries + 1):
            async with self._get(url, {}) as got:
                wait = asked_to_wait(got.reply)
                if wait is None or wait > PATIENCE or attempt == self._settings.retries:
                    self._refused(got.reply, repo)
                    return self._described(await self._whole(got.reply))
            await asyncio.sleep(wait)
        raise AssertionError("the last attempt returns or raises")

    async def _whole(self, reply: HttpReply) -> bytes:
        try:
            async with asyncio.timeout(self._settings.stall_timeout):
                return await reply.read(INFO_BYTES)
        except TimeoutError as error:
            raise ProviderUnavailable(f"{self.where} stalled: try again later") from error

    def _described(self, body: bytes) -> RepoInfo:
        try:
            return msgspec.json.decode(body, type=RepoInfo)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise UpstreamError(f"{self.where} does not answer like a hub: check hub.endpoint", 502) from error

    @asynccontextmanager
    async def bytes_of(self, repo: str, commit: str, name: str, start: int) -> AsyncIterator[Bytes]:
        """A file's bytes from `start` on: status 200 (all of them), 206 or 416. Raises as `info`."""
        url = f"{self._base}/{quote(repo)}/resolve/{commit}/{quote(name, safe='/')}"
        async with self._get(url, {"Range": f"bytes={start}-"} if start else {}) as got:
            if got.reply.status != 416:
                self._refused(got.reply, repo)
            yield got

    @asynccontextmanager
    async def _get(self, url: str, headers: Mapping[str, str]) -> AsyncIterator[Bytes]:
        etag: str | None = None
        size: int | None = None
        for _ in range(HOPS + 1):
            async with AsyncExitStack() as stack:
                reply = await stack.enter_async_context(self._send(url, headers))
                if origin(url) == self._origin:
                    etag = etag or linked(reply)
                    size = size if size is not None else number(reply.headers.get("X-Linked-Size"))
                if reply.status not in _REDIRECTS:
                    yield Bytes(reply, etag, size)
                    return
                url = self._next(url, reply.headers.get("Location", ""))
        raise UpstreamError(f"{self.where} redirects more than {HOPS} times: check hub.endpoint", 502)

    @asynccontextmanager
    async def _send(self, url: str, headers: Mapping[str, str]) -> AsyncIterator[HttpReply]:
        own = origin(url) == self._origin
        sent = {**headers, "Authorization": f"Bearer {self._token}"} if own and self._token else headers
        try:
            request = self._http.send(
                "GET", url, headers=sent, timeout=DAY, first_byte_timeout=self._settings.stall_timeout
            )
            stack = AsyncExitStack()
            reply = await stack.enter_async_context(request)
        except ValidationFailed as error:
            if own:
                raise
            raise UpstreamError(
                f"{self.where} redirects to an address that is not reached: {error.message}", 502
            ) from error
        async with stack:
            yield reply

    def _next(self, url: str, location: str) -> str:
        """Where a redirect leads. Raises UpstreamError for a host that is neither the endpoint nor its CDN."""
        try:
            target = urljoin(url, location)
        except ValueError:
            target = ""
        scheme, host, port = origin(target)
        if (scheme, host, port) == self._origin:
            return target
        known = any(fnmatchcase(host, one) or fnmatchcase(f"{host}:{port}", one) for one in self._settings.cdn_hosts)
        if not location or not known or (scheme != "https" and self._origin[0] == "https"):
            raise UpstreamError(
                f"{self.where} redirects to {host[:100]!a}: add that host to hub.cdn_hosts to follow it", 502
            )
        return target

    def _refused(self, reply: HttpReply, repo: str) -> None:
        """The table: the hub's error statuses as ours."""
        if reply.status < 300:
            return
        raise self._error(reply, repo)

    def _error(self, reply: HttpReply, repo: str) -> PaddockError:
        code = reply.headers.get("X-Error-Code", "")
        token = "hub.token (HF_TOKEN)"  # noqa: S105  the setting's name
        if reply.status == 429:
            return RateLimited(f"{self.where} asks to wait before the next request", asked_to_wait(reply) or 60)
        if code == "GatedRepo":
            page = f"{self._base}/{repo}"
            return UpstreamError(f"{repo} is gated: accept its conditions on {page} and set {token}", 403)
        if reply.status == 401 and self._token and code != "RepoNotFound":
            return UpstreamError(f"{self.where} does not accept the token: check {token}", 502)
        if reply.status in (401, 404) or code == "RepoNotFound":
            hint = "" if self._token else f"; if it is private, set {token}"
            return ModelNotFound(f"{self.where} has no model {repo}: check the name{hint}")
        if reply.status == 403:
            told = (
                f"{self.where} does not let this token read {repo}: check"
                if self._token
                else f"{repo} is not public: set"
            )
            return UpstreamError(f"{told} {token}", 403)
        if reply.status >= 500:
            return ProviderUnavailable(f"{self.where} answered {reply.status}: try again later")
        return UpstreamError(f"{self.where} answered {reply.status}: check hub.endpoint", 502)


def origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port. Raises UpstreamError for what is no address."""
    try:
        parts = urlsplit(url)
        port = parts.port or {"https": 443, "http": 80}.get(parts.scheme, 0)
        return parts.scheme, (parts.hostname or "").lower(), port
    except ValueError as error:
        raise UpstreamError("the hub redirects to something that is no address: check hub.endpoint", 502) from error


def linked(reply: HttpReply) -> str | None:
    """The hash by which the hub names a file's bytes, or None; a redirect's own ETag is not meant."""
    own = None if reply.status in _REDIRECTS else reply.headers.get("ETag")
    found = reply.headers.get("X-Linked-Etag") or own
    return found.removeprefix("W/").strip('"') if found else None


def number(text: str | None) -> int | None:
    """A header's number, or None."""
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 20 else None


def asked_to_wait(reply: HttpReply) -> float | None:
    """How long a busy hub asks us to wait, in seconds; None when it is not busy."""
    if reply.status not in (429, 503):
        return None
    wait = number(reply.headers.get("Retry-After"))
    return float(wait) if wait is not None else 1.0
