"""Parsers of the core: what needs no library beyond the standard one. Any text, Markdown, CSV, JSON and HTML."""

from collections.abc import Sequence

from paddock.builtin.parsers.auto import AutoParser, choose_parser
from paddock.builtin.parsers.csv_files import CSVParser
from paddock.builtin.parsers.html_files import HTMLParser
from paddock.builtin.parsers.json_files import JSONParser
from paddock.builtin.parsers.markdown import MarkdownParser
from paddock.builtin.parsers.text import TextParser
from paddock.contracts.providers import Parser

__all__ = [
    "AutoParser",
    "CSVParser",
    "HTMLParser",
    "JSONParser",
    "MarkdownParser",
    "TextParser",
    "builtin_parsers",
    "choose_parser",
]


def builtin_parsers() -> list[Parser]:
    """The core's parsers. `auto`, the last, chooses among these; whoever knows more parsers uses `AutoParser.among`."""
    own: list[Parser] = [MarkdownParser(), CSVParser(), JSONParser(), HTMLParser(), TextParser()]

    def candidates() -> Sequence[Parser]:
        return own

    return [*own, AutoParser(candidates)]
