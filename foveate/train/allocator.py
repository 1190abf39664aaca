"""Memory that one training step frees is kept for the next one.

glibc gives freed blocks of activations back to the kernel, which hands them out again page by page, each cleared. On a
CPU that is a tenth to a third of a training step (docs/benchmarks.md).
"""

import contextlib
import ctypes
import platform
from collections.abc import Iterator

TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX = -1, -3, -4  # malloc.h
MOST = 2**31 - 1
# where glibc's own thresholds end up after blocks as large as those of a training, and its number of mapped blocks
GROWN = {TRIM_THRESHOLD: 64 * 2**20, MMAP_THRESHOLD: 32 * 2**20, MMAP_MAX: 65536}


@contextlib.contextmanager
def memory_kept() -> Iterator[None]:
    """Within the block, freed memory stays with the process; at its end what is free goes back. Only with glibc."""
    if platform.libc_ver()[0] != "glibc":
        yield
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(TRIM_THRESHOLD, MOST)
    libc.mallopt(MMAP_MAX, 0)
    try:
        yield
    finally:
        for key, value in GROWN.items():
            libc.mallopt(key, value)
        libc.malloc_trim(0)
