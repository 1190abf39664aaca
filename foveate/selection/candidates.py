"""Which networks fit looks at, and what each of them costs on this device, measured."""

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from foveate.config import replace
from foveate.data.index import Dataset
from foveate.data.preprocess import Preprocess, at_resolution
from foveate.data.sample import is_small
from foveate.errors import BudgetError, ConfigError
from foveate.events import CandidateEvent, Listener, StageEvent
from foveate.report.units import count, milliseconds, size
from foveate.runs.defaults import default_preprocess
from foveate.runs.plan import Budget
from foveate.runs.weights import named_network
from foveate.selection.published import (
    AUTO,
    HUB,
    LITE_SIZES,
    find_offers,
    lite_pairs,
    offered_pairs,
    offered_priors,
    say_none,
)
from foveate.selection.shortlist import Prior, cost_of, list_priors, rough_macs, small_size, spread, takes
from foveate.zoo import build, list_models, variant
from foveate.zoo.catalogue import counts
from foveate.zoo.family import Config
from foveate.zoo.sources import Public, form_for

if TYPE_CHECKING:
    from foveate.cost.count import Cost
    from foveate.cost.latency import Latency

T = TypeVar("T")

QUICK = (  # (thumbnails, photographs): what is known to learn quickly from scratch is always looked at
    (("resnet20_cifar", 0), ("resnet32_cifar", 0), ("resnet56_cifar", 0), ("wrn16_4_cifar", 0)),
    (("efficientnet_lite0", 128), ("resnet18", 96), ("resnet18d", 128), ("resnet34d", 128), ("resnet50d", 128)),
)
QUICK_TO_TUNE = (  # (name, resolution) with published weights: what is looked at first, where it is offered
    *(("efficientnet_lite0", 160), ("mobilenetv3_large_100", 160), ("mobilenetv4_conv_small", 160)),
    *(("resnet18d", 128), ("resnet34d", 160), ("resnet50d", 160), ("resnet18", 128)),
)
# fine-tuning is content with fewer epochs than a start from scratch, and its steps are quicker (halving.py):
# (10 * 2 epochs) / (3.3 * 2.5 epochs), and what the race leaves of the time
TUNING = 1.8
MOST = 12  # candidates that are measured
SPAN = 64.0  # how much cheaper than the dearest one the cheapest one that is looked at may be
HEADROOM = 0.9  # of a latency budget: the median of the same file differs by several per cent from hour to hour


GRACE_S = 10.0  # for finding one that fits, however short the time is
LONGER = 1.2  # times as long as the one before it the next, larger candidate is expected to take


@dataclass(frozen=True)
class Candidate:
    """A network at a resolution, with the number of classes of the data."""

    model: str
    config: Config
    preprocess: Preprocess
    weights: str | None


@dataclass(frozen=True)
class Measured:
    """A candidate and what one picture costs: latency of the exported file, its size, multiply-adds, parameters.

    memory_bytes: the highest number of bytes in tensors, weights included, while one picture is predicted; None: not
    asked for.
    """

    candidate: Candidate
    latency: "Latency"
    size_bytes: int
    macs: int
    params: int
    memory_bytes: int | None = None

    def shares(self, budget: Budget) -> list[float]:
        """What the candidate takes of every limit that there is; more than 1 is too much."""
        return shares_of(budget, self.latency.median_ms, self.size_bytes, self.macs, self.memory_bytes)

    def within(self, budget: Budget) -> bool:
        """Whether every limit of the budget holds, that of the latency with headroom."""
        return all(share <= 1 for share in self.shares(budget))

    def event(self, fits: bool) -> CandidateEvent:
        """The candidate as the listener hears of it."""
        c = self.candidate
        latency_ms = self.latency.median_ms
        return CandidateEvent(c.model, c.preprocess.resolution, latency_ms, self.size_bytes, self.macs, fits)

    def row(self, fits: bool) -> dict[str, Any]:
        """The candidate as a row of the report."""
        return {
            "model": self.candidate.model,
            "resolution": self.candidate.preprocess.resolution,
            "weights": self.candidate.weights,
            "latency_ms": self.latency.median_ms,
            "latency_p10_ms": self.latency.p10_ms,
            "latency_p90_ms": self.latency.p90_ms,
            "size_bytes": self.size_bytes,
            "macs": self.macs,
            "params": self.params,
            **({} if self.memory_bytes is None else {"memory_bytes": self.memory_bytes}),
            "fits": fits,
        }


