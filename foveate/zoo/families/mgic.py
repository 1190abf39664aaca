"""MGIC: multigrid in channels, arXiv:2011.09128. Narrow groups at every level, all channels meet on the coarsest one.

Built from section 3 and the authors' code (BGUCompSci/MultigridInChannelsCNNs), whose block this is; keys are ours.
The ImageNet networks here are a reading: the paper puts its block into ResNet and MobileNetV3 without a layer table.

What the paper promises is the number of weights: those of a block of c channels, s_g of them in a group, grow with c,
for its levels hold 2 k^2 s_g (c + c/2 + ...) < 4 k^2 s_g c. Both hosts lose weights: ResNet-50 25.6 -> 20.4 million,
MobileNetV3 5.5 -> 2.3. Gates undo it unless they keep to the groups: a gate of ratio 1/4 on e c channels has
(e c)^2 / 2 weights, which made this MobileNetV3 7.5 million large. Multiply-adds are not promised and do not fall
everywhere: ResNet-50 narrows to c / 4 in front of its 3x3, so that a block of width c costs 17 c^2 / 16 a pixel; here
two 3x3 a level work on all c, 4 k^2 s_g c = 1,152 c, which is more below 1,084 channels: in three of its four stages.
"""

import itertools
import math
import operator
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import nn

from foveate.config import Count, Kernel, Stride, Width, parse_call, record, replace
from foveate.errors import ConfigError
from foveate.layers import Layers
from foveate.layers.mgic import levels, v_cycle
from foveate.zoo.families.resnet.network import make_pool
from foveate.zoo.family import Config, Family, Network, Published, check_blocks


@record
class Stage:
    """MGIC blocks of one width and resolution, behind a transition where either changes."""

    width: Width
    depth: Count
    stride: Stride = 2
    expand: Annotated[int, Field(ge=0, le=64)] = 0  # inner width of a mobile block over its level's; 0: two 3x3
    kernel: Kernel = 3  # of the mobile block's depthwise convolution, odd
    layers: Layers | None = None  # overrides the net's layers in this stage

    def __post_init__(self) -> None:
        if self.kernel % 2 == 0:
            raise ConfigError(f"Stage.kernel = {self.kernel}: must be odd")


@record
class MGICConfig(Config):
    """A network of MGIC blocks."""

    stages: Annotated[tuple[Stage, ...], Field(min_length=1, max_length=64)]
    family: Literal["mgic"] = "mgic"
    group: Width = 32  # channels of a group, s_g
    coarsest: Width = 32  # halving goes on while the next level has at least so many channels; one more follows, c_min
    # first weights of restriction and prolongation: the mean of a group, multigrid's own; Kaiming, what the authors ran
    transfer: Literal["mean", "kaiming"] = "mean"
    gate_groups: bool = False  # gates (se) of a smoother keep to its groups, as its convolutions do
    transfer_norm: bool = False  # a norm behind every restriction: the authors' mobile form
    stem: Literal["imagenet", "mobile", "cifar"] = "imagenet"  # 7x7 stride 2 and a pool; 3x3 stride 2; 3x3
    stem_width: Width = 64
    head: Annotated[int, Field(ge=0, le=65536)] = 0  # a 1x1 convolution in front of the mean; 0: none

    def __post_init__(self) -> None:
        check_blocks(self, sum(s.depth for s in self.stages))
        for i, stage in enumerate(self.stages):
            for width in levels(stage.width, self.coarsest):
                if width % 2 or width % min(self.group, width) or min(self.group, width) % 2:
                    wanted = f"group = {self.group} times a power of two"
                    raise ConfigError(f"MGICConfig.stages.{i}.width = {stage.width} halves to {width}: take {wanted}")


def grouped(layers: Layers, groups: int) -> Layers:
    """The layers with groups in the gate, where that is a squeeze-and-excitation; other gates stay as they are."""
    name, options = parse_call(layers.attn)
    if name != "se" or groups == 1:
        return layers
    written = ", ".join(f"{key}={value!r}" for key, value in {**options, "groups": groups}.items())
    return replace(layers, attn=f"se({written})")


