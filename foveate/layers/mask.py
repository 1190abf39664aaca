"""Residual attention: x times 1 + M(x), M an hourglass of residual units. arXiv:1704.06904.

The mask branch serves the family too (zoo/attention.py), where it stands beside a trunk of units.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn

from foveate.errors import ConfigError
from foveate.layers.norm import at_least_float32
from foveate.layers.se import squeeze_width
from foveate.layers.tracing import smaller
from foveate.layers.traits import Traits

if TYPE_CHECKING:
    from foveate.layers import Layers

LEARNING = ("residual", "naive")
ACTIVATIONS = ("mixed", "channel", "spatial")


def resize(x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Bilinear, corners on corners as in the authors' Caffe."""
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=True)


def squash(x: torch.Tensor, kind: str, eps: float = 1e-5) -> torch.Tensor:
    """Section 3.2: f1 = sigmoid; f2 = x over its L2 norm across channels (may be negative); f3 = sigmoid of x with mean
    0 and deviation 1 in every channel map. Norms, means and deviations are float32 at least.
    """
    if kind == "mixed":
        return x.sigmoid()
    y = at_least_float32(x)
    if kind == "channel":
        return F.normalize(y, dim=1).to(x.dtype)
    y = y - y.mean((2, 3), keepdim=True)
    y = y * (y.square().mean((2, 3), keepdim=True) + eps).rsqrt()
    return y.sigmoid().to(x.dtype)


class Hourglass(nn.Module):
    """The soft mask branch before its squashing, figure 2: down, up with skips, two 1x1. (N, C, H, W) -> same.

    Lowest level 2r units, every other level r on the way down, a skip of one unit and r on the way up. Nothing but the
    resize and the two 1x1 happens at full resolution. With no level at all: 2r units.
    units(n) makes n units of this width. ordered: a norm and an activation in front of the first 1x1 too, for units
    that end without them.
    """

    def __init__(
        self,
        layers: "Layers",
        width: int,
        levels: int,
        units: Callable[[int], nn.Module],
        *,
        pool: nn.Module,
        r: int = 1,
        ordered: bool = True,
    ):
        super().__init__()
        self.pool = pool
        self.down = nn.ModuleList(units(r) for _ in range(levels))
        self.up = nn.ModuleList(units(r) for _ in range(levels)) if levels else nn.ModuleList([units(2 * r)])
        self.skip = nn.ModuleList(units(1) for _ in range(levels - 1))
        self.bn1 = layers.make_norm(width) if ordered else nn.Identity()
        self.act1 = layers.make_act(width) if ordered else nn.Identity()
        self.conv1 = layers.make_conv(width, width, 1)
        self.bn2 = layers.make_norm(width)
        self.act2 = layers.make_act(width)
        self.conv2 = layers.make_conv(width, width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        full, stored = x, []
        for down in self.down:
            x = down(self.pool(x))
            stored.append(x)
        x = self.up[-1](x)
        for level, up, skip in reversed(list(zip(stored, self.up, self.skip, strict=False))):  # the lowest has no skip
            x = up(resize(x, level) + skip(level))
        x = resize(x, full) if stored else x.clone()
        return self.conv2(self.act2(self.bn2(self.conv1(self.act1(self.bn1(x))))))


class Halve(nn.Module):
    """The largest of 3x3 pixels at stride 2, without padding, the last window cut off (Caffe); a side of 1 stays 1.

    (N, C, H, W) -> (N, C, H // 2, W // 2), at least 1 a side.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        high, wide = x.shape[-2], x.shape[-1]
        kernel = [smaller(2 * high - 1, 3), smaller(2 * wide - 1, 3)]
        stride = [smaller(high, 2), smaller(wide, 2)]
        return F.max_pool2d(x, kernel, stride, ceil_mode=True)


class Unit(nn.Module):
    """x + branch(x), the pre-activation bottleneck 1x1, 3x3, 1x1 of inner width mid. (N, C, H, W) -> same."""

    def __init__(self, channels: int, mid: int):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, mid, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(mid)
        self.conv2 = nn.Conv2d(mid, mid, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(mid)
        self.conv3 = nn.Conv2d(mid, channels, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv1(F.relu(self.bn1(x)))
        y = self.conv2(F.relu(self.bn2(y)))
        return x + self.conv3(F.relu(self.bn3(y)))


class ResidualMask(nn.Module):
    """M * x + x, or M * x for naive learning, M the squashed mask of x. (N, C, H, W) -> same."""

    traits = Traits("gate")

    def __init__(self, mask: nn.Module, activation: str, naive: bool):
        super().__init__()
        self.mask, self.activation, self.naive = mask, activation, naive

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = squash(self.mask(x), self.activation) * x
        return y if self.naive else y + x

    def extra_repr(self) -> str:
        return f"activation={self.activation}, naive={self.naive}"


def residual_mask(
    channels: int,
    base: int,
    levels: int = 1,
    ratio: float = 0.25,
    learning: str = "residual",
    activation: str = "mixed",
) -> nn.Module:
    """The attention module of the Residual Attention Network as a gate: y = (1 + M(x)) x, equation 3 with trunk T = x.

    x: (N, C, H, W) -> same.  M: Hourglass with r = 1 and units of inner width S = ratio * base, at least 1 (the
    authors: a quarter of the channels); norms are batch norms, activations ReLU, no biases.
    levels: how often M halves the resolution, 1 to 3 in the paper, so that it reaches 7 pixels; 0: not at all.
    learning: residual, or naive, y = M(x) x. activation: mixed (a sigmoid), channel, spatial: see squash.
    Where 0 < M < 1 (mixed, spatial), y lies between x and 2 x; at the start M is near 1/2. Where M = 0, y = x.
    Difference: the paper's mask reads what its trunk of two units reads; here both are x, for a gate sees no more. The
    paper has one module a stage; the slot attn is in every block (ResNet's Stage.before_last: once a stage).

    A side of 1 is not halved any more, but the units of that level run: on a 1x1 map M is a residual net of 1x1
    convolutions and middle taps; spatial has nothing to compare there, M is 1/2 and learns nothing. Training with a
    batch of one whose lowest map is 1x1 is an error: batch norm has one value.
    Parameters: 2 C^2 + 4 C, and 2 C S + 9 S^2 + 2 C + 4 S for each of max(3 levels - 1, 2) units. MACs: 2 C^2 H W, and
    2 C S + 9 S^2 a unit and pixel of its level. With S = C / 4 about four times a bottleneck that is C wide.
    """
    from foveate.layers import Layers  # its table ATTNS holds this function

    if type(levels) is not int or not 0 <= levels <= 6 or not 0 < ratio <= 1:
        raise ConfigError(f"residual_mask(levels={levels}, ratio={ratio}): levels from 0 to 6, ratio in (0, 1]")
    if learning not in LEARNING or activation not in ACTIVATIONS:
        raise ConfigError(
            f'residual_mask(learning="{learning}", activation="{activation}"): learning one of {", ".join(LEARNING)}; '
            f"activation one of {', '.join(ACTIVATIONS)}"
        )
    mid = squeeze_width(base, ratio, 0)

    def units(count: int) -> nn.Module:
        return nn.Sequential(*(Unit(channels, mid) for _ in range(count)))

    return ResidualMask(Hourglass(Layers(), channels, levels, units, pool=Halve()), activation, learning == "naive")
