"""Warnings and next steps from the numbers of a run."""

import dataclasses

import numpy as np
import pytest

from foveate.runs.advice import Facts, advise, beats_majority, warn
from foveate.train.evaluate import metrics

CLASSES = ("ant", "bee", "cat")


def facts(guesses, labels, **changes):
    logits = np.eye(3, dtype=np.float32)[np.array(guesses)]
    test = metrics(logits, np.array(labels), CLASSES, "test")
    plain = Facts(
        data="my photos",
        best="runs/photos-1/best",
        test=test,
        classes=CLASSES,
        train_counts=(100, 100, 100),
        train_accuracy=0.95,
        val_accuracy=0.95,
        val_n=150,
        val_majority=1 / 3,
        weights="lite",
        small=False,
        epochs=20,
        cut=False,
        short=False,
        time_s=60.0,
        balance="none",
        metric="accuracy",
    )
    return dataclasses.replace(plain, **changes)


LABELS = [i % 3 for i in range(300)]
RIGHT = facts(LABELS, LABELS)
CHANCE = facts([0] * 300, LABELS)


def codes(found):
    return [w.code for w in warn(found)]


def test_a_good_run_has_no_warning_and_predicts():
    assert codes(RIGHT) == [] and beats_majority(RIGHT)
    assert advise(RIGHT, [])[0].do == "foveate predict runs/photos-1/best my.jpg"


def test_a_run_at_chance_says_so_and_never_predicts():
    warnings = warn(CHANCE)
    assert [w.code for w in warnings] == ["not_better_than_majority", "class_never_predicted"]
    assert "'bee', 'cat'" in warnings[1].text and "always saying 'ant'" in warnings[0].text
    steps = advise(CHANCE, warnings)
    assert 1 <= len(steps) <= 3 and all(step.why for step in steps)
    assert not any("predict" in step.do for step in steps)


@pytest.mark.parametrize("weights", [None, "lite"])
@pytest.mark.parametrize("small", [True, False])
@pytest.mark.parametrize("cut", [True, False])
def test_no_combination_at_chance_predicts_and_all_have_a_next_step(weights, small, cut):
    found = dataclasses.replace(CHANCE, weights=weights, small=small, cut=cut)
    steps = advise(found, warn(found))
    assert 1 <= len(steps) <= 3 and not any("predict" in s.do for s in steps)
    assert any("--weights" in s.do for s in steps) == (weights is None and not small)
    assert any("--time" in s.do for s in steps) == cut
    assert all("'my photos'" in s.do for s in steps if s.do.startswith("foveate"))


def test_training_that_contradicts_its_validation():
    found = dataclasses.replace(CHANCE, train_accuracy=1.0, val_accuracy=0.33, val_n=30)
    assert "training_contradicts_validation" in codes(found) and "overfit" not in codes(found)


def test_overfit_needs_a_gap_beyond_chance():
    assert codes(dataclasses.replace(RIGHT, train_accuracy=1.0, val_accuracy=0.7)) == ["overfit"]
    assert codes(dataclasses.replace(RIGHT, train_accuracy=1.0, val_accuracy=0.67, val_n=3)) == []
    assert codes(dataclasses.replace(RIGHT, train_accuracy=None, val_accuracy=0.5)) == []


def test_few_test_pictures():
    few = facts([0, 1, 2, 0, 1, 1], [0, 1, 2, 0, 1, 2])
    assert "few_test_pictures" in codes(few)


def test_classes_of_unequal_size_are_a_next_step():
    found = dataclasses.replace(RIGHT, train_counts=(300, 20, 20))
    assert any("--balance" in step.do for step in advise(found, warn(found)))
    assert not any("--balance" in s.do for s in advise(dataclasses.replace(found, balance="weights"), []))


def some_wrong(n, wrong):
    labels = [i % 3 for i in range(n)]
    return [(label + (i < wrong)) % 3 for i, label in enumerate(labels)], labels


@pytest.mark.parametrize(("steps", "weights", "wrong", "said"), [(10, None, 17, True), (400, None, 17, False)])
def test_few_steps_from_scratch_are_told(steps, weights, wrong, said):
    assert ("few_steps" in codes(facts(*some_wrong(100, wrong), steps=steps, weights=weights))) is said


def test_few_steps_are_enough_where_the_result_is_good_or_the_weights_are_published():
    assert "few_steps" not in codes(facts(*some_wrong(100, 2), steps=10, weights=None))
    assert "few_steps" not in codes(facts(*some_wrong(100, 17), steps=10))


def test_training_far_above_the_test_pictures_is_told_even_where_validation_agrees():
    assert codes(facts(*some_wrong(100, 25), train_accuracy=1.0)) == ["training_contradicts_test"]
    assert codes(facts(*some_wrong(100, 5), train_accuracy=1.0)) == []
    assert codes(facts(*some_wrong(100, 25), train_accuracy=0.8)) == []
