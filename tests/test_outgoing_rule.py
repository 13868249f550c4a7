"""The rule about addresses, without connections."""

from __future__ import annotations

import ipaddress

import pytest

from paddock.errors import ValidationFailed
from paddock.outgoing import check_url, host_port, verdict

ALLOW = ["127.0.0.1:11434", "localhost:11434", "[::1]:8080", "10.0.0.5:80", "box.example:9000"]


@pytest.mark.parametrize(
    "url",
    [
        "https://api.openai.com/v1",
        "http://8.8.8.8/",
        "http://[2606:4700::1111]:8000/v1",
        "HTTPS://Example.COM:8443/a?b=c",
        "http://127.0.0.1:11434/v1",
        "http://localhost:11434",
        "http://LOCALHOST:11434/",
        "http://[::1]:8080/",
        "http://[0:0:0:0:0:0:0:1]:8080/",
        "http://10.0.0.5/",
        "http://box.example:9000/",
        "http://my_docker_name:8000/",
    ],
)
def test_public_and_listed_addresses_pass(url: str) -> None:
    check_url(url, ALLOW)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:11435/", "http://127.0.0.2:11434/", "http://localhost/", "http://a.localhost:11434/",
        "http://10.0.0.5:81/", "http://192.168.0.1/", "http://172.16.0.1/", "http://100.64.0.1/", "http://[::1]/",
        "http://[fc00::1]/", "http://[fd12:3456::1]/", "http://[::ffff:127.0.0.1]:11434/", "http://[::ffff:7f00:1]:11434/",
        "http://[64:ff9b::7f00:1]/", "http://[64:ff9b::10.0.0.1]/", "http://[2002:7f00:1::]/", "http://[::127.0.0.1]/",
        "http://198.18.0.1/", "http://192.0.2.1/",
    ],
)  # fmt: skip
def test_private_addresses_name_the_setting(url: str) -> None:
    with pytest.raises(ValidationFailed) as caught:
        check_url(url, ALLOW, "runtime.models[0].base_url")
    assert caught.value.errors[0].field == "runtime.models[0].base_url"
    assert "outgoing.allow" in caught.value.errors[0].reason


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254", "169.254.0.1", "0.0.0.0", "224.0.0.1", "255.255.255.255", "240.0.0.1", "100.100.100.200",
        "168.63.129.16", "[::]", "[fe80::1]", "[ff02::1]", "[fd00:ec2::254]", "[::ffff:169.254.169.254]",
        "[64:ff9b::a9fe:a9fe]", "[2002:a9fe:a9fe::]", "[64:ff9b:1::1]",
    ],
)  # fmt: skip
def test_metadata_and_link_local_addresses_are_refused_even_if_listed(address: str) -> None:
    with pytest.raises(ValidationFailed, match="never connects"):
        check_url(f"http://{address}:80/", [f"{address}:80"])


@pytest.mark.parametrize(
    "host",
    [
        "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "127.1", "127.0.1", "0", "127.0.0.0x1", "017700000001",
        "127.0.0.1.", "localhost.", "example.com.", ".example.com", "a..b", "1.2.3.4.5", "999.1.1.1", "127.0.0.01",
    ],
)  # fmt: skip
def test_odd_spellings_of_hosts_are_refused(host: str) -> None:
    with pytest.raises(ValidationFailed):
        check_url(f"http://{host}:11434/", ALLOW)


@pytest.mark.parametrize(
    "url",
    [
        "", "127.0.0.1:11434", "//example.com/", "ftp://example.com/", "file:///etc/passwd", "gopher://example.com/", "unix:/x",
        "http://", "http:///x", "http://user@example.com/", "http://user:pw@example.com/", "http://example.com@10.0.0.1/",
        "http://example.com\\@10.0.0.1/", "http://example.com#@10.0.0.1/", "http://exam ple.com/", "http://example.com/ x",
        "http://example.com/\r\nHost: x", "http://example.com\t/", "http://ex%61mple.com/", "http://ⓔxample.com/", "http://127。0。0。1/",
        "http://example.com:0/", "http://example.com:65536/", "http://example.com:port/", "http://[::1/", "http://[fe80::1%25eth0]/",
        "http://example.com/#fragment", " http://example.com/", "http://example.com/\n", "http://[1.2.3.4]/", "http://[::1]:80:80/",
    ],
)  # fmt: skip
def test_what_parsers_could_read_differently_is_refused(url: str) -> None:
    with pytest.raises(ValidationFailed):
        check_url(url, [*ALLOW, "example.com:80"])


def test_credentials_in_an_address_are_refused_without_showing_them() -> None:
    with pytest.raises(ValidationFailed, match="api_key") as caught:
        check_url("https://me:s3cret@example.com/v1", ALLOW)
    assert "s3cret" not in caught.value.message


@pytest.mark.parametrize(
    "entry", ["127.0.0.1", "http://127.0.0.1:1", "*:80", "::1:80", "127.0.0.1:", "10.0.0.0/8:80", "a:70000"]
)
def test_an_entry_that_is_not_host_and_port_names_the_setting(entry: str) -> None:
    with pytest.raises(ValidationFailed) as caught:
        check_url("https://example.com/", [entry])
    assert caught.value.errors[0].field == "outgoing.allow"


def test_the_key_of_an_address_has_its_port() -> None:
    assert host_port("https://Api.Example.com/v1") == "api.example.com:443"
    assert host_port("http://[::0001]:8080/") == "[::1]:8080"


def test_every_special_network_is_not_public() -> None:
    """Walks the first and last address of what the registries call special."""
    special = (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/29",
        "192.0.2.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
        "::/128", "::1/128", "::ffff:0:0/112", "64:ff9b:1::/48", "100::/64", "2001:db8::/32", "fc00::/7", "fe80::/10",
        "fec0::/10", "ff00::/8",
    )  # fmt: skip
    for name in special:
        network = ipaddress.ip_network(name)
        assert verdict(network[0]) != "public", name
        assert verdict(network[-1]) != "public", name
