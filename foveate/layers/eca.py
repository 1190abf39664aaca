"""Efficient channel attention: a gate a channel from a 1-D convolution over neighbouring channels. arXiv:1910.03151."""

import math

import torch
from torch import nn


class ECA(nn.Module):
    """x * sigmoid(conv1d_k(mean(x))), no bias, k odd and near |log2(C)/2 + 1/2| (paper, equation 12, gamma 2, b 1).

    x: (N, C, H, W) -> same shape.  k parameters; base is not used.
    """

    def __init__(self, channels: int, base: int):
        super().__init__()
        t = int(abs((math.log2(channels) + 1) / 2))
        kernel = max(t if t % 2 else t + 1, 3)
        self.conv = nn.Conv1d(1, 1, kernel, padding=kernel // 2, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (N, C, H, W) -> (N, C, H, W)
        s = x.mean((2, 3)).unsqueeze(1)  # (N, 1, C)
        return x * self.conv(s).sigmoid().transpose(1, 2).unsqueeze(-1)  # gate (N, C, 1, 1)
