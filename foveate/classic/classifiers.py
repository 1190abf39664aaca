"""Classifiers of vectors (N, D), learnt by scikit-learn or by torch, given back as the arrays of a network's decider.

Each maker gives a function (vectors, labels, classes, seed) -> Learnt. A new one is a function and a line in the table.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

SMALLEST = 1e-2  # added to variances before scaling (Coates, Lee and Ng)


@dataclass(frozen=True, eq=False)
class Learnt:
    """sizes: fields of ClassicConfig that say how large the arrays are. state: of the decider. centre, scale: of what
    comes before it, (D,) each.
    """

    sizes: Mapping[str, Any]
    state: Mapping[str, np.ndarray]
    centre: np.ndarray | None = None
    scale: np.ndarray | None = field(default=None)


Learner = Callable[[np.ndarray, np.ndarray, int, int], Learnt]


def linear(c: float = 1.0, loss: str = "squared_hinge") -> Learner:
    """One hyperplane a class. "squared_hinge": one against all others; "logistic": softmax. Vectors are standardised.

    Minimises mean loss + |w|^2 / (2 c N) by L-BFGS in float32; the bias is free. c: as scikit-learn's C, of vectors of
    deviation 1 divided by the root of D, so that one value serves short and long ones.
    """
    if loss not in ("squared_hinge", "logistic"):
        raise TypeError(f'loss="{loss}": squared_hinge or logistic')

    def learn(x: np.ndarray, y: np.ndarray, classes: int, seed: int) -> Learnt:
        centre, scale = x.mean(0), 1 / np.sqrt((x.var(0) + SMALLEST * max(float(x.var(0).mean()), 1e-12)) * x.shape[1])
        data = torch.from_numpy(((x - centre) * scale).astype(np.float32))
        target = torch.from_numpy(y.astype(np.int64))
        sign = 2.0 * torch.nn.functional.one_hot(target, classes) - 1
        weight = torch.zeros(classes, data.shape[1], requires_grad=True)
        bias = torch.zeros(classes, requires_grad=True)
        solver = torch.optim.LBFGS([weight, bias], max_iter=200, history_size=10, line_search_fn="strong_wolfe")
        penalty = 1 / (2 * c * len(data))

        def closure() -> torch.Tensor:
            solver.zero_grad()
            z = data @ weight.T + bias
            if loss == "logistic":
                fit = torch.nn.functional.cross_entropy(z, target)
            else:
                fit = (1 - sign * z).clamp(min=0).square().sum(1).mean()
            total = fit + penalty * weight.square().sum()
            total.backward()
            return total

        solver.step(closure)
        state = {"weight": weight.detach().numpy(), "bias": bias.detach().numpy()}
        return Learnt({"classifier": "linear"}, state, centre, scale)

    return learn


def rbf(c: float = 10.0, gamma: float | None = None) -> Learner:
    """A support vector machine with the kernel exp(-gamma |x - s|^2). gamma None: 1 / (D times the variance)."""

    def learn(x: np.ndarray, y: np.ndarray, classes: int, seed: int) -> Learnt:
        from sklearn.svm import SVC

        machine = SVC(C=c, gamma="scale" if gamma is None else gamma, cache_size=500).fit(x, y)
        dual, bias = pairwise(machine, classes)
        width = gamma if gamma is not None else 1 / (x.shape[1] * float(x.var()))
        state = {"vectors": machine.support_vectors_, "gamma": np.array([width]), "dual": dual, "bias": bias}
        return Learnt({"classifier": "rbf", "vectors": len(machine.support_vectors_)}, state)

    return learn


def pairwise(machine: Any, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """dual (pairs, vectors) and bias (pairs,) of a fitted SVC: the decision of pair (i, j) is positive for i.

    Of two classes scikit-learn turns both signs round.
    """
    count, starts = machine.n_support_, np.concatenate([[0], np.cumsum(machine.n_support_)])
    dual, bias = [], []
    place = 0
    for i in range(classes):
        for j in range(i + 1, classes):
            row = np.zeros(int(count.sum()))
            row[starts[i] : starts[i + 1]] = machine.dual_coef_[j - 1, starts[i] : starts[i + 1]]
            row[starts[j] : starts[j + 1]] = machine.dual_coef_[i, starts[j] : starts[j + 1]]
            dual.append(row)
            bias.append(machine.intercept_[place])
            place += 1
    turn = -1.0 if classes == 2 else 1.0
    return turn * np.array(dual), turn * np.array(bias)


def forest(trees: int = 200) -> Learner:
    """Random trees whose votes are averaged; scores are log probabilities' stand-in: the mean votes."""

    def learn(x: np.ndarray, y: np.ndarray, classes: int, seed: int) -> Learnt:
        from sklearn.ensemble import RandomForestClassifier

        found = RandomForestClassifier(trees, random_state=seed, n_jobs=1).fit(x.astype(np.float32), y)
        parts = [(e.tree_.feature, e.tree_.threshold, e.tree_.children_left, e.tree_.children_right) for e in found]
        values = [e.tree_.value[:, 0, :] / trees for e in found]
        depth = max(e.get_depth() for e in found)
        return _trees(parts, values, depth, np.zeros(classes))

    return learn


