"""Residual Attention Network, arXiv:1704.06904: residual units, and modules that multiply a trunk by a learned mask.

Built from section 3 and from the authors' Caffe files (Attention-56, -92, AttentionNeXt-56, -92), which agree with it.
"""

import itertools
import operator
from collections.abc import Callable
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import nn

from foveate.config import Count, Stride, Width, record, replace
from foveate.errors import ConfigError
from foveate.layers import Layers
from foveate.layers.mask import Hourglass, squash
from foveate.zoo.families.attention.published import PUBLISHED
from foveate.zoo.families.resnet.blocks import BLOCKS, ResNetConfig, input_norm
from foveate.zoo.families.resnet.blocks import Stage as Rows
from foveate.zoo.families.resnet.network import make_pool
from foveate.zoo.family import Config, Family, Network, check_blocks
from foveate.zoo.frame import init_convs

MAX_UNITS = 2048  # in all stages together; Attention-452 has 151

Few = Annotated[int, Field(ge=0, le=64)]
Levels = Annotated[int, Field(ge=0, le=6)]
Unit = Literal["pre", "resnext", "inception"]


@record
class Stage:
    """Residual units, then attention modules, all of one resolution and output width."""

    width: Width  # output channels of every unit
    mid: Width  # inner channels of every unit
    modules: Few = 0  # attention modules
    pools: Levels = 0  # times that their masks halve the resolution
    units: Count = 1  # plain units before the modules
    stride: Stride = 2  # of the first unit
    mids: tuple[Width, ...] = ()  # inner channels unit by unit in the order of the keys, in place of mid (for pruning)
    layers: Layers | None = None  # overrides the net's layers in this stage


@record
class AttentionConfig(Config):
    """A Residual Attention Network; the defaults are those of Attention-56 (table 2)."""

    stages: Annotated[tuple[Stage, ...], Field(min_length=1, max_length=16)]
    family: Literal["attention"] = "attention"
    # pre-activation bottleneck; ResNeXt bottleneck; residual Inception (InceptionUnit)
    unit: Unit = "pre"
    groups: Count = 1  # of the 3x3 in unit "resnext"
    p: Annotated[int, Field(ge=1, le=16)] = 1  # units before, and again after, the two branches of a module
    t: Annotated[int, Field(ge=1, le=16)] = 2  # units of the trunk branch
    r: Annotated[int, Field(ge=1, le=16)] = 1  # units between two poolings of the mask branch
    learning: Literal["residual", "naive"] = "residual"  # (1 + M) * T (section 3.1); M * T
    mask: Literal["mixed", "channel", "spatial"] = "mixed"  # section 3.2
    stem: Literal["imagenet", "cifar"] = "imagenet"
    stem_width: Width = 64
    # 3x3 stride 2 in the stem and the masks: without padding as in Caffe; with padding 1
    pool: Literal["max", "max_ceil"] = "max_ceil"

    def __post_init__(self) -> None:
        check_blocks(self, sum(self.units_of(s) for s in self.stages), "units", MAX_UNITS)
        multiple = {"pre": 1, "resnext": self.groups, "inception": 4}[self.unit]
        for i, stage in enumerate(self.stages):
            if stage.mids and len(stage.mids) != self.units_of(stage):
                raise ConfigError(f"AttentionConfig.stages.{i}.mids: expected one value a unit, {self.units_of(stage)}")
            if odd := [m for m in (stage.mid, *stage.mids) if m % multiple]:
                raise ConfigError(
                    f'AttentionConfig.stages.{i}: inner width {odd[0]}; "{self.unit}" takes multiples of {multiple}'
                )
        if self.unit != "resnext" and self.groups != 1:
            raise ConfigError(f'AttentionConfig.groups = {self.groups}: only unit = "resnext" has groups')

    def units_of(self, stage: Stage) -> int:
        """Residual units in a stage."""
        mask = 2 * self.r * max(1, stage.pools) + max(0, stage.pools - 1)
        return stage.units + stage.modules * (2 * self.p + self.t + mask)


