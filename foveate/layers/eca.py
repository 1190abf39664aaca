"""Efficient channel attention: a gate a channel from a 1-D convolution over neighbouring channels. arXiv:1910.03151."""

import math

import torch
from torch import nn

from foveate.errors import ConfigError
from foveate.layers.act import Scaled
from foveate.layers.traits import Traits


class ECA(nn.Module):
    """gain * x * sigmoid(conv1d_k(mean(x))), no bias.

    x: (N, C, H, W) -> same shape.  k odd and near |log2(C)/2 + 1/2| (paper, equation 12, gamma 2, b 1).  gain 2 is
    for networks without norms, since the gate starts near 1/2.  k parameters; base is not used.
    """

    traits = Traits("gate", fixed="eca convolves over neighbouring channels")

    def __init__(self, channels: int, base: int, gain: float = 1.0):
        super().__init__()
        if not 0 < gain < math.inf:
            raise ConfigError(f"eca(gain={gain}): must be positive and finite")
        t = int(abs((math.log2(channels) + 1) / 2))
        kernel = max(t if t % 2 else t + 1, 3)
        self.conv = nn.Conv1d(1, 1, kernel, padding=kernel // 2, bias=False)
        self.gate = nn.Sigmoid() if gain == 1 else Scaled(nn.Sigmoid(), gain)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (N, C, H, W) -> (N, C, H, W)
        s = x.mean((2, 3)).unsqueeze(1)  # (N, 1, C)
        return x * self.gate(self.conv(s)).transpose(1, 2).unsqueeze(-1)  # gate (N, C, 1, 1)
