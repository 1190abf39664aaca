"""What so many seeds can tell: the half-width of an interval and the effect that is seen in four cases of five."""

import math

from foveate.workflows.ablate.stats import t_quantile

CHANCE = 0.8  # of seeing the effect
DISAGREE = 0.08  # share of test pictures on which two nets differ, where nothing better is known
MOST_SEEDS = 1000


def planned_sd(sd: float, test: int, unit_is_points: bool = True) -> float:
    """The deviation of a paired difference to plan with: over seeds, and over a test set of so many pictures.

    sd: over seeds on 10,000 test pictures, in points. A smaller test set adds the noise of which pictures are in it:
    sqrt(disagreement / n).
    """
    if not unit_is_points or not test:
        return sd
    more = DISAGREE * max(0.0, 1 / test - 1 / 10_000)
    return math.sqrt(sd**2 + 1e4 * more)


def half_width(n: int, sd: float, tests: int = 1) -> float:
    """Of the 95 % interval of a mean of n: t(0.975, n - 1) sd / sqrt(n); infinite for one seed.

    tests: of how many this is the strictest, by Holm: the interval is then of 1 - 0.05 / tests.
    """
    return math.inf if n < 2 else t_quantile(n - 1, 1 - 0.05 / tests) * sd / math.sqrt(n)


def detectable(n: int, sd: float, chance: float = CHANCE) -> float:
    """The effect whose interval leaves out 0 with this chance (paired t, two-sided 5 %); infinite for one seed."""
    if n < 2:
        return math.inf
    from scipy.special import nctdtr

    critical, low, high = t_quantile(n - 1), 0.0, 1.0
    while 1 - nctdtr(n - 1, high, critical) < chance:  # the share of |t| beyond it on the other side is nothing
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if 1 - nctdtr(n - 1, middle, critical) < chance else (low, middle)
    return float(high * sd / math.sqrt(n))


def seeds_to_settle(mean: float, sd: float, tests: int = 1) -> int | None:
    """The least n with t(n - 1) sd / sqrt(n) < |mean|; None: more than MOST_SEEDS, or no effect at all."""
    return next((n for n in range(2, MOST_SEEDS + 1) if half_width(n, sd, tests) < abs(mean)), None)


def power_line(n: int, sd: float, unit: str, origin: str, largest: float | None) -> str:
    """What is printed before anything is trained. largest: the claimed effect, the largest of the table."""
    if n < 2:
        return "power: one seed has no interval over seeds, so every verdict will be: not settled"
    seen = detectable(n, sd)
    text = (
        f"power: {n} seeds, deviation of a difference {sd:.2g} {unit} ({origin}): half-width {half_width(n, sd):.2g},"
        f" an effect of {seen:.2g} is told from 0 in 4 cases of 5"
    )
    if largest is None:
        return text
    short = "" if largest >= seen else f"; too few for that: {needed(largest, sd)}"
    return f"{text}; the claim is {largest:.2g}{short}"


def needed(effect: float, sd: float) -> str:
    """How many seeds would see an effect of this size in four cases of five."""
    n = next((n for n in range(2, 101) if detectable(n, sd) <= effect), None)
    return f"{n} seeds would see it" if n else "over 100 seeds would see it, or a longer training that scatters less"
