"""The records of the ResNet family and its blocks: basic and bottleneck, in post- and pre-activation order.

The blocks of the white orders stand in white.py.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import nn

from foveate.config import Count, Kernel, Probability, Stride, Width, record
from foveate.errors import ConfigError
from foveate.layers import Layers
from foveate.layers.drop import DropBlock, DropPath
from foveate.zoo.family import Config, check_blocks


@record
class Stage:
    """Blocks of one resolution. The depth is len(mid)."""

    width: Width  # output channels of every block
    mid: Annotated[tuple[Width, ...], Field(min_length=1, max_length=1024)]  # inner channels, one number a block
    stride: Stride = 2  # of the first block
    groups: Count = 1  # of the 3x3 convolution of a bottleneck
    before_last: str = "none"  # a layer of the slot attn in front of the last block: non-local nets
    drop_block: Probability = (
        0.0  # behind every norm and on the shortcut (arXiv:1810.12890: 0.1 in the last two stages)
    )
    layers: Layers | None = None  # overrides the net's layers in this stage

    def __post_init__(self) -> None:
        if odd := [m for m in self.mid if m % self.groups]:
            raise ConfigError(f"Stage.mid holds {odd[0]}; it must be a multiple of groups = {self.groups}")


@record
class ResNetConfig(Config):
    """A residual net. Defaults: the ImageNet ResNet of the paper with the stride on the 3x3, as in torchvision."""

    stages: Annotated[tuple[Stage, ...], Field(min_length=1, max_length=16)]
    family: Literal["resnet"] = "resnet"
    block: Literal["basic", "bottleneck"] = "basic"  # 3x3, 3x3; or 1x1, 3x3, 1x1
    # conv-norm-act; norm-act-conv; norm-conv-act and act-norm-conv, which are "post" and "pre" with every norm right
    # before a convolution: for norms that whiten (see ResNet)
    order: Literal["post", "pre", "white", "white_pre"] = "post"
    stride_on: Literal["3x3", "1x1"] = "3x3"  # of a bottleneck; the paper and Caffe stride on the first 1x1
    # where shapes change: 1x1 convolution (option B); average pool, then 1x1 (D); zero channels (option A). "none": no
    # shortcut anywhere, the plain nets of arXiv:1512.03385
    shortcut: Literal["conv", "avg", "pad", "none"] = "conv"
    # 7x7 stride 2; three 3x3, the first of stride 2; 3x3 stride 1
    stem: Literal["imagenet", "deep", "cifar"] = "imagenet"
    # one number for each convolution of the stem; one number of a deep stem is its last, the others have half of it
    stem_widths: tuple[Width, ...] = (64,)
    # False: no norm and no activation after the (last) stem convolution; white orders have no norm there anyway
    stem_norm: bool = True
    # after the stem: 3x3 stride 2 with padding 1; Caffe's, without padding; the mean of the same 3x3; none
    pool: Literal["max", "max_ceil", "avg", "none"] = "max"
    # where the gate of a block stands (arXiv:1709.01507 section 7.6, figure 5): at the end of the branch; at its start;
    # behind the block's last activation; on the shortcut; behind the 3x3 of a bottleneck
    attn_at: Literal["branch", "pre", "post", "identity", "3x3"] = "branch"
    attn_stages: Annotated[tuple[Count, ...], Field(max_length=16)] = ()  # stages with gates, from 1; (): all
    act_before_attn: bool = False  # an activation in front of the gate: only legacy_seresnet18 and 34 have it
    dropout: Probability = 0.0  # between the convolutions of a block (Wide ResNet: 0.3)
    drop_path: Probability = 0.0  # stochastic depth of the last block; block l of L has l / L of it (arXiv:1603.09382)
    drop_block_size: Kernel = 7  # pixels a side of what Stage.drop_block drops
    zero_gamma: bool = False  # every residual branch starts at zero (arXiv:1706.02677)

    def __post_init__(self) -> None:
        check_blocks(self, sum(len(s.mid) for s in self.stages))
        allowed = (1, 3) if self.stem == "deep" else (1,)
        if len(self.stem_widths) not in allowed:
            convs = " or ".join(map(str, allowed))
            raise ConfigError(f'ResNetConfig.stem_widths = {self.stem_widths}; stem "{self.stem}" takes {convs}')
        if self.shortcut == "none" and (self.zero_gamma or self.drop_path):
            raise ConfigError(
                'ResNetConfig.shortcut = "none": zero_gamma and drop_path silence branches, and nothing else carries'
                " the picture; leave them off"
            )
        self.check_gates()
        if self.act_before_attn and (self.block, self.order) != ("basic", "post"):
            raise ConfigError('ResNetConfig.act_before_attn = True needs block = "basic" and order = "post"')
        if self.act_before_attn and self.zero_gamma:
            raise ConfigError(
                "ResNetConfig.zero_gamma = True: no gradient passes act_before_attn at zero; take one of them"
            )
        if self.order != "post" and any(s.drop_block for s in self.stages):
            raise ConfigError('ResNetConfig.stages: drop_block needs order = "post"')
        if self.block == "basic" and any(s.groups > 1 for s in self.stages):
            raise ConfigError('ResNetConfig.stages: groups > 1 needs block = "bottleneck"')
        widths = [self.stem_widths[-1], *(s.width for s in self.stages)]
        if self.shortcut == "pad" and widths != sorted(widths):
            raise ConfigError(f'ResNetConfig.stages: widths {widths} shrink; shortcut "pad" only adds channels')
        norm = (self.stages[-1].layers or self.layers).norm
        if self.whitens_mean and norm.partition("(")[0] == "instance_norm":
            raise ConfigError(
                f'ResNetConfig.order = "white" with stem "{self.stem}" normalises the mean of the last map, a single '
                f'position, of which {norm} leaves only its bias; take another norm, stem "cifar" or another order'
            )

    def check_gates(self) -> None:
        """ConfigError for a gate where there is no place for it."""
        if self.attn_at != "branch" and self.order != "post":
            raise ConfigError(f'ResNetConfig.attn_at = "{self.attn_at}" needs order = "post"')
        if self.attn_at == "3x3" and self.block == "basic":
            raise ConfigError('ResNetConfig.attn_at = "3x3" needs block = "bottleneck"')
        if self.attn_at == "identity" and self.shortcut == "none":
            raise ConfigError('ResNetConfig.attn_at = "identity" needs a shortcut')
        if self.attn_at != "branch" and self.act_before_attn:
            raise ConfigError('ResNetConfig.act_before_attn = True needs attn_at = "branch"')
        if beyond := [n for n in self.attn_stages if n > len(self.stages)]:
            raise ConfigError(f"ResNetConfig.attn_stages holds {beyond[0]}; the net has stages 1 to {len(self.stages)}")

    @property
    def stem_convs(self) -> tuple[int, ...]:
        """One width for each convolution of the stem."""
        (*_, last) = self.stem_widths
        short = self.stem == "deep" and len(self.stem_widths) == 1
        return (max(1, last // 2), max(1, last // 2), last) if short else self.stem_widths

    @property
    def white(self) -> bool:
        """Whether norms stand right before convolutions."""
        return self.order in ("white", "white_pre")

    @property
    def whitens_mean(self) -> bool:
        """Whether the norm at the end is that of the mean of the last map instead of the map."""
        return self.order == "white" and self.stem != "cifar"


class PadShortcut(nn.Module):
    """Option A: every stride-th pixel, then zero channels at the end. No parameters."""

    def __init__(self, extra: int, stride: int):
        super().__init__()
        self.extra = extra
        self.stride = stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (N, C, H, W) -> (N, C + extra, H / stride, W / stride)
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.extra))


class Clone(nn.Module):
    """A copy of x."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.clone()


