"""Names of models on a hub: ``org/name``, ``org/name:QUANT``, the short names of sentence-transformers, GGUF file names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import msgspec

from paddock.errors import BadName

_PART = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9])?"
_MODEL = re.compile(rf"(?P<repo>(?:{_PART}/)?{_PART})(?::(?P<quantization>[A-Za-z0-9][A-Za-z0-9._-]{{0,31}}))?")
_SHARD = re.compile(r"-(\d{5})-of-(\d{5})$")
_QUANTIZATION = re.compile(
    r"(?:^|[-._/])((?:UD-)?(?:I?Q\d(?:_[A-Z0-9]+)*|TQ\d_\d|MXFP4(?:_MOE)?|BF16|FP?16|FP?32))(?=[-._/]|$)", re.IGNORECASE
)
_SENTENCE_TRANSFORMERS = re.compile(
    r"(all|multi-qa|paraphrase|msmarco|distiluse|gtr-t5|sentence-t5|stsb|nli|use-cmlm|quora|LaBSE|clip-ViT|allenai-specter)"
    r"(-|$)"
)
UNKNOWN = "UNKNOWN"  # the quantization of a file whose name states none
# What a repository's own choice would be: small without much loss, then ever larger, then ever worse.
PREFERRED = ("Q4_K_M", "Q4_K_S", "Q4_0", "Q5_K_M", "Q5_K_S", "Q6_K", "Q8_0", "IQ4_XS", "Q3_K_M", "F16", "BF16", "F32")


class ModelName(msgspec.Struct, frozen=True):
    """A repository and, for GGUF, the quantization in upper case."""

    repo: str
    quantization: str | None = None

    def __str__(self) -> str:
        return f"{self.repo}:{self.quantization}" if self.quantization else self.repo

    def completed(self) -> ModelName:
        """With ``sentence-transformers/`` before the short names that its library resolves so."""
        if "/" not in self.repo and _SENTENCE_TRANSFORMERS.match(self.repo):
            return ModelName(f"sentence-transformers/{self.repo}", self.quantization)
        return self


class Quantization(msgspec.Struct, frozen=True, kw_only=True):
    """One GGUF model among the files of a repository: its files in order (several: shards), their size in bytes together."""

    quantization: str
    files: tuple[str, ...]
    size: int


def parse_model(text: str) -> ModelName:
    """Read ``org/name`` or ``org/name:QUANT``. Raises BadName: only what is returned here may become a path or an address."""
    found = _MODEL.fullmatch(text)
    if found is None or "--" in text or ".." in text:
        raise BadName(f"{text[:100]!a} is no model of a hub: write ORG/NAME, or ORG/NAME:QUANTIZATION for a GGUF file")
    quantization = found["quantization"]
    return ModelName(found["repo"], quantization.upper() if quantization else None)


def quantizations(sizes: Mapping[str, int]) -> list[Quantization]:
    """The GGUF models among files (name to size), smallest first; a set of shards with one missing is left out."""
    groups: dict[tuple[str, str], dict[int, str]] = {}
    for name in sizes:
        stem, end = name[:-5], name[-5:].lower()
        if end != ".gguf" or is_companion(name):
            continue
        shard = _SHARD.search(stem)
        key, number = (stem[: shard.start()], shard[2]) if shard else (stem, "00001"), int(shard[1]) if shard else 1
        groups.setdefault(key, {})[number] = name
    found = [
        Quantization(
            quantization=quantization_of(stem),
            files=tuple(parts[number] for number in sorted(parts)),
            size=sum(sizes[name] for name in parts.values()),
        )
        for (stem, count), parts in groups.items()
        if sorted(parts) == list(range(1, int(count) + 1))
    ]
    return sorted(found, key=lambda one: (one.size, one.files))


def quantization_of(stem: str) -> str:
    """The quantization that a GGUF file's name (without ``.gguf``) states, in upper case; else `UNKNOWN`."""
    found = _QUANTIZATION.findall(stem)
    return found[-1].upper() if found else UNKNOWN


def is_companion(name: str) -> bool:
    """Whether a GGUF file belongs to a model and is none: a projector of pictures, or an importance matrix. A model that was
    made with one may say so too, but states its quantization."""
    own = name.rpartition("/")[2].lower().removesuffix(".gguf")
    return "mmproj" in own or ("imatrix" in own and quantization_of(own) == UNKNOWN)


def choose(offered: Sequence[Quantization], wanted: str | None) -> Quantization | None:
    """The one of that quantization, without one the preferred; None when there is none."""
    if wanted is None:
        ranks = {name: rank for rank, name in enumerate(PREFERRED)}
        return min(offered, key=lambda one: ranks.get(one.quantization, len(ranks)), default=None)
    return next((one for one in offered if one.quantization == wanted.upper()), None)
