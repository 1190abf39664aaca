"""The records of the MobileNet family and its blocks: plain, separable, inverted, fused, universal and attention."""

from collections import OrderedDict
from dataclasses import KW_ONLY, dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import nn

from foveate.config import Count, NonNegative, Probability, Stride, Width, record, replace
from foveate.errors import ConfigError
from foveate.layers import Layers
from foveate.layers.drop import DropPath
from foveate.layers.same import Padding, padding_for
from foveate.zoo.families.shufflenet import Shuffle
from foveate.zoo.family import MAX_BLOCKS, Config, check_blocks
from foveate.zoo.mbconv import InvertedBranch, SeparableBranch

OptionalKernel = Annotated[int, Field(ge=0, le=31)]  # 0: the convolution is left out


@record
class Block:
    """One block of convolutions; what stands where, by kind (dw: depthwise; [...]: only where it is asked for).

    conv       k x k, norm, act, gate
    separable  dw k x k, norm, act, gate, 1x1, norm, act                                           v1
    inverted   [1x1 to mid, norm, act,] dw k x k, norm, act, gate, 1x1, norm                       v2, v3
    fused      k x k to mid, norm, act, gate, 1x1, norm                                            v4
    universal  [dw lead, norm,] 1x1 to mid, norm, act, [dw k x k, norm, act,] gate, 1x1, norm      v4

    Inverted, fused and universal blocks add their input where shapes agree. The stride is on the k x k convolution; a
    universal block without one strides in its leading convolution.
    """

    kind: Literal["conv", "separable", "inverted", "fused", "universal"]
    width: Width  # output channels
    kernel: OptionalKernel = 3  # k, odd; 0 only in a universal block
    stride: Stride = 1
    mid: Width | None = None  # inner channels; an inverted block without them has no expanding convolution
    lead: OptionalKernel = 0  # kernel of a universal block's leading depthwise convolution, odd; 0: none
    groups: Count = 1  # of both 1x1 of an inverted block; above 1 a shuffle stands behind the first (FBNet)
    skip: bool = True  # False: the input is not added
    act: str | None = None  # in place of the net's
    attn: str | None = None  # in place of the net's

    def __post_init__(self) -> None:
        universal = self.kind == "universal"
        if self.kernel % 2 == 0 and not (universal and self.kernel == 0):
            allowed = "odd, or 0 for none" if universal else "odd (1, 3, 5, 7)"
            raise ConfigError(f'Block.kernel = {self.kernel}: in a block of kind "{self.kind}" it must be {allowed}')
        if self.lead and (self.lead % 2 == 0 or not universal):
            raise ConfigError(f'Block.lead = {self.lead}: must be 0, or odd in a block of kind "universal"')
        if self.kind in ("conv", "separable") and self.mid is not None:
            raise ConfigError(f'Block.mid = {self.mid}: a block of kind "{self.kind}" has no inner width')
        if self.kind in ("fused", "universal") and self.mid is None:
            raise ConfigError(f'Block.mid = None: a block of kind "{self.kind}" needs from 1 to 65,536 inner channels')
        if self.groups > 1 and (self.kind != "inverted" or self.mid is None):
            raise ConfigError(f'Block.groups = {self.groups}: needs kind "inverted" and mid')
        if self.groups > 1 and (self.width % self.groups or (self.mid or 0) % self.groups):
            raise ConfigError(f"Block.groups = {self.groups}: width and mid must be multiples of it")
        if universal and self.stride > 1 and not (self.kernel or self.lead):
            raise ConfigError(f"Block.stride = {self.stride}: a universal block with kernel = lead = 0 can not stride")


@record
class Attention:
    """Multi-query attention over all positions: many queries, one shared key, one shared value; adds its input."""

    heads: Count
    key: Width  # channels of the query of one head, of the key and of the value
    kind: Literal["attention"] = "attention"
    kv_stride: Stride = 1  # over 1: key and value come from a map so much smaller, by a depthwise convolution
    kernel: OptionalKernel = 3  # of that convolution, odd

    def __post_init__(self) -> None:
        if self.kernel % 2 == 0:
            raise ConfigError(f"Attention.kernel = {self.kernel}: must be odd (3, 5, 7)")
        if self.heads * self.key > 65_536:
            raise ConfigError(f"Attention.heads * key = {self.heads * self.key:,}: at most 65,536 channels")


