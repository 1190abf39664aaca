"""RegNet X and Y (arXiv:2003.13678), made by their design rule, and G-Ghost RegNet (arXiv:2201.03297).

Keys are those of the authors' G-Ghost code: torchvision's of its ResNets (conv1, bn1, layer1.0.conv1, fc).
"""

import collections
import math
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import nn

from foveate.config import Count, Probability, Stride, Width, record, replace
from foveate.errors import ConfigError
from foveate.layers import Layers
from foveate.layers.norm import for_pooled
from foveate.zoo.families.regnet.published import PUBLISHED
from foveate.zoo.family import MAX_BLOCKS, Config, Family, check_blocks, rename
from foveate.zoo.frame import ResNetFrame, init_convs
from foveate.zoo.widths import repeat_last, scale_width


@record
class Ghost:
    """What a G-Ghost stage computes in full between its first and its last block; the other channels come cheaply."""

    width: Width  # channels that the inner blocks work on: the first ones of the first block's output
    group_width: Count  # of the inner blocks
    mix: Width  # inner channels of the mix, which sums up all blocks for the cheap channels


@record
class Stage:
    """Blocks of one resolution. The depth is len(mid)."""

    width: Width  # output channels
    mid: Annotated[tuple[Width, ...], Field(min_length=1, max_length=MAX_BLOCKS)]  # inner channels, one number a block
    group_width: Count  # channels in a group of the 3x3 convolutions
    stride: Stride = 2  # of the first block
    ghost: Ghost | None = None  # set: all blocks but the first and the last have ghost.width channels
    layers: Layers | None = None  # in place of the net's layers in this stage

    def __post_init__(self) -> None:
        inner = len(self.mid) - 2 if self.ghost else 0
        if self.ghost and (inner < 1 or self.ghost.width >= self.width):
            wanted = f"at least 3 blocks (here {len(self.mid)}) and a ghost.width below width = {self.width}"
            raise ConfigError(f"Stage.ghost.width = {self.ghost.width}: a G-Ghost stage has {wanted}")
        for j, mid in enumerate(self.mid):
            group = self.ghost.group_width if self.ghost and 0 < j <= inner else self.group_width
            if mid % group:
                raise ConfigError(f"Stage.mid holds {mid}; block {j} needs a multiple of its group_width = {group}")


@record
class RegNetConfig(Config):
    """A RegNet. Widths are absolute; design() makes the published kind from five numbers, g_ghost() a G-Ghost net."""

    stages: Annotated[tuple[Stage, ...], Field(min_length=1, max_length=16)]
    family: Literal["regnet"] = "regnet"
    stem: Width = 32
    dropout: Probability = 0.0  # before the classifier; G-Ghost: 0.2

    def __post_init__(self) -> None:
        check_blocks(self, sum(len(s.mid) for s in self.stages))


