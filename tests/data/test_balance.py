"""Classes of unequal size: balanced draws and weights."""

import numpy as np
import pytest

from foveate.data.balance import MOST, balanced_order, class_weights

LABELS = np.array([0] * 90 + [1] * 9 + [3] * 3)  # class 2 has no pictures


def test_every_class_is_drawn_equally_often_in_an_epoch_of_the_same_length():
    order = balanced_order(LABELS, 0, 0)
    assert len(order) == len(LABELS)
    assert np.bincount(LABELS[order], minlength=4).tolist() == [34, 34, 0, 34]
    rare = np.bincount(order, minlength=len(LABELS))[99:]
    assert rare.max() - rare.min() <= 1  # all of them before one comes again
    assert np.bincount(order[LABELS[order] == 0]).max() == 1


def test_draws_depend_on_seed_and_epoch_alone():
    first = balanced_order(LABELS, 1, 2)
    assert np.array_equal(first, balanced_order(LABELS, 1, 2))
    assert not np.array_equal(first, balanced_order(LABELS, 1, 3))


@pytest.mark.parametrize("n", [0, 1, 2, 7])
def test_few_samples(n):
    labels = np.arange(n) % 3
    assert sorted(balanced_order(labels, 0, 0).tolist()) == list(range(n)) or n == 7
    assert len(balanced_order(labels, 0, 0)) == n


def test_weights_are_inverse_to_the_size_and_capped():
    weights = class_weights(LABELS, 4)
    assert weights[:3] == pytest.approx([102 / 270, 102 / 27, 1.0]) and weights[3] == MOST
    even = class_weights(np.array([0, 1, 2]), 3)
    assert even == pytest.approx([1.0, 1.0, 1.0])
