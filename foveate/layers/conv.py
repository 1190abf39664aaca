"""Convolutions. Each maker takes (c_in, c_out, kernel, stride=, padding=, groups=, bias=).

kernel and padding are one number for both axes or (vertical, horizontal).
"""

import functools
from typing import NamedTuple

import torch
from torch import nn

Pair = int | tuple[int, int]

VECTOR = 16  # float32 in the widest vectors of a processor (AVX-512); AVX2 holds 8


def conv2d(
    c_in: int, c_out: int, kernel: Pair, *, stride: int = 1, padding: Pair = 0, groups: int = 1, bias: bool = False
) -> nn.Module:
    """The plain convolution: (N, c_in, H, W) -> (N, c_out, H', W')."""
    return nn.Conv2d(c_in, c_out, kernel, stride, padding, groups=groups, bias=bias)


class ConvShape(NamedTuple):
    """What a maker is asked for."""

    c_in: int
    c_out: int
    kernel: Pair
    stride: int = 1
    padding: Pair = 0
    groups: int = 1
    bias: bool = False

    def plain(self) -> nn.Conv2d:
        """The plain convolution."""
        c_in, c_out, kernel, stride, padding, groups, bias = self
        return nn.Conv2d(c_in, c_out, kernel, stride, padding, groups=groups, bias=bias)


class ShapedConv2d(nn.Conv2d):
    """A convolution of a shape: the base of those that make their kernels of the weight."""

    def __init__(self, shape: ConvShape):
        c_in, c_out, kernel, stride, padding, groups, bias = shape
        super().__init__(c_in, c_out, kernel, stride, padding, groups=groups, bias=bias)


def both(pair: Pair) -> tuple[int, int]:
    """(vertical, horizontal)."""
    return (pair, pair) if isinstance(pair, int) else pair


def conv2d_bias(
    c_in: int, c_out: int, kernel: Pair, *, stride: int = 1, padding: Pair = 0, groups: int = 1, bias: bool = False
) -> nn.Module:
    """The plain convolution with a bias everywhere, for networks without norms (see zoo/fold.py)."""
    return nn.Conv2d(c_in, c_out, kernel, stride, padding, groups=groups, bias=True)


def safeguard(model: nn.Module) -> None:
    """Keep a network, in place, from a fault of oneDNN (its issue 6035) that ends the process: the last step of making.

    It writes past its memory in the weight gradient of a strided 1x1 convolution that reads fewer channels than a
    vector holds, in float32 and channels-last. Such a convolution gets its input without the pixels that it would skip,
    and runs at stride 1: the same sums. Modules, parameters and their names stay what they are, and so does all that
    runs without gradients.
    """
    for conv in model.modules():
        if not isinstance(conv, nn.Conv2d) or conv.kernel_size != (1, 1) or conv.stride == (1, 1):
            continue
        if conv.groups == 1 and conv.in_channels < VECTOR and conv.padding == (0, 0):
            conv._conv_forward = functools.partial(_thinned, conv)  # type: ignore[method-assign]  # its subclasses' too


def _thinned(conv: nn.Conv2d, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """What stands for nn.Conv2d._conv_forward where it could meet the fault.

    Torch computes in channels-last where the strides of either tensor look so, whatever memory format was asked for.
    """
    last = any(t.stride(1) < t.stride(3) for t in (x, weight))
    if last and x.device.type == "cpu" and torch.is_grad_enabled():
        down, right = conv.stride
        return nn.functional.conv2d(x[:, :, ::down, ::right], weight, bias)
    return type(conv)._conv_forward(conv, x, weight, bias)
