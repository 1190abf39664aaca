"""The recipe of a winner: changed to suit the pictures, and what is done about classes of unequal size."""

from foveate.config import replace
from foveate.data.index import Dataset
from foveate.recipes.adapt import IMBALANCE
from foveate.report.units import percent
from foveate.runs.defaults import facts_of, recipe_for
from foveate.selection.winner import Winner
from foveate.train.recipe import Recipe

MAX_DROP = 0.5  # points of validation accuracy that compression, or class weights, may lose


def choose_recipe(dataset: Dataset, asked: Recipe, balance: str, winner: Winner) -> tuple[Recipe, list[str]]:
    """The recipe of the winner, changed to suit the pictures, with what is done about classes of unequal size, and a
    line of why for each change.

    balance auto, where the largest class has more than IMBALANCE times the pictures of the smallest: from published
    weights what gives a linear classifier on the frozen features the higher balanced accuracy on the validation
    pictures, where plain accuracy, if that is the metric, does not fall by more than MAX_DROP points; from scratch
    weights, without a trial.
    """
    source = winner.candidate.weights
    recipe, notes = recipe_for(dataset, source)
    recipe = replace(recipe, seed=asked.seed, metric=asked.metric, balance=asked.balance)
    facts = facts_of(dataset, source)
    if balance != "auto" or facts.imbalance <= IMBALANCE:
        return recipe, notes
    sizes = f"the largest class has {facts.imbalance:.0f} times the pictures of the smallest"
    if winner.probe is None:
        return replace(recipe, balance="weights"), [*notes, f"classes are weighted by their size: {sizes}"]
    plain, weighted = winner.probe.balanced, winner.probe.balanced_weighted
    lost = winner.probe.val_accuracy - winner.probe.accuracy_weighted
    better = weighted > plain and (recipe.metric != "accuracy" or lost <= MAX_DROP / 100)
    numbers = f"balanced accuracy of a linear classifier {percent(weighted)} % with weights, {percent(plain)} % without"
    why = f"classes are {'weighted by their size' if better else 'left as they are'}: {sizes}; {numbers}"
    return replace(recipe, balance="weights" if better else "none"), [*notes, why]
