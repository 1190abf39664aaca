"""How far probabilities are from what happens: calibration errors, Brier scores, what is kept against what is right.

Confidence c is the largest probability of a picture, h whether its class is the right one.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from foveate.train.trusted import PLAIN, Trust

BINS = 15
DRAWS = 1000  # of the null and of the bootstrap
DRAWN = 10**7  # pictures in all draws of an interval


@dataclass(frozen=True, eq=False)
class Bins:
    """What stands in the bins that are not empty: pictures, mean confidence, accuracy."""

    count: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray

    def error(self) -> float:
        """The gap of accuracy and confidence, averaged over the pictures."""
        return float((self.count * abs(self.accuracy - self.confidence)).sum() / self.count.sum())

    def squared(self) -> float:
        """The squared gap without what chance adds to it (arXiv:1909.10155): around 0, also below, where calibrated.
        Bins of one picture say nothing and are left out.
        """
        n, a, c = (x[self.count > 1] for x in (self.count, self.accuracy, self.confidence))
        return float((n * ((a - c) ** 2 - a * (1 - a) / (n - 1))).sum() / self.count.sum())


def confidences(probabilities: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(c, h) of probabilities (N, K) and labels (N,): float64 (N,) each, h 0 or 1."""
    return probabilities.max(1).astype(np.float64), (probabilities.argmax(1) == labels).astype(np.float64)


def binned(c: np.ndarray, h: np.ndarray, bins: int = BINS, *, mass: bool = False) -> Bins:
    """Bins of equal width of confidence, ((m - 1) / M, m / M]; mass: of equally many pictures (adaptive).

    Pictures of one confidence share the mean of their h, so that the order of equals does not count.
    """
    n = len(c)
    if mass:
        c = np.round(c, 9)
        _, group = np.unique(c, return_inverse=True)
        h = (np.bincount(group, weights=h) / np.bincount(group))[group]
        place = np.empty(n, int)
        place[np.argsort(c, kind="stable")] = np.arange(n) * bins // n
    else:
        place = np.clip(np.ceil(c * bins).astype(int) - 1, 0, bins - 1)
    count = np.bincount(place, minlength=bins)
    there = count > 0
    sums = [np.bincount(place, weights=x, minlength=bins)[there] / count[there] for x in (c, h)]
    return Bins(count[there], sums[0], sums[1])


def null_error(c: np.ndarray, bins: int = BINS, draws: int = DRAWS, seed: int = 0) -> tuple[float, float]:
    """(mean, 95 % quantile) of the error that a perfectly calibrated model of these confidences would show."""
    rng = np.random.default_rng(seed)
    found = [binned(c, (rng.random(len(c)) < c).astype(float), bins).error() for _ in range(draws)]
    return float(np.mean(found)), float(np.quantile(found, 0.95))


def error_interval(
    c: np.ndarray, h: np.ndarray, bins: int = BINS, draws: int = DRAWS, seed: int = 0
) -> tuple[float, float]:
    """95 % of the expected calibration error, by the basic bootstrap, cut at 0: percentiles alone miss it too often."""
    rng, n = np.random.default_rng(seed), len(c)
    found = []
    for _ in range(draws):
        picks = rng.integers(0, n, n)
        found.append(binned(c[picks], h[picks], bins).error())
    middle = binned(c, h, bins).error()
    low, high = np.quantile(found, [0.025, 0.975])
    return max(0.0, 2 * middle - float(high)), max(0.0, 2 * middle - float(low))


def classwise_error(probabilities: np.ndarray, labels: np.ndarray, bins: int = BINS) -> float:
    """The calibration error of every class's probability against being that class, averaged over the classes."""
    classes = range(probabilities.shape[1])
    return float(np.mean([binned(probabilities[:, k], (labels == k).astype(float), bins).error() for k in classes]))


def brier(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """mean over pictures of sum_k (p_k - [y = k])^2, 0 to 2. Some libraries divide by the number of classes."""
    hot = np.eye(probabilities.shape[1])[labels]
    return float(((probabilities - hot) ** 2).sum(1).mean())


def coverage_risk(score: np.ndarray, h: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(share kept, share of errors among the kept), keeping the pictures of the highest scores first: (N,) each."""
    right = h[np.argsort(-score, kind="stable")]
    kept = np.arange(1, len(h) + 1)
    return kept / len(h), 1 - np.cumsum(right) / kept


def keep_threshold(score: np.ndarray, share: float) -> float:
    """The score at which a share of these pictures is kept: the ceil(share n)-th largest. Those that reach it stay."""
    place = int(np.ceil(share * len(score) - 1e-9))
    return float(np.sort(score)[::-1][max(1, place) - 1])


def scores_of(logits: np.ndarray, labels: np.ndarray, trust: Trust) -> dict[str, Any]:
    """ece, ece_before, their interval and null, brier and brier_before; JSON-able."""
    after, before = trust.probabilities(logits), PLAIN.probabilities(logits)
    draws = max(100, min(DRAWS, DRAWN // max(1, len(labels))))
    (c, h), (c0, h0) = confidences(after, labels), confidences(before, labels)
    return {
        "ece": binned(c, h).error(),
        "ece_before": binned(c0, h0).error(),
        "ece_interval": list(error_interval(c, h, draws=draws)),
        "ece_null": list(null_error(c, draws=draws)),
        "brier": brier(after, labels),
        "brier_before": brier(before, labels),
    }
