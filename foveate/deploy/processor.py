"""What int8 weights ask of the processor that runs them, as the file itself says. No torch: files open without it.

x86 processors without VNNI multiply unsigned by signed bytes in pairs, and cut the sum of a pair off at 16 bits: two
activations of 255 on weights of 127 give 32767, not 64770. Weights of 7 bits (-64 to 64) can not reach that:
2 * 255 * 64 = 32640.
"""

import functools
import platform
import subprocess
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

Bits = Literal[7, 8]

KEY = "int8_weights"  # of the metadata of an int8 file
HOLDS: Mapping[Bits, str] = {7: "7 bits, for any processor", 8: "8 bits, for x86 with VNNI and for ARM"}
CPUINFO = Path("/proc/cpuinfo")
MAC = ("sysctl", "-n", "hw.optional.avx512vnni")


@functools.cache
def sums_bytes_whole() -> bool:
    """Whether products of bytes are summed in 32 bits here, as VNNI and ARM do. False where that can not be told."""
    machine, system = platform.machine().lower(), platform.system()
    if machine in ("arm64", "aarch64"):
        return True
    try:
        if machine in ("x86_64", "amd64") and system == "Linux":
            lines = CPUINFO.read_text(errors="replace").splitlines()
            flags = next((line.split() for line in lines if line.startswith("flags")), [])
            return not {"avx512_vnni", "avx_vnni"}.isdisjoint(flags)
        if machine == "x86_64" and system == "Darwin":
            return subprocess.run(MAC, capture_output=True, timeout=10).stdout.strip() == b"1"
    except (OSError, subprocess.SubprocessError):
        pass
    return False


def bits_here() -> Bits:
    """How many bits int8 weights may have on this processor."""
    return 8 if sums_bytes_whole() else 7


def warn_of(metadata: Mapping[str, str], name: str) -> None:
    """A UserWarning where a file holds int8 weights that this processor would sum wrongly; an older one says nothing of
    them and has 8 bits.
    """
    if metadata.get("precision") == "int8" and metadata.get(KEY) != HOLDS[7] and not sums_bytes_whole():
        warnings.warn(
            f"{name}: int8 weights of 8 bits, and this processor has no VNNI: its sums overflow, and answers may be"
            " wrong; export it again on this machine, or as float",
            stacklevel=3,
        )
