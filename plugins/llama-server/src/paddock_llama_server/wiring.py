"""How the parts in front of the instances are put together."""

from __future__ import annotations

from paddock.contracts.base import Service
from paddock.contracts.providers import Environment
from paddock_llama_server.binary import Binary
from paddock_llama_server.drafts import Drafts
from paddock_llama_server.files import ModelFiles
from paddock_llama_server.proxy import InstanceProxy
from paddock_llama_server.spec import Instances
from paddock_llama_server.updates import Updates
from paddock_llama_server.views_older import OlderApi
from paddock_llama_server.views_v1 import NewerApi


def api_services(env: Environment, instances: Instances, files: ModelFiles) -> list[Service]:
    """Everything that answers under ``/api/v1/instances``, ``/api/v1/server``, ``/api/instances`` and ``/api/ws``; `files` are
    those that an instance may name."""
    settings = env.settings
    binary = Binary(settings)
    drafts = Drafts(settings, env.data_dir, env.host, binary, files)
    updates = Updates(instances, env.data_dir, interval=settings.stats_interval, low_disk=settings.low_disk_bytes)
    return [
        NewerApi(instances, drafts, binary),
        OlderApi(instances, drafts, env.http),
        InstanceProxy(instances, env.http),
        updates,
    ]
