"""What a net is expected to add to the front of several objectives; every objective is maximised.

Two gains take turns. One looks in a random direction at ranks: it finds regions that nobody has seen yet. The other one
looks in many directions at the values themselves: it fills the gaps between the nets of the front. Alone, the first
leaves gaps and the second stays where it is.

Both are scalarisations of the hypervolume (Zhang & Golovin 2020, arXiv 2006.04655): for directions w of the unit sphere
the mean of max(0, min_k (y_k - reference_k) / w_k) ** K is the volume, but for a factor. The reference is drawn, one
objective at a time: either just beyond the front, or as bad as nets come, so that a front of small nets can grow to
large ones.
"""

import numpy as np

from foveate.search.hypervolume import pareto

DRAWS = 64  # joint draws of the objectives
DIRECTIONS = 16  # of the gain in values
REACH = 1.5  # a value that is worse than the median by so many times the middle four fifths is an outlier


def front_gain(
    means: np.ndarray, deviations: np.ndarray, z: np.ndarray, values: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """(m,) gains of m candidates, in a unit that changes from call to call.

    means, deviations: (m, K), of the candidates' normal scores. z, values: (n, K), scores and values of the trials.
    """
    drawn = means + deviations * rng.standard_normal((DRAWS, *means.shape))
    return (in_values if rng.random() < 0.5 else in_ranks)(drawn, z, values, rng)


def in_ranks(drawn: np.ndarray, z: np.ndarray, values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(m,) expected improvement of the normal scores in one direction; drawn: (draws, m, K)."""
    bad = drawn_reference(z[pareto(values)].min(0), z.min(0), rng) - 0.1
    direction = np.square(rng.standard_normal(z.shape[1])) + 1e-6  # squared: the ends of the front come up more often
    return improvement(drawn - bad, z - bad, direction)


def in_values(drawn: np.ndarray, z: np.ndarray, values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(m,) expected improvement of the hypervolume of the values, over DIRECTIONS."""
    front = values[pareto(values)]
    low, middle, high = np.quantile(values, [0.1, 0.5, 0.9], axis=0)
    worst = np.maximum(values.min(0), middle - REACH * (high - low))
    near = front.min(0) - 0.1 * (front.max(0) - front.min(0))
    bad = drawn_reference(np.maximum(near, worst), worst, rng)
    scale = np.maximum(front.max(0) - bad, 1e-12)
    points = [to_values(drawn[..., k], z[:, k], values[:, k]) for k in range(z.shape[1])]
    points, known = (np.stack(points, -1) - bad) / scale, (front - bad) / scale
    directions = np.abs(rng.standard_normal((DIRECTIONS, z.shape[1]))) + 1e-6
    gains = np.stack([improvement(points, known, direction) for direction in directions])
    return np.asarray(gains.sum(0))


def drawn_reference(near: np.ndarray, far: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """For every objective one of the two."""
    return np.where(rng.random(len(near)) < 0.5, near, far)


def improvement(points: np.ndarray, known: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """(draws, m, K), (n, K), (K,) -> (m,): the mean over draws of what a point adds to the volume in a direction.
    The reference is 0.
    """
    direction = direction / np.linalg.norm(direction)
    power = len(direction)
    best = max(float((known / direction).min(1).max()), 0.0)
    reached = (points / direction).min(-1)
    gain: np.ndarray = np.maximum(np.maximum(reached, 0.0) ** power - best**power, 0.0).mean(0)
    return gain + 1e-9 * reached.mean(0)  # decides where no draw improves


def to_values(drawn: np.ndarray, z: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Normal scores as values, by the trials' own pairs; beyond the best one along the line of their better half."""
    at, first = np.unique(z, return_index=True)
    known = values[first]
    half = len(at) // 2
    slope = (known[-1] - known[half]) / max(at[-1] - at[half], 1e-9)
    return np.interp(drawn, at, known) + slope * np.maximum(drawn - at[-1], 0.0)
