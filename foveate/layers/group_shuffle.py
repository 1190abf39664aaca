"""Grouped convolutions whose outputs are shuffled, so that the next groups see all channels. arXiv:1707.01083."""

import math

import torch
from torch import nn

from foveate.errors import ConfigError
from foveate.layers.conv import ConvShape, Pair
from foveate.layers.traits import Traits


def shuffle(x: torch.Tensor, groups: int) -> torch.Tensor:
    """Channel a * (C / groups) + b moves to b * groups + a: 12 in 3 groups become 0, 4, 8, 1, 5, 9 and so on.

    (N, C, H, W) -> same.  Section 3.1 of the paper. The inverse is the shuffle with C / groups groups, and the authors'
    code applies that one: weights of the two do not fit each other.
    """
    return x.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)


class GroupShuffle(nn.Module):
    """shuffle(conv(x), groups) with a convolution in groups: every group of its output goes to all groups of the next.

    x: (N, c_in, H, W) -> (N, c_out, H', W'), for any kernel, stride and padding.  Parameters and MACs: those of the
    plain convolution over groups; a shuffle has none. Two such layers in a row connect every input with every output
    where c_out / groups is at least groups.
    """

    traits = Traits("conv", counting=True)

    def __init__(self, shape: ConvShape):
        super().__init__()
        self.conv = shape.plain()
        self.groups = shape.groups

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return shuffle(self.conv(x), self.groups)


def group_shuffle(
    c_in: int,
    c_out: int,
    kernel: Pair,
    *,
    stride: int = 1,
    padding: Pair = 0,
    groups: int = 1,
    bias: bool = False,
    parts: int = 4,
    pointwise: bool = False,
) -> nn.Module:
    """GroupShuffle in `parts` groups, or the greatest common divisor with both widths where they are not multiples.

    pointwise: only 1x1 kernels, as in the paper, whose other kernels are depthwise; else all kernels.
    parts: the paper tries 1, 2, 3, 4 and 8 and builds its widths to fit; 3, which it prefers, divides few others. A
    plain convolution where that divisor is 1 (the first one, of 3 colours) and where the host has groups of its own.
    """
    if not 1 <= parts <= 1024:
        raise ConfigError(f"group_shuffle(parts={parts}): from 1 to 1024 groups")
    common = math.gcd(parts, c_in, c_out)
    shape = ConvShape(c_in, c_out, kernel, stride, padding, groups, bias)
    if groups > 1 or common == 1 or (pointwise and kernel not in (1, (1, 1))):
        return shape.plain()
    return GroupShuffle(shape._replace(groups=common))
