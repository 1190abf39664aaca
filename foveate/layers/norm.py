"""Normalisations. Each maker takes the number of channels."""

import math

from torch import nn

from foveate.errors import ConfigError


def batch_norm(channels: int, eps: float = 1e-5, momentum: float = 0.1) -> nn.Module:
    """Batch normalisation, arXiv:1502.03167. momentum is PyTorch's: the weight of the new statistic (TF momentum m is
    1 - m here).
    """
    return nn.BatchNorm2d(channels, eps=eps, momentum=momentum)


def group_norm(channels: int, groups: int = 32, eps: float = 1e-5) -> nn.Module:
    """Group normalisation, arXiv:1803.08494. Widths that groups does not divide take the greatest common divisor."""
    if groups < 1:
        raise ConfigError(f"group_norm(groups={groups}): at least 1 group")
    return nn.GroupNorm(math.gcd(groups, channels), channels, eps=eps)
