"""EfficientNet, arXiv:1905.11946, and EfficientNet-Lite: inverted bottlenecks scaled in depth, width and resolution.

Keys are timm's (tf_efficientnet_*), but for se.fc1 and se.fc2.
"""

import math
import re
from dataclasses import KW_ONLY
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import nn

from foveate.config import Count, Kernel, Probability, Stride, Width, record, replace
from foveate.errors import ConfigError
from foveate.layers import Layers
from foveate.layers.drop import DropPath
from foveate.layers.same import Padding
from foveate.zoo.families.efficientnet.published import PUBLISHED
from foveate.zoo.family import Config, Family, check_blocks, rename
from foveate.zoo.frame import SE_OF_TIMM, MobileFrame
from foveate.zoo.mbconv import InvertedBranch, SeparableBranch
from foveate.zoo.widths import round_width

Expand = Annotated[int, Field(ge=1, le=64)]


@record
class Stage:
    """Blocks of one width at one resolution."""

    depth: Count  # blocks
    width: Width  # output channels of every block
    expand: Expand  # inner channels = expand * input channels; 1: the blocks have no expanding convolution
    kernel: Kernel  # odd
    stride: Stride  # of the first block
    mid: tuple[Width, ...] = ()  # inner channels of each block, in place of expand (pruning writes this)
    layers: Layers | None = None  # in place of the net's layers in this stage

    def __post_init__(self) -> None:
        if self.kernel % 2 == 0:
            raise ConfigError(f"Stage.kernel = {self.kernel}: must be odd (3, 5, 7)")
        if self.mid and (self.expand == 1 or len(self.mid) != self.depth):
            wanted = "no values where expand = 1" if self.expand == 1 else f"one value a block, {self.depth}"
            raise ConfigError(f"Stage.mid has {len(self.mid)} values: expected {wanted}")


@record
class EfficientNetConfig(Config):
    """An EfficientNet. Widths are absolute; scale() makes larger ones. Defaults are those of the official code."""

    stages: Annotated[tuple[Stage, ...], Field(min_length=1, max_length=64)]
    family: Literal["efficientnet"] = "efficientnet"
    stem: Width = 32
    head: Width = 1280
    padding: Padding = "same"  # "symmetric": torchvision's, and timm's without tf_
    dropout: Probability = 0.2  # before the classifier
    drop_path: Probability = 0.2  # stochastic depth of a block past the last one; block i of n has drop_path * i / n
    _: KW_ONLY
    layers: Layers = Layers("batch_norm(eps=0.001, momentum=0.01)", "silu", "se(ratio=0.25, act='silu')")

    def __post_init__(self) -> None:
        check_blocks(self, sum(s.depth for s in self.stages))


class DepthwiseSeparable(SeparableBranch):
    """MBConv without expansion: depthwise k x k, gate, 1x1 projection without activation; + x where shapes agree."""

    def __init__(self, c_in: int, stage: Stage, stride: int, drop: float, config: EfficientNetConfig):
        layers, width = stage.layers or config.layers, stage.width
        super().__init__(layers, config.padding, c_in=c_in, width=width, kernel=stage.kernel, stride=stride)
        self.drop_path = DropPath(drop) if stride == 1 and c_in == width else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (N, c_in, H, W) -> (N, width, H/stride, W/stride)
        y = self.branch(x)
        return y if self.drop_path is None else x + self.drop_path(y)


class InvertedResidual(InvertedBranch):
    """MBConv: 1x1 expansion, depthwise k x k, gate, 1x1 projection without activation; + x where shapes agree."""

    def __init__(self, c_in: int, mid: int, stage: Stage, stride: int, drop: float, config: EfficientNetConfig):
        layers, width = stage.layers or config.layers, stage.width
        super().__init__(layers, config.padding, c_in=c_in, mid=mid, width=width, kernel=stage.kernel, stride=stride)
        self.drop_path = DropPath(drop) if stride == 1 and c_in == width else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (N, c_in, H, W) -> (N, width, H/stride, W/stride)
        y = self.branch(x)
        return y if self.drop_path is None else x + self.drop_path(y)


