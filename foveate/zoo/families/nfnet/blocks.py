"""The records of the normaliser-free nets, their constants, their stem and their block."""

from dataclasses import KW_ONLY
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import nn

from foveate.config import Count, Pixels, Positive, Probability, Stride, Width, record
from foveate.errors import ConfigError
from foveate.layers import Layers
from foveate.layers.drop import DropPath
from foveate.layers.same import Padding, padding_for, same_pads
from foveate.zoo.families.resnet.blocks import input_norm
from foveate.zoo.family import Config, check_blocks

STEMS = {"deep": (3, (2, 1, 1, 2)), "7x7": (7, (2,))}  # kernel and strides of its convolutions


@record
class Stage:
    """Blocks of one resolution. The depth is len(mid)."""

    width: Width  # output channels of every block
    mid: Annotated[tuple[Width, ...], Field(min_length=1, max_length=1024)]  # inner channels, one number a block
    stride: Stride = 2  # of the first block
    groups: Count = 1  # of the 3x3 convolutions
    layers: Layers | None = None  # overrides the net's layers in this stage

    def __post_init__(self) -> None:
        if odd := [m for m in self.mid if m % self.groups]:
            raise ConfigError(f"Stage.mid holds {odd[0]}; it must be a multiple of groups = {self.groups}")


@record
class NFNetConfig(Config):
    """A normaliser-free net. Defaults: NFNet-F as in DeepMind's code, whose gelu is JAX's, the tanh approximation.

    timm's dm_nfnet has the exact gelu and an eps of 1e-5 added to the variance: act "scaled(act='gelu')" and conv
    "ws_conv(eps=1e-05, add_eps=True)". The weights are DeepMind's in both.

    With a norm in `layers` it becomes a pre-activation ResNet (norm, act, convolution) whose convolutions have no bias.
    NF-ResNets exist in two forms. VARIANTS have timm's, which public weights fit; deepmind(config) gives the authors':

        field       timm                                  DeepMind
        padding     "symmetric"                           "same"
        shortcut    "avg"                                 "conv"
        skip_init   False                                 True
        drop_path   0                                     0.1
        layers.act  "relu"                                "scaled(act='relu')"
        layers.conv gamma of ReLU, eps 1e-5 added to var  eps 1e-4 as a floor

    timm's gamma stands in every convolution, that of the stem too, which no activation precedes.
    """

    stages: Annotated[tuple[Stage, ...], Field(min_length=1, max_length=16)]
    family: Literal["nfnet"] = "nfnet"
    # four 3x3 of strides 2, 1, 1, 2; or one 7x7 of stride 2 and a 3x3 max pool of stride 2. The last has no activation
    stem: Literal["deep", "7x7"] = "deep"
    stem_widths: tuple[Width, ...] = (16, 32, 64, 128)  # one number for each convolution of the stem
    extra_conv: bool = True  # a second 3x3 in every block
    shortcut: Literal["avg", "conv"] = "avg"  # where shapes change: average pool, then 1x1; or 1x1 with the stride
    # True: a learned factor on every branch, 0 at the start (SkipInit); False: the branch's last gain is 0 at the start
    skip_init: bool = True
    alpha: Positive = 0.2  # a block gives shortcut + alpha * branch
    head: Annotated[int, Field(ge=0, le=65_536)] = 3072  # width of a 1x1 convolution behind the stages; 0: none
    padding: Padding = "same"
    dropout: Probability = 0.2  # before the classifier
    # stochastic depth of a block past the last one, survivors not rescaled; block i of n has drop_path * i / n
    drop_path: Probability = 0.25
    _: KW_ONLY
    layers: Layers = Layers("none", "scaled(act='gelu_tanh')", "se(ratio=0.5, gain=2.0)", "ws_conv")
    resolution: Pixels = 256

    def __post_init__(self) -> None:
        check_blocks(self, sum(len(s.mid) for s in self.stages))
        if len(self.stem_widths) != (convs := len(STEMS[self.stem][1])):
            raise ConfigError(f'NFNetConfig.stem_widths = {self.stem_widths}; stem "{self.stem}" takes {convs}')


def betas(config: NFNetConfig) -> list[float]:
    """For every block 1 / the standard deviation that its input has by calculation, not by measurement.

    The stem gives variance 1, a block adds alpha^2 to it. A shortcut with a convolution reads the input divided by its
    deviation, so there it starts from 1 again (official code: in the first block of every stage, the same there).
    """
    found, variance, width = [], 1.0, config.stem_widths[-1]
    for stage in config.stages:
        for i in range(len(stage.mid)):
            found.append(variance**-0.5)
            projected = i == 0 and (stage.stride > 1 or stage.width != width)
            variance = (1.0 if projected else variance) + config.alpha**2
        width = stage.width
    return found


