"""VGG, arXiv:1409.1556: stages of 3x3 convolutions with a 2x2 maximum after each; plain, with batch norm, for CIFAR.

Keys are torchvision's (features.N, classifier.0, 3, 6): a norm takes a number of its own where there is one. Gates,
which torchvision lacks, take none (features.se1).
"""

from collections import OrderedDict
from dataclasses import KW_ONLY
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import nn

from foveate.config import Probability, Width, record, replace
from foveate.layers import Layers
from foveate.zoo.family import Config, Family, Network, Published, check_blocks

MAX_CONVS = 1024  # in all stages together; VGG-19 has 16

Grid = Annotated[int, Field(ge=1, le=32)]


@record
class Stage:
    """3x3 convolutions of one resolution. The depth is len(widths)."""

    widths: Annotated[tuple[Width, ...], Field(min_length=1, max_length=1024)]  # output channels of each convolution
    layers: Layers | None = None  # in place of the net's layers in this stage


@record
class VGGConfig(Config):
    """A VGG. Defaults: the paper's, without norms and with a bias everywhere. layers.norm = "batch_norm" adds norms and
    keeps the biases, as torchvision does; conv = "conv2d" drops them.
    """

    stages: Annotated[tuple[Stage, ...], Field(min_length=1, max_length=12)]
    family: Literal["vgg"] = "vgg"
    # conv-norm-act; norm-conv-act, for norms that whiten (see make_features)
    order: Literal["post", "white"] = "post"
    last_pool: bool = True  # a maximum after the last stage too
    # after a stage: 2x2 maximum; 2x2 mean; none, but the stage's last convolution strides (arXiv:1412.6806 table 1)
    pool: Literal["max", "avg", "stride"] = "max"
    grid: Grid = 7  # the last map is averaged to grid x grid positions in front of the linear layers
    hidden: Annotated[tuple[Width, ...], Field(max_length=2)] = (4096, 4096)  # hidden linear layers
    dropout: Probability = 0.5  # behind each hidden linear layer
    _: KW_ONLY
    layers: Layers = Layers(norm="none", conv="conv2d_bias")

    def __post_init__(self) -> None:
        check_blocks(self, sum(len(s.widths) for s in self.stages), "convolutions", MAX_CONVS)


class VGG(Network):
    """Stages of conv-norm-act-gate with 2x2 maxima between, then linear layers on grid x grid positions.

    x: (N, in_chans, H, W) -> logits (N, num_classes).
    """

    def __init__(self, config: VGGConfig):
        super().__init__()
        self.features, self.halving = make_features(config)
        self.num_features = config.stages[-1].widths[-1]
        self.avgpool = nn.AdaptiveAvgPool2d(config.grid)
        self.classifier = make_classifier(config, self.num_features * config.grid**2)
        self.init_weights()

    def init_weights(self) -> None:
        """As in torchvision: Kaiming normal by fan-out for convolutions, deviation 0.01 for linear layers, biases 0.

        The paper trained its 11 layers first and began the deeper nets with them; with this start that is not needed.
        """
        for part in (*self.features, *self.classifier):
            if type(part) is nn.Conv2d:
                nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
            elif type(part) is nn.Linear:
                nn.init.normal_(part.weight, std=0.01)
            else:
                continue
            if part.bias is not None:
                nn.init.zeros_(part.bias)

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:  # (N, in_chans, H, W) -> (N, num_features, h, w)
        return self.features(x)

    def forward_head(self, features: torch.Tensor) -> torch.Tensor:  # (N, num_features, h, w) -> (N, num_classes)
        return self.classifier(self.avgpool(features).flatten(1))

    def feature_maps(self, x: torch.Tensor) -> list[torch.Tensor]:
        """The last map of every stride, finest first: 64, 128, 256, 512, 512, 512 channels at strides 1 to 32.

        The last one is forward_features(x), behind the last maximum where there is one, and behind the last norm in
        white order.
        """
        maps = []
        for name, part in self.features.named_children():
            if name in self.halving and name != "0":  # number 0 reads the picture, which is no feature map
                maps.append(x)
            x = part(x)
        return [*maps, x]


def make_features(config: VGGConfig) -> tuple[nn.Sequential, set[str]]:
    """The convolutional part under torchvision's numbers, and which of its parts halve the map.

    White order is that of arXiv:2108.10629, which has no VGG in its public code: a norm right before each convolution
    but the first, for the picture is not whitened, and one more at the end, for the linear layers.
    """
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    halving: set[str] = set()
    c_in, n = config.in_chans, 0  # n: torchvision's number of the next part
    for i, stage in enumerate(config.stages, start=1):
        layers = stage.layers or config.layers
        shrinks = i < len(config.stages) or config.last_pool
        for j, width in enumerate(stage.widths, start=1):
            if config.order == "white" and parts:
                n = add_norm(parts, n, layers, c_in)
            strides = shrinks and config.pool == "stride" and j == len(stage.widths)
            parts[f"{n}"] = layers.make_conv(c_in, width, 3, stride=2 if strides else 1)
            halving |= {f"{n}"} if strides else set()
            n += 1
            if config.order == "post":
                n = add_norm(parts, n, layers, width)
            parts[f"{n}"] = layers.make_act(width)
            parts[f"se{n}"] = layers.make_attn(width, width)
            c_in, n = width, n + 1
        if shrinks and config.pool != "stride":
            parts[f"{n}"] = nn.MaxPool2d(2, 2) if config.pool == "max" else nn.AvgPool2d(2, 2)
            halving.add(f"{n}")
            n += 1
    if config.order == "white":
        add_norm(parts, n, config.stages[-1].layers or config.layers, c_in)
    return nn.Sequential(parts), halving


