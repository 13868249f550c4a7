"""A fake hub: a real HTTP server that speaks the Hugging Face hub's protocol, and breaks as a test wants.

::

    async with FakeHub() as hub:
        hub.add("org/name", {"config.json": b"{}", "model.safetensors": b"…"})   # large files: those of LFS_ENDINGS
        hub.faults.cut_after = 1000            # the next transfer breaks off there
        …                                      # talk to hub.endpoint; bytes of large files come from hub.cdn_origin

A file's bytes are served in pieces of `PIECE`. Nothing sleeps: a stalled transfer waits until the client leaves.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal

from aiohttp import web

from paddock.contracts.base import Json
from paddock.contracts.providers import ModelSource, Progress

PIECE = 64 * 1024
LFS_ENDINGS = (".safetensors", ".gguf", ".onnx", ".bin")
_RANGE = re.compile(r"bytes=(\d+)-")


@dataclass(kw_only=True)
class HubRepo:
    """A repository. `private` needs the hub's token, `gated` is refused even with it. `commit` names the current state;
    `claims` changes what its description says of a file (``{"name": {"size": 1}}``)."""

    files: dict[str, bytes]
    commit: str = "c0" * 20
    private: bool = False
    gated: bool = False
    claims: dict[str, dict[str, Json]] = field(default_factory=dict)


@dataclass(kw_only=True)
class Faults:
    """What goes wrong with transfers. Counts of bytes are from a reply's beginning, `times` is how many transfers break.

    `cut_after` drops the connection, `stall_after` sends no more, `hold` keeps every transfer back until it is set,
    `hold_info` every description of a repository.
    `corrupt` changes bytes, `extra` sends more, `ignore_range` sends all, `etag` names other bytes. `status` answers the
    next requests of any kind so, with these headers. `redirect` is where large files are redirected to instead of the CDN.
    """

    cut_after: int | None = None
    stall_after: int | None = None
    times: int = 1
    hold: asyncio.Event | None = None
    hold_info: asyncio.Event | None = None
    corrupt: bool = False
    extra: bool = False
    ignore_range: bool = False
    wrong_range: bool = False
    etag: str | None = None
    status: deque[tuple[int, Mapping[str, str]]] = field(default_factory=deque)
    redirect: str | None = None


@dataclass(kw_only=True)
class HubRequest:
    """A request that arrived, at the hub itself or at its CDN. `gone` is set when the client left before the end."""

    site: Literal["hub", "cdn"]
    method: str
    path: str
    headers: Mapping[str, str]
    gone: asyncio.Event = field(default_factory=asyncio.Event)


class FakeHub:
    """The hub and its CDN, on two ports of 127.0.0.1. Set `token` to know who may read private repositories; `renamed`
    maps old names of repositories to new ones."""

    def __init__(self) -> None:
        self.repos: dict[str, HubRepo] = {}
        self.renamed: dict[str, str] = {}
        self.token = "hf_right"  # noqa: S105  nobody's
        self.faults = Faults()
        self.requests: list[HubRequest] = []
        self._arrived = asyncio.Condition()
        self._runners: list[web.AppRunner] = []
        self.port = 0
        self.cdn_port = 0

    @property
    def endpoint(self) -> str:
        """For the setting ``hub.endpoint``."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def cdn_origin(self) -> str:
        """``host:port`` of the CDN, for ``hub.cdn_hosts`` and ``outgoing.allow``."""
        return f"127.0.0.1:{self.cdn_port}"

    @property
    def allow(self) -> list[str]:
        """The entries for ``outgoing.allow``."""
        return [f"127.0.0.1:{self.port}", self.cdn_origin]

    def settings(self, **hub: Any) -> dict[str, dict[str, Any]]:
        """Sections of settings for a server that uses this hub."""
        own = {"endpoint": self.endpoint, "cdn_hosts": [self.cdn_origin], "offline": False, "retry_delay": 0, **hub}
        return {"hub": own, "outgoing": {"allow": self.allow}}

    def add(self, repo: str, files: Mapping[str, bytes], **given: Any) -> HubRepo:
        """Add a repository, or replace it."""
        self.repos[repo] = HubRepo(files=dict(files), **given)
        return self.repos[repo]

    def transfers(self, name: str = "") -> list[HubRequest]:
        """The requests for files (of that name), redirects to the CDN not counted twice."""
        return [one for one in self.requests if one.site == "hub" and "/resolve/" in one.path and name in one.path]

    async def __aenter__(self) -> FakeHub:
        self.port = await self._listen(self._hub, self.port)
        self.cdn_port = await self._listen(self._cdn, self.cdn_port)
        return self

    async def _listen(self, handler: Any, port: int) -> int:
        app = web.Application()
        app.add_routes([web.get("/{rest:.*}", handler)])
        runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        self._runners.append(runner)
        return int(runner.addresses[0][1])

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Stop listening and drop every connection; the ports stay for another ``async with``."""
        while self._runners:
            await self._runners.pop().cleanup()

    async def request(self, site: Literal["hub", "cdn"], number: int = 0) -> HubRequest:
        """The request of that number (from 0) at the hub itself or its CDN, as soon as it has arrived."""
        async with self._arrived:
            await self._arrived.wait_for(lambda: len(self._at(site)) > number)
        return self._at(site)[number]

    def _at(self, site: Literal["hub", "cdn"]) -> list[HubRequest]:
        return [one for one in self.requests if one.site == site]

    async def _note(self, request: web.Request, site: Literal["hub", "cdn"]) -> HubRequest:
        noted = HubRequest(site=site, method=request.method, path=request.path_qs, headers=request.headers)
        async with self._arrived:
            self.requests.append(noted)
            self._arrived.notify_all()
        return noted

    async def _hub(self, request: web.Request) -> web.StreamResponse:
        noted = await self._note(request, "hub")
        if self.faults.status:
            status, headers = self.faults.status.popleft()
            return web.Response(status=status, headers=headers)
        about = re.fullmatch(
            r"/api/models/(?P<repo>.+?)(?:/(?P<what>revision|tree)/(?P<revision>[^/]+))?", request.path
        )
        if about:
            await self._held(noted)
            return self._about(request, about["repo"], about["what"])
        asked = re.fullmatch(r"/(?P<repo>.+?)/resolve/(?P<revision>[^/]+)/(?P<name>.+)", request.path)
        if asked:
            return await self._resolve(request, noted, asked["repo"], asked["name"])
        return web.Response(status=404)

    async def _held(self, noted: HubRequest) -> None:
        try:
            if self.faults.hold_info is not None:
                await self.faults.hold_info.wait()
        except asyncio.CancelledError:
            noted.gone.set()
            raise

    def _about(self, request: web.Request, name: str, what: str | None) -> web.Response:
        if name in self.renamed:
            return self._moved(request, name)
        repo = self.repos.get(name)
        refused = self._refusal(request, repo)
        if refused is not None or repo is None:
            return refused or web.Response(status=404)
        if what == "tree":
            return web.json_response([_entry(repo, file) for file in repo.files])
        siblings = [_sibling(repo, file) for file in repo.files]
        return web.json_response(
            {"id": name, "modelId": name, "sha": repo.commit, "private": repo.private, "siblings": siblings}
        )

    def _moved(self, request: web.Request, name: str) -> web.Response:
        location = request.path_qs.replace(name, self.renamed[name], 1)
        return web.Response(status=307, headers={"Location": location})

    def _refusal(self, request: web.Request, repo: HubRepo | None) -> web.Response | None:
        """As the real hub answers: without a right token a private repository looks like none."""
        given = request.headers.get("Authorization")
        if given is not None and given != f"Bearer {self.token}":
            return web.Response(status=401, headers={"X-Error-Message": "Invalid credentials"})
        if repo is None or (repo.private and given is None):
            return web.Response(status=404 if given else 401, headers={"X-Error-Code": "RepoNotFound"})
        return web.Response(status=403, headers={"X-Error-Code": "GatedRepo"}) if repo.gated else None

    async def _resolve(self, request: web.Request, noted: HubRequest, name: str, file: str) -> web.StreamResponse:
        if name in self.renamed:
            return self._moved(request, name)
        repo = self.repos.get(name)
        refused = self._refusal(request, repo)
        if refused is not None or repo is None:
            return refused or web.Response(status=404)
        if file not in repo.files:
            return web.Response(status=404, headers={"X-Error-Code": "EntryNotFound"})
        data = repo.files[file]
        etag = self.faults.etag or hash_of(file, data)
        headers = {"X-Repo-Commit": repo.commit, "ETag": f'"{etag}"'}
        if not file.endswith(LFS_ENDINGS):
            return await self._send(request, noted, data, headers)
        headers |= {"X-Linked-Etag": f'"{etag}"', "X-Linked-Size": str(len(data)), "ETag": '"of the redirect"'}
        target = self.faults.redirect or f"http://{self.cdn_origin}/blobs/{name}/{file}?signature=s"
        return web.Response(status=302, headers={**headers, "Location": target})

    async def _cdn(self, request: web.Request) -> web.StreamResponse:
        noted = await self._note(request, "cdn")
        for name, repo in self.repos.items():
            file = request.path.removeprefix(f"/blobs/{name}/")
            if file in repo.files:
                return await self._send(request, noted, repo.files[file], {"ETag": '"of the cdn"'})
        return web.Response(status=404)

    async def _send(
        self, request: web.Request, noted: HubRequest, data: bytes, headers: Mapping[str, str]
    ) -> web.StreamResponse:
        faults = self.faults
        asked = _RANGE.fullmatch(request.headers.get("Range", "")) if not faults.ignore_range else None
        start = int(asked[1]) if asked else 0
        if start >= len(data) > 0:
            return web.Response(status=416, headers={"Content-Range": f"bytes */{len(data)}"})
        reply = web.StreamResponse(status=206 if asked else 200, headers=headers)
        if asked:
            shown = start + 1 if faults.wrong_range else start
            reply.headers["Content-Range"] = f"bytes {shown}-{len(data) - 1}/{len(data)}"
        body = data[start:]
        body = bytes(byte ^ 1 for byte in body) if faults.corrupt else body
        if faults.extra:
            body += b"more"
            reply.enable_chunked_encoding()
        else:
            reply.content_length = len(body)
        await reply.prepare(request)
        if request.method != "HEAD":
            await self._pieces(request, noted, reply, body)
        return reply

    async def _pieces(self, request: web.Request, noted: HubRequest, reply: web.StreamResponse, body: bytes) -> None:
        faults = self.faults
        planned = faults.cut_after if faults.cut_after is not None else faults.stall_after
        breaks = planned is not None and planned < len(body) and faults.times > 0
        limit = planned if planned is not None and breaks else len(body)
        faults.times -= breaks
        try:
            if faults.hold is not None:
                await faults.hold.wait()
            for at in range(0, min(limit, len(body)), PIECE):
                await reply.write(body[at : min(at + PIECE, limit)])
            if breaks:
                await self._break(request, stall=faults.stall_after is not None)
        except (asyncio.CancelledError, ConnectionResetError):
            noted.gone.set()
            raise

    async def _break(self, request: web.Request, *, stall: bool) -> None:
        if stall:
            await asyncio.Event().wait()
        if request.transport is not None:
            request.transport.close()  # what was sent still arrives


async def pulled(source: ModelSource, model: str) -> list[Progress]:
    """All progress of a pull."""
    return [progress async for progress in source.pull(model)]


def hash_of(name: str, data: bytes) -> str:
    """How the hub names a file's bytes: large files by sha256, others as git does."""
    if name.endswith(LFS_ENDINGS):
        return hashlib.sha256(data).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def _sibling(repo: HubRepo, name: str) -> dict[str, Json]:
    data = repo.files[name]
    found: dict[str, Json] = {"rfilename": name, "size": len(data), "blobId": "b1" * 20}
    if name.endswith(LFS_ENDINGS):
        found["lfs"] = {"sha256": hash_of(name, data), "size": len(data), "pointerSize": 134}
    else:
        found["blobId"] = hash_of(name, data)
    return {**found, **repo.claims.get(name, {})}


def _entry(repo: HubRepo, name: str) -> dict[str, Json]:
    found = _sibling(repo, name)
    entry: dict[str, Json] = {"type": "file", "path": name, "size": found["size"], "oid": found["blobId"]}
    if "lfs" in found:
        entry["lfs"] = {"oid": found["lfs"]["sha256"], "size": found["size"], "pointerSize": 134}
    return entry
