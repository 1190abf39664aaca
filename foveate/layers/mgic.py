"""Multigrid in channels: grouped convolutions on ever fewer channels, where at last all of them meet. arXiv:2011.09128.

The cycle and its widths serve the family too (zoo/mgic.py), whose blocks have norms and activations inside.
"""

import math

import torch
from torch import nn

from foveate.errors import ConfigError
from foveate.layers.conv import ConvShape, Pair, ShapedConv2d, both
from foveate.layers.traits import Traits


def levels(width: int, coarsest: int) -> list[int]:
    """Widths of the grouped levels, widest first: 64 with coarsest 16 gives 64, 32, 16 (and an ungrouped one of 8)."""
    found = [width]
    while found[-1] // 2 >= coarsest and found[-1] % 2 == 0:
        found.append(found[-1] // 2)
    return found


def v_cycle(
    x: torch.Tensor, restrict: nn.ModuleList, prolong: nn.ModuleList, smooth: nn.ModuleList, coarse: nn.Module
) -> torch.Tensor:
    """Section 3.2. Down: x[l+1] = restrict[l](x[l]). On the coarsest level: coarse. Up: what changed below is added,
    smooth[l](x[l] + prolong[l](x[l+1] new - old)). (N, C, H, W) -> same.
    """
    down = [x]
    for layer in restrict:
        down.append(layer(down[-1]))
    y = coarse(down[-1])
    for i in reversed(range(len(smooth))):
        y = smooth[i](down[i] + prolong[i](y - down[i + 1]))
    return y


def group_of(width: int, group: int) -> int:
    """Channels of a group: all of them, or `group`, or the greatest common divisor of the two where it does not fit."""
    return width if width <= group else math.gcd(width, group)


class Transfer(ShapedConv2d):
    """A convolution in groups that keeps the second moment at first: weights from N(0, 1 / fan-in). No bias."""

    def reset_parameters(self) -> None:
        nn.init.normal_(self.weight, std=self.weight[0].numel() ** -0.5)


class Smoother(nn.Conv2d):
    """x + conv(x) on one level, in groups; at first the convolution adds gain times the second moment of x.

    (N, C, H, W) -> same.  The kernel is odd in both directions.
    """

    def __init__(self, width: int, kernel: tuple[int, int], groups: int, gain: float, bias: bool = False):
        self.gain = gain
        margin = (kernel[0] // 2, kernel[1] // 2)
        super().__init__(width, width, kernel, padding=margin, groups=groups, bias=bias)

    def reset_parameters(self) -> None:
        nn.init.normal_(self.weight, std=math.sqrt(self.gain / self.weight[0].numel()))
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + super().forward(x)


class MGIC(nn.Module):
    """v_cycle(entry(x)): restrictions and prolongations 1x1, Smoother k x k, in groups on every level but the coarsest.

    x: (N, c_in, H, W) -> (N, c_out, H', W').  The cycle: level l has c_l = c_out / 2^l channels, s_l of them in a
    group; R_l goes from c_l to c_l / 2, P_l back; the coarsest level has half of the last c_l, in one group.
    The paper has whole blocks only, and a convolution unit is our reading of them: the block without its norms and
    activations, with one convolution in the place of two. It is linear. With every smoother's weight zero it gives back
    its input, to the bit. Every input channel reaches every output channel. The kernels of L levels follow each other:
    a pixel sees (L + 1) (k - 1) + 1 pixels in a row.
    entry: a block changes neither width nor resolution; where they change, the authors put a 3x3 in groups as narrow as
    can be before it. Here: k x k with the host's stride and padding and gcd(c_in, c_out) groups, wherever the widths
    differ, or the stride is above 1, or the padding does not keep the size. Even kernels: the cycle has k - 1.
    Start: all weights random (so were the authors' transfers when they ran them), such that the second moment of the
    output is 1.5 times the input's, the input itself included. Units and ReLUs in a row, no norms: 1.35 times a unit.
    Weights: sum c_l s_l (k^2 + 1) + k^2 c_n^2, below 2 c_out group (k^2 + 1) + const for widths of group * 2^j, and the
    entry's k^2 c_in c_out / gcd; a plain convolution has k^2 c_in c_out. MACs: weights times H' W'.
    """

    traits = Traits("conv", counting=True)

    def __init__(self, shape: ConvShape, widths: list[int], group: int):
        super().__init__()
        self.entry: nn.Module = nn.Identity()
        if needs_entry(shape):
            groups = math.gcd(shape.c_in, shape.c_out)
            self.entry = Transfer(shape._replace(groups=groups, bias=False))
        kernel, gain = (
            odd(both(shape.kernel)),
            1.5 ** (1 / (len(widths) + 1)) - 1,
        )  # each smoother multiplies by 1 + gain
        self.restrict, self.prolong, self.smooth = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for i, width in enumerate(widths):
            groups = width // group_of(width, group)
            self.restrict.append(Transfer(ConvShape(width, width // 2, 1, groups=groups)))
            self.prolong.append(Transfer(ConvShape(width // 2, width, 1, groups=groups)))
            self.smooth.append(Smoother(width, kernel, groups, gain, shape.bias and i == 0))
        self.coarse = Smoother(widths[-1] // 2, kernel, 1, gain)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (N, c_in, H, W) -> (N, c_out, H', W')
        return v_cycle(self.entry(x), self.restrict, self.prolong, self.smooth, self.coarse)


def odd(kernel: tuple[int, int]) -> tuple[int, int]:
    """The kernel, less 1 in a direction in which it is even."""
    return kernel[0] - 1 + kernel[0] % 2, kernel[1] - 1 + kernel[1] % 2


def needs_entry(shape: ConvShape) -> bool:
    """Whether width or size change, which the cycle itself can not."""
    p_y, p_x = both(shape.padding)
    return shape.c_in != shape.c_out or shape.stride > 1 or both(shape.kernel) != (2 * p_y + 1, 2 * p_x + 1)


def weights(shape: ConvShape, widths: list[int], group: int) -> int:
    """Weights of an MGIC, by the closed form."""
    kernel, c_in, c_out = both(shape.kernel), shape.c_in, shape.c_out
    taps = math.prod(odd(kernel))
    cycle = sum(w * group_of(w, group) * (taps + 1) for w in widths) + taps * (widths[-1] // 2) ** 2
    return cycle + (math.prod(kernel) * c_in * c_out // math.gcd(c_in, c_out) if needs_entry(shape) else 0)


def mgic(
    c_in: int,
    c_out: int,
    kernel: Pair,
    *,
    stride: int = 1,
    padding: Pair = 0,
    groups: int = 1,
    bias: bool = False,
    group: int = 32,
    coarsest: int = 32,
) -> nn.Module:
    """MGIC with groups of `group` channels, halving while the next level has at least `coarsest` (the authors' script).

    Widths need not be group * 2^j: a level of at most `group` channels is one group, another takes the greatest common
    divisor; halving ends before an odd width. A plain convolution where the unit would not have fewer weights (3x3 of
    equal widths: below 64 channels with the default group), for odd c_out, and where the host has groups of its own.
    """
    sound = type(group) is int and type(coarsest) is int and 2 <= group <= 4096 and 1 <= coarsest <= 4096
    if not sound or group % 2:
        raise ConfigError(
            f"mgic(group={group}, coarsest={coarsest}): group even, from 2 to 4096; coarsest from 1 to 4096"
        )
    shape = ConvShape(c_in, c_out, kernel, stride, padding, groups, bias)
    widths = [w for w in levels(c_out, coarsest) if w % 2 == 0]  # only the last one can be odd: it is the coarsest then
    most = c_in * c_out * math.prod(both(kernel))
    plain = groups > 1 or not widths or weights(shape, widths, group) >= most
    return shape.plain() if plain else MGIC(shape, widths, group)
