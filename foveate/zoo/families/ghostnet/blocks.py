"""The records of the GhostNet family and its parts: the Ghost module, its attention, units of several branches."""

import math
from dataclasses import KW_ONLY
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import nn

from foveate.config import Kernel, Probability, Stride, Width, record
from foveate.errors import ConfigError
from foveate.layers import Layers
from foveate.layers.tracing import smaller
from foveate.zoo.family import MAX_BLOCKS, Config, check_blocks


@record
class Block:
    """One Ghost bottleneck."""

    mid: Width  # channels between its two Ghost modules
    width: Width  # output channels
    gate: bool = False  # whether it has the net's attn, before the second Ghost module
    dfc: bool = False  # whether its first Ghost module has the long-range attention of GhostNetV2


@record
class Stage:
    """Blocks of one resolution."""

    blocks: Annotated[tuple[Block, ...], Field(min_length=1, max_length=MAX_BLOCKS)]
    kernel: Kernel = 3  # of the depthwise convolutions of a stride and of a shortcut; odd
    stride: Stride = 1  # of the first block
    layers: Layers | None = None  # in place of the net's layers in this stage

    def __post_init__(self) -> None:
        if self.kernel % 2 == 0:
            raise ConfigError(f"Stage.kernel = {self.kernel}: must be odd (3, 5, 7)")


@record
class GhostNetConfig(Config):
    """A GhostNet of any version. Widths are absolute; scale() makes wider ones.

    form: what stands where a Ghost module or a stride has a convolution. "plain": convolution and norm (versions 1 and
    2). "branches": `branches` of these in parallel, with a 1x1 one and a norm of the input where it is depthwise
    (version 3 in training). "fused": one convolution with a bias, to which the branches add up after training.
    """

    stages: Annotated[tuple[Stage, ...], Field(min_length=1, max_length=64)]
    family: Literal["ghostnet"] = "ghostnet"
    stem: Width = 16
    last: Width = 960  # the 1x1 convolution behind the stages
    head: Width = 1280  # hidden channels of the classifier
    ratio: Annotated[int, Field(ge=2, le=16)] = 2  # s of the paper: one in s maps is made by a full convolution
    cheap_kernel: Kernel = 3  # d of the paper: of the depthwise convolutions that make the others; odd
    form: Literal["plain", "branches", "fused"] = "plain"
    branches: Annotated[int, Field(ge=1, le=16)] = 3
    dropout: Probability = 0.2  # before the classifier
    _: KW_ONLY
    layers: Layers = Layers(attn="se(ratio=0.25, divisor=4, gate='hard_sigmoid')")

    def __post_init__(self) -> None:
        check_blocks(self, sum(len(s.blocks) for s in self.stages))
        if self.cheap_kernel % 2 == 0:
            raise ConfigError(f"GhostNetConfig.cheap_kernel = {self.cheap_kernel}: must be odd (3, 5, 7)")


