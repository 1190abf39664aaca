"""torchvision's weights: "torchvision:ResNet18_Weights.IMAGENET1K_V1", in the folder where torch.hub keeps its files.

A file's name ends in the first digits of its SHA-256, which are compared when it comes in. TORCH_HOME names another
place; FOVEATE_TORCHVISION_URL a mirror of https://download.pytorch.org/models; HTTPS_PROXY is obeyed.
"""

import contextlib
import errno
import http.client
import os
import re
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import filelock

from foveate.config import near
from foveate.errors import ConfigError, WeightsError
from foveate.zoo.fetch import CHUNK, Progress, check_room, sha256_of, silent

PREFIX = "torchvision:"
MIRROR = "FOVEATE_TORCHVISION_URL"
TRIES, PAUSE_S, TIMEOUT_S = 4, 1.0, 30.0  # requests for one file; between them, doubled each time; of one read


def torchvision_file(source: str, progress: Progress = silent) -> Path:
    """The local copy of a file of torchvision's, downloaded where there is none.

    A cut connection is taken up where it broke, by the next run too. progress hears (bytes so far, bytes in all).
    ConfigError for an address that can not be, WeightsError where the file did not come or came in damaged.
    """
    url = _url(source)
    path = _place(url)
    if path.is_file():
        return path
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        raise WeightsError(f"{source}: {path} is not there, and HF_HUB_OFFLINE forbids to ask for it")
    base = os.environ.get(MIRROR, "").rstrip("/")
    if base and not re.match(r"https?://[^/]", base):
        raise ConfigError(f'{MIRROR}="{base[:80]}": expected an address such as https://mirror.example/models')
    part = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(f"{part}.lock"):  # one process a file; it is left there, as huggingface_hub does
            if path.is_file():
                return path
            digits = name_digits(path.name)
            if not (digits and part.is_file() and sha256_of(part).startswith(digits)):  # whole, but for its name
                _fetch(source, f"{base}/{path.name}" if base else url, part, progress)
                check_prefix(part, path.name, source)
            os.replace(part, path)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise WeightsError(f"{source}: does not fit on the disk; free some room, or set TORCH_HOME") from None
        raise WeightsError(f"{source}: can not be stored in {path.parent}: {error.strerror or error}") from None
    return path


def cached_torchvision(source: str) -> Path | None:
    """The copy of a file of torchvision's that is there already, None where there is none; asks no network."""
    if not _folder().is_dir():  # torchvision's models take a second to load
        return None
    path = _place(_url(source))
    return path if path.is_file() else None


def check_prefix(path: Path, name: str, source: str) -> None:
    """Remove a file that lacks the SHA-256 whose first digits its name ends in, and raise WeightsError."""
    digits = name_digits(name)
    if digits and not sha256_of(path).startswith(digits):
        path.unlink(missing_ok=True)
        raise WeightsError(
            f"{source}: {name} came in damaged (its SHA-256 is not {digits}...) and was removed; try again"
        )


def name_digits(name: str) -> str:
    """The first digits of a file's SHA-256 at the end of its name, as torch.hub writes them; empty where none are."""
    found = re.search(r"-([0-9a-f]{8,64})\.\w+$", name)
    return found[1] if found else ""


def _url(source: str) -> str:
    """Where torchvision says that weights lie. ConfigError for a name that it does not have."""
    from torchvision.models import get_weight

    name = source.removeprefix(PREFIX)
    try:
        return str(get_weight(name).url)
    except (ValueError, KeyError, AttributeError):
        known = [public.removeprefix(PREFIX) for public in _addresses()]
        raise ConfigError(f'"{source}": torchvision has no such weights: {near(name, known)}') from None


def _addresses() -> list[str]:
    from foveate.zoo.sources import public_weights

    return [p.address for p in public_weights().values() if p.address.startswith(PREFIX)]


def _place(url: str) -> Path:
    """Where torch.hub keeps the file of an address."""
    return _folder() / url.rpartition("/")[2]


def _folder() -> Path:
    import torch

    return Path(torch.hub.get_dir()) / "checkpoints"


def _fetch(source: str, url: str, part: Path, progress: Progress) -> None:
    """Download to a partial file, from where it ends. WeightsError after TRIES requests that did not finish it."""
    pause, reason = PAUSE_S, ""
    for n in range(TRIES):
        if n:
            time.sleep(pause)
            pause *= 2
        try:
            if _go_on(source, url, part, progress):
                return
            reason = "the connection was cut"
        except urllib.error.HTTPError as error:
            reason = f"{error.code} {error.reason}"
            if error.code == 416:  # what is there is no beginning of that file
                part.unlink(missing_ok=True)
            elif error.code not in (408, 429, 500, 502, 503, 504):
                break
            with contextlib.suppress(TypeError, ValueError):
                pause = min(10.0, max(pause, float(error.headers.get("Retry-After") or "")))
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
            reason = str(getattr(error, "reason", error) or type(error).__name__)
    raise WeightsError(f"{source}: {url} could not be fetched (offline?): {reason[:160]}")


def _go_on(source: str, url: str, part: Path, progress: Progress) -> bool:
    """One request for what is missing of a partial file; whether it is whole then."""
    have = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "foveate", **({"Range": f"bytes={have}-"} if have else {})}
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT_S) as answer:
        if answer.status != 206:  # all of it, whatever was asked for
            have = 0
        coming: Any = answer.headers.get("Content-Length")
        whole = have + int(coming) if coming and coming.isdigit() else 0
        check_room(source, whole - have, part.parent, "TORCH_HOME")
        with open(part, "ab" if have else "wb") as file:
            while piece := answer.read1(CHUNK):  # what came, however little: a timeout loses none of it
                file.write(piece)
                have += len(piece)
                progress(have, whole)
    return not whole or have == whole
