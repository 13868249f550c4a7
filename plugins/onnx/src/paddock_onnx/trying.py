"""In the helper: a model is loaded and used once, or built. What kills this process would have killed the server."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

from paddock.builtin.helper import HelperWork, run_helper
from paddock.errors import ProviderUnavailable, ValidationFailed
from paddock_onnx.wire import Build, Trial, Verdict

MIB = 1024 * 1024
ROOM = 1024 * MIB  # bytes that any model may take besides its weights
COPIES = 4  # of the weights: the file, those in use, those in the order that the processor likes
BUILT = 8  # copies while a graph is made: the tensors, the graph of them, its bytes, and those of the trial
MAX_RESIDENT = 300 * MIB


def work(request: Trial | Build) -> Verdict:
    """Try one, or build one."""
    try:
        if isinstance(request, Build):
            _build(request)
        else:
            _try(request)
    except (ValidationFailed, ProviderUnavailable) as error:
        return Verdict(error.message, isinstance(request, Build) and isinstance(error, ProviderUnavailable))
    return Verdict("")


def _try(trial: Trial) -> None:
    from paddock_onnx.facts import read_facts  # noqa: PLC0415  after the limits are set
    from paddock_onnx.importing.verify import verify  # noqa: PLC0415  heavy

    if not trial.providers:  # graphics cards map more than there is
        _bound(ROOM + COPIES * trial.size)
    folder = Path(trial.folder)
    verify(folder, Path(trial.graph), read_facts(folder), trial.providers)


def _build(request: Build) -> None:
    from paddock_onnx.importing.inplace import build  # noqa: PLC0415  after the limits are set

    folder = Path(request.folder)
    _bound(ROOM + BUILT * sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()))
    build(folder, request.limit)


def _bound(more: int) -> None:
    """Let this process grow by so many bytes."""
    if sys.platform == "win32":
        return
    import resource  # noqa: PLC0415  not on every system

    import psutil  # noqa: PLC0415  heavy: only in a helper process

    _, most = resource.getrlimit(resource.RLIMIT_AS)
    with suppress(ValueError, OSError):  # a system may not allow to set it: the timeout still holds
        resource.setrlimit(resource.RLIMIT_AS, (min(psutil.Process().memory_info().vms + more, most), most))


def load() -> None:
    """Import what every model needs."""
    import numpy  # noqa: F401, PLC0415  heavy
    import onnxruntime  # noqa: F401, PLC0415  heavy
    import tokenizers  # noqa: F401, PLC0415  heavy


if __name__ == "__main__":
    run_helper(HelperWork(kind=Trial | Build, work=work, load=load, section="onnx", max_resident=MAX_RESIDENT))
