"""What was freed, given back."""

from __future__ import annotations

import ctypes
import sys


def give_back() -> None:
    """Hand memory that was freed back to the system, where the C library would keep it (glibc). Blocks for some milliseconds."""
    if sys.platform != "linux":
        return
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
    if trim is not None:
        trim(0)
