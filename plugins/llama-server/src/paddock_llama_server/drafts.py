"""The last checks of a spec before it is stored: what depends on this host and its settings."""

from __future__ import annotations

import asyncio
from pathlib import Path

from paddock.contracts.providers import Host
from paddock_llama_server.binary import Binary
from paddock_llama_server.guard import check_files, model_folders
from paddock_llama_server.settings import LlamaServerSettings
from paddock_llama_server.spec import Spec


class Drafts:
    """Holds a spec against the model folders and against the binary's own flags. Who merges into a stored spec holds
    `merging` from reading it to storing it, so that of two updates neither is lost."""

    def __init__(self, settings: LlamaServerSettings, data_dir: Path, host: Host, binary: Binary) -> None:
        self.settings = settings
        self.merging = asyncio.Lock()
        self._data_dir = data_dir
        self._host = host
        self._binary = binary

    async def checked(self, spec: Spec) -> Spec:
        """The spec itself. Raises BadRequest naming the option, and the setting that would permit it."""
        folders = model_folders(self.settings, self._data_dir) if self._host.closed else None
        await asyncio.to_thread(check_files, spec, folders)
        if spec.command_override is None:
            await self._binary.check(spec.options)
        return spec