class EfficientNet(MobileFrame):
    """Stem 3x3 stride 2, stages of MBConv, 1x1 head, mean over positions, dropout, classifier.

    Feature maps of B0: 16, 24, 40, 112, 320 channels at strides 2 to 32.
    """

    def __init__(self, config: EfficientNetConfig):
        super().__init__()
        self.add_stem(config, config.padding)
        stages, c_in, index, blocks = [], config.stem, 0, sum(s.depth for s in config.stages)
        for stage in config.stages:
            members: list[nn.Module] = []
            for j in range(stage.depth):
                stride, drop = stage.stride if j == 0 else 1, config.drop_path * index / blocks
                if stage.expand == 1:
                    members.append(DepthwiseSeparable(c_in, stage, stride, drop, config))
                else:
                    mid = stage.mid[j] if stage.mid else stage.expand * c_in
                    members.append(InvertedResidual(c_in, mid, stage, stride, drop, config))
                c_in, index = stage.width, index + 1
            stages.append(nn.Sequential(*members))
        self.add_stages(stages, [s.stride for s in config.stages])
        self.add_head(config, c_in)
        self.pool = nn.AdaptiveAvgPool2d(1)
        init_weights(self)

    def forward_head(self, features: torch.Tensor) -> torch.Tensor:  # (N, head, h, w) -> (N, num_classes)
        return self.classifier(self.dropout(self.pool(features).flatten(1)))


def init_weights(model: nn.Module) -> None:
    """The official start: convolutions normal with variance 2 / (k * k * c_out / groups), classifier uniform."""
    for m in model.modules():
        if type(m) is nn.Conv2d:
            fan_out = m.kernel_size[0] * m.kernel_size[1] * m.out_channels // m.groups
            nn.init.normal_(m.weight, std=math.sqrt(2 / fan_out))
        elif type(m) is nn.Linear:
            bound = 1 / math.sqrt(m.out_features)
            nn.init.uniform_(m.weight, -bound, bound)
        else:
            continue
        if m.bias is not None:
            nn.init.zeros_(m.bias)


def write_widths(config: Any) -> Any:
    """mid = expand * the width before, block by block; of MnasNet too."""
    stages, c_in = [], config.stem
    for stage in config.stages:
        before = (c_in, *(stage.width,) * (stage.depth - 1))
        inner = () if stage.expand == 1 else stage.mid or tuple(stage.expand * c for c in before)
        stages.append(replace(stage, mid=inner))
        c_in = stage.width
    return replace(config, stages=tuple(stages))


def scale(
    config: EfficientNetConfig,
    depth: float,
    width: float,
    *,
    resolution: int | None = None,
    dropout: float | None = None,
    lite: bool = False,
) -> EfficientNetConfig:
    """Compound scaling (section 3.3): depths times depth, rounded up; widths times width, rounded to multiples of 8.

    lite: EfficientNet-Lite's rule: stem and head keep their widths, the first and the last stage their depths.
    resolution (px), dropout: None keeps the config's. Stages that list `mid` are refused: their widths are no ratio.
    """
    stages = []
    for i, stage in enumerate(config.stages):
        if stage.mid:
            raise ConfigError(f"stages.{i}.mid is given block by block; scale works on stages that have only `expand`")
        keep = lite and i in (0, len(config.stages) - 1)
        deep = stage.depth if keep else math.ceil(depth * stage.depth)
        stages.append(replace(stage, depth=deep, width=round_width(stage.width * width)))
    return replace(
        config,
        stages=tuple(stages),
        stem=config.stem if lite else round_width(config.stem * width),
        head=config.head if lite else round_width(config.head * width),
        resolution=config.resolution if resolution is None else resolution,
        dropout=config.dropout if dropout is None else dropout,
    )


def from_timm(key: str) -> str:
    """timm's key -> ours."""
    return rename(key, SE_OF_TIMM)


