"""ShuffleNet v1, arXiv:1707.01083: grouped 1x1 convolutions, and a shuffle of channels that lets the groups talk.

Public weights come from three codes that put the channels in other orders; a field names the code. By default it is
pytorchcv, which shuffles where the paper does. Keys are our own: a table maps pytorchcv's, those of the other two stand
in the same order.
"""

import itertools
import re
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import nn

from foveate.config import Count, Stride, Width, record, replace
from foveate.errors import ConfigError
from foveate.layers import Layers
from foveate.zoo.family import MAX_BLOCKS, Config, Family, Network, Published, check_blocks


@record
class Stage:
    """Units of one resolution. The depth is len(mid). The first unit joins its pooled input, the others add theirs."""

    width: Width  # output channels of every unit
    mid: Annotated[tuple[Width, ...], Field(min_length=1, max_length=MAX_BLOCKS)]  # inner channels, one number a unit
    stride: Stride = 2  # of the first unit
    layers: Layers | None = None  # in place of the net's layers in this stage


@record
class ShuffleNetConfig(Config):
    """A ShuffleNet. Widths are absolute."""

    stages: Annotated[tuple[Stage, ...], Field(min_length=1, max_length=16)]
    family: Literal["shufflenet"] = "shufflenet"
    groups: Count = 3  # of the 1x1 convolutions; the very first of them has one group
    stem: Width = 24
    # Whose weights mean the same here: the cost is equal, the order of the channels is not. pytorchcv: shuffle in front
    # of the depthwise convolution, where branch and input are joined the branch first. mmpretrain: shuffle behind it,
    # the input first. megvii (the authors): as mmpretrain, but shuffled by the inverse permutation.
    layout: Literal["pytorchcv", "mmpretrain", "megvii"] = "pytorchcv"
    bias: bool = True  # of the classifier; the authors' code has none
    shuffle: bool = True  # False: groups never meet, what the paper's table 3 compares with

    def __post_init__(self) -> None:
        check_blocks(self, sum(len(s.mid) for s in self.stages), "units")
        widths = [self.stem, *(s.width for s in self.stages)]
        if any(a >= b for a, b in itertools.pairwise(widths)):
            raise ConfigError(
                f"ShuffleNetConfig.stages: widths {widths}, stem first, must rise: a stage only adds channels"
            )
        if odd := [c for c in (*widths, *(m for s in self.stages for m in s.mid)) if c % self.groups]:
            raise ConfigError(
                f"ShuffleNetConfig: stem, width and mid must be multiples of groups = {self.groups}; {odd[0]} is not"
            )


class Shuffle(nn.Module):
    """Channel b of group a goes to place b * groups + a, so that each group of the next layer reads from all groups."""

    def __init__(self, groups: int):
        super().__init__()
        self.groups = groups

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.unflatten(1, (self.groups, -1)).transpose(1, 2).flatten(1, 2)  # (N, g, C/g, H, W) -> (N, C/g, g, H, W)

    def extra_repr(self) -> str:
        return f"groups={self.groups}"


