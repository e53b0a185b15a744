"""The allocator keeps memory that a training step frees for the next step."""

import ctypes
import os
import sys
from functools import cache

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of glibc's malloc.h


@cache
def keep_freed_memory() -> None:
    """Make glibc's malloc keep freed memory, unless already configured by MALLOC_... or GLIBC_TUNABLES in the environment.

    By default it returns large blocks to the kernel, which zeroes every page before handing it out again. With activations
    as large as an image network's this takes a fifth of a training step. Does nothing without glibc.
    """
    configured = any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ)
    if configured or not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(MMAP_THRESHOLD, 1 << 30)
        mallopt(TRIM_THRESHOLD, -1)
