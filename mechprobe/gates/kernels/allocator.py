"""Freed memory kept for the next step, on CPUs under glibc.

The engine frees and takes the same few megabytes in every step. By default glibc gives them back to
the system each time and the pages are made again, which costs up to a tenth of a step.
"""

from __future__ import annotations

import ctypes
import platform
from functools import lru_cache

_TRIM, _MMAP = -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD of malloc.h
_LARGEST_MMAP = 2**25  # glibc takes no larger threshold


@lru_cache(maxsize=1)
def keep_freed_memory(most: int = 2**30) -> bool:
    """Let the process hold up to ``most`` bytes that it freed; False where that cannot be asked."""
    if platform.system() != "Linux" or platform.libc_ver()[0] != "glibc":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_MMAP, _LARGEST_MMAP)) and bool(mallopt(_TRIM, most))