class Measurements(Protocol):
    """What is measured already, and where a new one is kept (journal.py)."""

    def known(self, candidate: Candidate) -> Measured | None: ...

    def add(self, measured: Measured) -> None: ...


# of measure_all: budget, threads, until, listener and, where they are kept, measurements
Options = tuple[Budget, int, float, Listener] | tuple[Budget, int, float, Listener, Measurements]


def shares_of(
    budget: Budget, latency_ms: float | None, size_bytes: float | None, macs: float | None, memory_bytes: float | None
) -> list[float]:
    """What a network takes of every limit that there is and of which it is known, that of the latency with headroom."""
    most_ms = budget.max_latency_ms and HEADROOM * budget.max_latency_ms
    pairs = (
        (latency_ms, most_ms),
        (size_bytes, budget.max_size_bytes),
        (macs, budget.max_macs),
        (memory_bytes, budget.max_memory_bytes),
    )
    return [value / limit for value, limit in pairs if limit is not None and value is not None]


def look(
    dataset: Dataset,
    weights: str | None,
    pattern: str | None,
    budget: Budget,
    threads: int,
    most_ms: float,
    until: float,
    listener: Listener,
    licence: str = "commercial",
    measurements: Measurements | None = None,
) -> list[Measured]:
    """Every network that fit looks at, measured, cheapest first: those asked for, or the whole zoo in two looks.

    The first look is at what learns quickly, and tells how fast this device is. The second one spreads over all costs
    that the budget then seems to allow (shortlist.py). most_ms: a latency that leaves no time for training.
    until: see measure_all. weights: "auto", "hub" (published.py), a source for load_weights, or None: from scratch.
    licence: see find_offers. measurements: what an earlier session measured, and where this one keeps what it does.
    """
    options: Options = (budget, threads, until, listener)
    if measurements is not None:
        options = (*options, measurements)
    if weights in (AUTO, HUB):
        return look_published(dataset, str(weights), pattern, licence, most_ms, options)
    if pattern is not None or weights is not None:
        return measure_all(list_asked(dataset, weights, pattern), *options)
    return look_spread(dataset, list_priors(dataset), {}, most_ms, options)


def look_published(
    dataset: Dataset, weights: str, pattern: str | None, licence: str, most_ms: float, options: Options
) -> list[Measured]:
    """Networks with published weights, measured; also, or only, from scratch where these do not fit or are not there.

    Thumbnails are looked at in both ways: the race decides. So are the networks of a pattern.
    """
    budget, listener = options[0], options[3]
    offers, small = find_offers(weights, licence), is_small(dataset)
    if pattern is not None:
        names = list_models(pattern)
        tuned = make_offered(dataset, offered_pairs(dataset, names, offers), offers)
        started = {c.model for c in tuned}
        plain = [] if not small and started == set(names) else list_asked(dataset, None, pattern)
        plain = [c for c in plain if small or c.model not in started]
        if not tuned and not small:
            say_none(listener)
        return measure_all([*tuned, *plain], *options)
    if small:
        found = look_spread(dataset, list_priors(dataset), {}, most_ms, options)
        return found + look_enlarged(dataset, offers, most_ms, found, options)
    found = []
    if offers:
        found = look_spread(dataset, offered_priors(dataset, offers), offers, TUNING * most_ms, options)
        if any(m.within(budget) for m in found):
            return found
        listener(StageEvent("no network with published weights fits the budget: looking at those from scratch"))
    else:
        say_none(listener)
    return found + look_spread(dataset, list_priors(dataset), {}, most_ms, options)


def look_enlarged(
    dataset: Dataset, offers: Mapping[str, Public], most_ms: float, found: Sequence[Measured], options: Options
) -> list[Measured]:
    """For thumbnails: the network with published weights that promises most, where there is time to fine-tune it."""
    ms = ms_per_cost(found)
    most = min(TUNING * most_ms / 3, options[0].max_latency_ms or math.inf)  # three times the epochs: it must pay
    able = [
        p for p in offered_priors(dataset, offers) if p.cost * ms <= most and not exceeds(p, options[0].max_macs, None)
    ]
    if not able:
        return []
    best = max(able, key=lambda p: p.merit)
    return measure_all(make_offered(dataset, [(best.model, best.resolution)], offers), *options)


