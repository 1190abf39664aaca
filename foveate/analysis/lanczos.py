"""Stochastic Lanczos: extreme eigenvalues, trace and spectral density of a symmetric matrix known by its products.

A run of m steps from a unit vector gives m nodes (Ritz values) and weights that integrate polynomials up to degree
2m - 1 against the spectrum as that vector sees it. Averaged over random vectors, P times the mean is the trace. Every
new vector is made orthogonal to all before it, twice: without that copies of the largest eigenvalue appear after 20 to
30 steps.
Golub and Meurant, Matrices, Moments and Quadrature (2010), chapter 4; arXiv:1901.10159 section 2.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from foveate.errors import ConfigError, FoveateError

Product = Callable[[torch.Tensor], torch.Tensor]  # v (P,) -> A v (P,), A symmetric

DEPLETED = 1e-10  # a next vector shorter than this part of the largest node: the space is used up


@dataclass(frozen=True, eq=False)
class Ritz:
    """One run: nodes ascending, weights that sum to 1, and how far each node may be from an eigenvalue."""

    nodes: np.ndarray  # (m,) float64
    weights: np.ndarray  # (m,) float64: squared first components of the eigenvectors of the tridiagonal matrix
    errors: np.ndarray  # (m,) float64: |A y - node y| of each Ritz vector y, a bound on the distance


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Several runs from independent vectors."""

    size: int  # P
    runs: tuple[Ritz, ...]

    @property
    def top(self) -> float:
        """The largest eigenvalue, from below."""
        return max(float(run.nodes[-1]) for run in self.runs)

    @property
    def bottom(self) -> float:
        """The smallest eigenvalue, from above."""
        return min(float(run.nodes[0]) for run in self.runs)

    @property
    def traces(self) -> np.ndarray:
        """(draws,): P times the mean node of each run; each an unbiased estimate of the trace."""
        return np.array([self.size * float(run.weights @ run.nodes) for run in self.runs])

    @property
    def trace(self) -> float:
        """The mean of the estimates."""
        return float(self.traces.mean())

    @property
    def trace_interval(self) -> tuple[float, float]:
        """95 % of Student's t over the draws; the whole line for a single one."""
        from scipy.stats import t

        n = len(self.runs)
        if n < 2:
            return -math.inf, math.inf
        half = float(t.ppf(0.975, n - 1)) * float(self.traces.std(ddof=1)) / math.sqrt(n)
        return self.trace - half, self.trace + half

    def density(self, grid: np.ndarray, width: float | None = None) -> np.ndarray:
        """(len(grid),): the share of eigenvalues per unit of eigenvalue, smoothed by a normal curve.

        width: its standard deviation; None: a hundredth of the range of the spectrum. Integrates to 1.
        """
        width = width or max((self.top - self.bottom) / 100, 1e-12)
        out = np.zeros(len(grid))
        for run in self.runs:
            curves = np.exp(-0.5 * ((grid[:, None] - run.nodes) / width) ** 2) / (width * math.sqrt(2 * math.pi))
            out += curves @ run.weights
        return out / len(self.runs)


def lanczos(product: Product, start: torch.Tensor, steps: int) -> Ritz:
    """m steps from a vector (P,). Memory m P numbers of its kind, time m products. Fewer nodes where the space ends.

    FoveateError where a product is not finite.
    """
    diagonal, below, _ = _run(product, start, steps)
    return _ritz(diagonal, below)[0]


def leading(product: Product, start: torch.Tensor, steps: int) -> tuple[Ritz, torch.Tensor]:
    """One run, and the vector (P,), of length 1, of its largest node."""
    diagonal, below, basis = _run(product, start, steps)
    ritz, vectors = _ritz(diagonal, below)
    along = torch.from_numpy(vectors[:, -1]).to(basis)
    return ritz, along @ basis[: len(along)]


def _run(product: Product, start: torch.Tensor, steps: int) -> tuple[list[float], list[float], torch.Tensor]:
    """The tridiagonal matrix, its diagonal and what is below it, and the vectors (m, P)."""
    if steps < 1:
        raise ConfigError(f"{steps} Lanczos steps: at least 1")
    basis = start.new_empty((min(steps, start.numel()), start.numel()))
    basis[0] = start / torch.linalg.vector_norm(start)
    diagonal, below = list[float](), list[float]()
    for j in range(len(basis)):
        w = product(basis[j])
        if not bool(torch.isfinite(w).all()):
            raise FoveateError(
                "a product with the Hessian is not finite: the loss or its gradient is NaN or infinite here"
            )
        diagonal.append(float(w @ basis[j]))
        for _ in range(2):
            w = w - basis[: j + 1].T @ (basis[: j + 1] @ w)
        length = float(torch.linalg.vector_norm(w))
        below.append(length)
        if j + 1 == len(basis) or length <= DEPLETED * max(map(abs, diagonal + below)):
            break
        basis[j + 1] = w / length
    return diagonal, below, basis


def _ritz(diagonal: Sequence[float], below: Sequence[float]) -> tuple[Ritz, np.ndarray]:
    """The eigenvalues of the tridiagonal matrix, and what they tell of the large one; its eigenvectors as columns."""
    from scipy.linalg import eigh_tridiagonal

    nodes, vectors = eigh_tridiagonal(np.array(diagonal), np.array(below[: len(diagonal) - 1]))
    return Ritz(nodes, vectors[0] ** 2, abs(below[-1] * vectors[-1])), vectors


def spectrum(product: Product, like: torch.Tensor, *, steps: int = 20, draws: int = 10, seed: int = 0) -> Spectrum:
    """Runs of `steps` from `draws` random vectors of signs, as long and of the kind as `like` (P,).

    20 steps: the top eigenvalue of a small network is right to 1e-15, the bottom to 1e-3. The spread of the trace is
    that of the draws: ten or more.
    """
    if draws < 1:
        raise ConfigError(f"{draws} draws: at least 1")
    runs = []
    for draw in range(draws):
        generator = torch.Generator().manual_seed(seed * 1_000_003 + draw)
        signs = torch.randint(0, 2, (like.numel(),), generator=generator) * 2 - 1
        runs.append(lanczos(product, signs.to(like), steps))
    return Spectrum(like.numel(), tuple(runs))
