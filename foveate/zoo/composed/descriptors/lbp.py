"""Local binary patterns: Ojala, Pietikainen and Maenpaa, IEEE TPAMI 24 (2002), eight neighbours at any radius."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from foveate.zoo.composed.descriptors.gradients import grey

POINTS = 8
EQUAL = 1e-3  # levels of 255: interpolated neighbours of a flat place differ from it by rounding


def samples(radius: int) -> torch.Tensor:
    """(8, 1, 2 r + 1, 2 r + 1): each neighbour, interpolated, minus the centre. First East, then anticlockwise."""
    side = 2 * radius + 1
    kernels = torch.zeros(POINTS, 1, side, side)
    for p in range(POINTS):
        angle = 2 * math.pi * p / POINTS
        row, column = (round(v, 5) for v in (radius - radius * math.sin(angle), radius + radius * math.cos(angle)))
        for r in (math.floor(row), math.floor(row) + 1):
            for c in (math.floor(column), math.floor(column) + 1):
                share = max(0.0, 1 - abs(row - r)) * max(0.0, 1 - abs(column - c))
                if share > 0:
                    kernels[p, 0, r, c] += share
        kernels[p, 0, radius, radius] -= 1
    return kernels


def table(kind: str) -> list[int]:
    """Code 0 to 255 -> bin. "u2": the 58 codes of at most two changes each their own bin, the rest one (59 bins).
    "riu2": those by their number of ones, the rest one (10 bins).
    """
    codes = [[code >> p & 1 for p in range(POINTS)] for code in range(256)]
    even = [sum(bits[p] != bits[p - 1] for p in range(POINTS)) <= 2 for bits in codes]
    if kind == "riu2":
        return [sum(bits) if good else POINTS + 1 for bits, good in zip(codes, even, strict=True)]
    order = {code: place for place, code in enumerate(code for code in range(256) if even[code])}
    return [order.get(code, len(order)) for code in range(256)]


class Lbp(nn.Module):
    """The root of the share of each pattern in each cell of a grid: (N, 59 or 10, grid, grid). The border is left out.

    kind: "u2" or "riu2" (the same for a turned picture). Roots: a linear classifier then compares by Hellinger's
    distance.
    """

    flat = True

    kernels: torch.Tensor
    powers: torch.Tensor
    table: torch.Tensor
    numbers: torch.Tensor

    def __init__(self, picture: int, radius: int = 1, kind: str = "u2", grid: int = 4):
        super().__init__()
        if kind not in ("u2", "riu2"):
            raise TypeError(f'kind="{kind}": u2 or riu2')
        self.radius, self.grid = radius, grid
        bins = table(kind)
        self.bins = max(bins) + 1
        self.register_buffer("kernels", samples(radius), persistent=False)
        self.register_buffer("powers", 2.0 ** torch.arange(POINTS).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("table", torch.tensor(bins), persistent=False)
        self.register_buffer("numbers", torch.arange(self.bins).view(1, -1, 1, 1), persistent=False)

    def codes(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) of 0 to 255 -> int64 (N, H - 2 r, W - 2 r), 0 to 255."""
        above = F.conv2d(grey(x), self.kernels) >= -EQUAL
        return (above.to(x.dtype) * self.powers).sum(1).long()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hits = (self.table[self.codes(x)].unsqueeze(1) == self.numbers).to(x.dtype)
        return cells(hits, self.grid).sqrt()


def cells(field: torch.Tensor, grid: int) -> torch.Tensor:
    """The mean of a field (N, D, h, w) over a grid of equal cells: (N, D, grid, grid), by two products."""

    def shares(size: int) -> torch.Tensor:
        place = (torch.arange(size, device=field.device) * grid) // size
        hot = (place.unsqueeze(1) == torch.arange(grid, device=field.device)).to(field.dtype)
        return hot / hot.sum(0)

    return shares(field.shape[2]).T @ field @ shares(field.shape[3])
