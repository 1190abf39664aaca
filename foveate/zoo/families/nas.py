"""The nets of Neural Architecture Search, arXiv:1611.01578 section 3.2: convolutions, each with any earlier ones as
inputs.

A layer is convolution, norm, activation. Its inputs are concatenated along channels; a layer without inputs takes the
picture; the outputs that no layer reads are concatenated for the classifier; where sizes differ the smaller maps are
padded with zeros to the largest, behind their last row and column (the paper does not say on which side).

The paper prints its nets in a figure without numbers for the skips, and no library has them: the keys are our own, and
the variant is a small example of the kind, not a published net.
"""

import functools
from collections.abc import Sequence
from dataclasses import KW_ONLY
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import nn

from foveate.config import Kernel, Pixels, Stride, Width, record
from foveate.errors import ConfigError
from foveate.layers import Layers
from foveate.layers.tracing import larger
from foveate.zoo.family import Config, Family, Network, Published
from foveate.zoo.frame import init_convs

MAX_WIDTH = 65_536  # channels that a layer or the classifier may read


@record
class Node:
    """One layer of the net."""

    width: Width  # filters
    kernel: tuple[Kernel, Kernel] = (3, 3)  # height, width; odd
    stride: tuple[Stride, Stride] = (1, 1)
    inputs: tuple[Annotated[int, Field(ge=0, le=254)], ...] = ()  # numbers of earlier layers, rising; (): the picture
    pool: bool = False  # a 2x2 maximum behind it (the paper's third net has two)
    layers: Layers | None = None  # in place of the net's layers here

    def __post_init__(self) -> None:
        if any(k % 2 == 0 for k in self.kernel):
            raise ConfigError(f"Node.kernel = {self.kernel}: both must be odd (1, 3, 5, 7)")
        if list(self.inputs) != sorted(set(self.inputs)):
            raise ConfigError(f"Node.inputs = {self.inputs}: expected different numbers, rising")


@record
class NASConfig(Config):
    """Layers in order. Defaults are those of CIFAR-10."""

    nodes: Annotated[tuple[Node, ...], Field(min_length=1, max_length=255)]
    family: Literal["nas"] = "nas"
    _: KW_ONLY
    num_classes: Width = 10
    resolution: Pixels = 32

    def __post_init__(self) -> None:
        for i, node in enumerate(self.nodes):
            if node.inputs and node.inputs[-1] >= i:
                raise ConfigError(f"NASConfig.nodes.{i}.inputs = {node.inputs}: expected numbers of layers before it")
        widest = max(self.reads(inputs) for inputs in (*(n.inputs for n in self.nodes), self.unread))
        if widest > MAX_WIDTH:
            raise ConfigError(f"NASConfig.nodes: {widest:,} channels side by side; at most {MAX_WIDTH:,}")

    @property
    def unread(self) -> tuple[int, ...]:
        """The layers that no layer reads: what the classifier sees. The last one is always among them."""
        read = {i for node in self.nodes for i in node.inputs}
        return tuple(i for i in range(len(self.nodes)) if i not in read)

    def reads(self, inputs: Sequence[int]) -> int:
        """Channels of several layers side by side; of none: the picture's."""
        return sum(self.nodes[i].width for i in inputs) if inputs else self.in_chans


def side_by_side(maps: Sequence[torch.Tensor]) -> torch.Tensor:
    """Maps (N, C_i, H_i, W_i) -> (N, sum C_i, max H_i, max W_i), with zeros behind the smaller ones."""
    height, width = (functools.reduce(larger, [m.shape[i] for m in maps]) for i in (-2, -1))
    return torch.cat([F.pad(m, (0, width - m.shape[-1], 0, height - m.shape[-2])) for m in maps], dim=1)


class Layer(nn.Module):
    """Convolution, norm, activation, gate, pool. (N, c_in, H, W) -> (N, width, ceil(H / stride), ceil(W / stride))."""

    def __init__(self, layers: Layers, node: Node, c_in: int):
        super().__init__()
        high, wide = node.stride
        self.conv = layers.make_conv(c_in, node.width, node.kernel, stride=high if high == wide else 1)
        self.every = (1, 1)
        if high != wide and type(self.conv) is nn.Conv2d:
            self.conv.stride = node.stride
        elif high != wide:  # the other units know one stride for both axes: the whole map is made and thinned out
            self.every = node.stride
        self.bn = layers.make_norm(node.width)
        self.act = layers.make_act(node.width)
        self.attn = layers.make_attn(node.width, c_in)  # not in the paper: the slot of a layer's end
        self.pool = nn.MaxPool2d(2, ceil_mode=True) if node.pool else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)[:, :, :: self.every[0], :: self.every[1]]
        return self.pool(self.attn(self.act(self.bn(y))))


class NASNetwork(Network):
    """The layers, mean over positions of all that nothing reads, linear classifier."""

    def __init__(self, config: NASConfig):
        super().__init__()
        self.nodes = nn.ModuleList(
            Layer(node.layers or config.layers, node, config.reads(node.inputs)) for node in config.nodes
        )
        self.inputs = tuple(node.inputs for node in config.nodes)
        self.unread = config.unread
        self.num_features = config.reads(config.unread)
        self.classifier = nn.Linear(self.num_features, config.num_classes)
        init_convs(self)

    def outputs(self, x: torch.Tensor) -> list[torch.Tensor]:
        """What every layer gives."""
        found: list[torch.Tensor] = []
        for layer, inputs in zip(self.nodes, self.inputs, strict=True):
            found.append(layer(side_by_side([found[i] for i in inputs]) if inputs else x))
        return found

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:  # (N, in_chans, H, W) -> (N, num_features, h, w)
        found = self.outputs(x)
        return side_by_side([found[i] for i in self.unread])

    def feature_maps(self, x: torch.Tensor) -> list[torch.Tensor]:
        """The last map of every size above that of the features, finest first; then forward_features(x)."""
        found = self.outputs(x)
        last = side_by_side([found[i] for i in self.unread])
        sizes = {m.shape[-1]: m for m in found if m.shape[-1] > last.shape[-1] and m.shape[-2] > last.shape[-2]}
        return [*(sizes[size] for size in sorted(sizes, reverse=True)), last]

    def forward_head(self, features: torch.Tensor) -> torch.Tensor:  # (N, num_features, h, w) -> (N, num_classes)
        return self.classifier(features.mean((2, 3)))


VARIANTS = {
    # six layers, as the paper's search begins, with pools and skips of our choice
    "nas_example_cifar": NASConfig(
        (
            Node(36),
            Node(48, (3, 5), inputs=(0,), pool=True),
            Node(36, (5, 3), inputs=(1,)),
            Node(48, inputs=(1, 2), pool=True),
            Node(48, (1, 7), inputs=(3,)),
            Node(64, (7, 1), inputs=(3, 4)),
        )
    )
}
PUBLISHED = {
    "nas_example_cifar": Published(
        "Neural Architecture Search with Reinforcement Learning", "1611.01578", resize=32, resolution=32
    )
}
TINY = NASConfig((Node(8), Node(8, (3, 1), (2, 2), (0,)), Node(12, (1, 5), (1, 1), (0, 1))))

FAMILY = Family(
    NASConfig,
    NASNetwork,
    VARIANTS,
    ("classifier.",),
    {},
    PUBLISHED,
    tiny=TINY,
)
