"""Microseconds of a convolution or linear layer that was not measured, from those that were.

For each group of operators, log(us) is a quadratic in the logarithms of the sizes plus a Gaussian process on what it
misses: smooth where the runtime is, and near to what was measured close by.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from foveate.cost.operators import Operator

LENGTH = 3.0  # octaves of a size over which times are alike
NOISE = 0.05  # deviation of log(us) that is not believed
RIDGE = 0.01
BLOCK = 16  # channels that ONNX Runtime pads to where it handles them together


@dataclass(frozen=True)
class Group:
    """A fitted group of operators."""

    places: np.ndarray  # (n, 5)
    weights: np.ndarray  # of (1, x, x^2)
    pull: np.ndarray  # (n,)
    variance: float

    def logs(self, x: np.ndarray) -> np.ndarray:
        """log(us) at places (N, 5)."""
        squares = ((x[:, None] - self.places) ** 2).sum(2)
        out: np.ndarray = _quadratic(x) @ self.weights + self.variance * np.exp(-squares / (2 * LENGTH**2)) @ self.pull
        return out


def group(op: Operator) -> str:
    """Operators of one group run by the same code."""
    if op.kind != "conv":
        return op.kind
    if op.height * op.width == 1:
        return "gate"  # of squeeze-and-excitation: a matrix times a vector
    if op.groups == 1:
        return "pointwise" if op.kernel == 1 else "dense"
    return "depthwise" if op.groups == op.c_in else "grouped"


def place(op: Operator) -> np.ndarray:
    """Where an operator stands: log2 of input channels a group, output channels, positions, taps, stride."""
    c_in, c_out = op.c_in, op.c_out
    if op.kind == "conv":
        c_in, c_out = c_in if c_in < BLOCK else -(-c_in // BLOCK) * BLOCK, -(-c_out // BLOCK) * BLOCK
    own = 1 if op.groups == op.c_in else max(1, c_in // op.groups)
    return np.log2([own, c_out, op.height * op.width, op.kernel**2, op.stride])


def fit_groups(measured: Mapping[Operator, float]) -> dict[str, Group]:
    """A Group for each kind of operator in a table of microseconds."""
    tables: dict[str, list[tuple[Operator, float]]] = defaultdict(list)
    for op, us in measured.items():
        tables[group(op)].append((op, us))
    return {name: _fit(table) for name, table in tables.items()}


def _fit(table: Iterable[tuple[Operator, float]]) -> Group:
    pairs = list(table)
    x, y = np.array([place(op) for op, _ in pairs]), np.log([us for _, us in pairs])
    basis = _quadratic(x)
    weights = np.linalg.solve(basis.T @ basis + RIDGE * np.eye(basis.shape[1]), basis.T @ y)
    rest = y - basis @ weights
    variance = float(rest.var()) + 1e-4
    squares = ((x[:, None] - x) ** 2).sum(2)
    covariance = variance * np.exp(-squares / (2 * LENGTH**2)) + NOISE**2 * np.eye(len(x))
    return Group(x, weights, np.linalg.solve(covariance, rest), variance)


def _quadratic(x: np.ndarray) -> np.ndarray:
    basis: np.ndarray = np.c_[np.ones(len(x)), x, x**2]
    return basis
