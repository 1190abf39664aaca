"""Named recipes, one a file. A new one is one file and one line here."""

from collections.abc import Mapping

from foveate.recipes import baseline, cifar_standard, finetune, small_pictures
from foveate.train.recipe import Recipe

RECIPES: Mapping[str, Recipe] = {
    "baseline": baseline.RECIPE,
    "cifar_standard": cifar_standard.RECIPE,
    "finetune": finetune.RECIPE,
    "small_pictures": small_pictures.RECIPE,
}
