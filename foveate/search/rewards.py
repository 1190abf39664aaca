"""Rewards of accuracy (a fraction) and latency (in the unit of the target): what a controller maximises.

Only `strict` guarantees a net under the target. The others trade: a net slightly over the target can win.
"""

from collections.abc import Callable, Mapping

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