class InceptionUnit(nn.Module):
    """The Inception form of a unit: 1x1, 3x3 and two 3x3 side by side, joined by a 1x1; act(shortcut + branch).

    The paper names Inception as a basic unit and gives no widths; those of the variant here cost about as much as
    Attention-56. The choice follows Inception-ResNet (arXiv:1602.07261, figure 10): the branches end in mid / 4,
    mid / 2 and mid / 4 channels, every convolution has a norm and an activation, the first one of a branch that looks
    further than a pixel carries the stride.
    """

    def __init__(self, layers: Layers, c_in: int, mid: int, c_out: int, stride: int):
        super().__init__()

        def conv(a: int, b: int, kernel: int, step: int = 1) -> nn.Sequential:
            return nn.Sequential(layers.make_conv(a, b, kernel, stride=step), layers.make_norm(b), layers.make_act(b))

        quarter, half = mid // 4, mid // 2
        self.branch1 = conv(c_in, quarter, 1, stride)
        self.branch2 = nn.Sequential(conv(c_in, half, 1), conv(half, half, 3, stride))
        self.branch3 = nn.Sequential(
            conv(c_in, quarter, 1), conv(quarter, quarter, 3, stride), conv(quarter, quarter, 3)
        )
        self.conv = layers.make_conv(mid, c_out, 1)
        self.bn = layers.make_norm(c_out)
        self.se = layers.make_attn(c_out, c_out)
        self.act = layers.make_act(c_out)
        project = (layers.make_conv(c_in, c_out, 1, stride=stride), layers.make_norm(c_out))
        self.downsample = None if stride == 1 and c_in == c_out else nn.Sequential(*project)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (N, c_in, H, W) -> (N, c_out, H / stride, W / stride)
        y = torch.cat((self.branch1(x), self.branch2(x), self.branch3(x)), 1)
        y = self.se(self.bn(self.conv(y)))
        return self.act(y + (x if self.downsample is None else self.downsample(x)))


Units = Callable[[int], nn.Sequential]  # how many units of the stage's width


class Mask(Hourglass):
    """The soft mask branch, section 3.2. (N, C, H, W) -> same."""

    def __init__(self, config: AttentionConfig, layers: Layers, width: int, pools: int, units: Units):
        ordered = config.unit == "pre"
        super().__init__(layers, width, pools, units, pool=make_pool(config.pool), r=config.r, ordered=ordered)
        self.kind = config.mask

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return squash(super().forward(x), self.kind)


class AttentionModule(nn.Module):
    """p units, then the trunk (t units) times the mask, then p units. Figure 1; equation 3: (1 + M(x)) * T(x)."""

    def __init__(self, config: AttentionConfig, layers: Layers, stage: Stage, units: Units):
        super().__init__()
        self.before = units(config.p)
        self.trunk = units(config.t)
        self.mask = Mask(config, layers, stage.width, stage.pools, units)
        self.after = units(config.p)
        self.residual = config.learning == "residual"

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (N, C, H, W) -> same
        x = self.before(x)
        trunk, mask = self.trunk(x), self.mask(x)
        return self.after(mask * trunk + trunk if self.residual else mask * trunk)


class AttentionNet(Network):
    """Stem, stages, (norm and activation), global average, linear classifier."""

    def __init__(self, config: AttentionConfig):
        super().__init__()
        layers, width, self.unit = config.layers, config.stem_width, config.unit
        imagenet = config.stem == "imagenet"
        self.conv1 = layers.make_conv(config.in_chans, width, 7 if imagenet else 3, stride=2 if imagenet else 1)
        norm = (
            imagenet or config.unit != "pre"
        )  # for CIFAR the first unit's own norm is enough, as in pre-activation nets
        self.bn1 = layers.make_norm(width) if norm else nn.Identity()
        self.act1 = layers.make_act(width) if norm else nn.Identity()
        self.maxpool = make_pool(config.pool if imagenet else "none")
        self.stages = nn.ModuleList()
        for stage in config.stages:
            self.stages.append(make_stage(config, stage, width))
            width = stage.width
        first = 4 if imagenet else 1
        self.strides = tuple(itertools.accumulate((s.stride for s in config.stages), operator.mul, initial=first))[1:]
        last = config.stages[-1].layers or layers
        self.bn2 = input_norm(last, width) if config.unit == "pre" else nn.Identity()
        self.act2 = last.make_act(width) if config.unit == "pre" else nn.Identity()
        self.fc = nn.Linear(width, config.num_classes)
        self.num_features = width
        init_convs(self)  # "MSRA" as section 4.1

    def forward_head(self, features: torch.Tensor) -> torch.Tensor:  # (N, num_features, h, w) -> (N, num_classes)
        return self.fc(features.mean((2, 3)))

    def feature_maps(self, x: torch.Tensor) -> list[torch.Tensor]:
        """The last map of every stride, finest first, beginning with the stem's for ImageNet."""
        x = self.act1(self.bn1(self.conv1(x)))
        maps = {1: x} if self.strides[0] == 1 else {2: x}
        x = self.maxpool(x)
        for stride, stage in zip(self.strides, self.stages, strict=True):
            x = maps[stride] = stage(x)
        maps[stride] = self.act2(self.bn2(x))
        return list(maps.values())


