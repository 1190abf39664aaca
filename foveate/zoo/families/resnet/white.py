"""Residual blocks with a norm right before every convolution, for norms that whiten. arXiv:2108.10629.

Whitening wants white what a linear layer reads; behind a convolution it is the activation that reads it, and what
leaves the activation is not white. The order of the authors' code; the text of the paper was not at hand.
"""

from collections.abc import Mapping

import torch
from torch import nn

from foveate.layers.drop import DropPath
from foveate.zoo.families.resnet.blocks import ResNetConfig, Stage, make_shortcut


def make_branch(
    config: ResNetConfig, stage: Stage, *, c_in: int, mid: int, stride: int, drop_path: float
) -> dict[str, nn.Module]:
    """The branch of a basic block or a bottleneck, by name, in the order of the forward pass.

    Names are those of the blocks of other orders, so that their convolutions can be taken over. Dropout keeps its place
    right before the second convolution, now behind the norm, whose statistics it leaves alone.
    """
    layers, c_out = stage.layers or config.layers, stage.width
    if config.block == "basic":
        parts = {
            "bn1": layers.make_norm(c_in),
            "conv1": layers.make_conv(c_in, mid, 3, stride=stride),
            "act1": layers.make_act(mid),
            "bn2": layers.make_norm(mid),
            "dropout": nn.Dropout(config.dropout),
            "conv2": layers.make_conv(mid, c_out, 3),
        }
    else:
        stride1, stride2 = (stride, 1) if config.stride_on == "1x1" else (1, stride)
        parts = {
            "bn1": layers.make_norm(c_in),
            "conv1": layers.make_conv(c_in, mid, 1, stride=stride1),
            "act1": layers.make_act(mid),
            "bn2": layers.make_norm(mid),
            "dropout": nn.Dropout(config.dropout),
            "conv2": layers.make_conv(mid, mid, 3, stride=stride2, groups=stage.groups),
            "act2": layers.make_act(mid),
            "bn3": layers.make_norm(mid),
            "conv3": layers.make_conv(mid, c_out, 1),
        }
    return {**parts, "se": layers.make_attn(c_out, c_out), "drop_path": DropPath(drop_path)}


class White(nn.Module):
    """norm-conv-act, ..., norm-conv; act(shortcut + branch). A projection has a norm of its own, before it."""

    def __init__(self, config: ResNetConfig, stage: Stage, *, c_in: int, mid: int, stride: int, drop_path: float):
        super().__init__()
        layers = stage.layers or config.layers
        branch = make_branch(config, stage, c_in=c_in, mid=mid, stride=stride, drop_path=drop_path)
        for name, part in branch.items():
            self.add_module(name, part)
        self.branch = tuple(branch)
        self.act = layers.make_act(stage.width)
        self.skips = config.shortcut != "none"
        self.downsample = make_shortcut(config, stage, layers, c_in, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (N, c_in, H, W) -> (N, c_out, H / stride, W / stride)
        y = x
        for name in self.branch:
            y = getattr(self, name)(y)
        if not self.skips:
            return self.act(y)
        return self.act(y + (x if self.downsample is None else self.downsample(x)))


class WhitePre(nn.Module):
    """act-norm-conv, act-norm-conv, ...; shortcut + branch. A projection shares the first act-norm.

    The authors' code for Wide ResNets, but for one thing: their first ReLU works in place, and so on the shortcut too,
    where nothing is projected. Here the shortcut carries x itself, as in pre-activation order.
    """

    bn1: nn.Module

    def __init__(self, config: ResNetConfig, stage: Stage, *, c_in: int, mid: int, stride: int, drop_path: float):
        super().__init__()
        layers = stage.layers or config.layers
        branch = make_branch(config, stage, c_in=c_in, mid=mid, stride=stride, drop_path=drop_path)
        self.act = layers.make_act(c_in)
        for name, part in branch.items():
            self.add_module(name, part)
        self.branch = tuple(name for name in branch if name != "bn1")
        self.skips = config.shortcut != "none"
        self.downsample = make_shortcut(config, stage, layers, c_in, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (N, c_in, H, W) -> (N, c_out, H / stride, W / stride)
        y = shared = self.bn1(self.act(x.clone()))  # most activations write into their input
        for name in self.branch:
            y = getattr(self, name)(y)
        if not self.skips:
            return y
        return y + (x if self.downsample is None else self.downsample(shared))


WHITE: Mapping[str, type[White | WhitePre]] = {"white": White, "white_pre": WhitePre}  # by order, for both blocks