def ms_per_cost(found: Sequence[Measured]) -> float:
    """How long this device takes for a unit of cost (shortlist.cost_of)."""
    costs = [cost_of(m.candidate.model, m.candidate.preprocess.resolution) for m in found]
    return statistics.median(m.latency.median_ms / cost for m, cost in zip(found, costs, strict=True))


def look_spread(
    dataset: Dataset, every: list[Prior], offers: Mapping[str, Public], most_ms: float, options: Options
) -> list[Measured]:
    """The two looks: at what is quick to learn, then at what spreads over all costs that the budget then allows.

    offers: the published weights that start the networks; empty: they are from scratch.
    """
    budget = options[0]
    size = small_size(dataset) if is_small(dataset) else 0
    first = [(name, size or side) for name, side in QUICK[0 if size else 1]]
    lite = lite_pairs(dataset, offers)
    if offers:
        first = [*lite, *QUICK_TO_TUNE]
    limits = (budget.max_macs, budget.max_size_bytes)
    possible = [p for p in every if not exceeds(p, *limits)] or every[:1]
    quick = [p for p in possible if (p.model, p.resolution) in first] or possible[:1]
    pairs = dict.fromkeys([*lite, *((p.model, p.resolution) for p in quick)])
    found = measure_all(make_offered(dataset, list(pairs), offers), *options)
    if offers and all(p.model in dict(LITE_SIZES) for p in every):
        return found  # all that there is
    ms = ms_per_cost(found)
    high = min(most_ms, budget.max_latency_ms or math.inf) / ms
    low = max(possible[0].cost, high / SPAN)
    more = spread(possible, low, high, max(0, MOST - len(pairs)), quick)
    if not more and not any(m.within(budget) for m in found):
        more = possible[:1]  # at least the cheapest one of all
    found += measure_all(make_offered(dataset, [(p.model, p.resolution) for p in more], offers), *options)
    return sorted(found, key=lambda m: m.macs)


def exceeds(p: Prior, max_macs: int | None, max_size_bytes: int | None) -> bool:
    """Whether a count alone says that a network does not fit; float32 weights are most of the exported file."""
    return (max_macs is not None and p.macs > max_macs) or (
        max_size_bytes is not None and 4 * p.params > max_size_bytes
    )


def list_asked(dataset: Dataset, weights: str | None, pattern: str | None) -> list[Candidate]:
    """The field by pattern, or by what the weights are for."""
    if pattern is not None:
        small = small_size(dataset) if is_small(dataset) else None
        names = [(name, small or variant(name).resolution) for name in list_models(pattern)]
        pairs = [(name, size) for name, size in names if takes(name, size)]
        if not pairs:
            raise ConfigError(f'--models "{pattern}": none of these networks takes pictures of {small} pixels')
    elif weights == "lite":
        pairs = list(LITE_SIZES)
    else:
        return [read_candidate(dataset, str(weights))]
    return [make_candidate(dataset, name, size, weights) for name, size in pairs]


def make_candidate(dataset: Dataset, name: str, size: int, weights: str | None) -> Candidate:
    """A named variant at a resolution for these classes."""
    form = form_for(variant(name), weights or "")
    config = replace(form, num_classes=len(dataset.classes), resolution=size)
    preprocess = at_resolution(default_preprocess(name, config, dataset, weights), size)
    if weights is not None and is_small(dataset):
        preprocess = replace(preprocess, resize=size, fit="squash")  # thumbnails are not cropped
    return Candidate(name, config, preprocess, weights)


def make_offered(dataset: Dataset, pairs: Sequence[tuple[str, int]], offers: Mapping[str, Public]) -> list[Candidate]:
    """Named variants at resolutions, each with the weights that are offered for it; without offers from scratch."""
    return [make_candidate(dataset, name, size, offers[name].address if offers else None) for name, size in pairs]


def read_candidate(dataset: Dataset, weights: str) -> Candidate:
    """The network that an address or a model folder tells, with its weights, for these classes."""
    name, config = named_network(weights)
    config = replace(config, num_classes=len(dataset.classes))
    return Candidate(name, config, default_preprocess(name, config, dataset, weights), weights)


