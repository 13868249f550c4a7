"""The commands of the model cache, all but `import` through a running server."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from paddock.cli import local
from paddock.cli.client import Client, named
from paddock.cli.commands import Groups, command, group
from paddock.cli.show import Screen
from paddock.errors import UpstreamError
from paddock.logs import clean

USES = {  # what a model of this type answers to
    "embedding": ("/v1/embeddings", '"input": "…"'),
    "rerank": ("/v1/rerank", '"query": "…", "documents": ["…"]'),
    "classification": ("/v1/classify", '"texts": ["…"]'),
    "ner": ("/v1/ner", '"texts": ["…"]'),
    "gguf": ("/v1/chat/completions", '"messages": [{"role": "user", "content": "…"}]'),
}


def add(groups: Groups, shared: argparse.ArgumentParser) -> None:
    """Add the group `models`."""
    verbs = group(groups, "models", "the model cache")
    listing = command(verbs, shared, "list", models_list, "list the cached models")
    made = [
        command(verbs, shared, name, run, text)
        for name, run, text in (
            ("show", models_show, "print what is known of a model"),
            ("quantizations", models_quantizations, "list the GGUF quantizations that the hub has of a model"),
            ("download", models_download, "fetch a model into the cache; an interrupted download is resumed"),
            ("delete", models_delete, "delete a cached model, or with :QUANTIZATION one GGUF file of it"),
        )
    ]
    for one in made:
        one.add_argument("model", metavar="MODEL", help="ORG/NAME, or ORG/NAME:QUANTIZATION for a GGUF file")
    for one in (listing, *made[2:]):
        one.add_argument("--provider", default="universal", help="universal (the hub, default) or ollama")
    local.add_models(verbs)


def models_list(options: argparse.Namespace, screen: Screen, client: Client) -> None:
    """Print the cached models."""
    found = client.ask("GET", "/v1/models", query={"provider": options.provider})
    rows = [
        (
            item.get("model_id") or item["id"],
            item.get("size_human") or item.get("size"),
            item.get("last_modified"),
            ", ".join(item.get("revisions", ())),
        )
        for item in found["data"]
    ]
    screen.table(("model", "size", "modified", "revisions"), rows, found, whole="model")


def models_show(options: argparse.Namespace, screen: Screen, client: Client) -> None:
    """Print a model of the catalogue."""
    screen.data(client.ask("GET", f"/v1/models/{named(options.model)}"))


def models_quantizations(options: argparse.Namespace, screen: Screen, client: Client) -> None:
    """Print a model's quantizations."""
    found = client.ask("GET", f"/v1/models/{named(options.model)}/quantizations")
    rows = [(one["quantization"], one["size_human"], one["filename"]) for one in found["options"]]
    screen.table(("quantization", "size", "file"), rows, found, whole="file")


def models_download(options: argparse.Namespace, screen: Screen, client: Client) -> None:
    """Fetch a model, with a bar."""
    body = {"model_name": options.model, "provider": options.provider}
    downloaded = 0
    whole = False
    with screen.progress(of_bytes=True) as bars:
        bar = bars.add_task(clean(options.model), total=None)
        for event in client.events("POST", "/v1/models/download", body):
            kind = event.get("event")
            if kind == "error":
                raise UpstreamError(event["message"], 502)
            if kind == "warning":
                bars.console.print(clean(event["message"]), markup=False)
            if kind == "progress":
                downloaded = event["downloaded"]
                bars.update(bar, completed=downloaded, total=event["total"])
            whole = kind == "complete"
    if not whole:
        raise UpstreamError("the server ended the download: try again, it goes on where it was", 502)
    if screen.as_json:
        screen.data({"model_name": options.model, "downloaded": downloaded})
        return
    screen.say(f"{options.model} is in the cache.")
    if hint := usable(client.ask("GET", "/v1/models")["data"], options.model):
        screen.say(f"Next: {hint}")


def usable(listed: Sequence[Any], model: str) -> str | None:
    """How a cached model is used, by what the catalogue says of it."""
    for item in listed:
        known, wanted = item["id"], model.casefold()
        names = {known.casefold(), known.partition(":")[0].casefold(), known.rpartition("/")[2].casefold()}
        if item.get("type") in USES and wanted in names:
            path, rest = USES[item["type"]]
            return f'POST {path} {{"model": "{model if "/" in model else known}", {rest}}}'
    return None


def models_delete(options: argparse.Namespace, screen: Screen, client: Client) -> None:
    """Delete a model."""
    found = client.ask("DELETE", f"/v1/models/{named(options.model)}", query={"provider": options.provider})
    if screen.as_json:
        screen.data(found)
    screen.say(f"Deleted {options.model}: {found['size_freed'] / 1e6:.1f} MB are free again.")
