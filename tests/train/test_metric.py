"""What a run chooses by."""

import numpy as np
import pytest

from foveate.errors import ConfigError
from foveate.train.check import checked
from foveate.train.metric import check_metric, score
from foveate.train.recipe import Recipe

LABELS = np.array([0, 0, 0, 0, 1, 1, 2])
LOGITS = np.eye(3, dtype=np.float32)[[0, 0, 0, 1, 1, 0, 0]]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("accuracy", 4 / 7),
        ("balanced", (3 / 4 + 1 / 2 + 0) / 3),
        ("f1", (6 / 9 + 2 / 4 + 0) / 3),
        ("recall@b", 0.5),
        ("recall@c d", 0.0),
    ],
)
def test_each_metric_on_numbers(name, value):
    assert score(name, LOGITS, LABELS, ("a", "b", "c d")) == pytest.approx(value)


def test_f1_and_balanced_are_those_of_scikit_learn():
    from sklearn.metrics import balanced_accuracy_score, f1_score

    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(200, 5)).astype(np.float32), rng.integers(0, 5, 200)
    names, guess = tuple("abcde"), logits.argmax(1)
    assert score("f1", logits, labels, names) == pytest.approx(f1_score(labels, guess, average="macro"))
    assert score("balanced", logits, labels, names) == pytest.approx(balanced_accuracy_score(labels, guess))


@pytest.mark.parametrize("name", ["", "acuracy", "recall", "recall@"])
def test_a_name_that_is_none_is_refused_before_any_picture_is_read(name):
    with pytest.raises(ConfigError, match=r"expected accuracy, balanced, f1 or recall@CLASS"):
        checked(Recipe(metric=name))


def test_a_class_that_is_not_there_is_named_with_a_near_one():
    assert check_metric("recall@dig") == "recall@dig"
    with pytest.raises(ConfigError, match=r'no class "dig".*dog'):
        check_metric("recall@dig", ("cat", "dog"))
