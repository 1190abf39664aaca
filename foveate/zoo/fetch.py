"""What the ways to fetch weights share: progress, room on the disk, checksums."""

import hashlib
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from foveate.errors import ConfigError, WeightsError

Progress = Callable[[int, int], None]  # (bytes so far, bytes in all; 0: not known)

LIMIT = "FOVEATE_FETCH_LIMIT"  # of one file: "500MB", "2GB"
USUAL_LIMIT = 4 * 10**9  # bytes; EfficientNet-L2 has 1.9 GB
RESERVE = 256 * 10**6  # bytes that stay free on the disk
CHUNK = 2**20


def silent(came: int, whole: int) -> None:
    """No progress."""


def fetch_limit() -> int:
    """The largest file that is fetched, in bytes, as the environment says. ConfigError for a value that is no size."""
    text = os.environ.get(LIMIT, "")
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMG]?)B?\s*", text, re.IGNORECASE)
    if not text:
        return USUAL_LIMIT
    if found is None:
        raise ConfigError(f'{LIMIT}="{text[:40]}": expected a size such as 500MB or 2GB')
    return int(float(found[1]) * {"": 1, "K": 10**3, "M": 10**6, "G": 10**9}[found[2].upper()])


def check_room(what: str, size: int, folder: Path, variable: str) -> None:
    """WeightsError where a file of that many bytes is over the limit, or would fill the disk that a folder is on.

    variable: of the environment, that names another place.
    """
    if size > (most := fetch_limit()):
        raise WeightsError(f"{what}: {size / 1e6:,.0f} MB; at most {most / 1e6:,.0f} MB are fetched (set {LIMIT})")
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    free = shutil.disk_usage(folder).free - RESERVE
    if size > free:
        raise WeightsError(
            f"{what}: {size / 1e6:,.0f} MB do not fit on the disk of {folder} ({max(0, free) / 1e6:,.0f} MB to spare); "
            f"free some room, or let {variable} name another place"
        )


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(CHUNK):
            digest.update(piece)
    return digest.hexdigest()