def input_norm(layers: Layers, channels: int) -> nn.Module:
    """The norm of a block's input. For "none" a copy: an in-place activation must not write into the shortcut."""
    norm = layers.make_norm(channels)
    return Clone() if isinstance(norm, nn.Identity) else norm


def make_shortcut(config: ResNetConfig, stage: Stage, layers: Layers, c_in: int, stride: int) -> nn.Module | None:
    """None where the block keeps its shape. A pre-activation block normalised x already: its projection has no norm.

    The norm of a projection stands right behind it, in white order right before it.
    """
    c_out = stage.width
    if config.shortcut == "none" or (stride == 1 and c_in == c_out):
        return None
    if config.shortcut == "pad":
        return PadShortcut(c_out - c_in, stride)
    before = [layers.make_norm(c_in)] if config.order == "white" else []
    behind = [layers.make_norm(c_out)] if config.order == "post" else []
    if config.shortcut == "conv":
        return nn.Sequential(*before, layers.make_conv(c_in, c_out, 1, stride=stride), *behind)
    pool = nn.AvgPool2d(stride, ceil_mode=True, count_include_pad=False) if stride > 1 else nn.Identity()
    return nn.Sequential(pool, *before, layers.make_conv(c_in, c_out, 1), *behind)


def gate_width(config: ResNetConfig, c_in: int, mid: int, c_out: int) -> tuple[int, int]:
    """Channels of a block's gate, and what its ratio refers to: the same number, by where it stands."""
    width = {"pre": c_in, "3x3": mid}.get(config.attn_at, c_out)
    return width, width


