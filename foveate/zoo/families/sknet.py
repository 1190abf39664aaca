"""SKNet, arXiv:1903.06586: ResNeXt bottlenecks whose 3x3 selects its reach; and timm's SK-ResNets of basic blocks.

Keys are timm's (skresnext50_32x4d, which is SKNet-50), but for conv1 and bn1 where timm has conv1.conv and conv1.bn.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import nn

from foveate.config import Count, Stride, Width, record, replace
from foveate.errors import ConfigError
from foveate.layers import Layers
from foveate.layers.sk import SelectiveKernel
from foveate.zoo.family import MAX_BLOCKS, Config, Family, Published, check_blocks
from foveate.zoo.frame import ResNetFrame, init_convs

Widths = Annotated[tuple[Width, ...], Field(min_length=1, max_length=MAX_BLOCKS)]


@record
class Stage:
    """Blocks of one resolution. The depth is len(mid), which is len(squeeze)."""

    width: Width  # output channels of every block
    mid: Widths  # inner channels, one number a block; in a bottleneck both before and after the selective kernel
    squeeze: Widths  # inner channels of the selection, in the paper max(mid / 16, 32)
    stride: Stride = 2  # of the first block
    groups: Count = 1  # of each path of the selective kernel
    layers: Layers | None = None  # in place of the net's layers in this stage

    def __post_init__(self) -> None:
        if len(self.squeeze) != len(self.mid):
            raise ConfigError(
                f"Stage.squeeze has {len(self.squeeze)} values: expected one a block, {len(self.mid)} as in mid"
            )
        if odd := [m for m in self.mid if m % self.groups]:
            raise ConfigError(f"Stage.mid holds {odd[0]}; it must be a multiple of groups = {self.groups}")


@record
class SKNetConfig(Config):
    """A net of selective kernels. Defaults: the paper's, but for the padding of the pool (Caffe's has none)."""

    stages: Annotated[tuple[Stage, ...], Field(min_length=1, max_length=16)]
    family: Literal["sknet"] = "sknet"
    block: Literal["bottleneck", "basic"] = "bottleneck"  # 1x1, SK, 1x1; or SK, 3x3
    paths: Annotated[int, Field(ge=1, le=4)] = 2  # of each selective kernel; path m has dilation m
    split: bool = False  # each path reads its own share of the channels (timm's skresnet), not all of them
    stem: Width = 64
    gate: Layers = Layers()  # of the selections: their norms see one value a channel and picture

    def __post_init__(self) -> None:
        check_blocks(self, sum(len(s.mid) for s in self.stages))
        c_in = self.stem
        for number, stage in enumerate(self.stages):
            for mid in stage.mid:
                read = mid if self.block == "bottleneck" else c_in
                parts = stage.groups * (self.paths if self.split else 1)
                if read % parts:
                    raise ConfigError(
                        f"SKNetConfig.stages.{number}: a selective kernel reads {read} channels; "
                        f"it must be a multiple of {parts}, groups{' * paths' if self.split else ''}"
                    )
                c_in = stage.width


def make_sk(config: SKNetConfig, stage: Stage, i: int, c_in: int, stride: int) -> SelectiveKernel:
    """The selective kernel of block i of a stage."""
    return SelectiveKernel(
        c_in,
        stage.mid[i],
        squeeze=stage.squeeze[i],
        layers=stage.layers or config.layers,
        gate=config.gate,
        stride=stride,
        groups=stage.groups,
        paths=config.paths,
        split=config.split,
    )


def make_shortcut(layers: Layers, c_in: int, c_out: int, stride: int) -> nn.Module | None:
    """None where the block keeps its shape, else a 1x1 convolution and a norm."""
    if stride == 1 and c_in == c_out:
        return None
    return nn.Sequential(layers.make_conv(c_in, c_out, 1, stride=stride), layers.make_norm(c_out))


class Bottleneck(nn.Module):
    """1x1, selective kernel, 1x1; act(shortcut + branch). Paper, table 1."""

    def __init__(self, config: SKNetConfig, stage: Stage, i: int, c_in: int):
        super().__init__()
        layers, mid, width = stage.layers or config.layers, stage.mid[i], stage.width
        stride = stage.stride if i == 0 else 1
        self.conv1 = layers.make_conv(c_in, mid, 1)
        self.bn1 = layers.make_norm(mid)
        self.act1 = layers.make_act(mid)
        self.conv2 = make_sk(config, stage, i, mid, stride)
        self.conv3 = layers.make_conv(mid, width, 1)
        self.bn3 = layers.make_norm(width)
        self.se = layers.make_attn(width, width)
        self.act = layers.make_act(width)
        self.downsample = make_shortcut(layers, c_in, width, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (N, c_in, H, W) -> (N, width, H / stride, W / stride)
        y = self.conv2(self.act1(self.bn1(self.conv1(x))))
        y = self.se(self.bn3(self.conv3(y)))
        return self.act(y + (x if self.downsample is None else self.downsample(x)))


class Basic(nn.Module):
    """Selective kernel, 3x3; act(shortcut + branch). timm's skresnet18 and 34; the paper has no such net."""

    def __init__(self, config: SKNetConfig, stage: Stage, i: int, c_in: int):
        super().__init__()
        layers, width = stage.layers or config.layers, stage.width
        stride = stage.stride if i == 0 else 1
        self.conv1 = make_sk(config, stage, i, c_in, stride)
        self.conv2 = layers.make_conv(stage.mid[i], width, 3)
        self.bn2 = layers.make_norm(width)
        self.se = layers.make_attn(width, width)
        self.act = layers.make_act(width)
        self.downsample = make_shortcut(layers, c_in, width, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (N, c_in, H, W) -> (N, width, H / stride, W / stride)
        y = self.se(self.bn2(self.conv2(self.conv1(x))))
        return self.act(y + (x if self.downsample is None else self.downsample(x)))


BLOCKS: Mapping[str, type[Bottleneck] | type[Basic]] = {"bottleneck": Bottleneck, "basic": Basic}


class SKNet(ResNetFrame):
    """Stem 7x7, pool, stages, mean over positions, classifier. x: (N, in_chans, H, W) -> (N, num_classes)."""

    def __init__(self, config: SKNetConfig):
        super().__init__()
        layers, width = config.layers, config.stem
        self.conv1 = layers.make_conv(config.in_chans, width, 7, stride=2)
        self.bn1 = layers.make_norm(width)
        self.act1 = layers.make_act(width)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        stride = 4
        for stage in config.stages:
            blocks: list[nn.Module] = []
            for i in range(len(stage.mid)):
                blocks.append(BLOCKS[config.block](config, stage, i, width))
                width = stage.width
            stride *= stage.stride
            self.add_stage(nn.Sequential(*blocks), stride)
        self.fc = nn.Linear(width, config.num_classes)
        self.num_features = width
        init_convs(self)

    def forward_head(self, features: torch.Tensor) -> torch.Tensor:  # (N, num_features, h, w) -> (N, num_classes)
        return self.fc(features.mean((2, 3)))


def sknet(*depths: int) -> SKNetConfig:
    """The paper's nets (table 1): 32 groups, 128 to 1024 inner channels, selections of 32 channels and more."""
    rows = zip(depths, (256, 512, 1024, 2048), (1, 2, 2, 2), strict=True)
    return SKNetConfig(
        tuple(Stage(w, (w // 2,) * d, (max(w // 32, 32),) * d, stride, groups=32) for d, w, stride in rows)
    )


def skresnet(*depths: int) -> SKNetConfig:
    """timm's ResNets of basic blocks: no groups, each path reads half of the channels."""
    rows = zip(depths, (64, 128, 256, 512), (16, 16, 32, 64), (1, 2, 2, 2), strict=True)
    stages = tuple(Stage(w, (w,) * d, (squeeze,) * d, stride) for d, w, squeeze, stride in rows)
    return SKNetConfig(stages, block="basic", split=True)


VARIANTS = {
    "sknet26": sknet(2, 2, 2, 2),
    "sknet50": sknet(3, 4, 6, 3),
    "sknet101": sknet(3, 4, 23, 3),
    "skresnet18": skresnet(2, 2, 2, 2),
    "skresnet34": skresnet(3, 4, 6, 3),
}


def from_timm(key: str) -> str:
    """A key of timm's skresnet18, skresnet34, skresnext50_32x4d as ours."""
    return re.sub(r"\.conv(\d)\.bn\.", r".bn\1.", re.sub(r"\.conv(\d)\.conv\.", r".conv\1.", key))


AUTHORS = "authors' repository, one crop"
_PAPER = Published("Selective Kernel Networks", "1903.06586")
_TIMM = replace(_PAPER, source="timm results csv", interpolation="bicubic")
PUBLISHED = {
    "sknet26": _PAPER,
    "sknet50": replace(
        _PAPER, top1=79.21, source=AUTHORS, weights="timm skresnext50_32x4d.ra_in1k", interpolation="bicubic"
    ),
    "sknet101": replace(_PAPER, top1=79.81, source=AUTHORS),  # the authors' weights are Caffe's
    "skresnet18": replace(_TIMM, top1=73.038, weights="timm skresnet18.ra_in1k"),
    "skresnet34": replace(_TIMM, top1=76.91, weights="timm skresnet34.ra_in1k"),
}

TINY = SKNetConfig((Stage(16, (8,), (4,), 1, groups=2), Stage(32, (8, 16), (4, 8), groups=4)), stem=8)

FAMILY = Family(
    SKNetConfig,
    SKNet,
    VARIANTS,
    ("fc.",),
    {"timm": from_timm},
    PUBLISHED,
    tiny=TINY,
)
