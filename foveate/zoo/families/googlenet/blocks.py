"""The records of the GoogLeNet family and its blocks: the inception module and the auxiliary classifier."""

from collections.abc import Sequence
from dataclasses import KW_ONLY
from itertools import pairwise
from string import ascii_lowercase
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import nn

from foveate.config import Kernel, Probability, Width, record
from foveate.errors import ConfigError
from foveate.layers import Layers
from foveate.zoo.family import Config

MaybeWidth = Annotated[int, Field(ge=0, le=65_536)]  # 0: this convolution is left out


@record
class Branches:
    """Widths of one inception module: its four branches in the order in which they are concatenated."""

    branch1: MaybeWidth  # 1x1; 0: there is no such branch
    branch2: tuple[Width, Width]  # 1x1, 3x3
    branch3: Annotated[tuple[Width, ...], Field(min_length=2, max_length=3)]  # 1x1, then one or two k x k
    branch4: MaybeWidth  # 1x1 behind the pool; 0: the pool passes its input's channels through
    kernel: Kernel = 3  # k of branch3, odd
    pool: Literal["max", "avg"] = "max"  # of branch4, 3x3
    stride: Literal[1, 2] = 1  # of the last convolution of a branch, and of the pool

    def __post_init__(self) -> None:
        if self.kernel % 2 == 0:
            raise ConfigError(f"Branches.kernel = {self.kernel}: must be odd (3, 5, 7)")
        if (self.pool, self.stride) == ("avg", 2):
            raise ConfigError('Branches.pool = "avg": a module of stride 2 pools by "max"')

    def width(self, c_in: int) -> int:
        """Output channels of the module."""
        return self.branch1 + self.branch2[-1] + self.branch3[-1] + (self.branch4 or c_in)


@record
class Stage:
    """Inception modules, named a, b, c and so on, and the max-pool of stride 2 behind them."""

    modules: Annotated[tuple[Branches, ...], Field(min_length=1, max_length=26)]
    pool: Literal[0, 2, 3] = 0  # its kernel; 0: none
    layers: Layers | None = None  # in place of the net's layers in this stage


@record
class GoogLeNetConfig(Config):
    """Stem, stages of inception modules, classifier. Stages count from 3: the stem's convolutions are 1 and 2."""

    stages: Annotated[tuple[Stage, ...], Field(min_length=1, max_length=8)]
    family: Literal["googlenet"] = "googlenet"
    stem: tuple[Width, Width, Width] = (64, 64, 192)  # 7x7 of stride 2, 1x1, 3x3
    lrn: bool = False  # local response norm behind the first pool and before the second
    dropout: Probability = 0.2  # before the classifier; the paper has 0.4
    aux: bool = False  # auxiliary classifiers, for training through forward_aux
    aux_after: Annotated[tuple[str, ...], Field(min_length=1, max_length=2)] = ("4a", "4d")  # modules that they read
    aux_widths: tuple[Width, Width] = (128, 1024)  # of their convolution and their hidden layer
    aux_dropout: Probability = 0.7
    _: KW_ONLY
    layers: Layers = Layers("batch_norm(eps=0.001)")

    def __post_init__(self) -> None:
        names = [f"{i}{a}" for i, s in enumerate(self.stages, 3) for a in ascii_lowercase[: len(s.modules)]]
        if self.aux and not (set(self.aux_after) <= set(names) and len(set(self.aux_after)) == len(self.aux_after)):
            raise ConfigError(f"GoogLeNetConfig.aux_after = {self.aux_after}: one or two of {', '.join(names)}")


class Unit(nn.Module):
    """Convolution, norm, activation."""

    def __init__(self, layers: Layers, c_in: int, c_out: int, kernel: int, stride: int = 1):
        super().__init__()
        self.conv = layers.make_conv(c_in, c_out, kernel, stride=stride)
        self.bn = layers.make_norm(c_out)  # "bn" whatever the norm: the name in public checkpoints
        self.act = layers.make_act(c_out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (N, c_in, H, W) -> (N, c_out, H / stride, W / stride)
        return self.act(self.bn(self.conv(x)))


class HalvingPool(nn.Module):
    """3x3 max-pool of stride 2 that gives ceil(side / 2) at every side, as the 3x3 convolutions beside it do.

    Even sides: Caffe's windows, the last one cut off. Odd sides: padding 1 on both ends, where Caffe and pytorchcv have
    none and can not concatenate. Both are TensorFlow's SAME windows.  x: (N, C, H, W) -> (N, C, H', W').
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.max_pool2d(x, 3, 2, (x.shape[-2] % 2, x.shape[-1] % 2), ceil_mode=True)


def make_pool(branches: Branches) -> nn.Module:
    """The 3x3 pool of branch4. The average counts the padding, as Caffe's does."""
    if branches.stride == 2:
        return HalvingPool()
    return nn.MaxPool2d(3, 1, padding=1) if branches.pool == "max" else nn.AvgPool2d(3, 1, padding=1)


def make_chain(layers: Layers, widths: Sequence[int], kernel: int, stride: int) -> nn.Sequential:
    """Convolutions from widths[0] to widths[-1] channels: the first 1x1, the others k x k, the last with the stride."""
    *steps, last = pairwise(widths)
    units = [Unit(layers, a, b, kernel if i else 1) for i, (a, b) in enumerate(steps)]
    return nn.Sequential(*units, Unit(layers, *last, kernel, stride))


class Inception(nn.Module):
    """1x1 | 1x1, 3x3 | 1x1, 5x5 or two 3x3 | pool, 1x1; concatenated. arXiv:1409.4842 figure 2b.

    A gate stands behind the concatenation (arXiv:1709.01507 figure 2).
    """

    def __init__(self, layers: Layers, c_in: int, branches: Branches):
        super().__init__()
        one, proj, stride, width = branches.branch1, branches.branch4, branches.stride, branches.width(c_in)
        self.branch1 = Unit(layers, c_in, one, 1, stride) if one else None
        self.branch2 = make_chain(layers, (c_in, *branches.branch2), 3, stride)
        self.branch3 = make_chain(layers, (c_in, *branches.branch3), branches.kernel, stride)
        self.branch4 = nn.Sequential(make_pool(branches), *([Unit(layers, c_in, proj, 1)] if proj else []))
        self.attn = layers.make_attn(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (N, c_in, H, W) -> (N, width, H / stride, W / stride)
        first = [] if self.branch1 is None else [self.branch1(x)]
        return self.attn(torch.cat([*first, self.branch2(x), self.branch3(x), self.branch4(x)], 1))


class Auxiliary(nn.Module):
    """A classifier on an inner map: average to 4x4, 1x1, hidden layer, dropout, logits. arXiv:1409.4842 section 5.

    The average adapts to every size, as torchvision's; the paper has windows of 5x5, stride 3, on its 14x14 maps.
    """

    def __init__(self, config: GoogLeNetConfig, layers: Layers, c_in: int):
        super().__init__()
        mid, hidden = config.aux_widths
        self.pool = nn.AdaptiveAvgPool2d(4)
        self.conv = Unit(layers, c_in, mid, 1)
        self.fc1 = nn.Linear(16 * mid, hidden)
        self.act = layers.make_act(hidden)
        self.dropout = nn.Dropout(config.aux_dropout)
        self.fc2 = nn.Linear(hidden, config.num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (N, c_in, H, W) -> (N, num_classes)
        x = self.conv(self.pool(x)).flatten(1)  # (N, 16 * mid)
        return self.fc2(self.dropout(self.act(self.fc1(x))))
