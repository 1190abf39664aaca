"""AlexNet (NIPS 2012) and its one-tower form (arXiv:1404.5997): five convolutions, three linear layers.

Keys are torchvision's (features.0 to features.10, classifier.1, 4, 6); norms and gates, which it lacks, take no number
(features.norm0, features.se1).
"""

from collections import OrderedDict
from dataclasses import KW_ONLY
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import nn

from foveate.config import Count, Kernel, Positive, Probability, Stride, Width, record, replace
from foveate.errors import ConfigError
from foveate.layers import Layers
from foveate.layers.tracing import smaller
from foveate.zoo.family import Config, Family, Network, Published

Zeros = Annotated[int, Field(ge=0, le=15)]
Grid = Annotated[int, Field(ge=1, le=32)]


@record
class Stage:
    """One convolution and what follows it: norm, activation, gate, LRN, pool."""

    width: Width  # output channels
    kernel: Kernel
    stride: Stride = 1
    padding: Zeros = 0  # on each side
    groups: Count = 1  # 2: the two towers of 2012, each on a GPU of its own
    lrn: bool = False  # local response normalisation behind the activation
    pool: bool = False  # 3x3 stride 2 maximum at the end
    layers: Layers | None = None  # in place of the net's layers here

    def __post_init__(self) -> None:
        if self.width % self.groups:
            raise ConfigError(f"Stage.width = {self.width}: must be a multiple of groups = {self.groups}")


@record
class Lrn:
    """Local response normalisation: x / (k + alpha / size * sum of x^2 over size neighbouring channels)^beta.

    PyTorch and Caffe divide alpha by size; the paper (section 3.3) does not, so that its 1e-4 is 5e-4 here. Caffe's
    networks have k=1 and alpha=1e-4.
    """

    size: Count = 5
    alpha: Positive = 5e-4
    beta: Positive = 0.75
    k: Positive = 2.0


@record
class AlexNetConfig(Config):
    """An AlexNet. Defaults: torchvision's. No norm and a bias everywhere; layers.norm = "batch_norm" adds norms."""

    stages: Annotated[tuple[Stage, ...], Field(min_length=1, max_length=64)]
    family: Literal["alexnet"] = "alexnet"
    lrn: Lrn = Lrn()  # of the stages that have it
    grid: Grid = 6  # the last map is averaged to grid x grid positions in front of the linear layers
    hidden: tuple[Width, Width] = (4096, 4096)  # of the two hidden linear layers
    dropouts: tuple[Probability, Probability, Probability] = (0.5, 0.5, 0.0)  # in front of each linear layer
    # PyTorch's, as in torchvision; or small normal weights and some biases of 0.1
    init: Literal["torch", "caffe"] = "torch"
    _: KW_ONLY
    layers: Layers = Layers(norm="none", conv="conv2d_bias")

    def __post_init__(self) -> None:
        for i, (before, stage) in enumerate(zip(self.stages, self.stages[1:], strict=False), start=1):
            if before.width % stage.groups:
                raise ConfigError(f"stages.{i}.groups = {stage.groups}: must divide the {before.width} channels read")


