"""Repositories on a hub: "hf-hub:ORG/NAME[@REVISION]", through huggingface_hub, which keeps a copy of what it fetched.

With torch_hub.py the only place that touches a network, and only for an address that the user wrote or for --weights
hub. Mirrors, tokens, time limits and offline work are told by the environment variables of huggingface_hub
(HF_ENDPOINT, HF_TOKEN, HF_HUB_DOWNLOAD_TIMEOUT, HF_HUB_OFFLINE, HF_HOME).
"""

import errno
import inspect
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

from foveate.config import parse_json
from foveate.errors import ConfigError, FoveateError, WeightsError
from foveate.zoo.fetch import Progress, check_room, sha256_of, silent
from foveate.zoo.tensors import read_small

PREFIX = "hf-hub:"
WEIGHTS, FACTS, README = "model.safetensors", "config.json", "README.md"
# what a connection dies of that the library does not try again by itself, at least not while it asks for the size
PASSING = {"RemoteProtocolError", "ReadError", "ReadTimeout", "ChunkedEncodingError", "ConnectionResetError"}
TRIES, PAUSE_S = 3, 1.0
BUILT_BY_NAME = {"num_classes", "in_chans", "pretrained", "global_pool"}  # arguments that leave timm's network as it is


def parse_address(source: str) -> tuple[str, str | None]:
    """(ORG/NAME, revision or None). ConfigError for an address that can not be."""
    parts = re.fullmatch(rf"{PREFIX}([\w.-]+/[\w.-]+)(?:@([\w./-]+))?", source)
    if parts is None:
        raise ConfigError(f'"{source}": expected hf-hub:ORG/NAME or hf-hub:ORG/NAME@REVISION')
    return parts[1], parts[2]


def hub_file(source: str, name: str = WEIGHTS, progress: Progress = silent) -> Path:
    """The local copy of a file of "hf-hub:ORG/NAME[@REVISION]", downloaded where it is not cached.

    What is stored under its SHA-256, as a hub does with large files, is compared with it when it comes in; a file that
    differs is removed. progress hears (bytes so far, bytes in all). A cut connection is taken up where it broke.
    ConfigError for an address that can not be or without huggingface_hub, WeightsError where nothing was fetched.
    """
    repository, revision = parse_address(source)
    try:
        from huggingface_hub import hf_hub_download
    except ImportError:
        raise ConfigError(f"\"{source}\": huggingface_hub is not installed; pip install 'foveate[hub]'") from None
    before = cached_file(source, name)
    more: dict[str, Any] = {}
    if "tqdm_class" in inspect.signature(hf_hub_download).parameters:
        more["tqdm_class"] = _bar(source, progress)
    for n in range(TRIES):
        try:
            path = Path(hf_hub_download(repository, name, revision=revision, **more))
            break
        except FoveateError:
            raise
        except Exception as error:  # its errors come from three libraries, and differ between its versions
            if n == TRIES - 1 or not PASSING & _kinds(error):
                raise WeightsError(f"{source}: {name} {_explain(error, repository)}") from None
        time.sleep(PAUSE_S)
    if path != before:
        check_blob(path, source)
    return path


def cached_file(source: str, name: str = WEIGHTS) -> Path | None:
    """The copy of a file that is there already, None where there is none; asks no network."""
    repository, revision = parse_address(source)
    if not (cache_folder() / f"models--{repository.replace('/', '--')}").is_dir():  # the library takes a second to load
        return None
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        return None
    found = try_to_load_from_cache(repository, name, revision=revision)
    return Path(found) if isinstance(found, str) else None


def cache_folder() -> Path:
    """Where huggingface_hub keeps its copies, by the variables of the environment that it knows."""
    if (library := sys.modules.get("huggingface_hub.constants")) is not None:
        return Path(library.HF_HUB_CACHE)
    named = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
    if named:
        return Path(os.path.expandvars(named)).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("HF_HOME") or os.path.join(base, "huggingface")
    return Path(os.path.expandvars(home)).expanduser() / "hub"


def pinned(source: str, path: Path) -> str:
    """The address with the commit that a file of it came from, so that it means the same tomorrow, and without a
    network. path: what hub_file or cached_file gave; where it tells no commit the address stays as it is.
    """
    repository, _ = parse_address(source)
    commit = path.parent.name
    return f"{PREFIX}{repository}@{commit}" if re.fullmatch(r"[0-9a-f]{40}", commit) else source


def recorded_sha256(path: Path) -> str | None:
    """The SHA-256 under which a hub's file is stored; None for small files, and for mirrors that tell none."""
    name = path.resolve().name
    return name if re.fullmatch(r"[0-9a-f]{64}", name) else None


