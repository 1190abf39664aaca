"""Which networks fit looks at, and what each of them costs on this device, measured."""

import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from foveate.config import replace
from foveate.data.index import Dataset
from foveate.data.preprocess import Preprocess, at_resolution
from foveate.data.sample import is_small
from foveate.errors import BudgetError, ConfigError
from foveate.events import CandidateEvent, Listener, StageEvent
from foveate.report.units import count, milliseconds, size
from foveate.runs.defaults import default_preprocess
from foveate.runs.plan import Budget
from foveate.selection.shortlist import Prior, cost_of, priors, rough_macs, small_size, spread, takes
from foveate.zoo import build, list_models, variant
from foveate.zoo.family import Config

if TYPE_CHECKING:
    from foveate.cost.count import Cost
    from foveate.cost.latency import Latency

T = TypeVar("T")

QUICK = (  # (thumbnails, photographs): what is known to learn quickly from scratch is always looked at
    (("resnet20_cifar", 0), ("resnet32_cifar", 0), ("resnet56_cifar", 0), ("wrn16_4_cifar", 0)),
    (("efficientnet_lite0", 128), ("resnet18", 96), ("resnet18d", 128), ("resnet34d", 128), ("resnet50d", 128)),
)
PUBLISHED = {  # weights source -> (name, resolution)
    "lite": (
        ("efficientnet_lite0", 160),
        ("efficientnet_lite0", 224),
        ("efficientnet_lite1", 192),
        ("efficientnet_lite2", 208),
        ("efficientnet_lite2", 260),
    )
}
MOST = 12  # candidates that are measured
SPAN = 64.0  # how much cheaper than the dearest one the cheapest one that is looked at may be
HEADROOM = 0.9  # of a latency budget: the median of the same file differs by several per cent from hour to hour


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
) -> list[Measured]:
    """Every network that fit looks at, measured, cheapest first: those asked for, or the whole zoo in two looks.

    The first look is at what learns quickly, and tells how fast this device is. The second one spreads over all costs
    that the budget then seems to allow (field.py). most_ms: a latency that leaves no time for training.
    until: see measure_all.
    """
    if pattern is not None or weights is not None:
        return measure_all(asked(dataset, weights, pattern), budget, threads, until, listener)
    every = priors(dataset)
    size = small_size(dataset) if is_small(dataset) else 0
    first = [(name, size or side) for name, side in QUICK[0 if size else 1]]
    limits = (budget.max_macs, budget.max_size_bytes)
    possible = [p for p in every if not exceeds(p, *limits)] or every[:1]
    quick = [p for p in possible if (p.model, p.resolution) in first] or possible[:1]
    found = measure_all([make(dataset, p.model, p.resolution, None) for p in quick], budget, threads, until, listener)
    ms = statistics.median(
        m.latency.median_ms / cost_of(m.candidate.model, m.candidate.preprocess.resolution) for m in found
    )
    high = min(most_ms, budget.max_latency_ms or math.inf) / ms
    low = max(possible[0].cost, high / SPAN)
    more = spread(possible, low, high, MOST - len(quick), quick)
    if not more and not any(m.within(budget) for m in found):
        more = possible[:1]  # at least the cheapest one of all
    found += measure_all([make(dataset, p.model, p.resolution, None) for p in more], budget, threads, until, listener)
    return sorted(found, key=lambda m: m.macs)


def exceeds(p: Prior, max_macs: int | None, max_size_bytes: int | None) -> bool:
    """Whether a count alone says that a network does not fit; float32 weights are most of the exported file."""
    return (max_macs is not None and p.macs > max_macs) or (
        max_size_bytes is not None and 4 * p.params > max_size_bytes
    )


