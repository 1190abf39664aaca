"""Distances against golden values and scikit-learn; the joint signal on strangers that one signal alone misses."""

import numpy as np
import pytest
from golden import second
from scipy.stats import combine_pvalues
from sklearn.metrics import roc_auc_score

from foveate.errors import DataError
from foveate.trust.strangers import Familiarity, class_distance, neighbour_distance


def test_distances_are_the_golden_ones():
    _, y, f = second()
    found = neighbour_distance(f[:300], f[300:305])
    np.testing.assert_allclose(found, [0.03038971, 0.02378237, 0.10436513, 0.01585633, 0.01989702], atol=1e-6)
    found = class_distance(f[:300], y[:300], f[300:305], shrink=False)
    np.testing.assert_allclose(found, [4.59042425, 1.4478088, 2.5690906, 0.54700711, 1.43566612], atol=1e-6)


def test_neighbours_are_those_of_scikit_learn():
    from sklearn.neighbors import NearestNeighbors

    rng = np.random.default_rng(0)
    known, new = rng.normal(size=(700, 16)), rng.normal(size=(600, 16))
    theirs = NearestNeighbors(n_neighbors=10, metric="cosine").fit(known).kneighbors(new)[0][:, -1]
    np.testing.assert_allclose(neighbour_distance(known, new), theirs, atol=1e-6)


def test_odd_features_are_far_and_few_known_ones_do():
    known = np.eye(4)[:3]
    assert neighbour_distance(known, np.zeros((1, 4)))[0] == 1
    assert neighbour_distance(known, np.full((1, 4), np.nan))[0] == 2
    assert neighbour_distance(known, known[:1], k=10)[0] == pytest.approx(1)
    with pytest.raises(DataError, match="no known"):
        neighbour_distance(known[:0], known)


def test_the_joint_signal_tells_both_kinds_of_strangers_and_keeps_what_was_asked():
    """One kind lies far and is answered with certainty, the other lies near and is in doubt."""
    rng = np.random.default_rng(1)
    near, far = rng.gamma(4, 0.02, 600), rng.gamma(4, 0.02, 100) + 0.4
    sure, unsure = 1 - rng.beta(1, 12, 600), rng.uniform(0.2, 0.4, 100)
    usual = Familiarity.fit(near[:300], sure[:300])
    assert usual.sums is not None and usual.sums.shape == (300,)
    limit = usual.limit(near[:300], sure[:300], 0.95)
    assert (usual.strangeness(near[:300], sure[:300]) <= limit).mean() == pytest.approx(0.95, abs=2 / 300)
    assert 0.90 < (usual.strangeness(near[300:], sure[300:]) <= limit).mean() < 0.99
    d, p = np.concatenate([far, near[:100]]), np.concatenate([sure[:100], unsure])
    strange = usual.strangeness(d, p)
    assert (strange > limit).mean() > 0.95
    truth = np.r_[np.zeros(300), np.ones(200)]
    both = roc_auc_score(truth, np.r_[usual.strangeness(near[300:], sure[300:]), strange])
    alone = [roc_auc_score(truth, np.r_[a, b]) for a, b in ((near[300:], d), (1 - sure[300:], 1 - p))]
    assert both > 0.99 > max(alone)


def test_the_sum_is_fishers():
    """Of the shares of usual pictures that are as far, the picture among them; a rank beyond all goes on."""
    usual = Familiarity.fit(np.arange(1.0, 100.0), 1 - np.arange(1.0, 100.0) / 100)
    shares = np.array([1.0, 1 - 49 / 98 * 99 / 100, 1 / 100])  # of the least, the middle and the most of 99
    sums = usual.evidence(np.array([1.0, 50.0, 99.0]), 1 - np.array([0.01, 0.5, 0.99]))
    assert np.allclose(-2 * sums, 2 * combine_pvalues_log(shares))
    assert usual.evidence(np.array([198.0]), np.array([0.99]))[0] == pytest.approx(np.log(100) + 1)
    older = Familiarity(usual.distances, usual.doubts)
    assert older.strangeness(np.array([50.0]), np.array([0.9]))[0] == pytest.approx(0.5)  # the larger rank


def combine_pvalues_log(shares):
    """Half of SciPy's Fisher statistic of each share with itself, negative."""
    return np.array([-combine_pvalues([p, p], method="fisher").statistic / 2 for p in shares])
