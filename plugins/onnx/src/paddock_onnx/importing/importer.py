"""From a folder to the cache: read, build or take the graph, check it, store it whole or not at all.

Held against transformers 4.57 and sentence-transformers 5.2 once, with tiny random models: BERT, RoBERTa, XLM-R, DistilBERT and
MPNet built here, these and CamemBERT, ELECTRA, DeBERTa-v2, ModernBERT and Qwen2 as Optimum exports them (vectors, classes, labels
of tokens, cross-encoders; with weights beside the graph, optimised by O2, by torch's other exporter): every token equal, outputs
to 5e-6 in full precision (half precision 4e-3, int8 0.007 to 0.32). Folders of sentence-transformers with every pooling, prompts
and layers: vectors to 3e-6.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from paddock.builtin.hub_cache import HubCache
from paddock.builtin.hub_store import MARKER, default_name, digest_of, store, working_folder
from paddock.builtin.model_names import parse_model
from paddock.contracts.providers import Imported, ModelImporter, Progress, TypeName
from paddock.errors import BadName, BadRequest, ValidationFailed
from paddock_onnx.cache import WEIGHTS, pick_graph, repo_of
from paddock_onnx.dense import put_layers
from paddock_onnx.facts import Facts, ModelConfig, read_facts, read_json
from paddock_onnx.importing.encoders import build
from paddock_onnx.importing.quantize import quantize as quantized
from paddock_onnx.importing.safetensors import Weights
from paddock_onnx.importing.tokenizer import put_tokenizer
from paddock_onnx.importing.verify import verify
from paddock_onnx.probe import probe
from paddock_onnx.settings import OnnxSettings
from paddock_onnx.trial import Trials

COPIED = (
    "config.json", "tokenizer_config.json", "special_tokens_map.json", "modules.json", "sentence_bert_config.json",
    "config_sentence_transformers.json",
)  # fmt: skip
GRAPH = "onnx/model.onnx"
STEPS = 5
MIB = 1024 * 1024
Told = Callable[[Progress], None]


class Marker(msgspec.Struct, frozen=True, kw_only=True):
    """What ``paddock.json`` beside an imported model says. Times in seconds since 1970."""

    imported: float
    sha256: str
    quantize: str | None
    task: str
    built: bool


class OnnxImporter(ModelImporter):
    """Type ``onnx``: text models of BERT, RoBERTa, DistilBERT, MPNet, and whatever is exported to ONNX already."""

    types: ClassVar[tuple[TypeName, ...]] = (TypeName("onnx"),)

    def __init__(self, cache: HubCache, settings: OnnxSettings, *, apart: bool = True) -> None:
        """`apart`: a model is tried in a process of its own before it is stored."""
        self._cache = cache
        self._settings = settings
        self._apart = apart
        self._limit = settings.max_model_mb * MIB

    def run(self, folder: Path, name: str | None, quantize: str | None, told: Told) -> Imported:
        """See `ModelImporter.run`. `quantize` is None or ``int8``."""
        if quantize not in (None, "int8"):
            raise BadRequest(f"quantize is int8 or left away, not {quantize!r}")
        source = self._source(folder)
        model = parse_model(name or default_name(folder, source)).repo
        told(Progress(status="reading", completed=0, total=STEPS))
        facts = read_facts(source)
        with working_folder(self._cache.root) as work:
            (work / "onnx").mkdir()
            built = self._graph(source, work, facts, told)
            if quantize:
                told(Progress(status="quantising to int8", completed=2, total=STEPS))
                _quantize(work, self._limit)
            told(Progress(status="checking", completed=3, total=STEPS))
            _copy(source, work, facts)
            probe(work / GRAPH, self._limit)
            self._check(work, facts)
            told(Progress(status="storing", completed=4, total=STEPS))
            digest = digest_of(work)
            marker = Marker(imported=time.time(), sha256=digest, quantize=quantize, task=facts.task, built=built)
            (work / MARKER).write_bytes(msgspec.json.encode(marker))
            stored, size = store(self._cache.folder(model), work, digest[:40])
        told(Progress(status="done", completed=STEPS, total=STEPS))
        return Imported(model=model, folder=stored, size=size, task=facts.task, hint=hint(model, facts))

    def _check(self, work: Path, facts: Facts) -> None:
        """Raise ValidationFailed unless the model can be used."""
        if not self._apart:
            verify(work, work / GRAPH, facts)
            return
        trials = Trials(self._settings)
        try:
            trials.check(work, work / GRAPH, sum(path.stat().st_size for path in (work / GRAPH).parent.iterdir()))
        finally:
            trials.end()

    def _source(self, folder: Path) -> Path:
        """The folder, or that of a model of the cache by its id."""
        if folder.is_dir():
            return folder
        try:
            found = self._cache.snapshot(repo_of(self._cache, str(folder)))
        except BadName:
            found = None
        if found is None:
            raise ValidationFailed(f"{folder} is no folder, and no model of the cache either")
        return found

    def _graph(self, source: Path, work: Path, facts: Facts, told: Told) -> bool:
        """Put the graph into `work`; whether it had to be built."""
        name = pick_graph([path.relative_to(source).as_posix() for path in source.rglob("*.onnx")])
        if name is not None:
            ready = source / name
            told(Progress(status="taking the ONNX file", completed=1, total=STEPS))
            for beside in probe(ready, self._limit).external:
                shutil.copyfile(ready.parent / beside, work / "onnx" / beside)
            shutil.copyfile(ready, work / GRAPH)
            return False
        told(Progress(status="building the graph", completed=1, total=STEPS))
        build_graph(source, work / GRAPH, facts, self._limit)
        return True


def build_graph(source: Path, target: Path, facts: Facts, limit: int) -> None:
    """Build the graph of a folder with safetensors of at most `limit` bytes into the file `target`. Raises ValidationFailed."""
    if not any((source / name).is_file() for name in WEIGHTS):
        raise ValidationFailed(_no_weights(source))
    size = sum(file.stat().st_size for file in source.glob("*.safetensors"))
    if size > min(limit, 2**31 - MIB):
        raise ValidationFailed(
            f"the weights have {size // MIB} MiB: a graph is built from at most {min(limit // MIB, 2047)} MiB; export "
            "the model to ONNX elsewhere and import the exported folder (setting onnx.max_model_mb)"
        )
    config = read_json(source / "config.json", ModelConfig) or ModelConfig()
    model: Any = build(config, facts, Weights(source))
    target.write_bytes(model.SerializeToString())


def _no_weights(source: Path) -> str:
    if any(source.glob("*.bin")) or any(source.glob("*.pt")):
        return (
            "the folder has its weights as a pickle only, which is never opened: convert them to model.safetensors, or export "
            "the model to ONNX"
        )
    return "the folder has no ONNX file and no model.safetensors"


def _quantize(work: Path, limit: int) -> None:
    source = work / "onnx" / "full.onnx"
    (work / GRAPH).rename(source)
    quantized(source, work / GRAPH)
    needed = {(work / GRAPH).name, *probe(work / GRAPH, limit).external}
    for file in (work / GRAPH).parent.iterdir():
        if file.name not in needed:  # the full graph, and the weights that lay beside it
            file.unlink()


def _copy(source: Path, work: Path, facts: Facts) -> None:
    for name in COPIED:
        if (source / name).is_file():
            shutil.copyfile(source / name, work / name)
    for pooling in source.glob("*_Pooling/config.json"):
        (work / pooling.parent.name).mkdir()
        shutil.copyfile(pooling, work / pooling.parent.name / "config.json")
    put_layers(source, work, facts.dense)
    put_tokenizer(source, work, facts.model_type)


def hint(model: str, facts: Facts) -> str:
    """What can be done with a model now."""
    if facts.task == "embedding":
        return (
            f'POST /v1/embeddings {{"model": "{model}", "input": "…"}}, or as an embedding strategy of a database: type '
            f"UniversalEmbedder, config model: {model}"
        )
    if facts.task == "rerank":
        return f'POST /v1/rerank {{"model": "{model}", "query": "…", "documents": ["…"]}}'
    path = "/v1/classify" if facts.task == "classification" else "/v1/ner"
    return f'POST {path} {{"model": "{model}", "texts": ["…"]}}'
