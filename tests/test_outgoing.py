"""The outgoing client on real connections."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import pytest

from paddock.errors import PaddockError, ProviderUnavailable, UpstreamTimeout, ValidationFailed
from paddock.outgoing import OutgoingClient
from paddock.testing.upstream import FakeUpstream, Plan

CHAT = b'{"model": "m", "messages": []}'
Handle = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    async with FakeUpstream() as upstream:
        yield upstream


@pytest.fixture
async def client(upstream: FakeUpstream) -> AsyncIterator[OutgoingClient]:
    client = OutgoingClient([upstream.allow])
    yield client
    await client.close()


@asynccontextmanager
async def raw_server(handle: Handle) -> AsyncIterator[int]:
    """A server that does with each connection what `handle` does."""

    async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handle(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(run, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def get(client: OutgoingClient, url: str) -> bytes:
    async with client.send("GET", url) as reply:
        return await reply.read()


async def failure(client: OutgoingClient, url: str) -> PaddockError:
    with pytest.raises(PaddockError) as caught:
        await get(client, url)
    return caught.value


class TestExchange:
    async def test_status_headers_and_body_arrive(self, client: OutgoingClient, upstream: FakeUpstream) -> None:
        async with client.send("GET", f"{upstream.base_url}/models") as reply:
            assert reply.status == 200
            assert reply.headers["content-TYPE"].startswith("application/json")
            assert b"fake-model" in await reply.read()

    async def test_an_error_status_is_a_reply(self, client: OutgoingClient, upstream: FakeUpstream) -> None:
        async with client.send("GET", f"{upstream.root}/nowhere") as reply:
            assert reply.status == 404

    async def test_connections_are_used_again(self, client: OutgoingClient) -> None:
        connections = 0

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal connections
            connections += 1
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

        async with raw_server(handle) as port:
            other = OutgoingClient([f"127.0.0.1:{port}"])
            assert [await get(other, f"http://127.0.0.1:{port}/") for _ in range(3)] == [b"ok"] * 3
            await other.close()
        assert connections == 1

    async def test_a_large_body_is_sent_whole(self, client: OutgoingClient, upstream: FakeUpstream) -> None:
        body = b'{"model": "m", "messages": [], "x": "' + b"x" * 3_000_000 + b'"}'
        async with client.send("POST", f"{upstream.base_url}/chat/completions", body=body) as reply:
            await reply.read()
        assert upstream.requests[0].raw == body

    async def test_the_path_is_sent_as_it_stands(self, client: OutgoingClient, upstream: FakeUpstream) -> None:
        await get(client, f"{upstream.root}/a%2Fb//c%20d/?q=%C3%A4&q=+")
        assert upstream.requests[0].path == "/a%2Fb//c%20d/?q=%C3%A4&q=+"

    async def test_compressed_bytes_pass_unchanged(self, client: OutgoingClient, upstream: FakeUpstream) -> None:
        packed = gzip.compress(b"hello")
        upstream.plan = Plan(body=packed, headers={"Content-Encoding": "gzip"})
        async with client.send("POST", f"{upstream.base_url}/chat/completions", body=CHAT) as reply:
            assert await reply.read() == packed
        assert upstream.requests[0].headers["Accept-Encoding"] == "identity"

    async def test_a_body_over_the_limit_is_refused(self, client: OutgoingClient, upstream: FakeUpstream) -> None:
        async with client.send("GET", f"{upstream.base_url}/models") as reply:
            with pytest.raises(ProviderUnavailable, match="more than 10 bytes"):
                await reply.read(10)

    async def test_a_redirect_is_returned_and_not_followed(
        self, client: OutgoingClient, upstream: FakeUpstream
    ) -> None:
        upstream.plan = Plan(status=302, headers={"Location": "http://169.254.169.254/latest"})
        async with client.send("POST", f"{upstream.base_url}/chat/completions", body=CHAT) as reply:
            assert (reply.status, reply.headers["Location"]) == (302, "http://169.254.169.254/latest")
        assert len(upstream.requests) == 1

    async def test_cookies_are_not_kept(self, client: OutgoingClient, upstream: FakeUpstream) -> None:
        upstream.plan = Plan(headers={"Set-Cookie": "session=1; Path=/"})
        for _ in range(2):
            async with client.send("POST", f"{upstream.base_url}/chat/completions", body=CHAT) as reply:
                await reply.read()
        assert "Cookie" not in upstream.requests[1].headers

    async def test_proxies_of_the_environment_are_not_used(
        self, upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
        client = OutgoingClient([upstream.allow])
        assert b"fake-model" in await get(client, f"{upstream.base_url}/models")
        await client.close()

    async def test_leaving_early_closes_the_connection(self, client: OutgoingClient, upstream: FakeUpstream) -> None:
        upstream.plan = Plan(hold_after=1)
        body = b'{"model": "m", "messages": [], "stream": true}'
        async with client.send("POST", f"{upstream.base_url}/chat/completions", body=body) as reply:
            await anext(reply.chunks())
        async with asyncio.timeout(10):
            await upstream.requests[0].gone.wait()

    async def test_a_closed_client_says_so(self, upstream: FakeUpstream) -> None:
        client = OutgoingClient([upstream.allow])
        await get(client, f"{upstream.base_url}/models")
        await client.close()
        await client.close()
        assert "shutting down" in (await failure(client, f"{upstream.base_url}/models")).message


class TestKeepAlive:
    async def test_a_connection_that_was_dropped_meanwhile_is_made_anew(self) -> None:
        requests = 0

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal requests
            for _ in range(2):
                await reader.readuntil(b"\r\n\r\n")
                requests += 1
                if requests == 2:
                    return  # closes without an answer, as an idle timeout does
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

        async with raw_server(handle) as port:
            client = OutgoingClient([f"127.0.0.1:{port}"])
            for _ in range(2):
                async with client.send("POST", f"http://127.0.0.1:{port}/", body=b"") as reply:
                    assert await reply.read() == b"ok"
            await client.close()
        assert requests == 3

    async def test_a_new_connection_that_is_dropped_is_not_asked_again(self) -> None:
        requests = 0

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal requests
            await reader.readuntil(b"\r\n\r\n")
            requests += 1

        async with raw_server(handle) as port:
            client = OutgoingClient([f"127.0.0.1:{port}"])
            with pytest.raises(ProviderUnavailable):
                async with client.send("POST", f"http://127.0.0.1:{port}/", body=CHAT):
                    pass
            await client.close()
        assert requests == 1


class TestErrors:
    async def test_nobody_listening_is_unavailable(self, client: OutgoingClient, upstream: FakeUpstream) -> None:
        await upstream.stop()
        error = await failure(client, f"{upstream.base_url}/models")
        assert isinstance(error, ProviderUnavailable)
        assert error.headers["Retry-After"]
        assert upstream.allow in error.message

    async def test_a_name_without_address_is_unavailable(self) -> None:
        async def nothing(host: str) -> Sequence[str]:
            return []

        client = OutgoingClient(resolve=nothing)
        error = await failure(client, "http://nowhere.example/")
        await client.close()
        assert isinstance(error, ProviderUnavailable)
        assert "nowhere.example:80 has no address" in error.message

    async def test_tls_with_a_server_without_is_unavailable(
        self, client: OutgoingClient, upstream: FakeUpstream
    ) -> None:
        error = await failure(client, f"https://127.0.0.1:{upstream.port}/")
        assert isinstance(error, ProviderUnavailable)
        assert "TLS" in error.message

    async def test_what_is_not_http_is_unavailable(self) -> None:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"220 smtp.example ESMTP\r\n\r\n")

        async with raw_server(handle) as port:
            client = OutgoingClient([f"127.0.0.1:{port}"])
            error = await failure(client, f"http://127.0.0.1:{port}/")
            await client.close()
        assert isinstance(error, ProviderUnavailable)
        assert "HTTP" in error.message

    @pytest.mark.parametrize("head", ["Content-Length: 100", "Transfer-Encoding: chunked"])
    async def test_a_body_that_breaks_off_is_unavailable(self, head: str) -> None:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(f"HTTP/1.1 200 OK\r\n{head}\r\n\r\n5\r\nhello\r\n".encode())

        async with raw_server(handle) as port:
            client = OutgoingClient([f"127.0.0.1:{port}"])
            error = await failure(client, f"http://127.0.0.1:{port}/")
            await client.close()
        assert isinstance(error, ProviderUnavailable)

    async def test_no_first_byte_in_time_is_a_timeout(self, client: OutgoingClient, upstream: FakeUpstream) -> None:
        upstream.plan = Plan(before_headers=asyncio.Event())
        url = f"{upstream.base_url}/chat/completions"
        with pytest.raises(UpstreamTimeout, match=r"0\.05 seconds"):
            async with client.send("POST", url, body=CHAT, first_byte_timeout=0.05):
                pass
        async with asyncio.timeout(10):
            await upstream.requests[0].gone.wait()

    async def test_a_body_that_takes_too_long_is_a_timeout(
        self, client: OutgoingClient, upstream: FakeUpstream
    ) -> None:
        upstream.plan = Plan(hold_after=1)
        body = b'{"model": "m", "messages": [], "stream": true}'
        with pytest.raises(UpstreamTimeout):
            async with client.send("POST", f"{upstream.base_url}/chat/completions", body=body, timeout=0.2) as reply:
                await reply.read()

    async def test_no_message_holds_what_the_address_holds(
        self, client: OutgoingClient, upstream: FakeUpstream
    ) -> None:
        errors = [await failure(client, "http://user:s3cret@example.com/"), await failure(client, "http://s3cret\\@x/")]
        await upstream.stop()
        errors.append(await failure(client, f"{upstream.base_url}/models?key=s3cret"))
        assert all("s3cret" not in error.message for error in errors)


class TestNames:
    """What a name resolves to is checked when the connection is made."""

    @staticmethod
    def answers(*rounds: Sequence[str]) -> Callable[[str], Awaitable[Sequence[str]]]:
        """A name service that answers differently each time."""
        left = list(rounds)

        async def resolve(host: str) -> Sequence[str]:
            return left.pop(0)

        return resolve

    @pytest.mark.parametrize(
        "addresses",
        [
            *(["127.0.0.1"], ["10.1.2.3"], ["169.254.169.254"], ["8.8.8.8", "192.168.1.1"]),
            *(["::1"], ["::ffff:127.0.0.1"], ["fe80::1%1"]),
        ],
    )
    async def test_a_name_with_a_forbidden_address_is_refused(
        self, addresses: list[str], upstream: FakeUpstream
    ) -> None:
        client = OutgoingClient([upstream.allow], resolve=self.answers(addresses))
        error = await failure(client, f"http://innocent.example:{upstream.port}/v1/models")
        await client.close()
        assert isinstance(error, ValidationFailed)
        assert not upstream.requests

    async def test_a_listed_name_may_be_private(self, upstream: FakeUpstream) -> None:
        client = OutgoingClient([f"box.example:{upstream.port}"], resolve=self.answers(["127.0.0.1"]))
        assert b"fake-model" in await get(client, f"http://Box.example:{upstream.port}/v1/models")
        await client.close()

    async def test_a_listed_name_is_never_a_metadata_address(self) -> None:
        client = OutgoingClient(["box.example:80"], resolve=self.answers(["169.254.169.254"]))
        assert isinstance(await failure(client, "http://box.example/"), ValidationFailed)
        await client.close()

    async def test_a_name_is_listed_for_its_port_only(self, upstream: FakeUpstream) -> None:
        client = OutgoingClient(["box.example:1"], resolve=self.answers(["127.0.0.1"]))
        assert isinstance(await failure(client, f"http://box.example:{upstream.port}/"), ValidationFailed)
        await client.close()

    async def test_the_address_that_was_checked_is_the_one_connected(self, upstream: FakeUpstream) -> None:
        """A second look at the name would find another address; there must be no second look."""
        client = OutgoingClient([f"box.example:{upstream.port}"], resolve=self.answers(["127.0.0.1"]))
        for _ in range(3):
            await get(client, f"http://box.example:{upstream.port}/v1/models")
        await client.close()
        assert len(upstream.requests) == 3
