"""Temperatures, errors and Brier scores against golden values of other libraries, and what is true by design."""

import numpy as np
import pytest
from golden import first

from foveate.errors import DataError
from foveate.trust.calibration import cross_scaled, fit_scaling, fit_temperature, fit_vector, probabilities
from foveate.trust.scores import (
    binned,
    brier,
    classwise_error,
    confidences,
    coverage_risk,
    error_interval,
    keep_threshold,
    null_error,
)


def nll(z, y):
    p = probabilities(z)
    return float(-np.log(p[np.arange(len(y)), y]).mean())


def test_the_temperature_is_the_golden_one():
    z, y = first()
    found = fit_temperature(z, y, prior=None)
    assert found.temperature == pytest.approx(1.5155959908, abs=1e-6)
    assert found.error == pytest.approx(0.117, abs=5e-4)
    assert nll(z, y) == pytest.approx(1.1675468857, abs=1e-9)
    assert nll(found.apply(z), y) == pytest.approx(1.1269037584, abs=1e-9)
    assert 1 < fit_temperature(z, y).temperature < found.temperature  # the prior holds it back a little


def test_vector_scaling_is_the_golden_one():
    z, y = first()
    found = fit_vector(z, y)
    np.testing.assert_allclose(found.scale, [0.65849, 1.310744, 0.638056, 1.405526], atol=2e-4)
    np.testing.assert_allclose(found.shift, [1.098565, -1.108811, 0.920804, -0.910558], atol=2e-4)
    assert nll(found.apply(z), y) == pytest.approx(0.9453343237, abs=1e-8)


@pytest.mark.parametrize(
    ("temperature", "width", "mass", "squared", "score", "by_class"),
    [
        (1.0, 0.13195931, 0.14333466, 0.02105675, 0.56617540, 0.12768494),
        (1.5155959908, 0.19416217, 0.19416217, 0.03616554, 0.58526210, 0.13554368),
    ],
)
def test_errors_are_the_golden_ones(temperature, width, mass, squared, score, by_class):
    z, y = first()
    p = probabilities(z / temperature)
    c, h = confidences(p, y)
    assert binned(c, h).error() == pytest.approx(width, abs=1e-7)
    assert binned(c, h, mass=True).error() == pytest.approx(mass, abs=0.015)  # equal confidences: by their order there
    assert binned(c, h, mass=True).squared() == pytest.approx(squared, abs=6e-3)
    assert brier(p, y) == pytest.approx(score, abs=1e-7)
    assert classwise_error(p, y) == pytest.approx(by_class, abs=1e-7)


def test_bins_of_equal_mass_written_out():
    rng = np.random.default_rng(5)
    c, h = rng.random(97), rng.integers(0, 2, 97).astype(float)
    places = [[i for rank, i in enumerate(np.argsort(c)) if rank * 15 // 97 == m] for m in range(15)]
    gaps = [(len(p), h[p].mean(), c[p].mean()) for p in places]
    assert binned(c, h, mass=True).error() == pytest.approx(sum(n * abs(a - b) for n, a, b in gaps) / 97, abs=1e-8)
    square = sum(n * ((a - b) ** 2 - a * (1 - a) / (n - 1)) for n, a, b in gaps) / 97
    assert binned(c, h, mass=True).squared() == pytest.approx(square, abs=1e-8)
    swapped = rng.permutation(97)
    ties = np.round(c, 1)
    assert binned(ties[swapped], h[swapped], mass=True).error() == pytest.approx(binned(ties, h, mass=True).error())


def test_the_width_error_is_that_of_torchmetrics():
    import torch
    from torchmetrics.functional.classification import multiclass_calibration_error

    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.full(5, 0.4), 400)
    y = rng.integers(0, 5, 400)
    theirs = multiclass_calibration_error(torch.from_numpy(p), torch.from_numpy(y), num_classes=5, n_bins=15, norm="l1")
    assert binned(*confidences(p, y)).error() == pytest.approx(float(theirs), abs=1e-6)


def test_a_calibrated_model_is_within_its_null_and_an_overconfident_one_is_mended():
    rng = np.random.default_rng(1)
    z = rng.normal(0, 2, (2000, 5))
    y = np.array([rng.choice(5, p=row) for row in probabilities(z)])
    c, h = confidences(probabilities(z), y)
    mean, most = null_error(c, draws=200)
    assert mean < binned(c, h).error() < 1.3 * most
    assert abs(binned(c, h, mass=True).squared()) < 2e-3
    sharp = fit_temperature(3 * z[:1000], y[:1000])
    assert sharp.temperature == pytest.approx(3, rel=0.1)
    after = binned(*confidences(probabilities(3 * z[1000:], sharp), y[1000:])).error()
    before = binned(*confidences(probabilities(3 * z[1000:]), y[1000:])).error()
    assert after < before / 3
    crossed = binned(*confidences(probabilities(cross_scaled(3 * z, y)), y)).error()
    assert crossed < 1.3 * null_error(confidences(probabilities(z), y)[0], draws=200)[1]


def test_a_vector_is_taken_only_where_pictures_are_many_and_it_helps():
    rng = np.random.default_rng(2)
    z = rng.normal(0, 2, (1200, 3))
    y = np.array([rng.choice(3, p=row) for row in probabilities(z)])
    bent = (z - np.array([0, 1.5, -1])) / np.array([1.0, 0.4, 2.0])
    assert fit_scaling(bent, y).kind == "vector"
    assert fit_scaling(z, y).kind == "temperature"
    assert fit_scaling(bent[:100], y[:100]).kind == "temperature"


def test_no_temperature_is_better_than_one_at_the_end_of_the_range():
    z = np.eye(3)[np.arange(30) % 3] * 8
    assert fit_temperature(z, np.arange(30) % 3, prior=None).kind == "none"  # all are right: any sharper is better
    found = fit_temperature(z, np.arange(30) % 3)
    assert found.kind == "temperature" and 0.05 < found.temperature < 1
    assert fit_temperature(np.zeros((30, 3)), np.arange(30) % 3).temperature == pytest.approx(1, abs=1e-3)


def test_the_interval_holds_the_error_and_the_threshold_the_share():
    rng = np.random.default_rng(3)
    c = rng.beta(4, 0.7, 372)
    h = (rng.random(372) < c - 0.15).astype(float)
    low, high = error_interval(c, h, draws=300)
    assert low < 0.15 < high and low > 0
    for share in (0.5, 0.9, 0.95, 1.0):
        assert (c >= keep_threshold(c, share)).mean() == pytest.approx(share, abs=1 / 372)
    kept, risk = coverage_risk(c, h)
    assert kept[-1] == 1 and risk[-1] == pytest.approx(1 - h.mean()) and risk[100] < risk[-1]


def test_what_can_not_be_calibrated_is_said():
    with pytest.raises(DataError, match="not finite"):
        fit_temperature(np.array([[np.nan, 1.0], [1.0, 2.0]]), np.array([0, 1]))
    with pytest.raises(DataError, match="at least 2"):
        fit_temperature(np.zeros((1, 2)), np.array([0]))