def make_stage(config: AttentionConfig, stage: Stage, c_in: int) -> nn.Sequential:
    """Plain units, then attention modules. Inner widths are handed out in the order in which units are made."""
    layers, mids = stage.layers or config.layers, itertools.chain(stage.mids, itertools.repeat(stage.mid))

    def unit(c_in: int, stride: int) -> nn.Module:
        mid = next(mids)
        if config.unit == "inception":
            return InceptionUnit(layers, c_in, mid, stage.width, stride)
        order: Literal["pre", "post"] = "pre" if config.unit == "pre" else "post"
        rows = Rows(stage.width, (mid,), stride, config.groups)
        host = ResNetConfig((rows,), block="bottleneck", order=order, layers=layers)
        return BLOCKS["bottleneck", order](host, rows, c_in=c_in, mid=mid, stride=stride, drop_path=0.0)

    def units(count: int) -> nn.Sequential:
        return nn.Sequential(*(unit(stage.width, 1) for _ in range(count)))

    members: list[nn.Module] = [unit(c_in, stage.stride), *(unit(stage.width, 1) for _ in range(stage.units - 1))]
    members += [AttentionModule(config, layers, stage, units) for _ in range(stage.modules)]
    return nn.Sequential(*members)


def write_widths(config: AttentionConfig) -> AttentionConfig:
    """One inner width a unit."""
    stages = tuple(replace(s, mids=s.mids or (s.mid,) * config.units_of(s)) for s in config.stages)
    return replace(config, stages=stages)


def imagenet(a: int, b: int, c: int, mids: tuple[int, int, int, int] = (64, 128, 256, 512)) -> AttentionConfig:
    """Table 2: a, b, c attention modules at 56, 28 and 14 pixels, then three units of 2048 channels at 7."""
    first = Stage(256, mids[0], modules=a, pools=3, stride=1)
    middle = (Stage(512, mids[1], modules=b, pools=2), Stage(1024, mids[2], modules=c, pools=1))
    return AttentionConfig((first, *middle, Stage(2048, mids[3], units=3)))


def cifar(m: int) -> AttentionConfig:
    """m modules in each of three stages, trunk depth 36m + 20. The paper prints no table for 32 pixels: the choice is a
    bare 3x3 stem of 16 channels, widths 64, 128, 256, masks that reach down to 8 pixels (2, 1, 0 poolings), three units
    of 256 channels at the end.
    """
    rows = (Stage(64, 16, m, pools=2, stride=1), Stage(128, 32, m, pools=1), Stage(256, 64, m))
    stages = (*rows, Stage(256, 64, units=3, stride=1))
    return AttentionConfig(stages, stem="cifar", stem_width=16, num_classes=10, resolution=32)


WIDE = (128, 256, 512, 1024)  # inner widths of the ResNeXt units: 32 groups of 4 channels and up

VARIANTS = {
    "attention56": imagenet(1, 1, 1),
    "attention92": imagenet(1, 2, 3),
    "attentionnext56": replace(imagenet(1, 1, 1, WIDE), unit="resnext", groups=32),
    "attentionnext92": replace(imagenet(1, 2, 3, WIDE), unit="resnext", groups=32),
    "attentioninception56": replace(imagenet(1, 1, 1, (88, 176, 352, 704)), unit="inception"),
    **{f"attention{36 * m + 20}_cifar": cifar(m) for m in (1, 2, 3, 4, 6)},
    "attention452_cifar": replace(cifar(6), p=2, t=4, r=3),
}

TINY = AttentionConfig(
    stages=(Stage(8, 4, 1, 2, stride=1), Stage(16, 4, 1, 1), Stage(16, 4)),
    stem="cifar",
    stem_width=8,
)

FAMILY = Family(
    AttentionConfig, AttentionNet, VARIANTS, ("fc.",), published=PUBLISHED, tiny=TINY, explicit=write_widths
)
