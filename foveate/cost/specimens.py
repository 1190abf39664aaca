"""The networks that a latency table is measured on: random ones of many sizes, and some with other kinds of layers."""

from typing import Any, Literal, cast

import numpy as np

from foveate.config import replace
from foveate.cost.operators import operators
from foveate.zoo import list_models, variant
from foveate.zoo.families.mnasnet.network import MnasNetConfig, Stage

NETWORKS = 44  # random ones
MOST_MACS = 500_000_000  # of a random one: larger ones cost minutes and say little more
STRIDES = (1, 2, 2, 2, 1, 2)
KINDS: tuple[Literal["conv", "sepconv", "mbconv"], ...] = ("conv", "sepconv", "mbconv", "mbconv", "mbconv")
PUBLISHED = (  # activations, groups, concatenation, shuffling, pooling that the random ones have not; small pictures
    ("resnet18", 64),
    ("regnety_004", 96),
    ("mobilenetv3_large_100", 160),
    ("efficientnet_b0", 96),
    ("densenet121", 64),
    ("ghostnet_100", 160),
    ("shufflenet_g2_1x", 160),
    ("resnext50_32x4d", 64),
    ("googlenet", 96),
    ("mobilenetv2_100", 128),
)


def specimens(count: int = NETWORKS, seed: int = 0) -> list[tuple[Any, int]]:
    """(config, resolution): `count` random networks and the published ones that this version has."""
    rng, found = np.random.default_rng(seed), list[tuple[Any, int]]()
    while len(found) < count:
        config, resolution = _random(rng)
        if sum(op.macs for op in operators(config, resolution)) <= MOST_MACS:
            found.append((config, resolution))
    known = set(list_models())
    return found + [(variant(name), resolution) for name, resolution in PUBLISHED if name in known]


def _random(rng: np.random.Generator) -> tuple[MnasNetConfig, int]:
    """Six stages of convolutions, separable ones or inverted bottlenecks, widths any multiple of 8."""
    width, stages = 8 * int(rng.integers(1, 4)), []
    for stride in STRIDES:
        width = min(400, 8 * int(np.ceil(width * rng.uniform(1, 2.2) / 8)))
        op = KINDS[int(rng.integers(len(KINDS)))]
        expand = int(rng.choice([2, 3, 4, 6])) if op == "mbconv" else 1
        kernel = int(rng.choice([1, 3, 3, 5] if op == "conv" else [3, 5, 7]))
        attn = str(rng.choice(["none", "se(ratio=0.25)"]))
        depth = int(rng.integers(1, 4))
        stages.append(Stage(depth, width, expand, kernel, stride, op, attn=attn))
    base = cast(MnasNetConfig, variant("mnasnet_b1"))
    config = replace(
        base,
        stages=tuple(stages),
        stem=8 * int(rng.integers(1, 7)),
        head=int(rng.choice([256, 640, 1280])),
        num_classes=int(rng.choice([2, 10, 100, 400, 1000, 1000])),
        padding=str(rng.choice(["same", "symmetric"])),
        layers=replace(base.layers, act=str(rng.choice(["relu", "relu", "silu", "hard_swish"]))),
    )
    return config, int(rng.choice([64, 96, 112, 128, 144, 160, 192, 224]))
