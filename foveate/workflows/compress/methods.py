"""Ways to make a model smaller, by name: pruning by a criterion, low rank, and the choice between them."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from torch import nn

from foveate.compress.criteria import CRITERIA
from foveate.compress.criteria.score import Criterion
from foveate.compress.low_rank import low_rank_stage
from foveate.compress.ranks import Ranking
from foveate.compress.schedule import PruningSchedule, shrink
from foveate.config import make, replace
from foveate.errors import ConfigError
from foveate.events import StageEvent
from foveate.runs.setup import cpu_threads
from foveate.train.artefact import load_model
from foveate.train.evaluate import cross_entropy, labels_of, predict_logits
from foveate.train.loop import train
from foveate.train.recipe import Schedule
from foveate.train.statistics import refresh
from foveate.workflows.compress.compression_run import CompressionRun
from foveate.workflows.compress.tuning import new_state

SAMPLE = 1024  # validation pictures that auto compares criteria on


REFRESHED = 8  # batches that running statistics are taken from anew


BETWEEN = 30  # training steps between two rounds of one step (arXiv:1906.10771 prunes every 30 minibatches)


SEEN, TAKEN = (
    2**31 + 2,
    2**31 + 3,
)  # stand where an epoch does: batches that criteria see, and statistics are taken from


AUTO = ("taylor", "norm", "bn_scale", "taylor2", "redundancy")


PICK_SHARE = 0.1  # of the time, after which auto tries no further criterion


Method = Callable[
    [CompressionRun, nn.Module, float], nn.Module
]  # the model above, the cost to reach -> a smaller model


def pruning(name: str, **options: Any) -> Method:
    """Removal of channels by a criterion, layers fitted anew; in rounds with a little training between."""
    criterion: Criterion = CRITERIA[name](**options)

    def method(run: CompressionRun, model: nn.Module, target: float) -> nn.Module:
        schedule = PruningSchedule(rounds=run.goal.rounds, multiple=run.goal.multiple)
        found = shrink(model, criterion, run.draw(SEEN), run.cost, target, partial(train_between, run), schedule)
        for step in found:
            model = step.model
        return model

    return method


def factoring(train: bool, **options: Any) -> Method:
    """Convolutions in two factors, those pairs that are faster. train: half of the epochs projected before (LRPET)."""
    ranking = Ranking(**{"form": "best", "merged": train, **options})

    def method(run: CompressionRun, model: nn.Module, target: float) -> nn.Module:
        from foveate.deploy.layer_time import layer_timer

        model = low_rank_stage(
            model,
            run.cost,
            target,
            ranking=replace(ranking, multiple=run.goal.multiple),
            tune=partial(train_near_ranks, run) if train else None,
            every=run.job.train.steps(min(run.plan.recipe.batch, len(run.job.train))),
            time_ms=layer_timer(run.plan.threads or 1),
        )
        draw = run.draw(TAKEN)
        refresh(model, (draw(i)[0] for i in range(REFRESHED)))
        return model

    return method


def train_near_ranks(run: CompressionRun, model: nn.Module, after_step: Callable[[], None]) -> None:
    """Half of the recipe's epochs at the peak rate, the kernels held near their ranks."""
    rates = Schedule(kind="constant", warmup=0.0)
    recipe = replace(run.plan.recipe, schedule=rates, epochs=max(1, run.plan.recipe.epochs // 2))
    with cpu_threads(recipe.threads):
        state = new_state(run, model, recipe)
        for _ in train(state, run.job.train, run.plan.preprocess, recipe, len(run.job.classes)):
            after_step()
            run.raise_if_stopped()


# name -> maker of a method; what turns a model into a smaller one in another way is one more line
METHODS: dict[str, Callable[..., Method]] = {
    **{name: partial(pruning, name) for name in CRITERIA},
    "lrpet": partial(factoring, True),
    "svd": partial(factoring, False),
}


def make_method(text: str) -> Method:
    """The method that a call string names: "taylor", "taylor(form='additive')", "lrpet(form='spatial')".

    The words in parentheses are options of the criterion (foveate.compress.criteria) or of Ranking. A method takes
    (run, model, cost to reach in the goal's kind) and gives a smaller model; it raises BudgetError where it can not get
    there. ConfigError for an unknown name or option, with the nearest known one.
    """
    return make(METHODS | {name: partial(pruning, name) for name in CRITERIA}, text, "method")


def train_between(run: CompressionRun, model: nn.Module, number: int) -> nn.Module:
    """Statistics taken anew, and after all rounds but the last BETWEEN steps of training at the peak rate."""
    draw = run.draw(TAKEN)
    refresh(model, (draw(i)[0] for i in range(REFRESHED)))
    if number + 1 < run.goal.rounds:
        recipe = replace(run.plan.recipe, schedule=Schedule(kind="constant", warmup=0.0), seed=number)
        state = new_state(run, model, recipe)
        with cpu_threads(recipe.threads):
            for step in train(state, run.job.train, run.plan.preprocess, recipe, len(run.job.classes)):
                if step.number == BETWEEN:
                    break
        run.raise_if_stopped()
    return model


def pick_method(run: CompressionRun, goal: float) -> str:
    """auto: one shot of each criterion down to a goal, statistics taken anew, no training; the least validation loss
    on a sample. Where there is a time, those that come before a tenth of it is over.
    """
    begun, limit = run.time.clock(), run.plan.budget.time_s
    source, _ = load_model(run.goal.source)
    picks = np.arange(0, len(run.job.val), max(1, len(run.job.val) // SAMPLE))
    found: dict[str, float] = {}
    for name in AUTO:
        if found and limit is not None and run.time.clock() - begun > PICK_SHARE * limit:
            run.listener(StageEvent(f"  {name}: left out, there is no time to try it"))
            continue
        tried = dataclasses.replace(run, goal=replace(run.goal, rounds=1))
        try:
            model = make_method(name)(tried, source, goal)
        except ConfigError as error:  # a criterion that this network does not allow
            run.listener(StageEvent(f"  {name}: {error}"))
            continue
        logits = predict_logits(model, run.job.val, run.plan.preprocess, only=picks)
        found[name] = cross_entropy(logits, labels_of(run.job.val)[picks])
        run.listener(StageEvent(f"  {name:<12} validation loss {found[name]:.3f} before training"))
        run.raise_if_stopped()
    return min(found, key=lambda name: found[name])
