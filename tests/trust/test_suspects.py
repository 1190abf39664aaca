"""Suspect labels: the golden values of a made-up set, and planted faults among features."""

import numpy as np
import pytest
from golden import second

from foveate.trust.suspects import (
    class_thresholds,
    confidence_weighted_entropy,
    confident_joint,
    normalised_margin,
    out_of_fold,
    self_confidence,
    suspects,
)


def golden() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(p, labels with 15 changed, places of the changed): 600 pictures of 6 classes."""
    z, labels, _ = second()
    p = np.exp(z - z.max(1, keepdims=True))
    planted = np.arange(5, 600, 40)
    labels[planted] = (labels[planted] + 1) % 6
    return p / p.sum(1, keepdims=True), labels, planted


def clusters(n: int = 300, k: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features of k classes that a plane separates well."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % k
    return rng.normal(size=(n, 20)) * 0.35 + np.eye(k, 20)[labels] * 2, labels


def test_scores_have_their_golden_values():
    p, labels, planted = golden()
    own, margin = self_confidence(p, labels), normalised_margin(p, labels)
    assert own[:4] == pytest.approx([0.07236895, 0.39870212, 0.05887409, 0.72629618], abs=1e-7)
    assert margin[:4] == pytest.approx([0.30321056, 0.56807534, 0.33347579, 0.79532415], abs=1e-7)
    firsts = [np.argsort(s, kind="stable")[:15] for s in (own, margin, -confidence_weighted_entropy(p, labels))]
    assert [int(np.isin(planted, first).sum()) for first in firsts] == [3, 7, 3]


def test_the_confident_joint_has_its_golden_values():
    p, labels, _ = golden()
    t = [0.37763174, 0.39095579, 0.38849518, 0.39507129, 0.39309277, 0.39093876]
    assert class_thresholds(p, labels) == pytest.approx(t, abs=1e-7)
    rows = "45 8 8 5 6 6; 13 45 5 6 7 3; 6 3 40 8 5 5; 7 9 8 50 4 6; 6 7 6 6 41 2; 4 4 7 7 9 46"
    assert confident_joint(p, labels).tolist() == [[int(v) for v in row.split()] for row in rows.split(";")]


def test_scores_do_not_depend_on_the_order():
    p, labels, _ = golden()
    order = np.random.default_rng(1).permutation(600)
    assert np.array_equal(normalised_margin(p, labels)[order], normalised_margin(p[order], labels[order]))
    assert np.array_equal(confident_joint(p, labels), confident_joint(p[order], labels[order]))


def test_suspects_are_ranked_by_their_own_probability_and_only_those_that_disagree():
    p, labels, _ = golden()
    found = suspects(p, labels)
    assert len(found) == int((p.argmax(1) != labels).sum())
    assert [s.score for s in found] == sorted((s.score for s in found), reverse=True)
    first = found[0]
    assert first.suggested == p[first.place].argmax()
    assert first.label == labels[first.place]
    assert first.score == pytest.approx(1 - p[first.place, first.label])
    assert first.gap == pytest.approx(1 - 2 * normalised_margin(p, labels)[first.place])


def test_planted_labels_come_first():
    features, truth = clusters()
    labels = truth.copy()
    planted = np.arange(7, 300, 25)
    labels[planted] = (labels[planted] + 1) % 3
    found = suspects(out_of_fold(features, labels), labels)[: len(planted)]
    assert {s.place for s in found} == set(planted.tolist())
    assert all(s.suggested == truth[s.place] for s in found)


def test_out_of_fold_probabilities_are_probabilities_and_the_same_every_time():
    features, labels = clusters(90)
    p = out_of_fold(features, labels)
    assert p.sum(1) == pytest.approx(1)
    assert np.array_equal(p, out_of_fold(features, labels))


def test_a_twin_with_the_same_wrong_label_does_not_vouch_for_it():
    """Ten copies of one picture, all wrongly labelled: among them the label is easily learnt."""
    features, truth = clusters(200)
    labels = truth.copy()
    twins = [3, *range(200, 209)]
    features, labels = np.concatenate((features, np.repeat(features[3:4], 9, 0))), np.concatenate((labels, [0] * 9))
    labels[twins] = (truth[3] + 1) % 3
    groups = np.arange(209)
    groups[twins] = 3
    alone, grouped = out_of_fold(features, labels), out_of_fold(features, labels, groups)
    assert grouped[twins, labels[3]].mean() < alone[twins, labels[3]].mean()
    assert {s.place for s in suspects(grouped, labels)} >= set(twins)


@pytest.mark.parametrize("labels", [[0, 0, 0, 0], [0], [], [0, 1, 2, 3]])
def test_what_can_not_be_judged_is_not_suspected(labels: list[int]):
    features = np.random.default_rng(0).normal(size=(len(labels), 8))
    p = out_of_fold(features, np.array(labels, int))
    assert np.isnan(p).all()
    assert suspects(p, np.array(labels, int)) == []


def test_a_class_of_one_picture_is_not_judged_and_the_others_are():
    features, labels = clusters(60)
    labels[0] = 3
    p = out_of_fold(features, labels)
    assert np.isnan(p[0]).all()
    assert np.isfinite(p[1:]).all()
    assert all(s.place != 0 for s in suspects(p, labels))


def test_constant_features_judge_nobody_strongly():
    labels = np.arange(30) % 3
    p = out_of_fold(np.zeros((30, 6)), labels)
    assert np.isfinite(p).all()
    assert max((s.gap for s in suspects(p, labels)), default=0) < 0.2