def measure_all(
    field: Sequence[Candidate],
    budget: Budget,
    threads: int,
    until: float,
    listener: Listener,
    measurements: Measurements | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> list[Measured]:
    """Export and time every candidate, cheapest first; a limit on multiply-adds is applied before, for it needs no
    export.

    More than MOST candidates are thinned evenly in cost. None is begun that would not end before `until` (of clock) by
    what the one before it took, where one fits; where none fits, none after as much time again, or GRACE_S. Latency
    does not depend on the weights, so the networks are untrained. measurements: what is there is not measured again.
    """
    from foveate.cost.count import cost

    begun = clock()
    latest = begun + max(2 * (until - begun), GRACE_S)
    affordable = list_affordable(field, budget, latest, clock)
    listener(StageEvent(f"measuring {len(affordable)} candidates"))
    found: list[Measured] = []
    took = 0.0
    for i, candidate in enumerate(affordable):
        one = None if measurements is None else measurements.known(candidate)
        if one is None:
            fits, now = any(m.within(budget) for m in found), clock()
            if found and now + LONGER * took > (until if fits else latest):
                left = len(affordable) - i
                listener(StageEvent(f"{left} of the largest are not measured, so that time is left for training"))
                break
            counted = cost(candidate.config, resolution=candidate.preprocess.resolution)
            one = measure_candidate(candidate, counted, budget, threads)
            took = clock() - now
            if measurements is not None:
                measurements.add(one)
        found.append(one)
        listener(one.event(one.within(budget)))
    return sorted(found, key=lambda m: m.macs)


def list_affordable(
    field: Sequence[Candidate], budget: Budget, until: float, clock: Callable[[], float]
) -> list[Candidate]:
    """At most MOST candidates, cheapest first: those within a limit on multiply-adds, else the cheapest one.

    Counting a network takes most of a second: without such a limit the catalogue's counts do, for those that stand in
    it, and none is counted after `until` once one is within the limit.
    """
    from foveate.cost.count import cost

    most = MOST if budget.max_macs is None else 4 * MOST
    if len(field) > most:
        field = thin(sorted(field, key=lambda c: rough_macs(c.model, c.preprocess.resolution)), most)
    if budget.max_macs is None and all(c.model in counts() for c in field):
        return sorted(field, key=lambda c: rough_macs(c.model, c.preprocess.resolution))
    counted: list[tuple[Candidate, int]] = []
    for candidate in field:
        if counted and clock() > until and any(budget.max_macs is None or n <= budget.max_macs for _, n in counted):
            break
        counted.append((candidate, cost(candidate.config, resolution=candidate.preprocess.resolution).macs))
    counted.sort(key=lambda pair: pair[1])
    within = [c for c, n in counted if budget.max_macs is None or n <= budget.max_macs]
    return thin(within or [counted[0][0]], MOST)  # one at least, so that the error can name the nearest


def measure_candidate(candidate: Candidate, counted: "Cost", budget: Budget, threads: int) -> Measured:
    """One candidate, counted before, exported untrained and timed."""
    from foveate.deploy.export import export_for_timing
    from foveate.deploy.measure import measure_latency

    onnx = export_for_timing(build(candidate.config), candidate.preprocess)
    latency = measure_latency(onnx, candidate.preprocess, threads, runtime=budget.runtime)
    memory = counted.inference_bytes if budget.max_memory_bytes is not None else None
    return Measured(candidate, latency, len(onnx), counted.macs, counted.params, memory)


def thin(items: Sequence[T], most: int) -> list[T]:
    """At most so many, evenly spread, the first and the last among them."""
    return list(items) if len(items) <= most else [items[round(i * (len(items) - 1) / (most - 1))] for i in range(most)]


def select_affordable(found: Sequence[Measured], budget: Budget) -> list[Measured]:
    """Those within the budget. None: BudgetError (exit 4) with the nearest that can be reached."""
    fits = [m for m in found if m.within(budget)]
    if fits:
        return fits
    nearest = min(found, key=lambda m: max(m.shares(budget)))
    c = nearest.candidate
    memory = "" if nearest.memory_bytes is None else f", {size(nearest.memory_bytes)} in memory"
    headroom = f" ({100 * (1 - HEADROOM):.0f} % of a latency budget are kept free)" if budget.max_latency_ms else ""
    raise BudgetError(
        f"no candidate fits the budget; the nearest is {c.model} at {c.preprocess.resolution} px: "
        f"{milliseconds(nearest.latency.median_ms)}, {size(nearest.size_bytes)}, "
        f"{count(nearest.macs)} multiply-adds{memory}{headroom}"
    )