Blocks = tuple[Annotated[Block | Attention, Field(discriminator="kind")], ...]


@record
class Stage:
    """Blocks in order. Where a stage ends means nothing to the net; keys count blocks by stage."""

    blocks: Annotated[Blocks, Field(min_length=1, max_length=MAX_BLOCKS)]
    layers: Layers | None = None  # in place of the net's layers in this stage


@record
class MobileNetConfig(Config):
    """Any sequence of mobile blocks between a 3x3 stem and a classifier. Defaults are those of MobileNetV2."""

    stages: Annotated[tuple[Stage, ...], Field(min_length=1, max_length=64)]
    family: Literal["mobilenet"] = "mobilenet"
    stem: Width = 32
    stem_stride: Stride = 2
    head: Width | None = 1280  # channels of the last 1x1 convolution; None: the classifier reads the last block (v1)
    head_at: Literal["map", "pool"] = "map"  # that convolution stands before (v2) or after the global average (v3, v4)
    head_norm: bool = True  # False: it has a bias in place of a norm (v3)
    layer_scale: NonNegative = 0.0  # start of a gain a channel that ends universal and attention blocks; 0: no gain
    # odd kernel of every depthwise convolution (arXiv:1907.09595 figure 1: 3 to 11); 0: each has its block's
    depthwise: OptionalKernel = 0
    padding: Padding = "symmetric"  # "same": TensorFlow's
    dropout: Probability = 0.2  # before the classifier
    drop_path: Probability = 0.0  # stochastic depth of a block past the last one; block i of n has drop_path * i / n
    _: KW_ONLY
    layers: Layers = Layers("batch_norm", "relu6")

    def __post_init__(self) -> None:
        check_blocks(self, sum(len(s.blocks) for s in self.stages))
        if self.depthwise and self.depthwise % 2 == 0:
            raise ConfigError(f"MobileNetConfig.depthwise = {self.depthwise}: must be odd (3, 5, 7), or 0")

    @property
    def foldable(self) -> bool:
        """Whether every norm stands right behind a convolution: attention and some gates have others."""
        gates = {None, "none", "se", "eca"}
        blocks = [block for stage in self.stages for block in stage.blocks]
        return all(isinstance(b, Block) and (b.attn and b.attn.partition("(")[0]) in gates for b in blocks)


class LayerScale(nn.Module):
    """gamma * x, one gain a channel. arXiv:2103.17239."""

    def __init__(self, channels: int, start: float):
        super().__init__()
        self.gamma = nn.Parameter(torch.full((channels,), start))

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (N, channels, H, W) -> same
        return x * self.gamma.view(1, -1, 1, 1)


def make_scale(channels: int, start: float) -> nn.Module:
    """The gain at the end of a block, or none."""
    return LayerScale(channels, start) if start else nn.Identity()


@dataclass(frozen=True)
class Site:
    """What a block is told of its place in the net."""

    c_in: int
    layers: Layers  # with the block's own activation and gate
    padding: Padding
    layer_scale: float
    drop: float  # rate of stochastic depth

    def skip(self, block: Block) -> DropPath | None:
        """Stochastic depth of the branch where the input is added to it, else None."""
        same = block.skip and block.stride == 1 and block.width == self.c_in
        return DropPath(self.drop) if same else None


