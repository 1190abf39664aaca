"""Statistics of paired seeds: intervals over seeds, paired differences, exact tests, correction for many rows.

Student's t assumes that the differences scatter normally; the exact test assumes only that under "no effect" each
difference could as well have had the other sign, but with n seeds its p can not fall below 2 / 2**n.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from foveate.train.intervals import wilson

CONFIDENCE = 0.95
MAX_EXACT = 18  # seeds up to which all 2**n signs are tried


@dataclass(frozen=True)
class Spread:
    """n values: their mean, standard deviation (n - 1) and the 95 % interval of the true mean."""

    n: int
    mean: float
    sd: float | None = None  # None: one value
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Difference:
    """n paired differences (row minus reference): mean, interval, p of the paired t test and of the exact test."""

    n: int
    mean: float
    sd: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None  # two-sided paired t test; None: one seed, or no scatter
    p_exact: float | None = None  # two-sided sign-flip test of the mean; None: one seed, or too many
    wins: int = 0  # seeds in which the row was better
    losses: int = 0


def spread(values: Sequence[float]) -> Spread:
    """mean +- t(0.975, n - 1) sd / sqrt(n)."""
    n, mean = len(values), math.fsum(values) / len(values)
    if n == 1:
        return Spread(1, mean)
    sd = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1))
    half = t_quantile(n - 1) * sd / math.sqrt(n)
    return Spread(n, mean, sd, mean - half, mean + half)


def one_seed(correct: int, n: int) -> Spread:
    """Of a single seed: the share of n pictures with Wilson's interval, which knows nothing of other seeds."""
    low, high = wilson(correct, n, CONFIDENCE)
    return Spread(1, correct / n, None, low, high)


def difference(row: Sequence[float], reference: Sequence[float]) -> Difference:
    """Paired differences of two rows over the same seeds, in the same order."""
    found = [a - b for a, b in zip(row, reference, strict=True)]
    return of_differences(found)


def of_differences(found: Sequence[float]) -> Difference:
    """Interval and tests of differences that scatter around an effect; equal ones (no scatter) have no t test."""
    s = spread(found)
    wins, losses = sum(d > 0 for d in found), sum(d < 0 for d in found)
    if s.n == 1 or s.sd is None:
        return Difference(1, s.mean, wins=wins, losses=losses)
    if s.sd <= 1e-12:  # an interval of width 0 would claim too much
        return Difference(s.n, s.mean, s.sd, p_exact=sign_flip(found), wins=wins, losses=losses)
    p = t_two_sided(s.mean / (s.sd / math.sqrt(s.n)), s.n - 1)
    return Difference(s.n, s.mean, s.sd, s.low, s.high, p, sign_flip(found), wins, losses)


def sign_flip(found: Sequence[float]) -> float | None:
    """Share of all 2**n choices of signs whose mean is at least as far from 0 as the one seen (exact, two-sided)."""
    n = len(found)
    if n > MAX_EXACT:
        return None
    sums = np.zeros(1)
    for d in found:
        sums = np.concatenate([sums + d, sums - d])
    seen = abs(math.fsum(found))
    return float(np.mean(np.abs(sums) >= seen - 1e-9 * max(1.0, seen)))


def t_quantile(degrees: int, confidence: float = CONFIDENCE) -> float:
    """Two-sided quantile of Student's t."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees, (1 + confidence) / 2))


def t_two_sided(t: float, degrees: int) -> float:
    """P(|T| >= |t|)."""
    from scipy.special import stdtr

    return float(2 * stdtr(degrees, -abs(t)))


def holm(ps: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down correction (1979): adjusted p in the given order; None is left out of the count."""
    places = sorted((i for i, p in enumerate(ps) if p is not None), key=lambda i: ps[i] or 0.0)
    adjusted: list[float | None] = [None] * len(ps)
    highest = 0.0
    for rank, i in enumerate(places):
        highest = max(highest, min(1.0, (len(places) - rank) * (ps[i] or 0.0)))
        adjusted[i] = highest
    return adjusted


def effects(rows: Mapping[frozenset[str], Sequence[float]], factors: Sequence[str]) -> list[tuple[str, list[float]]]:
    """Effects of a full factorial design, seed by seed: rows[factors that are on] = one value a seed.

    Main effect of a: the mean over all settings of the others of y(a on) - y(a off). Interaction of a and b: the
    mean of [y(a, b) - y(b)] - [y(a) - y(neither)]: what a gives more when b is on. Names are "a" and "a x b".
    """
    found = [((a,), a) for a in factors]
    pairs = [(pair, " x ".join(pair)) for pair in itertools.combinations(factors, 2)]
    settings = 2 ** len(factors)
    result = []
    for group, name in [*found, *pairs]:
        total = np.zeros(len(next(iter(rows.values()))))
        for on, values in rows.items():
            total += np.prod([1 if f in on else -1 for f in group]) * np.asarray(values, dtype=np.float64)
        result.append((name, (total * 2 ** len(group) / settings).tolist()))
    return result
