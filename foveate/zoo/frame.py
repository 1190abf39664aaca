"""What networks of several families are built around: the frames of ResNet and of EfficientNet, and a start."""

import itertools
import operator
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn

from foveate.layers.same import Padding, padding_for
from foveate.zoo.family import Network, Rules

SE_OF_TIMM: Rules = ((r"\.se\.conv_reduce\.", ".se.fc1."), (r"\.se\.conv_expand\.", ".se.fc2."))


class ResNetFrame(Network):
    """conv1, bn1, act1, maxpool, then layer1, layer2 and so on: torchvision's names. A family makes these and its head.

    feature_maps are the last map of every stride, finest first, beginning with the stem's; the last one is
    forward_features(x).
    """

    conv1: nn.Module
    bn1: nn.Module
    act1: nn.Module
    maxpool: nn.Module
    stem_stride = 2  # of the stem's map against the picture

    def __init__(self) -> None:
        super().__init__()
        self.strides: dict[str, int] = {}  # name of a stage -> stride of its map against the picture

    def add_stage(self, stage: nn.Module, stride: int) -> None:
        """Adds the next of layer1, layer2 and so on. stride: of its map against the picture."""
        name = f"layer{len(self.strides) + 1}"
        self.add_module(name, stage)
        self.strides[name] = stride

    def forward_stem(self, x: torch.Tensor) -> torch.Tensor:  # (N, in_chans, H, W) -> (N, c, H / stem_stride, ...)
        return self.act1(self.bn1(self.conv1(x)))

    def forward_end(self, x: torch.Tensor) -> torch.Tensor:  # (N, num_features, h, w) -> same
        """What stands behind the stages: nothing."""
        return x

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:  # (N, in_chans, H, W) -> (N, num_features, h, w)
        x = self.maxpool(self.forward_stem(x))
        for name in self.strides:
            x = getattr(self, name)(x)
        return self.forward_end(x)

    def feature_maps(self, x: torch.Tensor) -> list[torch.Tensor]:
        x = self.forward_stem(x)
        maps = {self.stem_stride: x}
        x = self.maxpool(x)
        for name, stride in self.strides.items():
            x = maps[stride] = getattr(self, name)(x)
        maps[stride] = self.forward_end(x)
        return list(maps.values())


class MobileFrame(Network):
    """conv_stem, bn1, act1, blocks, conv_head, bn2, act2, classifier: timm's names for EfficientNet and its kin.

    A family calls add_stem and add_stages, and add_head or makes its own. feature_maps are the last map of every
    stride, finest first, beginning with the stem's; the head is not in them.
    """

    def add_stem(self, config: Any, padding: Padding, stride: int = 2) -> None:
        """3x3, norm, activation. config: a record with in_chans, stem (channels) and layers."""
        layers, self.stem_stride = config.layers, stride
        self.pad, zeros = padding_for(padding, 3, stride)
        self.conv_stem = layers.make_conv(config.in_chans, config.stem, 3, stride=stride, padding=zeros)
        self.bn1 = layers.make_norm(config.stem)
        self.act1 = layers.make_act(config.stem)

    def add_stages(self, stages: Sequence[nn.Module], strides: Sequence[int]) -> None:
        """strides: the one of each stage."""
        self.blocks = nn.Sequential(*stages)
        self.strides = multiply_strides(self.stem_stride, strides)

    def add_head(self, config: Any, c_in: int) -> None:
        """1x1, norm, activation; dropout, classifier. config: a record with head (channels), dropout, num_classes."""
        layers = config.layers
        self.conv_head = layers.make_conv(c_in, config.head, 1)
        self.bn2 = layers.make_norm(config.head)
        self.act2 = layers.make_act(config.head)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(config.head, config.num_classes)
        self.num_features = config.head

    def forward_stem(self, x: torch.Tensor) -> torch.Tensor:  # (N, in_chans, H, W) -> (N, stem, H / stride, ...)
        return self.act1(self.bn1(self.conv_stem(self.pad(x))))

    def forward_end(self, x: torch.Tensor) -> torch.Tensor:  # (N, c, h, w) -> (N, num_features, h, w)
        """What stands behind the blocks."""
        return self.act2(self.bn2(self.conv_head(x)))

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:  # (N, in_chans, H, W) -> (N, num_features, h, w)
        return self.forward_end(self.blocks(self.forward_stem(x)))

    def forward_head(self, features: torch.Tensor) -> torch.Tensor:  # (N, num_features, h, w) -> (N, num_classes)
        return self.classifier(self.dropout(features.mean((2, 3))))

    def feature_maps(self, x: torch.Tensor) -> list[torch.Tensor]:
        x = self.forward_stem(x)
        maps = {self.stem_stride: x}
        for stage, stride in zip(self.blocks, self.strides, strict=True):
            x = maps[stride] = stage(x)
        return list(maps.values())


def multiply_strides(first: int, strides: Iterable[int]) -> tuple[int, ...]:
    """The stride of each stage's map against the picture. first: of what the first stage reads; strides: their own."""
    return tuple(itertools.accumulate(strides, operator.mul, initial=first))[1:]


def init_convs(model: nn.Module) -> None:
    """Kaiming normal by fan-out for plain convolutions, as in torchvision; other layers initialised themselves."""
    for module in model.modules():
        if type(module) is nn.Conv2d:
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