class Pool(nn.Module):
    """3x3 maximum at stride 2: windows overlap (section 3.4). Axes of 1 or 2 positions are taken whole, so that small
    pictures run too; torchvision refuses those under 63 pixels.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (N, C, H, W) -> (N, C, (H - 1) // 2, (W - 1) // 2)
        return F.max_pool2d(x, [smaller(x.shape[-2], 3), smaller(x.shape[-1], 3)], 2)


class AlexNet(Network):
    """Convolutions with overlapping pools, then three linear layers on grid x grid positions."""

    def __init__(self, config: AlexNetConfig):
        super().__init__()
        parts: OrderedDict[str, nn.Module] = OrderedDict()
        c_in, n = config.in_chans, 0  # n: torchvision's number of the next part
        coarser: list[str] = []  # parts that make the map smaller
        for stage in config.stages:
            layers, width = stage.layers or config.layers, stage.width
            if stage.stride > 1 and n > 0:
                coarser.append(f"{n}")
            parts[f"{n}"] = layers.make_conv(
                c_in, width, stage.kernel, stride=stage.stride, padding=stage.padding, groups=stage.groups
            )
            parts[f"norm{n}"] = layers.make_norm(width)
            parts[f"{n + 1}"] = layers.make_act(width)
            parts[f"se{n + 1}"] = layers.make_attn(width, width)
            if stage.lrn:
                lrn = config.lrn
                parts[f"lrn{n + 1}"] = nn.LocalResponseNorm(lrn.size, lrn.alpha, lrn.beta, lrn.k)
            c_in, n = width, n + 2
            if stage.pool:
                coarser.append(f"{n}")
                parts[f"{n}"] = Pool()
                n += 1
        self.features = nn.Sequential(parts)
        self.coarser = tuple(coarser)
        self.avgpool = nn.AdaptiveAvgPool2d(config.grid)
        self.classifier = make_classifier(config, c_in * config.grid**2)
        self.num_features = c_in
        if config.init == "caffe":
            self.init_weights()

    def init_weights(self) -> None:
        """Caffe's start: normal weights of deviation 0.01, in hidden linear layers 0.005; biases 0, but 0.1 in hidden
        linear layers and where there are groups (convolutions 2, 4, 5). The paper has 0.01 everywhere and biases of 1;
        the authors of Caffe's copy found that those do not train.
        """
        for name, part in [*self.features.named_children(), *self.classifier.named_children()]:
            if type(part) is nn.Conv2d:
                std, bias = 0.01, 0.1 if part.groups > 1 else 0.0
            elif type(part) is nn.Linear:
                std, bias = (0.01, 0.0) if name == "6" else (0.005, 0.1)
            else:
                continue
            nn.init.normal_(part.weight, std=std)
            if part.bias is not None:
                nn.init.constant_(part.bias, bias)

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:  # (N, in_chans, H, W) -> (N, num_features, h, w)
        return self.features(x)

    def forward_head(self, features: torch.Tensor) -> torch.Tensor:  # (N, num_features, h, w) -> (N, num_classes)
        return self.classifier(self.avgpool(features).flatten(1))

    def feature_maps(self, x: torch.Tensor) -> list[torch.Tensor]:
        """The last map of every stride, finest first: 64, 192, 256, 256 channels at strides 4 to 32 for alexnet.

        The last one is forward_features(x). Windows without padding: the sides do not divide the picture's.
        """
        maps = []
        for name, part in self.features.named_children():
            if name in self.coarser:
                maps.append(x)
            x = part(x)
        return [*maps, x]


def make_classifier(config: AlexNetConfig, c_in: int) -> nn.Sequential:
    """Three linear layers under torchvision's numbers: 1, 4 and 6."""
    (a, b), (p, q, r) = config.hidden, config.dropouts
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    parts |= {"0": nn.Dropout(p), "1": nn.Linear(c_in, a), "2": config.layers.make_act(a)}
    parts |= {"3": nn.Dropout(q), "4": nn.Linear(a, b), "5": config.layers.make_act(b)}
    parts |= {"drop5": nn.Dropout(r), "6": nn.Linear(b, config.num_classes)}
    return nn.Sequential(parts)


ONE_TOWER = (
    Stage(64, 11, 4, 2, pool=True),
    Stage(192, 5, padding=2, pool=True),
    Stage(384, 3, padding=1),
    Stage(256, 3, padding=1),
    Stage(256, 3, padding=1, pool=True),
)
TWO_TOWERS = (
    Stage(96, 11, 4, lrn=True, pool=True),
    Stage(256, 5, padding=2, groups=2, lrn=True, pool=True),
    Stage(384, 3, padding=1),
    Stage(384, 3, padding=1, groups=2),
    Stage(256, 3, padding=1, groups=2, pool=True),
)
ALEXNET = AlexNetConfig(ONE_TOWER)

VARIANTS: dict[str, AlexNetConfig] = {
    "alexnet": ALEXNET,  # torchvision: fourth convolution of 256 channels, where arXiv:1404.5997 has 384
    # 227 pixels give the paper's maps of 55, 27, 13 and 6 positions; the 224 of its text do not
    "alexnet_2012": replace(ALEXNET, stages=TWO_TOWERS, dropouts=(0.0, 0.5, 0.5), init="caffe", resolution=227),
}

PUBLISHED = {
    "alexnet": Published(
        "One weird trick for parallelizing convolutional neural networks",
        "1404.5997",
        56.522,
        "torchvision IMAGENET1K_V1",
        "torchvision AlexNet_Weights.IMAGENET1K_V1",
    ),
    "alexnet_2012": Published(
        "ImageNet Classification with Deep Convolutional Neural Networks",
        "NIPS 2012",
        57.1,
        "BVLC/caffe models/bvlc_alexnet, centre crop",  # the paper's 59.3 averages ten crops
        resolution=227,
    ),
}

TINY = AlexNetConfig(
    (Stage(8, 5, 2, 2, lrn=True, pool=True), Stage(8, 3, padding=1, groups=2, pool=True)),
    grid=2,
    hidden=(16, 16),
)

FAMILY = Family(
    AlexNetConfig,
    AlexNet,
    VARIANTS,
    head=("classifier.6.",),
    published=PUBLISHED,
    tiny=TINY,
    ragged=True,
    refuses=("mgic", "group_shuffle"),
    cost_per_mac=1.9,
)
