"""wilson against published values, scipy and its own defining equation."""

import math

import pytest
from scipy.stats import binomtest, norm

from foveate.errors import ConfigError
from foveate.train.intervals import wilson


def test_agrees_with_scipy_on_many_counts():
    for n in (1, 2, 7, 100, 372, 10_000):
        for correct in {0, 1, n // 3, n // 2, n - 1, n}:
            for confidence in (0.5, 0.9, 0.95, 0.99):
                theirs = binomtest(correct, n).proportion_ci(confidence, method="wilson")
                assert wilson(correct, n, confidence) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_published_example():
    # Newcombe 1998, Statistics in Medicine 17, 857-872, table I, method 3: 81/263, 15/148, 0/20, 1/29
    for correct, n, low, high in (
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ):
        assert wilson(correct, n) == pytest.approx((low, high), abs=5e-5)


def test_ends_solve_the_defining_equation():
    correct, n = 37, 90
    z = norm.ppf(0.975)
    for p in wilson(correct, n):
        assert abs(correct / n - p) == pytest.approx(z * math.sqrt(p * (1 - p) / n), abs=1e-12)


def test_stays_inside_0_and_1_and_holds_the_proportion():
    for n in range(1, 40):
        for correct in range(n + 1):
            low, high = wilson(correct, n)
            assert 0.0 <= low <= correct / n <= high <= 1.0


def test_hits_and_misses_mirror_each_other():
    low, high = wilson(30, 100)
    assert wilson(70, 100) == pytest.approx((1 - high, 1 - low), abs=1e-15)


def test_no_trials_say_nothing():
    assert wilson(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("correct", "n", "confidence"), [(-1, 5, 0.95), (6, 5, 0.95), (1, 5, 1.0), (1, 5, 0.0), (1, 5, math.nan)]
)
def test_impossible_counts_are_refused(correct, n, confidence):
    with pytest.raises(ConfigError):
        wilson(correct, n, confidence)
