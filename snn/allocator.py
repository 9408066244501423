"""Keep freed memory for the next tensor of its size.

glibc gives large blocks back to the system as soon as they are freed. A network frees and asks for such blocks all
the time, and the page faults that follow can cost more than its arithmetic: on a small virtual machine a BERT's
forward ran several times as fast without them.
"""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4


def keep_freed_memory() -> bool:
    """Tell glibc to serve large blocks from its heap and never to shrink it; for scripts, early.

    Returns:
        Whether it took effect; other C libraries are left alone.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_MMAP_MAX, 0)) and bool(mallopt(_TRIM_THRESHOLD, 2**31 - 1))