def make_shuffle(config: ShuffleNetConfig, mid: int) -> nn.Module:
    """None for one group. The inverse of a shuffle is the shuffle with as many groups as a group had channels."""
    if config.groups == 1 or not config.shuffle:
        return nn.Identity()
    return Shuffle(mid // config.groups if config.layout == "megvii" else config.groups)


class Unit(nn.Module):
    """Grouped 1x1, shuffle, 3x3 depthwise without activation, grouped 1x1. Paper, figure 2.

    The first unit of a stage (c): act of the branch and the 3x3 average pool of x, joined. Others (b): act(x + branch).
    A gate stands before the last activation, on the branch or on the joined channels. Nothing public says where the SE
    form has it; placed so, 2x with 3 groups costs 526.9 million MACs (on the branch alone 526.5), reported are 527.
    """

    def __init__(self, config: ShuffleNetConfig, stage: Stage, i: int, *, c_in: int, first: bool):
        super().__init__()
        layers, groups, mid, width = stage.layers or config.layers, config.groups, stage.mid[i], stage.width
        join, stride = i == 0, stage.stride if i == 0 else 1
        c_out = width - c_in if join else width
        self.conv1 = layers.make_conv(c_in, mid, 1, groups=1 if first else groups)
        self.bn1 = layers.make_norm(mid)
        self.act1 = layers.make_act(mid)
        early = self.branch_first = config.layout == "pytorchcv"
        self.shuffle = make_shuffle(config, mid) if early else nn.Identity()
        self.conv2 = layers.make_conv(mid, mid, 3, stride=stride, groups=mid)
        self.bn2 = layers.make_norm(mid)
        self.late_shuffle = nn.Identity() if early else make_shuffle(config, mid)
        self.conv3 = layers.make_conv(mid, c_out, 1, groups=groups)
        self.bn3 = layers.make_norm(c_out)
        self.pool = nn.AvgPool2d(3, stride, padding=1) if join else None
        self.se = layers.make_attn(width, width)
        self.act2 = layers.make_act(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (N, c_in, H, W) -> (N, width, H / stride, W / stride)
        y = self.shuffle(self.act1(self.bn1(self.conv1(x))))
        y = self.late_shuffle(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        if self.pool is None:
            return self.act2(x + self.se(y))
        parts = (y, self.pool(x)) if self.branch_first else (self.pool(x), y)
        return self.act2(self.se(torch.cat(parts, 1)))


class ShuffleNet(Network):
    """Stem 3x3, pool, stages, mean over positions, classifier. x: (N, in_chans, H, W) -> (N, num_classes)."""

    def __init__(self, config: ShuffleNetConfig):
        super().__init__()
        width = config.stem
        self.conv1 = config.layers.make_conv(config.in_chans, width, 3, stride=2)
        self.bn1 = config.layers.make_norm(width)
        self.act1 = config.layers.make_act(width)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        self.stages = nn.Sequential()
        for number, stage in enumerate(config.stages):
            units: list[nn.Module] = []
            for i in range(len(stage.mid)):
                units.append(Unit(config, stage, i, c_in=width, first=number == i == 0))
                width = stage.width
            self.stages.append(nn.Sequential(*units))
        # the map before a stage with a stride is the last of its resolution, and so is the last stage's
        self.last_of_resolution = (*(s.stride > 1 for s in config.stages), True)
        self.fc = nn.Linear(width, config.num_classes, bias=config.bias)
        self.num_features = width
        init_weights(self)

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:  # (N, in_chans, H, W) -> (N, num_features, h, w)
        return self.stages(self.maxpool(self.act1(self.bn1(self.conv1(x)))))

    def forward_head(self, features: torch.Tensor) -> torch.Tensor:  # (N, num_features, h, w) -> (N, num_classes)
        return self.fc(features.mean((2, 3)))

    def feature_maps(self, x: torch.Tensor) -> list[torch.Tensor]:
        """The last map of every stride, finest first: stem, pooled stem, stages. The last is forward_features(x)."""
        stem = self.act1(self.bn1(self.conv1(x)))
        x = self.maxpool(stem)
        maps = [stem, x] if self.last_of_resolution[0] else [stem]
        for stage, last in zip(self.stages, self.last_of_resolution[1:], strict=True):
            x = stage(x)
            if last:
                maps.append(x)
        return maps


def init_weights(model: ShuffleNet) -> None:
    """The authors' start: normal, std 0.01 in stem and classifier, 1 / (inputs of a group) in other convolutions."""
    for m in model.modules():
        if type(m) is nn.Conv2d:
            nn.init.normal_(m.weight, std=0.01 if m is model.conv1 else 1 / m.weight.shape[1])
        elif type(m) is nn.Linear:
            nn.init.normal_(m.weight, std=0.01)
        elif type(m) is nn.BatchNorm2d:
            nn.init.constant_(m.bias, 1e-4)
        if type(m) in (nn.Conv2d, nn.Linear) and isinstance(m.bias, nn.Parameter):
            nn.init.zeros_(m.bias)


WIDTHS = {1: 144, 2: 200, 3: 240, 4: 272, 8: 384}  # groups -> output channels of the first stage; paper, table 1


def shufflenet(groups: int, scale: float = 1.0, stem: int = 24) -> ShuffleNetConfig:
    """4, 8 and 4 units; widths double from stage to stage, inner widths are a quarter. scale multiplies the widths.

    Inner widths that the groups do not divide go to the nearest multiple (of two, the greater), which is our choice:
    the paper lists such nets and does not say what they are.
    """
    widths = [int(WIDTHS[groups] * factor * scale) for factor in (1, 2, 4)]
    rows = [(w, max(1, (w // 4 + groups // 2) // groups) * groups, n) for w, n in zip(widths, (4, 8, 4), strict=True)]
    return ShuffleNetConfig(tuple(Stage(w, (mid,) * n) for w, mid, n in rows), groups=groups, stem=stem)


def squeezed(config: ShuffleNetConfig) -> ShuffleNetConfig:
    """The same net with squeeze-and-excitation in every unit."""
    return replace(config, layers=replace(config.layers, attn="se"))


# Stems at 0.5x, 1.5x and 2x are the authors' (pytorchcv's rule gives 36 at 1.5x), at 0.25x pytorchcv's. What nobody
# published has these stems rounded up to a multiple of the groups: all of the paper's table 2 is here.
VARIANTS = {
    **{f"shufflenet_g{g}_1x": shufflenet(g) for g in WIDTHS},
    "shufflenet_g1_025x": shufflenet(1, 0.25, stem=6),
    "shufflenet_g2_025x": shufflenet(2, 0.25, stem=6),
    "shufflenet_g3_025x": shufflenet(3, 0.25, stem=6),
    "shufflenet_g4_025x": shufflenet(4, 0.25, stem=8),
    "shufflenet_g8_025x": shufflenet(8, 0.25, stem=8),
    "shufflenet_g1_05x": shufflenet(1, 0.5, stem=12),
    "shufflenet_g2_05x": shufflenet(2, 0.5, stem=12),
    "shufflenet_g3_05x": shufflenet(3, 0.5, stem=12),
    "shufflenet_g4_05x": shufflenet(4, 0.5, stem=12),
    "shufflenet_g8_05x": shufflenet(8, 0.5, stem=16),
    "shufflenet_g3_15x": shufflenet(3, 1.5),
    "shufflenet_g8_15x": shufflenet(8, 1.5),
    "shufflenet_g3_2x": shufflenet(3, 2.0, stem=48),
    "shufflenet_g8_2x": shufflenet(8, 2.0, stem=48),
    "se_shufflenet_g3_1x": squeezed(shufflenet(3)),
    "se_shufflenet_g3_2x": squeezed(shufflenet(3, 2.0, stem=48)),
}


def from_pytorchcv(key: str) -> str:
    """pytorchcv's key (shufflenet_g*_w*) -> ours; a key that is not of that form comes back as it is."""
    key = re.sub(r"^features\.init_block\.(conv|bn)\.", r"\g<1>1.", key)
    key = re.sub(r"^features\.stage(\d+)\.unit(\d+)\.", lambda m: f"stages.{int(m[1]) - 1}.{int(m[2]) - 1}.", key)
    return re.sub(r"^output\.", "fc.", re.sub(r"\.(?:compress|dw|expand)_", ".", key))


_PAPER = Published("ShuffleNet: An Extremely Efficient Convolutional Neural Network for Mobile Devices", "1707.01083")
_AUTHORS = {  # 100 - error of the README of megvii-model/ShuffleNet-Series
    "g3_05x": 57.3,
    "g8_05x": 58.8,
    "g3_1x": 67.8,
    "g8_1x": 68.0,
    "g3_15x": 71.6,
    "g8_15x": 71.0,
    "g3_2x": 74.1,
    "g8_2x": 72.9,
}
# pytorchcv has no weights of these
UNTRAINED = {
    "shufflenet_g8_05x",
    *(f"shufflenet_g{g}_025x" for g in (2, 4, 8)),
    *(f"shufflenet_g{g}_05x" for g in (2, 4)),
}
_PYTORCHCV = {"1x": "w1", "05x": "wd2", "025x": "wd4"}  # its names of the scales that it has weights of


def published(name: str) -> Published:
    """What is known of a variant."""
    groups, scale = name.split("_")[-2:]
    found = _PAPER
    if name.startswith("shufflenet") and f"{groups}_{scale}" in _AUTHORS:
        found = replace(found, top1=_AUTHORS[f"{groups}_{scale}"], source="authors' repository")
        found = replace(found, weights='megvii-model/ShuffleNet-Series, with layout = "megvii" and bias = False')
    if name.startswith("shufflenet") and scale in _PYTORCHCV and name not in UNTRAINED:
        found = replace(found, weights=f"pytorchcv shufflenet_{groups}_{_PYTORCHCV[scale]}")
    return found


PUBLISHED = {name: published(name) for name in VARIANTS}

TINY = ShuffleNetConfig((Stage(16, (4, 8)), Stage(32, (8, 8))), groups=4, stem=8)

FAMILY = Family(
    ShuffleNetConfig,
    ShuffleNet,
    VARIANTS,
    ("fc.",),
    {"pytorchcv": from_pytorchcv},
    PUBLISHED,
    folds=True,
    tiny=TINY,
    refuses=("mgic",),
    cost_per_mac=1.8,
)
