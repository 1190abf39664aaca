"""Random numbers as pure functions of (seed, epoch, sample): order and augmentation never depend on workers or on
history.
"""

from collections.abc import Sequence

import numpy as np

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _scramble(x: np.ndarray) -> np.ndarray:
    """The finaliser of SplitMix64 (Steele, Lea, Flood 2014): a bijection of uint64 in which every input bit moves
    every output bit.
    """
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def uniforms(seed: int, epoch: int, samples: Sequence[int] | np.ndarray, columns: int) -> np.ndarray:
    """Independent uniform numbers in [0, 1): float64 (N, columns). Row i depends on (seed, epoch, samples[i]) alone."""
    with np.errstate(over="ignore"):  # wrap-around is the arithmetic here
        key = np.array([seed & (2**64 - 1)], np.uint64)
        for part in (np.array([epoch], np.uint64), np.asarray(samples, np.uint64)):
            key = _scramble((key + _GOLDEN) ^ _scramble(part + _GOLDEN))
        grid = key[:, None] + _GOLDEN * np.arange(1, columns + 1, dtype=np.uint64)[None, :]
        return (_scramble(grid) >> np.uint64(11)) * (1.0 / 2**53)


def generator(seed: int, stream: int) -> np.random.Generator:
    """A counter-based generator for one (seed, stream): the same numbers whenever it is made."""
    return np.random.Generator(np.random.Philox(key=[seed & (2**64 - 1), stream]))


def epoch_order(n: int, seed: int, epoch: int) -> np.ndarray:
    """The order of the n samples in an epoch: int64 (n,)."""
    return generator(seed, epoch).permutation(n)
