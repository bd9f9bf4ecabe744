"""Memory that is freed goes back to the system at once."""

from __future__ import annotations

import ctypes
import sys

_M_MMAP_THRESHOLD = -3
_LARGE_BYTES = 4 << 20


def free_at_once() -> None:
    """Let glibc map each large buffer by itself, for the rest of this process; elsewhere do nothing.

    By default it does so from 32 MB on only, once buffers of that size have come and gone: smaller ones
    lie in heaps that stay as large as they ever were. Of a layer with 5632 neurons half a gigabyte was
    kept so, onto which the next layer's buffers, of other sizes, were piled.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
