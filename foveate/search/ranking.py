"""How well a cheap score ranks nets: Kendall's tau with an interval, and the most that few pictures allow."""

import math
from collections.abc import Sequence

import numpy as np

RESAMPLES, LEVEL = 1000, 0.95
ENOUGH = 0.6  # a tau from which a score is taken for a training


def kendall(a: Sequence[float], b: Sequence[float]) -> float:
    """Kendall's tau-b (ties count on neither side) of two lists of the same nets; 0 where one of them is constant."""
    from scipy.stats import kendalltau

    found = float(kendalltau(a, b).statistic) if len(a) > 1 else math.nan
    return found if math.isfinite(found) else 0.0


def tau_interval(a: Sequence[float], b: Sequence[float], seed: int = 0) -> tuple[float, float]:
    """The interval of tau over nets drawn again with replacement (percentile bootstrap, RESAMPLES times, LEVEL).

    Pairs of one net with itself are left out of each sample: they are ties, and would pull tau towards 0.
    """
    x, y = np.asarray(a, float), np.asarray(b, float)
    agree = np.sign(x[:, None] - x[None]) * np.sign(y[:, None] - y[None])
    rng, found = np.random.default_rng(seed), []
    for _ in range(RESAMPLES):
        picks = rng.integers(len(x), size=len(x))
        other = picks[:, None] != picks[None]
        found.append(agree[np.ix_(picks, picks)][other].mean() if other.any() else 0.0)
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(found, [tail, 100 - tail])
    return float(low), float(high)


def ceiling(spread: float, error: float) -> float:
    """The largest tau to be expected of scores with a normal error of this deviation, where the true values are normal
    with this spread, both in the same unit: (2 / pi) asin(spread / sqrt(spread^2 + error^2)). 1 without an error.
    """
    return 2 / math.pi * math.asin(spread / math.hypot(spread, error)) if spread > 0 else 0.0
