"""``tokenizer.json`` of a model folder; where there is only a vocabulary, made from that."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from paddock.errors import PaddockError, ValidationFailed
from paddock_onnx.facts import JSON_LIMIT, TokenizerConfig, read_bytes, read_json

FILE = "tokenizer.json"
TOKENIZERS = ((FILE,), ("vocab.txt",), ("vocab.json", "merges.txt"))  # what a model may have one as


def put_tokenizer(source: Path, target: Path, model_type: str) -> None:
    """Write ``tokenizer.json`` into `target`; whether it can be used is not looked at. Raises ValidationFailed when the folder
    has nothing to make it from."""
    if (source / FILE).is_file():
        text = read_tokenizer(source)
    elif (source / "vocab.txt").is_file():
        text = _word_pieces(source, model_type)
    elif (source / "vocab.json").is_file() and (source / "merges.txt").is_file():
        text = _byte_pairs(source)
    else:
        raise ValidationFailed(
            f"{FILE} is missing, and so are vocab.txt, and vocab.json with merges.txt: copy the tokenizer's files too "
            "(AutoTokenizer.from_pretrained(…).save_pretrained(FOLDER) writes them)"
        )
    (target / FILE).write_text(text, encoding="utf-8")


def check_tokenizer(text: str) -> None:
    """Raise ValidationFailed unless the tokenizers package can read it."""
    from tokenizers import Tokenizer  # noqa: PLC0415  heavy: on first use

    with calm(lambda why: ValidationFailed(f"{FILE} can't be read: {why}")):
        Tokenizer.from_str(text)


@contextmanager
def calm(problem: Callable[[str], PaddockError]) -> Iterator[None]:
    """Turn whatever the tokenizers package raises into `problem`, told why in a few words: it is written in Rust, and what
    panics there is no Exception."""
    try:
        yield
    except (PaddockError, asyncio.CancelledError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        raise problem(" ".join(str(error).split())[:200]) from error


def read_tokenizer(folder: Path) -> str:
    """The text of ``tokenizer.json``. Raises ValidationFailed."""
    try:
        return read_bytes(folder / FILE, 8 * JSON_LIMIT).decode()
    except (FileNotFoundError, UnicodeDecodeError) as error:
        raise ValidationFailed(f"{FILE} of the model is missing or can't be read: fetch or import it again") from error


def _word_pieces(source: Path, model_type: str) -> str:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors  # noqa: PLC0415  heavy: on first use

    config = read_json(source / "tokenizer_config.json", TokenizerConfig) or TokenizerConfig()
    words = (source / "vocab.txt").read_text(encoding="utf-8").splitlines()
    vocabulary = {word: number for number, word in enumerate(words)}
    first, last, unknown = ("<s>", "</s>", "[UNK]") if model_type == "mpnet" else ("[CLS]", "[SEP]", "[UNK]")
    if first not in vocabulary or last not in vocabulary:
        raise ValidationFailed(
            f"vocab.txt lacks {first} or {last}: it does not belong to a model of the type {model_type}"
        )
    made = Tokenizer(models.WordPiece(vocabulary, unk_token=unknown, max_input_chars_per_word=100))
    made.normalizer = normalizers.BertNormalizer(
        handle_chinese_chars=config.tokenize_chinese_chars,
        strip_accents=config.strip_accents,
        lowercase=config.do_lower_case,
    )
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    pair = f"{first} $A {last} {last} $B {last}" if model_type == "mpnet" else f"{first} $A {last} $B:1 {last}:1"
    made.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}",
        pair=pair,
        special_tokens=[(first, vocabulary[first]), (last, vocabulary[last])],
    )
    return made.to_str()


def _byte_pairs(source: Path) -> str:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors  # noqa: PLC0415  heavy: on first use

    vocabulary = read_json(source / "vocab.json", dict[str, int]) or {}
    lines = (source / "merges.txt").read_text(encoding="utf-8").splitlines()
    merges = [
        (pair[0], pair[1]) for line in lines if not line.startswith("#version") and len(pair := line.split()) == 2
    ]
    try:
        made = Tokenizer(models.BPE(vocabulary, merges))
        made.post_processor = processors.RobertaProcessing(
            ("</s>", vocabulary["</s>"]), ("<s>", vocabulary["<s>"]), trim_offsets=True, add_prefix_space=False
        )
    except Exception as error:
        raise ValidationFailed(f"vocab.json and merges.txt do not belong together: {error}") from error
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    return made.to_str()


def padding_id(text: str) -> int:
    """The number of the padding token of a ``tokenizer.json``; 0 without one."""
    found = msgspec.json.decode(text.encode(), type=_Tokenizer)
    if found.padding is not None:
        return found.padding.pad_id
    return next((one.id for one in found.added_tokens if one.content in ("[PAD]", "<pad>")), 0)


class _Padding(msgspec.Struct):
    pad_id: int = 0


class _Added(msgspec.Struct):
    id: int
    content: str


class _Tokenizer(msgspec.Struct):
    padding: _Padding | None = None
    added_tokens: list[_Added] = []
