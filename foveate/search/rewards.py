"""Rewards of accuracy (a fraction) and latency (in the unit of the target): what a controller maximises.

Only `strict` guarantees a net under the target. The others trade: a net slightly over the target can win.
"""

import functools
import inspect
import math
from collections.abc import Callable, Mapping

from foveate.config import near, parse_call, pick
from foveate.errors import ConfigError

Reward = Callable[[float, float, float], float]  # (accuracy, latency, target)


def accuracy(accuracy: float, latency: float, target: float) -> float:
    """The accuracy alone."""
    return accuracy


def mnasnet_soft(accuracy: float, latency: float, target: float, w: float = -0.07) -> float:
    """accuracy * (latency / target)^w (MnasNet, arXiv 1807.11626, alpha = beta = -0.07).

    The target does not matter: target^-w is the same factor for every net, so it moves no net past another. Which
    latency wins follows from w alone.
    """
    return accuracy * (_ratio(latency, target)) ** w


def mnasnet_hard(accuracy: float, latency: float, target: float, w: float = -1.0) -> float:
    """accuracy under the target, accuracy * (latency / target)^w above it (MnasNet, alpha = 0, beta = -1)."""
    ratio = _ratio(latency, target)
    return accuracy if ratio <= 1 else accuracy * ratio**w


def tunas(accuracy: float, latency: float, target: float, b: float = -0.07) -> float:
    """accuracy + b |latency / target - 1|: the absolute reward (TuNAS, Bender et al. 2020, arXiv 2008.06120). Too fast
    costs as much as too slow, so it settles at the target.
    """
    return accuracy + b * abs(_ratio(latency, target) - 1)


def strict(accuracy: float, latency: float, target: float) -> float:
    """accuracy at or under the target; above it less than any accuracy: 1 - latency / target, so that searchers still
    learn which way out is.
    """
    ratio = _ratio(latency, target)
    return accuracy if ratio <= 1 else 1 - ratio


def _ratio(latency: float, target: float) -> float:
    if not (latency > 0 and target > 0):
        raise ConfigError(f"latency = {latency}, target = {target}; both must be above 0")
    return latency / target


REWARDS: Mapping[str, Reward] = {
    "accuracy": accuracy,
    "mnasnet_soft": mnasnet_soft,
    "mnasnet_hard": mnasnet_hard,
    "tunas": tunas,
    "strict": strict,
}

FREE = ("accuracy", "strict")  # mean something without a limit: both are then the accuracy
MOST = 100.0  # size of an exponent or a slope


def make_reward(text: str, *, limited: bool = True) -> Reward:
    """The reward that a call string names: "mnasnet_soft(w=-0.15)"; w is the exponent, b the slope of tunas.

    limited: whether the search has a limit that a net can come near. ConfigError for an unknown name or option, a
    value that is not a number from -100 to 0 (over the target would pay), and a reward that needs a limit without one.
    """
    name, options = parse_call(text)
    function = pick(REWARDS, name, "reward")
    known = [
        p.name for p in inspect.signature(function).parameters.values() if p.default is not inspect.Parameter.empty
    ]
    for key, value in options.items():
        if key not in known:
            takes = near(key, known) if known else f"{name} takes none"
            raise ConfigError(f'--reward {text}: unknown option "{key}"; {takes}')
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not math.isfinite(value) or not -MOST <= value <= 0:
            raise ConfigError(f"--reward {text}: {key} = {value!r}: expected a number from {-MOST:g} to 0")
    if name not in FREE and not limited:
        raise ConfigError(
            f"--reward {text} weighs accuracy against a limit, and there is none; give --max-latency, --max-size or"
            " --max-macs, or leave --reward out"
        )
    return functools.partial(function, **options) if options else function
