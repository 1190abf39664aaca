"""MixNet, arXiv:1907.09595: inverted bottlenecks with mixed depthwise kernels and 1x1 convolutions in groups.

Keys are timm's, but for se.fc1, se.fc2 and the parts of a convolution: conv_dw.convs.0, also where there is one only.
"""

from collections.abc import Sequence
from dataclasses import KW_ONLY
from typing import Annotated, Literal, NamedTuple

import torch
from pydantic import Field
from torch import nn

from foveate.config import Kernel, Probability, Stride, Width, record, replace
from foveate.errors import ConfigError
from foveate.layers import Layers
from foveate.layers.drop import DropPath
from foveate.layers.mix_conv import MixConv, Split, split_channels
from foveate.layers.same import Padding
from foveate.zoo.families.efficientnet.network import init_weights
from foveate.zoo.family import MAX_BLOCKS, Config, Family, Published, check_blocks, rename
from foveate.zoo.frame import SE_OF_TIMM, MobileFrame
from foveate.zoo.widths import round_width

Parts = Annotated[int, Field(ge=1, le=16)]


@record
class Block:
    """One MBConv."""

    width: Width  # output channels
    mid: Annotated[int, Field(ge=0, le=65_536)]  # inner channels; 0: those of the input, without expanding convolution
    kernels: Annotated[tuple[Kernel, ...], Field(min_length=1, max_length=15)] = (3,)  # one a part, odd
    stride: Stride = 1
    expand_parts: Parts = 1  # parts ("groups") of the expanding 1x1
    project_parts: Parts = 1  # parts of the projecting 1x1
    split: Split = "equal"  # of the depthwise channels over the kernels; the released nets use "equal" only
    dilated: bool = False  # 3x3 with dilation in place of large kernels, at stride 1 only (section 3.2)

    def __post_init__(self) -> None:
        if any(k % 2 == 0 for k in self.kernels):
            raise ConfigError(f"Block.kernels = {self.kernels}: each must be odd (3, 5, 7)")


@record
class Stage:
    """Blocks that share activation and gate."""

    blocks: Annotated[tuple[Block, ...], Field(min_length=1, max_length=MAX_BLOCKS)]
    act: str | None = None  # in place of layers.act in this stage: "silu"
    attn: str | None = None  # in place of layers.attn in this stage: "se(ratio=0.5, act='silu')", "none"
    layers: Layers | None = None  # in place of the net's layers in this stage

    def __post_init__(self) -> None:
        if any(block.stride > 1 for block in self.blocks[1:]):
            raise ConfigError("Stage.blocks: only the first block of a stage has a stride")


@record
class MixNetConfig(Config):
    """A MixNet. Widths are absolute. Defaults are those of the official code."""

    stages: Annotated[tuple[Stage, ...], Field(min_length=1, max_length=64)]
    family: Literal["mixnet"] = "mixnet"
    stem: Width = 16
    head: Width = 1536
    padding: Padding = "same"  # "symmetric": timm's without tf_
    dropout: Probability = 0.2  # before the classifier
    drop_path: Probability = 0.0  # not in the paper; block i of n, where it has a skip, drops drop_path * i / n
    _: KW_ONLY
    layers: Layers = Layers("batch_norm(eps=0.001, momentum=0.01)")

    def __post_init__(self) -> None:
        check_blocks(self, sum(len(s.blocks) for s in self.stages))
        c_in = self.stem
        for i, stage in enumerate(self.stages):
            for j, block in enumerate(stage.blocks):
                try:
                    check_parts(block, c_in)
                except ConfigError as error:
                    raise ConfigError(f"MixNetConfig.stages.{i}.blocks.{j}: {error}") from None
                c_in = block.width


def check_parts(block: Block, c_in: int) -> None:
    """ConfigError where a convolution has more parts than channels."""
    mid = block.mid or c_in
    split_channels(mid, len(block.kernels), block.split)
    split_channels(min(c_in, mid), block.expand_parts)
    split_channels(min(mid, block.width), block.project_parts)


def layers_of(config: MixNetConfig, stage: Stage) -> Layers:
    """The layers of a stage, with its own activation and gate where it has them."""
    layers = stage.layers or config.layers
    act = layers.act if stage.act is None else stage.act
    return replace(layers, act=act, attn=layers.attn if stage.attn is None else stage.attn)


def pointwise(layers: Layers, c_in: int, c_out: int, parts: int) -> MixConv:
    """1x1 convolution, in parts that see only their own share of the input channels."""
    return MixConv(c_in, c_out, (1,) * parts, depthwise=False, make_conv=layers.make_conv)


