"""Schedules: how far a network shrinks and in how many rounds, by a criterion, down to a cost that is asked for.

Each round scores all units, sorts them globally and removes the least, and lets the caller fine-tune (arXiv:1906.10771
section 3.3). The cost is a function of a config: multiply-adds, parameters, bytes, or a latency that is measured.
"""

import functools
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import nn

from foveate.compress.couple import couple
from foveate.compress.criteria.redundancy import bounds
from foveate.compress.criteria.score import Criterion, Scored
from foveate.compress.gates import Batch, coupling_of
from foveate.compress.narrow import narrow, new_widths, with_widths
from foveate.compress.plan import pick, planned
from foveate.compress.refit import enough, refit
from foveate.compress.slice import slice_state
from foveate.config import NonNegative, Probability, record
from foveate.cost.count import cost as count
from foveate.errors import BudgetError, ConfigError
from foveate.zoo import build
from foveate.zoo.family import Config, get_config

Cost = Callable[[Any], float]  # of a config
Draw = Callable[[int], Batch]  # the i-th batch
Tune = Callable[[nn.Module, int], nn.Module]  # a smaller model, the round from 0 -> the model to go on with
Plans = dict[str, list[int]]

REFILL = 16  # tries to bring a unit back
MOST = 0.8  # a layer of few units left is a bottleneck that neither a fit nor training opens again
STRIDES = 50  # what more goes where a plan misses its target: this part of all units
PROBED = 8  # a group's units over this are removed at once to see what one of them costs


@record
class PruningSchedule:
    """How a target is reached."""

    rounds: Annotated[int, Field(ge=1, le=4096)] = 1  # costs fall by equal factors from round to round
    units: Annotated[int, Field(ge=0, le=65_536)] = 0  # removed in a round, whatever they cost; 0: by rounds
    multiple: Annotated[int, Field(ge=1, le=256)] = 1  # widths become multiples of it, 8 or 16 for a runtime
    by_cost: NonNegative | None = None  # scores are divided by a unit's cost to this power; None: as the criterion says
    bound: Probability = 0.0  # tau of the redundancy that bounds what a group gives; 0: none but the criterion's own
    most: Probability = MOST  # share of a group's units that go while other groups can still give
    refit: bool = True  # layers that lost inputs are fitted anew to what they gave before (foveate.compress.refit)


@dataclass(frozen=True)
class Round:
    """One round: what stayed, and the network after fine-tuning."""

    number: int  # from 1
    model: nn.Module
    plan: Plans
    cost: float


def shrink(
    model: nn.Module, criterion: Criterion, draw: Draw, cost: Cost, target: float, tune: Tune, schedule: PruningSchedule
) -> Iterator[Round]:
    """Remove units of a model of the zoo round by round, until cost(config) is at most target.

    draw: training batches for the criterion, others in every round. tune: fine-tunes; it gets the smaller model and
    the number of the round, and may change it in place. The caller's model stays as it is.
    BudgetError where the target is below what is reachable.
    """
    before, scored, drawn = cost(get_config(model)), None, 0
    config = get_config(model)
    fitted = enough(config.resolution) if schedule.refit else 0  # pictures for refit
    for number in itertools.count():
        if before <= target:
            return
        batches, drawn = some(draw, drawn, max(wanted(criterion, model), fitted))
        fresh = bounded(criterion.score(model, batches), model, batches, schedule.bound)
        fresh = limited(fresh, schedule.most)
        scored = blended(scored, fresh, criterion.momentum)
        left = schedule.rounds - number
        goal = target if left <= 1 else target * (before / target) ** (1 - 1 / left)
        power = criterion.by_cost if schedule.by_cost is None else schedule.by_cost
        if schedule.units:
            plan = few(get_config(model), scored, schedule.units, cost, target, schedule.multiple, power)
        else:
            plan = choose(get_config(model), scored, cost, goal, multiple=schedule.multiple, by_cost=power)
        smaller = removed(model, plan)
        if schedule.refit:
            refit(smaller, model, plan, batches)
        model = tune(smaller, number)
        scored = Scored({n: v[torch.tensor(plan[n])] if n in plan else v for n, v in scored.values.items()})
        before = cost(get_config(model))
        yield Round(number + 1, model, plan, before)


