"""The parsers over one set of helper processes, and a short way to parse."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from paddock_documents.parsers import all_parsers
from paddock_documents.readers import Readers
from paddock_documents.settings import DocumentSettings

from paddock.contracts.providers import Document, Parser
from paddock.testing.parser import Sample, check_document, store


@pytest.fixture(scope="session")
def readers() -> Iterator[Readers]:
    found = Readers(DocumentSettings())
    yield found
    found.close()


@pytest.fixture(scope="session")
def parsers(readers: Readers) -> Mapping[str, Parser]:
    return {declared.name: parser for parser in all_parsers(readers) for declared in parser.types}


Read = Callable[..., Document]


@pytest.fixture
def read(parsers: Mapping[str, Parser], tmp_path: Path) -> Read:
    """Parse `data` as the file `filename` under a type name with its config."""

    def parse(type_name: str, filename: str, data: bytes, **config: Any) -> Document:
        configured = parsers[type_name].configure(type_name, config)
        document = parsers[type_name].parse(store(tmp_path, Sample(filename, data)), configured.config)
        check_document(document)
        return document

    return parse
