"""The last training of a search: the winner in full."""

from foveate.config import replace
from foveate.data.index import Dataset
from foveate.events import Listener, StageEvent
from foveate.runs.epochs import limit_epochs
from foveate.runs.plan import Plan
from foveate.selection.candidates import Measured
from foveate.train.recipe import Recipe
from foveate.workflows.search.design import Search, recipes_of
from foveate.workflows.search.subnets.source import is_subnets

LONGER = 2.0  # times the epochs of a trial, up to which the winner is trained by the recipe of the trials


def not_below(recipe: Recipe, design: Search, listener: Listener) -> Recipe:
    """The recipe that the time allows, or the short one of the trials where that is no longer: on all pictures, and for
    as many epochs, so that what is trained does not end below what was found.
    """
    if design.evaluate != "train" or recipe.epochs > LONGER * design.proxy.epochs:
        return recipe
    epochs = max(recipe.epochs, design.proxy.epochs)
    if epochs > recipe.epochs:
        listener(StageEvent(f"the time left is short: the winner is trained for {epochs} epochs, as in its trial"))
    return replace(
        design.proxy, epochs=epochs, precision=recipe.precision, layout=recipe.layout, threads=recipe.threads
    )


def plan_of(design: Search, dataset: Dataset, m: Measured, left: float | None, listener: Listener) -> Plan:
    """The winner's full training, in the time that is left where there is a limit."""
    candidate = m.candidate
    recipe, short = recipes_of(design, candidate.config)
    if left is not None:
        listener(StageEvent("timing the winner"))
        recipe = limit_epochs(
            recipe,
            candidate.config,
            candidate.preprocess,
            dataset,
            max(1.0, left),
            published=is_subnets(design.space),
            device=design.device,
        )
        recipe = not_below(recipe, replace(design, proxy=short), listener)
    return Plan(
        data=design.data,
        model=candidate.model,
        architecture=candidate.config,
        recipe=replace(recipe, seed=design.seed),
        preprocess=candidate.preprocess,
        bad_files=design.bad_files,
        follow_links=design.follow_links,
        device=design.device,
        threads=design.threads,
        budget=design.budget,
        fingerprint=dataset.fingerprint,
        command=design.command,
    )
