"""Which labels look wrong: out-of-fold probabilities of a linear classifier on frozen features, and scores on them.

A classifier believes the labels that it was fitted on, so every picture is judged by one that has not seen it, nor any
near duplicate of it, which may carry the same wrong label. Confident learning: Northcutt et al., arXiv:1911.00068.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

FOLDS, REPEATS = 5, 3
MANY = 2000  # pictures from which on one round of folds is steady enough
WIDTH = 256  # principal directions that are kept: much quicker, and the ranking is as good
COSTS = (1.0, 4.0, 16.0)  # inverse strengths of the penalty (C of scikit-learn) that are tried
SECOND = 2.5  # the second round, without the labels that the first one doubts, needs less of a penalty
DOUBT = 0.3  # difference of probabilities from which on a label is not learnt from in the second round


@dataclass(frozen=True)
class Suspect:
    """A picture (its place) whose label looks wrong. score: 1 - p(label). gap: p(suggested) - p(label), above 0."""

    place: int
    label: int
    suggested: int
    score: float
    gap: float


Cut = tuple[np.ndarray, np.ndarray]  # places to learn from, places to judge


def unit_rows(features: np.ndarray) -> np.ndarray:
    """Rows of length 1, float32; a row of zeros stays one."""
    x = np.asarray(features, np.float32)
    x = x.reshape(len(x), -1)
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)


def principal(features: np.ndarray, width: int, seed: int = 0) -> np.ndarray:
    """Unit rows less their mean, along their `width` strongest directions: float32 (N, <= width). Memory: in blocks."""
    n = len(features)
    flat = np.asarray(features).reshape(n, -1)
    blocks = [slice(i, i + 4096) for i in range(0, n, 4096)]
    mean = sum((unit_rows(flat[b]).sum(0, dtype=np.float64) for b in blocks), np.zeros(flat.shape[1])) / max(n, 1)
    middle = mean.astype(np.float32)
    if flat.shape[1] <= width:
        return unit_rows(flat) - middle
    from sklearn.utils.extmath import randomized_svd

    places = np.arange(n) if n <= 8192 else np.sort(np.random.default_rng(seed).choice(n, 8192, replace=False))
    sample = unit_rows(flat[places]) - middle
    axes = randomized_svd(sample, min(width, *sample.shape), random_state=seed)[2].T.astype(np.float32)
    return np.concatenate([(unit_rows(flat[b]) - middle) @ axes for b in blocks])


def out_of_fold(
    features: np.ndarray, labels: np.ndarray, groups: Sequence[int] | np.ndarray | None = None, seed: int = 0
) -> np.ndarray:
    """Probabilities float64 (N, K) of every picture by a logistic regression that did not see it.

    features: (N, D). labels: (N,), 0 to K - 1. groups: what must not be torn apart, a number a picture. Five stratified
    folds, three times with other cuts (once from 2,000 pictures on), averaged; and all once more without learning from
    the labels that the first round doubts. A picture whose class has no other group
    to learn from, and any where nothing can be learnt, has NaN: it can not be judged.
    """
    labels = np.asarray(labels)
    n, k = len(labels), int(labels.max(initial=-1)) + 1
    group = np.arange(n) if groups is None else np.asarray(groups)
    found = np.full((n, max(k, 1)), np.nan)
    folds = min(FOLDS, len(np.unique(group)))
    if folds < 2 or len(np.unique(labels)) < 2:
        return found
    x = _scaled(features, seed)
    rounds = range(seed, seed + (REPEATS if n < MANY else 1))
    cuts = [_cuts(labels, group, folds, number) for number in rounds]
    cost = _choose(x, labels, *cuts[0][0])
    first = _judged(x, labels, cuts, cost, np.ones(n, bool))
    with np.errstate(invalid="ignore"):
        doubted = _others(first, labels).max(1) - self_confidence(first, labels) >= DOUBT
    return _judged(x, labels, cuts, SECOND * cost, ~doubted)


def probabilities(features: np.ndarray, labels: np.ndarray, others: np.ndarray, seed: int = 0) -> np.ndarray:
    """Probabilities (M, K) of other pictures' features by the same classifier, fitted on all labels 0 to K - 1."""
    x = _scaled(np.concatenate((features, others)), seed)
    return np.asarray(_fit(x[: len(labels)], np.asarray(labels), COSTS[1]).predict_proba(x[len(labels) :]))


def _scaled(features: np.ndarray, seed: int) -> np.ndarray:
    """What the classifier is fitted on: roots, so that few strong features do not say all, at one scale."""
    x = principal(np.sign(features) * np.sqrt(np.abs(features)), WIDTH, seed)
    scaled: np.ndarray = x / max(float(np.sqrt(np.square(x).sum(1).mean())), 1e-12)
    return scaled


