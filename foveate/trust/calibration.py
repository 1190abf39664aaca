"""Probabilities that mean what they say: a temperature, or a scale and a shift a class, fitted on validation logits.

arXiv:1706.04599 sections 4.1 and 4.2. Neither changes what was learnt; a temperature does not change an answer either.
A temperature is found by a bounded search of its logarithm: it needs no rate, always ends and stays positive.
"""

from dataclasses import dataclass

import numpy as np

from foveate.errors import DataError

LOW, HIGH = 0.05, 20.0  # of a temperature
PRIOR = 0.5  # the deviation of log T that is expected of a network: few pictures move it little
PER_CLASS, A_CLASS = 50, 30  # pictures that vector scaling wants: so many for each class on average, and of each
FOLDS = 5


@dataclass(frozen=True)
class Scaling:
    """Logits z become z * scale + shift. kind: "none", "temperature" or "vector". error: standard error of log T."""

    kind: str
    scale: tuple[float, ...]  # one number, or one a class
    shift: tuple[float, ...] = (0.0,)
    error: float | None = None

    @property
    def temperature(self) -> float:
        """1 over the mean scale."""
        return 1.0 / float(np.mean(self.scale))

    def apply(self, logits: np.ndarray) -> np.ndarray:
        """(N, K) -> (N, K), float64."""
        return logits.astype(np.float64) * np.array(self.scale) + np.array(self.shift)

    def as_dict(self) -> dict[str, str | list[float]]:
        """What a model folder keeps."""
        return {"kind": self.kind, "scale": list(self.scale), "shift": list(self.shift)}


NONE = Scaling("none", (1.0,))


def fit_temperature(logits: np.ndarray, labels: np.ndarray, prior: float | None = PRIOR) -> Scaling:
    """The temperature of the least negative log likelihood on logits (N, K) and labels (N,).

    prior: the deviation of log T around 0 that counts as likely; None: only the pictures count. At an end of
    [LOW, HIGH] nothing was found, and the scaling is NONE: right answers all, or logits without any sense.
    """
    from scipy.optimize import minimize_scalar

    z, y = _checked(logits, labels)
    weight = 0.0 if prior is None else 1.0 / (2 * len(y) * prior**2)

    def loss(u: float) -> float:
        return _nll(z * np.exp(-u), y) + weight * u * u

    found = minimize_scalar(loss, bounds=(np.log(LOW), np.log(HIGH)), method="bounded", options={"xatol": 1e-12})
    u = float(found.x)
    if min(loss(np.log(LOW)), loss(np.log(HIGH))) <= found.fun:
        return NONE
    p = _softmax(z * np.exp(-u))
    scaled = z * np.exp(-u)
    information = float(((p * scaled**2).sum(1) - (p * scaled).sum(1) ** 2).mean())
    error = float(1 / np.sqrt(len(y) * information)) if information > 0 else None
    return Scaling("temperature", (float(np.exp(-u)),), error=error)


def fit_vector(logits: np.ndarray, labels: np.ndarray) -> Scaling:
    """A scale and a shift a class, by L-BFGS from the temperature; the shifts' mean is 0, which no probability sees."""
    from scipy.optimize import minimize

    z, y = _checked(logits, labels)
    n, k = z.shape
    hot = np.eye(k)[y]

    def loss(w: np.ndarray) -> tuple[float, np.ndarray]:
        scaled = z * w[:k] + w[k:]
        gap = (_softmax(scaled) - hot) / n
        return _nll(scaled, y), np.concatenate([(gap * z).sum(0), gap.sum(0)])

    start = np.concatenate([np.full(k, fit_temperature(z, y).scale[0]), np.zeros(k)])
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 2000, "ftol": 1e-15, "gtol": 1e-9})
    shift = found.x[k:] - found.x[k:].mean()
    return Scaling("vector", tuple(map(float, found.x[:k])), tuple(map(float, shift)))


def fit_scaling(logits: np.ndarray, labels: np.ndarray, seed: int = 0) -> Scaling:
    """The scaling that these pictures can carry: a temperature, or a vector where there are PER_CLASS pictures a class
    and A_CLASS of each, and where on pictures that it has not seen it is better by more than a standard error.
    """
    z, y = _checked(logits, labels)
    plain = fit_temperature(z, y)
    counts = np.bincount(y, minlength=z.shape[1])
    if len(y) < PER_CLASS * z.shape[1] or counts.min() < A_CLASS:
        return plain
    gains = np.zeros(len(y))
    for seen, unseen in _folds(y, seed):
        simple, rich = fit_temperature(z[seen], y[seen]), fit_vector(z[seen], y[seen])
        gains[unseen] = _losses(simple.apply(z[unseen]), y[unseen]) - _losses(rich.apply(z[unseen]), y[unseen])
    return fit_vector(z, y) if gains.mean() > gains.std(ddof=1) / np.sqrt(len(y)) else plain


def cross_scaled(logits: np.ndarray, labels: np.ndarray, seed: int = 0) -> np.ndarray:
    """Logits (N, K), each scaled by a temperature that was fitted without it: for errors on the pictures of the fit."""
    z, y = _checked(logits, labels)
    out = np.empty_like(z)
    for seen, unseen in _folds(y, seed):
        out[unseen] = fit_temperature(z[seen], y[seen]).apply(z[unseen])
    return out


def probabilities(logits: np.ndarray, scaling: Scaling = NONE) -> np.ndarray:
    """softmax of the scaled logits: float64 (N, K)."""
    return _softmax(scaling.apply(logits))


def _checked(logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if logits.ndim != 2 or len(logits) != len(labels) or len(labels) < 2:
        raise DataError(f"logits {logits.shape} and {len(labels)} labels: expected (N, K) and N, at least 2")
    if not np.isfinite(logits).all():
        raise DataError("logits that are not finite can not be calibrated")
    return logits.astype(np.float64), labels.astype(np.int64)


def _folds(labels: np.ndarray, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """(seen, unseen) positions: FOLDS equal parts, drawn with the seed."""
    order = np.random.default_rng(seed).permutation(len(labels))
    parts = np.array_split(order, min(FOLDS, len(labels)))
    return [(np.concatenate([p for p in parts if p is not part]), part) for part in parts]


def _losses(z: np.ndarray, y: np.ndarray) -> np.ndarray:
    z = z - z.max(1, keepdims=True)
    return np.log(np.exp(z).sum(1)) - z[np.arange(len(y)), y]


def _nll(z: np.ndarray, y: np.ndarray) -> float:
    return float(_losses(z, y).mean())


def _softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)