class Residual(nn.Module):
    """What blocks have in common: where the shortcut is added and, in order "post", where the gate stands."""

    downsample: nn.Module | None
    se: nn.Module

    def __init__(self, config: ResNetConfig):
        super().__init__()
        self.skips = config.shortcut != "none"
        self.gate_at = config.attn_at

    def gate(self, place: str, x: torch.Tensor) -> torch.Tensor:  # (N, C, H, W) -> same
        """The gate's x where it stands at this place, else x."""
        gated: torch.Tensor = self.se(x) if self.gate_at == place else x
        return gated

    def project(self, x: torch.Tensor) -> torch.Tensor:  # (N, c_in, H, W) -> (N, c_out, H / stride, W / stride)
        """What the shortcut carries."""
        return x if self.downsample is None else self.downsample(x)


class Basic(Residual):
    """3x3, 3x3; act(shortcut + branch). arXiv:1512.03385 figure 5, left."""

    def __init__(self, config: ResNetConfig, stage: Stage, *, c_in: int, mid: int, stride: int, drop_path: float):
        super().__init__(config)
        layers, c_out = stage.layers or config.layers, stage.width
        self.conv1 = layers.make_conv(c_in, mid, 3, stride=stride)
        self.bn1 = layers.make_norm(mid)  # "bn" whatever the norm: the name in public checkpoints; so is "se"
        self.act1 = layers.make_act(mid)
        self.dropout = nn.Dropout(config.dropout)
        self.conv2 = layers.make_conv(mid, c_out, 3)
        self.bn2 = layers.make_norm(c_out)
        self.act_se = layers.make_act(c_out) if config.act_before_attn else nn.Identity()
        self.se = layers.make_attn(*gate_width(config, c_in, mid, c_out))
        self.drop_path = DropPath(drop_path)
        self.drop_block = DropBlock(stage.drop_block, config.drop_block_size)
        self.act2 = layers.make_act(c_out)
        self.downsample = make_shortcut(config, stage, layers, c_in, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (N, c_in, H, W) -> (N, c_out, H / stride, W / stride)
        y = self.act1(self.drop_block(self.bn1(self.conv1(self.gate("pre", x)))))
        y = self.drop_block(self.bn2(self.conv2(self.dropout(y))))
        y = self.drop_path(self.gate("branch", self.act_se(y)))
        if self.skips:
            y = y + self.gate("identity", self.drop_block(self.project(x)))
        return self.gate("post", self.act2(y))


class Bottleneck(Residual):
    """1x1 reduce, 3x3 grouped, 1x1 expand; act(shortcut + branch). arXiv:1512.03385 figure 5, 1611.05431 figure 3c."""

    def __init__(self, config: ResNetConfig, stage: Stage, *, c_in: int, mid: int, stride: int, drop_path: float):
        super().__init__(config)
        layers, c_out = stage.layers or config.layers, stage.width
        stride1, stride2 = (stride, 1) if config.stride_on == "1x1" else (1, stride)
        self.conv1 = layers.make_conv(c_in, mid, 1, stride=stride1)
        self.bn1 = layers.make_norm(mid)
        self.act1 = layers.make_act(mid)
        self.dropout = nn.Dropout(config.dropout)
        self.conv2 = layers.make_conv(mid, mid, 3, stride=stride2, groups=stage.groups)
        self.bn2 = layers.make_norm(mid)
        self.act2 = layers.make_act(mid)
        self.conv3 = layers.make_conv(mid, c_out, 1)
        self.bn3 = layers.make_norm(c_out)
        self.se = layers.make_attn(*gate_width(config, c_in, mid, c_out))
        self.drop_path = DropPath(drop_path)
        self.drop_block = DropBlock(stage.drop_block, config.drop_block_size)
        self.act3 = layers.make_act(c_out)
        self.downsample = make_shortcut(config, stage, layers, c_in, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (N, c_in, H, W) -> (N, c_out, H / stride, W / stride)
        y = self.act1(self.drop_block(self.bn1(self.conv1(self.gate("pre", x)))))
        y = self.act2(self.drop_block(self.bn2(self.conv2(self.dropout(y)))))
        y = self.drop_block(self.bn3(self.conv3(self.gate("3x3", y))))
        y = self.drop_path(self.gate("branch", y))
        if self.skips:
            y = y + self.gate("identity", self.drop_block(self.project(x)))
        return self.gate("post", self.act3(y))


class PreBasic(Residual):
    """norm-act-3x3 twice; shortcut + branch. A projection shares the first norm-act. arXiv:1603.05027, 1605.07146."""

    def __init__(self, config: ResNetConfig, stage: Stage, *, c_in: int, mid: int, stride: int, drop_path: float):
        super().__init__(config)
        layers, c_out = stage.layers or config.layers, stage.width
        self.bn1 = input_norm(layers, c_in)
        self.act1 = layers.make_act(c_in)
        self.conv1 = layers.make_conv(c_in, mid, 3, stride=stride)
        self.bn2 = layers.make_norm(mid)
        self.act2 = layers.make_act(mid)
        self.dropout = nn.Dropout(config.dropout)
        self.conv2 = layers.make_conv(mid, c_out, 3)
        self.se = layers.make_attn(c_out, c_out)
        self.drop_path = DropPath(drop_path)
        self.downsample = make_shortcut(config, stage, layers, c_in, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (N, c_in, H, W) -> (N, c_out, H / stride, W / stride)
        shared = self.act1(self.bn1(x))
        y = self.act2(self.bn2(self.conv1(shared)))
        y = self.conv2(self.dropout(y))
        y = self.drop_path(self.se(y))
        if not self.skips:
            return y
        return y + (x if self.downsample is None else self.downsample(shared))


class PreBottleneck(Residual):
    """norm-act-1x1, -3x3, -1x1; shortcut + branch. A projection shares the first norm-act. arXiv:1603.05027."""

    def __init__(self, config: ResNetConfig, stage: Stage, *, c_in: int, mid: int, stride: int, drop_path: float):
        super().__init__(config)
        layers, c_out = stage.layers or config.layers, stage.width
        stride1, stride2 = (stride, 1) if config.stride_on == "1x1" else (1, stride)
        self.bn1 = input_norm(layers, c_in)
        self.act1 = layers.make_act(c_in)
        self.conv1 = layers.make_conv(c_in, mid, 1, stride=stride1)
        self.bn2 = layers.make_norm(mid)
        self.act2 = layers.make_act(mid)
        self.dropout = nn.Dropout(config.dropout)
        self.conv2 = layers.make_conv(mid, mid, 3, stride=stride2, groups=stage.groups)
        self.bn3 = layers.make_norm(mid)
        self.act3 = layers.make_act(mid)
        self.conv3 = layers.make_conv(mid, c_out, 1)
        self.se = layers.make_attn(c_out, c_out)
        self.drop_path = DropPath(drop_path)
        self.downsample = make_shortcut(config, stage, layers, c_in, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (N, c_in, H, W) -> (N, c_out, H / stride, W / stride)
        shared = self.act1(self.bn1(x))
        y = self.act2(self.bn2(self.conv1(shared)))
        y = self.act3(self.bn3(self.conv2(self.dropout(y))))
        y = self.conv3(y)
        y = self.drop_path(self.se(y))
        if not self.skips:
            return y
        return y + (x if self.downsample is None else self.downsample(shared))


Block = Basic | Bottleneck | PreBasic | PreBottleneck
BLOCKS: Mapping[tuple[str, str], type[Block]] = {
    ("basic", "post"): Basic,
    ("bottleneck", "post"): Bottleneck,
    ("basic", "pre"): PreBasic,
    ("bottleneck", "pre"): PreBottleneck,
}