def _judged(x: np.ndarray, labels: np.ndarray, cuts: list[list[Cut]], cost: float, trusted: np.ndarray) -> np.ndarray:
    """Mean probabilities (N, K) over all cuts, learnt from the trusted labels alone; NaN where a class is unknown."""
    n, k = len(labels), int(labels.max()) + 1
    total, times = np.zeros((n, k)), np.zeros(n)
    for learn, judge in (cut for several in cuts for cut in several):
        held = learn[trusted[learn]]
        if set(labels[held]) != set(labels[learn]):  # a class of doubted labels alone is learnt as it is
            held = learn
        if len(known := np.unique(labels[held])) < 2:
            continue
        p = np.zeros((len(judge), k))
        p[:, known] = _fit(x[held], labels[held], cost).predict_proba(x[judge])
        sure = np.isin(labels[judge], known)
        total[judge[sure]] += p[sure]
        times[judge[sure]] += 1
    with np.errstate(invalid="ignore", divide="ignore"):
        found: np.ndarray = np.where(times[:, None] > 0, total / times[:, None], np.nan)
    return found


def _cuts(labels: np.ndarray, group: np.ndarray, folds: int, seed: int) -> list[Cut]:
    """The folds."""
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    alone = len(np.unique(group)) == len(group)
    kind = StratifiedKFold if alone else StratifiedGroupKFold  # the second is slow for many groups
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a class smaller than the folds
        try:
            return list(kind(folds, shuffle=True, random_state=seed).split(labels, labels, None if alone else group))
        except ValueError:  # every class is smaller than the folds
            from sklearn.model_selection import GroupKFold

            return list(GroupKFold(folds).split(labels, labels, group))


def _choose(x: np.ndarray, labels: np.ndarray, learn: np.ndarray, judge: np.ndarray) -> float:
    """The penalty with the best likelihood on one fold."""
    known = np.unique(labels[learn])
    judge = judge[np.isin(labels[judge], known)]
    if len(known) < 2 or not len(judge):
        return COSTS[0]
    place = np.searchsorted(known, labels[judge])

    def loss(cost: float) -> float:
        p = _fit(x[learn], labels[learn], cost).predict_proba(x[judge])
        return float(-np.log(np.maximum(p[np.arange(len(p)), place], 1e-12)).mean())

    return min(COSTS, key=loss)


def _fit(x: np.ndarray, labels: np.ndarray, cost: float):  # type: ignore[no-untyped-def]  # of scikit-learn
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a hundred steps are near enough for a ranking
        return LogisticRegression(C=cost, max_iter=100, tol=1e-3).fit(x, labels)


def self_confidence(p: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The probability of the label that was given, (N,): low where it looks wrong."""
    own: np.ndarray = p[np.arange(len(p)), labels]
    return own


def normalised_margin(p: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(p(label) - the largest other p + 1) / 2, (N,), from 0 to 1: low where the label looks wrong."""
    margin: np.ndarray = (self_confidence(p, labels) - _others(p, labels).max(1) + 1) / 2
    return margin


def confidence_weighted_entropy(p: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Entropy of p over log K, divided by p(label), (N,): high where the label looks wrong. 0 for one class."""
    entropy = -(p * np.log(np.maximum(p, 1e-300))).sum(1) / max(np.log(p.shape[1]), 1e-12)
    weighted: np.ndarray = entropy / np.maximum(self_confidence(p, labels), 1e-12)
    return weighted


def _others(p: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """p with the own label's at -1."""
    other = p.copy()
    other[np.arange(len(p)), labels] = -1
    return other


def suspects(p: np.ndarray, labels: np.ndarray) -> list[Suspect]:
    """The pictures for which another class is more likely than their label, most suspicious first.

    Ranked by p(label), which found more planted faults among photographs than the difference does. Rows with NaN are
    left out.
    """
    labels = np.asarray(labels)
    if p.shape[1] < 2 or not len(p):
        return []
    other, own = _others(p, labels), self_confidence(p, labels)
    best = other.argmax(1)
    gap = other[np.arange(len(p)), best] - own
    order = np.argsort(own, kind="stable")
    return [
        Suspect(int(i), int(labels[i]), int(best[i]), float(1 - own[i]), float(gap[i])) for i in order if gap[i] > 0
    ]


def class_thresholds(p: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The mean probability of each class over the pictures that carry its label, (K,); infinite without any."""
    held = [p[labels == j, j] for j in range(p.shape[1])]
    return np.array([own.mean() if len(own) else np.inf for own in held])


def confident_joint(p: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Counts int64 (K, K): row the label, column the class that a picture confidently is, of those that are one.

    Confidently: the most likely class among those at or above their thresholds; without any it is not counted.
    """
    k = p.shape[1]
    above = np.where(p >= class_thresholds(p, labels)[None, :], p, -1.0)
    likely, counted = above.argmax(1), above.max(1) >= 0
    joint = np.zeros((k, k), np.int64)
    np.add.at(joint, (labels[counted], likely[counted]), 1)
    return joint
