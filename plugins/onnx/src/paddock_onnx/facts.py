"""What a model's own files say about it: task, labels, window, pooling, prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from stat import S_ISREG
from typing import Any, Literal, TypeVar

import msgspec

from paddock.errors import ValidationFailed

T = TypeVar("T")
Task = Literal["embedding", "rerank", "classification", "ner"]
Pooling = Literal["mean", "cls", "lasttoken", "max"]

JSON_LIMIT = 16 * 1024 * 1024  # bytes of one of these files
WINDOW = 512  # tokens, where no file says another number
HUGE = 1_000_000  # what tokenizers write who know no limit is far above
WIDEST = 65_536  # numbers of one vector
POOLINGS: Mapping[str, Pooling] = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_lasttoken": "lasttoken",
}
MODULES = (
    "Transformer",
    "Pooling",
    "Dense",
    "Normalize",
)  # of sentence-transformers, in the order in which they are run
UNKNOWN_POOLINGS = ("pooling_mode_mean_sqrt_len_tokens", "pooling_mode_weightedmean_tokens")
ELSEWHERE = ("layoutlm", "vision-encoder-decoder", "clip", "siglip", "vit", "whisper", "donut")  # no models of texts
OFFSET_POSITIONS = ("roberta", "xlm-roberta", "camembert", "mpnet")  # their first positions are taken


class ModelConfig(msgspec.Struct, frozen=True):
    """The part of ``config.json`` that is read, under the names of BERT; DistilBERT has its own."""

    model_type: str = ""
    architectures: list[str] | None = None
    hidden_size: int | None = None
    dim: int | None = None
    num_hidden_layers: int | None = None
    n_layers: int | None = None
    num_attention_heads: int | None = None
    n_heads: int | None = None
    hidden_act: str | None = None
    activation: str | None = None
    layer_norm_eps: float | None = None
    max_position_embeddings: int | None = None
    position_embedding_type: str | None = None
    relative_attention_num_buckets: int = 32
    pad_token_id: int | None = None
    is_decoder: bool = False
    problem_type: str | None = None
    num_labels: int | None = None
    id2label: dict[str, str] | None = None


class Module(msgspec.Struct, frozen=True):
    """One entry of sentence-transformers' ``modules.json``."""

    type: str
    path: str = ""


class SentenceConfig(msgspec.Struct, frozen=True):
    """``sentence_bert_config.json``."""

    max_seq_length: int | None = None
    do_lower_case: bool = False


class Prompts(msgspec.Struct, frozen=True):
    """The part of ``config_sentence_transformers.json`` that is read."""

    prompts: dict[str, str] | None = None
    default_prompt_name: str | None = None


class TokenizerConfig(msgspec.Struct, frozen=True):
    """The part of ``tokenizer_config.json`` that is read."""

    model_max_length: float | None = None
    do_lower_case: bool = True
    tokenize_chinese_chars: bool = True
    strip_accents: bool | None = None


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that running the model needs besides its graph and tokenizer.

    `window` is the length of its input in tokens; `labels` in the order of the outputs; `multi_label` when they do not
    exclude each other; `dense` are the folders of layers behind pooling; `prompts` by name; `pool_prompt` whether a prompt's
    tokens count for the vector.
    """

    task: Task
    model_type: str
    window: int
    labels: tuple[str, ...] = ()
    multi_label: bool = False
    pooling: Pooling = "mean"
    dense: tuple[str, ...] = ()
    normalize: bool = False
    prompts: Mapping[str, str] = {}
    default_prompt: str | None = None
    pool_prompt: bool = True
    lower: bool = False

    def fits(self, shape: tuple[int, ...], texts: int, tokens: int) -> bool:
        """Whether an output of this shape is what such a model gives for texts that are padded to so many tokens."""
        if self.task == "embedding":
            return shape[:-1] in ((texts, tokens), (texts,)) and 1 <= shape[-1] <= WIDEST
        if self.task == "ner":
            return shape == (texts, tokens, len(self.labels))
        return shape == (texts, len(self.labels))


def read_facts(folder: Path) -> Facts:
    """Read them. Raises ValidationFailed naming the file that is missing, damaged, or asks for what is not done here."""
    config = read_json(folder / "config.json", ModelConfig)
    if config is None:
        raise ValidationFailed("config.json is missing: this is no folder of a Hugging Face model")
    modules = read_json(folder / "modules.json", list[Module]) or []
    dense = _check_modules(modules)
    pooling, pool_prompt = _pooling(folder, modules)
    sentence = read_json(folder / "sentence_bert_config.json", SentenceConfig) or SentenceConfig()
    prompts = read_json(folder / "config_sentence_transformers.json", Prompts) or Prompts()
    labels = _labels(config)
    return Facts(
        task=_task(config, modules, labels),
        model_type=config.model_type,
        window=_window(folder, config, sentence),
        labels=labels,
        multi_label=config.problem_type == "multi_label_classification",
        pooling=pooling,
        dense=dense,
        normalize=any(module.type.endswith(".Normalize") for module in modules),
        prompts={name: text for name, text in (prompts.prompts or {}).items() if text},
        default_prompt=prompts.default_prompt_name,
        pool_prompt=pool_prompt,
        lower=sentence.do_lower_case,
    )


def elsewhere(folder: Path) -> str | None:
    """The kind of a model that, by its config, is none of texts; None for models of texts and damaged files."""
    try:
        config = read_json(folder / "config.json", ModelConfig)
    except ValidationFailed:
        return None
    return config.model_type if config and config.model_type.startswith(ELSEWHERE) else None


def read_json(path: Path, kind: type[T]) -> T | None:
    """The file decoded, None when it is not there. Raises ValidationFailed naming it when it is damaged."""
    try:
        return msgspec.json.decode(read_bytes(path, JSON_LIMIT), type=kind)
    except FileNotFoundError:
        return None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValidationFailed(f"{path.name} can't be read: {error}") from error


def read_bytes(path: Path, limit: int) -> bytes:
    """What is in a file of a model. Raises FileNotFoundError, ValidationFailed for one that is no file, is larger than `limit`
    bytes or can't be read."""
    try:
        found = path.stat()
        if not S_ISREG(found.st_mode):  # a pipe would be waited for
            raise ValidationFailed(f"{path.name} is no file")
        if found.st_size > limit:
            raise ValidationFailed(f"{path.name} is larger than {limit} bytes: it is no file of a model")
        return path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ValidationFailed(f"{path.name} can't be read: {error.strerror}") from error


