"""Kendall's tau and its interval, against scipy and by hand; what few pictures allow, against a simulation."""

import itertools

import numpy as np
import pytest

from foveate.search.ranking import ceiling, kendall, tau_interval


def test_tau_counts_pairs():
    a, b = [1, 2, 3, 4, 5], [1, 3, 2, 5, 4]
    agree = sum((x - y) * (u - v) > 0 for (x, u), (y, v) in itertools.combinations(zip(a, b, strict=True), 2))
    assert kendall(a, b) == pytest.approx((2 * agree - 10) / 10)
    assert kendall([1, 1, 1], [1, 2, 3]) == 0 and kendall([1], [2]) == 0


def test_the_interval_holds_the_true_tau_about_as_often_as_it_says():
    rng, rho = np.random.default_rng(0), 0.7
    true, held = 2 / np.pi * np.arcsin(rho), 0  # of normal pairs with this correlation
    for seed in range(60):
        x = rng.normal(size=24)
        low, high = tau_interval(x, rho * x + np.sqrt(1 - rho**2) * rng.normal(size=24), seed)
        held += low <= true <= high
    assert 52 <= held <= 60


def test_scores_that_agree_by_chance_have_an_interval_around_zero():
    rng = np.random.default_rng(1)
    low, high = tau_interval(rng.normal(size=24), rng.normal(size=24))
    assert low < 0 < high


@pytest.mark.parametrize(("spread", "error", "most"), [(1.0, 1.08, 0.47), (2.0, 1.08, 0.68), (3.0, 0.28, 0.94)])
def test_the_ceiling_is_what_noisy_copies_of_the_truth_reach(spread, error, most):
    assert ceiling(spread, error) == pytest.approx(most, abs=0.006)  # two decimals, as published
    rng = np.random.default_rng(0)
    truth = spread * rng.normal(size=1500)
    assert kendall(truth, truth + error * rng.normal(size=1500)) == pytest.approx(most, abs=0.03)
