"""How many epochs a time allows: real training steps are timed before the training begins."""

import math
import statistics
import time
from collections.abc import Callable

import numpy as np

from foveate.config import replace
from foveate.data.index import Dataset, subset
from foveate.data.load import training_pictures
from foveate.data.preprocess import Preprocess
from foveate.data.sample import is_small, store_side
from foveate.events import silent
from foveate.runs.setup import apply_folding, cpu_threads, make_state, read, settle_folding
from foveate.runs.time_budget import STEPS_SHARE
from foveate.train.loop import train
from foveate.train.recipe import Recipe
from foveate.zoo.family import Config

TRAIN_SHARE = 0.85  # of the test resolution, in fine-tuning: cheaper, and crops look larger (FixRes, arXiv:1906.06423)
LATE = 0.25  # of the learning rate, for weights that the race has brought far
TIMING_SHARE = 0.1  # of a training's time, after which no further step is timed
TIMED = 3  # training steps that are timed to choose the number of epochs


def limit_epochs(
    recipe: Recipe,
    config: Config,
    preprocess: Preprocess,
    dataset: Dataset,
    seconds: float,
    *,
    published: bool = False,
    device: str = "cpu",
) -> Recipe:
    """The recipe with as many epochs as the time allows (at most its own), precision and layout settled.

    published: training starts from published weights, so photographs are shown smaller than they are tested.
    """
    import torch

    from foveate.train.form import settle

    recipe = settle_folding(recipe, config)
    if published and not is_small(dataset):
        recipe = replace(recipe, resolution=round(TRAIN_SHARE * preprocess.resolution / 16) * 16)
    size = recipe.resolution or preprocess.resolution
    recipe = settle(apply_folding(config, recipe), recipe, size, torch.device(device))
    picture_s = time_picture(recipe, config, preprocess, dataset, device, TIMING_SHARE * seconds)
    epoch_s = picture_s * len(dataset.splits["train"])
    return replace(recipe, epochs=count_epochs(STEPS_SHARE * seconds, epoch_s, recipe.epochs))


def count_epochs(seconds: float, epoch_s: float, most: int) -> int:
    """How many epochs a time holds, 1 to `most`."""
    return max(1, min(most, int(seconds / epoch_s)))


def anneal(recipe: Recipe) -> Recipe:
    """The recipe to go on with from the race's weights: a lower rate that falls at once.

    Another warm-up to the peak ends below the race: digits, one epoch, 94 to 98 % after 99.4 %; at LATE 99.4 %.
    """
    optim = replace(recipe.optim, lr=LATE * recipe.optim.lr)
    return replace(recipe, optim=optim, schedule=replace(recipe.schedule, warmup=0.0))


def time_picture(
    recipe: Recipe,
    config: Config,
    preprocess: Preprocess,
    dataset: Dataset,
    device: str = "cpu",
    most_s: float = math.inf,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Wall seconds a picture of real training steps (decoding left out): the median of TIMED after one to warm up.

    most_s: no step begins after so many seconds; where only the warm-up was within them, it counts.
    """
    split, size = dataset.splits["train"], recipe.resolution or preprocess.resolution
    batch = min(recipe.batch, len(split))
    part = subset(split, np.arange(min(len(split), batch * (1 + TIMED))))
    pictures = read(training_pictures(part, store_side(size, dataset)), "skip", silent)
    state = make_state(apply_folding(config, recipe), recipe, device)
    seconds: list[float] = []
    with cpu_threads(recipe.threads):
        steps = train(state, pictures, preprocess, replace(recipe, epochs=1 + TIMED), len(dataset.classes))
        for _ in range(1 + TIMED):
            if seconds and sum(seconds) >= most_s:
                break
            begun = clock()
            float(next(steps).loss)  # waits for the device
            seconds.append(clock() - begun)
    return statistics.median(seconds[1:] or seconds) / batch
