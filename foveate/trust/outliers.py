"""Pictures unlike the others: far away in features, dark, blurred, of odd size; and classes that overlap."""

from dataclasses import dataclass

import numpy as np

from foveate.trust.suspects import principal, unit_rows

FEW = 20  # pictures below which nobody knows what is usual
NEIGHBOURS = 5
REFERENCE = 5000  # pictures that all are compared with
FAR, ODD = 3.0, 4.0  # quartile ranges beyond the quartile; deviations by the median, in logarithms
DARK = 40.0  # levels of mean luminance
BLURRED = 0.05  # share of the median variance of the Laplacian
LONG = 3.0  # long side by short side


@dataclass(frozen=True)
class Outlier:
    """A picture (its place) unlike the others. kind: far, dark, blurred or odd_size; usual: the median of value."""

    place: int
    kind: str
    value: float
    usual: float


def sharpness(grey: np.ndarray) -> float:
    """The variance of the Laplacian of a grey picture (H, W), in square levels: small where it is blurred."""
    x = np.asarray(grey, np.float32)
    if min(x.shape) < 3:
        return 0.0
    inner = x[1:-1, 1:-1]
    return float((x[:-2, 1:-1] + x[2:, 1:-1] + x[1:-1, :-2] + x[1:-1, 2:] - 4 * inner).var())


def distances(features: np.ndarray, neighbours: int = NEIGHBOURS, seed: int = 0) -> np.ndarray:
    """The mean cosine distance of every picture to its nearest neighbours, (N,): large for one of its kind."""
    n = len(features)
    if n < 2:
        return np.zeros(n)
    x = unit_rows(principal(features, 64, seed))
    places = (
        np.arange(n) if n <= REFERENCE else np.sort(np.random.default_rng(seed).choice(n, REFERENCE, replace=False))
    )
    k = min(neighbours, len(places) - 1)
    found = np.zeros(n)
    for start in range(0, n, 512):
        rows = np.arange(start, min(start + 512, n))
        cosine = x[rows] @ x[places].T
        cosine[rows[:, None] == places[None]] = -2
        found[rows] = 1 - np.sort(cosine, 1)[:, -k:].mean(1)
    return found


def far_ones(distance: np.ndarray) -> list[Outlier]:
    """Those beyond the third quartile by more than FAR quartile ranges, farthest first."""
    if len(distance) < FEW:
        return []
    low, middle, high = np.quantile(distance, (0.25, 0.5, 0.75))
    limit = high + FAR * max(high - low, 1e-6)
    return [
        Outlier(int(i), "far", float(distance[i]), float(middle))
        for i in np.argsort(-distance, kind="stable")
        if distance[i] > limit
    ]


def odd_looks(luminance: np.ndarray, sharp: np.ndarray, sizes: np.ndarray) -> list[Outlier]:
    """Dark, blurred and odd-sized pictures. luminance: means, 0 to 255, (N,). sharp: sharpness of each at one size.
    sizes: (width, height) in pixels, (N, 2).
    """
    if len(luminance) < FEW:
        return []
    short, long = sizes.min(1).astype(float), sizes.max(1).astype(float)
    found = []
    middle, clear, usual = float(np.median(luminance)), float(np.median(sharp)), float(np.median(short))
    shape = long / np.maximum(short, 1)
    unlike = np.abs(np.log(np.maximum(short, 1)) - np.log(max(usual, 1)))
    spread = max(float(np.median(unlike)) * 1.4826, 0.25)
    for i in range(len(luminance)):
        if luminance[i] < min(DARK, middle / 2):
            found.append(Outlier(i, "dark", float(luminance[i]), middle))
        if sharp[i] < BLURRED * clear:
            found.append(Outlier(i, "blurred", float(sharp[i]), clear))
        if unlike[i] > ODD * spread or shape[i] > max(LONG, 2 * float(np.median(shape))):
            found.append(Outlier(i, "odd_size", float(short[i]), usual))
    return found


def overlaps(joint: np.ndarray) -> list[tuple[int, int, int, float]]:
    """(class, class, pictures, share) of the pairs of classes that are taken for one another, most first.

    joint: counts (K, K) of suspects.confident_joint. share: of the pictures of both classes together.
    """
    both = joint + joint.T
    total = joint.sum(1)
    pairs = [
        (i, j, int(both[i, j]), float(both[i, j] / max(total[i] + total[j], 1)))
        for i in range(len(joint))
        for j in range(i + 1, len(joint))
        if both[i, j]
    ]
    return sorted(pairs, key=lambda row: (-row[3], row[0], row[1]))
