"""The helper process: looks at files, renders pages and reads them, until stdin ends."""

from __future__ import annotations

from typing import Any

from paddock.builtin.helper import HelperWork, run_helper
from paddock_ocr.wire import Look, Read, Request

MAX_RESIDENT = 1024 * 1024 * 1024  # bytes that it still holds after a page; the models are 300 MB of them


def load() -> None:
    """Import what every request needs; an engine is imported by the first page that it reads."""
    import PIL.Image  # noqa: F401, PLC0415  heavy
    import pypdfium2  # noqa: F401, PLC0415  heavy


def work(request: Request) -> Any:
    """Do one request."""
    from paddock_ocr import pictures  # noqa: PLC0415  heavy: after the limits are set

    if isinstance(request, Look):
        return pictures.look(request)
    if not isinstance(request, Read):
        return pictures.render(request)
    if request.engine == "paddleocr":
        from paddock_ocr import paddle  # noqa: PLC0415  heavy

        return paddle.read(request)
    from paddock_ocr import tesseract  # noqa: PLC0415  as above

    return tesseract.read(request)


if __name__ == "__main__":
    run_helper(HelperWork(kind=Request, work=work, load=load, section="ocr", max_resident=MAX_RESIDENT))
