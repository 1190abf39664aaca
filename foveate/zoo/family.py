"""What a family file gives to the zoo: a record, a module, its named variants, its rename table."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import torch
from pydantic import Field
from torch import nn

from foveate.config import Count, Pixels, Width, record
from foveate.errors import ConfigError
from foveate.layers import Layers
from foveate.layers.conv import safeguard
from foveate.layers.low_rank import Ranks, factorise
from foveate.zoo.entrance import add_input_norm

Rename = Callable[[str], str]
Rules = Sequence[tuple[str, str | Callable[[re.Match[str]], str]]]  # (pattern, what stands in its place)

MAX_BLOCKS = 1024  # in all stages of a network together; ResNet-1202 has 600
Widths = Annotated[tuple[Width, ...], Field(min_length=1, max_length=MAX_BLOCKS)]  # one number a block

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5)  # mean and std of TensorFlow's networks


@record
class Config:
    """What every family's record has beside its own fields, which come first: these are given by name."""

    _: KW_ONLY
    layers: Layers = Layers()
    num_classes: Width = 1000
    in_chans: Count = 3
    resolution: Pixels = 224  # square: the published test resolution
    ranks: Ranks = ()  # convolutions in two factors
    # a batch norm of the picture, whose scale starts at 0.058 and is learnt slowly (arXiv:2110.13989; zoo/entrance.py)
    input_norm: bool = False

    if TYPE_CHECKING:

        @property
        def family(self) -> str: ...  # each has its own tag


class Network(nn.Module):
    """What every family's network is. A family adds forward_head and feature_maps; build() gives it its config."""

    config: Config
    num_features: int  # channels of the last map

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (N, in_chans, H, W) -> (N, num_classes)
        return self.forward_head(self.forward_features(x))

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:  # (N, in_chans, H, W) -> (N, num_features, h, w)
        return self.feature_maps(x)[-1]

    def forward_head(self, features: torch.Tensor) -> torch.Tensor:  # (N, num_features, h, w) -> (N, num_classes)
        raise NotImplementedError

    def feature_maps(self, x: torch.Tensor) -> list[torch.Tensor]:  # (N, in_chans, H, W) -> one a stride, finest first
        raise NotImplementedError

    if TYPE_CHECKING:

        def __call__(self, x: torch.Tensor) -> torch.Tensor: ...


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


def check_blocks(config: Config, blocks: int, noun: str = "blocks", most: int = MAX_BLOCKS) -> None:
    """ConfigError where the stages of a config have more than `most` blocks together."""
    if blocks > most:
        raise ConfigError(f"{type(config).__name__}.stages have {blocks:,} {noun}: at most {most:,}")


def return_same(config: Any) -> Any:
    """The config."""
    return config


def rename(key: str, rules: Rules) -> str:
    """A key after all rules that match it, one after the other."""
    for pattern, ours in rules:
        key = re.sub(pattern, ours, key)
    return key


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
    aux_weight: float = 0.3  # of each of their losses beside the classifier's, as published (arXiv:1409.4842)
    # every norm stands right behind the convolution registered before it, so that it can be folded (zoo/fold.py)
    folds: bool = False
    # compound scaling: (config, factor of depth, factor of width) -> config (search/scaling.py); None: there is no rule
    scale: Callable[[Any, float, float], Any] | None = None
    # the same network, every inner width a number of its own that can shrink alone (compress/explicit.py)
    explicit: Callable[[Any], Any] = return_same
    # time of a multiply-add in ONNX Runtime beside one of ResNet's (97 million a millisecond on one thread of an AMD
    # EPYC, CPU time, 160 pixels), of the published network near 200 million multiply-adds
    cost_per_mac: float = 1.0
    # What the tests need. A config with each kind of block, as small as it goes, for pictures of 32 pixels:
    tiny: Any = field(kw_only=True)
    refuses: tuple[str, ...] = ()  # norms that leave nothing, and units of convolution that change nothing, in tiny
    small: str = ""  # the variant that runs; "": that of fewest multiply-adds
    least: int = 1  # pixels a side that variants need: more than one where there is no padding
    ragged: bool = False  # the sides of feature maps do not divide the picture's

    def make(self, config: Any) -> nn.Module:
        """The module of a config, its convolutions in two factors where config.ranks says so."""
        model = self.module(config)
        factorise(model, config.ranks)
        if config.input_norm:
            add_input_norm(model, lambda: self.module(config), config.in_chans)
        safeguard(model)
        return model
