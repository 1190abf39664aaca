"""Compound scaling, arXiv:1905.11946 section 3.3: depth alpha^phi, width beta^phi, resolution gamma^phi.

Multiply-adds grow like (alpha beta^2 gamma^2)^phi; the coefficients make that 2, so that phi doublings cost 2^phi times
as much. Which coefficients is found once on a small base, by short trainings (search_coefficients); then any budget is
a config (to_macs). Functions from config to config; nothing here trains, and nothing knows a data set.

Deliberate differences. The paper takes a small grid with alpha beta^2 gamma^2 near 2 (its choice has 1.92); here a grid
shares one doubling out between depth, width and resolution, so that the product is 2, and each candidate is then
brought to 2 times the base's counted multiply-adds: rounding to whole layers and channels moves a small net by a third,
which would decide the comparison. The released B1 to B7 are not alpha^phi but rounded by hand; stretch with their
numbers gives them exactly.
"""

import math
from collections.abc import Callable, Sequence
from typing import Annotated, Any, NamedTuple

from pydantic import Field

from foveate.config import near, record, replace
from foveate.cost.count import cost
from foveate.errors import ConfigError, FoveateError
from foveate.zoo import FAMILIES
from foveate.zoo.family import Config

PIXELS = 4  # resolutions are multiples of this
MOST_PIXELS = 4096
TRIALS, CLOSE = 10, 0.01  # values of phi that are tried, until the multiply-adds are so near (as a logarithm)
TRIM = 0.125  # share of the resolution that may make up for rounding
TRIED = 1  # resolutions on each side of what that takes, for counts grow by steps with the resolution too

Factor = Annotated[float, Field(ge=1.0, le=4.0, allow_inf_nan=False)]


@record
class Coefficients:
    """How depth, width and resolution grow with phi = 1; defaults are those of the paper."""

    alpha: Factor = 1.2
    beta: Factor = 1.1
    gamma: Factor = 1.15

    @property
    def macs(self) -> float:
        """How multiply-adds grow with phi = 1: alpha beta^2 gamma^2."""
        return self.alpha * self.beta**2 * self.gamma**2


def grid(steps: int = 4) -> list[Coefficients]:
    """Coefficients of product 2: a doubling in `steps` equal shares for depth, width and resolution, 15 for 4 steps.

    The share s of depth is alpha = 2^s, of width beta = 2^(s/2), of resolution gamma = 2^(s/2).
    """
    if steps < 1:
        raise ConfigError(f"grid({steps}): expected at least 1 step")
    shares = [(d, w, steps - d - w) for d in range(steps + 1) for w in range(steps + 1 - d)]
    return [Coefficients(2 ** (d / steps), 2 ** (w / steps / 2), 2 ** (r / steps / 2)) for d, w, r in shares]


def stretch(config: Config, depth: float = 1.0, width: float = 1.0, resolution: float = 1.0) -> Any:
    """The config with its depths, widths and resolution multiplied, by the rule of its family; below 1 it shrinks.

    efficientnet, mnasnet  the official rule: layers of every stage rounded up, widths to multiples of 8, stem and (of
                           EfficientNet) head too
    mobilenet              the same, but the first and the last stage keep their layers, and the head never shrinks
    resnet, regnet         layers of every stage rounded to the nearest, at least 1; widths to multiples of 8, below 64
                           channels of 4; groups keep their number (resnet) or grow as the net does (regnet)
    The resolution is rounded to a multiple of 4 pixels. ConfigError for another family, and for what the rule refuses.
    """
    if not all(math.isfinite(f) and f > 0 for f in (depth, width, resolution)):
        raise ConfigError(f"stretch: factors {depth}, {width}, {resolution}; expected numbers above 0")
    scale = FAMILIES[config.family].scale
    if scale is None:
        known = [name for name, family in FAMILIES.items() if family.scale]
        raise ConfigError(f'family "{config.family}" has no scaling rule; {near(config.family, known)}')
    made = scale(config, depth, width)
    pixels = round(config.resolution * resolution / PIXELS) * PIXELS if resolution != 1.0 else config.resolution
    return replace(made, resolution=min(max(pixels, PIXELS), MOST_PIXELS))


def compound(config: Config, coefficients: Coefficients, phi: float) -> Any:
    """The config at phi: compound(b0, Coefficients(1.2, 1.1, 1.15), 1)."""
    c = coefficients
    return stretch(config, c.alpha**phi, c.beta**phi, c.gamma**phi)


