"""Gains with several objectives: the hypervolume that is added, and regions that a front does not reach yet."""

import numpy as np
import pytest

from foveate.search.hypervolume import hypervolume, pareto
from foveate.search.samplers import front
from foveate.search.samplers.gaussian import normal_scores

RNG = np.random.default_rng(0)
VALUES = np.concatenate([RNG.random((40, 1)), RNG.random((40, 1))], axis=1)
VALUES = VALUES[VALUES.sum(1) < 1.3]
Z = np.stack([normal_scores(column) for column in VALUES.T], axis=1)


def always(near):
    """In place of the coin: the reference near the front, or the far one."""
    return lambda close, far, rng: close if near else far


def test_without_uncertainty_the_gain_in_values_is_the_volume_that_is_added(monkeypatch):
    monkeypatch.setattr(front, "DIRECTIONS", 20_000)
    monkeypatch.setattr(front, "drawn_reference", always(near=True))
    at = pareto(VALUES)
    corner = VALUES[at].min(0) - 0.1 * (VALUES[at].max(0) - VALUES[at].min(0))
    better = VALUES[at] + np.array([[0.02, 0.05], [0.05, 0.0]])[np.arange(len(at)) % 2]
    better = np.minimum(better, VALUES.max(0))  # beyond the best value the map from scores to values is a guess
    scores = np.stack([np.interp(better[:, k], np.sort(VALUES[:, k]), np.sort(Z[:, k])) for k in range(2)], axis=1)
    got = front.in_values(scores[None], Z, VALUES, np.random.default_rng(1))
    whole = hypervolume(VALUES, corner)
    added = np.array([hypervolume(np.vstack([VALUES, point]), corner) - whole for point in better])
    assert np.corrcoef(got, added)[0, 1] > 0.999
    assert got[added > 1e-9] / added[added > 1e-9] == pytest.approx(
        np.mean(got[added > 1e-9] / added[added > 1e-9]), rel=0.1
    )


def test_an_improvement_is_that_of_its_formula():
    points, known = np.array([[[2.0, 1.0], [0.5, 3.0]]]), np.array([[1.0, 1.0]])
    got = front.improvement(points, known, np.array([3.0, 4.0]))  # w = 0.6, 0.8
    assert got == pytest.approx([0.0, 0.0], abs=1e-8)  # min(2 / 0.6, 1 / 0.8) is that of the known point, 1 / 0.8
    got = front.improvement(points, known, np.array([4.0, 3.0]))
    assert got == pytest.approx([(1 / 0.6) ** 2 - (1 / 0.8) ** 2, 0.0], abs=1e-8)


@pytest.mark.parametrize("gain", [front.in_ranks, front.in_values])
def test_a_front_of_small_nets_can_grow_to_large_ones(gain, monkeypatch):
    """Accuracy against cost: the known front costs little; a net that costs more and is better counts all the same."""
    costs = np.linspace(1, 10, 30)
    values = np.stack([np.minimum(costs, 3) + 0.01 * (costs < 3.2), -costs], axis=1)
    z = np.stack([normal_scores(column) for column in values.T], axis=1)
    candidate = np.array([[[z[:, 0].max() + 1, np.median(z[:, 1])]]])
    monkeypatch.setattr(front, "drawn_reference", always(near=False))
    rng = np.random.default_rng(0)
    assert np.mean([gain(candidate, z, values, rng) > 1e-6 for _ in range(20)]) > 0.3
