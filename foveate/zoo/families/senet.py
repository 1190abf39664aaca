"""SENet-154, arXiv:1709.01507: bottlenecks of 64 groups with a wide 3x3, a gate on each branch, 3x3 shortcuts.

Keys are those of timm's senet154. The authors' SE-ResNets and SE-ResNeXts are values of the ResNet family: in their
Caffe form legacy_seresnet50, legacy_seresnext50_32x4d and so on, on torchvision's ResNet seresnet50 and so on.
"""

import re
from dataclasses import KW_ONLY
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import nn

from foveate.config import Count, Probability, Stride, Width, record, replace
from foveate.errors import ConfigError
from foveate.layers import Layers
from foveate.zoo.family import MAX_BLOCKS, Config, Family, Published, check_blocks
from foveate.zoo.frame import ResNetFrame, init_convs

Mids = Annotated[tuple[Width, ...], Field(min_length=1, max_length=MAX_BLOCKS)]


@record
class Stage:
    """Bottlenecks of one resolution. The depth is len(mid1), which is len(mid2)."""

    width: Width  # output channels of every block
    mid1: Mids  # what the first 1x1 gives, one number a block
    mid2: Mids  # what the 3x3 gives
    stride: Stride = 2  # of the first block
    shortcut: Literal[1, 3] = 3  # kernel of the convolution in the shortcut of the first block
    groups: Count = 64  # of the 3x3
    layers: Layers | None = None  # in place of the net's layers in this stage

    def __post_init__(self) -> None:
        if len(self.mid1) != len(self.mid2):
            raise ConfigError(
                f"Stage.mid2 has {len(self.mid2)} values: expected one a block, {len(self.mid1)} as in mid1"
            )
        if odd := [m for m in (*self.mid1, *self.mid2) if m % self.groups]:
            raise ConfigError(f"Stage.mid1, mid2 hold {odd[0]}; it must be a multiple of groups = {self.groups}")


@record
class SENetConfig(Config):
    """A SENet. Widths are absolute."""

    stages: Annotated[tuple[Stage, ...], Field(min_length=1, max_length=16)]
    family: Literal["senet"] = "senet"
    stem: tuple[Width, Width, Width] = (64, 64, 128)  # three 3x3, the first of stride 2
    # after the stem, 3x3 of stride 2: with padding 1 (MXNet, timm's senet154, pytorchcv); the authors' Caffe, without
    pool: Literal["max", "max_ceil"] = "max"
    dropout: Probability = 0.2  # before the classifier
    _: KW_ONLY
    layers: Layers = Layers(attn="se")

    def __post_init__(self) -> None:
        check_blocks(self, sum(len(s.mid1) for s in self.stages))


