"""Sets of classes that hold the right one with a stated probability, by split conformal prediction.

With n calibration scores the threshold is the k-th smallest, k = ceil((n + 1)(1 - a)). Sort and index: a quantile
function is one place off for many n. The promise is of the average over draws of both calibration and test pictures; it
does not hold for strangers, for drift, or where pictures of one thing stand in both.
"""

from collections.abc import Callable

import numpy as np

Score = Callable[[np.ndarray], np.ndarray]  # probabilities (N, K) -> scores (N, K), small where the class is likely


def least_likely(probabilities: np.ndarray) -> np.ndarray:
    """LAC: 1 - p of each class. The smallest sets on average, and by itself sometimes an empty one."""
    return 1.0 - probabilities


def cumulated(probabilities: np.ndarray) -> np.ndarray:
    """APS without the random part: the sum over all classes that are at least as likely (arXiv:2006.02544)."""
    order = np.argsort(-probabilities, axis=1, kind="stable")
    sums = np.cumsum(np.take_along_axis(probabilities, order, 1), axis=1)
    out = np.empty_like(probabilities)
    np.put_along_axis(out, order, sums, 1)
    return out


def threshold(scores: np.ndarray, coverage: float) -> float:
    """The score that a class may have to be in a set: scores (n,) of the right classes of calibration pictures.

    Infinite (all classes) with fewer than 1 / (1 - coverage) - 1 pictures: 19 for 0.95.
    """
    n = len(scores)
    k = int(np.ceil((n + 1) * coverage - 1e-9))
    return float(np.sort(scores)[k - 1]) if k <= n else float("inf")


def fit_threshold(probabilities: np.ndarray, labels: np.ndarray, coverage: float, score: Score = least_likely) -> float:
    """threshold() of probabilities (N, K) and labels (N,)."""
    return threshold(score(probabilities)[np.arange(len(labels)), labels], coverage)


def fit_by_class(
    probabilities: np.ndarray, labels: np.ndarray, coverage: float, score: Score = least_likely
) -> np.ndarray:
    """(K,): a threshold for every class, from its own pictures; the common one where it has too few."""
    own = score(probabilities)[np.arange(len(labels)), labels]
    common = threshold(own, coverage)
    found = [threshold(own[labels == k], coverage) for k in range(probabilities.shape[1])]
    return np.array([common if np.isinf(q) else q for q in found])


def sets(probabilities: np.ndarray, limit: float | np.ndarray, score: Score = least_likely) -> np.ndarray:
    """bool (N, K): which classes are in the set. The likeliest class always is."""
    inside = score(probabilities) <= limit
    inside[np.arange(len(inside)), probabilities.argmax(1)] = True
    return inside
