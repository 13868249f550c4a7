"""What a model's own files say: its family, its task, its words for things. Reads small JSON files only."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from paddock.contracts.providers import DocumentTask

S = TypeVar("S")
Family = Literal["donut", "layoutlmv3"]
JSON_LIMIT = 64 * 1024 * 1024  # bytes: the tokenizers of a hundred languages are large
_HEADS: dict[str, DocumentTask] = {
    "ForTokenClassification": "extraction",
    "ForQuestionAnswering": "vqa",
    "ForSequenceClassification": "classification",
}
_EXPORT = "export it with optimum-cli export onnx --model MODEL --task {} FOLDER"
_EXPORT_DONUT = _EXPORT.format("image-to-text-with-past")
_EXPORT_LAYOUT = _EXPORT.format("token-classification (question-answering, text-classification)")
QUESTION, ASKED, ANSWER = "<s_question>", "</s_question>", "<s_answer>"
CLASS = "<s_class>"
DONUT_ENCODER = "donut-swin"  # models with another one (TrOCR …) want other pixels
_TAG = re.compile(r"</s_(?!question>|answer>|class>)[^<>]+>")


def _variants(name: str) -> tuple[str, ...]:
    """A graph's file, in full precision and as exports with less have it."""
    return tuple(f"{name}{kind}.onnx" for kind in ("", "_fp16", "_quantized"))


ENCODERS, MERGED = _variants("encoder_model"), _variants("decoder_model_merged")
DECODERS, WITH_PAST, GRAPHS = _variants("decoder_model"), _variants("decoder_with_past_model"), _variants("model")


class Decoder(msgspec.Struct, frozen=True):
    """The part of a generating model's config that is its decoder's."""

    max_length: int | None = None
    max_position_embeddings: int | None = None
    eos_token_id: int | list[int] | None = None
    decoder_start_token_id: int | None = None


class Encoder(msgspec.Struct, frozen=True):
    """The part of a generating model's config that is its encoder's."""

    model_type: str = DONUT_ENCODER


class ModelConfig(msgspec.Struct, frozen=True):
    """What counts of config.json and generation_config.json."""

    model_type: str = ""
    architectures: list[str] = []
    encoder: Encoder = Encoder()
    decoder: Decoder = Decoder()
    id2label: dict[str, str] = {}
    eos_token_id: int | list[int] | None = None
    decoder_start_token_id: int | None = None
    max_position_embeddings: int | None = None
    max_length: int | None = None


class AddedToken(msgspec.Struct, frozen=True):
    """A token that stands for itself."""

    content: str


class Tokenizer(msgspec.Struct, frozen=True):
    """What counts of tokenizer.json here."""

    added_tokens: list[AddedToken] = []


class Preprocessor(msgspec.Struct, frozen=True):
    """What counts of preprocessor_config.json."""

    size: Any = None
    image_mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    image_std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    do_align_long_axis: bool = False
    do_normalize: bool = True
    do_pad: bool = True
    do_rescale: bool = True
    do_resize: bool = True
    do_thumbnail: bool = True
    resample: int = 2
    rescale_factor: float = 1 / 255


def read_json(path: Path, kind: type[S]) -> S:
    """A JSON file as a struct. Raises ValueError for what is no such file."""
    if not path.is_file() or path.stat().st_size > JSON_LIMIT:
        raise ValueError(f"{path.name} is missing or too large")
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path.name} is damaged: {error}") from error


def family_of(folder: Path) -> Family | None:
    """The family of a folder, None for another kind of model. Raises ValueError for a damaged config."""
    config = read_json(folder / "config.json", ModelConfig)
    if config.model_type in ("vision-encoder-decoder", "donut"):
        return "donut" if config.encoder.model_type == DONUT_ENCODER else None
    return "layoutlmv3" if config.model_type == "layoutlmv3" else None


def tasks_of(folder: Path) -> tuple[DocumentTask, ...]:
    """What a model was trained for, by its files: the head of a LayoutLMv3; the tags that a Donut can write, where one without
    any reads a page (extraction). Raises ValueError for damaged files."""
    if family_of(folder) == "layoutlmv3":
        name = next(iter(read_json(folder / "config.json", ModelConfig).architectures), "")
        return tuple(task for ending, task in _HEADS.items() if name.endswith(ending))
    tags = {token.content for token in read_json(folder / "tokenizer.json", Tokenizer).added_tokens}
    special: dict[DocumentTask, bool] = {"vqa": {QUESTION, ASKED, ANSWER} <= tags, "classification": CLASS in tags}
    found = [task for task, can in special.items() if can]
    return ("extraction", *found) if not found or any(map(_TAG.fullmatch, tags)) else tuple(found)


def find(folder: Path, names: Iterable[str]) -> Path | None:
    """The first of these files that is there, in the folder or its ``onnx``."""
    return next((path for name in names for path in (folder / name, folder / "onnx" / name) if path.is_file()), None)


def graphs(folder: Path) -> dict[str, Path]:
    """The graphs that are run, of those that lie in a folder: ``model``; or ``encoder``, ``first`` (the decoder for the first
    token, or for all) and perhaps ``next`` (for the others; the same file when it is merged)."""
    if family_of(folder) == "layoutlmv3":
        found = {"model": find(folder, GRAPHS)}
    else:
        merged = find(folder, MERGED)
        first, more = merged or find(folder, DECODERS), merged or find(folder, WITH_PAST)
        found = {"encoder": find(folder, ENCODERS), "first": first, "next": more}
    return {role: path for role, path in found.items() if path}


def weights(folder: Path) -> list[Path]:
    """The files of these graphs, each with what lies beside it as its data."""
    return [
        path
        for graph in dict.fromkeys(graphs(folder).values())
        for path in sorted(graph.parent.glob(f"{graph.name}*"))
        if path.is_file()
    ]


def missing(folder: Path) -> str | None:
    """What a folder lacks to be run, as a sentence; None when it is complete. Raises ValueError for a damaged config."""
    family = family_of(folder)
    if family is None:
        return f"it is neither a Donut (vision-encoder-decoder with a {DONUT_ENCODER}) nor a LayoutLMv3 model"
    if not (folder / "tokenizer.json").is_file():
        return "it has no tokenizer.json: save its fast tokenizer"
    found = graphs(folder)
    if family == "layoutlmv3":
        if not tasks_of(folder):
            return f"its config.json names no head (LayoutLMv3{', LayoutLMv3'.join(_HEADS)}): export a fine-tuned model"
        return None if found else f"it has no model.onnx: {_EXPORT_LAYOUT}"
    if not (folder / "preprocessor_config.json").is_file():
        return "it has no preprocessor_config.json"
    if "encoder" not in found:
        return f"it has no encoder_model.onnx: {_EXPORT_DONUT}"
    if "first" not in found:
        return f"it has no decoder_model_merged.onnx and no decoder_model.onnx: {_EXPORT_DONUT}"
    return None
