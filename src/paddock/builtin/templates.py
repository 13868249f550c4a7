"""Project templates: files NAME.yaml in folders."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from paddock.contracts.providers import TemplateSource, TypeName
from paddock.errors import BadName, ValidationFailed
from paddock.resources import conf_folder
from paddock.settings import Settings
from paddock.storage import check_name

MAX_BYTES = 1024 * 1024
_SUFFIX = ".yaml"


def template_folders(settings: Settings) -> list[Path]:
    """The folders of ``projects.template_dirs``, then the shipped one: a template of the user's replaces a shipped one."""
    own = [Path(folder).expanduser().absolute() for folder in settings.projects.template_dirs]
    return [*own, conf_folder() / "templates"]


class FolderTemplates(TemplateSource):
    """Templates in folders; of two with the same name, the one in the earlier folder counts. Looks anew at every call."""

    types: ClassVar = (TypeName("folder"),)

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = list(folders)

    async def names(self) -> list[str]:
        return await asyncio.to_thread(lambda: sorted(self._find()))

    async def read(self, name: str) -> str | None:
        try:
            check_name(name, "template")
        except BadName:
            return None
        path = (await asyncio.to_thread(self._find)).get(name)
        return await asyncio.to_thread(_text, path) if path else None

    def _find(self) -> dict[str, Path]:
        found: dict[str, Path] = {}
        for folder in self._folders:
            for path in folder.glob(f"*{_SUFFIX}"):
                if path.is_file() and not path.name.startswith("."):
                    found.setdefault(path.stem, path)
        return found


def _text(path: Path) -> str:
    try:
        if path.stat().st_size <= MAX_BYTES:
            return path.read_text(encoding="utf-8")
        reason = f"larger than {MAX_BYTES} bytes"
    except UnicodeDecodeError:
        reason = "not UTF-8"
    except OSError as error:
        reason = f"can't be read: {error.strerror}"
    raise ValidationFailed(f"the template {path.name} is unusable: {reason}")
