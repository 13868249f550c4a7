"""The providers of one capability, by the names of their types."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

from paddock.contracts.providers import Provider
from paddock.errors import FieldError, UnknownType, ValidationFailed

P = TypeVar("P", bound=Provider)

# Type names of LlamaFarm that packages provide which may not be installed.
ELSEWHERE: Mapping[str, str] = {
    **dict.fromkeys(
        ("HuggingFaceEmbedder", "SentenceTransformerEmbedder", "UniversalEmbedder", "EntityExtractor"),
        "paddock-onnx",
    ),
    **dict.fromkeys(("OpenAIEmbedder", "openai", "lemonade"), "paddock-openai"),
    **dict.fromkeys(("OllamaEmbedder", "ollama"), "paddock-ollama"),
    **dict.fromkeys(("ChromaStore", "QdrantStore", "FAISSStore", "SqliteVecStore"), "paddock-sqlite-vec"),
    "ImageParser": "paddock-ocr",
    "universal": "paddock-llama-server",
    "dramatiq": "paddock-dramatiq",
}
_DOCUMENT_PARSERS = ("PDFParser", "DocxParser", "ExcelParser", "MsgParser", "DocumentParser")


class Registry(Generic[P]):
    """The providers of one capability by type name; `kind` is the base class of them all."""

    def __init__(self, capability: str, kind: type[Any]) -> None:
        self.capability = capability
        self.kind = kind
        self._by_type: dict[str, P] = {}
        self._owner: dict[str, str] = {}

    def add(self, owner: str, provider: P) -> None:
        """Add all type names of a provider; a name that somebody has is an error at start."""
        for declared in provider.types:
            if declared.name in self._by_type:
                raise ValidationFailed(
                    f"{self.capability} type {declared.name} is provided twice, by the plugins {self._owner[declared.name]} "
                    f"and {owner}: name one of them in plugins.disabled"
                )
            self._by_type[declared.name] = provider
            self._owner[declared.name] = owner

    def get(self, type_name: str) -> P | None:
        """The provider, or None."""
        return self._by_type.get(type_name)

    def find(self, type_name: str) -> P:
        """The provider, or UnknownType listing the known types and the plugin to install."""
        provider = self._by_type.get(type_name)
        if provider is None:
            raise UnknownType.of([FieldError("type", self.unknown(type_name))])
        return provider

    def unknown(self, type_name: str) -> str:
        """The sentence about a type that nobody provides."""
        package = ELSEWHERE.get(type_name) or ("paddock-documents" if type_name.startswith(_DOCUMENT_PARSERS) else None)
        text = f"{self.capability} type {type_name[:64]!r} is not provided by any loaded plugin"
        if package:
            return f"{text}; install the plugin {package}. Known: {', '.join(self.names()) or 'none'}"
        near = difflib.get_close_matches(type_name, self._by_type, 1)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        return f"{text}{hint} Known: {', '.join(self.names()) or 'none'}"

    def names(self) -> list[str]:
        """All type names."""
        return list(self._by_type)

    def all(self) -> list[P]:
        """Each provider once, in the order of registration."""
        return list(dict.fromkeys(self._by_type.values()))

    def owned_by(self, owner: str) -> list[P]:
        """The providers of one plugin."""
        return list(dict.fromkeys(p for name, p in self._by_type.items() if self._owner[name] == owner))