def mixed(layers: Layers, channels: int, block: Block, padding: Padding) -> MixConv:
    """The depthwise convolution of a block."""
    return MixConv(
        channels,
        channels,
        block.kernels,
        stride=block.stride,
        padding=padding,
        split=block.split,
        dilated=block.dilated,
        make_conv=layers.make_conv,
    )


class DepthwiseSeparable(nn.Module):
    """A block without expansion: mixed depthwise, gate, 1x1 without activation; + x where shapes agree."""

    def __init__(self, layers: Layers, block: Block, *, c_in: int, padding: Padding, drop: float):
        super().__init__()
        self.conv_dw = mixed(layers, c_in, block, padding)
        self.bn1 = layers.make_norm(c_in)
        self.act1 = layers.make_act(c_in)
        self.se = layers.make_attn(c_in, c_in)
        self.conv_pw = pointwise(layers, c_in, block.width, block.project_parts)
        self.bn2 = layers.make_norm(block.width)
        self.drop_path = DropPath(drop) if block.stride == 1 and c_in == block.width else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (N, c_in, H, W) -> (N, width, H/stride, W/stride)
        y = self.act1(self.bn1(self.conv_dw(x)))
        y = self.bn2(self.conv_pw(self.se(y)))
        return y if self.drop_path is None else x + self.drop_path(y)


class InvertedResidual(nn.Module):
    """1x1 expansion, mixed depthwise, gate, 1x1 without activation; + x where shapes agree."""

    def __init__(self, layers: Layers, block: Block, *, c_in: int, padding: Padding, drop: float):
        super().__init__()
        self.conv_pw = pointwise(layers, c_in, block.mid, block.expand_parts)
        self.bn1 = layers.make_norm(block.mid)
        self.act1 = layers.make_act(block.mid)
        self.conv_dw = mixed(layers, block.mid, block, padding)
        self.bn2 = layers.make_norm(block.mid)
        self.act2 = layers.make_act(block.mid)
        self.se = layers.make_attn(block.mid, c_in)  # its ratio refers to the block's input
        self.conv_pwl = pointwise(layers, block.mid, block.width, block.project_parts)
        self.bn3 = layers.make_norm(block.width)
        self.drop_path = DropPath(drop) if block.stride == 1 and c_in == block.width else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (N, c_in, H, W) -> (N, width, H/stride, W/stride)
        y = self.act1(self.bn1(self.conv_pw(x)))
        y = self.act2(self.bn2(self.conv_dw(y)))
        y = self.bn3(self.conv_pwl(self.se(y)))
        return y if self.drop_path is None else x + self.drop_path(y)


class MixNet(MobileFrame):
    """Stem 3x3 stride 2, stages of mixed blocks, 1x1 head, mean over positions, dropout, classifier.

    Feature maps of MixNet-S: 16, 24, 40, 120, 200 channels at strides 2 to 32.
    """

    def __init__(self, config: MixNetConfig):
        super().__init__()
        stages, c_in, index, blocks = [], config.stem, 0, sum(len(s.blocks) for s in config.stages)
        for stage in config.stages:
            layers = layers_of(config, stage)
            members: list[nn.Module] = []
            for block in stage.blocks:
                kind, drop = InvertedResidual if block.mid else DepthwiseSeparable, config.drop_path * index / blocks
                members.append(kind(layers, block, c_in=c_in, padding=config.padding, drop=drop))
                c_in, index = block.width, index + 1
            stages.append(nn.Sequential(*members))
        self.add_stem(config, config.padding)
        self.add_stages(stages, [s.blocks[0].stride for s in config.stages])
        self.add_head(config, c_in)
        init_weights(self)


class Row(NamedTuple):
    """A line of the official tables: blocks that are alike but for the first one's stride."""

    depth: int
    width: int
    expand: int
    kernels: tuple[int, ...]
    stride: int = 1
    expand_parts: int = 1
    project_parts: int = 1


