"""What a family file gives to the zoo: a record, a module, its named variants, its rename table."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

import torch
from torch import nn

from foveate.errors import ConfigError
from foveate.layers import Layers
from foveate.layers.conv import safeguard
from foveate.layers.low_rank import Ranks, factorise

Rename = Callable[[str], str]

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5)  # mean and std of TensorFlow's networks


class Config(Protocol):
    """What every family's record has, beside its own fields."""

    family: str
    num_classes: int
    in_chans: int
    resolution: int  # pixels, square: the published test resolution
    layers: Layers
    ranks: Ranks  # convolutions in two factors

    def __hash__(self) -> int: ...


class Network(nn.Module):
    """What type checkers see of the networks that the zoo builds. At run time each is its family's own module."""

    if TYPE_CHECKING:
        config: Config
        num_features: int  # channels of the last map

        def __call__(self, x: torch.Tensor) -> torch.Tensor: ...  # (N, in_chans, H, W) -> (N, num_classes)
        def forward_features(self, x: torch.Tensor) -> torch.Tensor: ...  # (N, in_chans, H, W) -> (N, C, h, w)
        def forward_head(self, features: torch.Tensor) -> torch.Tensor: ...  # (N, C, h, w) -> (N, num_classes)
        def feature_maps(self, x: torch.Tensor) -> list[torch.Tensor]: ...  # one a stride, finest first


def find_config(model: nn.Module) -> Config | None:
    """The config that a network was built from; None for a module that is not of the zoo."""
    config = getattr(model, "config", None)
    return cast(Config, config) if hasattr(config, "family") else None


def get_config(model: nn.Module) -> Config:
    """The config that a network was built from. ConfigError for a module that is not of the zoo."""
    config = find_config(model)
    if config is None:
        raise ConfigError(f"a {type(model).__name__} that build() did not make: it carries no config")
    return config


@dataclass(frozen=True)
class Published:
    """What is published of a variant: for people who compare, and for preprocessing pictures as its weights expect."""

    paper: str  # title
    arxiv: str  # "1512.03385"; where there is none, the venue: "NIPS 2012"
    top1: float | None = None  # per cent, single crop, ImageNet-1k validation (CIFAR-10 test for CIFAR forms)
    source: str = ""  # where top1 stands: "paper, table 4", "torchvision IMAGENET1K_V1", "timm results csv"
    weights: str = ""  # public ones: "torchvision ResNet50_Weights.IMAGENET1K_V1", "timm resnet50d.ra2_in1k"
    resize: int = 256  # short side before the centre crop at `resolution`
    resolution: int = 224
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD


@dataclass(frozen=True)
class Family:
    """One line in FAMILIES."""

    config: type[Any]
    module: Callable[[Any], nn.Module]  # module(config) -> nn.Module with the methods of Network
    variants: Mapping[str, Any]  # name -> config
    head: tuple[str, ...]  # key prefixes of the classifier, left out when the number of classes changes
    # other sources' key -> our key, tried when names differ; where order and shapes agree no table is needed
    renames: Mapping[str, Rename] = field(default_factory=dict)
    published: Mapping[str, Published] = field(default_factory=dict)  # name -> what is known of it
    # key prefixes of auxiliary classifiers: public checkpoints hold them, and a model without them loads the rest
    auxiliary: tuple[str, ...] = ()
    # every norm stands right behind the convolution registered before it, so that it can be folded (zoo/fold.py)
    folds: bool = False

    def make(self, config: Any) -> nn.Module:
        """The module of a config, its convolutions in two factors where config.ranks says so."""
        model = self.module(config)
        factorise(model, config.ranks)
        safeguard(model)
        return model
