"""What the full training of a searched net begins with: fresh weights, or those that it has in a trained supernet."""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from foveate.config import replace
from foveate.data.index import Dataset
from foveate.files import write_folder
from foveate.runs.training import Start
from foveate.search.space import Space
from foveate.search.study import Found
from foveate.selection.candidates import Measured
from foveate.train.artefact import ModelCard, model_files
from foveate.train.recipe import Recipe
from foveate.workflows.search.design import Search
from foveate.workflows.search.objective import material
from foveate.workflows.search.subnets.judge import calibration, cut_out, first_weights
from foveate.workflows.search.subnets.source import is_subnets
from foveate.workflows.search.subnets.train import load_children


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

    A sub-network of a net with weights begins with its part of the shared ones and ends by the clock, for one epoch of
    it can take longer than there is; other nets begin with fresh weights and end by their recipe.
    """
    if not is_subnets(design.space):
        return Start(story)
    weights = first_weights(material(design, space, dataset, list, folder), one.net, recipe)
    left = None if seconds is None else lambda: begun + seconds - time.monotonic()
    return Start(story, initial_weights=weights, left=left)


def with_weights(
    folder: Path, design: Search, space: Space, dataset: Dataset, best: Sequence[tuple[Found, Measured]]
) -> list[Measured]:
    """Sub-networks that start from their part of the shared weights: a model folder each, children/1, children/2."""
    if not best:
        return []
    goods = material(design, space, dataset, list, folder)
    children, seen = load_children(goods), calibration(goods)
    made = []
    for number, (one, m) in enumerate(best, 1):
        place, c = folder / "children" / str(number), m.candidate
        state = cut_out(children, one.net, seen, replace(design.recipe, fold_norms=False))
        told = {"data": dataset.name, "fingerprint": dataset.fingerprint, "model": c.model, "space": design.space}
        place.parent.mkdir(exist_ok=True)
        write_folder(place, model_files(ModelCard(c.config, dataset.classes, c.preprocess, told, ()), state))
        made.append(dataclasses.replace(m, candidate=dataclasses.replace(c, weights=str(place))))
    return made
