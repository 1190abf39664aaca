"""A start for the classifier: logistic regression on the frozen features, then fine-tuning. "LP-FT", arXiv:2202.10054.

For networks whose head is the mean over positions and one linear layer; others (AlexNet, VGG) start without it.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from foveate.train.evaluate import accuracy, cross_entropy

STRENGTHS = (0.003, 0.03)  # inverse regularisation tried on standardised features


@dataclass(frozen=True)
class Probe:
    """A linear classifier on features: logits = features @ weight.T + bias, and how it did on the validation split."""

    weight: np.ndarray  # float32 (K, C)
    bias: np.ndarray  # float32 (K,)
    val_accuracy: float
    val_loss: float


def linear_probe(
    train: np.ndarray, train_labels: np.ndarray, val: np.ndarray, val_labels: np.ndarray, classes: int
) -> Probe:
    """Logistic regression on features (N, C), standardised by the training part; its strength is chosen by validation
    loss.
    """
    from sklearn.linear_model import LogisticRegression

    mean, scale = train.mean(0), train.std(0) + 1e-6
    present = np.unique(train_labels)
    best: Probe | None = None
    for strength in STRENGTHS:
        model = LogisticRegression(C=strength, max_iter=100, tol=1e-3).fit((train - mean) / scale, train_labels)
        weight = np.zeros((classes, train.shape[1]), np.float32)
        bias = np.full(classes, -10.0, np.float32)  # a class without training pictures
        if len(present) == 2:  # scikit-learn gives one row for two classes
            weight[present[1]], bias[present[0]], bias[present[1]] = model.coef_[0], 0.0, model.intercept_[0]
        else:
            weight[present], bias[present] = model.coef_, model.intercept_
        weight = weight / scale  # standardisation folded in
        bias = bias - weight @ mean
        logits = val @ weight.T + bias
        probe = Probe(weight, bias.astype(np.float32), accuracy(logits, val_labels), cross_entropy(logits, val_labels))
        if best is None or probe.val_loss < best.val_loss:
            best = probe
    assert best is not None
    return best


@torch.no_grad()
def start_head(model: nn.Module, head: str, probe: Probe) -> bool:
    """Copy a probe into the linear layer named head ("fc" or "classifier"); False where the shapes do not agree."""
    layer = model.get_submodule(head)
    if not isinstance(layer, nn.Linear) or tuple(layer.weight.shape) != probe.weight.shape:
        return False
    layer.weight.copy_(torch.from_numpy(probe.weight))
    layer.bias.copy_(torch.from_numpy(probe.bias))
    return True
