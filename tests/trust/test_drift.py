"""The distance of two samples against SciPy and a permutation by hand, and the rate of false alarms."""

import numpy as np
import pytest
from scipy.stats import binomtest, energy_distance

from foveate.trust.drift import energy, share_p, standardised, wilson


def test_the_gap_is_scipys_energy_distance_without_its_bias():
    rng = np.random.default_rng(0)
    x, y = rng.normal(0, 1, 900), rng.normal(0.7, 1.5, 1100)
    found = energy(x[:, None], y[:, None], rng, 20)
    over = 2 * np.abs(x[:, None] - y[None]).mean()
    assert found.distance * over == pytest.approx(energy_distance(x, y) ** 2, abs=5e-3)
    assert found.low < found.distance < found.high and found.p == pytest.approx(1 / 21)


def test_the_interval_holds_the_truth_in_about_95_of_100():
    truth_rng = np.random.default_rng(1)
    a, b = truth_rng.normal(0, 1, 4000), truth_rng.normal(0.8, 1, 4000)
    truth = energy_distance(a, b) ** 2 / (2 * np.abs(a[:, None] - b[None]).mean())
    rng = np.random.default_rng(2)
    inside = 0
    for _ in range(200):
        d = energy(rng.normal(0, 1, (80, 1)), rng.normal(0.8, 1, (80, 1)), rng, 1)
        inside += d.low <= truth <= d.high
    assert 180 <= inside <= 199


def test_p_is_uniform_where_nothing_changed():
    rng = np.random.default_rng(3)
    p = np.array([energy(rng.normal(size=(40, 3)), rng.normal(size=(60, 3)), rng, 99).p for _ in range(300)])
    assert (p <= 0.05).sum() <= 26 and (p <= 0.5).sum() == pytest.approx(150, abs=35)  # 300 draws: 3 deviations


def test_many_features_of_few_pictures_differ_by_no_more_than_chance():
    rng = np.random.default_rng(5)
    p = [energy(*standardised(rng.normal(size=(40, 300)), rng.normal(size=(60, 300))), rng, 99).p for _ in range(200)]
    assert (np.array(p) <= 0.05).sum() <= 20  # 200 draws: 3 deviations


def test_main_axes_are_those_of_both_and_constants_do_no_harm():
    rng = np.random.default_rng(4)
    x = rng.normal(size=(50, 4)) * (10, 1, 0.1, 0)
    a, b = standardised(x, x + 1, axes=2)
    both = np.concatenate((a, b))
    assert a.shape == b.shape == (50, 2) and both.mean(0) == pytest.approx(0, abs=1e-12)
    assert both[:, 0].std() == pytest.approx(1)
    assert standardised(np.ones((5, 3)), np.ones((4, 3)))[1].shape == (4, 1)


def test_intervals_of_shares_and_the_exact_test():
    for k, n in ((0, 20), (3, 50), (50, 50)):
        ours, theirs = wilson(k, n), binomtest(k, n).proportion_ci(method="wilson")
        assert ours == pytest.approx((theirs.low, theirs.high), abs=1e-6)
    assert share_p(10, 50, 5, 100) < 0.01 < share_p(3, 50, 5, 100)
