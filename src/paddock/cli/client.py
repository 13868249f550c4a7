"""The command line's client of a running server: the standard library only, because it must start at once."""

from __future__ import annotations

import contextlib
import http.client
import json
import mimetypes
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote, urlencode, urlsplit

from paddock.errors import PaddockError, ProviderUnavailable, UpstreamError, ValidationFailed

PIECE = 256 * 1024


class Client:
    """Talks to one server. Every method raises a PaddockError with the server's own sentence."""

    def __init__(self, url: str, key: str | None, timeout: float | None = 600) -> None:
        parts = urlsplit(url)
        try:
            port = parts.port
        except ValueError:
            port = 0
        if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
            raise ValidationFailed(f"{url!r} is not an http address: --url http://HOST:PORT")
        self.url = url.rstrip("/")
        self._secure = parts.scheme == "https"
        self._host, self._port, self._base = parts.hostname, port, parts.path.rstrip("/")
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._timeout = timeout

    def _connection(self) -> http.client.HTTPConnection:
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        return kind(self._host, self._port, timeout=self._timeout)

    @contextlib.contextmanager
    def _exchange(
        self, method: str, path: str, body: Any, headers: dict[str, str]
    ) -> Iterator[http.client.HTTPResponse]:
        with contextlib.closing(self._connection()) as connection:
            try:
                # A server that refuses a long body answers before it has all of it: then its answer counts.
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    connection.request(method, self._base + path, body=body, headers={**self._headers, **headers})
                reply = connection.getresponse()
            except (OSError, http.client.HTTPException) as error:
                raise ProviderUnavailable(
                    f"no server answers at {self.url} ({error}): start one with `paddock serve`, or name it with --url"
                ) from error
            with reply:
                try:
                    if reply.status >= 400:
                        raise refused(reply.status, reply.read())
                    yield reply
                except (OSError, http.client.HTTPException) as error:
                    raise ProviderUnavailable(f"the reply of {self.url} broke off ({error}): try again") from error
                except ValueError as error:
                    raise ProviderUnavailable(
                        f"what answers at {self.url} is no paddock: name the server with --url"
                    ) from error

    def _send(self, method: str, path: str, body: Any) -> contextlib.AbstractContextManager[http.client.HTTPResponse]:
        if body is None:
            return self._exchange(method, path, None, {})
        return self._exchange(method, path, json.dumps(body).encode(), {"Content-Type": "application/json"})

    def ask(self, method: str, path: str, body: Any = None, query: dict[str, Any] | None = None) -> Any:
        """Send JSON, return JSON; None for a reply without a body."""
        wanted = {key: value for key, value in (query or {}).items() if value is not None}
        if wanted:
            path += "?" + urlencode(wanted)
        with self._send(method, path, body) as reply:
            content = reply.read()
            return json.loads(content) if content else None

    def lines(self, path: str) -> Iterator[str]:
        """The lines of a text as they come."""
        with self._send("GET", path, None) as reply:
            for line in reply:
                yield line.decode("utf-8", "replace").rstrip("\r\n")

    def events(self, method: str, path: str, body: Any = None) -> Iterator[Any]:
        """The decoded ``data:`` of each server-sent event, until [DONE] or the end."""
        with self._send(method, path, body) as reply:
            for line in reply:
                text = line.decode("utf-8", "replace").strip()
                if text.startswith("data:"):
                    text = text.removeprefix("data:").strip()
                    if text == "[DONE]":
                        return
                    yield json.loads(text)

    def upload(self, path: str, file: Path, moved: Callable[[int], None]) -> Any:
        """Send a file as multipart without holding it in memory; `moved` is told the bytes of each piece."""
        boundary = secrets.token_hex(16)
        kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
        name = file.name.replace("\\", "_").replace('"', "%22").replace("\r", "_").replace("\n", "_")
        head = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
            f"Content-Type: {kind}\r\n\r\n"
        ).encode("utf-8", "replace")
        tail = f"\r\n--{boundary}--\r\n".encode()
        try:
            source = file.open("rb")
        except OSError as error:
            raise ValidationFailed(f"can't read {file}: {error.strerror}") from error
        with source:
            length = len(head) + os.fstat(source.fileno()).st_size + len(tail)
            headers = {"Content-Type": f"multipart/form-data; boundary={boundary}", "Content-Length": str(length)}
            with self._exchange("POST", path, _multipart(head, source, tail, moved), headers) as reply:
                return json.loads(reply.read())


def _multipart(head: bytes, source: IO[bytes], tail: bytes, moved: Callable[[int], None]) -> Iterator[bytes]:
    yield head
    while piece := source.read(PIECE):
        moved(len(piece))
        yield piece
    yield tail


def refused(status: int, body: bytes) -> PaddockError:
    """The server's error as one of ours, with its own words."""
    try:
        found = json.loads(body)
    except ValueError:
        return UpstreamError(f"the server answered {status}", status)
    detail = found.get("detail") if isinstance(found, dict) else None
    error = found.get("error") if isinstance(found, dict) else None
    text = detail or (error.get("message") if isinstance(error, dict) else error) or f"the server answered {status}"
    return UpstreamError(str(text), status)


def project_names(project: str) -> tuple[str, str]:
    """The two names of ``NAMESPACE/PROJECT``. Raises ValidationFailed for anything else."""
    namespace, _, name = project.partition("/")
    if not namespace or not name or "/" in name:
        raise ValidationFailed(f"{project!r} is not a project: write NAMESPACE/PROJECT")
    return namespace, name


def named(name: str) -> str:
    """A name as one part of a path, whatever it holds."""
    return quote(name.encode("utf-8", "replace"), safe="").replace(".", "%2E")


def project_path(project: str, *rest: str) -> str:
    """``NAMESPACE/PROJECT`` and further names as a path of the API."""
    parts = [named(part) for part in project_names(project)]
    return "/".join(["/v1/projects", *parts, *(part if i % 2 == 0 else named(part) for i, part in enumerate(rest))])
