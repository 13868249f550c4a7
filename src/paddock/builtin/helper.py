"""The helper's side of `paddock.builtin.helpers`: the main loop of a helper process."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, BinaryIO

import msgspec

from paddock.builtin.helpers import HelperReply, receive, send

MAX_USES = 200


class Refused(Exception):
    """The file can't be read; the message is a reason for people that follows "the file".

    `busy`: a library gave up waiting, but a thread of it still works on the file.
    """

    def __init__(self, reason: str, *, busy: bool = False) -> None:
        super().__init__(reason)
        self.busy = busy


class HelperWork(msgspec.Struct, frozen=True, kw_only=True):
    """What a helper does: `work` with requests of the type `kind`, which may be a union. `load` imports what is heavy, before the
    first file's time begins to run. `section` of the settings bounds it; one that still holds more than `max_resident` bytes
    after a file is replaced."""

    kind: Any
    work: Callable[[Any], Any]
    load: Callable[[], None]
    section: str
    max_resident: int


def run_helper(what: HelperWork) -> None:
    """Answer requests on stdin until it ends. stdout is kept for replies: what libraries print must not mix with them."""
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    if sys.platform != "win32":
        _limit(int(sys.argv[1]))
    with suppress(BrokenPipeError):  # the server is gone
        what.load()
        _serve(sys.stdin.buffer, replies, what)


def _limit(memory_mb: int) -> None:
    """Bound the address space, and leave no core dump of other people's files."""
    import resource  # noqa: PLC0415  not on every system

    with suppress(ValueError, OSError):  # a system may not allow to set it: the timeout still holds
        resource.setrlimit(resource.RLIMIT_AS, (memory_mb * 1024**2, memory_mb * 1024**2))
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _serve(requests: BinaryIO, replies: BinaryIO, what: HelperWork) -> None:
    import psutil  # noqa: PLC0415  heavy: only in a helper process

    decoder, process = msgspec.json.Decoder(what.kind), psutil.Process()
    uses = 0
    send(replies, msgspec.json.encode(HelperReply()))
    while (data := receive(requests)) is not None:
        uses += 1
        reply = _answer(decoder.decode(data), what)
        reply.spent = reply.spent or uses >= MAX_USES or process.memory_info().rss > what.max_resident
        send(replies, msgspec.json.encode(reply))


def _answer(request: Any, what: HelperWork) -> HelperReply:
    try:
        return HelperReply(found=msgspec.Raw(msgspec.json.encode(what.work(request), enc_hook=str)))
    except Refused as error:
        return HelperReply(refused=str(error), spent=error.busy)
    except MemoryError:
        return HelperReply(refused=f"needs more memory than {what.section}.memory_mb allows", spent=True)
    except Exception as error:  # noqa: BLE001  the server raises it again: our faults must not look like bad files
        return HelperReply(fault=f"{type(error).__name__}: {error}"[:500], spent=True)
