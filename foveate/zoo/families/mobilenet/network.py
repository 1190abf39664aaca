"""MobileNet v1 (arXiv:1704.04861), v2 (1801.04381), v3 (1905.02244), v4 (2404.10518), FBNet-C (1812.03443).

One record for all: a sequence of mobile blocks, each with its own kernels, widths, gate and activation. Keys are
timm's, but for se.fc1 and se.fc2, and v4's bn2 (norm_head).
"""

import functools
import re

import torch
from torch import nn

from foveate.layers.norm import for_pooled
from foveate.zoo.families.efficientnet.network import init_weights
from foveate.zoo.families.mobilenet.blocks import Attention, Block, MobileNetConfig, Stage, make_block
from foveate.zoo.families.mobilenet.published import PUBLISHED
from foveate.zoo.families.mobilenet.variants import VARIANTS, scale
from foveate.zoo.family import Family, Rename, rename
from foveate.zoo.frame import SE_OF_TIMM, MobileFrame

__all__ = ["FAMILY", "VARIANTS", "Attention", "Block", "MobileNet", "MobileNetConfig", "Stage", "scale"]


class MobileNet(MobileFrame):
    """Stem 3x3, stages of blocks, 1x1 head before or after the mean over positions, dropout, classifier."""

    def __init__(self, config: MobileNetConfig):
        super().__init__()
        layers = config.layers
        self.add_stem(config, config.padding, config.stem_stride)
        stages, c_in, index, blocks = [], config.stem, 0, sum(len(s.blocks) for s in config.stages)
        for stage in config.stages:
            members: list[nn.Module] = []
            for block in stage.blocks:
                drop = config.drop_path * index / blocks
                members.append(make_block(config, stage, block, c_in=c_in, drop=drop))
                c_in, index = c_in if isinstance(block, Attention) else block.width, index + 1
            stages.append(nn.Sequential(*members))
        self.blocks = nn.Sequential(*stages)
        self.block_strides = [[1 if isinstance(b, Attention) else b.stride for b in s.blocks] for s in config.stages]

        c_out = config.head or c_in
        has_head, has_norm = config.head is not None, config.head is not None and config.head_norm
        self.head_at = config.head_at
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.conv_head = layers.make_conv(c_in, c_out, 1, bias=not has_norm) if has_head else nn.Identity()
        norm = layers.make_norm(c_out) if has_norm else nn.Identity()
        self.bn2 = for_pooled(norm) if config.head_at == "pool" else norm
        self.act2 = layers.make_act(c_out) if has_head else nn.Identity()
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(c_out, config.num_classes)
        self.num_features = c_out if config.head_at == "map" else c_in
        # as timm and the official MnasNet code start; TF-slim draws every convolution with spread 0.09
        init_weights(self)

    def head(self, x: torch.Tensor) -> torch.Tensor:  # (N, c, h, w) -> (N, head, h, w)
        return self.act2(self.bn2(self.conv_head(x)))

    def forward_end(self, x: torch.Tensor) -> torch.Tensor:  # (N, c, h, w) -> (N, num_features, h, w)
        return self.head(x) if self.head_at == "map" else x

    def forward_head(self, features: torch.Tensor) -> torch.Tensor:  # (N, num_features, h, w) -> (N, num_classes)
        x = self.pool(features)
        x = self.head(x) if self.head_at == "pool" else x
        return self.classifier(self.dropout(x.flatten(1)))

    def feature_maps(self, x: torch.Tensor) -> list[torch.Tensor]:
        """The last map of each resolution, finest first: 16, 24, 32, 96, 320 channels at strides 2 to 32 for v2.

        A head on the map is not in it; the last 1x1 convolution of v3 and v4 (960 channels) is a block, and is.
        """
        x = self.forward_stem(x)
        maps = []
        for stage, strides in zip(self.blocks, self.block_strides, strict=True):
            for block, stride in zip(stage.children(), strides, strict=True):
                if stride > 1:
                    maps.append(x)
                x = block(x)
        return [*maps, x]


def from_timm(key: str) -> str:
    """timm's key -> ours."""
    return rename(key, (*SE_OF_TIMM, (r"norm_head\.", "bn2.")))


# torchvision counts the units of a block (its v3 with the gate among them); its first block does not expand
_FIRST = {"0.0": "conv_dw", "0.1": "bn1", "1": "conv_pw", "2": "bn2"}  # v2
_FIRST |= {"1.0": "conv_pw", "1.1": "bn2", "1.fc1": "se.fc1", "1.fc2": "se.fc2", "2.0": "conv_pw", "2.1": "bn2"}  # v3
_UNITS = {"0.0": "conv_pw", "0.1": "bn1", "1.0": "conv_dw", "1.1": "bn2"}
_UNITS |= {"2": "conv_pwl", "3": "bn3"}  # v2
_UNITS |= {"2.0": "conv_pwl", "2.1": "bn3", "2.fc1": "se.fc1", "2.fc2": "se.fc2", "3.0": "conv_pwl", "3.1": "bn3"}
_ENDS = {"features.0.0": "conv_stem", "features.0.1": "bn1", "classifier.1": "classifier"}
_ENDS |= {"classifier.0": "conv_head", "classifier.3": "classifier"}  # v3
_LAST, _HEAD = {"0": "conv", "1": "bn1"}, {"0": "conv_head", "1": "bn2"}  # the last 1x1: a block of v3, the head of v2


def from_torchvision(key: str, depths: tuple[int, ...]) -> str:
    """torchvision's key -> ours, for the net of so many blocks a stage: torchvision counts blocks through.

    Its v3 stores conv_head.weight as the matrix of a linear layer, (1280, 960) where a 1x1 convolution has four axes.
    """
    module, _, leaf = key.rpartition(".")
    found = re.fullmatch(r"features\.([1-9]\d*)\.(conv\.|block\.)?([\w.]+)", module)
    if not found:
        return f"{_ENDS.get(module, module)}.{leaf}"
    number, first, unit = int(found[1]) - 1, found[1] == "1", found[3]
    for stage, depth in enumerate(depths):
        if number < depth:
            names = _LAST if found[2] is None else _FIRST if first else _UNITS
            return f"blocks.{stage}.{number}.{names.get(unit, unit)}.{leaf}"
        number -= depth
    return f"{_HEAD.get(unit, unit)}.{leaf}"


RENAMES: dict[str, Rename] = {
    "timm": from_timm,
    "torchvision_v2": functools.partial(from_torchvision, depths=(1, 2, 3, 4, 3, 3, 1)),
    "torchvision_v3_large": functools.partial(from_torchvision, depths=(1, 2, 3, 4, 2, 3, 1)),
    "torchvision_v3_small": functools.partial(from_torchvision, depths=(1, 2, 3, 2, 3, 1)),
}

TINY = MobileNetConfig(
    (
        Stage(
            (
                Block("conv", 8, 1),
                Block("separable", 8),
                Block("inverted", 8),
                Block("inverted", 16, 5, 2, 24),
            )
        ),
        Stage(
            (
                Block("fused", 16, 3, mid=24),
                Block("universal", 16, 3, 2, 24, 3),
                Attention(2, 8, kv_stride=2),
            )
        ),
    ),
    stem=8,
    head=32,
)

FAMILY = Family(
    MobileNetConfig,
    MobileNet,
    VARIANTS,
    ("classifier.",),
    RENAMES,
    PUBLISHED,
    folds=True,
    tiny=TINY,
    small="mobilenetv1_025",
    scale=lambda config, depth, width: scale(config, width, depth),
    cost_per_mac=1.5,
)
