"""The allocator keeps memory that a batch frees for the next batch."""

import ctypes
import os
import sys
from functools import cache

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of glibc's malloc.h


@cache
def keep_freed_memory() -> str:
    """Make glibc's malloc keep freed memory, unless already configured by MALLOC_... or GLIBC_TUNABLES in the environment.

    By default it returns large blocks to the kernel, which zeroes every page before handing it out again; with activations
    as large as an image network's this slows down every batch. Does nothing without glibc.
    Returns how the allocator is configured, in words.
    """
    configured = sorted(name for name in os.environ if name.startswith("MALLOC_") or name == "GLIBC_TUNABLES")
    if configured:
        return f"set by {', '.join(configured)}"
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform.startswith("linux") else None
    if mallopt is None or not (mallopt(MMAP_THRESHOLD, 1 << 30) and mallopt(TRIM_THRESHOLD, -1)):
        return "the system's default"
    return "freed memory is kept"
