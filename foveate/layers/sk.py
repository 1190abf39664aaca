"""Selective kernel: paths of growing reach, weighed in each channel by a softmax over the paths. arXiv:1903.06586."""

import functools
from typing import TYPE_CHECKING

import torch
from torch import nn

from foveate.errors import ConfigError
from foveate.layers.conv import ConvShape, Pair
from foveate.layers.traits import Traits

if TYPE_CHECKING:
    from foveate.layers import Layers


def dilate(conv: nn.Module, factor: int) -> nn.Module:
    """The same unit with the taps of its convolutions `factor` pixels apart, padded so that the output keeps its size.

    The conv slot knows no dilation, for only this layer dilates; so the finished unit is changed, in place.
    """
    for m in conv.modules():
        if isinstance(m, nn.Conv2d) and not isinstance(m.padding, str):
            m.dilation = (m.dilation[0] * factor, m.dilation[1] * factor)
            m.padding = (int(m.padding[0]) * factor, int(m.padding[1]) * factor)
    return conv


class Path(nn.Module):
    """Dilated 3x3 convolution, norm, activation. x: (N, c_in, H, W) -> (N, c_out, H / stride, W / stride)."""

    def __init__(self, c_in: int, c_out: int, *, dilation: int, stride: int, groups: int, layers: "Layers"):
        super().__init__()
        self.conv = dilate(layers.make_conv(c_in, c_out, 3, stride=stride, groups=groups), dilation)
        self.bn = layers.make_norm(c_out)
        self.act = layers.make_act(c_out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(self.bn(self.conv(x)))


class Selection(nn.Module):
    """The share of each path in each channel; shares of a channel sum to 1. u: (N, C, H, W) -> (N, M, C, 1, 1).

    softmax over M of W2 act(norm(W1 mean(u))), W1: (S, C), W2: (M C, S) path after path; no biases.
    """

    def __init__(self, channels: int, *, paths: int, squeeze: int, layers: "Layers"):
        super().__init__()
        self.fc_reduce = layers.make_conv(channels, squeeze, 1)
        self.bn = layers.make_norm(squeeze)
        self.act = layers.make_act(squeeze)
        self.fc_select = layers.make_conv(squeeze, paths * channels, 1)
        self.paths = paths

    def forward(self, u: torch.Tensor) -> torch.Tensor:
        z = self.act(self.bn(self.fc_reduce(u.mean((2, 3), keepdim=True))))  # (N, S, 1, 1)
        return self.fc_select(z).unflatten(1, (self.paths, -1)).softmax(1)


class SelectiveKernel(nn.Module):
    """Path m looks at 3x3 taps m + 1 pixels apart; the output is the mean of all paths, weighed by Selection.

    x: (N, c_in, H, W) -> (N, c_out, H / stride, W / stride).  Source: section 3.1 and figure 1; the 5x5 kernel of the
    second path is a 3x3 of dilation 2, as in all their networks. Keys are timm's.
    squeeze: inner channels of the selection, in the paper max(c_out / 16, 32).  split: path m reads only its own share
    of the input channels (timm's lighter form), not all of them.
    layers fill the paths, gate the selection. The gate's norm sees one value a channel and picture: a batch norm wants
    more than one picture to train, a group norm of one channel a group would give constants.
    Parameters of the paths M (9 c_in c_out / groups + 2 c_out), of the selection (1 + M) c_out squeeze + 2 squeeze.
    """

    traits = Traits("conv")

    def __init__(
        self,
        c_in: int,
        c_out: int,
        *,
        squeeze: int,
        layers: "Layers",
        gate: "Layers",
        stride: int = 1,
        groups: int = 1,
        paths: int = 2,
        split: bool = False,
    ):
        super().__init__()
        if split and c_in % paths:
            raise ConfigError(f"selective kernel: {c_in} input channels can not be split into {paths} paths")
        self.share = c_in // paths if split else c_in
        self.paths = nn.ModuleList(
            Path(self.share, c_out, dilation=m + 1, stride=stride, groups=groups, layers=layers) for m in range(paths)
        )
        self.attn = Selection(c_out, paths=paths, squeeze=squeeze, layers=gate)
        self.split = split

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inputs = x.split(self.share, 1) if self.split else (x,) * len(self.paths)
        outputs = [path(inputs[m]) for m, path in enumerate(self.paths)]
        shares = self.attn(functools.reduce(torch.add, outputs))
        return functools.reduce(torch.add, [shares[:, m] * y for m, y in enumerate(outputs)])


def sk(
    c_in: int,
    c_out: int,
    kernel: Pair,
    *,
    stride: int = 1,
    padding: Pair = 0,
    groups: int = 1,
    bias: bool = False,
    paths: int = 2,
    ratio: float = 0.0625,
    least: int = 32,
) -> nn.Module:
    """For the conv slot: 3x3 convolutions padded by 1 select between paths with batch norm and ReLU; others stay plain.

    squeeze = max(c_out * ratio, least), as in the paper. There is no bias: the paths have norms.
    """
    from foveate.layers import Layers  # its table CONVS holds this function

    if not (1 <= paths <= 4 and 0.0 < ratio <= 1.0 and 1 <= least <= 4096):
        raise ConfigError("sk: paths from 1 to 4; ratio in (0, 1]; least from 1 to 4096")
    if kernel not in (3, (3, 3)) or padding not in (1, (1, 1)):
        return ConvShape(c_in, c_out, kernel, stride, padding, groups, bias).plain()
    squeeze, plain = max(int(c_out * ratio), least), Layers()
    return SelectiveKernel(
        c_in, c_out, squeeze=squeeze, layers=plain, gate=plain, stride=stride, groups=groups, paths=paths
    )
