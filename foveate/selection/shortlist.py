"""Who could enter a race: the whole zoo at several resolutions, thinned to what should be most accurate at each cost.

Nothing is built and nothing is measured here. Multiply-adds come from the catalogue, and how long one of them takes in
a family from FAMILIES; what a network should reach is its published accuracy. So a variant of which nothing is
published does not enter by itself; --models asks for it.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from foveate.config import replace
from foveate.data.index import Dataset
from foveate.data.sample import is_small, sample_shapes
from foveate.errors import ConfigError
from foveate.zoo import FAMILIES, variant
from foveate.zoo.catalogue import catalogue, entry

PHOTO_SIZES = (96, 128, 160, 192, 224, 260, 300)
LOST = 7.0  # points of accuracy that half the resolution costs: MobileNets, arXiv:1704.04861, table 7
AGAIN = 2.0  # points of merit that a network must have more for each one of its family that is chosen already
STRETCH = 1.15  # pictures are not enlarged by more than this


@dataclass(frozen=True)
class Prior:
    """A variant at a resolution: what it costs by count, and how accurate it should be."""

    model: str
    resolution: int
    family: str
    params: int
    macs: float
    cost: float  # macs, by what one of them takes beside one of ResNet's
    merit: float  # published top-1 accuracy in per cent, less what a lower resolution costs


def list_priors(dataset: Dataset, size: int | None = None) -> list[Prior]:
    """All variants of the zoo made for such pictures (thumbnails or photographs), cheapest first; size: at that
    resolution only.
    """
    small = is_small(dataset)
    return priors((size,) if size else (small_size(dataset),) if small else photo_sizes(dataset), small)


def priors(sizes: Sequence[int], small: bool) -> list[Prior]:
    """All variants of the zoo made for thumbnails (small) or for photographs at these resolutions, cheapest first."""
    found = []
    for known in catalogue("*"):
        if known.published is None or known.published.top1 is None or ("_cifar" in known.model) != small:
            continue
        native = known.resolution
        for size in sizes:
            if (size <= native or small) and takes(known.model, size):
                merit = known.published.top1 - (0.0 if small else LOST * math.log2(native / size))
                costs = (known.params, rough_macs(known.model, size), cost_of(known.model, size))
                found.append(Prior(known.model, size, known.family, *costs, merit))
    return sorted(found, key=lambda p: p.cost)


def spread(found: Sequence[Prior], low: float, high: float, most: int, known: Collection[Prior] = ()) -> list[Prior]:
    """At most so many, evenly spread over the logarithm of their cost from low to high, both included.

    At each of these marks: the one of the highest merit among those that cost no more, and at least two thirds as much
    as the mark; a network of a family that is chosen already (known counts, too) must have more (AGAIN).
    """
    left = [p for p in found if p not in known]
    families = [p.family for p in known]
    chosen: list[Prior] = []
    for i in range(most):
        mark = high * (low / high) ** (i / max(1, most - 1))
        near = [p for p in left if mark / 1.5 <= p.cost <= mark * 1.0001]
        if near:
            best = max(near, key=lambda p: (p.merit - AGAIN * families.count(p.family), -p.cost))
            chosen.append(best)
            families.append(best.family)
            left.remove(best)
    return sorted(chosen, key=lambda p: p.cost)


def rough_macs(model: str, resolution: int) -> float:
    """Multiply-adds of the published variant, scaled by the number of pixels."""
    published = entry(model)
    return published.macs * (resolution / published.resolution) ** 2


def cost_of(model: str, resolution: int) -> float:
    """The multiply-adds by what one of them takes beside one of ResNet's."""
    return rough_macs(model, resolution) * cost_per_mac(entry(model).family)


def cost_per_mac(family: str) -> float:
    """What a multiply-add of a family takes beside one of ResNet's."""
    return FAMILIES[family].cost_per_mac


def takes(name: str, size: int) -> bool:
    """Whether a variant can be made at this resolution: nets without padding need a least size."""
    try:
        replace(variant(name), resolution=size)
    except ConfigError:
        return False
    return True


def small_size(dataset: Dataset) -> int:
    """A resolution for thumbnails: their longer side, rounded up to 16, 24, 32, 48 or 64."""
    longest = max(max(shape) for shape in sample_shapes(dataset.splits["train"]))
    return next((s for s in (16, 24, 32, 48) if s >= longest), 64)


def photo_sizes(dataset: Dataset) -> tuple[int, ...]:
    """Resolutions for photographs, none much larger than they are."""
    sides = sorted(min(shape) for shape in sample_shapes(dataset.splits["train"]))
    most = STRETCH * sides[len(sides) // 2]
    return tuple(size for size in PHOTO_SIZES if size <= most) or PHOTO_SIZES[:1]
