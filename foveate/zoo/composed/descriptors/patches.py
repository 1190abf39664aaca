"""Every square of a picture, free of brightness and contrast: Coates, Lee and Ng, AISTATS 2011, section 3.2."""

import torch
import torch.nn.functional as F
from torch import nn

NOISE = 10.0  # added to a patch's variance, of levels 0 to 255


class Patches(nn.Module):
    """Squares of side x side, `step` pixels apart, their mean taken off and divided by their deviation:
    (N, 3 side^2, h, w).
    """

    flat = False

    cut: torch.Tensor

    def __init__(self, picture: int, side: int = 6, step: int = 1):
        super().__init__()
        self.side, self.step = side, step
        count = 3 * side * side
        self.register_buffer("cut", torch.eye(count).view(count, 3, side, side), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        field = F.conv2d(x, self.cut, stride=self.step)
        field = field - field.mean(1, keepdim=True)
        variance = field.square().sum(1, keepdim=True) / (field.shape[1] - 1)
        return field / (variance + NOISE).sqrt()
