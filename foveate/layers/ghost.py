"""The Ghost module as a convolution unit: some maps by convolution, the others cheaply from them. arXiv:1911.11907."""

import math

import torch
from torch import nn

from foveate.errors import ConfigError
from foveate.layers.conv import ConvShape, Pair
from foveate.layers.traits import Traits


class Ghost(nn.Module):
    """y = conv(x) with ceil(c_out / ratio) intrinsic maps, then y and a depthwise convolution of y side by side.

    x: (N, c_in, H, W) -> (N, c_out, H', W'). The primary convolution has the kernel, the stride and the padding asked
    for; the cheap one makes ratio - 1 ghosts of every intrinsic map (those of one map lie together) at stride 1. What
    goes beyond c_out is cut off. With m = ceil(c_out / ratio) intrinsic maps, m * c_in * k^2 + m * (ratio - 1) * d^2
    weights in place of c_out * c_in * k^2: nearly ratio times fewer, and multiply-adds likewise.

    Section 3.1, equations 3 and 4, and the authors' Ghost-ResNet: nothing stands between the two convolutions, and the
    host's norm and activation come behind both. GhostNet itself has a norm and an activation behind each of them
    (zoo/ghostnet_blocks.py).
    """

    traits = Traits("conv", counting=True)

    def __init__(self, shape: ConvShape, ratio: int, cheap_kernel: int):
        super().__init__()
        self.c_out = shape.c_out
        m = math.ceil(shape.c_out / ratio)
        self.primary = shape._replace(c_out=m).plain()
        self.cheap = nn.Conv2d(m, m * (ratio - 1), cheap_kernel, padding=cheap_kernel // 2, groups=m, bias=shape.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (N, c_in, H, W) -> (N, c_out, H', W')
        y = self.primary(x)
        return torch.cat((y, self.cheap(y)), 1)[:, : self.c_out]


def ghost(
    c_in: int,
    c_out: int,
    kernel: Pair,
    *,
    stride: int = 1,
    padding: Pair = 0,
    groups: int = 1,
    bias: bool = False,
    ratio: int = 2,
    cheap_kernel: int = 3,
) -> nn.Module:
    """The Ghost module: (N, c_in, H, W) -> (N, c_out, H', W'). ratio (s) and cheap_kernel (d): the paper's best, 2, 3.

    A plain convolution where ratio is 1, where c_out is less than ratio, and where groups > 1: a grouped convolution
    is cheap already, and the paper replaces none.
    """
    if type(ratio) is not int or ratio < 1 or type(cheap_kernel) is not int or cheap_kernel < 1 or not cheap_kernel % 2:
        raise ConfigError(f"ghost(ratio={ratio}, cheap_kernel={cheap_kernel}): whole numbers from 1, the kernel odd")
    shape = ConvShape(c_in, c_out, kernel, stride, padding, groups, bias)
    return shape.plain() if groups > 1 or ratio == 1 or c_out < ratio else Ghost(shape, ratio, cheap_kernel)
