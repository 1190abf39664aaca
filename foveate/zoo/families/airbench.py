"""The networks of the CIFAR-10 speed runs "airbench", arXiv:2404.00498: patches, three groups, a linear head.

Their first convolution is meant to start as the whitening of picture patches (train/initialisers/patch_whitening.py)
and to stay so. Keys follow the public code's names, with the parts of its Sequential named.
"""

from dataclasses import KW_ONLY
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import nn

from foveate.config import Pixels, Positive, Width, record
from foveate.errors import ConfigError
from foveate.layers import Layers
from foveate.zoo.family import Config, Family, Network, Published

NORM = "batch_norm(eps=1e-12, momentum=0.4, scale=False)"


@record
class Group:
    """The convolutions of one resolution, given by their output channels; the first has a 2x2 maximum behind it."""

    widths: Annotated[tuple[Width, ...], Field(min_length=1, max_length=64)]
    residual: bool = False  # the first convolution's output is added to the last one's, before its activation
    layers: Layers | None = None  # in place of the net's layers in this group

    def __post_init__(self) -> None:
        if self.residual and (len(self.widths) < 2 or self.widths[0] != self.widths[-1]):
            raise ConfigError(f"Group.widths = {self.widths}: a residual group ends as wide as it begins")


@record
class AirbenchConfig(Config):
    """Defaults: airbench94."""

    groups: Annotated[tuple[Group, ...], Field(min_length=1, max_length=8)] = (
        Group((64, 64)),
        Group((256, 256)),
        Group((256, 256)),
    )
    family: Literal["airbench"] = "airbench"
    stem: Width = 24  # filters of the patch convolution: both signs of the eigenvectors of 2 x 2 x 3 patches
    patch: Annotated[int, Field(ge=1, le=8)] = 2
    fixed_patches: bool = True  # the patch convolution's kernel is not trained, only its bias
    scale: Positive = 1 / 9  # of the logits
    pool: Literal["max", "avg"] = "max"  # 2x2 of each group, and of the whole map at the end
    _: KW_ONLY
    layers: Layers = Layers(norm=NORM, act="gelu")
    num_classes: Width = 10
    resolution: Pixels = 32


class ConvGroup(nn.Module):
    """conv - maximum - norm - act, then conv - norm - act: (N, c, H, W) -> (N, w, H/2, W/2)."""

    def __init__(self, c_in: int, group: Group, layers: Layers, pool: str):
        super().__init__()
        self.residual, self.pool = group.residual, nn.MaxPool2d(2) if pool == "max" else nn.AvgPool2d(2)
        self.convs, self.norms, self.acts, self.gates = (nn.ModuleList() for _ in range(4))
        for width in group.widths:
            self.convs.append(layers.make_conv(c_in, width, 3))
            self.norms.append(layers.make_norm(width))
            self.acts.append(layers.make_act(width))
            self.gates.append(layers.make_attn(width, width))
            c_in = width

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = x
        for i, (conv, norm, act, gate) in enumerate(zip(self.convs, self.norms, self.acts, self.gates, strict=True)):
            x = conv(x)
            x = norm(self.pool(x) if i == 0 else x)
            if self.residual and i == len(self.convs) - 1:
                x = x + first
            x = gate(act(x))
            if i == 0:
                first = x
        return x


class Airbench(Network):
    """x: (N, in_chans, H, W) -> logits (N, num_classes). 32 pixels become 31, 15, 7, 3 and one maximum of them.

    The last maximum is over the whole map, as the paper's is at 32 pixels; pictures have at least 16.
    """

    def __init__(self, config: AirbenchConfig):
        super().__init__()
        layers = config.layers
        self.whiten = layers.make_conv(config.in_chans, config.stem, config.patch, padding=0, bias=True)
        if config.fixed_patches and isinstance(self.whiten, nn.Conv2d):  # other units have no one kernel of patches
            self.whiten.weight.requires_grad_(False)
        self.act = layers.make_act(config.stem)
        widths = [config.stem, *(g.widths[-1] for g in config.groups)]
        self.groups = nn.ModuleList(
            ConvGroup(c, group, group.layers or layers, config.pool)
            for c, group in zip(widths, config.groups, strict=False)
        )
        self.num_features, self.scale, self.pool = widths[-1], config.scale, config.pool
        self.fc = nn.Linear(self.num_features, config.num_classes, bias=False)

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:  # (N, in_chans, H, W) -> (N, num_features, h, w)
        x = self.act(self.whiten(x))
        for group in self.groups:
            x = group(x)
        return x

    def forward_head(self, features: torch.Tensor) -> torch.Tensor:  # (N, num_features, h, w) -> (N, num_classes)
        pooled = features.amax((2, 3)) if self.pool == "max" else features.mean((2, 3))
        return self.fc(pooled) * self.scale

    def feature_maps(self, x: torch.Tensor) -> list[torch.Tensor]:
        """The patches' map and each group's, finest first, at strides 1, 2, 4, 8 (less the patch's border)."""
        maps = [self.act(self.whiten(x))]
        for group in self.groups:
            maps.append(group(maps[-1]))
        return maps


def groups(first: int, second: int, third: int, depth: int = 2, residual: bool = False) -> tuple[Group, ...]:
    """Three groups of `depth` convolutions."""
    return tuple(Group((width,) * depth, residual) for width in (first, second, third))


VARIANTS: dict[str, AirbenchConfig] = {
    "airbench94_cifar": AirbenchConfig(),
    "airbench95_cifar": AirbenchConfig(groups(128, 384, 384)),
    "airbench96_cifar": AirbenchConfig(groups(128, 384, 512, depth=3, residual=True)),
    "airbench_medium_cifar": AirbenchConfig(groups(48, 160, 160)),
    "airbench_small_cifar": AirbenchConfig(groups(32, 96, 128)),
}
TITLE = "94% on CIFAR-10 in 3.29 Seconds on a Single GPU"
PUBLISHED: dict[str, Published] = {
    name: Published(TITLE, "2404.00498", top1, source, "", 32, 32)
    for name, top1, source in (
        ("airbench94_cifar", 94.01, "paper, table 1: mean of runs, six test views"),
        ("airbench95_cifar", 95.01, "paper, table 1: mean of runs, six test views"),
        ("airbench96_cifar", 96.03, "public code: mean of 400 runs, six test views"),
        ("airbench_medium_cifar", None, ""),
        ("airbench_small_cifar", None, ""),
    )
}
TINY = AirbenchConfig((Group((16, 16)), Group((32, 16, 32), residual=True)), stem=8)

FAMILY = Family(
    AirbenchConfig,
    Airbench,
    VARIANTS,
    ("fc.",),
    {},
    PUBLISHED,
    tiny=TINY,
    ragged=True,
)
