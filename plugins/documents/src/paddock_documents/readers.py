"""The helper processes that read documents."""

from __future__ import annotations

import msgspec

from paddock.builtin.helpers import HelperOptions, HelperPool
from paddock_documents.settings import DocumentSettings
from paddock_documents.wire import Extracted, Request


class Readers(HelperPool):
    """As many helpers as threads ask at once; those without work wait for more and then end. Thread-safe."""

    def __init__(self, settings: DocumentSettings) -> None:
        super().__init__(
            HelperOptions(
                module="paddock_documents.worker",
                section="documents",
                doing="reads documents",
                memory_mb=settings.memory_mb,
                idle_seconds=settings.idle_seconds,
            )
        )
        self.settings = settings

    def read(self, request: Request) -> Extracted:
        """Read one document. Blocks. Raises ValidationFailed with the reason, ProviderUnavailable after `close`."""
        return msgspec.json.decode(self.ask(msgspec.json.encode(request), request.timeout), type=Extracted)
