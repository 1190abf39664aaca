"""Joint histograms of hue, saturation and value."""

import torch
from torch import nn

from foveate.zoo.composed.descriptors.lbp import cells


class Colour(nn.Module):
    """The root of the share of each colour in each cell of a grid: (N, hues * steps^2, grid, grid)."""

    flat = True

    numbers: torch.Tensor

    def __init__(self, picture: int, hues: int = 8, steps: int = 3, grid: int = 2):
        super().__init__()
        self.hues, self.steps, self.grid = hues, steps, grid
        self.register_buffer("numbers", torch.arange(hues * steps**2).view(1, -1, 1, 1), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        red, green, blue = (x / 255).split(1, 1)
        most, least = x.amax(1, keepdim=True) / 255, x.amin(1, keepdim=True) / 255
        span = (most - least).clamp(min=1e-6)
        hue = torch.where(
            most == red,
            ((green - blue) / span).remainder(6.0),
            torch.where(most == green, (blue - red) / span + 2, (red - green) / span + 4),
        )
        saturation = (most - least) / most.clamp(min=1e-6)
        steps = self.steps
        place = (hue / 6 * self.hues).floor().clamp(0, self.hues - 1) * steps**2
        place = place + (saturation * steps).floor().clamp(0, steps - 1) * steps
        place = place + (most * steps).floor().clamp(0, steps - 1)
        return cells((place.long() == self.numbers).to(x.dtype), self.grid).sqrt()
