"""The predictor: a Gaussian process on ranks says which net is likely to improve on the best one.

    encodings   the one-hot tokens (a squared distance counts different choices); how often each value is chosen, over
                all choices with the same values ("three layers of 5x5", wherever they are), which a few trials are
                enough to learn from; and, where the space has them, its features (for cells: White et al. 2021,
                arXiv 1910.11858)
    targets     normal scores of the ranks, nothing below -1: as in pairwise ranking only the order counts, and among
                the bad ones not even that, so that a net of 10 % accuracy bends nothing
    scale, noise    the pair of a small grid with the largest evidence
    next net    the largest expected improvement over the best fitted value

Several objectives: one process each, on normal scores without a floor; the net that is expected to add most to the
front (front.py).
"""

import numpy as np

from foveate.errors import ConfigError
from foveate.search.hypervolume import pareto
from foveate.search.samplers.front import front_gain
from foveate.search.samplers.gaussian import (
    NOISES,
    best_pair,
    condition,
    expected_improvement,
    normal_scores,
    posterior,
)
from foveate.search.samplers.pool import Pool
from foveate.search.samplers.searcher import History, first_new
from foveate.search.space import Space, Tokens, Value

FLOOR = -1.0  # normal scores below are raised to it: the worst sixth
ELITE = 10  # nets whose neighbours are candidates
EXACT = (1e-4, *NOISES)  # multiply-adds have no noise
ENTRIES = 300_000  # random candidates x trials, at most: keeps a trial of a long study quick


class Predictor:
    """start: random nets before the first fit; candidates: random nets looked at in every trial, beside the
    neighbours of the best; refit: trials between two choices of scale and noise.
    """

    single = False

    def __init__(self, space: Space, start: int = 6, candidates: int = 1500, refit: int = 5) -> None:
        if start < 2 or candidates < 1 or refit < 1:
            raise ConfigError(
                f"predictor: start = {start}, candidates = {candidates}, refit = {refit}; from 2, 1, 1 up"
            )
        self.space, self.start, self.candidates, self.refit = space, start, candidates, refit
        self.pool = Pool(space)
        self._encoded: dict[Tokens, np.ndarray] = {}
        self._chosen: dict[int, tuple[int, tuple[float, float]]] = {}  # objective -> (trials then, scale and noise)
        alike: dict[tuple[Value, ...], list[int]] = {}  # values -> positions of the choices that have them
        for i, choice in enumerate(space.choices):
            alike.setdefault(choice.values, []).append(i)
        self._alike = [(found, len(values)) for values, found in alike.items() if len(found) > 1]
        rng = np.random.default_rng(0)
        parts = self._encodings([space.canonical(space.sample(rng)) for _ in range(300)])
        self._cuts = np.cumsum([part.shape[1] for part in parts])[:-1]
        self._spreads = [max(float(part.var(0).sum()), 1e-12) for part in parts]

    def propose(self, history: History, rng: np.random.Generator) -> Tokens:
        """The candidate with the largest expected improvement."""
        good = history.good()
        if len(good) < self.start:
            return first_new(history, (), rng)
        nets = [net for net, _ in good]
        values = np.array([v for _, v in good])
        single = values.shape[1] == 1
        z = np.stack([normal_scores(column, FLOOR if single else -np.inf) for column in values.T], axis=1)
        elite = np.argsort(-z[:, 0], kind="stable")[:ELITE] if single else rng.permutation(pareto(values))[: 2 * ELITE]
        count = min(self.candidates, max(ENTRIES // len(nets), 100))
        candidates = self.pool.draw(history, [nets[i] for i in elite], count, rng)
        if not candidates:
            return first_new(history, (), rng)
        among, across = self._distances(nets, nets), self._distances(candidates, nets)
        pairs = [self._pair(k, among, column, single) for k, column in enumerate(values.T)]
        fits = [condition(among, column, *pair) for column, pair in zip(z.T, pairs, strict=True)]
        means, deviations = (np.stack(m, -1) for m in zip(*(posterior(fit, across) for fit in fits), strict=True))
        if single:
            gain = expected_improvement(means[:, 0], deviations[:, 0], fits[0].best)
        else:
            gain = front_gain(means, deviations, z, values, rng)
        return candidates[int(np.argmax(gain))]

    def _pair(self, k: int, among: list[np.ndarray], values: np.ndarray, single: bool) -> tuple[float, float]:
        """Scale and noise of objective k, chosen anew every `refit` trials, at first in every one. They follow from the
        trials up to then alone, so that a study that goes on after a stop finds the same.
        """
        block = len(values) if len(values) < 20 else len(values) // self.refit * self.refit
        if self._chosen.get(k, (0,))[0] != block:
            z = normal_scores(values[:block], FLOOR if single else -np.inf)
            pair = best_pair([d[:block, :block] for d in among], z, NOISES if single else EXACT)
            self._chosen[k] = block, pair
        return self._chosen[k][1]

    def _encodings(self, nets: list[Tokens]) -> list[np.ndarray]:
        rows = np.array(nets)
        parts = [self.space.one_hot(rows).astype(np.float64)]
        if self._alike:
            counts = [(rows[:, at, None] == np.arange(size)).sum(1) for at, size in self._alike]
            parts.append(np.concatenate(counts, axis=1).astype(np.float64))
        return [*parts, self.space.features(rows)] if self.space.features is not None else parts

    def _encode(self, nets: list[Tokens]) -> list[np.ndarray]:
        """(n, d) per encoding; every net is encoded once."""
        missing = [net for net in nets if net not in self._encoded]
        if missing:
            self._encoded.update(zip(missing, np.concatenate(self._encodings(missing), axis=1), strict=True))
        return np.split(np.stack([self._encoded[net] for net in nets]), self._cuts, axis=1)

    def _distances(self, a: list[Tokens], b: list[Tokens]) -> list[np.ndarray]:
        """Squared distances (len(a), len(b)) per encoding, in units of half the mean one of random nets."""
        out = []
        for x, y, spread in zip(self._encode(a), self._encode(b), self._spreads, strict=True):
            squared = (x**2).sum(1)[:, None] + (y**2).sum(1) - 2 * x @ y.T
            out.append(np.maximum(squared, 0) / spread)
        return out
