"""What a family file gives to the zoo: a record, a module, its named variants, its rename table."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import nn

Rename = Callable[[str], str]


class Config(Protocol):
    """What every family's record has, beside its own fields."""

    family: str
    num_classes: int
    in_chans: int
    resolution: int  # pixels, square: the published test resolution

    def __init__(self, *args: Any, **fields: Any) -> None: ...


class Net(Protocol):
    """What every family's module offers, beside nn.Module."""

    num_features: int

    def forward_features(self, x: torch.Tensor) -> torch.Tensor: ...  # (N, in_chans, H, W) -> (N, C, h, w)
    def forward_head(self, features: torch.Tensor) -> torch.Tensor: ...  # (N, C, h, w) -> (N, num_classes)
    def feature_maps(self, x: torch.Tensor) -> list[torch.Tensor]: ...  # one a stride, finest first


@dataclass(frozen=True)
class Family:
    """One line in FAMILIES."""

    config: type[Any]
    module: Callable[[Any], nn.Module]  # module(config) -> nn.Module with the methods of Net
    variants: Mapping[str, Any]  # name -> config
    head: tuple[str, ...]  # key prefixes of the classifier, left out when the number of classes changes
    # other sources' key -> our key, tried when names differ; where order and shapes agree no table is needed
    renames: Mapping[str, Rename] = field(default_factory=dict)