def asked(dataset: Dataset, weights: str | None, pattern: str | None) -> list[Candidate]:
    """The field by pattern, or by what the weights are for."""
    if pattern is not None:
        small = small_size(dataset) if is_small(dataset) else None
        names = [(name, small or variant(name).resolution) for name in list_models(pattern)]
        pairs = [(name, size) for name, size in names if takes(name, size)]
        if not pairs:
            raise ConfigError(f'--models "{pattern}": none of these networks takes pictures of {small} pixels')
    elif weights in PUBLISHED:
        pairs = list(PUBLISHED[weights])
    else:
        return [from_folder(dataset, str(weights))]
    return [make(dataset, name, size, weights) for name, size in pairs]


def make(dataset: Dataset, name: str, size: int, weights: str | None) -> Candidate:
    """A named variant at a resolution for these classes."""
    config = replace(variant(name), num_classes=len(dataset.classes), resolution=size)
    return Candidate(name, config, at_resolution(default_preprocess(name, config, dataset, weights), size), weights)


def from_folder(dataset: Dataset, weights: str) -> Candidate:
    """The architecture that a model folder holds, for these classes."""
    from foveate.train.artefact import load_model

    folder = Path(weights.removeprefix("local-dir:"))
    if not (folder / "config.json").is_file():
        raise ConfigError(
            f"--weights {weights}: say which network these weights are of with --models NAME, "
            'or give a model folder or "lite"'
        )
    _, card = load_model(folder)
    config = replace(card.architecture, num_classes=len(dataset.classes))
    return Candidate(str(card.provenance.get("model", card.architecture.family)), config, card.preprocess, weights)


def measure_all(
    field: Sequence[Candidate], budget: Budget, threads: int, until: float, listener: Listener
) -> list[Measured]:
    """Export and time every candidate, cheapest first; a limit on multiply-adds is applied before, for it needs no
    export.

    More than MOST candidates are thinned evenly in cost. After `until` (of time.monotonic) no further one is measured
    where one fits: on a busy machine training would have no time. Latency does not depend on the weights, so the
    networks are untrained.
    """
    from foveate.cost.count import cost

    if len(field) > 4 * MOST:  # counting a network takes most of a second
        field = thinned(sorted(field, key=lambda c: rough_macs(c.model, c.preprocess.resolution)), 4 * MOST)
    counted = sorted(
        ((c, cost(c.config, resolution=c.preprocess.resolution)) for c in field), key=lambda pair: pair[1].macs
    )
    affordable = [pair for pair in counted if budget.max_macs is None or pair[1].macs <= budget.max_macs]
    affordable = affordable or counted[:1]  # so that the error can name the nearest
    affordable = thinned(affordable, MOST)
    listener(StageEvent(f"measuring {len(affordable)} candidates"))
    found: list[Measured] = []
    for i, (candidate, counts) in enumerate(affordable):
        if time.monotonic() > until and any(m.within(budget) for m in found):
            left = len(affordable) - i
            listener(StageEvent(f"the {left} most expensive are not measured: training needs the time"))
            break
        found.append(measured(candidate, counts, budget, threads))
        listener(found[-1].event(found[-1].within(budget)))
    return found


def measured(candidate: Candidate, counts: "Cost", budget: Budget, threads: int) -> Measured:
    """One candidate, counted before, exported untrained and timed."""
    from foveate.deploy.export import export_for_timing
    from foveate.deploy.measure import measure_latency

    onnx = export_for_timing(build(candidate.config), candidate.preprocess)
    latency = measure_latency(onnx, candidate.preprocess, threads, runtime=budget.runtime)
    memory = counts.inference_bytes if budget.max_memory_bytes is not None else None
    return Measured(candidate, latency, len(onnx), counts.macs, counts.params, memory)


def thinned(items: Sequence[T], most: int) -> list[T]:
    """At most so many, evenly spread, the first and the last among them."""
    return list(items) if len(items) <= most else [items[round(i * (len(items) - 1) / (most - 1))] for i in range(most)]


def affordable(found: Sequence[Measured], budget: Budget) -> list[Measured]:
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
