"""The bodies of ``/v1/embeddings`` and ``/v1/rerank``: OpenAI's, Jina's, Cohere's and the Universal Runtime's in one.

A field that is not known here is refused by name: accepted means honoured.
"""

from __future__ import annotations

import base64
import uuid
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from paddock.builtin.serving import read_request
from paddock.contracts.base import Json
from paddock.contracts.providers import Vectors
from paddock.errors import FieldError, ValidationFailed
from paddock_onnx.embeddings import Embedded
from paddock_onnx.reranking import Scored

T = TypeVar("T", bound=msgspec.Struct)
Positive = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
Truncate = bool | Literal["NONE", "END", "START"] | None
TEXT_KEYS = ("text", "content", "body")  # where a document that is an object has its text


class EmbeddingRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`input_type`, `task` or `prompt_name` choose the model's own prompt (``query``, ``document``); `truncate` false or
    ``NONE`` refuses texts beyond the model's window, which are cut otherwise."""

    model: str
    input: str | list[str | int | list[int]]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Positive | None = None
    input_type: str | None = None
    task: str | None = None
    prompt_name: str | None = None
    truncate: Truncate = None
    user: str | None = None
    stream: Literal[False] | None = None
    extra_body: dict[str, Json] | None = None

    @property
    def texts(self) -> list[str]:
        """The texts. Raises ValidationFailed for tokens: they belong to a tokenizer of somebody else."""
        texts = [self.input] if isinstance(self.input, str) else self.input
        if not texts:
            raise ValidationFailed.of([FieldError("input", "is empty")])
        found = [text for text in texts if isinstance(text, str)]
        if len(found) != len(texts):
            raise ValidationFailed.of(
                [FieldError("input", "send texts: the tokens of another tokenizer mean nothing here")]
            )
        return found

    @property
    def kind(self) -> str | None:
        """The kind of text. Raises ValidationFailed when two fields disagree."""
        given = {value for value in (self.input_type, self.task, self.prompt_name) if value is not None}
        if len(given) > 1:
            raise ValidationFailed.of(
                [FieldError("input_type", "input_type, task and prompt_name say different things")]
            )
        return given.pop() if given else None


class RerankRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`documents` are texts, or objects with a text (key ``text``, or those of `rank_fields`); `top_n` and `top_k` mean the
    same; of each document the first `max_tokens_per_doc` tokens count."""

    model: str
    query: str
    documents: list[str | dict[str, Json]]
    top_n: Positive | None = None
    top_k: Positive | None = None
    return_documents: bool = True
    rank_fields: list[str] | None = None
    max_tokens_per_doc: Positive | None = None
    truncate: Truncate = None
    truncation: bool | None = None
    user: str | None = None
    stream: Literal[False] | None = None
    extra_body: dict[str, Json] | None = None

    @property
    def texts(self) -> list[str]:
        """The documents' texts. Raises ValidationFailed naming one without, or `rank_fields` that none has."""
        objects = [one for one in self.documents if not isinstance(one, str)]
        if objects and self.rank_fields is not None and not any(set(self.rank_fields) & set(one) for one in objects):
            raise ValidationFailed.of([FieldError("rank_fields", "none of the documents has any of these keys")])
        return [
            one if isinstance(one, str) else _text_of(place, one, self.rank_fields)
            for place, one in enumerate(self.documents)
        ]

    @property
    def count(self) -> int:
        """How many results are wanted. Raises ValidationFailed when the two fields disagree."""
        if self.top_n is not None and self.top_k is not None and self.top_n != self.top_k:
            raise ValidationFailed.of([FieldError("top_k", "top_n and top_k mean the same and say different things")])
        return self.top_n or self.top_k or len(self.documents)


def decoded(body: bytes, kind: type[T]) -> T:
    """Read a body. Raises as `read_request`, and ValidationFailed for fields of an extra body."""
    found = read_request(body, kind)
    if getattr(found, "extra_body", None):
        raise ValidationFailed.of([FieldError("extra_body", "put its fields beside the others")])
    return found


def refuses(truncate: Truncate) -> bool:
    """Whether a text beyond the window is an error. Raises ValidationFailed for the cut that is not done here."""
    if truncate == "START":
        raise ValidationFailed.of([FieldError("truncate", "texts are cut at their END; or NONE refuses them")])
    return truncate in (False, "NONE")


def embedding_reply(request: EmbeddingRequest, found: Embedded) -> bytes:
    """OpenAI's reply; base64 is of little-endian float32."""
    base64s = request.encoding_format == "base64"
    data = [
        {"object": "embedding", "index": index, "embedding": _text(row) if base64s else _numbers(row)}
        for index, row in enumerate(found.vectors)
    ]
    return msgspec.json.encode({"object": "list", "data": data, "model": request.model, "usage": usage(found.tokens)})


def _text(row: Vectors) -> str:
    return base64.b64encode(row.astype("<f4").tobytes()).decode()


def _numbers(row: Vectors) -> msgspec.Raw:
    """A vector's numbers as JSON; one by one, because nothing else runs while they are encoded."""
    return msgspec.Raw(msgspec.json.encode(row.tolist()))


def rerank_reply(request: RerankRequest, texts: Sequence[str], found: Scored) -> bytes:
    """Jina's and Cohere's ``results``, and the Universal Runtime's ``object`` and ``data``, best first."""
    order = sorted(range(len(texts)), key=lambda place: -found.scores[place])[: request.count]
    results: list[dict[str, Any]] = [{"index": place, "relevance_score": found.scores[place]} for place in order]
    data: list[dict[str, Any]] = [dict(one) for one in results]
    if request.return_documents:
        for one, flat in zip(results, data, strict=True):
            given = request.documents[one["index"]]
            one["document"] = {"text": given} if isinstance(given, str) else given
            flat["document"] = texts[one["index"]]
    reply = {
        "id": f"rerank-{uuid.uuid4().hex}",
        "object": "list",
        "results": results,
        "data": data,
        "model": request.model,
        "usage": usage(found.tokens),
    }
    return msgspec.json.encode(reply)


def usage(tokens: int) -> dict[str, int]:
    """OpenAI's count of tokens."""
    return {"prompt_tokens": tokens, "total_tokens": tokens}


def _text_of(place: int, document: Mapping[str, Json], fields: Sequence[str] | None) -> str:
    if fields:
        return "\n".join(f"{name}: {_shown(document[name])}" for name in fields if name in document)
    found = next((document[key] for key in TEXT_KEYS if isinstance(document.get(key), str)), None)
    if found is None:
        reason = "has no text: give it under text, or name its keys in rank_fields"
        raise ValidationFailed.of([FieldError(f"documents[{place}]", reason)])
    return str(found)


def _shown(value: Json) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