def add_norm(parts: dict[str, nn.Module], n: int, layers: Layers, channels: int) -> int:
    """Adds the norm, if there is one, as number n; the number of the part that comes next."""
    norm = layers.make_norm(channels)
    if isinstance(norm, nn.Identity):
        return n
    parts[f"{n}"] = norm
    return n + 1


def make_classifier(config: VGGConfig, c_in: int) -> nn.Sequential:
    """Linear, activation, dropout for each hidden width; the last linear layer is number 6, as in torchvision, however
    many stand before it.
    """
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    for i, width in enumerate(config.hidden):
        parts[f"{3 * i}"] = nn.Linear(c_in, width)
        parts[f"{3 * i + 1}"] = config.layers.make_act(width)
        parts[f"{3 * i + 2}"] = nn.Dropout(config.dropout)
        c_in = width
    parts["6"] = nn.Linear(c_in, config.num_classes)
    return nn.Sequential(parts)


DEPTHS = {  # convolutions of each stage: configurations A, B, D, E of table 1
    11: (1, 1, 2, 2, 2),
    13: (2, 2, 2, 2, 2),
    16: (2, 2, 3, 3, 3),
    19: (2, 2, 4, 4, 4),
}
WIDTHS = (64, 128, 256, 512, 512)


def imagenet(depth: int) -> VGGConfig:
    """Five stages and three linear layers for 224 pixels."""
    return VGGConfig(tuple(Stage((width,) * n) for width, n in zip(WIDTHS, DEPTHS[depth], strict=True)))


def normed(config: VGGConfig) -> VGGConfig:
    """The same net with a batch norm behind every convolution."""
    return replace(config, layers=replace(config.layers, norm="batch_norm"))


def cifar(depth: int) -> VGGConfig:
    """For 32 pixels, as pruned in "Network Slimming" (arXiv:1708.06519): batch norms, no convolution biases, no maximum
    after the last stage but the mean over its positions, one linear layer. Other papers keep the last maximum (same
    counts) or add a hidden layer of 512: hidden=(512,).
    """
    small = replace(imagenet(depth), last_pool=False, grid=1, hidden=(), dropout=0.0, layers=Layers())
    return replace(small, num_classes=10, resolution=32)


VARIANTS: dict[str, VGGConfig] = {
    **{f"vgg{d}": imagenet(d) for d in DEPTHS},
    **{f"vgg{d}_bn": normed(imagenet(d)) for d in DEPTHS},
    **{f"vgg{d}_bn_cifar": cifar(d) for d in DEPTHS},
    "ghost_vgg16_cifar": replace(cifar(16), hidden=(512,), layers=Layers(conv="ghost")),  # arXiv:1911.11907
}


def from_timm(key: str) -> str:
    """A key of a timm checkpoint as ours. timm stores two linear layers as convolutions: pre_logits.fc1.weight is
    (4096, 512, 7, 7), pre_logits.fc2.weight (4096, 4096, 1, 1); flatten(1) of each is ours.
    """
    for theirs, ours in (("pre_logits.fc1.", "classifier.0."), ("pre_logits.fc2.", "classifier.3.")):
        key = key.replace(theirs, ours)
    return key.replace("head.fc.", "classifier.6.")


PAPER = Published("Very Deep Convolutional Networks for Large-Scale Image Recognition", "1409.1556")
TORCHVISION = {  # name -> (class of its weights, top-1 of IMAGENET1K_V1)
    "vgg11": ("VGG11", 69.020),
    "vgg13": ("VGG13", 69.928),
    "vgg16": ("VGG16", 71.592),
    "vgg19": ("VGG19", 72.376),
    "vgg11_bn": ("VGG11_BN", 70.370),
    "vgg13_bn": ("VGG13_BN", 71.586),
    "vgg16_bn": ("VGG16_BN", 73.360),
    "vgg19_bn": ("VGG19_BN", 74.218),
}
SMALL = replace(PAPER, resize=32, resolution=32)
PUBLISHED: dict[str, Published] = {
    **{
        name: replace(
            PAPER, top1=top1, source="torchvision IMAGENET1K_V1", weights=f"torchvision {w}_Weights.IMAGENET1K_V1"
        )
        for name, (w, top1) in TORCHVISION.items()
    },
    **{f"vgg{d}_bn_cifar": SMALL for d in DEPTHS},
    "ghost_vgg16_cifar": Published(
        "GhostNet: More Features from Cheap Operations",
        "1911.11907",
        93.7,
        "paper, table of CIFAR-10",
        resize=32,
        resolution=32,
    ),
    "vgg19_bn_cifar": replace(SMALL, top1=93.77, source="authors' repository network-slimming, baseline"),
}

TINY = VGGConfig((Stage((8,)), Stage((16, 8))), grid=2, hidden=(16,))

FAMILY = Family(
    VGGConfig,
    VGG,
    VARIANTS,
    ("classifier.6.",),
    {"timm": from_timm},
    PUBLISHED,
    tiny=TINY,
)
