"""Zero-cost scores: what one batch tells of a freshly built network. A new one is one file and one line in the table.

score("naswot", model, (x, labels)), score("zen(repeats=4)", model, batch). More is better, for all of them.

x: (N, C, H, W) as the network wants it, labels: int64 (N,). The model itself is not touched: each score works on a
copy. All results are finite; where a signal dies (a cell without a path) the score is low, not minus infinity.

A score is worth something where it ranks better than multiply-adds and parameters, which cost nothing either; on
published comparisons many do not, and none does well among the best tenth of a space. So these two are in the table,
and every comparison has to show them.
"""

from collections.abc import Callable, Mapping

import torch
from torch import nn

from foveate.config import make
from foveate.errors import ConfigError
from foveate.search.scores.counts import macs, params
from foveate.search.scores.grad_norm import grad_norm
from foveate.search.scores.naswot import naswot
from foveate.search.scores.synflow import synflow
from foveate.search.scores.zen import zen

Batch = tuple[torch.Tensor, torch.Tensor]
BASELINES = ("macs", "params")

SCORES: Mapping[str, Callable[..., float]] = {
    "synflow": synflow,
    "naswot": naswot,
    "zen": zen,
    "grad_norm": grad_norm,
    "macs": macs,
    "params": params,
}


def score(text: str, model: nn.Module, batch: Batch) -> float:
    """The score that a call string names. ConfigError for an unknown one or a batch of another shape."""
    x, labels = batch
    if x.ndim != 4 or labels.shape != x.shape[:1]:
        raise ConfigError(
            f"score {text}: pictures {tuple(x.shape)}, labels {tuple(labels.shape)}; expected (N, C, H, W) and (N,)"
        )
    return make(SCORES, text, "score", model, batch)
