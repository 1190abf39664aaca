"""MnasNet, arXiv:1807.11626: stages that each repeat one layer, found by search for accuracy and measured latency.

A config holds any member of the paper's search space (section 4.1). Keys are timm's (mnasnet_*, semnasnet_*), but for
se.fc1 and se.fc2.
"""

import math
import re
from dataclasses import KW_ONLY
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import nn

from foveate.config import Count, Kernel, Probability, Stride, Width, record, replace
from foveate.errors import ConfigError
from foveate.layers import Layers
from foveate.layers.drop import DropPath
from foveate.layers.same import Padding, padding_for
from foveate.zoo.families.efficientnet.network import Expand, from_timm, init_weights, write_widths
from foveate.zoo.families.mnasnet.published import PUBLISHED
from foveate.zoo.families.nasnet.blocks import Pool
from foveate.zoo.family import Config, Family, check_blocks
from foveate.zoo.frame import MobileFrame
from foveate.zoo.mbconv import InvertedBranch, SeparableBranch
from foveate.zoo.widths import round_width


@record
class Stage:
    """One layer, `depth` times; the choices of the search space are op, kernel, attn, skip, width and depth."""

    depth: Count  # layers
    width: Width  # output channels of every layer
    expand: Expand  # inner channels = expand * input channels; 1 where op is not "mbconv"
    kernel: Kernel  # odd
    stride: Stride  # of the first layer
    op: Literal["conv", "sepconv", "mbconv"] = "mbconv"
    # "identity": x is added where stride is 1 and the widths agree. "pool": where the widths agree, through a 3x3
    # average with the layer's stride. The paper names both and says no more of the second: this is our reading
    skip: Literal["identity", "pool", "none"] = "identity"
    attn: str | None = None  # the gate of this stage in place of layers.attn: "se(ratio=0.25)", "none"
    mid: tuple[Width, ...] = ()  # inner channels of each layer, in place of expand (pruning writes this)
    layers: Layers | None = None  # in place of the net's layers in this stage

    def __post_init__(self) -> None:
        if self.kernel % 2 == 0:
            raise ConfigError(f"Stage.kernel = {self.kernel}: must be odd (3, 5, 7)")
        if (self.op == "mbconv") != (self.expand > 1):
            wanted = 'at least 2, or op = "sepconv"' if self.op == "mbconv" else "1"
            raise ConfigError(f'Stage.expand = {self.expand} with op = "{self.op}": expected {wanted}')
        if self.mid and (self.op != "mbconv" or len(self.mid) != self.depth):
            wanted = f"one value a layer, {self.depth}" if self.op == "mbconv" else f'none for op = "{self.op}"'
            raise ConfigError(f"Stage.mid has {len(self.mid)} values: expected {wanted}")


@record
class MnasNetConfig(Config):
    """A MnasNet. Widths are absolute; scale() makes others. Defaults are those of the official code."""

    stages: Annotated[tuple[Stage, ...], Field(min_length=1, max_length=64)]
    family: Literal["mnasnet"] = "mnasnet"
    stem: Width = 32
    head: Width = 1280
    padding: Padding = "same"  # "symmetric": torchvision's and timm's
    dropout: Probability = 0.2  # before the classifier
    drop_path: Probability = 0.0  # not in the paper; layer i of n, where it has a skip, drops drop_path * i / n
    _: KW_ONLY
    layers: Layers = Layers("batch_norm(eps=0.001, momentum=0.01)")

    def __post_init__(self) -> None:
        check_blocks(self, sum(s.depth for s in self.stages), "layers")


def layers_of(config: MnasNetConfig, stage: Stage) -> Layers:
    """The layers of a stage, with its own gate where it has one."""
    layers = stage.layers or config.layers
    return layers if stage.attn is None else replace(layers, attn=stage.attn)


def make_skip(config: MnasNetConfig, stage: Stage, c_in: int, stride: int) -> nn.Module | None:
    """What x goes through before it is added to the layer's output; None where it is not added."""
    if stage.skip == "none" or c_in != stage.width or (stage.skip == "identity" and stride > 1):
        return None
    return Pool("avg", 3, stride, config.padding) if stage.skip == "pool" else nn.Identity()


class Conv(nn.Module):
    """op "conv": k x k convolution, norm, activation, gate."""

    def __init__(self, config: MnasNetConfig, stage: Stage, *, c_in: int, mid: int, stride: int, drop: float):
        super().__init__()
        layers = layers_of(config, stage)
        self.pad, padding = padding_for(config.padding, stage.kernel, stride)
        self.conv = layers.make_conv(c_in, stage.width, stage.kernel, stride=stride, padding=padding)
        self.bn1 = layers.make_norm(stage.width)
        self.act1 = layers.make_act(stage.width)
        self.se = layers.make_attn(stage.width, c_in)
        self.skip = make_skip(config, stage, c_in, stride)
        self.drop_path = DropPath(drop)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (N, c_in, H, W) -> (N, width, H/stride, W/stride)
        y = self.se(self.act1(self.bn1(self.conv(self.pad(x)))))
        return y if self.skip is None else self.skip(x) + self.drop_path(y)


