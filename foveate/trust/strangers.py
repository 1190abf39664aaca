"""Whether a picture is like those that a model was trained for: the signals, and the small set of known features that a
model folder keeps.
"""

import numpy as np

from foveate.train.familiarity import Familiarity as Familiarity
from foveate.train.familiarity import neighbour_distance as neighbour_distance
from foveate.train.familiarity import unit as unit
from foveate.train.trusted import MAX_USUAL, Known

SIZE = 64  # numbers of a feature after the projection


def class_distance(known: np.ndarray, labels: np.ndarray, features: np.ndarray, shrink: bool = True) -> np.ndarray:
    """(N,): squared Mahalanobis distance to the nearest class mean, one covariance for all classes (arXiv:1807.03888).

    shrink: by Ledoit and Wolf, without which as many pictures as numbers in a feature give a singular matrix.
    """
    from sklearn.covariance import EmpiricalCovariance, LedoitWolf

    names = np.unique(labels)
    means = np.stack([known[labels == name].mean(0) for name in names]).astype(np.float64)
    centred = known - means[np.searchsorted(names, labels)]
    model = (LedoitWolf if shrink else EmpiricalCovariance)(assume_centered=True).fit(centred.astype(np.float64))
    found = [np.einsum("nd,de,ne->n", features - m, model.precision_, features - m) for m in means]
    return np.asarray(np.min(found, axis=0), np.float64)


def know(features: np.ndarray, size: int = SIZE) -> Known:
    """Training features (M, D): their directions, projected to the at most `size` axes that hold most of them, and
    these axes, in 16 bits.

    What is usual is not in it yet: that takes validation pictures (fit.py).
    """
    directions = unit(features)
    _, _, axes = np.linalg.svd(directions.astype(np.float64), full_matrices=False)
    kept = axes[: min(size, len(axes))].T.astype(np.float16)
    known = unit(directions @ kept.astype(np.float32)).astype(np.float16)
    none = np.zeros(2, np.float32)
    return Known(kept, known, none, none)


def thinned(usual: np.ndarray, at_most: int = MAX_USUAL) -> np.ndarray:
    """Sorted numbers, float32: all of them, or as many quantiles as are kept."""
    if len(usual) > at_most:
        usual = np.quantile(usual, np.linspace(0.0, 1.0, at_most))
    return usual.astype(np.float32)