class Scaled(NamedTuple):
    """A config with what it took and what it costs."""

    config: Config
    phi: float
    macs: int  # of one picture


def to_macs(config: Config, macs: float, coefficients: Coefficients) -> Scaled:
    """The config at the phi whose multiply-adds are nearest to `macs` (of one picture); phi < 0 where they are fewer.

    Layers and channels come in whole numbers; what they leave over the resolution makes up, by at most an eighth.
    """
    if coefficients.macs <= 1:
        raise ConfigError("coefficients of 1 do not scale; expected one of alpha, beta, gamma above 1")
    known: dict[Any, int] = {}

    def off(made: Any) -> float:
        """log of how many times too many."""
        if made not in known:
            known[made] = cost(made).macs
        return math.log(known[made] / macs)

    phi, best = 0.0, (0.0, config)
    low, high = -math.inf, math.inf  # too few, too many
    for _ in range(TRIALS):
        made = compound(config, coefficients, phi) if phi else config
        if abs(off(made)) < abs(off(best[1])):
            best = phi, made
        if abs(off(made)) <= CLOSE:
            break
        low, high = (low, phi) if off(made) > 0 else (phi, high)
        phi -= off(made) / math.log(coefficients.macs)
        if not low < phi < high:  # a whole layer more than this step thought
            phi = (low + high) / 2
    phi, made = best
    if made != config and abs(off(made)) > CLOSE:
        made = min(trimmed(made, math.exp(-off(made))), key=lambda config: abs(off(config)))
    return Scaled(made, phi, known[made])


def trimmed(config: Config, ratio: float) -> list[Any]:
    """The config, and it at the resolutions that come nearest to `ratio` times its multiply-adds."""
    middle = round(config.resolution * math.sqrt(ratio) / PIXELS)
    sides = [PIXELS * (middle + i) for i in range(-TRIED, TRIED + 1)]
    close = [s for s in sides if PIXELS <= s <= MOST_PIXELS and abs(s / config.resolution - 1) <= TRIM]
    return [config, *(replace(config, resolution=s) for s in close)]


class Candidate(NamedTuple):
    """A row of the grid. score: None where the evaluation failed (error says why)."""

    coefficients: Coefficients
    scaled: Scaled
    score: float | None = None
    error: str = ""


def candidates(
    config: Config, steps: int = 4, growth: float = 2.0, tolerance: float = 0.1
) -> tuple[list[Candidate], list[Candidate]]:
    """The grid at `growth` times the config's multiply-adds: (those within the tolerance, those that are not).

    Of equal configs the first stands.
    """
    wanted = growth * cost(config).macs
    found: dict[Any, Candidate] = {}
    for coefficients in grid(steps):
        scaled = to_macs(config, wanted, coefficients)
        found.setdefault(scaled.config, Candidate(coefficients, scaled))
    close: list[Candidate] = []
    far: list[Candidate] = []
    for candidate in found.values():
        (close if abs(candidate.scaled.macs / wanted - 1) <= tolerance else far).append(candidate)
    return close, far


def search_coefficients(
    rows: Sequence[Candidate],
    evaluate: Callable[[Any], float],
    on_result: Callable[[Candidate], None] | None = None,
) -> list[Candidate]:
    """The candidates with their scores (more is better), best first; the first row's coefficients are the answer.

    evaluate: config -> score. A FoveateError, an arithmetic error or a score that is not finite is a failed row, at the
    end. on_result: hears each row. ConfigError where no row has a score.
    """
    done: list[Candidate] = []
    for row in rows:
        try:
            score = float(evaluate(row.scaled.config))
            failed = "" if math.isfinite(score) else f"score {score}"
        except (FoveateError, ArithmeticError, RuntimeError) as error:  # RuntimeError: torch, no memory among them
            score, failed = math.nan, " ".join(f"{type(error).__name__}: {error}".split())[:300]
        done.append(row._replace(score=None if failed else score, error=failed))
        if on_result is not None:
            on_result(done[-1])
    if all(row.score is None for row in done):
        why = done[0].error if done else "the grid is empty: no candidate comes near the multiply-adds asked for"
        raise ConfigError(f"no candidate has a score; {why}")
    return sorted(done, key=lambda row: -math.inf if row.score is None else row.score, reverse=True)
