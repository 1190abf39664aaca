"""What the pictures of a data set call for: how large they are, how they are stored and prepared."""

from collections.abc import Sequence

import numpy as np

from foveate.config import replace
from foveate.data.index import Dataset
from foveate.data.preprocess import Preprocess, at_resolution, grey
from foveate.data.sample import is_grey, is_small
from foveate.recipes import RECIPES
from foveate.recipes.adapt import Facts, adapt
from foveate.train.recipe import Recipe
from foveate.zoo.family import Config


def default_preprocess(name: str, config: Config, dataset: Dataset, weights: str | None) -> Preprocess:
    """What published weights want; else the network's resolution: whole small pictures, centre crops of photographs.

    Grey for a network of one channel. name: the variant that config is of, if any. A file of weights is taken for the
    public ones of it (Published).
    """
    found = _coloured(name, config, dataset, weights)
    return grey(found) if config.in_chans == 1 else found


def _coloured(name: str, config: Config, dataset: Dataset, weights: str | None) -> Preprocess:
    from foveate.zoo import list_models, zoo_name
    from foveate.zoo.catalogue import published
    from foveate.zoo.weights import weights_info

    if weights is not None and (info := weights_info(config, weights)):
        return Preprocess(**info)
    name = zoo_name(name)
    size, small = config.resolution, is_small(dataset)
    if small:
        ours = Preprocess(resolution=size, resize=size, fit="squash")
    else:
        ours = Preprocess(resolution=size, resize=round(size * 8 / 7))
    if weights is None or name not in list_models() or (known := published(name)) is None:
        return ours
    theirs = replace(ours, kernel=known.interpolation, mean=known.mean, std=known.std)
    if small:
        return theirs
    return at_resolution(replace(theirs, resolution=known.resolution, resize=known.resize), size)


def recipe_name(dataset: Dataset, weights: str | None) -> str:
    """Which recipe these pictures call for."""
    if weights is not None:
        return "finetune"
    if not is_small(dataset):
        return "baseline"
    return "small_pictures" if is_grey(dataset) else "cifar_standard"


def recipe_for(dataset: Dataset, weights: str | None, given: Sequence[str] = ()) -> tuple[Recipe, list[str]]:
    """The recipe that these pictures call for, changed to suit them, and a line for each change (recipes/adapt.py).

    given: dotted fields that the user has set; they stay as the recipe has them.
    """
    return adapt(RECIPES[recipe_name(dataset, weights)], facts_of(dataset, weights), given)


def facts_of(dataset: Dataset, weights: str | None) -> Facts:
    """What recipes ask of a data set."""
    counts = np.bincount(dataset.splits["train"].labels, minlength=len(dataset.classes))
    return Facts(dataset.classes, tuple(counts.tolist()), is_grey(dataset), weights is not None)
