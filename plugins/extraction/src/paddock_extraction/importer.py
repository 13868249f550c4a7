"""From an Optimum export to the model cache."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from paddock.builtin.hub_cache import HubCache
from paddock.builtin.hub_store import MARKER, default_name, digest_of, store, working_folder
from paddock.builtin.model_names import parse_model
from paddock.contracts.providers import DocumentTask, Imported, ModelImporter, Progress, TypeName
from paddock.errors import BadRequest, ValidationFailed
from paddock_extraction import facts
from paddock_extraction.settings import ExtractionSettings

SMALL = (
    "config.json", "generation_config.json", "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json",
    "special_tokens_map.json",
)  # fmt: skip
STEPS = 3
MIB = 1024 * 1024
Told = Callable[[Progress], None]


class DocumentModelImporter(ModelImporter):
    """Type ``documents``: Donut and LayoutLMv3."""

    types = (TypeName("documents"),)

    def __init__(self, settings: ExtractionSettings, cache: HubCache) -> None:
        self._settings = settings
        self._cache = cache

    def fits(self, folder: Path) -> bool:
        """Whether config.json names one of the families."""
        try:
            return facts.family_of(folder) is not None
        except (ValueError, OSError):
            return False

    def run(self, folder: Path, name: str | None, quantize: str | None, told: Told) -> Imported:
        """See `ModelImporter.run`; nothing is quantised here."""
        if quantize is not None:
            raise BadRequest("document models are taken as they are: quantise the export with optimum-cli")
        told(Progress(status="reading", completed=0, total=STEPS))
        task = _task(folder)
        files = list(_files(folder))
        size = sum(path.stat().st_size for path in files)
        if size > self._settings.max_model_mb * MIB:
            raise ValidationFailed(
                f"the model has {size // MIB} MiB; at most {self._settings.max_model_mb} are taken (extraction.max_model_mb)"
            )
        model = parse_model(name or default_name(folder, folder)).repo
        with working_folder(self._cache.root) as work:
            told(Progress(status="copying", completed=1, total=STEPS))
            for path in files:
                target = work / path.relative_to(folder)
                target.parent.mkdir(exist_ok=True)
                shutil.copyfile(path, target)
            told(Progress(status="storing", completed=2, total=STEPS))
            digest = digest_of(work)
            marker = {"imported": time.time(), "sha256": digest, "quantize": None, "task": task, "built": False}
            (work / MARKER).write_bytes(msgspec.json.encode(marker))
            stored, kept = store(self._cache.folder(model), work, digest[:40])
        told(Progress(status="done", completed=STEPS, total=STEPS))
        return Imported(model=model, folder=stored, size=kept, task=task, hint=_hint(model, task))


def _task(folder: Path) -> DocumentTask:
    """The first task of a model with all its files. Raises ValidationFailed for another folder."""
    try:
        lacking = facts.missing(folder)
        if lacking:
            raise ValidationFailed(f"{folder} can't be taken in: {lacking}")
        return facts.tasks_of(folder)[0]
    except ValueError as error:
        raise ValidationFailed(f"{folder} is no model: {error}") from error


def _files(folder: Path) -> Iterator[Path]:
    """What is run, and what says how. Raises ValidationFailed for a link that leads elsewhere; those of a hub's cache lead from a
    snapshot to the blobs beside it."""
    home = (folder.parent.parent if folder.parent.name == "snapshots" else folder).resolve()
    for path in (*(folder / name for name in SMALL), *facts.weights(folder)):
        if path.is_file():
            if not path.resolve().is_relative_to(home):
                raise ValidationFailed(f"{path} is a link that leads out of the folder: put the file itself there")
            yield path


def _hint(model: str, task: str) -> str:
    asked = ', "prompts": ["What is the total?"]' if task == "vqa" else ""
    return f'POST /v1/documents/extract {{"model": "{model}", "task": "{task}"{asked}, "images": ["…base64…"]}}'
