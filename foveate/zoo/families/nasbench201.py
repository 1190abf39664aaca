"""The nets of NAS-Bench-201, arXiv:2001.00326: one cell of four nodes and six edges, stacked for small pictures.

Stem 3x3, stages of equal cells, a residual block of stride 2 between stages, norm, activation, mean, linear. A node is
the sum of its edges; an edge computes one of five operations. No library has the authors' weights: the keys are ours.
"""

from dataclasses import KW_ONLY
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import nn

from foveate.config import Count, Pixels, Width, record
from foveate.errors import ConfigError
from foveate.layers import Layers
from foveate.zoo.families.nasnet.blocks import ActConvNorm, Pool
from foveate.zoo.family import Config, Family, Network, Published, check_blocks

Op = Literal["none", "skip", "conv1x1", "conv3x3", "avg3x3"]
EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))  # from node, to node; 0 is the cell's input, 3 its output
MAX_CELLS = 512


@record
class Stage:
    """Cells of one resolution. In front of every stage but the first stands a residual block of stride 2."""

    width: Width
    cells: Count = 5
    mid: Width | None = None  # inner channels of that block; None: width
    layers: Layers | None = None  # in place of the net's layers in this stage


@record
class NASBench201Config(Config):
    """A net of the benchmark; defaults are its skeleton. An edge "none" holds no parameters and adds nothing."""

    cell: tuple[Op, Op, Op, Op, Op, Op]  # of the edges 0>1, 0>2, 1>2, 0>3, 1>3, 2>3
    stages: Annotated[tuple[Stage, ...], Field(min_length=1, max_length=16)] = (
        Stage(16),
        Stage(32, mid=32),
        Stage(64, mid=64),
    )
    family: Literal["nasbench201"] = "nasbench201"
    stem: Width = 16
    _: KW_ONLY
    num_classes: Width = 10
    resolution: Pixels = 32

    def __post_init__(self) -> None:
        check_blocks(self, sum(s.cells for s in self.stages), "cells", MAX_CELLS)
        if self.stages[0].width != self.stem:
            raise ConfigError(
                f"NASBench201Config.stem = {self.stem}: the first stage has {self.stages[0].width} channels"
            )


class Cell(nn.Module):
    """Four nodes. x: (N, width, H, W) -> same."""

    def __init__(self, layers: Layers, cell: tuple[Op, ...], width: int):
        super().__init__()
        self.edges = nn.ModuleDict()
        for (a, b), op in zip(EDGES, cell, strict=True):
            if op != "none":
                self.edges[f"{a}{b}"] = make_edge(layers, op, width)
        self.attn = layers.make_attn(width, width)  # not in the benchmark: the slot of the cell's end

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        nodes = [x]
        for node in (1, 2, 3):
            found = [self.edges[f"{a}{b}"](nodes[a]) for a, b in EDGES if b == node and f"{a}{b}" in self.edges]
            nodes.append(sum(found[1:], found[0]) if found else torch.zeros_like(x))
        return self.attn(nodes[3])


def make_edge(layers: Layers, op: Op, width: int) -> nn.Module:
    """An operation: (N, width, H, W) -> same. Convolutions are activation, convolution, norm."""
    if op == "skip":
        return nn.Identity()
    if op == "avg3x3":
        return Pool("avg", 3, 1, "symmetric")
    return ActConvNorm(layers, width, width, 1 if op == "conv1x1" else 3, padding="symmetric")


class Reduction(nn.Module):
    """Two activation-3x3-norm, the first of stride 2; + the mean of 2x2 pixels through a bare 1x1.

    x: (N, c_in, H, W) -> (N, width, H/2, W/2). An odd side's last mean has one pixel a row (the authors' drops it, and
    their sum then fails).
    """

    def __init__(self, layers: Layers, c_in: int, mid: int, width: int):
        super().__init__()
        self.conv_a = ActConvNorm(layers, c_in, mid, 3, 2, "symmetric")
        self.conv_b = ActConvNorm(layers, mid, width, 3, padding="symmetric")
        self.pool = nn.AvgPool2d(2, ceil_mode=True, count_include_pad=False)
        self.conv = layers.make_conv(c_in, width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(self.pool(x)) + self.conv_b(self.conv_a(x))


class NASBench201(Network):
    """Stem, stages, norm, activation, mean over positions, classifier. Weights start as PyTorch draws them."""

    def __init__(self, config: NASBench201Config):
        super().__init__()
        self.conv_stem = config.layers.make_conv(config.in_chans, config.stem, 3)
        self.bn_stem = config.layers.make_norm(config.stem)
        self.reductions, self.stages, c_in = nn.ModuleList(), nn.ModuleList(), config.stem
        for i, stage in enumerate(config.stages):
            layers = stage.layers or config.layers
            if i > 0:
                self.reductions.append(Reduction(layers, c_in, stage.mid or stage.width, stage.width))
            self.stages.append(nn.Sequential(*(Cell(layers, config.cell, stage.width) for _ in range(stage.cells))))
            c_in = stage.width
        last = config.stages[-1].layers or config.layers
        self.bn = last.make_norm(c_in)
        self.act = last.make_act(c_in)
        self.classifier = nn.Linear(c_in, config.num_classes)
        self.num_features = c_in

    def feature_maps(self, x: torch.Tensor) -> list[torch.Tensor]:
        """The last map of every resolution, finest first, at strides 1, 2, 4; the last is forward_features(x)."""
        maps = [self.stages[0](self.bn_stem(self.conv_stem(x)))]
        for reduction, stage in zip(self.reductions, self.stages[1:], strict=True):
            maps.append(stage(reduction(maps[-1])))
        return [*maps[:-1], self.act(self.bn(maps[-1]))]

    def forward_head(self, features: torch.Tensor) -> torch.Tensor:  # (N, num_features, h, w) -> (N, num_classes)
        return self.classifier(features.mean((2, 3)))


VARIANTS = {
    # the benchmark's net 13714, its best on CIFAR-10 after 200 epochs
    "nasbench201_best_cifar": NASBench201Config(("conv3x3", "conv3x3", "conv3x3", "skip", "conv1x1", "conv3x3")),
    "nasbench201_conv3x3_cifar": NASBench201Config(("conv3x3",) * 6),  # its largest
}
_TITLE = "NAS-Bench-201: Extending the Scope of Reproducible Neural Architecture Search"
PUBLISHED = {
    "nasbench201_best_cifar": Published(
        _TITLE, "2001.00326", 94.37, "benchmark, 200 epochs, mean of three seeds", resize=32, resolution=32
    ),
    "nasbench201_conv3x3_cifar": Published(_TITLE, "2001.00326", resize=32, resolution=32),
}
TINY = NASBench201Config(
    ("conv3x3", "conv1x1", "avg3x3", "none", "conv3x3", "skip"),
    (Stage(8, 1), Stage(16, 1, mid=8)),
    stem=8,
)

FAMILY = Family(
    NASBench201Config,
    NASBench201,
    VARIANTS,
    ("classifier.",),
    {},
    PUBLISHED,
    tiny=TINY,
)
