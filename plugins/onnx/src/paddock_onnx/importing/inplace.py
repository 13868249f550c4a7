"""What a downloaded model lacks to be run, made of the rest of it and put beside it: its graph, its tokenizer.

That is done in a helper process, whose memory goes with it. The snapshot stays what other tools of the hub know, with a file
more; the one of another commit is completed anew.
"""

from __future__ import annotations

import os
from pathlib import Path

from paddock.builtin.hub_store import working_folder
from paddock.errors import ValidationFailed
from paddock.storage.files import fsync_folder
from paddock_onnx.cache import GRAPHS, pick_graph
from paddock_onnx.dense import put_layers
from paddock_onnx.facts import read_facts
from paddock_onnx.importing.importer import build_graph
from paddock_onnx.importing.tokenizer import FILE, put_tokenizer
from paddock_onnx.importing.verify import verify
from paddock_onnx.probe import probe

GRAPH = GRAPHS[0]


def build(snapshot: Path, limit: int) -> None:
    """Make what a snapshot of the cache lacks; `limit` bounds the bytes of its weights. Blocks. Each file appears whole, the
    graph last, and only if it runs. Raises ValidationFailed (the model can't be built), ProviderUnavailable (the cache can't be
    written)."""
    facts = read_facts(snapshot)
    found = pick_graph([path.relative_to(snapshot).as_posix() for path in snapshot.rglob("*.onnx")])
    if found is not None and (snapshot / FILE).is_file():
        return  # somebody else was quicker
    with working_folder(snapshot.parents[2]) as work:
        made = work / "model.onnx"
        put_tokenizer(snapshot, work, facts.model_type)
        put_layers(snapshot, work, facts.dense)
        if found is None:
            build_graph(snapshot, made, facts, limit)
            probe(made, limit)
        verify(work, snapshot / found if found else made, facts)
        if not (snapshot / FILE).is_file():
            _move(work / FILE, snapshot / FILE)
        if found is None:
            _move(made, snapshot / GRAPH)


def _move(made: Path, target: Path) -> None:
    folder = target.parent
    if folder.is_symlink():
        raise ValidationFailed(f"{folder.name} in the model's folder is a symbolic link: remove it")
    folder.mkdir(exist_ok=True)
    with made.open("rb") as file:
        os.fsync(file.fileno())
    made.replace(target)
    fsync_folder(folder)
