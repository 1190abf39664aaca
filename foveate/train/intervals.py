"""Interval of a proportion: Wilson's score interval, doi:10.1080/01621459.1927.10502953."""

import math
from statistics import NormalDist

from foveate.errors import ConfigError


def wilson(correct: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """(low, high) of a true proportion of which `correct` hits were seen in `n` trials.

    The ends solve |correct/n - p| = z sqrt(p (1 - p) / n) for p, z the two-sided normal quantile of `confidence`.
    Unlike p +- z sqrt(p (1 - p) / n) it stays inside [0, 1] and keeps its coverage near 0, near 1 and for small n.
    n = 0 says nothing: (0, 1).
    """
    if not 0 <= correct <= n:
        raise ConfigError(f"wilson: {correct} correct of {n}; expected 0 <= correct <= n")
    if not 0.0 < confidence < 1.0:
        raise ConfigError(f"wilson: confidence {confidence}; expected a number between 0 and 1, such as 0.95")
    if n == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    p = correct / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    # exact at the ends, where rounding would leave 1e-17
    low = 0.0 if correct == 0 else max(0.0, centre - half)
    high = 1.0 if correct == n else min(1.0, centre + half)
    return low, high
