"""PDF, Office, e-mail and more to text, pages, tables and metadata."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from paddock.contracts.base import hookimpl
from paddock.contracts.providers import Environment, Parser
from paddock_documents.parsers import all_parsers
from paddock_documents.readers import Readers
from paddock_documents.settings import DocumentSettings

__all__ = ["DocumentSettings", "DocumentsPlugin", "plugin"]


class DocumentsPlugin:
    """The entry point."""

    @hookimpl
    def paddock_settings(self) -> tuple[str, type[msgspec.Struct]]:
        """Section ``documents``."""
        return "documents", DocumentSettings

    @hookimpl
    def paddock_parsers(self, env: Environment) -> Sequence[Parser]:
        """DocumentParser and LlamaFarm's names. No helper process starts before the first file."""
        return all_parsers(Readers(env.settings))


plugin = DocumentsPlugin()
