"""The zoo: every architecture family as data. FAMILIES (zoo/families) is the table."""

import fnmatch
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import nn

from foveate.config import from_dict, near, override, pick, replace
from foveate.errors import ConfigError
from foveate.layers import Layers
from foveate.zoo.aliases import ALIASES, resolve
from foveate.zoo.composed import COMPOSED
from foveate.zoo.families import FAMILIES as FAMILIES
from foveate.zoo.family import Config, Family, Network
from foveate.zoo.meta import shapes_only

ARCHITECTURES: Mapping[str, Family] = {**FAMILIES, **COMPOSED}  # all that a config may be of
MAX_PARAMS = 2_000_000_000  # a larger net is refused before memory is touched; EfficientNet-L2 has 480 million


def list_models(pattern: str = "*") -> list[str]:
    """Names of all variants that match a shell pattern, sorted: list_models("resnet*")."""
    return sorted(n for f in FAMILIES.values() for n in f.variants if fnmatch.fnmatch(n, pattern))


def variant(name: str) -> Config:
    """The config of a named variant; names of torchvision and timm, with a tag too, are those of zoo/aliases.py.

    An unknown name raises ConfigError with near ones.
    """
    for family in FAMILIES.values():
        if name in family.variants:
            return cast(Config, family.variants[name])
    if (found := _resolve(name)) is not None:
        ours, changes = found
        return override(variant(ours), changes)
    base = name.partition(".")[0]
    raise ConfigError(f'unknown model "{name}": {near(base, {*list_models(), *ALIASES})}')


def zoo_name(name: str) -> str:
    """The zoo's own name of a variant that torchvision or timm call otherwise; any other text as it is.

    A name that means another form of a variant (another padding) stays.
    """
    found = None if any(name in f.variants for f in FAMILIES.values()) else _resolve(name)
    return found[0] if found is not None and not found[1] else name


def _resolve(name: str) -> tuple[str, tuple[str, ...]] | None:
    return resolve(name, {n: None for f in FAMILIES.values() for n in f.variants})


def config_from(data: Any, what: str = "config") -> Config:
    """Plain data with a `family` tag as that family's record. Only families of this table can be asked for."""
    if not isinstance(data, dict) or not isinstance(data.get("family"), str):
        raise ConfigError(f'{what}: expected an object with the key "family", one of {", ".join(ARCHITECTURES)}')
    return from_dict(pick(ARCHITECTURES, data["family"], f"{what}: family").config, data, what)


def build(config: Config) -> Network:
    """The module of a config, freshly initialised. It carries its config as `.config`.

    The parameter count is read on the meta device first; over MAX_PARAMS is refused before memory is touched.
    """
    family = pick(ARCHITECTURES, config.family, "family")
    with shapes_only():
        meta = family.make(config)
    params = sum(p.numel() for p in meta.parameters())
    if params > MAX_PARAMS:
        raise ConfigError(f"{config.family}: this config has {params:,} parameters; at most {MAX_PARAMS:,} are built")
    _refuse_idle_conv(config, meta)
    asked_for_meta = torch.empty(0).device.type == "meta"
    model = cast(Network, meta if asked_for_meta else family.make(config))
    model.config = config
    return model


def _refuse_idle_conv(config: Config, meta: nn.Module) -> None:
    """ConfigError where the unit of the slot conv leaves every convolution of this network plain: it would do nothing.

    Units stay plain where they mean nothing (MixConv: not depthwise); that all do is seen from the kinds of modules.
    """
    unit = config.layers.conv
    if unit.partition("(")[0] in ("conv2d", "conv2d_bias"):
        return
    with shapes_only():
        plain = ARCHITECTURES[config.family].make(replace(config, layers=replace(config.layers, conv="conv2d")))
    if [type(m) for m in plain.modules()] == [type(m) for m in meta.modules()]:
        raise ConfigError(f'conv "{unit}" changes no convolution of this network; use conv2d')


def create_model(
    name: str,
    *,
    num_classes: int | None = None,
    in_chans: int | None = None,
    layers: Mapping[str, str] | Layers | None = None,
    weights: str | None = None,
) -> Network:
    """A named model, the short way: create_model("resnet50d", num_classes=10, layers={"norm": "group_norm"}).

    num_classes, in_chans: None keeps the variant's (1000 and 3). layers: slots to change, or a whole record.
    weights: a source for load_weights ("lite", a file, a model folder, "hf-hub:org/name"); its classifier is left out
    when num_classes differs from what the variant publishes. A tag of timm's ("hf-hub:timm/dm_nfnet_f0.dm_in1k") brings
    the form of the network that gives timm's outputs, where that is another one.
    """
    published = config = variant(name)
    if weights is not None:
        from foveate.zoo.sources import form_for

        published = config = form_for(published, weights)
    if num_classes is not None:
        config = replace(config, num_classes=num_classes)
    if in_chans is not None:
        config = replace(config, in_chans=in_chans)
    if layers is not None:
        slots = layers if isinstance(layers, Layers) else replace(config.layers, **dict(layers))
        config = replace(config, layers=slots)
    model = build(config)
    if weights is not None:
        from foveate.zoo.weights import load_weights

        load_weights(model, weights, except_head=config.num_classes != published.num_classes)
    return model
