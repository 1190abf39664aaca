"""A search that ends when it should: how long its short trainings may be, when a trial is cut, what its end is kept.

Trials are short trainings of nets that differ by orders of magnitude, on a machine that may be busy. So the length of
all of them is settled once, by timed steps of a typical net, before the first; and where the time for the search is
over, a trial that still runs is judged as it stands.
"""

import math
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from foveate.config import replace
from foveate.cost.count import cost
from foveate.data.index import Dataset
from foveate.errors import ConfigError
from foveate.events import Listener, StageEvent
from foveate.recipes.adapt import smaller_batch
from foveate.runs.epochs import time_picture
from foveate.runs.request import read_spent
from foveate.runs.time_budget import TimeBudget
from foveate.search.space import Space
from foveate.search.study import Found
from foveate.workflows.search.design import LEAST, Search, config_of, preprocess_of
from foveate.workflows.search.evaluators import ANEW
from foveate.zoo.family import Config

TYPICAL = 5  # drawn nets, of which the one of median multiply-adds is timed
TIMING_SHARE = 0.1  # of the time, after which no further step is timed
FORWARD = 1 / 3  # of a training step's time, for a picture that is only looked at
FEWEST = 64  # pictures of a short training, at least
ZOO_SHARE = 0.2  # of what is left after the trials, for the zoo's networks beside them
MODEL = 3.0  # times the end of a training: the time that one more model of the front is worth


def in_time(design: Search, space: Space, dataset: Dataset, validation: int, listener: Listener) -> Search:
    """The search with short trainings of which LEAST end in its share of the time; as it is where they do already.

    validation: pictures that a trial is judged by. Fewer epochs first, then fewer pictures, in smaller batches.
    """
    limit = design.budget.time_s
    if limit is None or design.evaluate != "train":
        return design
    config, pictures = typical(space, design, dataset), min(design.pictures, len(dataset.splits["train"]))
    if config is None:
        return design
    one_s = time_picture(
        design.proxy, config, preprocess_of(design, config), dataset, design.device, TIMING_SHARE * limit
    )
    looked = FORWARD * (validation + ANEW * min(design.proxy.batch, pictures))
    allowed = design.share * limit / min(design.trials or LEAST, LEAST) / one_s
    epochs = max(1, min(design.proxy.epochs, int(allowed / (pictures + looked))))
    few = max(min(FEWEST, pictures), min(pictures, int(allowed / epochs - looked)))
    if (epochs, few) == (design.proxy.epochs, pictures):
        return design
    asked = f"{design.proxy.epochs} x {pictures:,}"
    listener(StageEvent(f"the time is short: a trial is {epochs} x {few:,} pictures, not {asked}"))
    proxy, _ = smaller_batch(replace(design.proxy, epochs=epochs), few)
    return replace(design, proxy=proxy, pictures=few)


def typical(space: Space, design: Search, dataset: Dataset) -> Config | None:
    """The net of median multiply-adds among TYPICAL drawn ones; None where none of them can be built."""
    rng, found = np.random.default_rng(design.seed), list[tuple[float, Config]]()
    for _ in range(TYPICAL):
        config = config_of(space, space.sample(rng), dataset)
        try:
            found.append((cost(config, resolution=preprocess_of(design, config).resolution).macs, config))
        except ConfigError:  # not every call of choices is a network at this resolution
            continue
    found.sort(key=lambda pair: pair[0])
    return found[len(found) // 2][1] if found else None


def clock_of(folder: Path, design: Search, begun: float | None = None) -> TimeBudget:
    """The time of a search, of which earlier sessions spent what its folder says. begun: of time.monotonic()."""
    now = time.monotonic() if begun is None else begun
    return TimeBudget(design.budget.time_s or math.inf, now - read_spent(folder))


def trials_until(design: Search, clock: TimeBudget) -> float:
    """The moment on the clock at which the search's share of the time is over; infinite without a time."""
    return clock.begun + design.share * clock.whole_s


def zoo_until(clock: TimeBudget) -> float:
    """The moment on the clock from which no further network of the zoo is trained beside the trials."""
    return clock.clock() + ZOO_SHARE * clock.left_s


def usual_s(done: Sequence[Found]) -> float:
    """Seconds of a trial, by the median."""
    return statistics.median([float(f.facts.get("seconds", 0.0)) for f in done] or [0.0])


def last_trainings(design: Search, clock: TimeBudget, one_s: float) -> tuple[float | None, int]:
    """(seconds for the training of the winner and the front, how many models these may be): the time that is left
    without the ends of so many trainings, which test, export and time a model. (None, all) without a time.

    one_s: how long it took to export and time a network.
    """
    if math.isinf(clock.whole_s):
        return None, design.front
    end = clock.kept_s(one_s)
    count = max(1, min(design.front, int(clock.left_s / (MODEL * end)))) if end else 1
    return clock.left_s - count * end, count
