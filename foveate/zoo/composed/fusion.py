"""Several networks as one: each sees the picture its own way, and their probabilities are averaged.

p = sum_m w_m softmax(z_m t_m), then scores log p * sharpness; or ("stack") a linear classifier on all log p_m. Classes
are matched by the order that each member's `order` gives. Pictures come as 0 to 1, squares of the largest short side.
"""

from dataclasses import KW_ONLY
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import nn

from foveate.config import Pixels, Positive, Width, from_dict, parse_json, pick, record
from foveate.errors import ConfigError
from foveate.zoo.composed import classic
from foveate.zoo.families import FAMILIES
from foveate.zoo.family import Config, Family, Network

FLOOR = 1e-6  # of a probability: no member forbids a class
Mean = Annotated[float, Field(ge=-10.0, le=10.0, allow_inf_nan=False)]


@record
class Member:
    """A network of a fusion, with how it sees the picture: short side `resize`, a central square, (x - mean) / std."""

    architecture: Annotated[str, Field(max_length=2_000_000)]  # its record, as JSON
    resize: Pixels
    resolution: Pixels
    mean: tuple[Mean, Mean, Mean]
    std: tuple[Positive, Positive, Positive]


@record
class FusionConfig(Config):
    """members: the networks. by: "mean" of probabilities with weights, or "stack"."""

    members: Annotated[tuple[Member, ...], Field(min_length=1, max_length=32)]
    by: Literal["mean", "stack"] = "mean"
    family: Literal["fusion"] = "fusion"
    _: KW_ONLY
    num_classes: Width = 10
    resolution: Pixels = 224


def member_config(member: Member) -> Config:
    """The record of a member. ConfigError for one that is of no family, or is itself a fusion."""
    data = parse_json(member.architecture, "member")
    if not isinstance(data, dict) or not isinstance(data.get("family"), str):
        raise ConfigError("FusionConfig.members: each architecture is a record with its family")
    known = {**FAMILIES, "classic": classic.FAMILY}
    config: Config = from_dict(pick(known, data["family"], "FusionConfig.members: family").config, data, "member")
    return config


class Fusion(Network):
    """Members side by side."""

    order: torch.Tensor
    sharpnesses: torch.Tensor
    weights: torch.Tensor

    def __init__(self, config: FusionConfig):
        super().__init__()
        known, classes, members = {**FAMILIES, "classic": classic.FAMILY}, config.num_classes, len(config.members)
        self.views = config.members
        self.by = config.by
        self.members = nn.ModuleList()
        for member in config.members:
            inner = member_config(member)
            if inner.num_classes != classes:
                raise ConfigError(f"FusionConfig: a member has {inner.num_classes} classes, the fusion {classes}")
            self.members.append(known[inner.family].make(inner))
        for i, member in enumerate(config.members):
            for name, values in (("mean", member.mean), ("std", member.std)):
                self.register_buffer(f"{name}_{i}", torch.tensor(values).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("order", torch.arange(classes).repeat(members, 1))  # place in a member of our k-th class
        self.register_buffer("sharpnesses", torch.ones(members))  # 1 / temperature of each
        self.register_buffer("weights", torch.full((members,), 1 / members))
        self.sharpness = nn.Parameter(torch.ones(1), requires_grad=False)
        if config.by == "stack":
            self.stack = nn.Linear(members * classes, classes)
        self.num_features = members * classes

    def view(self, i: int, x: torch.Tensor) -> torch.Tensor:
        """The picture as the i-th member sees it."""
        member = self.views[i]
        if x.shape[-1] != member.resize:
            x = F.interpolate(x, (member.resize, member.resize), mode="bilinear", align_corners=False)
        start = (member.resize - member.resolution) // 2
        x = x[..., start : start + member.resolution, start : start + member.resolution]
        return (x - getattr(self, f"mean_{i}")) / getattr(self, f"std_{i}")

    def feature_maps(self, x: torch.Tensor) -> list[torch.Tensor]:
        """[(N, members K, 1, 1)]: the log probabilities of all members, in the classes' common order."""
        parts = []
        for i, member in enumerate(self.members):
            logits = member(self.view(i, x)).index_select(1, self.order[i])
            parts.append((logits * self.sharpnesses[i]).softmax(1).clamp(min=FLOOR).log())
        return [torch.cat(parts, 1)[..., None, None]]

    def forward_head(self, features: torch.Tensor) -> torch.Tensor:
        scores = features.flatten(1)
        if self.by == "stack":
            out: torch.Tensor = self.stack(scores)
            return out * self.sharpness
        each = scores.unflatten(1, (len(self.members), -1)).exp()
        return (each * self.weights.view(1, -1, 1)).sum(1).log() * self.sharpness


TINY = FusionConfig((Member('{"family": "classic"}', 32, 32, (0.0,) * 3, (1.0,) * 3),), resolution=32)
FAMILY = Family(FusionConfig, Fusion, {}, ("stack.",), tiny=TINY)
