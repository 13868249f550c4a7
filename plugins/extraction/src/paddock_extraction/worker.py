"""The helper process: keeps one model and does pages with it, until stdin ends."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from paddock.builtin.helper import HelperWork, Refused, run_helper
from paddock.contracts.providers import FoundDocument
from paddock_extraction.facts import family_of
from paddock_extraction.wire import Request

MAX_RESIDENT = 1 << 50  # a model may be as large as memory_mb allows: it is kept


class Model(Protocol):
    """A loaded model."""

    def find(self, request: Request) -> FoundDocument:
        """Do the task for one page."""


class Worker:
    """Holds the model that was asked for last."""

    def __init__(self) -> None:
        self._key: tuple[str, int] | None = None
        self._model: Model | None = None

    def work(self, request: Request) -> FoundDocument:
        """Do one page."""
        key = (request.folder, request.threads)
        if self._key != key or self._model is None:
            self._key = self._model = None  # the old one leaves memory before the new one comes
            self._model = loaded(request)
            self._key = key
        return self._model.find(request)


def loaded(request: Request) -> Model:
    """Load a model. Raises Refused."""
    from paddock_extraction.donut import Donut  # noqa: PLC0415  heavy: after the limits are set
    from paddock_extraction.layout import LayoutModel  # noqa: PLC0415  heavy

    folder = Path(request.folder)
    try:
        kind = Donut if family_of(folder) == "donut" else LayoutModel
        return kind(folder, request.threads, request.model)
    except (ValueError, OSError) as error:
        raise Refused(f"can't be read: the model {request.model} is damaged: {error}") from error


def load() -> None:
    """Import what every model needs."""
    import onnxruntime  # noqa: F401, PLC0415  heavy


if __name__ == "__main__":
    run_helper(HelperWork(kind=Request, work=Worker().work, load=load, section="extraction", max_resident=MAX_RESIDENT))
