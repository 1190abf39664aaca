"""The parts of the Inception family: units in a row are a branch, branches side by side a block, blocks a stage.

The blocks of Inception v3, v4 and both Inception-ResNets differ only in these records.
"""

import math
from collections.abc import Iterable
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import nn

from foveate.config import Kernel, Positive, Stride, Width, record
from foveate.errors import ConfigError
from foveate.layers import Layers
from foveate.layers.norm import for_pooled

MAX_UNITS = 4096  # in all blocks together; Inception-ResNet v2 has 204
PROBES = range(96, 104)  # sides at which the branches of a block must give maps of one size


@record
class Unit:
    """Convolution, norm, activation."""

    width: Width  # output channels
    kernel: Kernel | tuple[Kernel, Kernel] = 1  # odd; one number, or (vertical, horizontal)
    stride: Stride = 1
    valid: bool = False  # True: no padding ("V" in the papers' figures); False: kernel // 2 zeros on each side

    def __post_init__(self) -> None:
        if not all(k % 2 for k in sides(self.kernel)):
            raise ConfigError(f"Unit.kernel = {self.kernel}: must be odd (1, 3, 5, 7)")


@record
class Branch:
    """A pool or none, units in a row, then a fork or none."""

    units: Annotated[tuple[Unit, ...], Field(max_length=64)] = ()
    pool: Literal["none", "avg", "max"] = "none"  # 3x3: mean at stride 1 with padding; maximum at stride 2 without
    fork: Annotated[tuple[Unit, ...], Field(max_length=64)] = ()  # all see the last unit and are concatenated

    def __post_init__(self) -> None:
        if not self.units and not self.fork and self.pool == "none":
            raise ConfigError('Branch is empty; it needs units, a fork or pool = "avg" or "max"')


@record
class Mixed:
    """Branches side by side, concatenated: an Inception block. With a scale it is the residual of its input."""

    branches: Annotated[tuple[Branch, ...], Field(min_length=1, max_length=64)]
    scale: Positive | None = None  # x + scale * (1x1 convolution of the branches); None: no shortcut
    act: bool = True  # the activation after the sum; without a scale there is no sum

    def __post_init__(self) -> None:
        if self.scale is None and not self.act:
            raise ConfigError("Mixed.act = False needs a scale: only the sum with the shortcut has this activation")
        sizes = {ends for branch in self.branches for ends in outputs(branch)}
        if len(sizes) > 1:
            raise ConfigError("Mixed.branches give maps of different sizes; strides and padding must agree")
        if self.scale is not None and sizes != {(tuple(PROBES), tuple(PROBES))}:
            raise ConfigError(f"Mixed.scale = {self.scale} needs branches that keep the size: stride 1, valid = False")


@record
class Stage:
    """Blocks in a row. Those of the published nets have one resolution, but for the first, which reduces it."""

    blocks: Annotated[tuple[Mixed, ...], Field(min_length=1, max_length=1024)]
    layers: Layers | None = None  # in place of the net's layers in this stage


def sides(kernel: int | tuple[int, int]) -> tuple[int, int]:
    """(vertical, horizontal)."""
    return (kernel, kernel) if isinstance(kernel, int) else kernel


