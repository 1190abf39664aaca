"""What the full training of a searched net begins with: fresh weights, or those that it has in a trained supernet."""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from foveate.config import replace
from foveate.data.index import Dataset
from foveate.data.load import evaluation_pictures
from foveate.events import silent
from foveate.files import write_folder
from foveate.runs.setup import make_state, read
from foveate.runs.training import Start
from foveate.search.space import Space, Tokens
from foveate.search.study import Found
from foveate.selection.candidates import Measured
from foveate.train.artefact import ModelCard, model_files
from foveate.train.evaluate import accuracy, labels_of, predict_logits
from foveate.train.loop import train
from foveate.train.recipe import Recipe
from foveate.workflows.search.design import Search, config_of, preprocess_of
from foveate.workflows.search.material import Material
from foveate.workflows.search.objective import material
from foveate.workflows.search.subnets.judge import calibration, cut_out, first_weights
from foveate.workflows.search.subnets.source import is_subnets
from foveate.workflows.search.subnets.train import load_children, shared_recipe


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


def tuned(scene: Material, net: Tokens) -> float:
    """Validation accuracy of a sub-network that is cut out and trained by itself, by the recipe of the trials."""
    search = scene.search
    config = config_of(scene.space, net, scene.dataset)
    preprocess, recipe = preprocess_of(search, config), replace(shared_recipe(scene), epochs=search.proxy.epochs)
    state = make_state(config, recipe, search.device)
    state.model.load_state_dict(first_weights(scene, net, recipe))
    state.follow()
    classes = len(scene.dataset.classes)
    for _ in train(state, scene.train, preprocess, recipe, classes):
        pass
    val = read(evaluation_pictures(scene.val.split, preprocess), search.bad_files, silent)
    return accuracy(predict_logits(state.best, val, preprocess), labels_of(val))
