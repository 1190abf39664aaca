"""The best net of a search: the trials that score highest are measured again, and the first within the budget wins."""

from collections.abc import Iterator, Sequence

from foveate.cost.count import cost
from foveate.data.index import Dataset
from foveate.errors import BudgetError, FoveateError
from foveate.events import Listener, StageEvent
from foveate.search.space import Space
from foveate.search.study import Found
from foveate.selection.candidates import HEADROOM, Candidate, Measured, measure_candidate
from foveate.workflows.search.design import Search, config_of, preprocess_of
from foveate.workflows.search.report import is_valued, row_of

AGAIN = 9  # of the best nets, at most, are measured again


def winner(
    design: Search, space: Space, dataset: Dataset, done: Sequence[Found], listener: Listener
) -> tuple[Found, Measured]:
    """The best net that is within the budget when it is measured again. BudgetError with the nearest where none is."""
    listener(StageEvent("measuring the best again"))
    if (found := next(fitting(design, space, dataset, done), None)) is not None:
        return found
    good = sum(1 for f in done if is_valued(f) and f.facts.get("fits"))
    if good:
        raise BudgetError(
            f"the best {min(AGAIN, good)} nets are over the budget when they are measured again ({HEADROOM:.0%} of a "
            "latency budget count); the device may be busy: go on with --resume later, or allow more"
        )
    near = [f for f in done if f.values is not None]
    if not near:
        failed = next((f.facts.get("error", "") for f in done), "")
        raise FoveateError(f"every trial failed, the first with: {failed}")
    nearest = max(near, key=lambda f: (f.values or (0.0,))[0])
    raise BudgetError(f"none of {len(done)} nets fits the budget; the nearest: {row_text(space, nearest)}")


def fitting(design: Search, space: Space, dataset: Dataset, done: Sequence[Found]) -> Iterator[tuple[Found, Measured]]:
    """Of the AGAIN best nets of a search those that are within the budget when they are measured again, best first."""
    good = sorted((f for f in done if is_valued(f) and f.facts.get("fits")), key=lambda f: -(f.values or (0.0,))[0])
    for one in good[:AGAIN]:
        if (m := again(design, space, dataset, one)).within(design.budget):
            yield one, m


def again(design: Search, space: Space, dataset: Dataset, one: Found) -> Measured:
    """A net of a trial, measured once more."""
    config = config_of(space, one.net, dataset)
    preprocess = preprocess_of(design, config)
    counts = cost(config, resolution=preprocess.resolution)
    name = f"{space.name}, trial {one.number}"
    return measure_candidate(Candidate(name, config, preprocess, None), counts, design.budget, design.threads)


def row_text(space: Space, one: Found) -> str:
    """Costs of a net as people say them."""
    row = row_of(space, one)
    timed = f"{row['latency_ms']:.2g} ms, " if row.get("latency_ms") else ""
    return f"{timed}{row['macs'] / 1e6:.1f} M multiply-adds"
