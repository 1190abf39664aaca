"""What came before convolutional networks, as a network like any other: descriptors, coding, pyramid, classifier.

It has a record, weights that are arrays, and a forward pass in torch: so it is saved, opened, exported, timed and
compared as every network is. What it holds is learnt by foveate.classic, not by gradients. Pictures come as 0 to 1
(mean 0, standard deviation 1).
"""

from dataclasses import KW_ONLY
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import nn

from foveate.config import Pixels, Width, from_dict, make, parse_call, parse_json, pick, record
from foveate.errors import ConfigError
from foveate.zoo.composed.coders import CODERS, Coder
from foveate.zoo.composed.deciders import SupportVectors, Trees
from foveate.zoo.composed.descriptors import DESCRIPTORS
from foveate.zoo.families import FAMILIES
from foveate.zoo.family import Config, Family, Network

HOST = "maps"  # the descriptor that is the last maps of another network
Size = Annotated[int, Field(ge=0, le=10_000_000)]
Call = Annotated[str, Field(max_length=200)]
Rate = Annotated[float, Field(ge=-10.0, le=10.0, allow_inf_nan=False)]


@record
class ClassicConfig(Config):
    """features: descriptors as calls, their vectors joined. coding: of those that are fields of places. grids: sides of
    the pyramid's levels. classifier: "linear", "rbf" with `vectors` support vectors, or "trees" of so many nodes.
    """

    features: Annotated[tuple[Call, ...], Field(min_length=1, max_length=8)] = ("hog(cell=8)",)
    coding: Call = "mean"
    grids: Annotated[tuple[Annotated[int, Field(ge=1, le=8)], ...], Field(min_length=1, max_length=4)] = (1,)
    classifier: Literal["linear", "rbf", "trees"] = "linear"
    vectors: Size = 0
    nodes: Size = 0
    trees: Annotated[int, Field(ge=0, le=100_000)] = 0
    depth: Annotated[int, Field(ge=0, le=256)] = 0
    host: Annotated[str, Field(max_length=1_000_000)] = ""  # of "maps": the record of a network, as JSON
    host_mean: tuple[Rate, Rate, Rate] = (0.485, 0.456, 0.406)
    host_std: tuple[Rate, Rate, Rate] = (0.229, 0.224, 0.225)
    family: Literal["classic"] = "classic"
    _: KW_ONLY
    num_classes: Width = 10
    resolution: Pixels = 32

    def __post_init__(self) -> None:
        names = [parse_call(text)[0] for text in self.features]
        for name in names:
            pick({**DESCRIPTORS, HOST: nn.Identity}, name, "descriptor")
        pick(CODERS, parse_call(self.coding)[0], "coding")
        if (HOST in names) != bool(self.host):
            raise ConfigError(f'features {", ".join(self.features)}: "{HOST}" and a host network go together')


def read_host(config: ClassicConfig) -> Config:
    """The record of the network whose maps are used."""
    data = parse_json(config.host, "ClassicConfig.host")
    if not isinstance(data, dict) or not isinstance(data.get("family"), str):
        raise ConfigError("ClassicConfig.host: expected the record of a network with its family")
    host: Config = from_dict(pick(FAMILIES, data["family"], "ClassicConfig.host: family").config, data, "host")
    return host


def as_bytes(x: torch.Tensor) -> torch.Tensor:
    """0 to 1 -> whole numbers 0 to 255, so that codes and largest channels are the same in every runtime."""
    return (x * 255).round()


class Maps(nn.Module):
    """The last feature maps of a network that stays as it is: (N, C, h, w)."""

    flat = False

    def __init__(self, config: ClassicConfig):
        super().__init__()
        host = read_host(config)
        self.host = FAMILIES[host.family].make(host)
        for name, values in (("mean", config.host_mean), ("std", config.host_std)):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.host.forward_features((x / 255 - self.mean) / self.std)  # type: ignore[operator]
        return features


class Classic(Network):
    """Descriptors, each coded and pooled or flattened; joined; scaled; decided."""

    centre: torch.Tensor
    scale: torch.Tensor

    def __init__(self, config: ClassicConfig):
        super().__init__()
        self.descriptors = nn.ModuleList(_descriptor(config, text) for text in config.features)
        self.coders = nn.ModuleList()
        width = 0
        probe = torch.zeros(1, 3, config.resolution, config.resolution)
        for text, descriptor in zip(config.features, self.descriptors, strict=True):
            size = config.resolution
            try:
                with torch.no_grad():
                    field = descriptor.eval()(probe)
            except (RuntimeError, IndexError, ValueError) as error:
                reason = str(error).splitlines()[0][:120]
                raise ConfigError(f"{text} does not fit on pictures of {size} x {size} pixels: {reason}") from None
            if not field.numel():
                raise ConfigError(f"{text} does not fit on pictures of {size} x {size} pixels; make them larger")
            coder: Any = nn.Identity()
            if not getattr(descriptor, "flat", True):
                coder = make(CODERS, config.coding, "coding", int(field.shape[1]), config.grids)
            self.coders.append(coder)
            width += coder.size if isinstance(coder, Coder) else field[0].numel()
        self.num_features = width
        self.register_buffer("centre", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))
        self.decide = _decider(config, width)
        self.sharpness = nn.Parameter(torch.ones(1), requires_grad=False)  # of the scores, so that they are logits

    def vectors(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) of 0 to 1 -> (N, num_features), before scaling."""
        x = as_bytes(x)
        fields = (coder(descriptor(x)) for descriptor, coder in zip(self.descriptors, self.coders, strict=True))
        return torch.cat([field.flatten(1) for field in fields], 1)

    def feature_maps(self, x: torch.Tensor) -> list[torch.Tensor]:
        return [((self.vectors(x) - self.centre) * self.scale)[..., None, None]]

    def forward_head(self, features: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.decide(features.flatten(1))
        return scores * self.sharpness


def _descriptor(config: ClassicConfig, text: str) -> nn.Module:
    if parse_call(text)[0] == HOST:
        return Maps(config)
    return make(DESCRIPTORS, text, "descriptor", config.resolution)


def _decider(config: ClassicConfig, width: int) -> nn.Module:
    if config.classifier == "rbf":
        return SupportVectors(width, config.num_classes, config.vectors)
    if config.classifier == "trees":
        return Trees(config.num_classes, config.nodes, config.trees, config.depth)
    return nn.Linear(width, config.num_classes)


FAMILY = Family(ClassicConfig, Classic, {}, ("decide.",), tiny=ClassicConfig())
