"""Which pictures to label next: the least certain ones, spread out; with few labels, the most typical ones."""

import warnings

import numpy as np

from foveate.trust.suspects import principal

POOL = 10  # times the count: how many of the least certain are spread over
COLD = 10  # labels a class below which probabilities say little, and typical pictures teach more


def margins(p: np.ndarray) -> np.ndarray:
    """The difference of the two largest probabilities of each row, (N,); NaN for a row with NaN."""
    if p.shape[1] < 2:
        return np.ones(len(p))
    ordered = np.sort(p, 1)
    gap: np.ndarray = ordered[:, -1] - ordered[:, -2]
    return gap


def least_certain(p: np.ndarray, features: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    """Places (<= count,) whose label would help most, smallest margin first.

    Of the 10 * count least certain pictures, one of each of `count` clusters of their features: a batch of twins would
    teach the same thing over and over. Rows with NaN are left out.
    """
    margin = margins(p)
    order = np.argsort(margin, kind="stable")
    order = order[np.isfinite(margin[order])]
    pool = order[: POOL * count]
    if len(pool) <= count:
        return pool
    cluster = _clusters(principal(features[pool], 64, seed), count, seed)[0]
    return pool[np.unique(cluster, return_index=True)[1]][
        np.argsort(margin[pool[np.unique(cluster, return_index=True)[1]]], kind="stable")
    ]


def most_typical(features: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    """Places (<= count,): of each of `count` clusters the picture nearest to its middle, the largest cluster first."""
    if len(features) <= count:
        return np.arange(len(features))
    x = principal(features, 64, seed)
    cluster, middles = _clusters(x, count, seed)
    away = np.linalg.norm(x - middles[cluster], axis=1)
    found = [
        (-(cluster == c).sum(), int(np.flatnonzero(cluster == c)[away[cluster == c].argmin()])) for c in set(cluster)
    ]
    return np.array([place for _, place in sorted(found)])


def _clusters(x: np.ndarray, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(the cluster of each row, the middles) by k-means."""
    from sklearn.cluster import KMeans

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fewer distinct rows than clusters
        found = KMeans(count, n_init=1, max_iter=50, random_state=seed).fit(x)
    return found.labels_, found.cluster_centers_
