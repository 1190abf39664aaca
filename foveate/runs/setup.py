"""What a run works on: its pictures in memory, its network with the weights that it starts from."""

import contextlib
import os
import warnings
from collections.abc import Iterator
from typing import Any

import torch

from foveate import __version__
from foveate.config import replace
from foveate.data.index import Dataset, Split
from foveate.data.label_noise import noise_targets, noisy_labels
from foveate.data.load import Crop, Pictures, cut_pictures, evaluation_pictures, fits_in_memory, training_pictures
from foveate.data.sample import store_side
from foveate.events import Listener, ReadingEvent, StageEvent, WarningEvent
from foveate.runs.plan import Plan
from foveate.train.engine import Job
from foveate.train.head import Probe
from foveate.train.recipe import Recipe
from foveate.train.state import State, averages
from foveate.zoo import FAMILIES, build
from foveate.zoo.family import Config
from foveate.zoo.weights import weights_licence


@contextlib.contextmanager
def cpu_threads(threads: int) -> Iterator[None]:
    """torch on this many threads within the block. Sums depend on the number: a resumed run must have the same."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def make_job(plan: Plan, config: Config, dataset: Dataset, listener: Listener) -> Job:
    """The pictures of a plan, in memory where they fit."""
    loss = plan.recipe.loss
    targets = noise_targets(dataset.classes, loss.noise_to, loss.noise_pairs)
    side = store_side(plan.recipe.resolution or plan.preprocess.resolution, dataset)
    listener(ReadingEvent(f"reading {len(dataset.splits['train']):,} pictures"))
    training = read(stored_pictures(dataset.splits["train"], plan, side), plan.bad_files, listener)
    if loss.label_noise:
        noisy = noisy_labels(training.split.labels, len(dataset.classes), loss.label_noise, plan.recipe.seed, targets)
        training.labels = torch.from_numpy(noisy)
    val = read(evaluation_pictures(dataset.splits["val"], plan.preprocess), plan.bad_files, listener)
    provenance = {
        "data": dataset.name,
        "fingerprint": dataset.fingerprint,
        "model": plan.model,
        "weights": plan.weights,
        "version": __version__,
    }
    if plan.weights is not None and (licence := weights_licence(plan.weights)):
        provenance["weights_licence"] = licence
    label = f"{plan.model} ({plan.preprocess.resolution} px)"
    return Job(label, training, val, plan.preprocess, plan.recipe, dataset.classes, provenance)


def stored_pictures(split: Split, plan: Plan, side: int) -> Pictures:
    """The training pictures of a plan: squares to cut crops from, or crops that are cut while pictures are read."""
    recipe, background = plan.recipe, plan.preprocess.background
    if recipe.decode == "cut":
        size = recipe.resolution or plan.preprocess.resolution
        return cut_pictures(split, size, Crop(recipe.augment.crop, recipe.augment.shift, side), background)
    return training_pictures(split, side, background, recipe.decode)


def read(pictures: Pictures, bad_files: str, listener: Listener) -> Pictures:
    """Load what fits into memory; the rest streams. Pictures left out are said."""
    pictures.bad_files = bad_files
    if pictures.crop is None and fits_in_memory(len(pictures), pictures.side):
        pictures.load(threads=os.cpu_count() or 1)
        for path, reason in pictures.left_out:
            listener(WarningEvent(f"left out {path}: {reason}"))
    return pictures


def load_published(state: State, plan: Plan, job: Job, probe: Probe | None, listener: Listener) -> bool:
    """Put the published weights of plan.weights into a fresh State of the plan's network, in place.

    The classifier is left as it was drawn, or, with plan.head_start, is a linear one on the published features: probe,
    or else one that is fitted here (features of all pictures are computed). Norms are folded into convolutions where
    the recipe says so; the average follows. Returns whether the classifier is that linear one.
    Raises WeightsError or ConfigError where the weights are of another net.
    """
    from foveate.deploy.features import feature_session, features
    from foveate.train.evaluate import labels_of
    from foveate.train.head import linear_probe, start_head
    from foveate.zoo.fold import fold
    from foveate.zoo.weights import load_weights

    config = plan.architecture
    source = build(config)
    with warnings.catch_warnings(record=True) as notes:
        warnings.simplefilter("always")
        load_weights(source, str(plan.weights), except_head=True)
    for note in notes:  # which of several state dicts was taken
        listener(WarningEvent(str(note.message)))
    started = False
    if plan.head_start:
        if probe is None:
            listener(StageEvent("fitting a linear classifier on the published features"))
            session = feature_session(source, plan.preprocess, os.cpu_count() or 1)
            pictures = read(evaluation_pictures(job.train.split, plan.preprocess), plan.bad_files, listener)
            found = (features(session, pictures), labels_of(pictures), features(session, job.val), labels_of(job.val))
            probe = linear_probe(*found, len(job.classes))
        started = start_head(source, FAMILIES[config.family].head[0].rstrip("."), probe)
    state.model.load_state_dict(fold(source) if plan.recipe.fold_norms else source.state_dict())
    state.follow()
    return started


def settle_folding(recipe: Recipe, config: Config) -> Recipe:
    """The recipe as it can be for this network: where the recipe folds norms into convolutions (fold_norms) and the
    network's do not fold, they are frozen instead (frozen_norms). Otherwise the recipe as it is.
    """
    from foveate.zoo.fold import can_fold

    if recipe.fold_norms and not can_fold(config):
        return replace(recipe, fold_norms=False, frozen_norms=True)
    return recipe


def apply_folding(config: Config, recipe: Recipe) -> Any:
    """The config of the network that is trained: where the recipe folds norms, the same one without them, else itself.

    best/ and last/ hold the network with these, so that a fine-tuned net has no norms left. Raises ConfigError where
    the recipe folds norms that do not fold; settle_folding asks first.
    """
    from foveate.zoo.fold import folded

    return folded(config) if recipe.fold_norms else config


def make_state(config: Config, recipe: Recipe, device: str) -> State:
    """A State of the config's network on "cpu" or "cuda", its weights drawn with the recipe's seed, its average (where
    the recipe has one) equal to them, at step 0. Seeds torch's global generator.
    """
    torch.manual_seed(recipe.seed)
    model = build(config)
    return State(model, build(config) if averages(recipe) else None, recipe, FAMILIES[config.family].head, device)
