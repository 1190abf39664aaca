"""GoogLeNet (arXiv:1409.4842), with and without batch norm, and BN-Inception (arXiv:1502.03167): values of one record.

Keys are torchvision's (conv1.conv, inception3a.branch2.0.conv, aux1.fc1, fc). pytorchcv's bninception has the same
tensors in the same order, with convolution biases: layers conv "conv2d_bias" takes its weights.
"""

from string import ascii_lowercase
from typing import Literal

import torch
from torch import nn

from foveate.config import replace
from foveate.layers import Layers
from foveate.zoo.families.googlenet.blocks import Auxiliary, Branches, GoogLeNetConfig, Inception, Stage, Unit
from foveate.zoo.family import HALF, Family, Network, Published

__all__ = ["FAMILY", "VARIANTS", "Branches", "GoogLeNet", "GoogLeNetConfig", "Stage"]


def make_lrn(wanted: bool) -> nn.Module:
    """Local response norm over 5 channels. PyTorch and Caffe divide alpha by 5, Krizhevsky's formula does not."""
    return nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0) if wanted else nn.Identity()


class GoogLeNet(Network):
    """Stem to stride 8, inception modules, global average, dropout, classifier. Pools round sizes up, as Caffe's."""

    def __init__(self, config: GoogLeNetConfig):
        super().__init__()
        a, b, c_in = config.stem
        self.conv1 = Unit(config.layers, config.in_chans, a, 7, 2)
        self.maxpool1 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.lrn1 = make_lrn(config.lrn)
        self.conv2 = Unit(config.layers, a, b, 1)
        self.conv3 = Unit(config.layers, b, c_in, 3)
        self.lrn2 = make_lrn(config.lrn)
        self.maxpool2 = nn.MaxPool2d(3, 2, ceil_mode=True)

        self.body: dict[str, bool] = {}  # name of a module or pool, in order -> whether it halves the map
        self.aux: dict[str, str] = {}  # name of a module -> name of the auxiliary classifier that reads it
        heads: dict[str, Auxiliary] = {}
        for number, stage in enumerate(config.stages, start=3):
            layers = stage.layers or config.layers
            for letter, branches in zip(ascii_lowercase, stage.modules, strict=False):
                name = f"inception{number}{letter}"
                self.add_module(name, Inception(layers, c_in, branches))
                self.body[name] = branches.stride == 2
                c_in = branches.width(c_in)
                if config.aux and f"{number}{letter}" in config.aux_after:
                    self.aux[name] = f"aux{config.aux_after.index(f'{number}{letter}') + 1}"
                    heads[self.aux[name]] = Auxiliary(config, layers, c_in)
            if stage.pool:
                self.add_module(f"maxpool{number}", nn.MaxPool2d(stage.pool, 2, ceil_mode=True))
                self.body[f"maxpool{number}"] = True
        for name in sorted(heads):
            self.add_module(name, heads[name])
        self.dropout = nn.Dropout(config.dropout)
        self.fc = nn.Linear(c_in, config.num_classes)
        self.num_features = c_in
        init_weights(self)

    def forward_stem(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The maps of stride 2 and of stride 4. (N, in_chans, H, W) -> (N, stem[0], h, w), (N, stem[2], h', w')."""
        x = self.conv1(x)
        return x, self.conv3(self.conv2(self.lrn1(self.maxpool1(x))))

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:  # (N, in_chans, H, W) -> (N, num_features, h, w)
        x = self.maxpool2(self.lrn2(self.forward_stem(x)[1]))
        for name in self.body:
            x = getattr(self, name)(x)
        return x

    def forward_head(self, features: torch.Tensor) -> torch.Tensor:  # (N, num_features, h, w) -> (N, num_classes)
        return self.fc(self.dropout(features.mean((2, 3))))

    def forward_aux(self, x: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """(logits, those of the auxiliary classifiers, nearest to the input first), each (N, num_classes).

        The paper adds the auxiliary losses with weight 0.3.
        """
        x = self.maxpool2(self.lrn2(self.forward_stem(x)[1]))
        logits: list[torch.Tensor] = []
        for name in self.body:
            x = getattr(self, name)(x)
            if name in self.aux:
                logits.append(getattr(self, self.aux[name])(x))
        return self.forward_head(x), logits

    def feature_maps(self, x: torch.Tensor) -> list[torch.Tensor]:
        """The last map of every stride, finest first; the last one is forward_features(x)."""
        maps = list(self.forward_stem(x))
        x = self.maxpool2(self.lrn2(maps[-1]))
        for name, halves in self.body.items():
            if halves:
                maps.append(x)
            x = getattr(self, name)(x)
        return [*maps, x]


def init_weights(model: nn.Module) -> None:
    """BVLC's prototxt: uniform of variance 1 / fan-in ("xavier"); biases of convolutions 0.2, of linear layers 0.

    torchvision draws from a normal of spread 0.01, which only norms forgive: here the nets without norms train too.
    """
    for module in model.modules():
        kind, layer, bias = (nn.Conv2d, module.conv, 0.2) if isinstance(module, Unit) else (nn.Linear, module, 0.0)
        if type(layer) is kind:
            nn.init.kaiming_uniform_(layer.weight, nonlinearity="linear")
            if layer.bias is not None:
                nn.init.constant_(layer.bias, bias)


Row = tuple[int, tuple[int, int], tuple[int, int], int]
TABLE_1: tuple[tuple[Row, ...], ...] = (  # arXiv:1409.4842: stages 3, 4, 5, a module a row
    ((64, (96, 128), (16, 32), 32), (128, (128, 192), (32, 96), 64)),
    (
        (192, (96, 208), (16, 48), 64),
        (160, (112, 224), (24, 64), 64),
        (128, (128, 256), (24, 64), 64),
        (112, (144, 288), (32, 64), 64),
        (256, (160, 320), (32, 128), 128),
    ),
    ((256, (160, 320), (32, 128), 128), (384, (192, 384), (48, 128), 128)),
)


def googlenet(kernel: int, pools: tuple[Literal[0, 2, 3], ...]) -> GoogLeNetConfig:
    """The nine modules of the paper, with that kernel in branch3 and those pools behind the stages."""
    rows = [tuple(Branches(*row, kernel=kernel) for row in rows) for rows in TABLE_1]
    return GoogLeNetConfig(tuple(Stage(modules, pool) for modules, pool in zip(rows, pools, strict=True)))


def average(one: int, three: tuple[int, int], double: tuple[int, int, int], proj: int) -> Branches:
    """A module of BN-Inception: two 3x3 in place of 5x5, average pool."""
    return Branches(one, three, double, proj, pool="avg")


def halving(three: tuple[int, int], double: tuple[int, int, int]) -> Branches:
    """A module of BN-Inception of stride 2, in place of a pool between modules: its own pool passes through."""
    return Branches(0, three, double, 0, stride=2)


# The form of the public weights, and of SENet's authors: 608 channels behind 4c and 4d. TF-slim has 576 there (branch4
# of both 96) and, like the paper, a separable first convolution.
ROWS: tuple[tuple[Branches, ...], ...] = (
    (
        average(64, (64, 64), (64, 96, 96), 32),
        average(64, (64, 96), (64, 96, 96), 64),
        halving((128, 160), (64, 96, 96)),
    ),
    (
        average(224, (64, 96), (96, 128, 128), 128),
        average(192, (96, 128), (96, 128, 128), 128),
        average(160, (128, 160), (128, 160, 160), 128),
        average(96, (128, 192), (160, 192, 192), 128),
        halving((128, 192), (192, 256, 256)),
    ),
    (average(352, (192, 320), (160, 224, 224), 128), Branches(352, (192, 320), (192, 224, 224), 128)),
)

BARE = Layers("none", conv="conv2d_bias")

VARIANTS: dict[str, GoogLeNetConfig] = {
    "googlenet": googlenet(3, (3, 2, 0)),  # torchvision's: 3x3 for the paper's 5x5, batch norm, another last pool
    "googlenet_2014": replace(googlenet(5, (3, 3, 0)), lrn=True, dropout=0.4, layers=BARE),  # the paper's and Caffe's
    "bn_inception": GoogLeNetConfig(tuple(Stage(row) for row in ROWS), dropout=0.0, layers=Layers()),
}

_PAPER = Published("Going Deeper with Convolutions", "1409.4842")
_BN_PAPER = Published(
    "Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate Shift", "1502.03167"
)
PUBLISHED = {
    # torchvision feeds these weights pictures of mean and std 0.5 (its transform_input), whatever its transforms say
    "googlenet": replace(
        _PAPER,
        top1=69.778,
        source="torchvision IMAGENET1K_V1",
        weights="torchvision GoogLeNet_Weights.IMAGENET1K_V1",
        mean=HALF,
        std=HALF,
    ),
    # Caffe's preprocessing: channel means (123, 117, 104) off pixels from 0 to 255
    "googlenet_2014": replace(
        _PAPER,
        top1=68.7,
        source="BVLC readme of bvlc_googlenet, one crop",
        weights="BVLC bvlc_googlenet.caffemodel (channels in the order BGR)",
        mean=(123 / 255, 117 / 255, 104 / 255),
        std=(1 / 255, 1 / 255, 1 / 255),
    ),
    "bn_inception": replace(
        _BN_PAPER,
        top1=74.63,
        source="pytorchcv readme",
        weights='pytorchcv bninception (into layers with conv "conv2d_bias")',
    ),
}

TINY = GoogLeNetConfig(
    (
        Stage((Branches(4, (4, 8), (4, 4), 4),), 3),
        Stage(
            (
                Branches(0, (4, 8), (4, 4, 4), 0, stride=2),
                Branches(4, (4, 4), (4, 4, 4), 4, pool="avg"),
            )
        ),
    ),
    stem=(8, 8, 8),
)

FAMILY = Family(
    GoogLeNetConfig,
    GoogLeNet,
    VARIANTS,
    ("fc.", "aux1.fc2.", "aux2.fc2."),
    published=PUBLISHED,
    auxiliary=("aux1.", "aux2."),
    folds=True,
    tiny=TINY,
)
