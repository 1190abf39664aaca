"""Pools of probabilities: what must hold for any members."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from foveate.classic.pool import STACK_C, crossed_stack, fit_stack, fit_weights, log_mean, nll, select


@pytest.fixture
def members():
    """(probabilities (3, 300, 4), labels): a good, a fair and a useless one."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 4, 300)
    z = rng.normal(size=(3, 300, 4)) + np.array([2.0, 1.2, 0.0])[:, None, None] * np.eye(4)[y]
    p = np.exp(z)
    return p / p.sum(2, keepdims=True), y


def test_a_mean_is_no_worse_than_its_members_on_average(members):
    p, y = members
    for weights in (np.full(3, 1 / 3), np.array([0.7, 0.2, 0.1])):
        each = [nll(np.log(m), y) for m in p]
        assert nll(log_mean(p, weights), y) <= weights @ each + 1e-12
    turned = log_mean(p[::-1], np.array([0.1, 0.2, 0.7]))
    np.testing.assert_allclose(turned, log_mean(p, np.array([0.7, 0.2, 0.1])))


def test_weights_leave_the_useless_member_out(members):
    p, y = members
    for weights in (fit_weights(p, y), select(p, y)):
        assert weights.sum() == pytest.approx(1) and weights[0] > weights[1] >= weights[2] and weights[2] < 0.15


def test_selection_is_never_worse_than_the_best_member(members):
    p, y = members
    assert nll(log_mean(p, select(p, y)), y) <= min(nll(np.log(m), y) for m in p) + 1e-9


@pytest.mark.parametrize("classes", [2, 4])
def test_stacking_is_scikit_learns(members, classes):
    p, y = members
    keep = y < classes
    logs, labels = np.log(p[:, keep]).transpose(1, 0, 2).reshape(keep.sum(), -1), y[keep]
    weight, bias = fit_stack(logs, labels, 4)
    theirs = LogisticRegression(C=STACK_C, max_iter=2000).fit(logs, labels)
    assert ((logs @ weight.T + bias).argmax(1) == theirs.predict(logs)).all()
    unseen = crossed_stack(logs, labels, 4)
    assert (unseen.argmax(1) == labels).mean() <= (theirs.predict(logs) == labels).mean() + 0.05


def test_greedy_selection_keeps_to_its_limit_and_counts_a_member_once():
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 4, 300)
    logits = [s * np.eye(4)[labels] + rng.normal(size=(300, 4)) for s in (2.0, 1.9, 1.8)]
    each = np.stack([np.exp(z) / np.exp(z).sum(1, keepdims=True) for z in logits])
    assert (select(each, labels) > 0).all()
    two = select(each, labels, [5.0, 1.0, 1.0], 2.0)
    assert two[0] == 0 and (two[1:] > 0).all() and two.sum() == pytest.approx(1)
    assert list(select(each, labels, [5.0, 1.0, 9.0], 1.5)) == [0, 1, 0]
    assert not select(each, labels, [5.0, 5.0, 5.0], 1.0).any()
