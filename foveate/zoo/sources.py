"""Public weights: which there are of every network, under what licence, and the form of the network they are made for.

An address is what load_weights takes: "lite", "hf-hub:timm/TAG", "torchvision:ENUM.MEMBER". Nothing here asks a network
or reads a file; all follows from the catalogue (Published.weights) and from the rules by which timm names its networks.
"""

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from foveate.config import near, replace
from foveate.errors import ConfigError
from foveate.layers import Layers
from foveate.zoo import FAMILIES, list_models, variant
from foveate.zoo.catalogue import counts, published
from foveate.zoo.family import HALF, Config

TIMM, TORCHVISION = "hf-hub:timm/", "torchvision:"

# timm's are Apache-2.0 but for these parts of a tag; torchvision's BSD-3-Clause but for these parts of a member
LICENCES = {"pycls": "MIT", "seer": "SEER (not commercial)", "SWAG": "CC-BY-NC-4.0"}
NOT_COMMERCIAL = ("NC", "not commercial")
# families whose published nets pad as TensorFlow does: timm's names of those begin with tf_, others are its own
TWO_FORMS = ("efficientnet", "mixnet", "mnasnet", "mobilenet")
# weights whose publisher prepares pictures in another way than the catalogue says of the network
OWN_WISHES: dict[str, dict[str, Any]] = {
    TIMM + "tf_efficientnet_lite3.in1k": {"resolution": 300, "resize": 331, "kernel": "bilinear"},
    TIMM + "tf_efficientnet_lite4.in1k": {"resolution": 380, "resize": 413, "kernel": "bilinear"},
    TIMM + "tf_efficientnet_b8.ap_in1k": {"mean": HALF, "std": HALF},
    TORCHVISION + "ResNeXt101_64X4D_Weights.IMAGENET1K_V1": {"resize": 232},
}
F_NET = Layers(act="scaled(act='gelu')", conv="ws_conv(eps=1e-05, add_eps=True)")  # of timm's dm_nfnet_*


@dataclass(frozen=True)
class Public:
    """Public weights of one variant of the zoo."""

    model: str  # the variant
    address: str
    licence: str  # its SPDX name, or what its holder calls it
    size_bytes: int  # of its float32 numbers, about

    @property
    def commercial(self) -> bool:
        """Whether the licence allows commercial use."""
        return not any(mark in self.licence for mark in NOT_COMMERCIAL)


@functools.cache
def public_weights() -> dict[str, Public]:
    """The public weights of each variant that a hub or torchvision has some of, by its name."""
    found = {}
    for family in FAMILIES.values():
        for name, known in family.published.items():
            if address := _address(known.weights):
                found[name] = Public(name, address, _licence(address), 4 * counts()[name]["params"])
    return found


def _address(said: str) -> str:
    """The address in what Published says of weights; empty where they lie elsewhere."""
    if timm := re.search(r"\btimm ([\w.]+)", said):
        return TIMM + timm[1]
    if torchvision := re.match(r"torchvision (\w+\.\w+)", said):
        return TORCHVISION + torchvision[1]
    return ""


def _licence(address: str) -> str:
    usual = "Apache-2.0" if address.startswith(TIMM) else "BSD-3-Clause"
    return next((licence for part, licence in LICENCES.items() if part in address.rpartition("/")[2]), usual)


def known(address: str) -> Public | None:
    """The public weights of the catalogue that an address, with or without a revision, is of; None for others."""
    return _by_address().get(address.partition("@")[0])


@functools.cache
def _by_address() -> dict[str, Public]:
    return {public.address: public for public in public_weights().values()}


def licence_of(address: str) -> str:
    """The licence of weights in the catalogue; empty for others."""
    if address == "lite":
        return "Apache-2.0"
    found = known(address)
    return found.licence if found else ""


def known_preprocess(address: str) -> dict[str, Any]:
    """The preprocessing that weights of the catalogue want, by the field names of Preprocess; empty for others."""
    if (found := known(address)) is None:
        return {}
    told: Any = published(found.model)
    fit = "squash" if timm_tag(found.address).startswith("dm_nfnet") else "crop"
    said = {"resolution": told.resolution, "resize": told.resize, "fit": fit, "kernel": told.interpolation}
    return {**said, "mean": told.mean, "std": told.std, **OWN_WISHES.get(found.address, {})}


def timm_tag(address: str) -> str:
    """The tag in an address of timm's, without its revision; empty for other addresses."""
    return address.removeprefix(TIMM).partition("@")[0] if address.startswith(TIMM) else ""


def timm_network(name: str) -> tuple[str, Config]:
    """(variant, config) of a network of timm's, in the form that gives timm's outputs. name: with or without a tag.

    ConfigError where the zoo has no such network.
    """
    theirs = name.partition(".")[0]
    model = _timm_names().get(theirs) or (theirs if theirs in list_models() else theirs.removeprefix("tf_"))
    if model not in list_models() or "_cifar" in model:
        raise ConfigError(f'timm\'s "{theirs}" is no network of this zoo: {near(theirs, list_models())}')
    return model, timm_form(variant(model), theirs)


@functools.cache
def _timm_names() -> dict[str, str]:
    """timm's name -> ours, of the networks whose weights the catalogue names."""
    tags = {timm_tag(public.address).partition(".")[0]: name for name, public in public_weights().items()}
    return {theirs: ours for theirs, ours in tags.items() if theirs}


def form_for(config: Config, address: str) -> Config:
    """The config in the form whose outputs with the weights at an address are their publisher's."""
    tag = timm_tag(address)
    return timm_form(config, tag.partition(".")[0]) if tag else config


def timm_form(config: Config, theirs: str) -> Config:
    """A config in the form that timm gives to its network of that name, where it differs from the published one.

    dm_nfnet_*: GELU itself, and an epsilon that is added. nasnetalarge: means that count padding. Without tf_ where the
    published net pads as TensorFlow does: the same padding on all sides, and an epsilon of 1e-5 in the norms.
    """
    changes: Any = config
    if theirs.startswith("dm_nfnet"):
        layers = replace(changes.layers, act=F_NET.act, conv=F_NET.conv)
        return replace(changes, layers=layers)
    if theirs == "nasnetalarge":
        return replace(changes, count_padding=True)
    same = getattr(config, "padding", "") == "same"
    if same and config.family in TWO_FORMS and not theirs.startswith("tf_"):
        return edit_layers(replace(changes, padding="symmetric"), small_epsilon)
    return config


def small_epsilon(layers: Layers) -> Layers:
    """The layers with PyTorch's own epsilon and momentum in batch norms that have TensorFlow's."""
    return replace(layers, norm="batch_norm") if layers.norm.startswith("batch_norm(eps=0.001") else layers


def edit_layers(value: Any, edit: Callable[[Layers], Layers]) -> Any:
    """A record with every Layers in it, at any depth, put through a function."""
    if isinstance(value, Layers):
        return edit(value)
    if isinstance(value, tuple):
        return tuple(edit_layers(item, edit) for item in value)
    if not is_dataclass(value):
        return value
    changed = {}
    for f in fields(value):
        old = getattr(value, f.name)
        new = edit_layers(old, edit) if f.init else old
        if new != old:
            changed[f.name] = new
    return replace(value, **changed) if changed else value
