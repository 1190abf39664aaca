"""Fine-tuning after a step of compression."""

import dataclasses
import math

from torch import nn

from foveate.config import replace
from foveate.runs.setup import cpu_threads
from foveate.train.checkpoint import Progress
from foveate.train.engine import run_epochs
from foveate.train.pace import Pace
from foveate.train.recipe import Loss, Recipe, Schedule
from foveate.train.state import State
from foveate.train.teacher import load_teacher
from foveate.workflows.compress.compression_run import CompressionRun
from foveate.zoo import FAMILIES

RATE = 0.3  # of the first training's peak learning rate


def new_state(run: CompressionRun, model: nn.Module, recipe: Recipe) -> State:
    """A State with a fresh optimiser: slots of removed channels mean nothing, and momentum would revive others."""
    state = State(model, None, recipe, FAMILIES[run.plan.architecture.family].head, run.plan.device)
    if recipe.loss.teacher:
        state.teacher = load_teacher(recipe.loss.teacher, run.job.classes, run.plan.device)
    return state


def tuning_recipe(base: Recipe, epochs: int, teacher: str, seed: int) -> Recipe:
    """The recipe of fine-tuning: short, cosine from RATE of the first training's rate, distilled from the original.

    base: the recipe of the first training. Its input, augmentation and optimiser stay; what starts, averages, mixes or
    freezes does not.
    """
    name = base.optim.name.removeprefix("schedule_free_")
    optim = replace(base.optim, name=name, lr=base.optim.lr * RATE, sam=0.0, lookahead=0, backbone=1.0, stage_decay=1.0)
    return Recipe(
        epochs=epochs,
        batch=base.batch,
        parts=base.parts,
        optim=optim,
        schedule=Schedule(warmup=0.25),
        augment=base.augment,
        loss=Loss(name=base.loss.name, aux=base.loss.aux, teacher=teacher, temperature=2.0, distill=1.0),
        evaluate_from=0.99,
        frozen_norms=base.frozen_norms,
        resolution=base.resolution,
        test_resolution=base.test_resolution,
        test_crop=base.test_crop,
        decode=base.decode,
        precision=base.precision,
        layout=base.layout,
        threads=base.threads,
        skip_steps=base.skip_steps,
        seed=seed,
    )


def fine_tune(run: CompressionRun, model: nn.Module, label: str, seconds: float) -> Progress:
    """Train a model by the plan's recipe, in place, or for so many seconds where that is less; it is evaluated at the
    end. Raises Interrupted.
    """
    progress, job, state = Progress(), dataclasses.replace(run.job, label=label), new_state(run, model, run.plan.recipe)
    until = run.time.clock() + seconds
    pace = None if math.isinf(seconds) else Pace(lambda: until - run.time.clock())
    with cpu_threads(run.plan.recipe.threads):
        run_epochs(state, job, progress, run.listener, run.raise_if_stopped, pace=pace)
    return progress
