"""What the full training of a searched net begins with: fresh weights, or those that it has in a trained supernet."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from foveate.data.index import Dataset
from foveate.runs.training import Start
from foveate.search.space import Space
from foveate.search.study import Found
from foveate.train.recipe import Recipe
from foveate.workflows.search.design import Search
from foveate.workflows.search.objective import material
from foveate.workflows.search.subnets.judge import first_weights
from foveate.workflows.search.subnets.source import is_subnets


def start_of(
    folder: Path,
    design: Search,
    space: Space,
    dataset: Dataset,
    one: Found,
    recipe: Recipe,
    story: Mapping[str, Any],
    begun: float,
    seconds: float | None,
) -> Start:
    """begun: time.monotonic() when the seconds for this training began; None: it has no end but its recipe's.

    A sub-network of a net with weights begins with its part of the shared ones, other nets with fresh weights.
    """
    left = None if seconds is None else lambda: begun + seconds - time.monotonic()
    if not is_subnets(design.space):
        return Start(story, left=left)
    weights = first_weights(material(design, space, dataset, list, folder), one.net, recipe)
    return Start(story, initial_weights=weights, left=left)
