"""Augmentation of whole batches on the training device. Every random number comes from uniforms(seed, epoch,
sample).
"""

import math
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F

COLUMNS = 12  # random numbers a sample, in fixed places, so that switching one change on leaves the others as they were


class Changes(Protocol):
    """What augment reads; train.recipe.Augment has these fields."""

    @property
    def crop(self) -> float: ...
    @property
    def shift(self) -> float: ...
    @property
    def flip(self) -> bool: ...
    @property
    def colour(self) -> float: ...
    @property
    def erase(self) -> float: ...


def augment(stored: torch.Tensor, aspect: torch.Tensor, u: np.ndarray, size: int, changes: Changes) -> torch.Tensor:
    """uint8 (N, 3, S, S), squashed squares -> float32 (N, 3, size, size) in [0, 1].

    aspect: width / height of the pictures before squashing, (N,). u: uniforms, float64 (N, COLUMNS).
    """
    side = stored.shape[3]
    numbers = torch.from_numpy(u).to(stored.device, torch.float32)
    flip = (numbers[:, 0] < 0.5) & changes.flip
    if changes.crop > 0 or side != size:
        # the channels-last form of grid_sample costs less on a CPU than the plain one
        x = stored.to(memory_format=torch.channels_last).float().div_(255)
        grid = _crop_grid(numbers, aspect, flip, size, changes)
        x = F.grid_sample(x, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    else:
        x = torch.where(flip[:, None, None, None], stored.flip(3), stored)
        reach = round(changes.shift * size)
        x = (_translate(x, numbers[:, 1:3], reach) if reach else x).float().div_(255)
    if changes.colour > 0:
        x = _colour(x, 1 + changes.colour * (2 * numbers[:, 5:8] - 1))
    if changes.erase > 0:
        x = _erase(x, numbers[:, 8:12], changes.erase)
    return x


def _crop_grid(u: torch.Tensor, aspect: torch.Tensor, flip: torch.Tensor, size: int, changes: Changes) -> torch.Tensor:
    """Sampling grid (N, size, size, 2) of random resized crops: area in [crop, 1], aspect 3/4 to 4/3 in the picture
    as it was.
    """
    if changes.crop > 0:
        area = changes.crop + (1 - changes.crop) * u[:, 1]
        ratio = torch.exp((2 * u[:, 2] - 1) * math.log(4 / 3)) / aspect  # of the squashed square
    else:
        area, ratio = torch.ones_like(u[:, 1]), 1 / aspect
        area = area * torch.minimum(ratio, 1 / ratio)  # the centre square of the picture
    width, height = (area * ratio).sqrt(), (area / ratio).sqrt()
    # a box that is too long for the square is cut to fit: its area shrinks, its middle stays free to move
    width, height = width.clamp(max=1.0), height.clamp(max=1.0)
    moving = 1.0 if changes.crop > 0 else min(1.0, 2 * changes.shift)
    x0 = (1 - width) * (2 * u[:, 3] - 1) * moving  # centre of the box, in [-1, 1]
    y0 = (1 - height) * (2 * u[:, 4] - 1) * moving
    axis = (torch.arange(size, device=u.device) + 0.5) * (2 / size) - 1  # (size,)
    gx = x0[:, None] + width[:, None] * torch.where(flip, -1.0, 1.0)[:, None] * axis
    gy = y0[:, None] + height[:, None] * axis
    return torch.stack((gx[:, None, :].expand(-1, size, -1), gy[:, :, None].expand(-1, -1, size)), -1)


def _translate(x: torch.Tensor, u: torch.Tensor, reach: int) -> torch.Tensor:
    """Shift by whole pixels in [-reach, reach], reflected at the border. uint8 (N, 3, S, S) -> same."""
    n, channels, side, _ = x.shape
    offset = (u * (2 * reach + 1)).long() - reach  # (N, 2), (dx, dy)
    place = torch.arange(side, device=x.device)
    columns, rows = (_reflect(place + offset[:, i, None], side) for i in (0, 1))  # (N, S) each
    x = x.gather(2, rows[:, None, :, None].expand(n, channels, side, side))
    return x.gather(3, columns[:, None, None, :].expand(n, channels, side, side))


def _reflect(i: torch.Tensor, side: int) -> torch.Tensor:
    """Indices outside [0, side) reflected back in (the border pixel is not doubled)."""
    last = side - 1
    if last == 0:
        return torch.zeros_like(i)
    i = i.abs() % (2 * last)
    return torch.minimum(i, 2 * last - i)


def _colour(x: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """Brightness, contrast and saturation by factors (N, 3); float (N, 3, H, W) in [0, 1] -> same, clamped."""
    brightness, contrast, saturation = (factors[:, i, None, None, None] for i in range(3))
    x = x * brightness
    grey = 0.299 * x[:, 0:1] + 0.587 * x[:, 1:2] + 0.114 * x[:, 2:3]  # (N, 1, H, W), ITU-R BT.601
    middle = grey.mean((2, 3), keepdim=True)
    x = torch.lerp(grey, x, saturation.expand_as(x))
    return torch.lerp(middle.expand_as(x), x, contrast.expand_as(x)).clamp_(0, 1)


def _erase(x: torch.Tensor, u: torch.Tensor, chance: float) -> torch.Tensor:
    """Random erasing, arXiv:1708.04896: one rectangle of 2 to 20 % of the area, square in aspect, filled with mid
    grey.
    """
    side = x.shape[2]
    edge = (0.02 + 0.18 * u[:, 1]).sqrt() * (u[:, 0] < chance)  # share of the side; 0: no rectangle
    place = (torch.arange(side, device=x.device) + 0.5) / side
    x0, y0 = u[:, 2] * (1 - edge), u[:, 3] * (1 - edge)
    inside_x = (place >= x0[:, None]) & (place < (x0 + edge)[:, None])  # (N, S)
    inside_y = (place >= y0[:, None]) & (place < (y0 + edge)[:, None])
    return x.masked_fill(inside_y[:, None, :, None] & inside_x[:, None, None, :], 0.5)
