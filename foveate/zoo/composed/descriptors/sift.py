"""Dense SIFT descriptors, rooted: Lowe, IJCV 60 (2004), on a grid; Arandjelovic and Zisserman, CVPR 2012."""

import torch
import torch.nn.functional as F
from torch import nn

from foveate.zoo.composed.descriptors.gradients import gradient, grey, votes

CELLS, BINS = 4, 8
NEAR_ZERO = 1e-6  # below it the root is a line: there rounding would be magnified


class Sift(nn.Module):
    """4 x 4 cells of `cell` pixels with 8 signed directions, `step` pixels apart: (N, 128, h, w), each of length 1.

    A vote is shared by the two cells next to it each way (a triangle of twice the cell's width); there is no Gaussian
    over the window and no turning to a main direction. Roots of the L1-normalised histogram: Euclidean distance is then
    Hellinger's. A flat place gives zeros.
    """

    flat = False

    triangle: torch.Tensor

    def __init__(self, picture: int, cell: int = 4, step: int = 4):
        super().__init__()
        self.cell, self.step = cell, step
        ramp = 1 - (torch.arange(2 * cell - 1, dtype=torch.float32) - (cell - 1)).abs() / cell
        self.register_buffer("triangle", torch.outer(ramp, ramp).expand(BINS, 1, -1, -1).clone(), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        right, down = gradient(grey(x))
        cells = F.conv2d(votes(right, down, BINS, True), self.triangle, padding=self.cell - 1, groups=BINS)
        height, width = (size - CELLS * self.cell for size in cells.shape[2:])
        first = self.cell // 2
        parts = []
        for i in range(CELLS):
            for j in range(CELLS):
                top, left = first + i * self.cell, first + j * self.cell
                parts.append(cells[:, :, top : top + height + 1 : self.step, left : left + width + 1 : self.step])
        field = torch.cat(parts, 1)
        field = field / field.sum(1, keepdim=True).clamp(min=1e-6)
        return field / (field + NEAR_ZERO).sqrt()
