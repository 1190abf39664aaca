"""The numbers that are read off logits and labels, each with n and an interval. No torch: exported files, too."""

from typing import Any

import numpy as np

from foveate.errors import WeightsError
from foveate.train.intervals import wilson


def accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Share of pictures whose largest logit is the label's."""
    return float((logits.argmax(1) == labels).mean())


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean of -log softmax(logits)[label]."""
    return float(-log_softmax(logits)[np.arange(len(labels)), labels].mean())


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Row-wise, in float64: (N, K) -> (N, K)."""
    z = logits.astype(np.float64)
    z = z - z.max(1, keepdims=True)
    return z - np.log(np.exp(z).sum(1, keepdims=True))


def calibration_error(probabilities: np.ndarray, labels: np.ndarray, bins: int = 15) -> float:
    """Expected calibration error: |accuracy - confidence| averaged over equal-width bins of confidence.
    arXiv:1706.04599 section 2.
    """
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [abs(right[place == b].sum() - confidence[place == b].sum()) for b in range(bins)]
    return float(sum(gaps) / len(labels))


def metrics(logits: np.ndarray, labels: np.ndarray, classes: tuple[str, ...], split: str) -> dict[str, Any]:
    """Everything that a report says of one split; JSON-able. Intervals are Wilson's at 95 %.

    WeightsError where an answer is NaN or infinite: no class is then more likely than another.
    """
    if bad := int((~np.isfinite(logits).all(1)).sum()):
        raise WeightsError(
            f"the answers for {bad:,} of {len(logits):,} {split} pictures are NaN or infinite: the numbers of the"
            " network overflow; train it with a lower optim.lr, or in precision=fp32"
        )
    from sklearn.metrics import confusion_matrix, f1_score

    n, k = logits.shape
    guess = logits.argmax(1)
    correct = int((guess == labels).sum())
    table = confusion_matrix(labels, guess, labels=np.arange(k))
    in_top5 = np.argsort(-logits, axis=1)[:, :5] == labels[:, None]
    per_class = [
        {
            "class": name,
            "n": int(table[i].sum()),
            "correct": int(table[i, i]),
            "accuracy": float(table[i, i] / table[i].sum()) if table[i].sum() else None,
            "interval": list(wilson(int(table[i, i]), int(table[i].sum()))),
            "precision": float(table[i, i] / table[:, i].sum()) if table[:, i].sum() else None,
        }
        for i, name in enumerate(classes)
    ]
    return {
        "split": split,
        "n": n,
        "correct": correct,
        "accuracy": correct / n,
        "interval": list(wilson(correct, n)),
        "top5": float(in_top5.any(1).mean()),
        "macro_f1": float(f1_score(labels, guess, average="macro", zero_division=0)),
        "balanced_accuracy": float(np.mean([r["accuracy"] for r in per_class if r["accuracy"] is not None])),
        "ece": calibration_error(np.exp(log_softmax(logits)), labels),
        "per_class": per_class,
        "confusion": table.tolist(),
    }
