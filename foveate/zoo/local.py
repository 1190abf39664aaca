"""Published weights that are on this machine already: found without asking any network.

Looked at, the first that has weights of a network gives them: the folders in FOVEATE_WEIGHTS, the packages of the extra
`lite`, the cache of huggingface_hub, the folder of torch.hub.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from foveate.errors import FoveateError
from foveate.zoo import list_models
from foveate.zoo.hub import cached_file, pinned
from foveate.zoo.sources import TIMM, TORCHVISION, Public, public_weights, timm_tag
from foveate.zoo.torch_hub import cached_torchvision
from foveate.zoo.weights import LITE, lite_file

FOLDERS = "FOVEATE_WEIGHTS"  # paths, as in PATH
SUFFIXES = (".safetensors", ".pth", ".pt")
MOST_FILES = 10_000  # that are looked at in a folder


def local_weights() -> dict[str, Public]:
    """The weights on this machine of each variant of the zoo that has some, by its name. Addresses are files, "lite",
    hub addresses with the commit that is cached, or torchvision's.
    """
    found: dict[str, Public] = {}
    for public in (*folder_weights(), *lite_weights(), *cached_weights()):
        found.setdefault(public.model, public)
    return found


def weights_folders() -> list[Path]:
    """The folders in FOVEATE_WEIGHTS that exist."""
    named = os.environ.get(FOLDERS, "").split(os.pathsep)
    return [path for path in (Path(text).expanduser() for text in named if text.strip()) if path.is_dir()]


def folder_weights() -> Iterator[Public]:
    """Those in the folders of FOVEATE_WEIGHTS: NAME.safetensors (.pth, .pt), the files as timm, torchvision and the
    lite packages name them, and folders TAG/model.safetensors as a hub's.
    """
    for folder in weights_folders():
        for i, path in enumerate(sorted(folder.iterdir())):
            if i >= MOST_FILES:
                break
            if path.is_dir() and (path / "model.safetensors").is_file():
                name, file = path.name, path / "model.safetensors"
            elif path.suffix in SUFFIXES and path.is_file():
                name, file = path.stem, path
            else:
                continue
            if public := public_named(name):
                yield Public(public.model, f"{file}", public.licence, file.stat().st_size)


def public_named(name: str) -> Public | None:
    """What a file of that name (without its ending) holds: a variant, a tag of timm's, a file of torchvision's or of a
    lite package; None for other names.
    """
    known = public_weights()
    if name in known:
        return known[name]
    if name in list_models():
        return Public(name, "", "", 0)
    by_tag = {timm_tag(p.address): p for p in known.values() if p.address.startswith(TIMM)}
    if name in by_tag:
        return by_tag[name]
    for model, (file, *_) in LITE.items():
        if file.startswith(f"{name}."):
            return known[model]
    return _torchvision_files().get(name) if re.search(r"-[0-9a-f]{8}$", name) else None


def _torchvision_files() -> dict[str, Public]:
    """torchvision's public weights by the names of their files, without the ending."""
    from torchvision.models import get_weight

    known = [p for p in public_weights().values() if p.address.startswith(TORCHVISION)]
    return {Path(get_weight(p.address.removeprefix(TORCHVISION)).url).stem: p for p in known}


def lite_weights() -> Iterator[Public]:
    """Those of the lite packages that are installed."""
    for model in LITE:
        try:
            file, _ = lite_file(model)
        except FoveateError:
            continue
        if file.is_file():
            yield Public(model, "lite", "Apache-2.0", file.stat().st_size)


def cached_weights() -> Iterator[Public]:
    """Those that a hub or torchvision gave before."""
    for public in public_weights().values():
        if public.address.startswith(TORCHVISION):
            if path := cached_torchvision(public.address):
                yield Public(public.model, public.address, public.licence, path.stat().st_size)
        elif path := cached_file(public.address):
            yield Public(public.model, pinned(public.address, path), public.licence, path.stat().st_size)
