"""Histograms of oriented gradients: Dalal and Triggs, CVPR 2005, with votes shared between bins and cells."""

import torch
import torch.nn.functional as F
from torch import nn

from foveate.zoo.composed.descriptors.gradients import gradient, resizing, votes


class Hog(nn.Module):
    """Blocks of block x block cells of `cell` pixels, one cell apart: (N, block^2 bins, h, w).

    Of several channels the one with the longest gradient counts. A vote is shared by two bins and by the cells of its
    block, weighed by a Gaussian over the block (its deviation a quarter of the block's side; as in OpenCV, its centre
    is half a pixel off). Block norm: L2, clipped at 0.2, L2 again. size: the picture is resized to it first; pad:
    pixels of border that are repeated around it. Directions have no sign.
    """

    flat = True

    resize: torch.Tensor
    windows: torch.Tensor

    def __init__(self, picture: int, cell: int = 8, bins: int = 9, block: int = 2, size: int = 0, pad: int = 0):
        super().__init__()
        self.cell, self.bins, self.block, self.size, self.pad = cell, bins, block, size, pad
        side = cell * block
        place = torch.arange(side, dtype=torch.float32)
        near = (place + 0.5) / cell - 0.5
        weights = torch.stack([(1 - (near - k).abs()).clamp(min=0) for k in range(block)])  # (block, side)
        weights = weights * torch.exp(-((place - side / 2) ** 2) / (2 * (side / 4) ** 2))
        windows = torch.einsum("ai,bj->abij", weights, weights).reshape(block * block, 1, side, side)
        self.register_buffer("resize", resizing(picture, size or picture, "bicubic"), persistent=False)
        self.register_buffer("windows", windows.repeat(bins, 1, 1, 1), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.size:
            x = (self.resize @ x @ self.resize.T).clamp(0, 255)
        if self.pad:
            x = torch.cat([x[..., :1]] * self.pad + [x] + [x[..., -1:]] * self.pad, 3)
            x = torch.cat([x[..., :1, :]] * self.pad + [x] + [x[..., -1:, :]] * self.pad, 2)
        right, down = gradient(x)
        longest = (right * right + down * down).argmax(1, keepdim=True)
        right, down = right.gather(1, longest), down.gather(1, longest)
        cells = F.conv2d(votes(right, down, self.bins, False), self.windows, stride=self.cell, groups=self.bins)
        numbers = cells.shape[1]
        cells = cells / (cells.square().sum(1, keepdim=True).sqrt() + 0.1 * numbers)
        cells = cells.clamp(max=0.2)
        return cells / (cells.square().sum(1, keepdim=True).sqrt() + 1e-3)
