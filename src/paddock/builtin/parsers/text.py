"""Plain text of any kind: prose, logs, configuration, source code."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

import msgspec

from paddock.builtin.parsers.reading import (
    ChunkOverlap,
    ChunkSize,
    Encoding,
    check_encoding,
    check_overlap,
    idle,
    read_text,
)
from paddock.contracts.base import Json
from paddock.contracts.providers import ChunkOptions, Document, Parser, Source, TypeName
from paddock.errors import FieldError, ValidationFailed

TOKEN_MODEL = "gpt-3.5-turbo"  # noqa: S105  the name of a model
TokenModel = Annotated[str, msgspec.Meta(max_length=100, description="whose tokens the strategy tokens counts")]
Strategy = Literal["characters", "sentences", "paragraphs", "tokens", "semantic", "code", "full"]

# The languages that `detect_language` knows by the end of the file name.
LANGUAGES = {
    ".py": "python",
    ".js": "javascript",
    ".mjs": "javascript",
    ".ts": "typescript",
    ".tsx": "typescript",
    ".jsx": "javascript",
    ".java": "java",
    ".c": "c",
    ".h": "c",
    ".cpp": "cpp",
    ".cc": "cpp",
    ".hpp": "cpp",
    ".cs": "csharp",
    ".go": "go",
    ".rs": "rust",
    ".rb": "ruby",
    ".php": "php",
    ".swift": "swift",
    ".kt": "kotlin",
    ".scala": "scala",
    ".sh": "shell",
    ".bash": "shell",
    ".ps1": "powershell",
    ".sql": "sql",
    ".r": "r",
    ".lua": "lua",
    ".pl": "perl",
    ".css": "css",
    ".scss": "scss",
    ".xml": "xml",
    ".yaml": "yaml",
    ".yml": "yaml",
    ".toml": "toml",
    ".ini": "ini",
    ".tex": "latex",
    ".rst": "restructuredtext",
    ".vue": "vue",
    ".dart": "dart",
    ".ex": "elixir",
    ".hs": "haskell",
}


class TextConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Options of TextParser. Sizes in characters, in tokens with the strategy tokens."""

    chunk_size: ChunkSize = 1000
    chunk_overlap: ChunkOverlap = 100
    chunk_strategy: Strategy = "sentences"
    encoding: Encoding = "auto"
    clean_text: bool = True
    extract_metadata: bool = True
    detect_language: bool = True
    token_model: TokenModel = TOKEN_MODEL
    preserve_code_structure: bool = True
    include_prev_next_rel: bool = False


class TextPythonConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Options of TextParser_Python."""

    chunk_size: ChunkSize = 1000
    chunk_overlap: ChunkOverlap = 100
    chunk_strategy: Literal["sentences", "paragraphs", "characters"] = "sentences"
    encoding: Encoding = "utf-8"
    clean_text: bool = True
    extract_metadata: bool = True


class TextLlamaIndexConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Options of TextParser_LlamaIndex."""

    chunk_size: ChunkSize = 1000
    chunk_overlap: ChunkOverlap = 100
    chunk_strategy: Literal["characters", "sentences", "paragraphs", "tokens", "semantic", "code"] = "semantic"
    encoding: Encoding = "utf-8"
    clean_text: bool = True
    extract_metadata: bool = True
    semantic_buffer_size: Annotated[int, msgspec.Meta(ge=1, le=10)] = 1
    semantic_breakpoint_percentile_threshold: Annotated[int, msgspec.Meta(ge=50, le=99)] = 95
    token_model: TokenModel = TOKEN_MODEL
    preserve_code_structure: bool = True
    detect_language: bool = True
    include_prev_next_rel: bool = True


class TextParser(Parser):
    """Any text file. The canonical name detects the encoding; LlamaFarm's names expect UTF-8 unless told otherwise."""

    types = (
        TypeName("TextParser", TextConfig),
        TypeName("TextParser_Python", TextPythonConfig),
        TypeName("TextParser_LlamaIndex", TextLlamaIndexConfig),
    )
    extensions = frozenset(LANGUAGES) | {
        ".txt",
        ".text",
        ".log",
        ".cfg",
        ".conf",
        ".env",
        ".properties",
        ".srt",
        ".vtt",
        ".diff",
    }
    mime_types = frozenset(
        {"text/plain", "text/x-python", "application/xml", "text/xml", "application/yaml", "text/css"}
    )

    def parse(self, source: Source, config: Any) -> Document:
        text, encoding = read_text(source, config.encoding)
        if config.clean_text:
            text = tidy(text)
        return Document(text=text, metadata=_metadata(source, config, text, encoding))

    def chunking(self, source: Source, config: Any) -> ChunkOptions:
        extra: dict[str, Json] = {}
        for field in ("token_model", "preserve_code_structure"):
            if hasattr(config, field):
                extra[field] = getattr(config, field)
        if getattr(config, "include_prev_next_rel", False):
            extra["relations"] = True
        return msgspec.structs.replace(super().chunking(source, config), extra=extra)

    def warn(self, type_name: str, config: Any) -> Iterable[str]:  # noqa: ARG002  the contract's signature
        check_encoding(config.encoding)
        check_overlap(config)
        if not hasattr(config, "token_model"):
            return []
        if config.chunk_strategy == "tokens":
            check_token_model(config.token_model)
        warnings = idle(config, "tokens", ("token_model",), ("tokens",))
        warnings += idle(config, "code", ("preserve_code_structure",), ("code",))
        if isinstance(config, TextLlamaIndexConfig):
            fresh = TextLlamaIndexConfig()
            warnings += [
                f"{name}: changes nothing, semantic chunks end at the boundaries of the text, not at distances of embeddings"
                for name in ("semantic_buffer_size", "semantic_breakpoint_percentile_threshold")
                if getattr(config, name) != getattr(fresh, name)
            ]
        return warnings


def check_token_model(model: str) -> None:
    """Raises ValidationFailed for a model whose tokenizer is not built in."""
    from semantic_text_splitter import TextSplitter  # noqa: PLC0415  heavy: on first use

    try:
        TextSplitter.from_tiktoken_model(model, 100)
    except Exception as error:  # the library raises nothing narrower
        reason = f"no tokenizer is known for {model!r}: use an OpenAI model name such as gpt-3.5-turbo or gpt-4o"
        raise ValidationFailed.of([FieldError("token_model", reason)]) from error


def tidy(text: str) -> str:
    """Unix line ends, no trailing blanks, no zero-width characters, at most one blank line in a row; indents stay."""
    text = re.sub("[\u200b\u2060\ufeff\u00ad]", "", text.replace("\r\n", "\n").replace("\r", "\n"))
    text = "\n".join([line.rstrip() for line in text.split("\n")])
    return re.sub(r"\n{3,}", "\n\n", text).strip("\n")


def _metadata(source: Source, config: Any, text: str, encoding: str) -> dict[str, Json]:
    found: dict[str, Json] = {}
    if config.extract_metadata:
        found = {"encoding": encoding, "line_count": text.count("\n") + 1, "character_count": len(text)}
    language = LANGUAGES.get(PurePosixPath(source.filename.replace("\\", "/")).suffix.lower())
    if language and getattr(config, "detect_language", False):
        found["code_language"] = language
    return found
