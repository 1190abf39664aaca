"""Repositories on a hub: "hf-hub:ORG/NAME[@REVISION]", through huggingface_hub, which keeps a copy of what it fetched.

The only place that touches a network, and only for an address that the user wrote.
"""

import re
from pathlib import Path
from typing import Any

from foveate.config import parse_json
from foveate.errors import ConfigError, WeightsError
from foveate.zoo.tensors import read_small

PREFIX = "hf-hub:"
WEIGHTS, FACTS = "model.safetensors", "config.json"


def hub_file(source: str, name: str = WEIGHTS) -> Path:
    """The local copy of a file of "hf-hub:ORG/NAME[@REVISION]", downloaded where it is not cached.

    ConfigError for an address that can not be or without huggingface_hub, WeightsError where nothing was fetched.
    """
    parts = re.fullmatch(rf"{PREFIX}([\w.-]+/[\w.-]+)(?:@([\w./-]+))?", source)
    if parts is None:
        raise ConfigError(f'"{source}": expected hf-hub:ORG/NAME or hf-hub:ORG/NAME@REVISION')
    try:
        from huggingface_hub import hf_hub_download
    except ImportError:
        raise ConfigError(f"\"{source}\": huggingface_hub is not installed; pip install 'foveate[hub]'") from None
    try:
        return Path(hf_hub_download(parts[1], name, revision=parts[2]))
    except Exception as error:  # its errors come from three libraries, and differ between its versions
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:160]
        raise WeightsError(f"{source}: {name} could not be fetched (offline?): {reason}") from None


def is_fetched(source: str) -> bool:
    """Whether a file of the repository of an address is on this machine already; asks nobody."""
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        return False
    repository, _, revision = source.removeprefix(PREFIX).partition("@")
    names = (WEIGHTS, FACTS, "pytorch_model.bin")
    try:
        found = [try_to_load_from_cache(repository, name, revision=revision or None) for name in names]
    except ValueError:  # an address that can not be
        return False
    return any(isinstance(path, str) for path in found)


def hub_folder(source: str) -> Path:
    """The local copy of a model folder of foveate on a hub."""
    folder = hub_file(source, FACTS).parent
    hub_file(source)
    return folder


def hub_facts(source: str) -> dict[str, Any]:
    """What config.json of a repository says, as plain data."""
    path = hub_file(source, FACTS)
    data = parse_json(read_small(path), f"{source}: {FACTS}")
    return data if isinstance(data, dict) else {}


def timm_name(facts: dict[str, Any]) -> str | None:
    """The network that a repository of timm's holds; None for other repositories."""
    name = facts.get("architecture")
    return name if isinstance(name, str) else None


def timm_preprocess(facts: dict[str, Any]) -> dict[str, Any]:
    """The preprocessing of a repository of timm's, by the field names of Preprocess; empty where nothing is said.

    timm resizes the short side to floor(resolution / crop_pct) and cuts the middle.
    """
    said: Any = facts.get("pretrained_cfg")
    try:
        side = int(said["input_size"][-1])
        resize = int(side / float(said.get("crop_pct") or 0.875))
        mean, std = (tuple(float(v) for v in said[key]) for key in ("mean", "std"))
    except (KeyError, IndexError, TypeError, ValueError, ZeroDivisionError, AttributeError):
        return {}
    kernel = said.get("interpolation") or "bicubic"
    fit = "squash" if said.get("crop_mode") == "squash" else "crop"
    return {"resolution": side, "resize": resize, "fit": fit, "kernel": kernel, "mean": mean, "std": std}
