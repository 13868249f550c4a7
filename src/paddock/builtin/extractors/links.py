"""LinkExtractor: web addresses, e-mail addresses and domains. It never opens one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from paddock.builtin.extractors.common import TextExtractor, distinct
from paddock.contracts.base import Json
from paddock.contracts.providers import Chunk, Document, TypeName
from paddock.errors import FieldError, ValidationFailed

_URL = re.compile(r"(?<![\w@])(?:https?://|ftp://|www\.)[^\s<>\"'`{}|\\^\[\]]{2,300}", re.IGNORECASE)
_EMAIL = re.compile(r"(?<![\w.+%-])[\w.+%-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}(?![\w@])")
_DOMAIN = re.compile(r"(?=.{4,253}$)(?:[^\W_](?:[\w-]{0,61}[^\W_])?\.){1,10}[^\W\d_]{2,63}")
_SCHEME = re.compile(r"^(?:\w+://)?(?:[^/@]*@)?", re.ASCII)


def url_spans(text: str) -> Iterator[tuple[int, int]]:
    """Where web and FTP addresses stand, without the punctuation of the sentence around them."""
    if "://" in text or "www." in text.lower():
        for match in _URL.finditer(text):
            yield match.start(), match.start() + len(_trim(match[0]))


def email_spans(text: str) -> Iterator[tuple[int, int]]:
    """Where e-mail addresses stand."""
    if "@" in text:
        for match in _EMAIL.finditer(text):
            yield match.start(), match.start() + len(match[0].rstrip("-_"))


def urls(text: str) -> list[str]:
    """Web and FTP addresses as they are written."""
    return [text[start:end] for start, end in url_spans(text)]


def without_urls(text: str) -> str:
    """The text with spaces in the place of web addresses; offsets stay."""
    return _URL.sub(blank, text)


def blank(match: re.Match[str]) -> str:
    """As many spaces as the match has characters, for `re.sub`."""
    return " " * len(match[0])


def host(address: str) -> str | None:
    """The domain of an address in lower case; None when it names a machine by number or not at all."""
    name = re.split(r"[/?#:]", _SCHEME.sub("", address, count=1), maxsplit=1)[0].lower().rstrip(".")
    return name if _DOMAIN.fullmatch(name) else None


class LinkConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Options of LinkExtractor."""

    extract_urls: bool = True
    extract_emails: bool = True
    extract_domains: bool = True
    validate_urls: bool = False
    resolve_redirects: bool = False
    enabled: bool = True


class LinkExtractor(TextExtractor):
    """``urls``, ``emails`` and ``domains`` (of both), each with a count (``url_count``): absent when there are none.

    ``validate_urls`` and ``resolve_redirects`` are refused: a file must not be able to make the server call somebody.
    """

    types = (TypeName("LinkExtractor", LinkConfig),)

    def find(self, text: str, chunk: Chunk, document: Document, config: Any) -> dict[str, Json]:  # noqa: ARG002  the base's signature
        web, mail = urls(text), [text[start:end] for start, end in email_spans(text)]
        found: dict[str, Json] = {}
        if config.extract_urls:
            found |= counted("url", web)
        if config.extract_emails:
            found |= counted("email", mail)
        if config.extract_domains:
            names = (host(item) for item in [*web, *(address.rpartition("@")[2] for address in mail)])
            found |= counted("domain", (name for name in names if name))
        return found

    def warn(self, type_name: str, config: Any) -> Iterable[str]:  # noqa: ARG002  the contract's signature
        refused = [
            FieldError(name, "paddock never opens the addresses in a file: leave it false")
            for name in ("validate_urls", "resolve_redirects")
            if getattr(config, name)
        ]
        if refused:
            raise ValidationFailed.of(refused)
        if not (config.extract_urls or config.extract_emails or config.extract_domains):
            yield "extract_urls, extract_emails, extract_domains: with all three false nothing is extracted"


def counted(name: str, values: Iterable[str]) -> dict[str, Json]:
    """``{name}s`` and ``{name}_count`` of the different values; nothing when there are none."""
    different = dict.fromkeys(values)
    return {f"{name}s": distinct(different), f"{name}_count": len(different)} if different else {}


def _trim(url: str) -> str:
    """Without a full stop or a bracket that belongs to the sentence."""
    while url and (url[-1] in ".,;:!?*_~" or (url[-1] == ")" and url.count("(") < url.count(")"))):
        url = url[:-1]
    return url
