"""Random: what every criterion must beat."""

from collections.abc import Iterable

import torch
from torch import nn

from foveate.compress.criteria.score import Criterion, Scored
from foveate.compress.gates import Batch, coupling_of


def random(seed: int = 0, momentum: float = 0.0) -> Criterion:
    """Uniform numbers in [0, 1), the same ones for the same seed and network."""

    def score(model: nn.Module, batches: Iterable[Batch]) -> Scored:
        generator = torch.Generator().manual_seed(seed)
        groups = coupling_of(model).groups.items()
        return Scored({n: torch.rand(len(g.units), generator=generator, dtype=torch.float64) for n, g in groups})

    return Criterion(score, pictures=0, momentum=momentum, by_cost=0.0)
