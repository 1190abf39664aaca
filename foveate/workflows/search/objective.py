"""What a net of a search scores: its cost first, then what search.evaluate says (evaluators.py).

A net over the budget is not evaluated under the strict reward: its score is negative and says how far it is over.
"""

import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from foveate.data.index import Dataset, Split, subset
from foveate.data.load import evaluation_pictures, training_pictures
from foveate.data.random import epoch_order
from foveate.data.sample import store_side
from foveate.events import silent
from foveate.runs.setup import read
from foveate.search.rewards import make_reward
from foveate.search.space import Space, Tokens
from foveate.search.study import Found, Note
from foveate.selection.candidates import Candidate, measure_candidate, shares_of
from foveate.workflows.search.design import Search, config_of, preprocess_of
from foveate.workflows.search.evaluators import evaluator
from foveate.workflows.search.material import Material
from foveate.zoo.family import Config

MOST_VAL = 2000  # validation pictures, at most


class Objective:
    """Scores nets."""

    def __init__(self, material: Material, around: Callable[[], AbstractContextManager[Any]] = nullcontext):
        self.around = around  # a context for what a trial computes; notes are written outside of it
        self.search, self.space, self.dataset = material.search, material.space, material.dataset
        self.value = evaluator(material)

    def __call__(self, net: Tokens, note: Note) -> tuple[float, ...]:
        """One number an objective; what was found beside them is noted."""
        begun = time.monotonic()
        search, config = self.search, config_of(self.space, net, self.dataset)
        facts, shares = self.costs(config, note)
        worst = max(shares, default=0.0)
        note("fits", worst <= 1)
        strict = search.reward == "strict" or len(search.objectives) > 1
        if strict and worst > 1:
            score = 1 - worst
        else:
            with self.around():
                reached = self.value(net, note)
            score = make_reward(search.reward)(reached, worst, 1.0) if shares and not strict else reached
        note("seconds", time.monotonic() - begun)
        return (score, *(float(facts[name]) for name in search.objectives[1:]))

    def costs(self, config: Config, note: Note) -> tuple[dict[str, float], list[float]]:
        """What the net costs, noted, and its share of every limit of the budget. It is timed where somebody asks for
        the latency or the size, and the multiply-adds alone do not settle it.
        """
        from foveate.cost.count import cost

        search, limits = self.search, self.search.budget
        preprocess = preprocess_of(search, config)
        counts = cost(config, resolution=preprocess.resolution)
        facts: dict[str, float] = {"macs": counts.macs, "params": counts.params}
        memory = counts.inference_bytes if limits.max_memory_bytes is not None else None
        shares = shares_of(limits, None, None, counts.macs, memory)
        if search.needs_latency and (len(search.objectives) > 1 or max(shares, default=0.0) <= 1):
            m = measure_candidate(Candidate("", config, preprocess, None), counts, limits, search.threads or 1)
            facts |= {"latency_ms": m.latency.median_ms, "size_bytes": m.size_bytes}
            facts |= {"latency_p10_ms": m.latency.p10_ms, "latency_p90_ms": m.latency.p90_ms}
            shares = m.shares(limits)
        for key, value in facts.items():
            note(key, value)
        return facts, shares


def material(
    search: Search,
    space: Space,
    dataset: Dataset,
    known: Callable[[], Sequence[Found]],
    folder: Path,
    until: float = math.inf,
) -> Material:
    """What evaluators work on, the pictures read. until: of time.monotonic(), when a short training is cut."""
    side = store_side(search.preprocess.resolution, dataset)
    few = part(dataset, "train", search.pictures, search.seed)
    train = read(training_pictures(few, side, search.preprocess.background), search.bad_files, silent)
    val = part(dataset, "val", MOST_VAL, search.seed)
    return Material(
        search,
        space,
        dataset,
        train,
        read(evaluation_pictures(val, search.preprocess), search.bad_files, silent),
        known,
        folder,
        until,
    )


def part(dataset: Dataset, split: str, most: int, seed: int) -> Split:
    """At most so many samples of a split, drawn once by the seed."""
    whole = dataset.splits[split]
    return whole if len(whole) <= most else subset(whole, np.sort(epoch_order(len(whole), seed, 0)[:most]))
