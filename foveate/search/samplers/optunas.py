"""Optuna's own samplers by name: tpe, nsga2, random."""

import functools
from typing import Any


def tpe(space: Any, seed: int) -> Any:
    """The tree-structured Parzen estimator with Optuna's defaults."""
    from foveate.search.samplers.bridge import Reseeded

    return Reseeded(make_tpe, seed)


def nsga2(space: Any, seed: int, population: int = 20) -> Any:
    """NSGA-II. Optuna's population of 50 would be three generations of 150 trials; 20 are ten of 200."""
    from foveate.search.samplers.bridge import Reseeded

    return Reseeded(functools.partial(make_nsga2, population), seed)


def random(space: Any, seed: int) -> Any:
    """Every choice uniform."""
    from foveate.search.samplers.bridge import Reseeded

    return Reseeded(make_random, seed)


def make_tpe(seed: int) -> Any:
    """Optuna's, with this seed."""
    from optuna.samplers import TPESampler

    return TPESampler(seed=seed)


def make_nsga2(population: int, seed: int) -> Any:
    """Optuna's, with this seed."""
    from optuna.samplers import NSGAIISampler

    return NSGAIISampler(population_size=population, seed=seed)


def make_random(seed: int) -> Any:
    """Optuna's, with this seed."""
    from optuna.samplers import RandomSampler

    return RandomSampler(seed=seed)
