"""Whether a space has a net within a budget at all: asked before the first trial, by counts, and by the clock at last.

A space of few nets is counted whole. Of a large one a net within the budget is looked for: among some drawn ones, then
downhill from the cheapest of them, choice by choice; what is reached there is the floor.
"""

import random
import time
from collections.abc import Callable, Iterator
from itertools import product

from foveate.cost.count import cost
from foveate.data.index import Dataset
from foveate.errors import BudgetError, ConfigError
from foveate.events import Listener, StageEvent
from foveate.report.units import count, milliseconds, size
from foveate.runs.plan import Budget
from foveate.search.space import Space, Tokens
from foveate.search.supernet import smallest
from foveate.selection.candidates import HEADROOM, Candidate, measure_candidate
from foveate.workflows.search.design import Search, config_of, preprocess_of

WHOLE = 64  # nets of a space, up to which all are counted
DRAWN = 8  # nets of a larger one that are drawn first
LOOK_S, LOOK_SHARE = 20.0, 0.1  # seconds, and of a time, after which no further net is counted
FLOAT = 4  # bytes of a weight in the exported file

Costs = tuple[float, float, float]  # multiply-adds, bytes of the weights, bytes of memory


def check_reachable(
    design: Search,
    space: Space,
    dataset: Dataset,
    listener: Listener,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """BudgetError with the floor where no net of the space is within the budget, as far as was looked."""
    budget = design.budget
    limits = (budget.max_macs, budget.max_size_bytes, budget.max_memory_bytes)
    if all(limit is None for limit in limits) and budget.max_latency_ms is None:
        return
    until = clock() + min(LOOK_S, LOOK_SHARE * budget.time_s if budget.time_s else LOOK_S)
    known: dict[Tokens, Costs] = {}
    whole = space.size <= WHOLE
    for net in order(space, design.seed) if whole else downhill(space, design.seed, known, limits):
        net = space.canonical(net)
        if net not in known:
            try:
                config = config_of(space, net, dataset)
                counts = cost(config, resolution=preprocess_of(design, config).resolution)
            except ConfigError:  # not every call of choices is a network at this resolution
                continue
            known[net] = (counts.macs, FLOAT * counts.params, counts.inference_bytes)
        if over(known[net], limits) <= 1 and budget.max_latency_ms is None:
            return
        if known and clock() > until:
            whole = False
            break
    if not known:
        return
    nearest = min(known, key=lambda net: (over(known[net], limits), known[net][0]))
    if over(known[nearest], limits) > 1:
        raise BudgetError(floor_text(space, design, known[nearest], len(known), whole))
    if budget.max_latency_ms is not None:
        check_latency(design, space, dataset, nearest, budget, listener)


def check_latency(
    design: Search, space: Space, dataset: Dataset, net: Tokens, budget: Budget, listener: Listener
) -> None:
    """BudgetError where the net of the fewest multiply-adds takes longer than all that is allowed, even in the quick
    tenth of its runs.
    """
    config = config_of(space, net, dataset)
    preprocess = preprocess_of(design, config)
    counts = cost(config, resolution=preprocess.resolution)
    m = measure_candidate(Candidate("", config, preprocess, None), counts, budget, design.threads or 1)
    listener(StageEvent(f"the cheapest net of {space.name}: {milliseconds(m.latency.median_ms)}"))
    if m.latency.p10_ms > (budget.max_latency_ms or 0.0):
        raise BudgetError(
            f"--max-latency {budget.max_latency_ms:g}ms: the cheapest net of {space.name} that was found takes"
            f" {milliseconds(m.latency.median_ms)} ({count(m.macs)} multiply-adds); allow more than"
            f" {m.latency.median_ms / HEADROOM:.3g}ms, or search another space"
        )


def order(space: Space, seed: int) -> Iterator[Tokens]:
    """All nets of a small space, in a random order."""
    nets = [space.complete(list(tokens)) for tokens in product(*(range(len(c.values)) for c in space.choices))]
    nets = list(dict.fromkeys(nets))
    random.Random(seed).shuffle(nets)
    yield from nets


def downhill(
    space: Space, seed: int, known: dict[Tokens, Costs], limits: tuple[int | None, int | None, int | None]
) -> Iterator[Tokens]:
    """Nets of a large space: the one of the smallest numbers, drawn ones, then from the cheapest that is known each
    choice in turn at all its values, as long as that makes it cheaper. known: what the caller found of those that
    were given.
    """
    rng = random.Random(seed)
    yield smallest(space)
    yield space.complete([0] * len(space.choices))
    yield space.complete([len(c.values) - 1 for c in space.choices])
    for _ in range(DRAWN):
        yield space.complete([rng.randrange(len(c.values)) for c in space.choices])
    better = True
    while better and known:
        better = False
        for i, choice in enumerate(space.choices):
            best = min(known, key=lambda net: (over(known[net], limits), known[net][0]))
            before = (over(known[best], limits), known[best][0])
            for value in range(len(choice.values)):
                if best[i] not in (-1, value):
                    yield space.complete([*best[:i], value, *best[i + 1 :]])
            better |= min((over(costs, limits), costs[0]) for costs in known.values()) < before


def over(costs: Costs, limits: tuple[int | None, int | None, int | None]) -> float:
    """The largest share that a net takes of a limit; 0 without one."""
    return max((value / limit for value, limit in zip(costs, limits, strict=True) if limit is not None), default=0.0)


def floor_text(space: Space, design: Search, nearest: Costs, looked: int, whole: bool) -> str:
    """The one line for a budget that no net of the space is within."""
    macs, weights, memory = nearest
    budget = design.budget
    parts = [f"{count(macs)} multiply-adds"] if budget.max_macs is not None else []
    parts += [f"{size(weights)} of weights"] if budget.max_size_bytes is not None else []
    parts += [f"{size(memory)} in memory"] if budget.max_memory_bytes is not None else []
    what = "the smallest" if whole else "the smallest that was found"
    return (
        f"no net of {space.name} fits the budget: {what} of {looked} nets has {', '.join(parts)}; allow more, or search"
        " another space"
    )