class Conv(nn.Module):
    """k x k convolution, norm, activation, gate."""

    def __init__(self, block: Block, site: Site):
        super().__init__()
        layers, c_out = site.layers, block.width
        self.pad, padding = padding_for(site.padding, block.kernel, block.stride)
        self.conv = layers.make_conv(site.c_in, c_out, block.kernel, stride=block.stride, padding=padding)
        self.bn1 = layers.make_norm(c_out)
        self.act1 = layers.make_act(c_out)
        self.se = layers.make_attn(c_out, c_out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (N, c_in, H, W) -> (N, width, H/stride, W/stride)
        return self.se(self.act1(self.bn1(self.conv(self.pad(x)))))


class Separable(SeparableBranch):
    """Depthwise k x k, gate, 1x1; then an activation (kind "separable"), or + x where shapes agree ("inverted")."""

    def __init__(self, block: Block, site: Site):
        c_in, width, k = site.c_in, block.width, block.kernel
        super().__init__(site.layers, site.padding, c_in=c_in, width=width, kernel=k, stride=block.stride)
        plain = block.kind == "separable"
        self.act2 = site.layers.make_act(block.width) if plain else nn.Identity()
        self.drop_path = None if plain else site.skip(block)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (N, c_in, H, W) -> (N, width, H/stride, W/stride)
        y = self.act2(self.branch(x))
        return y if self.drop_path is None else x + self.drop_path(y)


class Inverted(InvertedBranch):
    """1x1 expansion, depthwise k x k, gate, 1x1 projection without activation; + x where shapes agree."""

    def __init__(self, block: Block, site: Site):
        assert block.mid is not None
        c_in, mid, width, k, stride = site.c_in, block.mid, block.width, block.kernel, block.stride
        # the gate's ratio refers to the inner width, not to the input as in EfficientNet
        super().__init__(
            site.layers,
            site.padding,
            c_in=c_in,
            mid=mid,
            width=width,
            kernel=k,
            stride=stride,
            base=mid,
            groups=block.groups,
        )
        if block.groups > 1:
            self.shuffle = Shuffle(block.groups)
        self.drop_path = site.skip(block)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (N, c_in, H, W) -> (N, width, H/stride, W/stride)
        y = self.branch(x)
        return y if self.drop_path is None else x + self.drop_path(y)


class Fused(nn.Module):
    """k x k expansion, gate, 1x1 projection without activation; + x where shapes agree."""

    def __init__(self, block: Block, site: Site):
        super().__init__()
        assert block.mid is not None
        layers, mid, k = site.layers, block.mid, block.kernel
        self.pad, padding = padding_for(site.padding, k, block.stride)
        self.conv_exp = layers.make_conv(site.c_in, mid, k, stride=block.stride, padding=padding)
        self.bn1 = layers.make_norm(mid)
        self.act1 = layers.make_act(mid)
        self.se = layers.make_attn(mid, mid)
        self.conv_pwl = layers.make_conv(mid, block.width, 1)
        self.bn2 = layers.make_norm(block.width)
        self.drop_path = site.skip(block)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (N, c_in, H, W) -> (N, width, H/stride, W/stride)
        y = self.act1(self.bn1(self.conv_exp(self.pad(x))))
        y = self.bn2(self.conv_pwl(self.se(y)))
        return y if self.drop_path is None else x + self.drop_path(y)


class Unit(nn.Module):
    """Convolution, norm, and an activation where asked; depthwise where k > 1."""

    def __init__(self, site: Site, c_in: int, c_out: int, kernel: int = 1, stride: int = 1, act: bool = False):
        super().__init__()
        self.pad, padding = padding_for(site.padding, kernel, stride)
        groups = c_in if kernel > 1 else 1
        self.conv = site.layers.make_conv(c_in, c_out, kernel, stride=stride, padding=padding, groups=groups)
        self.bn = site.layers.make_norm(c_out)
        self.act = site.layers.make_act(c_out) if act else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (N, c_in, H, W) -> (N, c_out, H/stride, W/stride)
        return self.act(self.bn(self.conv(self.pad(x))))


class Universal(nn.Module):
    """The universal inverted bottleneck of arXiv:2404.10518: two optional depthwise convolutions.

    Both: ExtraDW. Only the middle one: inverted bottleneck. Only the leading one: ConvNext-like. None: feed-forward.
    """

    def __init__(self, block: Block, site: Site):
        super().__init__()
        assert block.mid is not None
        c_in, mid, stride = site.c_in, block.mid, block.stride
        lead_stride = 1 if block.kernel else stride
        self.dw_start = Unit(site, c_in, c_in, block.lead, lead_stride) if block.lead else nn.Identity()
        self.pw_exp = Unit(site, c_in, mid, act=True)
        self.dw_mid = Unit(site, mid, mid, block.kernel, stride, act=True) if block.kernel else nn.Identity()
        self.se = site.layers.make_attn(mid, mid)
        self.pw_proj = Unit(site, mid, block.width)
        self.layer_scale = make_scale(block.width, site.layer_scale)
        self.drop_path = site.skip(block)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (N, c_in, H, W) -> (N, width, H/stride, W/stride)
        y = self.dw_mid(self.pw_exp(self.dw_start(x)))
        y = self.layer_scale(self.pw_proj(self.se(y)))
        return y if self.drop_path is None else x + self.drop_path(y)


class MultiQuery(nn.Module):
    """softmax(q k / sqrt(key)) v for many queries of one shared key and value; projections without bias.

    x: (N, C, H, W) -> same shape.  MACs 2 * heads * H * W * positions of the key * key, beside the convolutions.
    """

    def __init__(self, block: Attention, site: Site):
        super().__init__()
        layers, c, self.heads, self.key_width = site.layers, site.c_in, block.heads, block.key

        def shared() -> nn.Sequential:
            parts: OrderedDict[str, nn.Module] = OrderedDict()
            if block.kv_stride > 1:
                parts["pad"], padding = padding_for(site.padding, block.kernel, block.kv_stride)
                parts["down_conv"] = layers.make_conv(
                    c, c, block.kernel, stride=block.kv_stride, padding=padding, groups=c
                )
                parts["norm"] = layers.make_norm(c)
            parts["proj"] = layers.make_conv(c, block.key, 1)
            return nn.Sequential(parts)

        self.query = nn.Sequential(OrderedDict(proj=layers.make_conv(c, block.heads * block.key, 1)))
        self.key = shared()
        self.value = shared()
        self.output = nn.Sequential(OrderedDict(proj=layers.make_conv(block.heads * block.key, c, 1)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (N, C, H, W) -> (N, C, H, W)
        n, _, h, w = x.shape
        heads, width = self.heads, self.key_width
        q = self.query(x).reshape(n, heads, width, h * w).transpose(2, 3).reshape(n, heads * h * w, width)
        k, v = (
            self.key(x).flatten(2),
            self.value(x).flatten(2),
        )  # (N, width, positions)
        y = (q @ k * width**-0.5).softmax(-1) @ v.transpose(1, 2)
        y = y.reshape(n, heads, h * w, width).transpose(2, 3).reshape(n, heads * width, h, w)
        return self.output(y)


class MobileAttention(nn.Module):
    """Mobile MQA of arXiv:2404.10518: x + gain * attention(norm(x))."""

    def __init__(self, block: Attention, site: Site):
        super().__init__()
        self.norm = site.layers.make_norm(site.c_in)
        self.attn = MultiQuery(block, site)
        self.layer_scale = make_scale(site.c_in, site.layer_scale)
        self.drop_path = DropPath(site.drop)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (N, c_in, H, W) -> same
        return x + self.drop_path(self.layer_scale(self.attn(self.norm(x))))


def resized(block: Block, kernel: int) -> Block:
    """The block with this kernel in its depthwise convolutions, which stay where they are; 0: as it is."""
    if not kernel or block.kind in ("conv", "fused"):
        return block
    return replace(block, kernel=kernel if block.kernel else 0, lead=kernel if block.lead else 0)


def make_block(config: MobileNetConfig, stage: Stage, block: Block | Attention, *, c_in: int, drop: float) -> nn.Module:
    """The module of a block. An inverted block without expansion is a separable one with a linear end."""
    layers = stage.layers or config.layers
    if isinstance(block, Block):
        block = resized(block, config.depthwise)
        act, attn = block.act, block.attn
        layers = replace(layers, act=layers.act if act is None else act, attn=layers.attn if attn is None else attn)
    site = Site(c_in, layers, config.padding, config.layer_scale, drop)
    if isinstance(block, Attention):
        return MobileAttention(block, site)
    if block.kind == "inverted":
        return Separable(block, site) if block.mid is None else Inverted(block, site)
    return {"conv": Conv, "separable": Separable, "fused": Fused, "universal": Universal}[block.kind](block, site)