def check_blob(path: Path, source: str) -> None:
    """Remove a file whose bytes are not those that the hub announced, and raise WeightsError."""
    expected, blob = recorded_sha256(path), path.resolve()
    if expected is None or sha256_of(blob) == expected:
        return
    path.unlink(missing_ok=True)
    blob.unlink(missing_ok=True)
    raise WeightsError(
        f"{source}: {path.name} came in damaged (its SHA-256 is not the hub's) and was removed; try again"
    )


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


def hub_facts(source: str, *, cached: bool = False) -> dict[str, Any]:
    """What config.json of a repository says, as plain data. cached: only of a copy that is there, else nothing."""
    path = cached_file(source, FACTS) if cached else hub_file(source, FACTS)
    data = parse_json(read_small(path), f"{source}: {FACTS}") if path else {}
    return data if isinstance(data, dict) else {}


def hub_licence(source: str) -> str:
    """The licence in the head of a repository's README.md; empty where it says none or is not there."""
    try:
        text = read_small(hub_file(source, README)).decode("utf-8", "replace")
    except WeightsError:
        return ""
    head = re.match(r"---\n(.*?)\n---", text.replace("\r\n", "\n"), re.DOTALL)
    said = re.findall(r"^licen[sc]e(?:_name)?:\s*['\"]?([\w .+-]{1,60})", head[1] if head else "", re.MULTILINE)
    return str(said[-1]).strip() if said else ""


def timm_name(facts: dict[str, Any]) -> str | None:
    """The network that a repository of timm's holds; None for other repositories.

    ConfigError where it is built with arguments that make another network of it.
    """
    name, built = facts.get("architecture"), facts.get("model_args")
    if not isinstance(name, str):
        return None
    if isinstance(built, dict) and (odd := sorted(map(str, built.keys() - BUILT_BY_NAME))):
        raise ConfigError(f"{name} with {', '.join(odd)[:120]}: a network of the zoo is named without model_args")
    return name


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


def _bar(source: str, progress: Progress) -> type:
    """A progress bar for huggingface_hub that draws nothing: it checks for room once the size is known, and reports."""
    from huggingface_hub import constants
    from tqdm.std import tqdm

    class Silent(tqdm):  # what the library gives to __init__ differs between its versions
        monitor_interval = 0
        came = 0

        def update(self, n: float | None = 1) -> None:
            if not self.came:  # nothing is written yet
                check_room(source, int(self.total or 0), Path(constants.HF_HUB_CACHE), "HF_HOME")
            self.came += int(n or 0)
            progress(self.came, int(self.total or 0))

        def display(self, msg: str | None = None, pos: int | None = None) -> None:
            pass

        def close(self) -> None:
            self.disable = True

    return Silent


def _chain(error: BaseException) -> list[BaseException]:
    """An error and what it came of."""
    chain = [error]
    while (deeper := chain[-1].__cause__ or chain[-1].__context__) is not None and deeper not in chain:
        chain.append(deeper)
    return chain


def _kinds(error: BaseException) -> set[str]:
    return {type(e).__name__ for e in _chain(error)}


def _explain(error: BaseException, repository: str) -> str:
    """What went wrong in one line, with what to do."""
    chain, kinds = _chain(error), _kinds(error)
    codes = {getattr(getattr(e, "response", None), "status_code", None) for e in chain}
    page = f"https://huggingface.co/{repository}"
    if any(isinstance(e, OSError) and e.errno in (errno.ENOSPC, errno.EDQUOT) for e in chain):
        return "does not fit on the disk; free some room, or let HF_HOME name another place"
    if any(isinstance(e, PermissionError) for e in chain):
        return "can not be stored: no right to write there; let HF_HOME name another place"
    if "OfflineModeIsEnabled" in kinds:
        return "is not in the cache, and HF_HUB_OFFLINE forbids to ask for it"
    if "GatedRepoError" in kinds:
        return f"is behind a consent: accept it at {page} and set HF_TOKEN"
    if "RevisionNotFoundError" in kinds:
        return "has no such revision; leave out @REVISION for the newest"
    if kinds & {"EntryNotFoundError", "RemoteEntryNotFoundError"}:
        return "is not in this repository"
    if "RepositoryNotFoundError" in kinds:
        return "could not be fetched: there is no such repository, or it is private (then set HF_TOKEN)"
    if 429 in codes:
        return "could not be fetched: the hub asks for fewer requests (429); wait some minutes, or set HF_TOKEN"
    reason = (str(error).strip() or type(error).__name__).splitlines()[0][:160]
    if "Consistency check failed" in reason:
        return "came in with another size than announced; try again"
    return f"could not be fetched (offline?): {reason}"