class SepConv(SeparableBranch):
    """op "sepconv": depthwise k x k, gate, 1x1 without activation. Figure 7."""

    def __init__(self, config: MnasNetConfig, stage: Stage, *, c_in: int, mid: int, stride: int, drop: float):
        layers, width, kernel = layers_of(config, stage), stage.width, stage.kernel
        super().__init__(layers, config.padding, c_in=c_in, width=width, kernel=kernel, stride=stride)
        self.skip = make_skip(config, stage, c_in, stride)
        self.drop_path = DropPath(drop)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (N, c_in, H, W) -> (N, width, H/stride, W/stride)
        y = self.branch(x)
        return y if self.skip is None else self.skip(x) + self.drop_path(y)


class MBConv(InvertedBranch):
    """op "mbconv": 1x1 expansion, depthwise k x k, gate, 1x1 without activation. Figure 7."""

    def __init__(self, config: MnasNetConfig, stage: Stage, *, c_in: int, mid: int, stride: int, drop: float):
        layers, width, kernel = layers_of(config, stage), stage.width, stage.kernel
        super().__init__(layers, config.padding, c_in=c_in, mid=mid, width=width, kernel=kernel, stride=stride)
        self.skip = make_skip(config, stage, c_in, stride)
        self.drop_path = DropPath(drop)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (N, c_in, H, W) -> (N, width, H/stride, W/stride)
        y = self.branch(x)
        return y if self.skip is None else self.skip(x) + self.drop_path(y)


OPS: dict[str, type[Conv] | type[SepConv] | type[MBConv]] = {"conv": Conv, "sepconv": SepConv, "mbconv": MBConv}


class MnasNet(MobileFrame):
    """Stem 3x3 stride 2, stages of one layer each, 1x1 head, mean over positions, dropout, classifier.

    Feature maps of A1: 16, 24, 40, 112, 320 channels at strides 2 to 32.
    """

    def __init__(self, config: MnasNetConfig):
        super().__init__()
        stages, c_in, index, layers = [], config.stem, 0, sum(s.depth for s in config.stages)
        for stage in config.stages:
            members: list[nn.Module] = []
            for j in range(stage.depth):
                stride, drop = stage.stride if j == 0 else 1, config.drop_path * index / layers
                mid = stage.mid[j] if stage.mid else stage.expand * c_in
                members.append(OPS[stage.op](config, stage, c_in=c_in, mid=mid, stride=stride, drop=drop))
                c_in, index = stage.width, index + 1
            stages.append(nn.Sequential(*members))
        self.add_stem(config, config.padding)
        self.add_stages(stages, [s.stride for s in config.stages])
        self.add_head(config, c_in)
        init_weights(self)  # the official code of EfficientNet took it over from MnasNet


def scale(config: MnasNetConfig, width: float) -> MnasNetConfig:
    """The width multiplier: stem and stages times width, rounded to multiples of 8; the head keeps its width.

    Stages that list `mid` are refused: their widths are no ratio.
    """
    for i, stage in enumerate(config.stages):
        if stage.mid:
            raise ConfigError(f"stages.{i}.mid is given layer by layer; scale works on stages that have only `expand`")
    stages = tuple(replace(s, width=round_width(s.width * width)) for s in config.stages)
    return replace(config, stages=stages, stem=round_width(config.stem * width))


def scale_both(config: MnasNetConfig, depth: float, width: float) -> MnasNetConfig:
    """The official rule of EfficientNet: layers of every stage times depth, rounded up; widths as scale() does."""
    made = scale(config, width)
    return replace(made, stages=tuple(replace(s, depth=math.ceil(depth * s.depth)) for s in made.stages))


def symmetric(config: MnasNetConfig, norm: str = "batch_norm") -> MnasNetConfig:
    """The form of the PyTorch libraries: the same padding on all sides, other numbers in the norms."""
    return replace(config, padding="symmetric", layers=replace(config.layers, norm=norm))


# torchvision counts convolutions, norms and activations in one row; its stages 1 to 6 are layers.8 to layers.13
_ENDS = {"0": "conv_stem", "1": "bn1", "14": "conv_head", "15": "bn2"}
_FIRST = {"3": "conv_dw", "4": "bn1", "6": "conv_pw", "7": "bn2"}
_UNITS = {"0": "conv_pw", "1": "bn1", "3": "conv_dw", "4": "bn2", "6": "conv_pwl", "7": "bn3"}