# torchvision numbers the units (convolution, norm) of a block, the SE among them; its first stage does not expand
_UNITS = {
    True: {"0.0": "conv_dw", "0.1": "bn1", "1.fc1": "se.fc1", "1.fc2": "se.fc2", "2.0": "conv_pw", "2.1": "bn2"},
    False: {"0.0": "conv_pw", "0.1": "bn1", "1.0": "conv_dw", "1.1": "bn2", "2.fc1": "se.fc1", "2.fc2": "se.fc2"}
    | {"3.0": "conv_pwl", "3.1": "bn3"},
}
_ENDS = {"features.0.0": "conv_stem", "features.0.1": "bn1", "features.8.0": "conv_head", "features.8.1": "bn2"}


def from_torchvision(key: str) -> str:
    """torchvision's key (efficientnet_b0 to b7) -> ours; a key that is not of that form comes back as it is."""
    module, _, leaf = key.rpartition(".")
    if found := re.fullmatch(r"features\.(\d+)\.(\d+)\.block\.(\d\.\w+)", module):
        stage, block, unit = int(found[1]) - 1, found[2], found[3]
        return f"blocks.{stage}.{block}.{_UNITS[stage == 0].get(unit, unit)}.{leaf}"
    return f"{(_ENDS | {'classifier.1': 'classifier'}).get(module, module)}.{leaf}"


_B0 = EfficientNetConfig(
    (
        Stage(1, 16, 1, 3, 1),
        Stage(2, 24, 6, 3, 2),
        Stage(2, 40, 6, 5, 2),
        Stage(3, 80, 6, 3, 2),
        Stage(3, 112, 6, 5, 1),
        Stage(4, 192, 6, 5, 2),
        Stage(1, 320, 6, 3, 1),
    )
)
_LITE0 = replace(_B0, layers=replace(_B0.layers, act="relu6", attn="none"))

# (depth, width): the released coefficients, rounded by their authors
VARIANTS = {
    "efficientnet_b0": _B0,
    "efficientnet_b1": scale(_B0, 1.1, 1.0, resolution=240),
    "efficientnet_b2": scale(_B0, 1.2, 1.1, resolution=260, dropout=0.3),
    "efficientnet_b3": scale(_B0, 1.4, 1.2, resolution=300, dropout=0.3),
    "efficientnet_b4": scale(_B0, 1.8, 1.4, resolution=380, dropout=0.4),
    "efficientnet_b5": scale(_B0, 2.2, 1.6, resolution=456, dropout=0.4),
    "efficientnet_b6": scale(_B0, 2.6, 1.8, resolution=528, dropout=0.5),
    "efficientnet_b7": scale(_B0, 3.1, 2.0, resolution=600, dropout=0.5),
    "efficientnet_b8": scale(_B0, 3.6, 2.2, resolution=672, dropout=0.5),
    "efficientnet_l2": scale(_B0, 5.3, 4.3, resolution=800, dropout=0.5),
    "efficientnet_lite0": _LITE0,
    "efficientnet_lite1": scale(_LITE0, 1.1, 1.0, resolution=240, lite=True),
    "efficientnet_lite2": scale(_LITE0, 1.2, 1.1, resolution=260, dropout=0.3, lite=True),
    "efficientnet_lite3": scale(_LITE0, 1.4, 1.2, resolution=280, dropout=0.3, lite=True),
    "efficientnet_lite4": scale(_LITE0, 1.8, 1.4, resolution=300, dropout=0.3, lite=True),
}

TINY = EfficientNetConfig(stages=(Stage(1, 8, 1, 3, 1), Stage(2, 16, 2, 5, 2)), stem=8, head=32)

FAMILY = Family(
    EfficientNetConfig,
    EfficientNet,
    VARIANTS,
    ("classifier.",),
    {"timm": from_timm, "torchvision": from_torchvision},
    PUBLISHED,
    folds=True,
    tiny=TINY,
    scale=scale,
    explicit=write_widths,
    cost_per_mac=1.7,
)
