"""What a criterion is, and what it gives."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import nn

from foveate.compress.gates import Batch
from foveate.errors import ConfigError


@dataclass(frozen=True)
class Scored:
    """How much each unit of each group is worth: the least go first."""

    values: Mapping[str, torch.Tensor]  # group -> (units,) float64
    most: Mapping[str, int] = field(default_factory=dict)  # group -> how many go before other groups must give more
    order: Mapping[str, float] = field(default_factory=dict)  # group -> turn: those of the least number go first


@dataclass(frozen=True)
class Criterion:
    """A way to score units, with what it wants.

    score(model, batches): batches are consumed once. momentum: in repeated scoring,
    score = momentum * score before + (1 - momentum) * the new one (arXiv:1906.10771: 0.9; its authors' notes call it
    useless, so it is 0 here unless asked for).
    """

    score: Callable[[nn.Module, Iterable[Batch]], Scored]
    pictures: int = 512  # that it wants to see; 0: none
    per_unit: int = 0  # and so many for every unit of the largest group
    momentum: float = 0.0
    by_cost: float = 1.0  # the power of a unit's cost that scores are divided by, unless the schedule says another

    def __post_init__(self) -> None:
        if not 0 <= self.momentum < 1:
            raise ConfigError(f"momentum = {self.momentum}: at least 0 and below 1")


def relative_to_group(values: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Each group's scores divided by their mean: weights of different layers have no common scale."""
    return {name: v / v.mean().clamp_min(1e-300) for name, v in values.items()}
