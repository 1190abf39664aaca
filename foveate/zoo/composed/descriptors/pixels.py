"""The pixels themselves, of a picture made small."""

import torch
from torch import nn

from foveate.zoo.composed.descriptors.gradients import resizing


class Pixels(nn.Module):
    """A square of size x size, 0 to 1: (N, 3, size, size)."""

    flat = True

    resize: torch.Tensor

    def __init__(self, picture: int, size: int = 8):
        super().__init__()
        self.register_buffer("resize", resizing(picture, size, "bilinear"), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.resize @ x @ self.resize.T / 255
