"""The helper process: reads documents that the server names on stdin, and answers on stdout, until stdin ends."""

from __future__ import annotations

from paddock.builtin.helper import HelperWork, run_helper
from paddock_documents.extract import extract
from paddock_documents.wire import Request

MAX_RESIDENT = 256 * 1024 * 1024  # bytes that it still holds after a document


def load() -> None:
    """Import what is heavy."""
    import kreuzberg  # noqa: F401, PLC0415  heavy


if __name__ == "__main__":
    run_helper(HelperWork(kind=Request, work=extract, load=load, section="documents", max_resident=MAX_RESIDENT))
