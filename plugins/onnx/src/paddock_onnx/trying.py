"""In the helper: a model is loaded and used once. What kills this process would have killed the server."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

from paddock.builtin.helper import HelperWork, run_helper
from paddock.errors import ProviderUnavailable, ValidationFailed
from paddock_onnx.wire import Trial, Verdict

MIB = 1024 * 1024
ROOM = 1024 * MIB  # bytes that any model may take besides its weights
COPIES = 4  # of the weights: the file, those in use, those in the order that the processor likes
MAX_RESIDENT = 300 * MIB


def work(trial: Trial) -> Verdict:
    """Try one."""
    from paddock_onnx.facts import read_facts  # noqa: PLC0415  after the limits are set
    from paddock_onnx.importing.verify import verify  # noqa: PLC0415  heavy

    if sys.platform != "win32" and not trial.providers:  # graphics cards map more than there is
        _bound(ROOM + COPIES * trial.size)
    folder = Path(trial.folder)
    try:
        verify(folder, Path(trial.graph), read_facts(folder), trial.providers)
    except (ValidationFailed, ProviderUnavailable) as error:
        return Verdict(error.message)
    return Verdict("")


def _bound(more: int) -> None:
    """Let this process grow by so many bytes."""
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
    run_helper(HelperWork(kind=Trial, work=work, load=load, section="onnx", max_resident=MAX_RESIDENT))
