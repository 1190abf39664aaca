"""A start for the classifier: logistic regression on the frozen features, then fine-tuning. "LP-FT", arXiv:2202.10054.

For networks whose head is the mean over positions and one linear layer; others (AlexNet, VGG) start without it.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from foveate.train.evaluate import accuracy, cross_entropy
from foveate.train.metric import balanced

Metric = Callable[[np.ndarray, np.ndarray], float]  # of logits (N, K) and labels (N,): 0 to 1, more is better

FEW = 200  # pictures to learn from below which one validation split says too little: folds in turn
FOLDS = 5
STRENGTHS = (0.003, 0.03)  # inverse regularisation tried on standardised features


@dataclass(frozen=True)
class Probe:
    """A linear classifier on features: logits = features @ weight.T + bias, and how it did on the validation split."""

    weight: np.ndarray  # float32 (K, C)
    bias: np.ndarray  # float32 (K,)
    val_accuracy: float
    val_loss: float
    balanced: float = 0.0  # mean of the classes' validation accuracies
    accuracy_weighted: float = 0.0  # validation accuracy of a classifier whose classes count by their inverse size
    balanced_weighted: float = 0.0  # and the mean of its classes' accuracies
    score: float = 0.0  # the metric that chooses


def linear_probe(
    train: np.ndarray,
    train_labels: np.ndarray,
    val: np.ndarray,
    val_labels: np.ndarray,
    classes: int,
    *,
    metric: Metric = accuracy,
    weighted: bool = False,
) -> Probe:
    """Logistic regression on features (N, C), standardised by the training part; its strength is chosen by validation
    loss. metric: of logits and labels, whose value stands in Probe.score. weighted: a second one is tried whose classes
    count by the inverse of their size (Probe.balanced_weighted).
    """
    best: Probe | None = None
    for strength in STRENGTHS:
        weight, bias = fit_linear(train, train_labels, classes, strength)
        logits = val @ weight.T + bias
        probe = Probe(
            weight,
            bias,
            accuracy(logits, val_labels),
            cross_entropy(logits, val_labels),
            balanced(logits.argmax(1), val_labels, classes),
            score=metric(logits, val_labels),
        )
        if best is None or probe.val_loss < best.val_loss:
            best, chosen = probe, strength
    assert best is not None
    if not weighted:
        return best
    weight, bias = fit_linear(train, train_labels, classes, chosen, balanced=True)
    logits = val @ weight.T + bias
    even = balanced(logits.argmax(1), val_labels, classes)
    return replace(best, accuracy_weighted=accuracy(logits, val_labels), balanced_weighted=even)


@dataclass(frozen=True)
class Folds:
    """What cross-validation says: each picture is judged by a classifier that has not seen it."""

    score: float  # the metric that chooses, on all pictures
    accuracy: float
    loss: float  # mean cross-entropy, in nats
    n: int  # pictures
    folds: int


def cross_validate(
    x: np.ndarray, labels: np.ndarray, classes: int, metric: Metric = accuracy, *, folds: int = FOLDS
) -> Folds:
    """Linear classifiers on features (N, C), each fold judged by one that the others taught (stratified, seed 0).

    The strength is the one of STRENGTHS with the lower loss over all folds.
    """
    folds = max(2, min(folds, len(labels)))
    place = fold_of(labels, folds)
    best: Folds | None = None
    for strength in STRENGTHS:
        logits = np.zeros((len(labels), classes), np.float32)
        for fold in range(folds):
            out = place == fold
            if not out.any() or out.all():
                continue
            weight, bias = fit_linear(x[~out], labels[~out], classes, strength)
            logits[out] = x[out] @ weight.T + bias
        loss = cross_entropy(logits, labels)
        found = Folds(metric(logits, labels), accuracy(logits, labels), loss, len(labels), folds)
        best = found if best is None or loss < best.loss else best
    assert best is not None
    return best


def fold_of(labels: np.ndarray, folds: int) -> np.ndarray:
    """The fold of every sample, int64 (N,): the classes are dealt out in turn, each in a fixed random order."""
    order = np.random.default_rng(0).permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    place = np.empty(len(labels), np.int64)
    place[order] = np.arange(len(labels)) % folds
    return place


def fit_linear(
    train: np.ndarray, labels: np.ndarray, classes: int, strength: float, *, balanced: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """(weight (K, C), bias (K,)), float32, of a logistic regression; balanced: classes count by their inverse size."""
    from sklearn.linear_model import LogisticRegression

    mean, scale = train.mean(0), train.std(0) + 1e-6
    present = np.unique(labels)
    weight = np.zeros((classes, train.shape[1]), np.float32)
    bias = np.full(classes, -10.0, np.float32)  # a class without training pictures
    if len(present) == 1:  # nothing to tell apart: that class always
        bias[present[0]] = 0.0
        return weight, bias
    counts = "balanced" if balanced else None
    model = LogisticRegression(C=strength, max_iter=100, tol=1e-3, class_weight=counts)
    model.fit((train - mean) / scale, labels)
    if len(present) == 2:  # scikit-learn gives one row for two classes
        weight[present[1]], bias[present[0]], bias[present[1]] = model.coef_[0], 0.0, model.intercept_[0]
    else:
        weight[present], bias[present] = model.coef_, model.intercept_
    weight = weight / scale  # standardisation folded in
    return weight, (bias - weight @ mean).astype(np.float32)


@torch.no_grad()
def start_head(model: nn.Module, head: str, probe: Probe) -> bool:
    """Copy a probe into the linear layer named head ("fc" or "classifier"); False where the shapes do not agree."""
    layer = model.get_submodule(head)
    if not isinstance(layer, nn.Linear) or tuple(layer.weight.shape) != probe.weight.shape:
        return False
    layer.weight.copy_(torch.from_numpy(probe.weight))
    layer.bias.copy_(torch.from_numpy(probe.bias))
    return True
