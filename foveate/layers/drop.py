"""Stochastic depth: drops a whole residual branch, picture by picture. arXiv:1603.09382."""

import torch
from torch import nn

from foveate.errors import ConfigError


class DropPath(nn.Module):
    """In training each picture's x becomes 0 with probability rate; in evaluation x passes unchanged.

    x: (N, ...) -> same shape.  rescale: divide survivors by the keep probability, so that the mean stays (NFNet: no).
    """

    def __init__(self, rate: float = 0.0, rescale: bool = True):
        super().__init__()
        if not 0.0 <= rate <= 1.0:
            raise ConfigError(f"drop path: rate {rate}; must be from 0 to 1")
        self.rate = rate
        self.rescale = rescale

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (N, ...) -> (N, ...)
        if not self.training or self.rate == 0.0:
            return x
        keep = 1.0 - self.rate
        mask = x.new_empty((x.shape[0],) + (1,) * (x.ndim - 1)).bernoulli_(keep)  # one draw a picture
        return x * (mask / keep if self.rescale and keep > 0.0 else mask)

    def extra_repr(self) -> str:
        return f"rate={self.rate:g}, rescale={self.rescale}"
