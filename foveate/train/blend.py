"""Between the start and the end of a fine-tuning: weights on the straight line from one to the other. WiSE-FT.

arXiv:2109.01903: the mean of the published and the tuned weights is often better than either. The start here is the
network with a linear classifier already fitted (train/head.py), so that the line begins at a good classifier too.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import nn

from foveate.data.load import Pictures
from foveate.data.preprocess import Preprocess
from foveate.train.evaluate import accuracy, cross_entropy, labels_of, predict_logits

TEMPERATURES = tuple(np.geomspace(0.25, 4.0, 17).tolist())

Tensors = Mapping[str, torch.Tensor]


def between(start: Tensors, end: Tensors, share: float) -> dict[str, torch.Tensor]:
    """start + share * (end - start) for floating-point tensors; counters are those of the end."""
    if start.keys() != end.keys():
        raise ValueError("start and end must have the same names")
    return {k: torch.lerp(start[k], e, share) if e.is_floating_point() else e.clone() for k, e in end.items()}


def blend(
    model: nn.Module,
    start: Tensors,
    shares: Sequence[float],
    val: Pictures,
    preprocess: Preprocess,
    metric: Callable[[np.ndarray, np.ndarray], float] = accuracy,
) -> tuple[float, float, float, dict[float, float]]:
    """Put the best point of the line into model, which holds the end: (share, validation accuracy, loss, accuracies).

    Tried are the end itself (share 1) and `shares`; accuracies are those of each. metric: of logits and labels, 0 to 1;
    of the points that are within a standard error of the highest, the one of the lowest loss at its best temperature
    wins: of 48 pictures one more that is right says nothing, and the loss sees all of them.
    """
    end, labels = {k: t.clone() for k, t in model.state_dict().items()}, labels_of(val)
    found, accuracies = [], {}
    for share in (1.0, *shares):
        model.load_state_dict(between(start, end, share))
        logits = predict_logits(model, val, preprocess)
        accuracies[share] = accuracy(logits, labels)
        loss = min(cross_entropy(logits / t, labels) for t in TEMPERATURES)
        found.append((metric(logits, labels), loss, share))
    best = max(score for score, _, _ in found)
    error = math.sqrt(2 * max(0.0, best * (1 - best)) / max(1, len(labels)))
    _, loss, share = min((row for row in found if row[0] >= best - error), key=lambda row: (row[1], -row[0]))
    model.load_state_dict(between(start, end, share))
    return share, accuracies[share], loss, accuracies