class MaxPoolSame(nn.Module):
    """3x3 max pool of stride 2 with TensorFlow's SAME padding, which no maximum sees."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (N, C, H, W) -> (N, C, ceil(H / 2), ceil(W / 2))
        top, bottom = same_pads(x.shape[-2], 3, 2)
        left, right = same_pads(x.shape[-1], 3, 2)
        return F.max_pool2d(F.pad(x, (left, right, top, bottom), value=-torch.inf), 3, 2)


class Downsample(nn.Module):
    """The shortcut of a block that changes shapes."""

    def __init__(self, kind: str, layers: Layers, c_in: int, c_out: int, stride: int):
        super().__init__()
        pooled = kind == "avg" and stride > 1
        # at odd sides the last window is smaller, as with SAME padding that is not counted
        self.pool = nn.AvgPool2d(stride, ceil_mode=True, count_include_pad=False) if pooled else nn.Identity()
        self.conv = layers.make_conv(c_in, c_out, 1, stride=1 if pooled else stride, bias=layers.norm == "none")

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (N, c_in, H, W) -> (N, c_out, H / stride, W / stride)
        return self.conv(self.pool(x))


class Block(nn.Module):
    """shortcut + alpha * skip_gain * f(beta * act(x)), f: 1x1, 3x3 grouped (stride), 3x3 grouped, 1x1, gate.

    A shortcut that changes shapes reads beta * act(x), any other is x itself.
    """

    def __init__(
        self, config: NFNetConfig, stage: Stage, *, c_in: int, mid: int, stride: int, beta: float, drop_path: float
    ):
        super().__init__()
        layers, c_out, groups = stage.layers or config.layers, stage.width, stage.groups
        bias = layers.norm == "none"
        self.alpha, self.beta = config.alpha, beta
        same = stride == 1 and c_in == c_out
        self.downsample = None if same else Downsample(config.shortcut, layers, c_in, c_out, stride)
        self.norm1 = input_norm(layers, c_in)
        self.act1 = layers.make_act(c_in)
        self.conv1 = layers.make_conv(c_in, mid, 1, bias=bias)
        self.norm2 = layers.make_norm(mid)
        self.act2 = layers.make_act(mid)
        self.pad, padding = padding_for(config.padding, 3, stride)
        self.conv2 = layers.make_conv(mid, mid, 3, stride=stride, padding=padding, groups=groups, bias=bias)
        self.norm2b = layers.make_norm(mid) if config.extra_conv else nn.Identity()
        self.act2b = layers.make_act(mid) if config.extra_conv else nn.Identity()
        self.conv2b = layers.make_conv(mid, mid, 3, groups=groups, bias=bias) if config.extra_conv else nn.Identity()
        self.norm3 = layers.make_norm(mid)
        self.act3 = layers.make_act(mid)
        self.conv3 = layers.make_conv(mid, c_out, 1, bias=bias)
        self.attn = layers.make_attn(c_out, c_out)
        self.drop_path = DropPath(drop_path, rescale=False)
        self.skip_gain = nn.Parameter(torch.zeros(())) if config.skip_init else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (N, c_in, H, W) -> (N, c_out, H / stride, W / stride)
        y = self.act1(self.norm1(x)) * self.beta
        shortcut = x if self.downsample is None else self.downsample(y)
        y = self.conv1(y)
        y = self.conv2(self.pad(self.act2(self.norm2(y))))
        y = self.conv2b(self.act2b(self.norm2b(y)))
        y = self.conv3(self.act3(self.norm3(y)))
        y = self.drop_path(self.attn(y))
        return shortcut + y * (self.alpha if self.skip_gain is None else self.alpha * self.skip_gain)


def make_stem(config: NFNetConfig) -> nn.Sequential:
    """conv1, or conv1 to conv4 with norms and activations between them; then the pool of stem "7x7"."""
    layers, c_in, (kernel, strides) = config.layers, config.in_chans, STEMS[config.stem]
    stem = nn.Sequential()
    for i, (width, stride) in enumerate(zip(config.stem_widths, strides, strict=True), start=1):
        if i > 1:
            stem.add_module(f"norm{i}", layers.make_norm(c_in))
            stem.add_module(f"act{i}", layers.make_act(c_in))
        pad, padding = padding_for(config.padding, kernel, stride)
        conv = layers.make_conv(c_in, width, kernel, stride=stride, padding=padding, bias=layers.norm == "none")
        stem.add_module(f"pad{i}", pad)
        stem.add_module(f"conv{i}", conv)
        c_in = width
    if config.stem == "7x7":
        stem.add_module("pool", MaxPoolSame() if config.padding == "same" else nn.MaxPool2d(3, 2, padding=1))
    return stem
