"""How far a picture is from those that a model was trained for: the distance to known features and the doubt of the
answer, each as a rank among validation pictures, and both together. No torch.

Features are the means of the last maps, one vector a picture. The two signals catch different strangers: pictures of
another kind lie far from all features; pictures between two classes have a low probability. A picture that is unusual
in both is stranger than one that is so in either, so the two are added as Fisher adds tests: by the logarithms of the
shares of usual pictures that are as far (Statistical Methods for Research Workers, 1932, section 21.1). Unlike his,
the sum is not held against chi-squared, for the signals depend on each other, but ranked among validation pictures.
"""

from dataclasses import dataclass, replace

import numpy as np

from foveate.errors import DataError

NEIGHBOURS = 10
TINY = 1e-12  # a length below which a feature has no direction
ROWS = 512  # pictures compared at a time


def unit(features: np.ndarray) -> np.ndarray:
    """Rows of length 1, float32. A row of zeros stays."""
    f = features.astype(np.float32)
    return np.asarray(f / np.maximum(np.linalg.norm(f, axis=1, keepdims=True), TINY), np.float32)


def neighbour_distance(known: np.ndarray, features: np.ndarray, k: int = NEIGHBOURS) -> np.ndarray:
    """(N,): cosine distance (0 to 2) of features (N, D) to their k-th nearest of known (M, D). arXiv:2204.06507.

    Fewer than k known ones: to the farthest. A feature that is not finite is at 2, as far as can be.
    """
    if not len(known):
        raise DataError("no known features to compare with")
    return nearest_distance(unit(known), unit(features), k)


def nearest_distance(base: np.ndarray, features: np.ndarray, k: int = NEIGHBOURS) -> np.ndarray:
    """The same of rows whose lengths are not looked at: 1 - the k-th largest product of features with base."""
    out = np.empty(len(features), np.float64)
    k = min(k, len(base))
    for start in range(0, len(features), ROWS):
        distance = 1.0 - features[start : start + ROWS] @ base.T
        out[start : start + ROWS] = np.partition(distance, k - 1, axis=1)[:, k - 1]
    return np.where(np.isfinite(out), out, 2.0)


@dataclass(frozen=True, eq=False)
class Familiarity:
    """Both signals on validation pictures, sorted: what is usual. Training pictures know themselves and will not do."""

    distances: np.ndarray  # (n,) ascending
    doubts: np.ndarray  # (n,) ascending: 1 - the largest probability
    sums: np.ndarray | None = None  # (n,) ascending: Fisher's sum of both; None, in older files: the larger rank counts

    @classmethod
    def fit(cls, distances: np.ndarray, confidence: np.ndarray) -> "Familiarity":
        """From the distances and the largest probabilities (n,) of validation pictures."""
        usual = cls(np.sort(distances), np.sort(1.0 - confidence))
        return replace(usual, sums=np.sort(usual.evidence(distances, confidence)))

    def evidence(self, distances: np.ndarray, confidence: np.ndarray) -> np.ndarray:
        """(N,): Fisher's sum of the two ranks among validation pictures."""
        near, sure = _rank(self.distances, distances), _rank(self.doubts, 1.0 - confidence)
        return _evidence(near, len(self.distances)) + _evidence(sure, len(self.doubts))

    def strangeness(self, distances: np.ndarray, confidence: np.ndarray) -> np.ndarray:
        """(N,): the rank of the sum among those of validation pictures, 0 (usual) to 1, beyond 1 where none is as far.

        Beyond the last of them a rank goes on with the share by which it is passed, so that strangers keep an order.
        """
        if self.sums is not None:
            return _rank(self.sums, self.evidence(distances, confidence))
        return np.maximum(_rank(self.distances, distances), _rank(self.doubts, 1.0 - confidence))

    def limit(self, distances: np.ndarray, confidence: np.ndarray, keep: float) -> float:
        """The strangeness that a share `keep` of these (validation) pictures does not pass."""
        score = np.sort(self.strangeness(distances, confidence))
        return float(score[max(1, int(np.ceil(keep * len(score) - 1e-9))) - 1])


def _evidence(rank: np.ndarray, n: int) -> np.ndarray:
    """-log of the share of n usual pictures, and the picture itself, that is as far; on with the rank beyond 1."""
    return np.asarray(-np.log1p(-np.minimum(rank, 1.0) * n / (n + 1)) + np.maximum(rank - 1.0, 0.0), np.float64)


def _rank(usual: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The share of usual values below each, by linear interpolation, and on beyond the largest."""
    places = np.interp(values, usual, np.linspace(0.0, 1.0, len(usual)))
    top = max(float(usual[-1]), TINY)
    return np.asarray(np.where(values > usual[-1], 1.0 + (values - usual[-1]) / top, places), np.float64)
