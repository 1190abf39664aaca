"""Numbers by which a run chooses: its epoch, its candidates, its report. All are shares, more is better."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from foveate.config import near
from foveate.errors import ConfigError

Score = Callable[[np.ndarray, np.ndarray, int], float]  # predictions (N,), labels (N,), classes -> 0 to 1
RECALL = "recall@"


def plain(guess: np.ndarray, labels: np.ndarray, classes: int) -> float:
    """The share of pictures that are classified correctly."""
    return float((guess == labels).mean())


def recalls(guess: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """The share of each class that is recognised, (classes,); NaN for a class without pictures."""
    counts = np.bincount(labels, minlength=classes)
    right = np.bincount(labels[guess == labels], minlength=classes)
    return np.where(counts > 0, right / np.maximum(counts, 1), np.nan)


def balanced(guess: np.ndarray, labels: np.ndarray, classes: int) -> float:
    """The mean over classes that have pictures of the share that is recognised."""
    return float(np.nanmean(recalls(guess, labels, classes)))


def macro_f1(guess: np.ndarray, labels: np.ndarray, classes: int) -> float:
    """The mean over classes of 2 right / (there are + predicted); classes that are neither are left out."""
    there, said = np.bincount(labels, minlength=classes), np.bincount(guess, minlength=classes)
    right = np.bincount(labels[guess == labels], minlength=classes)
    counted = there + said > 0
    return float((2 * right[counted] / (there + said)[counted]).mean())


METRICS: Mapping[str, Score] = {"accuracy": plain, "balanced": balanced, "f1": macro_f1}


def check_metric(name: str, classes: Sequence[str] | None = None) -> str:
    """The name itself. ConfigError for one that is none, and for recall of a class that is not there.

    classes: of the data; None where they are not known yet, and any class passes.
    """
    if name in METRICS:
        return name
    wanted = ", ".join(METRICS)
    if not name.startswith(RECALL) or name == RECALL:
        raise ConfigError(f'metric "{name}": expected {wanted} or recall@CLASS')
    if classes is not None and (label := name.removeprefix(RECALL)) not in classes:
        raise ConfigError(f'metric "{name}": no class "{label}": {near(label, classes)}')
    return name


def score(name: str, logits: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> float:
    """The metric of logits (N, K) and labels (N,), 0 to 1; a recall without pictures of its class is 0."""
    guess = logits.argmax(1)
    if name in METRICS:
        return METRICS[name](guess, labels, len(classes))
    of_class = labels == list(classes).index(name.removeprefix(RECALL))
    return float((guess[of_class] == labels[of_class]).mean()) if of_class.any() else 0.0
