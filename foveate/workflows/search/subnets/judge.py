"""What a sub-network is worth: its accuracy with the shared weights, on pictures that these never saw.

The validation pictures, and where they are few a part of the training pictures that was held out for this.
"""

import itertools
from collections.abc import Callable, Iterable

import numpy as np
import torch

from foveate.data.index import subset
from foveate.data.load import Pictures, evaluation_pictures
from foveate.data.preprocess import at_resolution
from foveate.events import silent
from foveate.runs.setup import read, settle_folding
from foveate.search.space import Tokens
from foveate.search.study import Note
from foveate.search.supernet import extract
from foveate.train.evaluate import labels_of, predict_logits
from foveate.train.recipe import Recipe
from foveate.workflows.search.material import Material
from foveate.workflows.search.subnets.inherit import Children
from foveate.workflows.search.subnets.train import held_out, load_children, options_of, shared_recipe, training_part
from foveate.zoo import build
from foveate.zoo.fold import fold

NAME = "accuracy with shared weights"
BATCH, CALIBRATION = 64, 256  # pictures of a batch; pictures that a sub-net's statistics are taken from, at most


def judged_children(material: Material, epochs: int = 10, randoms: int = 2) -> Callable[[Tokens, Note], float]:
    """Accuracy with a sub-net's own statistics. epochs, randoms: of the training (see prepare_children)."""
    options_of(epochs, randoms)
    children, seen = load_children(material), calibration(material)
    places: dict[int, list[Pictures]] = {}
    kept = {material.search.preprocess.resolution: material.val}

    def at(size: int) -> list[Pictures]:
        """What is judged on, at a resolution."""
        if size not in places:
            p = at_resolution(material.search.preprocess, size)
            val = kept.get(size) or read(evaluation_pictures(material.val.split, p), material.search.bad_files, silent)
            out = material.train.keep[held_out(material)]
            more = evaluation_pictures(subset(material.train.split, out), p) if len(out) else None
            places[size] = [val] if more is None else [val, read(more, material.search.bad_files, silent)]
        return places[size]

    def value(net: Tokens, note: Note) -> float:
        config = children.config(net)
        model = build(config).to(material.search.device)
        model.load_state_dict(extract(children, net, children.statistics(net, seen)))
        p = at_resolution(material.search.preprocess, config.resolution)
        right = [
            predict_logits(model, part, p, batch=BATCH).argmax(1) == labels_of(part) for part in at(config.resolution)
        ]
        found = float(np.concatenate(right).mean())
        note("score_name", NAME)
        note("score", 100 * found)
        note("judged", sum(map(len, right)))
        return found

    return value


def calibration(material: Material) -> list[torch.Tensor]:
    """Training batches that statistics are taken from, changed at random as in training."""
    m = training_part(material)
    batch = min(BATCH, len(m.train))
    return [x for x, _ in itertools.islice(m.batches(shared_recipe(m), batch), max(1, CALIBRATION // batch))]


def first_weights(material: Material, net: Tokens, recipe: Recipe) -> dict[str, torch.Tensor]:
    """The state dict that the training of a sub-net begins with, in the form that the recipe trains."""
    return cut_out(load_children(material), net, calibration(material), recipe)


def cut_out(children: Children, net: Tokens, seen: Iterable[torch.Tensor], recipe: Recipe) -> dict[str, torch.Tensor]:
    """The same of children at hand."""
    config = children.config(net)
    model = build(config)
    state = extract(children, net, children.statistics(net, seen))
    model.load_state_dict({key: value.cpu() for key, value in state.items()})
    folds = settle_folding(recipe, config).fold_norms
    return fold(model) if folds else model.state_dict()
