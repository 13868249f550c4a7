"""What the server asks a helper process for: plain data, as JSON over pipes. The answer is a `FoundDocument`."""

from __future__ import annotations

import msgspec

from paddock.contracts.providers import DocumentTask, Word


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One page. `folder` holds the model's files; `words` are those of the page for models that want to be told."""

    folder: str
    model: str
    task: DocumentTask
    page: str
    prompts: list[str]
    words: list[Word]
    threads: int
    max_tokens: int
