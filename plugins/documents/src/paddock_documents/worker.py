"""The helper process: reads documents that the server names on stdin, and answers on stdout, until stdin ends.

A hostile document may crash it, fill its memory or keep it busy: then it dies, and the server goes on.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import BinaryIO

import msgspec
import psutil

from paddock_documents.extract import Refused, extract
from paddock_documents.wire import Reply, Request, receive, send

MAX_USES = 200
MAX_RESIDENT = 256 * 1024 * 1024  # bytes that it still holds after a document


def limit(memory_mb: int) -> None:
    """Bound the address space, and leave no core dump of other people's documents."""
    import resource  # noqa: PLC0415  not on every system

    with suppress(ValueError, OSError):  # a system may not allow to set it: the timeout still holds
        resource.setrlimit(resource.RLIMIT_AS, (memory_mb * 1024**2, memory_mb * 1024**2))
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def serve(requests: BinaryIO, replies: BinaryIO) -> None:
    """Answer one request after the other."""
    import kreuzberg  # noqa: F401, PLC0415  heavy: before the first document's time begins to run

    decoder, process = msgspec.json.Decoder(Request), psutil.Process()
    uses = 0
    send(replies, Reply())
    while (data := receive(requests)) is not None:
        request = decoder.decode(data)
        uses += 1
        try:
            reply = Reply(found=extract(request))
        except Refused as error:
            reply = Reply(refused=str(error), spent=error.busy)
        except MemoryError:
            reply = Reply(refused="needs more memory than documents.memory_mb allows", spent=True)
        except Exception as error:  # noqa: BLE001  the server raises it again: our faults must not look like bad files
            reply = Reply(fault=f"{type(error).__name__}: {error}"[:500], spent=True)
        reply.spent = reply.spent or uses >= MAX_USES or process.memory_info().rss > MAX_RESIDENT
        send(replies, reply)


def main() -> None:
    """Keep stdout for replies: what libraries print must not mix with them."""
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    if sys.platform != "win32":
        limit(int(sys.argv[1]))
    with suppress(BrokenPipeError):  # the server is gone
        serve(sys.stdin.buffer, replies)


if __name__ == "__main__":
    main()
