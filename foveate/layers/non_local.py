"""Non-local blocks: every position reads all others. Softmax, arXiv:1711.07971; a constant, arXiv:2207.13423."""

import torch
import torch.nn.functional as F
from torch import nn

from foveate.errors import ConfigError
from foveate.layers.tracing import is_traced, whole
from foveate.layers.traits import Traits


@whole
def position_code(channels: int, height: int, width: int) -> torch.Tensor:
    """Sines and cosines of the rows in the first half of the channels, of the columns in the second, base 10000.

    (1, channels, height, width); channels must be a multiple of 4.
    """
    quarter = channels // 4
    rates = 10000.0 ** (-torch.arange(quarter) / quarter)
    halves = []
    for axis, size in ((0, height), (1, width)):
        angles = torch.outer(rates, torch.arange(size, dtype=rates.dtype))  # (quarter, size)
        code = torch.stack((angles.sin(), angles.cos()), 1).flatten(0, 1)  # (channels / 2, size)
        halves.append(code[:, :, None].expand(-1, -1, width) if axis == 0 else code[:, None].expand(-1, height, -1))
    return torch.cat(halves).unsqueeze(0)


class NonLocal(nn.Module):
    """x + norm(W y), y = v @ weights(q, k) over all N = H * W positions, in heads.

    x: (N, C, H, W) -> same.  width: channels of all heads together, 0: C / 2 (the official code of 2207.13423 keeps C
    for several heads).  Projections have no bias. The norm is a batch norm; its gain starts at 0, so that the block
    starts as the identity (but for the position code).

    softmax: weights = softmax(q^T k / sqrt(C')), C' channels a head (scale=False: without the root, as in the code of
    2207.13423). unit_keys: every key is divided by its length, so that what a position gets does not follow from how
    long its key is, which is what 2207.13423 finds wrong with softmax. Not softmax: q^T k / (sqrt(N) sqrt(C')); the
    product is then associative, and the cheaper order is taken: 2 N^2 C' multiply-adds, or 2 N C'^2, linear in N.
    Parameters 4 C C' heads + 2 C.
    """

    def __init__(
        self,
        channels: int,
        softmax: bool,
        width: int = 0,
        heads: int = 1,
        scale: bool = True,
        position: bool = False,
        unit_keys: bool = False,
    ):
        super().__init__()
        inner = width or max(heads, channels // 2)
        if heads < 1 or inner < heads or inner % heads:
            raise ConfigError(f"nonlocal(width={width}, heads={heads}): the width must be a multiple of heads >= 1")
        if position and channels % 4:
            raise ConfigError(f"nonlocal(position=True): {channels} channels; must be a multiple of 4")
        self.softmax, self.heads, self.scale, self.position = softmax, heads, scale, position
        self.unit_keys = unit_keys
        self.query = nn.Conv2d(channels, inner, 1, bias=False)
        self.key = nn.Conv2d(channels, inner, 1, bias=False)
        self.value = nn.Conv2d(channels, inner, 1, bias=False)
        self.out = nn.Conv2d(inner, channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        nn.init.zeros_(self.norm.weight)

    @property
    def traits(self) -> Traits:
        """Heads and the kind of the scores stay; a position code is made for a number of channels."""
        fixed = "the position code of a non-local block depends on the number of channels" if self.position else ""
        return Traits("gate", fixed=fixed, nature=f"{self.heads} heads, softmax {self.softmax}")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, _, height, width = x.shape
        if self.position:
            x = x + position_code(x.shape[1], height, width).to(x)
        # (n, heads, C', N)
        q, k, v = (f(x).reshape(n, self.heads, -1, height * width) for f in (self.query, self.key, self.value))
        y = self.attend(q, k, v).reshape(n, -1, height, width)
        return x + self.norm(self.out(y))

    def attend(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """(n, heads, C', N) three times -> (n, heads, C', N)."""
        inner, pixels = q.shape[-2], q.shape[-1]
        if self.unit_keys:
            k = F.normalize(k, dim=-2)
        if self.softmax:
            scores = q.transpose(-1, -2) @ k  # (n, heads, N, N): a row for every position that asks
            weights = (scores * inner**-0.5 if self.scale else scores).softmax(-1)
            return v @ weights.transpose(-1, -2)
        factor = (pixels * inner) ** -0.5
        if is_traced(pixels) or inner < pixels:
            return (v @ k.transpose(-1, -2)) @ (q * factor)  # (C', C') in the middle
        return v @ (k.transpose(-1, -2) @ (q * factor))  # (N, N) in the middle


def nonlocal_softmax(
    channels: int,
    _: int,
    width: int = 0,
    heads: int = 1,
    scale: bool = True,
    position: bool = False,
    unit_keys: bool = False,
) -> nn.Module:
    """The embedded Gaussian form of arXiv:1711.07971: quadratic in the number of pixels."""
    return NonLocal(channels, True, width, heads, scale, position, unit_keys)


def nonlocal_scaled(channels: int, _: int, width: int = 0, heads: int = 1, position: bool = False) -> nn.Module:
    """Softmax replaced by a constant, arXiv:2207.13423: linear in the number of pixels where there are many."""
    return NonLocal(channels, False, width, heads, True, position)
