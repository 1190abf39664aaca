"""Linear classifiers on features: folds, weights, the cases with one or two classes."""

import numpy as np
import pytest

from foveate.train.head import cross_validate, fit_linear, fold_of, linear_probe


def clouds(n, classes, seed=0, spread=0.3):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    return (np.eye(classes, 6)[labels] + spread * rng.normal(size=(n, 6))).astype(np.float32), labels


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_cross_validation_judges_every_picture_once(classes):
    x, labels = clouds(60, classes)
    found = cross_validate(x, labels, classes)
    assert (found.n, found.folds) == (60, 5) and found.accuracy >= 0.85 and found.score == found.accuracy


def test_cross_validation_of_noise_is_at_chance():
    rng = np.random.default_rng(1)
    x, labels = rng.normal(size=(150, 40)).astype(np.float32), np.arange(150) % 3
    assert cross_validate(x, labels, 3).accuracy < 0.5


@pytest.mark.parametrize("n", [2, 3, 4, 7])
def test_very_few_pictures(n):
    x, labels = clouds(n, 2)
    assert 0 <= cross_validate(x, labels, 2).accuracy <= 1


def test_folds_are_stratified_and_nearly_equal():
    labels = np.array([0] * 20 + [1] * 10)
    place = fold_of(labels, 5)
    assert np.bincount(place).tolist() == [6] * 5
    assert [np.bincount(labels[place == f]).tolist() for f in range(5)] == [[4, 2]] * 5


def test_one_class_is_always_that_class():
    weight, bias = fit_linear(np.ones((4, 2), np.float32), np.array([1, 1, 1, 1]), 3, 0.03)
    assert (np.ones((1, 2)) @ weight.T + bias).argmax() == 1


def test_weighted_classes_help_the_rare_one():
    x, labels = clouds(400, 2, spread=0.8)
    keep = (labels == 0) | (np.arange(400) < 30)
    val, val_labels = clouds(200, 2, seed=5, spread=0.8)
    probe = linear_probe(x[keep], labels[keep], val, val_labels, 2, weighted=True)
    assert probe.balanced_weighted > probe.balanced
