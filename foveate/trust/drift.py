"""Are two samples of pictures from one population? A distance with its interval, a test, and the test of a share.

The distance is the energy coefficient (Szekely and Rizzo, Journal of Statistical Planning and Inference 143, 2013):
(2 E|X - Y| - E|X - X'| - E|Y - Y'|) / (2 E|X - Y|), 0 for equal populations and at most 1. Here without its bias: pairs
of a picture with itself are left out, so that equal populations give 0 on average and may give less.
"""

import math
from dataclasses import dataclass

import numpy as np

DRAWS = 2_000  # permutations
AXES = 16  # directions that are compared: those along which both samples together spread most
Z95 = 1.959964


@dataclass(frozen=True)
class Distance:
    """distance with its 95 % interval; p: how often a random split of both is as far apart."""

    distance: float
    low: float
    high: float
    p: float


def standardised(x: np.ndarray, y: np.ndarray, axes: int = AXES) -> tuple[np.ndarray, np.ndarray]:
    """(n, D) and (m, D) along the main axes of both together, divided by the largest deviation.

    Of both: axes of one alone would follow its chances, and few pictures with many features would always differ.
    """
    both = np.concatenate((x, y))
    centred = both - both.mean(0)
    _, s, vt = np.linalg.svd(centred, full_matrices=False)
    kept = vt[: max(1, min(axes, int((s > 1e-9 * max(s[0], 1e-300)).sum())))]
    z = centred @ kept.T / max(float(s[0]) / math.sqrt(len(both)), 1e-12)
    return z[: len(x)], z[len(x) :]


def energy(x: np.ndarray, y: np.ndarray, rng: np.random.Generator, draws: int = DRAWS) -> Distance:
    """The distance of samples (n, D) and (m, D), n and m at least 2. Memory: (n + m) squared numbers."""
    n, m = len(x), len(y)
    d = _distances(np.concatenate((x, y)))
    inside = np.zeros((draws + 1, n + m), bool)
    inside[0, :n] = True
    inside[1:] = rng.permuted(np.tile(inside[0], (draws, 1)), axis=1)
    z = inside.astype(np.float64)
    to_first = z @ d  # summed distances to the first sample
    xx = (to_first * z).sum(1)
    xy = (to_first * (1 - z)).sum(1)
    yy = d.sum() - xx - 2 * xy
    gap = 2 * xy / (n * m) - xx / (n * (n - 1)) - yy / (m * (m - 1))
    p = float((1 + (gap[1:] >= gap[0] - 1e-12).sum()) / (draws + 1))
    over = max(2 * float(xy[0]) / (n * m), 1e-12)
    a, b = d[:n, n:], (d[:n, :n], d[n:, n:])
    hx = 2 * a.mean(1) - 2 * b[0].sum(1) / (n - 1)  # what a single picture adds
    hy = 2 * a.mean(0) - 2 * b[1].sum(1) / (m - 1)
    error = math.sqrt(hx.var(ddof=1) / n + hy.var(ddof=1) / m)
    middle = float(gap[0])
    return Distance(middle / over, (middle - Z95 * error) / over, (middle + Z95 * error) / over, p)


def _distances(x: np.ndarray) -> np.ndarray:
    """Euclidean, (N, D) -> (N, N)."""
    squares = (x * x).sum(1)
    found = np.maximum(squares[:, None] + squares[None] - 2 * x @ x.T, 0)
    np.fill_diagonal(found, 0)
    return np.asarray(np.sqrt(found))


def share_p(k: int, n: int, k0: int, n0: int) -> float:
    """How often k of n is as many or more where k0 of n0 is usual: Fisher's exact test, one-sided."""
    from scipy.stats import fisher_exact

    return float(fisher_exact([[k, n - k], [k0, n0 - k0]], alternative="greater").pvalue)


def wilson(k: int, n: int) -> tuple[float, float]:
    """The 95 % interval of a share."""
    if not n:
        return 0.0, 1.0
    p, z2 = k / n, Z95 * Z95
    middle, half = p + z2 / (2 * n), Z95 * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    return max(0.0, (middle - half) / (1 + z2 / n)), min(1.0, (middle + half) / (1 + z2 / n))
