"""The last checks of a spec before it is stored: what depends on this host and its settings."""

from __future__ import annotations

import asyncio
from pathlib import Path

from msgspec.structs import replace

from paddock.contracts.providers import Host
from paddock.errors import BadRequest, ModelNotFound
from paddock_llama_server.binary import Binary
from paddock_llama_server.files import ModelFiles
from paddock_llama_server.guard import check_files, model_folders
from paddock_llama_server.settings import LlamaServerSettings
from paddock_llama_server.spec import Spec

NAMED = ("model", "model_draft")  # options that may name a model instead of its file


class Drafts:
    """Holds a spec against the model folders and against the binary's own flags. Who merges into a stored spec holds
    `merging` from reading it to storing it, so that of two updates neither is lost."""

    def __init__(
        self, settings: LlamaServerSettings, data_dir: Path, host: Host, binary: Binary, files: ModelFiles
    ) -> None:
        self.settings = settings
        self.merging = asyncio.Lock()
        self._data_dir = data_dir
        self._host = host
        self._binary = binary
        self._files = files

    async def checked(self, spec: Spec) -> Spec:
        """The spec with the files that its models' names mean. Raises BadRequest naming the option, and the setting that would
        permit it."""
        spec = await asyncio.to_thread(self._with_files, spec)
        folders = model_folders(self.settings, self._data_dir) if self._host.closed else None
        await asyncio.to_thread(check_files, spec, folders)
        if spec.command_override is None:
            await self._binary.check(spec.options)
        return spec

    def _with_files(self, spec: Spec) -> Spec:
        """Models by name (``repo:QUANT``) as the paths of their files, so that they stay what they are when others come."""
        found = {}
        for option in NAMED:
            name = spec.options.get(option)
            if isinstance(name, str) and not Path(name).is_absolute():
                found[option] = str(self._file(option, name))
        return replace(spec, options={**spec.options, **found}) if found else spec

    def _file(self, option: str, name: str) -> Path:
        try:
            return self._files.find(name, closed=self._host.closed)
        except ModelNotFound as error:
            raise BadRequest(f"{option}: {error.message}, or write the whole path of a file") from error