def from_torchvision(key: str) -> str:
    """torchvision's key (mnasnet0_5 to mnasnet1_3) -> ours; a key that is not of that form comes back as it is."""
    if found := re.fullmatch(r"layers\.(\d+)\.(\d+)\.layers\.(\d)\.(\w+)", key):
        return f"blocks.{int(found[1]) - 7}.{found[2]}.{_UNITS.get(found[3], found[3])}.{found[4]}"
    if found := re.fullmatch(r"layers\.(\d+)\.(\w+)", key):
        return f"{_ENDS.get(found[1]) or 'blocks.0.0.' + _FIRST.get(found[1], found[1])}.{found[2]}"
    return key.replace("classifier.1.", "classifier.")


_SE = "se(ratio=0.25)"
_A1 = MnasNetConfig(
    (
        Stage(1, 16, 1, 3, 1, "sepconv", "none"),
        Stage(2, 24, 6, 3, 2),
        Stage(3, 40, 3, 5, 2, attn=_SE),
        Stage(4, 80, 6, 3, 2),
        Stage(2, 112, 6, 3, 1, attn=_SE),
        Stage(3, 160, 6, 5, 2, attn=_SE),
        Stage(1, 320, 6, 3, 1),
    )
)
_B1 = MnasNetConfig(
    (
        Stage(1, 16, 1, 3, 1, "sepconv", "none"),
        Stage(3, 24, 3, 3, 2),
        Stage(3, 40, 3, 5, 2),
        Stage(3, 80, 6, 5, 2),
        Stage(2, 96, 6, 3, 1),
        Stage(4, 192, 6, 5, 2),
        Stage(1, 320, 6, 3, 1, skip="none"),
    )
)
_SMALL = MnasNetConfig(
    (
        Stage(1, 8, 1, 3, 1, "sepconv"),
        Stage(1, 16, 3, 3, 2),
        Stage(2, 16, 6, 3, 2),
        Stage(4, 32, 6, 5, 2, attn=_SE),
        Stage(3, 32, 6, 3, 1, attn=_SE),
        Stage(3, 88, 6, 5, 2, attn=_SE),
        Stage(1, 144, 6, 3, 1),
    ),
    stem=8,
    dropout=0.0,
)
# the backbone searched together with MnasFPN, arXiv:1912.01106; the table of the official code
_D1 = MnasNetConfig(
    (
        Stage(1, 24, 9, 3, 1),
        Stage(3, 36, 9, 3, 2),
        Stage(5, 48, 9, 3, 2),
        Stage(4, 96, 9, 5, 2),
        Stage(5, 96, 3, 7, 1),
        Stage(3, 80, 9, 3, 2),
        Stage(1, 320, 6, 7, 1, skip="none"),
    )
)
_TORCHVISION = "batch_norm(momentum=0.0003)"

VARIANTS = {
    # the official form: SAME padding, eps 1e-3. symmetric(mnasnet_small) is timm's mnasnet_small
    "mnasnet_a1": _A1,
    "mnasnet_a1_035": scale(_A1, 0.35),
    "mnasnet_a1_050": scale(_A1, 0.5),
    "mnasnet_a1_075": scale(_A1, 0.75),
    "mnasnet_a1_140": scale(_A1, 1.4),
    "mnasnet_b1": _B1,
    "mnasnet_d1": _D1,
    "mnasnet_small": _SMALL,
    # timm's form: symmetric padding, eps 1e-5
    "mnasnet_050": symmetric(scale(_B1, 0.5)),
    "mnasnet_075": symmetric(scale(_B1, 0.75)),
    "mnasnet_100": symmetric(_B1),
    "mnasnet_140": symmetric(scale(_B1, 1.4)),
    "semnasnet_050": symmetric(scale(_A1, 0.5)),
    "semnasnet_075": symmetric(scale(_A1, 0.75)),
    "semnasnet_100": symmetric(_A1),
    "semnasnet_140": symmetric(scale(_A1, 1.4)),
    # torchvision's form: B1, symmetric padding, eps 1e-5, slow statistics
    "mnasnet0_5": symmetric(scale(_B1, 0.5), _TORCHVISION),
    "mnasnet0_75": symmetric(scale(_B1, 0.75), _TORCHVISION),
    "mnasnet1_0": symmetric(_B1, _TORCHVISION),
    "mnasnet1_3": symmetric(scale(_B1, 1.3), _TORCHVISION),
}

TINY = MnasNetConfig((Stage(1, 8, 1, 3, 1, "sepconv"), Stage(2, 16, 2, 5, 2)), stem=8, head=32)

FAMILY = Family(
    MnasNetConfig,
    MnasNet,
    VARIANTS,
    ("classifier.",),
    {"timm": from_timm, "torchvision": from_torchvision},
    PUBLISHED,
    folds=True,
    tiny=TINY,
    small="mnasnet_small",
    scale=scale_both,
    explicit=write_widths,
    cost_per_mac=1.4,
)
