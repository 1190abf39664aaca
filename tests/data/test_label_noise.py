"""Labels made wrong on purpose: how many, which, and to what."""

import numpy as np
import pytest

from foveate.data.label_noise import noise_targets, noisy_labels
from foveate.errors import ConfigError

LABELS = np.random.default_rng(0).integers(0, 10, 9000)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.2345, 0.4, 1.0])
def test_exactly_the_share_gets_another_class(share):
    kept = LABELS.copy()
    made = noisy_labels(LABELS, 10, share, seed=3)
    assert (made != LABELS).sum() == round(share * 9000)
    assert made.dtype == np.int64 and made.min() >= 0 and made.max() <= 9
    assert np.array_equal(LABELS, kept)


def test_every_other_class_is_as_likely():
    made = noisy_labels(LABELS, 10, 1.0, seed=1)
    step = np.bincount((made - LABELS) % 10, minlength=10)
    assert step[0] == 0
    assert ((step[1:] - 1000) ** 2 / 1000).sum() < 31.8  # chi-squared, 8 degrees of freedom, one in 10 000


def test_the_seed_fixes_it_and_a_greater_share_contains_a_smaller_one():
    small, great = noisy_labels(LABELS, 10, 0.1, 5), noisy_labels(LABELS, 10, 0.4, 5)
    assert np.array_equal(small, noisy_labels(list(LABELS), 10, 0.1, 5))
    assert not np.array_equal(small, noisy_labels(LABELS, 10, 0.1, 6))
    wrong = small != LABELS
    assert np.array_equal(great[wrong], small[wrong])


def test_two_classes_are_swapped():
    labels = np.array([0, 1] * 20)
    assert np.array_equal(noisy_labels(labels, 2, 1.0, 0), 1 - labels)


@pytest.mark.parametrize(("classes", "share"), [(10, -0.1), (10, 1.1), (1, 0.5), (10, float("nan"))])
def test_what_can_not_be_done_is_refused(classes, share):
    with pytest.raises(ConfigError, match="a share from 0 to 1 and two classes"):
        noisy_labels(LABELS, classes, share, 0)


NAMES = ("airplane", "bird", "cat", "dog")


def test_pairs_of_classes_and_the_next_class_say_what_a_label_becomes():
    assert noise_targets(NAMES, "any", ()) is None
    assert noise_targets(NAMES, "next", ()) == [1, 2, 3, 0]
    assert noise_targets(NAMES, "any", ("bird>airplane", "cat>dog", "dog>cat")) == [0, 0, 3, 2]


@pytest.mark.parametrize(
    ("towards", "pairs", "said"),
    [
        ("any", ("cat",), "expected two classes"),
        ("any", ("cat>cat",), "expected two classes"),
        ("any", ("cat>dogs",), "no class dogs"),
        ("any", ("cat>dog", "cat>bird"), "two pairs begin with cat"),
        ("next", ("cat>dog",), "give one of them"),
    ],
)
def test_pairs_that_can_not_be_are_refused_in_words(towards, pairs, said):
    with pytest.raises(ConfigError, match=said):
        noise_targets(NAMES, towards, pairs)


def test_class_dependent_noise_has_its_share_in_each_class_and_a_greater_one_contains_a_smaller():
    labels = LABELS % 4
    small, great = (noisy_labels(labels, 4, share, 5, [0, 0, 3, 2]) for share in (0.2, 0.45))
    for k, target in enumerate((0, 0, 3, 2)):
        own = labels == k
        assert set(great[own]) == {k, target}
        assert (great[own] != k).sum() == (0 if k == target else round(0.45 * own.sum()))
    wrong = small != labels
    assert np.array_equal(great[wrong], small[wrong])
