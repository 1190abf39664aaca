"""The pixels themselves, of a picture made small."""

import torch
import torch.nn.functional as F
from torch import nn


class Pixels(nn.Module):
    """A square of size x size, 0 to 1: (N, 3, size, size)."""

    flat = True

    def __init__(self, size: int = 8):
        super().__init__()
        self.size = size

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[-1] != self.size:
            x = F.interpolate(x, (self.size, self.size), mode="bilinear", align_corners=False)
        return x / 255
