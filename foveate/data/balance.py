"""Classes of unequal size: how often each is drawn in an epoch, and how much a picture of it counts."""

import numpy as np

from foveate.data.random import generator

MOST = 10.0  # times the mean that a picture of a rare class counts at most: above, single pictures steer the training
STREAM = 2**32  # added to the epoch: these permutations are not those of the epoch's order


def balanced_order(labels: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """The order of an epoch that shows every class equally often: positions, int64 (n,), as long as without.

    labels: of the n samples, int64. A class goes through all of its pictures before one comes again; where the classes
    do not divide n, those that get one more are drawn. A pure function of its arguments.
    """
    rng, n = generator(seed, STREAM + epoch), len(labels)
    present = rng.permutation(np.unique(labels))
    parts = []
    for place, label in enumerate(present):
        members, wanted = np.flatnonzero(labels == label), n // len(present) + (place < n % len(present))
        rounds = [rng.permutation(members) for _ in range(-(-wanted // len(members)))]
        parts.append(np.concatenate([*rounds, np.zeros(0, np.int64)])[:wanted])
    return rng.permutation(np.concatenate(parts)) if parts else np.zeros(0, np.int64)


def class_weights(labels: np.ndarray, classes: int) -> np.ndarray:
    """What a picture of each class counts, float32 (classes,): inverse to the size of the class, 1 in the mean over
    pictures where no class is capped at MOST. A class without pictures counts 1.
    """
    counts = np.bincount(labels, minlength=classes)
    present = np.count_nonzero(counts)
    weights = np.where(counts > 0, len(labels) / (max(1, present) * np.maximum(counts, 1)), 1.0)
    return np.minimum(weights, MOST).astype(np.float32)
