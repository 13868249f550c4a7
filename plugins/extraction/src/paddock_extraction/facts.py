"""What a model's own files say: its family, its task, its words for things. Reads small JSON files only."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from paddock.contracts.providers import DocumentTask

S = TypeVar("S")
Family = Literal["donut", "layoutlmv3"]
JSON_LIMIT = 4 * 1024 * 1024
_TASKS: dict[str, DocumentTask] = {
    "ForTokenClassification": "extraction",
    "ForQuestionAnswering": "vqa",
    "ForSequenceClassification": "classification",
}
ENCODERS = ("encoder_model.onnx", "encoder_model_fp16.onnx", "encoder_model_quantized.onnx")
MERGED = ("decoder_model_merged.onnx", "decoder_model_merged_fp16.onnx", "decoder_model_merged_quantized.onnx")
DECODERS = ("decoder_model.onnx",)
WITH_PAST = ("decoder_with_past_model.onnx",)
GRAPHS = ("model.onnx", "model_fp16.onnx", "model_quantized.onnx")


class Decoder(msgspec.Struct, frozen=True):
    """The part of a generating model's config that is its decoder's."""

    max_length: int | None = None
    max_position_embeddings: int | None = None
    eos_token_id: int | list[int] | None = None
    decoder_start_token_id: int | None = None


class ModelConfig(msgspec.Struct, frozen=True):
    """What counts of config.json and generation_config.json."""

    model_type: str = ""
    architectures: list[str] = []
    decoder: Decoder = Decoder()
    id2label: dict[str, str] = {}
    eos_token_id: int | list[int] | None = None
    decoder_start_token_id: int | None = None
    max_position_embeddings: int | None = None
    max_length: int | None = None


class Preprocessor(msgspec.Struct, frozen=True):
    """What counts of preprocessor_config.json."""

    size: Any = None
    image_mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    image_std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    do_align_long_axis: bool = False
    do_normalize: bool = True
    do_pad: bool = True
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
        return "donut"
    return "layoutlmv3" if config.model_type == "layoutlmv3" else None


def task_of(config: ModelConfig) -> DocumentTask | None:
    """The one task of a model with a head for it; None when its name does not say."""
    name = next(iter(config.architectures), "")
    return next((task for ending, task in _TASKS.items() if name.endswith(ending)), None)


def find(folder: Path, names: Iterable[str]) -> Path | None:
    """The first of these files that is there, in the folder or its ``onnx``."""
    return next((path for name in names for path in (folder / name, folder / "onnx" / name) if path.is_file()), None)


def missing(folder: Path) -> str | None:
    """What a folder lacks to be run, as a sentence; None when it is complete. Raises ValueError for a damaged config."""
    family = family_of(folder)
    if family is None:
        return "it is neither a Donut (vision-encoder-decoder) nor a LayoutLMv3 model"
    if not (folder / "tokenizer.json").is_file():
        return "it has no tokenizer.json: save its fast tokenizer"
    if family == "layoutlmv3":
        return None if find(folder, GRAPHS) else "it has no model.onnx: export it with optimum-cli export onnx"
    if not (folder / "preprocessor_config.json").is_file():
        return "it has no preprocessor_config.json"
    if find(folder, ENCODERS) is None:
        return "it has no encoder_model.onnx: export it with optimum-cli export onnx"
    if find(folder, (*MERGED, *DECODERS)) is None:
        return "it has no decoder_model_merged.onnx and no decoder_model.onnx: export it with optimum-cli export onnx"
    return None
