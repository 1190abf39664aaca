"""Weight norm: a unit is worth the squares of the weights that make its channels (arXiv:1608.08710)."""

from collections.abc import Iterable

import torch
from torch import nn

from foveate.compress.criteria.score import Criterion, Scored, relative_to_group
from foveate.compress.criteria.taylor import Rows
from foveate.compress.gates import Batch
from foveate.errors import ConfigError


def norm(p: int = 2, relative: bool = True, momentum: float = 0.0) -> Criterion:
    """sum |w|^p over the unit's rows of weights; biases are left out. relative: divided by the mean of the group, for
    the weights of different layers have no common scale.
    """
    if p not in (1, 2):
        raise ConfigError(f"norm(p={p}): 1 or 2")

    def score(model: nn.Module, batches: Iterable[Batch]) -> Scored:
        rows, learnt = Rows(model), dict(model.named_parameters())
        total = torch.zeros(rows.count + 1, dtype=torch.float64)
        for key, index in rows.index.items():
            if learnt[key].ndim > 1:
                total.index_add_(0, index, learnt[key].detach().double().abs().pow(p).flatten(1).sum(1).cpu())
        values = rows.split(total[:-1])
        return Scored(relative_to_group(values) if relative else values)

    return Criterion(score, pictures=0, momentum=momentum, by_cost=0.0)
