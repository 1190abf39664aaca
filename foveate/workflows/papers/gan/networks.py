"""SNGAN for 32 pixels, arXiv:1802.05957 appendix B: residual generator and discriminator from the house's layers.

layers: convolutions, norms and activations of the blocks; conv="gconv" or "conv_norm" puts these in their slots.
"""

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from foveate.layers import Layers

LATENT = 128


def start(module: nn.Module, gain: float) -> nn.Module:
    """Xavier's start for what holds one kernel; other units keep their own."""
    if type(module) in (nn.Conv2d, nn.Linear):
        nn.init.xavier_uniform_(module.weight, gain)  # type: ignore[arg-type]
        if isinstance(module.bias, nn.Parameter):
            nn.init.zeros_(module.bias)
    return module


class Up(nn.Module):
    """norm, act, twice as large, 3x3, norm, act, 3x3; beside it twice as large, 1x1. (N, C, H, W) -> (N, C, 2H, 2W)."""

    def __init__(self, layers: Layers, width: int):
        super().__init__()
        self.norm1, self.norm2 = layers.make_norm(width), layers.make_norm(width)
        self.act1, self.act2 = layers.make_act(width), layers.make_act(width)
        self.conv1, self.conv2 = (start(layers.make_conv(width, width, 3, bias=True), 2**0.5) for _ in range(2))
        self.shortcut = start(nn.Conv2d(width, width, 1), 1.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.interpolate(self.act1(self.norm1(x).clone()), scale_factor=2)
        y = self.conv2(self.act2(self.norm2(self.conv1(y))))
        return y + self.shortcut(F.interpolate(x, scale_factor=2))


class Generator(nn.Module):
    """(N, 128) from N(0, I) -> pictures (N, 3, 32, 32) from -1 to 1."""

    def __init__(self, width: int = 64, layers: Layers | None = None):
        super().__init__()
        layers = layers or Layers()
        self.width = width
        self.linear = start(nn.Linear(LATENT, 16 * width), 1.0)
        self.blocks = nn.Sequential(*(Up(layers, width) for _ in range(3)))
        self.norm, self.act = layers.make_norm(width), layers.make_act(width)
        self.out = start(nn.Conv2d(width, 3, 3, padding=1), 1.0)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        x = self.blocks(self.linear(z).unflatten(1, (self.width, 4, 4)))
        return torch.tanh(self.out(self.act(self.norm(x))))


def spectral(module: nn.Module) -> nn.Module:
    """The module with its kernel divided by its largest singular value: one power step a training pass."""
    return spectral_norm(module) if type(module) in (nn.Conv2d, nn.Linear) else module


class Down(nn.Module):
    """act, 3x3, act, 3x3, mean pool where `down`; beside it 1x1 and pool, or x. `first`: no act, pool then 1x1."""

    def __init__(self, layers: Layers, c_in: int, width: int, *, down: bool, first: bool = False):
        super().__init__()
        self.down, self.first = down, first
        self.conv1, self.conv2 = (
            spectral(start(layers.make_conv(c, width, 3, bias=True), 2**0.5)) for c in (c_in, width)
        )
        self.shortcut = spectral(start(nn.Conv2d(c_in, width, 1), 1.0)) if down else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (N, c_in, H, W) -> (N, width, H / 2, W / 2) or same size
        y = self.conv2(F.relu(self.conv1(x if self.first else F.relu(x))))
        if not self.down:
            return y + x
        beside = self.shortcut(F.avg_pool2d(x, 2)) if self.first else F.avg_pool2d(self.shortcut(x), 2)
        return F.avg_pool2d(y, 2) + beside


class Discriminator(nn.Module):
    """(N, 3, 32, 32) -> scores (N,). Every plain kernel has spectral norm; units of other kinds keep their own form."""

    def __init__(self, width: int = 64, layers: Layers | None = None):
        super().__init__()
        layers = layers or Layers()
        self.blocks = nn.Sequential(
            Down(layers, 3, width, down=True, first=True),
            Down(layers, width, width, down=True),
            Down(layers, width, width, down=False),
            Down(layers, width, width, down=False),
        )
        self.linear = spectral(start(nn.Linear(width, 1), 1.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(F.relu(self.blocks(x)).sum((2, 3)))[:, 0]
