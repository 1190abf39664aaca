"""Convolutions. Each maker takes (c_in, c_out, kernel, stride=, padding=, groups=, bias=).

kernel and padding are one number for both axes or (vertical, horizontal).
"""

from torch import nn

Pair = int | tuple[int, int]


def conv2d(
    c_in: int, c_out: int, kernel: Pair, *, stride: int = 1, padding: Pair = 0, groups: int = 1, bias: bool = False
) -> nn.Module:
    """The plain convolution: (N, c_in, H, W) -> (N, c_out, H', W')."""
    return nn.Conv2d(c_in, c_out, kernel, stride, padding, groups=groups, bias=bias)


def conv2d_bias(
    c_in: int, c_out: int, kernel: Pair, *, stride: int = 1, padding: Pair = 0, groups: int = 1, bias: bool = False
) -> nn.Module:
    """The plain convolution with a bias everywhere, for networks without norms (see zoo/fold.py)."""
    return nn.Conv2d(c_in, c_out, kernel, stride, padding, groups=groups, bias=True)