class Branches(nn.Module):
    """act(sum of parallel convolution-norms + their 1x1 + norm of x): one convolution once it is trained.

    Figure 2 of arXiv:2404.11202. The 1x1 stands beside kernels above 1, the norm of x where a depthwise convolution
    keeps the shape. The authors' code also has a norm of x beside a 1x1 of equal widths, which no published net has.
    """

    def __init__(
        self,
        config: GhostNetConfig,
        layers: Layers,
        c_in: int,
        c_out: int,
        kernel: int,
        *,
        stride: int,
        depthwise: bool,
        act: bool,
    ):
        super().__init__()
        groups = c_in if depthwise else 1

        def branch(k: int) -> nn.Sequential:
            conv = layers.make_conv(c_in, c_out, k, stride=stride, groups=groups)
            return nn.Sequential(conv, layers.make_norm(c_out))

        self.convs = nn.ModuleList(branch(kernel) for _ in range(config.branches))
        self.scale = branch(1) if kernel > 1 else None
        self.skip = layers.make_norm(c_out) if depthwise and stride == 1 and c_in == c_out else None
        self.act = layers.make_act(c_out) if act else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (N, c_in, H, W) -> (N, c_out, H/stride, W/stride)
        y = self.convs[0](x)
        for conv in self.convs[1:]:
            y = y + conv(x)
        if self.scale is not None:
            y = y + self.scale(x)
        if self.skip is not None:
            y = y + self.skip(x)
        return self.act(y)

    def folded(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Weight and bias of the one convolution that all branches are, with their norms' running statistics."""
        pairs = [tuple(branch.children()) for branch in self.convs]
        parts = [fold(conv.get_parameter("weight"), norm) for conv, norm in pairs]
        like = parts[0][0]  # (c_out, c_in / groups, k, k)
        if self.scale is not None:
            parts.append(fold(centred(self.scale[0].get_parameter("weight"), like), self.scale[1]))
        if self.skip is not None:
            parts.append(fold(centred(torch.ones_like(like[:, :, :1, :1]), like), self.skip))
        return sum((w for w, _ in parts[1:]), like), sum((b for _, b in parts[1:]), parts[0][1])


def centred(weight: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """A 1x1 kernel in the middle of zeros, of the size of another kernel."""
    pad = like.shape[-1] // 2
    return F.pad(weight, (pad, pad, pad, pad))


def fold(weight: torch.Tensor, norm: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    """A convolution without bias and the batch norm behind it, as weight and bias of one convolution."""
    if not isinstance(norm, nn.BatchNorm2d) or norm.running_mean is None or norm.running_var is None:
        raise ConfigError(f"{type(norm).__name__}: only batch norms fold into convolutions")
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    return weight * scale.view(-1, 1, 1, 1), norm.bias - norm.running_mean * scale


def make_unit(
    config: GhostNetConfig,
    layers: Layers,
    c_in: int,
    c_out: int,
    kernel: int,
    *,
    stride: int = 1,
    depthwise: bool = False,
    act: bool = True,
) -> nn.Module:
    """(N, c_in, H, W) -> (N, c_out, H/stride, W/stride): convolution, norm, activation in the form of the config."""
    if config.form == "branches":
        return Branches(config, layers, c_in, c_out, kernel, stride=stride, depthwise=depthwise, act=act)
    fused = config.form == "fused"
    conv = layers.make_conv(c_in, c_out, kernel, stride=stride, groups=c_in if depthwise else 1, bias=fused)
    norm = [] if fused else [layers.make_norm(c_out)]
    return nn.Sequential(conv, *norm, layers.make_act(c_out) if act else nn.Identity())


class GhostModule(nn.Module):
    """1x1 to ceil(c_out / ratio) intrinsic maps, depthwise ghosts of these, both side by side, cut to c_out.

    arXiv:1911.11907 figure 2; norm and activation behind both convolutions, as in the authors' code. dfc: multiplied
    by the gate of arXiv:2211.12905 section 3.3: x at half size, a 1x1, then depthwise 1x5 and 5x1 convolutions, which
    stand for rows and columns of fully connected weights, sigmoid, repeated to the full size. At the full size a map
    of one pixel stays one pixel (the authors' code can not take it).
    """

    def __init__(
        self, config: GhostNetConfig, layers: Layers, c_in: int, c_out: int, *, act: bool = True, dfc: bool = False
    ):
        super().__init__()
        self.c_out = c_out
        m, k = math.ceil(c_out / config.ratio), config.cheap_kernel
        self.primary_conv = make_unit(config, layers, c_in, m, 1, act=act)
        self.cheap_operation = make_unit(config, layers, m, m * (config.ratio - 1), k, depthwise=True, act=act)
        self.short_conv = None
        if dfc:
            self.short_conv = nn.Sequential(
                layers.make_conv(c_in, c_out, 1),
                layers.make_norm(c_out),
                layers.make_conv(c_out, c_out, (1, 5), groups=c_out),
                layers.make_norm(c_out),
                layers.make_conv(c_out, c_out, (5, 1), groups=c_out),
                layers.make_norm(c_out),
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (N, c_in, H, W) -> (N, c_out, H, W)
        y = self.primary_conv(x)
        y = torch.cat((y, self.cheap_operation(y)), 1)[:, : self.c_out]
        if self.short_conv is None:
            return y
        h, w = x.shape[-2:]
        gate = self.short_conv(F.avg_pool2d(x, (smaller(h, 2), smaller(w, 2)))).sigmoid()  # (N, c_out, H/2, W/2)
        return y * F.interpolate(gate, size=(h, w), mode="nearest")


class GhostBottleneck(nn.Module):
    """Ghost module, depthwise convolution where there is a stride, gate, Ghost module without activation; + shortcut.

    arXiv:1911.11907 figure 3. The shortcut is x, or depthwise and 1x1 convolutions where shapes differ. No activation
    behind the sum.
    """

    def __init__(self, config: GhostNetConfig, stage: Stage, block: Block, *, c_in: int, stride: int):
        super().__init__()
        layers, mid, width, k = stage.layers or config.layers, block.mid, block.width, stage.kernel
        self.ghost1 = GhostModule(config, layers, c_in, mid, dfc=block.dfc)
        self.conv_dw: nn.Module = nn.Identity()
        if stride > 1:
            self.conv_dw = make_unit(config, layers, mid, mid, k, stride=stride, depthwise=True, act=False)
        self.se = layers.make_attn(mid, mid) if block.gate else nn.Identity()
        self.ghost2 = GhostModule(config, layers, mid, width, act=False)
        self.shortcut = None
        if stride > 1 or c_in != width:
            self.shortcut = nn.Sequential(
                layers.make_conv(c_in, c_in, k, stride=stride, groups=c_in),
                layers.make_norm(c_in),
                layers.make_conv(c_in, width, 1),
                layers.make_norm(width),
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (N, c_in, H, W) -> (N, width, H/stride, W/stride)
        y = self.ghost2(self.se(self.conv_dw(self.ghost1(x))))
        return y + (x if self.shortcut is None else self.shortcut(x))