# (squeeze ratio, rows) of each stage; the first two stages have ReLU and no gate, the others swish
Table = Sequence[tuple[float, Sequence[Row]]]
_S: Table = (
    (0, (Row(1, 16, 1, (3,)),)),
    (0, (Row(1, 24, 6, (3,), 2, 2, 2), Row(1, 24, 3, (3,), 1, 2, 2))),
    (0.5, (Row(1, 40, 6, (3, 5, 7), 2), Row(3, 40, 6, (3, 5), 1, 2, 2))),
    (0.25, (Row(1, 80, 6, (3, 5, 7), 2, 1, 2), Row(2, 80, 6, (3, 5), 1, 1, 2))),
    (0.5, (Row(1, 120, 6, (3, 5, 7), 1, 2, 2), Row(2, 120, 3, (3, 5, 7, 9), 1, 2, 2))),
    (0.5, (Row(1, 200, 6, (3, 5, 7, 9, 11), 2), Row(2, 200, 6, (3, 5, 7, 9), 1, 1, 2))),
)
_M: Table = (
    (0, (Row(1, 24, 1, (3,)),)),
    (0, (Row(1, 32, 6, (3, 5, 7), 2, 2, 2), Row(1, 32, 3, (3,), 1, 2, 2))),
    (0.5, (Row(1, 40, 6, (3, 5, 7, 9), 2), Row(3, 40, 6, (3, 5), 1, 2, 2))),
    (0.25, (Row(1, 80, 6, (3, 5, 7), 2), Row(3, 80, 6, (3, 5, 7, 9), 1, 2, 2))),
    (0.5, (Row(1, 120, 6, (3,)), Row(3, 120, 3, (3, 5, 7, 9), 1, 2, 2))),
    (0.5, (Row(1, 200, 6, (3, 5, 7, 9), 2), Row(3, 200, 6, (3, 5, 7, 9), 1, 1, 2))),
)


def from_table(table: Table, stem: int, width: float = 1.0, extra: int = 0) -> MixNetConfig:
    """The config of a table with all widths but the head's times width, rounded to multiples of 8.

    extra: blocks more in each row of more than one.
    """
    c_stem = c_in = round_width(stem * width)
    stages = []
    for ratio, rows in table:
        blocks: list[Block] = []
        for depth, c, expand, kernels, stride, expand_parts, project_parts in rows:
            for j in range(depth + extra if depth > 1 else depth):
                mid, first = expand * c_in if expand > 1 else 0, stride if j == 0 else 1
                c_in = round_width(c * width)
                blocks.append(Block(c_in, mid, kernels, first, expand_parts, project_parts))
        gate = (f"se(ratio={ratio}, act='silu')", "silu") if ratio else (None, None)
        stages.append(Stage(tuple(blocks), attn=gate[0], act=gate[1]))
    return MixNetConfig(tuple(stages), stem=c_stem)


def symmetric(config: MixNetConfig) -> MixNetConfig:
    """The form of timm's own weights (mixnet_s.ft_in1k and so on): the same padding on all sides, eps 1e-5."""
    return replace(config, padding="symmetric", layers=replace(config.layers, norm="batch_norm"))


def from_timm(key: str) -> str:
    """timm's key -> ours. timm numbers the parts of a convolution only where there is more than one."""
    part = r"^(blocks\.\d+\.\d+\.conv_(?:dw|pw|pwl))\.(?:(\d+)\.)?(weight|bias)$"
    return rename(key, (*SE_OF_TIMM, (part, lambda m: f"{m[1]}.convs.{m[2] or 0}.{m[3]}")))


VARIANTS = {
    # the official form: SAME padding, eps 1e-3; symmetric() makes timm's
    "mixnet_s": from_table(_S, 16),
    "mixnet_m": replace(from_table(_M, 24), dropout=0.25),
    "mixnet_l": replace(from_table(_M, 24, 1.3), dropout=0.25),
    # timm's own, hence its form
    "mixnet_xl": symmetric(replace(from_table(_M, 24, 1.6, extra=1), dropout=0.25)),
}


def _published(top1: float, weights: str) -> Published:
    title = "MixConv: Mixed Depthwise Convolutional Kernels"
    source = "timm results-imagenet.csv"
    return Published(title, "1907.09595", top1, source, f"timm {weights}", interpolation="bicubic")


PUBLISHED = {
    "mixnet_s": _published(75.656, "tf_mixnet_s.in1k"),
    "mixnet_m": _published(76.952, "tf_mixnet_m.in1k"),
    "mixnet_l": _published(78.774, "tf_mixnet_l.in1k"),
    "mixnet_xl": _published(80.494, "mixnet_xl.ra_in1k"),
}

TINY = MixNetConfig(
    (
        Stage((Block(8, 0),)),
        Stage((Block(16, 16, (3, 5), 2, 2, 2), Block(16, 32, (3, 5)))),
    ),
    stem=8,
    head=32,
)

FAMILY = Family(
    MixNetConfig, MixNet, VARIANTS, ("classifier.",), {"timm": from_timm}, PUBLISHED, tiny=TINY, cost_per_mac=4.2
)