def outputs(branch: Branch, inputs: Iterable[int] = PROBES) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """(heights, widths) of the map, or of each map of the fork, for maps of these sides."""

    def after(unit: Unit, size: int, axis: int) -> int:
        return (size - (sides(unit.kernel)[axis] if unit.valid else 1)) // unit.stride + 1

    def along(axis: int, way: tuple[Unit, ...]) -> tuple[int, ...]:
        sizes = [(size - 3) // 2 + 1 if branch.pool == "max" else size for size in inputs]
        for unit in way:
            sizes = [after(unit, size, axis) for size in sizes]
        return tuple(sizes)

    ways = [(*branch.units, end) for end in branch.fork] or [branch.units]
    return [(along(0, way), along(1, way)) for way in ways]


def suffices(stages: tuple[Stage, ...], side: int) -> bool:
    """Whether pictures of this side leave a map of one pixel or more behind every block."""
    height = width = side
    for block in (block for stage in stages for block in stage.blocks):
        height, width = outputs(block.branches[0], (height,))[0][0][0], outputs(block.branches[0], (width,))[0][1][0]
        if min(height, width) < 1:
            return False
    return True


def stride_of(block: Mixed) -> int:
    """By how much a block divides the resolution; the same for all branches."""
    branch = block.branches[0]
    way = (*branch.units, *branch.fork[:1])
    return math.prod(unit.stride for unit in way) * (2 if branch.pool == "max" else 1)


def width_of(block: Mixed, c_in: int) -> int:
    """Output channels of a block."""
    if block.scale is not None:
        return c_in
    return sum(branch_width(branch, c_in) for branch in block.branches)


def branch_width(branch: Branch, c_in: int) -> int:
    """Output channels of a branch; those of a bare pool are its input's."""
    if branch.fork:
        return sum(unit.width for unit in branch.fork)
    return branch.units[-1].width if branch.units else c_in


class ConvUnit(nn.Module):
    """Convolution, norm, activation."""

    def __init__(self, unit: Unit, c_in: int, layers: Layers):
        super().__init__()
        padding = 0 if unit.valid else None
        self.conv = layers.make_conv(c_in, unit.width, unit.kernel, stride=unit.stride, padding=padding)
        self.bn = layers.make_norm(unit.width)  # "bn" whatever the norm: the name in public checkpoints
        self.act = layers.make_act(unit.width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (N, c_in, H, W) -> (N, width, H', W')
        return self.act(self.bn(self.conv(x)))


class Concat(nn.ModuleList):
    """Modules that all see x; their maps one behind the other in the channels."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (N, c_in, H, W) -> (N, sum of widths, H', W')
        maps = [member(x) for member in self]
        return torch.cat(maps, 1) if len(maps) > 1 else maps[0]


class Chain(nn.Module):
    """A branch: pool, units in a row, fork."""

    def __init__(self, branch: Branch, c_in: int, layers: Layers, count_padding: bool):
        super().__init__()
        self.pool = make_pool(branch.pool, count_padding)
        widths = [c_in, *(unit.width for unit in branch.units)]
        self.units = nn.Sequential(*(ConvUnit(u, c, layers) for u, c in zip(branch.units, widths, strict=False)))
        fork = [ConvUnit(unit, widths[-1], layers) for unit in branch.fork]
        self.fork = Concat(fork) if fork else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (N, c_in, H, W) -> (N, branch_width, H', W')
        return self.fork(self.units(self.pool(x)))


class InceptionBlock(nn.Module):
    """Branches side by side, concatenated; then the gate, where there is more than one branch (arXiv:1709.01507)."""

    def __init__(self, block: Mixed, c_in: int, layers: Layers, count_padding: bool):
        super().__init__()
        width = width_of(block, c_in)
        self.branches = Concat([Chain(branch, c_in, layers, count_padding) for branch in block.branches])
        self.attn = layers.make_attn(width, width) if len(block.branches) > 1 else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (N, c_in, H, W) -> (N, width_of, H', W')
        return self.attn(self.branches(x))


class ResidualBlock(nn.Module):
    """act(x + scale * up(branches)): up is a 1x1 convolution with bias and no norm; the gate stands behind it."""

    def __init__(self, block: Mixed, c_in: int, layers: Layers, count_padding: bool):
        super().__init__()
        assert block.scale is not None
        self.branches = Concat([Chain(branch, c_in, layers, count_padding) for branch in block.branches])
        width = sum(branch_width(branch, c_in) for branch in block.branches)
        self.up = layers.make_conv(width, c_in, 1, bias=True)
        self.attn = layers.make_attn(c_in, c_in)
        self.scale = float(block.scale)
        self.act = layers.make_act(c_in) if block.act else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (N, c_in, H, W) -> same
        y = self.attn(self.up(self.branches(x)))
        return self.act(x + self.scale * y)


class AuxHead(nn.Module):
    """Mean of 5x5 at stride 3, 1x1, 5x5 without padding, mean over positions, linear. arXiv:1512.00567 section 4."""

    side = 17  # of the smallest map: its pool leaves 5x5, what the second convolution needs

    def __init__(self, c_in: int, widths: tuple[int, int], num_classes: int, layers: Layers):
        super().__init__()
        self.pool = nn.AvgPool2d(5, 3)
        self.conv0 = ConvUnit(Unit(widths[0]), c_in, layers)
        self.conv1 = ConvUnit(Unit(widths[1], 5, valid=True), widths[0], layers)
        self.fc = nn.Linear(widths[1], num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (N, c_in, 17 or more, 17 or more) -> (N, num_classes)
        if min(x.shape[2:]) < self.side:
            raise ConfigError(
                f"aux: the auxiliary head needs a map of {self.side}x{self.side} or more (pictures of about 299 pixels)"
                f" and got {x.shape[2]}x{x.shape[3]}; feed larger pictures or set aux = False"
            )
        return self.fc(self.conv1(self.conv0(self.pool(x))).mean((2, 3)))


class Embedding(nn.Module):
    """Linear, norm: facenet's bottleneck in front of the classifier. The norm stands in for the bias."""

    def __init__(self, c_in: int, width: int, layers: Layers):
        super().__init__()
        self.fc = nn.Linear(c_in, width, bias=layers.norm == "none")
        self.bn = for_pooled(layers.make_norm(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (N, c_in) -> (N, width)
        return self.bn(self.fc(x)[:, :, None, None]).flatten(1)


def make_pool(pool: str, count_padding: bool) -> nn.Module:
    """The pool in front of a branch. count_padding: a mean at the border counts the zeros around the map."""
    if pool == "none":
        return nn.Identity()
    return nn.MaxPool2d(3, 2) if pool == "max" else nn.AvgPool2d(3, 1, padding=1, count_include_pad=count_padding)


def make_block(block: Mixed, c_in: int, layers: Layers, count_padding: bool) -> nn.Module:
    """The module of a record."""
    kind = InceptionBlock if block.scale is None else ResidualBlock
    return kind(block, c_in, layers, count_padding)