class Bottleneck(nn.Module):
    """1x1, 3x3 in groups (with the stride), gate, 1x1; act(shortcut + branch). The paper's X block and, gated, Y block.

    The gate's ratio refers to the block's input.
    """

    def __init__(self, layers: Layers, c_in: int, mid: int, c_out: int, *, group_width: int, stride: int = 1):
        super().__init__()
        self.conv1 = layers.make_conv(c_in, mid, 1)
        self.bn1 = layers.make_norm(mid)
        self.act1 = layers.make_act(mid)
        self.conv2 = layers.make_conv(mid, mid, 3, stride=stride, groups=mid // group_width)
        self.bn2 = layers.make_norm(mid)
        self.act2 = layers.make_act(mid)
        self.se = layers.make_attn(mid, c_in)
        self.conv3 = layers.make_conv(mid, c_out, 1)
        self.bn3 = layers.make_norm(c_out)
        self.act3 = layers.make_act(c_out)
        self.downsample = None
        if stride > 1 or c_in != c_out:
            self.downsample = nn.Sequential(layers.make_conv(c_in, c_out, 1, stride=stride), layers.make_norm(c_out))

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (N, c_in, H, W) -> (N, c_out, H/stride, W/stride)
        y = self.act1(self.bn1(self.conv1(x)))
        y = self.act2(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(self.se(y)))
        return self.act3(y + (x if self.downsample is None else self.downsample(x)))


class GhostStage(nn.Module):
    """A full block; narrow blocks on its first channels, a 1x1 on the rest; both side by side into a last full block.

    arXiv:2201.03297, G-Ghost with mix: the cheap channels are act(norm(1x1(rest)) + m), where m comes from the means
    over positions of the first block's and of every narrow block's output, through two 1x1 with norms. These norms see
    one value a channel and picture: training needs batches of at least two pictures.
    """

    def __init__(self, layers: Layers, c_in: int, stage: Stage, ghost: Ghost):
        super().__init__()
        first, *inner, last = stage.mid
        width, group, cheap = stage.width, stage.group_width, stage.width - ghost.width
        self.kept = ghost.width
        self.base = Bottleneck(layers, c_in, first, width, group_width=group, stride=stage.stride)
        self.layers = nn.Sequential(
            *(Bottleneck(layers, ghost.width, m, ghost.width, group_width=ghost.group_width) for m in inner)
        )
        self.merge = nn.Sequential(
            nn.Identity(),  # the authors pool here, the joined maps; forward pools before it joins them
            layers.make_conv(width + ghost.width * len(inner), ghost.mix, 1),
            for_pooled(layers.make_norm(ghost.mix)),
            layers.make_act(ghost.mix),
            layers.make_conv(ghost.mix, cheap, 1),
            for_pooled(layers.make_norm(cheap)),
        )
        self.cheap = nn.Sequential(layers.make_conv(cheap, cheap, 1), layers.make_norm(cheap))
        self.cheap_act = layers.make_act(cheap)
        self.end = Bottleneck(layers, width, last, width, group_width=group)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (N, c_in, H, W) -> (N, width, H/stride, W/stride)
        x = self.base(x)
        y, outputs = x[:, : self.kept], [x]
        for block in self.layers:
            y = block(y)
            outputs.append(y)
        mix = self.merge(torch.cat([z.mean((2, 3), keepdim=True) for z in outputs], 1))  # (N, width - kept, 1, 1)
        cheap = self.cheap_act(self.cheap(x[:, self.kept :]) + mix)
        return self.end(torch.cat((y, cheap), 1))


def make_stage(layers: Layers, c_in: int, stage: Stage) -> nn.Module:
    """The blocks of a stage."""
    if stage.ghost:
        return GhostStage(layers, c_in, stage, stage.ghost)
    blocks = []
    for j, mid in enumerate(stage.mid):
        stride = stage.stride if j == 0 else 1
        blocks.append(Bottleneck(layers, c_in, mid, stage.width, group_width=stage.group_width, stride=stride))
        c_in = stage.width
    return nn.Sequential(*blocks)


class RegNet(ResNetFrame):
    """Stem 3x3 stride 2, stages, mean over positions, classifier. x: (N, in_chans, H, W) -> logits (N, num_classes)."""

    def __init__(self, config: RegNetConfig):
        super().__init__()
        layers, width, stride = config.layers, config.stem, 2
        self.conv1 = layers.make_conv(config.in_chans, width, 3, stride=2)
        self.bn1 = layers.make_norm(width)
        self.act1 = layers.make_act(width)
        self.maxpool = nn.Identity()
        for stage in config.stages:
            blocks = make_stage(stage.layers or layers, width, stage)
            width, stride = stage.width, stride * stage.stride
            self.add_stage(blocks, stride)
        self.dropout = nn.Dropout(config.dropout)
        self.fc = nn.Linear(width, config.num_classes)
        self.num_features = width
        init_weights(self)

    def forward_head(self, features: torch.Tensor) -> torch.Tensor:  # (N, num_features, h, w) -> (N, num_classes)
        return self.fc(self.dropout(features.mean((2, 3))))


def init_weights(model: nn.Module) -> None:
    """The authors' start (pycls, torchvision): convolutions normal with variance 2 / (k * k * c_out) whatever their
    groups, classifier normal with deviation 0.01.
    """
    init_convs(model)
    for m in model.modules():
        if type(m) is nn.Linear:
            nn.init.normal_(m.weight, std=0.01)
            nn.init.zeros_(m.bias)


def design(
    depth: int, w0: int, wa: float, wm: float, group_width: int, *, gated: bool = False, torchvision: bool = False
) -> RegNetConfig:
    """The design rule (section 3.3): `depth` widths w0 + wa * j, made powers of wm times w0, then multiples of 8.

    Blocks of equal width are a stage. A width below group_width is its own group; every other becomes the nearest
    multiple of group_width. gated: RegNetY, a squeeze to a quarter of each block's input. torchvision: a width in the
    middle of two multiples goes up, and none falls below 90 %; its X-400MF, Y-800MF and Y-8GF are not the paper's.
    """
    if not (depth >= 1 and w0 >= 8 and w0 % 8 == 0 and wa >= 0 and wm > 1 and group_width >= 1):
        given = f"depth={depth}, w0={w0}, wa={wa}, wm={wm}, group_width={group_width}"
        raise ConfigError(f"design({given}): w0 a multiple of 8, wa >= 0, wm > 1, depth and group_width from 1")
    powers = [round(math.log((w0 + wa * j) / w0, wm)) for j in range(depth)]
    stages = []
    for exact, blocks in sorted(collections.Counter(round(w0 * wm**p / 8) * 8 for p in powers).items()):
        group = min(group_width, exact)
        width = round(exact / group) * group  # from the middle to the even multiple, as NumPy does
        if torchvision:
            width = (exact + group // 2) // group * group
            width += group if width < 0.9 * exact else 0
        stages.append(Stage(width, (width,) * blocks, group))
    return RegNetConfig(tuple(stages), layers=Layers(attn="se(ratio=0.25)" if gated else "none"))


def g_ghost(config: RegNetConfig) -> RegNetConfig:
    """The same net with every stage of more than two blocks as a G-Ghost stage: half of its channels come cheaply.

    Inner blocks have three quarters of the group width and as many channels, below half, as it divides (the authors'
    code; the paper speaks of half). Dropout 0.2.
    """
    return replace(config, stages=tuple(ghosted(s) if len(s.mid) > 2 else s for s in config.stages), dropout=0.2)


def ghosted(stage: Stage) -> Stage:
    """A plain stage as a G-Ghost stage."""
    group = max(1, stage.group_width * 3 // 4)
    kept = stage.width // 2 // group * group
    if stage.ghost or not kept:
        raise ConfigError(f"Stage of width {stage.width}: g_ghost takes plain stages of at least {2 * group} channels")
    mid = (stage.mid[0], *(kept,) * (len(stage.mid) - 2), stage.mid[-1])
    return replace(stage, mid=mid, ghost=Ghost(kept, group, stage.width - kept))


def scale(config: RegNetConfig, depth: float, width: float) -> RegNetConfig:
    """Layers of every stage times depth, to the nearest, at least 1; all widths, those of groups too, times width."""
    stages: list[Stage] = []
    for i, s in enumerate(config.stages):
        if s.ghost is not None:
            raise ConfigError(f"stages.{i}.ghost is set: scale the plain net, then apply g_ghost")
        group = scale_width(s.group_width, width)
        mid = tuple(scale_width(m, width, group) for m in repeat_last(s.mid, depth))
        stages.append(replace(s, width=scale_width(s.width, width, group), mid=mid, group_width=group))
    return replace(config, stages=tuple(stages), stem=scale_width(config.stem, width))


# torchvision and pycls name the three convolutions a, b, c
TORCHVISION = (
    (r"^stem\.0\.", "conv1."),
    (r"^stem\.1\.", "bn1."),
    (r"^trunk_output\.block(\d+)\.block\d+-(\d+)\.", r"layer\1.\2."),
    (r"\.f\.se\.", ".se."),
    (r"\.f\.([abc])\.0\.", lambda m: f".conv{' abc'.index(m[1])}."),
    (r"\.f\.([abc])\.1\.", lambda m: f".bn{' abc'.index(m[1])}."),
    (r"\.proj\.", ".downsample."),
)
TIMM = (
    (r"^stem\.conv\.", "conv1."),
    (r"^stem\.bn\.", "bn1."),
    (r"^s(\d+)\.b(\d+)\.", lambda m: f"layer{m[1]}.{int(m[2]) - 1}."),
    (r"\.conv(\d)\.conv\.", r".conv\1."),
    (r"\.conv(\d)\.bn\.", r".bn\1."),
    (r"\.downsample\.conv\.", ".downsample.0."),
    (r"\.downsample\.bn\.", ".downsample.1."),
    (r"^head\.fc\.", "fc."),
)


def from_torchvision(key: str) -> str:
    """A key of torchvision as ours."""
    return rename(key, TORCHVISION)


def from_timm(key: str) -> str:
    """A key of timm as ours."""
    return rename(key, TIMM)


# number in the name: hundreds of millions of multiply-adds -> depth, w0, wa, wm, group width (the authors' configs)
X = {
    "002": (13, 24, 36.44, 2.49, 8),
    "004": (22, 24, 24.48, 2.54, 16),
    "006": (16, 48, 36.97, 2.24, 24),
    "008": (16, 56, 35.73, 2.28, 16),
    "016": (18, 80, 34.01, 2.25, 24),
    "032": (25, 88, 26.31, 2.25, 48),
    "040": (23, 96, 38.65, 2.43, 40),
    "064": (17, 184, 60.83, 2.07, 56),
    "080": (23, 80, 49.56, 2.88, 120),
    "120": (19, 168, 73.36, 2.37, 112),
    "160": (22, 216, 55.59, 2.1, 128),
    "320": (23, 320, 69.86, 2.0, 168),
}
Y = {
    "002": (13, 24, 36.44, 2.49, 8),
    "004": (16, 48, 27.89, 2.09, 8),
    "006": (15, 48, 32.54, 2.32, 16),
    "008": (14, 56, 38.84, 2.4, 16),
    "016": (27, 48, 20.71, 2.65, 24),
    "032": (21, 80, 42.63, 2.66, 24),
    "040": (22, 96, 31.41, 2.24, 64),
    "064": (25, 112, 33.22, 2.27, 72),
    "080": (17, 192, 76.82, 2.19, 56),
    "120": (19, 168, 73.36, 2.37, 112),
    "160": (18, 200, 106.23, 2.48, 112),
    "320": (20, 232, 115.89, 2.53, 232),
    "640": (20, 352, 147.48, 2.4, 328),
    "1280": (27, 456, 160.83, 2.52, 264),
}

VARIANTS: dict[str, RegNetConfig] = {
    **{f"regnetx_{n}": design(*row) for n, row in X.items()},
    **{f"regnety_{n}": design(*row, gated=True) for n, row in Y.items()},
    "regnetx_004_tv": design(*X["004"], torchvision=True),
    "regnety_008_tv": design(*Y["008"], gated=True, torchvision=True),
    "regnety_080_tv": design(*Y["080"], gated=True, torchvision=True),
    **{f"g_ghost_regnetx_{n}": g_ghost(design(*row)) for n, row in X.items()},
}

TINY = RegNetConfig((Stage(16, (16,), 8), Stage(32, (32, 12, 12, 32), 8, ghost=Ghost(12, 6, 20))), stem=8)

FAMILY = Family(
    RegNetConfig,
    RegNet,
    VARIANTS,
    ("fc.",),
    {"torchvision": from_torchvision, "timm": from_timm},
    PUBLISHED,
    folds=True,
    tiny=TINY,
    refuses=("instance_norm",),
    small="regnetx_002",
    scale=scale,
    cost_per_mac=1.4,
)