class Smoother(nn.Module):
    """act(x + branch(x)) on one level: two 3x3, or expand, depthwise, gate, project; in groups."""

    def __init__(self, layers: Layers, stage: Stage, width: int, groups: int, gate_groups: bool):
        super().__init__()
        mid = width * (stage.expand or 1)
        if stage.expand:
            first = layers.make_conv(width, mid, 1, groups=groups)
            depthwise = layers.make_conv(mid, mid, stage.kernel, groups=mid)
            self.branch1 = nn.Sequential(first, layers.make_norm(mid), layers.make_act(mid), depthwise)
        else:
            self.branch1 = nn.Sequential(layers.make_conv(width, mid, 3, groups=groups))
        self.bn1 = layers.make_norm(mid)
        self.act1 = layers.make_act(mid)
        self.se = grouped(layers, groups if gate_groups else 1).make_attn(mid, mid)
        self.conv2 = layers.make_conv(mid, width, 1 if stage.expand else 3, groups=groups)
        self.bn2 = layers.make_norm(width)
        self.act2 = layers.make_act(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (N, width, H, W) -> same
        y = self.se(self.act1(self.bn1(self.branch1(x))))
        return self.act2(x + self.bn2(self.conv2(y)))


class MGICBlock(nn.Module):
    """One V-cycle over channels, section 3.2. Weights grow linearly with the width: below 38 * group * width + const.

    Down: x[l+1] = R[l] x[l]. On the coarsest level an ungrouped smoother. Up: x[l] + norm(P[l](x[l+1] new - old)), then
    the level's smoother. x: (N, width, H, W) -> same.
    """

    def __init__(self, config: MGICConfig, stage: Stage):
        super().__init__()
        layers, widths = stage.layers or config.layers, levels(stage.width, config.coarsest)
        self.restrict, self.prolong, self.smooth = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for width in widths:
            groups = width // min(config.group, width)
            down, up = (layers.make_conv(a, b, 1, groups=groups) for a, b in ((width, width // 2), (width // 2, width)))
            norm = layers.make_norm(width // 2) if config.transfer_norm else nn.Identity()
            self.restrict.append(nn.Sequential(down, norm))
            self.prolong.append(nn.Sequential(up, layers.make_norm(width)))
            self.smooth.append(Smoother(layers, stage, width, groups, config.gate_groups))
        self.coarse = Smoother(layers, stage, widths[-1] // 2, 1, config.gate_groups)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return v_cycle(x, self.restrict, self.prolong, self.smooth, self.coarse)


class MGICNet(Network):
    """Stem, stages of MGIC blocks, (1x1 head), global average, linear classifier."""

    def __init__(self, config: MGICConfig):
        super().__init__()
        layers, width = config.layers, config.stem_width
        kernel, stride = {"imagenet": (7, 2), "mobile": (3, 2), "cifar": (3, 1)}[config.stem]
        self.conv1 = layers.make_conv(config.in_chans, width, kernel, stride=stride)
        self.bn1 = layers.make_norm(width)
        self.act1 = layers.make_act(width)
        self.maxpool = make_pool("max" if config.stem == "imagenet" else "none")
        self.stem_stride = stride
        stages: list[nn.Module] = []
        for stage in config.stages:
            own = stage.layers or layers
            blocks: list[nn.Module] = [MGICBlock(config, stage) for _ in range(stage.depth)]
            if stage.stride > 1 or stage.width != width:  # a block changes neither width nor resolution
                conv = own.make_conv(width, stage.width, 3, stride=stage.stride, groups=math.gcd(width, stage.width))
                blocks = [nn.Sequential(conv, own.make_norm(stage.width), own.make_act(stage.width)), *blocks]
            stages.append(nn.Sequential(*blocks))
            width = stage.width
        self.stages = nn.Sequential(*stages)
        first = stride * (2 if config.stem == "imagenet" else 1)
        self.strides = tuple(itertools.accumulate((s.stride for s in config.stages), operator.mul, initial=first))[1:]
        self.head: nn.Module = nn.Identity()
        if config.head:
            conv, norm = layers.make_conv(width, config.head, 1), layers.make_norm(config.head)
            self.head = nn.Sequential(conv, norm, layers.make_act(config.head))
        self.num_features = config.head or width
        self.fc = nn.Linear(self.num_features, config.num_classes)
        self.init_weights(config.transfer)

    def init_weights(self, transfer: str) -> None:
        """Kaiming normal by fan-out; restrictions and prolongations as the config says (mean: 1 / group everywhere)."""
        blocks = [m for m in self.modules() if isinstance(m, MGICBlock)]
        means = [m[0] for block in blocks for m in (*block.restrict, *block.prolong)]
        for module in self.modules():
            if type(module) is not nn.Conv2d:
                continue
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if transfer == "mean" and any(module is m for m in means):
                nn.init.constant_(module.weight, 1 / module.weight.shape[1])

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:  # (N, in_chans, H, W) -> (N, num_features, h, w)
        return self.head(self.stages(self.maxpool(self.act1(self.bn1(self.conv1(x))))))

    def forward_head(self, features: torch.Tensor) -> torch.Tensor:  # (N, num_features, h, w) -> (N, num_classes)
        return self.fc(features.mean((2, 3)))

    def feature_maps(self, x: torch.Tensor) -> list[torch.Tensor]:
        """The last map of every stride, finest first, beginning with the stem's; the last one is behind the head."""
        x = self.act1(self.bn1(self.conv1(x)))
        maps = {self.stem_stride: x}
        x = self.maxpool(x)
        for stride, stage in zip(self.strides, self.stages, strict=True):
            x = maps[stride] = stage(x)
        maps[stride] = self.head(x)
        return list(maps.values())


def resnet(depths: tuple[int, ...], widths: tuple[int, ...]) -> MGICConfig:
    """ResNet's stem and stages with MGIC blocks in place of its residual blocks, as many and as wide."""
    rows = tuple(Stage(w, d, 2 if i else 1) for i, (w, d) in enumerate(zip(widths, depths, strict=True)))
    return MGICConfig(rows)


# MobileNetV3-Large with widths that halve evenly: 16, 32, 64, 128, 128, 256 in place of 16, 24, 40, 80, 112, 160
_HARD = Layers("batch_norm", "hard_swish", "se(ratio=0.25, divisor=8, gate='hard_sigmoid')")
_MOBILE = (
    Stage(16, 1, 1, 1, 3, Layers()),
    Stage(32, 2, 2, 3, 3, Layers()),
    Stage(64, 3, 2, 3, 5, replace(_HARD, act="relu")),
    Stage(128, 4, 2, 3, 3, replace(_HARD, attn="none")),
    Stage(128, 2, 1, 6, 3, _HARD),
    Stage(256, 3, 2, 6, 5, _HARD),
)
_CIFAR = (Stage(32, 1, 1), Stage(64, 2), Stage(128, 2), Stage(256, 2))  # the authors' script

VARIANTS = {
    "mgic_resnet18": resnet((2, 2, 2, 2), (64, 128, 256, 512)),
    "mgic_resnet34": resnet((3, 4, 6, 3), (64, 128, 256, 512)),
    "mgic_resnet50": resnet((3, 4, 6, 3), (256, 512, 1024, 2048)),
    "mgic_mobilenetv3": MGICConfig(
        _MOBILE,
        group=8,
        coarsest=16,
        transfer_norm=True,
        stem="mobile",
        stem_width=16,
        head=960,
        layers=_HARD,
        gate_groups=True,
    ),
    "mgic_resnet_cifar": MGICConfig(_CIFAR, stem="cifar", stem_width=32, num_classes=10, resolution=32),
}

_TITLE = "MGIC: Multigrid-in-Channels Neural Network Architectures"
PUBLISHED = {
    **{name: Published(_TITLE, "2011.09128") for name in VARIANTS},
    "mgic_resnet_cifar": Published(_TITLE, "2011.09128", resize=32, resolution=32),
}

TINY = MGICConfig(stages=(Stage(16, 1, 1), Stage(32, 1)), group=8, coarsest=8, stem="cifar", stem_width=8)

FAMILY = Family(
    MGICConfig,
    MGICNet,
    VARIANTS,
    ("fc.",),
    published=PUBLISHED,
    tiny=TINY,
)