class Bottleneck(nn.Module):
    """1x1 to mid1, grouped 3x3 to mid2, 1x1 to width, gate; act(shortcut + branch). Paper, section 6.1 and appendix.

    mid2 is twice a ResNeXt's and mid1 half of mid2: the first 1x1 is halved to save its cost.
    """

    def __init__(self, c_in: int, stage: Stage, i: int, layers: Layers):
        super().__init__()
        mid1, mid2, width, stride = stage.mid1[i], stage.mid2[i], stage.width, stage.stride if i == 0 else 1
        self.conv1 = layers.make_conv(c_in, mid1, 1)
        self.bn1 = layers.make_norm(mid1)
        self.act1 = layers.make_act(mid1)
        self.conv2 = layers.make_conv(mid1, mid2, 3, stride=stride, groups=stage.groups)
        self.bn2 = layers.make_norm(mid2)
        self.act2 = layers.make_act(mid2)
        self.conv3 = layers.make_conv(mid2, width, 1)
        self.bn3 = layers.make_norm(width)
        self.se = layers.make_attn(width, width)
        self.act3 = layers.make_act(width)
        self.downsample: nn.Module | None = None
        if stride > 1 or c_in != width:
            conv = layers.make_conv(c_in, width, stage.shortcut, stride=stride)
            self.downsample = nn.Sequential(conv, layers.make_norm(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (N, c_in, H, W) -> (N, width, H / stride, W / stride)
        y = self.act1(self.bn1(self.conv1(x)))
        y = self.act2(self.bn2(self.conv2(y)))
        y = self.se(self.bn3(self.conv3(y)))
        return self.act3(y + (x if self.downsample is None else self.downsample(x)))


class SENet(ResNetFrame):
    """Stem, pool, stages, mean over positions, dropout, classifier. x: (N, in_chans, H, W) -> (N, num_classes)."""

    def __init__(self, config: SENetConfig):
        super().__init__()
        layers, (a, b, width) = config.layers, config.stem
        first = (layers.make_conv(config.in_chans, a, 3, stride=2), layers.make_norm(a), layers.make_act(a))
        second = (layers.make_conv(a, b, 3), layers.make_norm(b), layers.make_act(b))
        self.conv1 = nn.Sequential(*first, *second, layers.make_conv(b, width, 3))
        self.bn1 = layers.make_norm(width)
        self.act1 = layers.make_act(width)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1) if config.pool == "max" else nn.MaxPool2d(3, 2, ceil_mode=True)
        stride = 4
        for stage in config.stages:
            blocks: list[nn.Module] = []
            for i in range(len(stage.mid1)):
                blocks.append(Bottleneck(width, stage, i, stage.layers or layers))
                width = stage.width
            stride *= stage.stride
            self.add_stage(nn.Sequential(*blocks), stride)
        self.dropout = nn.Dropout(config.dropout)
        self.fc = nn.Linear(width, config.num_classes)
        self.num_features = width
        init_convs(self)

    def forward_head(self, features: torch.Tensor) -> torch.Tensor:  # (N, num_features, h, w) -> (N, num_classes)
        return self.fc(self.dropout(features.mean((2, 3))))


def make_stage(depth: int, width: int, stride: int = 2) -> Stage:
    """A stage of SENet-154: the 3x3 is as wide as the block, the first 1x1 half of it."""
    return Stage(width, (width // 2,) * depth, (width,) * depth, stride, 1 if stride == 1 else 3)


_STAGES = (make_stage(3, 256, stride=1), make_stage(8, 512), make_stage(36, 1024), make_stage(3, 2048))

# The two differ in the windows of one pool: weights of either load into both, and give other logits.
VARIANTS = {
    "senet154": SENetConfig(_STAGES),
    "legacy_senet154": SENetConfig(_STAGES, pool="max_ceil"),  # as the authors trained it
}

LEGACY = {  # the stem of timm's legacy_senet154 -> that of its senet154
    "conv1": "conv1.0",
    "bn1": "conv1.1",
    "conv2": "conv1.3",
    "bn2": "conv1.4",
    "conv3": "conv1.6",
    "bn3": "bn1",
}


def from_timm(key: str) -> str:
    """A key of timm's legacy_senet154 as ours; a key of its senet154 comes back as it is."""
    key = re.sub(r"^layer0\.(\w+)\.", lambda m: f"{LEGACY.get(m[1], m[1])}.", key)
    return key.replace(".se_module.", ".se.").replace("last_linear.", "fc.")


_PAPER = Published("Squeeze-and-Excitation Networks", "1709.01507")
PUBLISHED = {
    "senet154": replace(
        _PAPER, top1=81.226, source="timm results csv", weights="timm senet154.gluon_in1k", interpolation="bicubic"
    ),
    "legacy_senet154": replace(
        _PAPER, top1=81.32, source="authors' repository, one crop", weights="timm legacy_senet154.in1k"
    ),
}

TINY = SENetConfig((Stage(16, (8,), (16,), 1, 1, groups=4), Stage(32, (8, 16), (16, 32), groups=8)), stem=(4, 4, 8))

FAMILY = Family(
    SENetConfig,
    SENet,
    VARIANTS,
    ("fc.",),
    {"timm": from_timm},
    PUBLISHED,
    folds=True,
    tiny=TINY,
)