def boosting(rounds: int = 100, rate: float = 0.1) -> Learner:
    """Gradient boosting of trees on histograms, a tree a class and round."""

    def learn(x: np.ndarray, y: np.ndarray, classes: int, seed: int) -> Learnt:
        from sklearn.ensemble import HistGradientBoostingClassifier

        found = HistGradientBoostingClassifier(max_iter=rounds, learning_rate=rate, random_state=seed).fit(x, y)
        parts, values, depth = [], [], 1
        for row in found._predictors:
            for k, tree in enumerate(row):
                nodes = tree.nodes
                leaf = nodes["is_leaf"].astype(bool)
                left = np.where(leaf, -1, nodes["left"].astype(np.int64))
                right = np.where(leaf, -1, nodes["right"].astype(np.int64))
                parts.append((nodes["feature_idx"].astype(np.int64), nodes["num_threshold"], left, right))
                value = np.zeros((len(nodes), classes))
                if classes == 2:  # one tree a round, for the second class
                    value[:, 1] = np.where(leaf, nodes["value"], 0)
                else:
                    value[:, k] = np.where(leaf, nodes["value"], 0)
                values.append(value)
                depth = max(depth, int(nodes["depth"].max()))
        start = np.ravel(found._baseline_prediction)
        return _trees(parts, values, depth, np.array([0.0, start[0]]) if classes == 2 else start)

    return learn


def _trees(parts: list[Any], values: list[np.ndarray], depth: int, base: np.ndarray) -> Learnt:
    """Trees end to end; a leaf is its own child."""
    columns: dict[str, list[np.ndarray]] = {name: [] for name in ("feature", "threshold", "left", "right")}
    index, start = [], 0
    for feature, threshold, left, right in parts:
        own = np.arange(len(feature))
        index.append(start)
        columns["feature"].append(np.maximum(feature, 0))
        columns["threshold"].append(threshold)
        columns["left"].append(np.where(left < 0, own, left) + start)
        columns["right"].append(np.where(right < 0, own, right) + start)
        start += len(feature)
    state = {name: np.concatenate(column) for name, column in columns.items()}
    state |= {"value": np.concatenate(values), "index": np.array(index), "base": base}
    sizes = {"classifier": "trees", "nodes": start, "trees": len(index), "depth": max(1, depth)}
    return Learnt(sizes, state)


CLASSIFIERS: Mapping[str, Callable[..., Learner]] = {
    "linear": linear,
    "rbf": rbf,
    "forest": forest,
    "boosting": boosting,
}
