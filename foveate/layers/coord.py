"""Coordinate attention: a gate a channel and row times a gate a channel and column. arXiv:2103.02907."""

import torch
from torch import nn

from foveate.errors import ConfigError
from foveate.layers.traits import Traits


class CoordAttention(nn.Module):
    """x[c, i, j] * sigmoid(Fh f(rows))[c, i] * sigmoid(Fw f(columns))[c, j], f = hard_swish(norm(F1 .)).

    x: (N, C, H, W) -> same shape.  rows: mean over W, (N, C, H); columns: mean over H, (N, C, W).  F1: C -> S,
    Fh and Fw: S -> C, 1x1.  norm is one batch norm over rows and columns together, H + W values a picture.
    S = max(least, ratio * base).  Defaults are the authors': ratio 1/32, least 8 (section 3.2, code of
    houqb/CoordAttention). timm's CoordAttn has 1/24, rounded to multiples of 8, and no biases.
    Difference: F1 has no bias, for a norm follows; Fh and Fw have theirs.

    Not the identity at the start: the gates are near 1/2 each, x comes out at about a quarter.
    On a 1x1 map rows and columns are the same pixel: squeeze-and-excitation with a product of two gates. There,
    training with a batch of one gives the norm two equal values, and f is constant.
    Parameters 3 C S + 2 C + 2 S; MACs 2 C S (H + W).
    """

    traits = Traits("gate")

    def __init__(self, channels: int, base: int, ratio: float = 0.03125, least: int = 8):
        super().__init__()
        if not 0 < ratio <= 1 or type(least) is not int or not 1 <= least <= 4096:
            raise ConfigError(f"coord(ratio={ratio}, least={least}): ratio in (0, 1]; least from 1 to 4096")
        inner = max(least, int(base * ratio))
        self.conv1 = nn.Conv2d(channels, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.act = nn.Hardswish()
        self.conv_h = nn.Conv2d(inner, channels, 1)
        self.conv_w = nn.Conv2d(inner, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (N, C, H, W) -> (N, C, H, W)
        rows, columns = x.mean(3, keepdim=True), x.mean(2, keepdim=True).transpose(2, 3)
        y = self.act(self.bn1(self.conv1(torch.cat((rows, columns), 2))))  # (N, S, H + W, 1)
        rows, columns = y.split((x.shape[2], x.shape[3]), 2)
        return x * self.conv_h(rows).sigmoid() * self.conv_w(columns).sigmoid().transpose(2, 3)
