"""Conformal sets against golden values (crepes has the same) and against the law of their coverage."""

import numpy as np
import pytest
from golden import second
from scipy.stats import betabinom

from foveate.trust.calibration import probabilities
from foveate.trust.conformal import cumulated, fit_by_class, fit_threshold, least_likely, sets, threshold


@pytest.mark.parametrize(
    ("score", "limit", "hits", "size"),
    [(least_likely, 0.9353578580, 270, 3.543333), (cumulated, 0.9677442129, 275, 3.81)],
)
def test_sets_are_the_golden_ones(score, limit, hits, size):
    z, y, _ = second()
    p = probabilities(z)
    q = fit_threshold(p[:300], y[:300], 0.9, score)
    assert q == pytest.approx(limit, abs=1e-9)
    inside = sets(p[300:], q, score)
    assert inside[np.arange(300), y[300:]].sum() == hits
    assert inside.sum(1).mean() == pytest.approx(size, abs=1e-6)


def test_a_threshold_a_class():
    z, y, _ = second()
    p = probabilities(z)
    q = fit_by_class(p[:300], y[:300], 0.9)
    np.testing.assert_allclose(q, [0.94046808, 0.91803228, 0.95472406, 0.94115924, 0.95938073, 0.92967632], atol=1e-8)
    inside = sets(p[300:], q)
    assert inside[np.arange(300), y[300:]].sum() == 273
    few = fit_by_class(p[:300], np.where(np.arange(300) < 3, 0, 1 + y[:300] % 5), 0.9)
    assert np.isfinite(few).all()  # a class of three pictures takes the common one


@pytest.mark.parametrize(("n", "alpha", "place"), [(19, 0.1, 18), (99, 0.1, 90), (341, 0.05, 325), (19, 0.05, 19)])
def test_the_place_is_exact(n, alpha, place):
    assert threshold(np.random.default_rng(0).permutation(n) + 1.0, 1 - alpha) == place


def test_too_few_pictures_give_all_classes_and_no_set_is_empty():
    assert threshold(np.zeros(18), 0.95) == np.inf
    p = probabilities(np.array([[0.0, 0.1, 0.2], [5.0, 0.0, 0.0]]))
    assert sets(p, np.inf).all()
    assert (sets(p, -1.0).sum(1) == 1).all()


def test_coverage_follows_its_law():
    """Over 200 draws of 341 calibration and 372 test pictures the hits are beta-binomial."""
    rng, hits = np.random.default_rng(4), []
    for _ in range(200):
        z = rng.normal(0, 2, (713, 4))
        p = probabilities(z)
        y = (p.cumsum(1) > rng.random((713, 1))).argmax(1)
        q = fit_threshold(p[:341], y[:341], 0.95)
        hits.append((least_likely(p[341:])[np.arange(372), y[341:]] <= q).sum())
    law = betabinom(372, 325, 342 - 325)
    assert np.mean(hits) == pytest.approx(law.mean(), abs=4 * law.std() / 200**0.5)
    assert np.mean([(340 <= x <= 364) for x in hits]) > 0.9
