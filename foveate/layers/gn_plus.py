"""GN+: group normalisation mixed with batch normalisation. arXiv:2207.01972."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from foveate.errors import ConfigError
from foveate.layers.norm import at_least_float32, check, lone
from foveate.layers.tracing import whole
from foveate.layers.traits import Traits

VARIANTS = ("gn_first", "bn_first", "parallel")


class GNPlus(nn.Module):
    """gamma * (s * gn + (1 - s) * bn) + beta, s = sigmoid(mix), mix one learned number, 1 at the start: s = 0.731.

    x: (N, C, H, W) -> same.  gn is x normalised over (C / groups, H, W), bn is x normalised over the batch:
    gn_first: u = gn(x), s * u + (1 - s) * bn(u).  bn_first: u = bn(x), s * gn(u) + (1 - s) * u.  parallel: both of x.
    The paper's text was not at hand; this follows the first author's repository, whose notebooks call gn_first the new
    GN. Differences: variances are without Bessel's correction, eps stands inside the root, bn takes its statistics
    over (N, H, W) and running averages (momentum as in PyTorch) in evaluation.
    faithful=True is the repository's: x less its mean, divided by (unbiased std + eps); bn over N alone at each
    (c, h, w), noisy below 16 pictures, and without running averages: also in evaluation a picture's output depends on
    the others of its batch. One value has deviation 0 here, so it is normalised to 0; the repository gives nan.

    Widths that groups does not divide take the greatest common divisor. With one channel a group (groups >= C) on a
    1x1 map gn is 0; gn_first then gives beta. One value a channel (a batch of one on a 1x1 map): bn uses its running
    averages as in evaluation, and they stay; faithful, every batch of one has bn = 0. Where several processes train,
    each has batch statistics of its own.
    Parameters 2 C + 1. The cost is that of two norms.
    """

    running_mean: torch.Tensor
    running_var: torch.Tensor

    def __init__(
        self,
        channels: int,
        groups: int = 32,
        variant: str = "gn_first",
        eps: float = 1e-5,
        momentum: float = 0.1,
        faithful: bool = False,
    ):
        super().__init__()
        if groups < 1 or variant not in VARIANTS:
            raise ConfigError(
                f'gn_plus(groups={groups}, variant="{variant}"): at least 1 group; variant one of {", ".join(VARIANTS)}'
            )
        check("gn_plus", eps, momentum)
        self.groups, self.variant, self.faithful = math.gcd(groups, channels), variant, faithful
        self.eps, self.momentum = eps, momentum
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.mix = nn.Parameter(torch.ones(()))
        if not faithful:
            self.register_buffer("running_mean", torch.zeros(channels))
            self.register_buffer("running_var", torch.ones(channels))

    @property
    def traits(self) -> Traits:
        """Channels of a group share statistics."""
        return Traits("norm", len(self.weight) // self.groups, counting=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = at_least_float32(x) if self.faithful else x  # torch's own norms take care of that themselves
        if self.variant == "gn_first":
            g = self.gn(y)
            b = self.bn(g)
        elif self.variant == "bn_first":
            b = self.bn(y)
            g = self.gn(b)
        else:
            g, b = self.gn(y), self.bn(y)
        y = torch.lerp(b, g, self.mix.sigmoid().to(g.dtype))
        return (self.weight.view(-1, 1, 1) * y + self.bias.view(-1, 1, 1)).to(x.dtype)

    def gn(self, x: torch.Tensor) -> torch.Tensor:
        """x normalised within each group of channels of each picture."""
        if self.faithful:
            return standardise(x.unflatten(1, (self.groups, -1)), (2, 3, 4), self.eps).flatten(1, 2)
        return torch.group_norm(x, self.groups, None, None, self.eps)

    def bn(self, x: torch.Tensor) -> torch.Tensor:
        """x normalised over the batch."""
        if self.faithful:
            return standardise(x, (0,), self.eps)
        learn = self.training and not lone(x)
        return F.batch_norm(x, self.running_mean, self.running_var, None, None, learn, self.momentum, self.eps)

    def extra_repr(self) -> str:
        return f"{len(self.weight)}, groups={self.groups}, variant={self.variant}, faithful={self.faithful}"


@whole
def standardise(x: torch.Tensor, axes: tuple[int, ...], eps: float) -> torch.Tensor:
    """(x - mean) / (std + eps), std with Bessel's correction; where there is no deviation the gradient is finite."""
    mean = x.mean(axes, keepdim=True)
    x, count = x - mean, x.numel() // mean.numel()
    var = x.square().sum(axes, keepdim=True) / max(count - 1, 1)
    return x / (var.clamp(min=torch.finfo(x.dtype).tiny).sqrt() + eps)