def _labels(config: ModelConfig) -> tuple[str, ...]:
    if config.id2label:
        try:
            return tuple(config.id2label[str(number)] for number in range(len(config.id2label)))
        except KeyError as error:
            raise ValidationFailed("config.json: id2label does not count its labels from 0") from error
    return tuple(f"LABEL_{number}" for number in range(min(config.num_labels or 2, 10_000)))


def _task(config: ModelConfig, modules: list[Module], labels: tuple[str, ...]) -> Task:
    architecture = (config.architectures or [""])[0]
    if modules:
        return "embedding"
    if architecture.endswith("ForTokenClassification"):
        return "ner"
    if architecture.endswith("ForSequenceClassification"):
        return "rerank" if len(labels) == 1 else "classification"
    return "embedding"


def _window(folder: Path, config: ModelConfig, sentence: SentenceConfig) -> int:
    tokenizer = read_json(folder / "tokenizer_config.json", TokenizerConfig) or TokenizerConfig()
    taken = 2 if config.model_type in OFFSET_POSITIONS else 0
    positions = config.max_position_embeddings - taken if config.max_position_embeddings else None
    given = sentence.max_seq_length or tokenizer.model_max_length
    limits = [int(limit) for limit in (given, positions) if limit and 1 < limit < HUGE]
    return min(limits, default=WINDOW)


def _check_modules(modules: Sequence[Module]) -> tuple[str, ...]:
    """The folders of the Dense layers. Raises ValidationFailed for modules, or an order of them, that is not done here."""
    kinds = [module.type.rpartition(".")[2] for module in modules]
    for kind, module in zip(kinds, modules, strict=True):
        if kind not in MODULES:
            raise ValidationFailed(f"modules.json: the module {kind[:40]} is not supported, only {', '.join(MODULES)}")
        if kind in ("Pooling", "Dense") and (module.path in ("", "..") or Path(module.path).name != module.path):
            raise ValidationFailed(f"modules.json: the path of {kind} is no folder in this one")
    if kinds != sorted(kinds, key=MODULES.index):
        raise ValidationFailed(
            f"modules.json: modules are run in the order {', '.join(MODULES)}, not {', '.join(kinds)[:200]}"
        )
    return tuple(module.path for kind, module in zip(kinds, modules, strict=True) if kind == "Dense")


def _pooling(folder: Path, modules: list[Module]) -> tuple[Pooling, bool]:
    """How token vectors become one, and whether those of the prompt count."""
    named = next((module.path for module in modules if module.type.endswith(".Pooling")), "1_Pooling")
    config: dict[str, Any] = read_json(folder / named / "config.json", dict[str, Any]) or {}
    asked = [name for name in UNKNOWN_POOLINGS if config.get(name)]
    found = [pooling for name, pooling in POOLINGS.items() if config.get(name)]
    if "pooling_mode" in config:
        found, asked = (
            [one for one in POOLINGS.values() if one == config["pooling_mode"]],
            [str(config["pooling_mode"])],
        )
    if len(found) > 1 or (asked and not found):
        shown = ", ".join(map(str, [*found, *asked]))
        raise ValidationFailed(
            f"{named}/config.json: the pooling {shown[:80]} is not supported; one of mean, cls, lasttoken, max"
        )
    return (found[0] if found else "mean"), config.get("include_prompt") is not False
