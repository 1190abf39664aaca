"""Freed memory that stays with the process, so that timings do not hold what the system takes to hand it out."""

import ctypes


def keep_memory() -> None:
    """Tells glibc to give no freed memory back; elsewhere nothing."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return
    mallopt(-1, -1)  # M_TRIM_THRESHOLD: never
    mallopt(-4, 0)  # M_MMAP_MAX: nothing
