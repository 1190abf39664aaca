"""How the answers of several classifiers become one: means with weights, stacking, and which members are worth it."""

from collections.abc import Sequence

import numpy as np

FLOOR = 1e-6  # of a probability
STACK_C = 0.1  # inverse strength of the penalty: log probabilities of members are nearly collinear
STEPS = 20  # of greedy selection


def log_mean(probabilities: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(M, N, K) and (M,) that sum to 1 -> log of the weighted mean (N, K)."""
    return np.asarray(np.log(np.einsum("mnk,m->nk", np.maximum(probabilities, FLOOR), weights)), np.float64)


def nll(log_probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Mean of -log p of the right class."""
    return float(-log_probabilities[np.arange(len(labels)), labels].mean())


def fit_weights(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Weights (M,) of the least negative log likelihood of the mean, its temperature fitted along with them.

    Without the temperature the sharpest member takes all: the mean of several is too soft.
    """
    from scipy.optimize import minimize

    count = len(probabilities)

    def loss(v: np.ndarray) -> float:
        weights = np.exp(v[:-1] - v[:-1].max())
        z = log_mean(probabilities, weights / weights.sum()) * np.exp(v[-1])
        z = z - np.log(np.exp(z - z.max(1, keepdims=True)).sum(1, keepdims=True)) - z.max(1, keepdims=True)
        return nll(z, labels) + 0.01 * float((v[:-1] ** 2).sum()) / count

    found = minimize(loss, np.zeros(count + 1), method="L-BFGS-B", bounds=[(-6, 6)] * count + [(-2, 3)])
    weights = np.exp(found.x[:-1] - found.x[:-1].max())
    return np.asarray(weights / weights.sum(), np.float64)


def select(
    probabilities: np.ndarray, labels: np.ndarray, costs: Sequence[float] | None = None, limit: float | None = None
) -> np.ndarray:
    """Greedy selection with replacement (Caruana et al., ICML 2004): weights (M,), from counts over STEPS.

    Each step adds the member that lowers the loss of the mean most; the best step of the path is kept, which is never
    worse than the best member that fits. costs, limit: of distinct members together, each counted once; of members that
    would go beyond it none is added. Zeros where none fits.
    """
    count = len(probabilities)
    price = np.zeros(count) if costs is None else np.asarray(costs, float)
    counts, best, kept = np.zeros(count), np.inf, np.zeros(count)
    for _ in range(STEPS):
        losses = np.full(count, np.inf)
        for m in range(count):
            tried = counts.copy()
            tried[m] += 1
            if limit is None or price[tried > 0].sum() <= limit:
                losses[m] = nll(log_mean(probabilities, tried / tried.sum()), labels)
        if not np.isfinite(losses).any():
            return kept
        counts[int(np.argmin(losses))] += 1
        if losses.min() < best - 1e-9:
            best, kept = float(losses.min()), counts.copy()
    return np.asarray(kept / kept.sum(), np.float64)


def fit_stack(log_probabilities: np.ndarray, labels: np.ndarray, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Multinomial logistic regression on the members' log probabilities (N, M K): weight (K, M K), bias (K,)."""
    from sklearn.linear_model import LogisticRegression

    found = LogisticRegression(C=STACK_C, max_iter=2000).fit(log_probabilities, labels)
    weight, bias = np.zeros((classes, log_probabilities.shape[1])), np.full(classes, -30.0)
    if len(found.classes_) == 2:
        weight[found.classes_], bias[found.classes_] = (
            [-found.coef_[0] / 2, found.coef_[0] / 2],
            [
                -found.intercept_[0] / 2,
                found.intercept_[0] / 2,
            ],
        )
    else:
        weight[found.classes_], bias[found.classes_] = found.coef_, found.intercept_
    return weight, bias


def crossed_stack(log_probabilities: np.ndarray, labels: np.ndarray, classes: int, folds: int = 5) -> np.ndarray:
    """Scores (N, K) of stacking, each by a fit that has not seen the picture."""
    order = np.random.default_rng(0).permutation(len(labels))
    out = np.zeros((len(labels), classes))
    parts: Sequence[np.ndarray] = np.array_split(order, folds)
    for part in parts:
        seen = np.setdiff1d(order, part)
        weight, bias = fit_stack(log_probabilities[seen], labels[seen], classes)
        out[part] = log_probabilities[part] @ weight.T + bias
    return out
