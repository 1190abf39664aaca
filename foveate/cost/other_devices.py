"""Latency on a device of which only a few networks were measured, from tables of the same networks on other devices.

The new device is a mixture of the known ones: log latencies, standardised over the samples, as a sum of those of the
known devices with weights that are not negative (no device gets faster where all others get slower; of twenty devices
and ten samples this leaves two or three that matter). What the mixture misses is a Gaussian process over features of
the architecture, where there are any: its size is the one of the highest likelihood, so that it says next to nothing
after 10 samples and much after 900.

HELP (arXiv:2106.08630) and NASFLAT (arXiv:2403.02446) train networks on the known devices for the same purpose.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from foveate.errors import ConfigError

RIDGE = 0.01  # on the weights, a sample: of two devices that say the same, each gets half
LENGTH = 1.7  # how far two architectures are alike: times the median distance of the samples
AMPLITUDES = (0.0, 0.01, 0.03, 0.1, 0.3, 1.0)  # of the process, in units of the samples' variance
NOISES = (0.01, 0.03, 0.1, 0.3)
LEAST = 3  # samples: fewer say nothing of a spread


@dataclass(frozen=True)
class Transfer:
    """A device as a mixture of known ones. weights: what each of them counts, on the scale of its own spread."""

    weights: np.ndarray  # (m,)
    centre: np.ndarray = field(repr=False)  # (m,) of the samples' log latencies on the known devices
    scale: np.ndarray = field(repr=False)  # (m,)
    mean: float = field(repr=False)
    deviation: float = field(repr=False)
    places: np.ndarray = field(repr=False)  # (n, f) features of the samples, standardised
    shift: np.ndarray = field(repr=False)  # (f,)
    stretch: np.ndarray = field(repr=False)  # (f,)
    pull: np.ndarray = field(repr=False)  # (n,) of each sample; zeros where there is no process
    length: float = field(repr=False)

    def predict(self, known: np.ndarray, features: np.ndarray | None = None) -> np.ndarray:
        """Milliseconds (N,) of networks by their latencies on the known devices (N, m) and their features (N, f)."""
        z = (_logs(known, len(self.weights)) - self.centre) / self.scale @ self.weights
        if self.pull.any():
            if features is None:
                raise ConfigError("predict: features are missing; the samples had some")
            z = z + _alike((_table(features) - self.shift) / self.stretch, self.places, self.length) @ self.pull
        out: np.ndarray = np.exp(self.mean + self.deviation * z)
        return out


def fit(known: np.ndarray, latency_ms: Sequence[float] | np.ndarray, features: np.ndarray | None = None) -> Transfer:
    """The predictor from n samples.

    known: (n, m) milliseconds of the sampled networks on m other devices; m = 0: none. latency_ms: (n,) on this device.
    features: (n, f) numbers that describe the networks, such as one-hot choices and MACs. ConfigError for fewer than 3
    samples, numbers that are not positive, or neither devices nor features.
    """
    measured = np.asarray(latency_ms, float)
    n = len(measured)
    if n < LEAST or measured.ndim != 1:
        raise ConfigError(f"fit: {n} samples of this device; at least {LEAST}")
    x, y = _logs(known, None), _logs(measured[:, None], 1)[:, 0]
    places = np.zeros((n, 0)) if features is None else _table(features)
    if len(x) != n or len(places) != n:
        raise ConfigError(
            f"fit: {n} samples, {len(x)} rows of known devices, {len(places)} of features; as many of each"
        )
    if not x.shape[1] and not places.shape[1]:
        raise ConfigError("fit: no known device and no features; give one of them")
    mean, deviation = float(y.mean()), max(float(y.std()), 1e-9)
    z = (y - mean) / deviation
    centre, scale = x.mean(0), _spread(x)
    weights = _mixture((x - centre) / scale, z)
    rest = z - (x - centre) / scale @ weights
    shift, stretch = places.mean(0), _spread(places)
    places = (places - shift) / stretch
    length, pull = _process(places, rest)
    return Transfer(weights, centre, scale, mean, deviation, places, shift, stretch, pull, length)


def _mixture(x: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Weights from 0 up with the least square error and a small ridge."""
    from scipy.optimize import nnls

    m = x.shape[1]
    if not m:
        return np.zeros(0)
    found: np.ndarray = nnls(np.r_[x, np.sqrt(RIDGE * len(z)) * np.eye(m)], np.r_[z, np.zeros(m)])[0]
    return found


def _process(places: np.ndarray, rest: np.ndarray) -> tuple[float, np.ndarray]:
    """(length, pull of each sample) of the Gaussian process of the highest likelihood on the grid."""
    n = len(rest)
    if not places.shape[1]:
        return 1.0, np.zeros(n)
    distances = np.sqrt(_squares(places, places)[np.triu_indices(n, 1)])
    length = LENGTH * max(float(np.median(distances)), 1e-9)
    values, vectors = np.linalg.eigh(_alike(places, places, length))
    turned = vectors.T @ rest
    best, pull = -np.inf, np.zeros(n)
    for amplitude in AMPLITUDES:
        for noise in NOISES:
            variance = amplitude * np.maximum(values, 0) + noise
            likelihood = -float((turned**2 / variance + np.log(variance)).sum())
            if likelihood > best:
                best, pull = likelihood, amplitude * (vectors @ (turned / variance))
    return length, pull


def _alike(a: np.ndarray, b: np.ndarray, length: float) -> np.ndarray:
    """exp(-d^2 / (2 length^2)) of rows."""
    out: np.ndarray = np.exp(-0.5 * _squares(a, b) / length**2)
    return out


def _squares(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    out: np.ndarray = np.maximum((a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T, 0)
    return out


def _spread(x: np.ndarray) -> np.ndarray:
    """Deviation of each column; 1 for one that is constant."""
    deviation: np.ndarray = x.std(0)
    return np.where(deviation > 1e-9, deviation, 1.0)


def _logs(x: np.ndarray, columns: int | None) -> np.ndarray:
    table = _table(x)
    if columns is not None and table.shape[1] != columns:
        raise ConfigError(f"{table.shape[1]} known devices; expected {columns}, as in the samples")
    if not (np.isfinite(table).all() and (table > 0).all()):
        raise ConfigError("latencies: each must be a positive number; leave out networks that failed")
    logs: np.ndarray = np.log(table)
    return logs


def _table(x: np.ndarray) -> np.ndarray:
    table = np.asarray(x, float)
    if table.ndim != 2:
        raise ConfigError(f"an array of shape {table.shape}: expected (networks, columns)")
    return table
