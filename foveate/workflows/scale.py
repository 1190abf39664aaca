"""Which coefficients of compound scaling suit these pictures: every candidate is trained for the same short time."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from foveate.config import replace
from foveate.data.index import open_data
from foveate.errors import ConfigError
from foveate.events import Listener, StageEvent, silent
from foveate.recipes import RECIPES
from foveate.runs.defaults import default_preprocess, recipe_name
from foveate.runs.run import announce
from foveate.search.scaling import ScaledCandidate, candidates, search_coefficients
from foveate.selection.candidates import Candidate
from foveate.selection.runners import FromScratchRunner, SharedPictures
from foveate.train.intervals import wilson
from foveate.zoo.family import Config

LEAST_S = 1.0  # of training a candidate


@dataclass(frozen=True)
class Found:
    """What the grid search says: rows (best first) and where their scores come from."""

    rows: tuple[ScaledCandidate, ...]
    left_out: int  # candidates that rounding keeps off the multiply-adds asked for
    data: str
    n: int  # pictures of the validation split
    train_s: float  # of each candidate
    recipe: str
    seed: int

    def interval(self, row: ScaledCandidate) -> tuple[float, float]:
        """95 % interval of a row's accuracy."""
        return wilson(round((row.score or 0.0) * self.n), self.n)

    @property
    def tied(self) -> int:
        """How many rows, the best among them, reach into the best one's interval with their own accuracy."""
        low, _ = self.interval(self.rows[0])
        return sum(row.score is not None and row.score >= low for row in self.rows)


def grid_search(
    data: str | Path,
    config: Config,
    model: str,
    *,
    time_s: float = 600.0,
    steps: int = 4,
    growth: float = 2.0,
    seed: int = 0,
    bad_files: Literal["stop", "skip"] = "stop",
    follow_links: bool = False,
    listener: Listener | None = None,
) -> Found:
    """Train all candidates of `growth` times the config's multiply-adds for the same time; score: validation accuracy.

    config: the base, with its resolution; its classes become the data's. model: the name of it, for messages.
    time_s: wall time for everything, about: reading pictures included, at least 1 s of training for each.
    Trained as in the first round of fit's race: the recipe that fit would take, at a constant rate, averaged weights.
    """
    listener, begun = listener or silent, time.monotonic()
    dataset = announce(open_data(data, seed=seed, bad_files=bad_files, follow_links=follow_links), listener)
    if "val" not in dataset.splits:
        raise ConfigError(f"{data}: no validation split; scaling chooses by its accuracy")
    listener(StageEvent("counting candidates"))
    rows, far = candidates(replace(config, num_classes=len(dataset.classes)), steps, growth)
    name = recipe_name(dataset, None)
    recipe = replace(RECIPES[name], seed=seed)
    slot = 0.0

    def evaluate(scaled: Config) -> float:
        nonlocal slot
        arrived = time.monotonic()
        candidate = Candidate(model, scaled, default_preprocess(model, scaled, dataset, None), None)
        runner = FromScratchRunner(candidate, recipe, SharedPictures(dataset, bad_files, listener))
        now = time.monotonic()
        if not slot:  # the first reads its pictures as long as the others will
            slot = max(LEAST_S, (begun + time_s - arrived) / len(rows) - (now - arrived))
        return runner.run(0, time.monotonic() + slot)[0]

    def on_result(row: ScaledCandidate) -> None:
        label = f"{model} x {row.scaled.macs / 1e6:,.1f} M at {row.scaled.config.resolution} px"
        text = row.error or f"validation {100 * (row.score or 0.0):.1f} %"
        listener(StageEvent(f"{label} ({describe(row)}): {text}"))

    scored = search_coefficients(rows, evaluate, on_result)
    n = len(dataset.splits["val"])
    return Found(tuple(scored), len(far), dataset.name, n, slot, name, seed)


def describe(row: ScaledCandidate) -> str:
    """How a candidate grew, for people: "alpha 1.189, beta 1.091, gamma 1.091" (depth, width, resolution; 3 digits)."""
    c = row.coefficients
    return f"alpha {c.alpha:.3f}, beta {c.beta:.3f}, gamma {c.gamma:.3f}"
