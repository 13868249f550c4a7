"""Whom the source talks to, what it tells them, and what it says of their answers."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from paddock_hub import HubSettings, HubSource

from paddock.builtin.hub_cache import HubCache
from paddock.errors import ModelNotFound, ProviderUnavailable, UpstreamError
from paddock.outgoing import OutgoingClient
from paddock.testing.hub import FakeHub, pulled
from paddock.testing.hub_cache import cache_model

MODEL = "org/model"


class TestCredentials:
    async def test_the_token_opens_private_models_and_never_reaches_the_cdn(
        self, make_source: Callable[..., HubSource], hub: FakeHub, cache: HubCache
    ) -> None:
        hub.repos[MODEL].private = True
        await pulled(make_source(token=hub.token), MODEL)
        assert cache.holds(MODEL)
        for request in hub.requests:
            assert ("Authorization" in request.headers) is (request.site == "hub")
        assert any(request.site == "cdn" for request in hub.requests)

    async def test_the_token_does_not_follow_a_redirect_to_another_host(
        self, make_source: Callable[..., HubSource], hub: FakeHub, tmp_path: Path
    ) -> None:
        async with FakeHub() as other:
            other.add(MODEL, hub.repos[MODEL].files)
            hub.faults.redirect = f"{other.endpoint}/{MODEL}/resolve/main/model.safetensors"
            http = OutgoingClient([*hub.allow, *other.allow])
            hosts = (f"127.0.0.1:{other.port}", other.cdn_origin)
            settings = HubSettings(endpoint=hub.endpoint, token=hub.token, cdn_hosts=hosts)
            await pulled(HubSource(http, settings, tmp_path / "hub"), MODEL)
            await http.close()
            assert [request.site for request in other.requests] == ["hub", "cdn"]
            assert all("Authorization" not in request.headers for request in other.requests)

    async def test_a_private_model_without_a_token_is_404_and_names_the_setting(
        self, source: HubSource, hub: FakeHub
    ) -> None:
        hub.repos[MODEL].private = True
        with pytest.raises(ModelNotFound, match=r"hub\.token \(HF_TOKEN\)"):
            await pulled(source, MODEL)

    async def test_a_wrong_token_is_told_and_not_shown(
        self, make_source: Callable[..., HubSource], hub: FakeHub
    ) -> None:
        with pytest.raises(UpstreamError, match=r"check hub\.token") as caught:
            await pulled(make_source(token="hf_wrong_secret"), MODEL)
        assert "hf_wrong" not in caught.value.message
        assert caught.value.http_status == 502

    async def test_a_model_that_is_forbidden_without_a_token_names_the_setting(
        self, source: HubSource, hub: FakeHub
    ) -> None:
        hub.faults.status.append((403, {}))
        with pytest.raises(UpstreamError, match=r"is not public: set hub\.token") as caught:
            await pulled(source, MODEL)
        assert caught.value.http_status == 403

    async def test_a_gated_model_tells_where_to_accept(
        self, make_source: Callable[..., HubSource], hub: FakeHub
    ) -> None:
        hub.repos[MODEL].gated = True
        with pytest.raises(UpstreamError, match=f"{hub.endpoint}/{MODEL}") as caught:
            await pulled(make_source(token=hub.token), MODEL)
        assert caught.value.http_status == 403


class TestRedirects:
    @pytest.mark.parametrize(
        "target",
        [
            "http://evil.example/x",
            "http://127.0.0.1:1/x",
            "http://169.254.169.254/latest/meta-data",
            "http://[::1]:1/x",
            "file:///etc/passwd",
            "http://2130706433/x",
            "//evil.example/x",
            "http://user@evil.example/",
            "http://[broken/",
            "http://a:99999/x",
        ],
    )
    async def test_a_redirect_to_an_unknown_host_is_not_followed(
        self, source: HubSource, hub: FakeHub, cache: HubCache, target: str
    ) -> None:
        hub.faults.redirect = target
        with pytest.raises(UpstreamError, match=r"cdn_hosts|no address"):
            await pulled(source, MODEL)
        assert cache.models() == []

    async def test_a_cdn_at_a_private_address_needs_the_outgoing_rule_too(self, hub: FakeHub, tmp_path: Path) -> None:
        http = OutgoingClient([f"127.0.0.1:{hub.port}"])
        settings = HubSettings(endpoint=hub.endpoint, cdn_hosts=(hub.cdn_origin,))
        with pytest.raises(UpstreamError, match=r"outgoing\.allow"):
            await pulled(HubSource(http, settings, tmp_path / "hub"), MODEL)
        await http.close()

    async def test_a_circle_of_redirects_ends(self, source: HubSource, hub: FakeHub) -> None:
        hub.faults.redirect = f"{hub.endpoint}/{MODEL}/resolve/main/model.safetensors"
        with pytest.raises(UpstreamError, match="more than 4 times"):
            await pulled(source, MODEL)
        assert len(hub.transfers("model.safetensors")) == 5

    async def test_redirects_of_the_real_hub_lead_to_hosts_that_are_known(self) -> None:
        from paddock_hub.wire import Hub

        hub = Hub(OutgoingClient(), HubSettings())
        start = "https://huggingface.co/org/model/resolve/main/model.safetensors"
        for target in ("https://cdn-lfs-us-1.hf.co/x", "https://cas-bridge.xethub.hf.co/x", "/api/resolve-cache/x"):
            assert hub._next(start, target).startswith("https://")
        for target in ("http://cdn-lfs.hf.co/x", "https://hf.co.evil.example/x", "https://evilhf.co/x"):
            with pytest.raises(UpstreamError):
                hub._next(start, target)


class TestOffline:
    async def test_nothing_is_asked_of_the_hub_and_what_is_cached_works(
        self, make_source: Callable[..., HubSource], hub: FakeHub, cache: HubCache
    ) -> None:
        offline = make_source(offline=True)
        cache_model(cache.root, "org/gguf", {"t-Q8_0.gguf": b"1"})
        assert await pulled(offline, "org/gguf:Q8_0")
        assert await offline.size("org/gguf") == 0
        assert [one.quantization for one in await offline.quantizations("org/gguf")] == ["Q8_0"]
        for call in (offline.size, offline.quantizations):
            with pytest.raises(ModelNotFound, match=r"hub\.offline"):
                await call(MODEL)
        with pytest.raises(ModelNotFound, match=r"paddock models download org/model"):
            await pulled(offline, MODEL)
        assert hub.requests == []


class TestLooking:
    async def test_the_size_is_what_is_still_missing(self, source: HubSource, hub: FakeHub) -> None:
        assert await source.size(MODEL) == 300_005
        await pulled(source, MODEL)
        assert await source.size(MODEL) == 0

    async def test_the_size_of_a_quantization_is_that_of_its_files_alone(self, source: HubSource, hub: FakeHub) -> None:
        hub.add("org/gguf", {"t-Q8_0.gguf": b"1" * 10, "t-Q4_K_M.gguf": b"2" * 5, "README.md": b"x"})
        assert [await source.size(name) for name in ("org/gguf", "org/gguf:Q8_0")] == [5, 10]

    async def test_quantizations_are_listed_smallest_first(self, source: HubSource, hub: FakeHub) -> None:
        files = {"t-Q8_0.gguf": b"1" * 10, "t-Q4_K_M.gguf": b"2" * 5, "mmproj-F16.gguf": b"m"}
        hub.add("org/gguf", {**files, "s-F16-00001-of-00002.gguf": b"1" * 9, "s-F16-00002-of-00002.gguf": b"1" * 9})
        found = await source.quantizations("org/gguf")
        assert [(one.quantization, one.size) for one in found] == [("Q4_K_M", 5), ("Q8_0", 10), ("F16", 18)]
        assert found[-1].filename == "s-F16-00001-of-00002.gguf"
        assert await source.quantizations(MODEL) == []

    async def test_a_model_that_the_hub_does_not_know_is_listed_from_the_cache(
        self, source: HubSource, hub: FakeHub, cache: HubCache
    ) -> None:
        cache_model(cache.root, "me/own-GGUF", {"t-Q8_0.gguf": b"1"})
        assert [one.quantization for one in await source.quantizations("me/own-GGUF")] == ["Q8_0"]
        await hub.stop()
        assert [one.quantization for one in await source.quantizations("me/own-GGUF")] == ["Q8_0"]
        with pytest.raises(ProviderUnavailable):
            await source.quantizations(MODEL)

    async def test_the_catalogue_is_the_cache_and_asks_nobody(
        self, make_source: Callable[..., HubSource], hub: FakeHub, cache: HubCache
    ) -> None:
        assert await make_source().catalogue() == []
        cache_model(cache.root, "org/one", {"a": b"x" * 90})
        [model] = await make_source().catalogue()
        assert (model.id, model.owned_by, model.size) == ("org/one", "universal", 90)
        assert {"model_id", "size_bytes", "size_human", "last_modified", "revisions"} <= set(model.details)
        assert model.created > 0
        assert hub.requests == []

    async def test_show_tells_files_and_quantizations(self, source: HubSource, cache: HubCache) -> None:
        cache_model(cache.root, "org/gguf", {"t-Q8_0.gguf": b"1", "README.md": b"22"})
        found = await source.show("org/gguf")
        assert (found["files"], found["quantizations"]) == ({"README.md": 2, "t-Q8_0.gguf": 1}, ["Q8_0"])
        with pytest.raises(ModelNotFound, match="org/gguf"):
            await source.show("org/guff")

    async def test_the_cache_is_healthy_when_it_can_be_read(self, source: HubSource, cache: HubCache) -> None:
        cache_model(cache.root, "org/one", {"a": b"x"})
        look = await source.health()
        assert (look.status, look.message) == ("healthy", "1 models are cached")


async def test_a_hub_that_fails_is_unavailable(make_source: Callable[..., HubSource], hub: FakeHub) -> None:
    hub.faults.status.extend([(500, {})])
    with pytest.raises(ProviderUnavailable, match="500"):
        await make_source(retries=0).size(MODEL)


def test_importing_the_plugin_loads_nothing_heavy() -> None:
    heavy = ("aiohttp", "numpy", "httpx", "pydantic", "huggingface_hub", "rich")
    code = f"import sys, paddock_hub\nprint(*[name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
