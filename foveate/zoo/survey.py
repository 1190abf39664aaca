"""What the feature maps of a network are, and which parameters each is made of: read from the real module on meta."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from foveate.errors import ConfigError
from foveate.zoo import build
from foveate.zoo.family import Config

PROBE = 1024  # pixels of the picture on the meta device that shows the strides; ragged maps are near enough to them


@dataclass(frozen=True)
class Survey:
    """What a network's feature maps are, finest first, and which of its parameters each is made of."""

    strides: tuple[int, ...]  # pixels of the picture a cell
    widths: tuple[int, ...]  # channels
    depth: Mapping[str, int]  # name of a parameter -> the first map that depends on it; without those of the classifier


def survey(config: Config) -> Survey:
    """The survey of a config of the zoo, from its real module on the meta device: no memory, tenths of a second.

    ConfigError for strides that are not powers of two, each twice the one before: RoI pooling reads levels off them.
    """
    with torch.device("meta"):
        net: Any = build(config).eval()
    net.requires_grad_(True)
    maps = net.feature_maps(torch.empty(1, config.in_chans, PROBE, PROBE, device="meta"))
    depth: dict[str, int] = {}
    for i, level in enumerate(maps):
        rest = {name: p for name, p in net.named_parameters() if name not in depth}
        grads = torch.autograd.grad(level.sum(), list(rest.values()), allow_unused=True, retain_graph=True)
        depth |= {name: i for name, grad in zip(rest, grads, strict=True) if grad is not None}
    exact = [math.log2(PROBE / level.shape[-1]) for level in maps]
    powers = [round(power) for power in exact]
    apart = any(abs(e - p) > 0.2 for e, p in zip(exact, powers, strict=True))
    if apart or powers != list(range(powers[0], powers[-1] + 1)):
        strides = ", ".join(f"{2**power:.3g}" for power in exact)
        raise ConfigError(f"{config.family}: feature maps at strides {strides}; each must be twice the one before")
    return Survey(tuple(2**power for power in powers), tuple(level.shape[1] for level in maps), depth)


def distances(config: Config) -> dict[str, int]:
    """Name of a parameter that feature maps depend on -> how many stages it is away from the classifier, from 1."""
    found = survey(config)
    return {name: len(found.strides) - i for name, i in found.depth.items()}
