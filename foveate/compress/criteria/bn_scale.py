"""BN scale: a unit is worth the scale that its norms give it (network slimming, arXiv:1708.06519)."""

from collections.abc import Iterable

import torch
from torch import nn

from foveate.compress.criteria.score import Criterion, Scored, relative_to_group
from foveate.compress.gates import Batch, Gates
from foveate.errors import ConfigError
from foveate.layers.traits import is_norm


def bn_scale(relative: bool = False, momentum: float = 0.0) -> Criterion:
    """The mean of |gamma| over the norms that carry the unit. relative: divided by the mean of the group.

    ConfigError for a network in which some unit has no norm with a scale.
    """

    def score(model: nn.Module, batches: Iterable[Batch]) -> Scored:
        gates = Gates(model)
        modules, learnt = dict(model.named_modules()), dict(model.named_parameters())
        total, places = torch.zeros(2, gates.count + 1, dtype=torch.float64)
        for (key, axis), seen in gates.coupling.trace.axes.items():
            name, _, part = key.rpartition(".")
            if axis == 0 and part == "weight" and is_norm(modules[name]) and key in learnt:
                index = torch.tensor([gates.home.get(label, gates.count) for label in seen.labels])
                total.index_add_(0, index, learnt[key].detach().double().abs().flatten().cpu())
                places.index_add_(0, index, torch.ones(len(index), dtype=torch.float64))
        bare = next((n for n, part in gates.split(places[:-1]).items() if bool((part == 0).any())), None)
        if bare is not None:
            raise ConfigError(f"bn_scale: no norm with a scale carries the channels of {bare}; take taylor or norm")
        values = gates.split(total[:-1] / places[:-1])
        return Scored(relative_to_group(values) if relative else values)

    return Criterion(score, pictures=0, momentum=momentum, by_cost=0.0)