def removed(model: nn.Module, plan: Plans) -> nn.Module:
    """The smaller network with the weights that stay, on the device and in the mode of the larger one."""
    smaller = build(narrow(get_config(model), plan)).to(next(model.parameters()).dtype)
    smaller.load_state_dict(slice_state(get_config(model), model.state_dict(), plan))
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    for name, p in smaller.named_parameters():
        p.requires_grad_(name not in frozen)
    return smaller.to(next(model.parameters()).device).train(model.training)


def choose(
    config: Config,
    scored: Scored,
    cost: Cost,
    target: float,
    *,
    multiple: int = 1,
    by_cost: float = 1.0,
    refill: int = REFILL,
) -> Plans:
    """The plan that removes as few of the least units as bring cost(config) to target or below: one shot.

    Units are sorted globally: within the bounds of their groups first, then by their group's turn, then by the score
    over (what the unit costs in multiply-adds) ** by_cost. Every group keeps at least one. The number that goes is
    found by halving; then units that still fit come back, those worth most first, in at most `refill` tries. So a
    measured cost is asked for about log2(units) + refill times. BudgetError with the floor.
    """
    queue = order(config, scored, multiple, by_cost)
    known: dict[Any, float] = {}

    def within(smaller: Any) -> bool:
        if smaller not in known:
            known[smaller] = cost(smaller)
        return known[smaller] <= target

    def fits(remove: Mapping[str, int]) -> bool:
        return within(sketch(config, scored, remove, multiple))

    if not fits(Counter(queue)):
        raise BudgetError(
            f"{min(known.values()):.6g} is the least that {config.family} can shrink to, over {target:.6g}"
        )
    gone = fewest(queue, fits)
    plan = exact(config, scored, bring_back(queue[:gone], fits, refill), multiple)
    # widths that do not go together in the network cost more than their sketch
    while not (plan and within(narrow(config, plan))) and gone < len(queue):
        gone = min(len(queue), gone + max(1, len(queue) // STRIDES))
        plan = exact(config, scored, Counter(queue[:gone]), multiple)
    return plan


def fewest(queue: Sequence[str], fits: Callable[[Mapping[str, int]], bool]) -> int:
    """How many of the queue must go so that the rest fits, found by halving: all would do, one goes at least.

    queue: the group of each unit, the first to go first. fits: whether a number of units from each group is enough.
    """
    low, high = 0, len(queue)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(Counter(queue[:middle])) else (middle, high)
    return high


def bring_back(gone: Sequence[str], fits: Callable[[Mapping[str, int]], bool], tries: int) -> Mapping[str, int]:
    """How many units each group gives when those come back without which it still fits, the last to go first.

    The last unit may have cost much, so that cheaper ones fit again. A group that could not take one back is not tried
    again, and each gives one at least.
    """
    remove, shut, tried = dict(Counter(gone)), set[str](), 0
    for name in reversed(gone[:-1]):
        if tried >= tries or len(shut) == len(remove):
            break
        if name in shut:
            continue
        tried += 1
        fewer = {**remove, name: remove[name] - 1}
        if fewer[name] and fits(fewer):
            remove = fewer
        else:
            shut.add(name)
    return remove


def few(config: Config, scored: Scored, units: int, cost: Cost, target: float, multiple: int, by_cost: float) -> Plans:
    """The plan that removes about `units` units, more where none can go alone, and no more than the target asks for."""
    queue = order(config, scored, multiple, by_cost)
    for amount in range(units, len(queue) + units, units):
        plan = exact(config, scored, Counter(queue[:amount]), multiple)
        if plan:
            past = cost(narrow(config, plan)) < target
            return choose(config, scored, cost, target, multiple=multiple, by_cost=by_cost) if past else plan
    raise BudgetError(f"{cost(config):.6g} is the least that {config.family} can shrink to, over {target:.6g}")


def floor(config: Config, multiple: int = 1) -> Any:
    """The smallest config that narrowing gives: one unit in every group, or the least multiple."""
    groups = couple(config).groups
    scores = {name: list(map(float, range(len(g.units)))) for name, g in groups.items()}
    plan = planned(config, scores, {name: len(g.units) - 1 for name, g in groups.items()}, multiple)
    return narrow(config, plan) if plan else config


def order(config: Config, scored: Scored, multiple: int, by_cost: float) -> list[str]:
    """The groups that give a unit, one after the other: which one is the group's own affair, the least first."""
    prices = unit_costs(config, scored, multiple) if by_cost else dict.fromkeys(scored.values, 1.0)
    entries = []
    for name, values in scored.values.items():
        most = scored.most.get(name, len(values))
        for place, value in enumerate(values.sort().values[:-1].tolist()):
            if prices[name] > 0:
                entries.append((place >= most, scored.order.get(name, 0.0), value / prices[name] ** by_cost, name))
    return [name for *_, name in sorted(entries)]


def unit_costs(config: Config, scored: Scored, multiple: int = 1) -> dict[str, float]:
    """Group -> the share of the multiply-adds that one of its units takes along; 0: none can go alone."""
    whole, prices = macs(config), {}
    for name, values in scored.values.items():
        amount = min(max(multiple, len(values) // PROBED), len(values) - 1)
        kept = pick(config, name, values.tolist(), amount, multiple=multiple)
        gone = len(values) - len(kept)
        smaller = sketch(config, scored, {name: amount}, multiple) if gone else config
        prices[name] = (whole - macs(smaller)) / whole / max(1, gone)
    return prices


@functools.lru_cache(maxsize=1024)
def macs(config: Config) -> int:
    """Multiply-adds of one picture of the config's own resolution."""
    return count(config, resolution=config.resolution).macs


def exact(config: Config, scored: Scored, remove: Mapping[str, int], multiple: int) -> Plans:
    """The plan that removes about so many of the least units."""
    scores = {name: scored.values[name].tolist() for name in remove}
    return planned(config, scores, remove, multiple) if remove else {}


def sketch(config: Config, scored: Scored, remove: Mapping[str, int], multiple: int) -> Any:
    """The config of exact()'s plan from its widths alone: whether the network can be sliced so is not checked."""
    scores = {name: scored.values[name].tolist() for name in remove}
    plan = {name: pick(config, name, scores[name], n, multiple=multiple) for name, n in remove.items()}
    coupling = couple(config)
    plan = {name: kept for name, kept in plan.items() if len(kept) < len(coupling.groups[name].units)}
    try:
        return with_widths(coupling, new_widths(coupling, plan)) if plan else config
    except ConfigError:  # widths that fit one by one and not together
        return narrow(config, planned(config, scores, remove, multiple))


def wanted(criterion: Criterion, model: nn.Module) -> int:
    """How many pictures a criterion wants to see of this model."""
    largest = max(len(g.units) for g in coupling_of(model).groups.values())
    return max(criterion.pictures, criterion.per_unit * largest)


def some(draw: Draw, start: int, pictures: int) -> tuple[list[Batch], int]:
    """Batches from number start on with at least so many pictures, and the number after the last."""
    batches: list[Batch] = []
    while sum(len(x) for x, _ in batches) < pictures:
        batches.append(draw(start + len(batches)))
    return batches, start + len(batches)


def bounded(scored: Scored, model: nn.Module, batches: Iterable[Batch], tau: float) -> Scored:
    """With the bound of redundancy; ConfigError where there are fewer pictures than a group has units."""
    if not tau:
        return scored
    return Scored(scored.values, {**bounds(model, batches, tau), **scored.most}, scored.order)


def limited(scored: Scored, most: float) -> Scored:
    """With the bound that a group gives no more than a share of its units while others can still give."""
    bounds = {name: min(scored.most.get(name, len(v)), int(most * len(v))) for name, v in scored.values.items()}
    return Scored(scored.values, bounds, scored.order)


def blended(before: Scored | None, now: Scored, momentum: float) -> Scored:
    """Scores with momentum; a group that has changed otherwise than by losing units starts anew."""
    if before is None or not momentum:
        return now
    old: Mapping[str, torch.Tensor] = before.values
    values = {
        name: torch.lerp(v, old[name], momentum) if name in old and len(old[name]) == len(v) else v
        for name, v in now.values.items()
    }
    return Scored(values, now.most, now.order)
