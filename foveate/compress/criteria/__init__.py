"""Criteria: what a unit is worth, so that the least go first. One file each; a call string names one with its options:
"taylor(form='additive')".
"""

from collections.abc import Callable, Mapping

from foveate.compress.criteria.bn_scale import bn_scale
from foveate.compress.criteria.norm import norm
from foveate.compress.criteria.random import random
from foveate.compress.criteria.redundancy import redundancy
from foveate.compress.criteria.score import Criterion
from foveate.compress.criteria.taylor import taylor
from foveate.compress.criteria.taylor2 import taylor2
from foveate.config import make

CRITERIA: Mapping[str, Callable[..., Criterion]] = {
    "taylor": taylor,
    "taylor2": taylor2,
    "redundancy": redundancy,
    "norm": norm,
    "bn_scale": bn_scale,
    "random": random,
}


def make_criterion(text: str) -> Criterion:
    """The criterion that a call string names; ConfigError for unknown names and options."""
    return make(CRITERIA, text, "criterion")
