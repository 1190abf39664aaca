"""A recipe that is known to be sound before any picture is read: every call in it names what there is."""

import torch

from foveate.config import make
from foveate.data.policies import make_policy
from foveate.errors import ConfigError
from foveate.train.initialisers import INITS
from foveate.train.losses import LOSSES
from foveate.train.metric import check_metric
from foveate.train.optimizers import OPTIMIZERS
from foveate.train.recipe import Recipe
from foveate.train.schedules import SCHEDULES


def checked(recipe: Recipe) -> Recipe:
    """The recipe itself. ConfigError for an unknown name or option, with the near ones, and for what can not be."""
    make(SCHEDULES, recipe.schedule.kind, "schedule.kind")
    make(LOSSES, recipe.loss.name, "loss.name")
    check_metric(recipe.metric)
    make_policy(recipe.augment.policy)
    for text in recipe.init:
        make(INITS, text, "init", recipe.seed)
    groups = [{"params": [torch.nn.Parameter(torch.zeros(2, 2))], "weight_decay": 0.0, "head": False, "factor": 1.0}]
    make(OPTIMIZERS, recipe.optim.name, "optim.name", groups, recipe.optim)
    for text in recipe.edits:
        if "=" not in text:
            raise ConfigError(f'edits: "{text}": expected key=value, such as drop_path=0.05')
    if recipe.optim.name.startswith("schedule_free") and not recipe.norm_batches:
        raise ConfigError(
            "norm_batches = 0: above 0 with a schedule-free optimiser, such as 32, for it averages weights"
        )
    if recipe.parts > recipe.batch:
        raise ConfigError(f"parts = {recipe.parts}: at most the batch, {recipe.batch}")
    if recipe.grow_from < 1 and recipe.grow_until == 0:
        raise ConfigError("grow_until = 0: above 0 where grow_from is below 1")
    return recipe
