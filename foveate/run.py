"""A run: data, a network and a recipe in; a run folder with a trained, exported, measured model and its report out."""

import contextlib
import os
import platform
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from foveate import __version__
from foveate.config import from_dict, parse_json, replace
from foveate.data.index import Dataset, Split, open_data
from foveate.data.label_noise import noisy_labels
from foveate.data.load import Crop, Pictures, cut_pictures, evaluation_pictures, fits_in_memory, training_pictures
from foveate.errors import ConfigError, DataError
from foveate.files import folder_lock, free_name, write_bytes, write_folder, write_json
from foveate.finish import finish
from foveate.pictures import at_resolution, store_side
from foveate.plan import Plan, prepare
from foveate.train import ranks
from foveate.train.begin import begin
from foveate.train.checkpoint import Progress
from foveate.train.engine import Job, Listener, run_training
from foveate.train.head import Probe
from foveate.train.probe import settle
from foveate.train.recipe import Recipe
from foveate.train.signals import stop_on_signals
from foveate.train.state import State, averages
from foveate.train.teacher import load_teacher
from foveate.zoo import FAMILIES, build, config_from
from foveate.zoo.tensors import read_tensors, tensor_bytes

START = (
    "start.safetensors"  # of a run folder: the weights before the first step, where the recipe needs them at the end
)


def silent(kind: str, fields: Mapping[str, Any]) -> None:
    """A listener that hears nothing."""


@dataclass(frozen=True)
class Run:
    """A finished run: its folder and what to say of it (JSON-able)."""

    folder: Path
    summary: Mapping[str, Any]


def train(
    data: str | Path,
    model: str,
    *,
    recipe: str | Recipe | None = None,
    overrides: Sequence[str] = (),
    weights: str | None = None,
    name: str | None = None,
    runs: str | Path = "runs",
    resume: str | Path | None = None,
    seed: int = 0,
    device: Literal["cpu", "cuda"] = "cpu",
    bad_files: Literal["stop", "skip"] = "stop",
    listener: Listener | None = None,
) -> Run:
    """Train one named model on data and finish the run (test, ONNX, latency, report).

    recipe: a name of RECIPES or a value; None: the one that fit would take for these pictures.
    overrides: "optim.lr=0.01"; "model.layers.norm=group_norm" changes the architecture; "preprocess.resolution=128"
    the input.
    resume: a run folder; everything else then comes from its recipe.json. Raises ConfigError, DataError, Interrupted.
    """
    listener = listener or silent
    with ranks.joined(device):
        listener = listener if ranks.rank() == 0 else silent
        if resume is not None:
            return resume_run(resume, listener)
        plan, dataset = prepare(
            data,
            model,
            recipe=recipe,
            overrides=overrides,
            weights=weights,
            seed=seed,
            device=device,
            bad_files=bad_files,
        )
        announce(dataset, listener)
        folder = free_name(runs, name or dataset.name) if ranks.rank() == 0 else None
        return complete(Path(ranks.agreed(folder)), plan, dataset, listener)


def resume_run(folder: str | Path, listener: Listener) -> Run:
    """Go on with an interrupted run from its newest checkpoint."""
    folder = Path(folder)
    if not (folder / "recipe.json").is_file():
        raise ConfigError(f"{folder}: no recipe.json here; expected a run folder such as runs/photos-1")
    plan: Plan = from_dict(Plan, parse_json((folder / "recipe.json").read_bytes(), str(folder / "recipe.json")))
    dataset = announce(open_data(plan.data, seed=plan.recipe.seed, bad_files=plan.bad_files), listener)
    if dataset.fingerprint != plan.fingerprint:
        raise DataError(f"{plan.data}: the pictures changed since the run began; start a new run")
    return complete(folder, plan, dataset, listener, resume=True)


def complete(
    folder: Path,
    plan: Plan,
    dataset: Dataset,
    listener: Listener,
    *,
    resume: bool = False,
    story: Mapping[str, Any] | None = None,
    probe: Probe | None = None,
    learnt: Mapping[str, torch.Tensor] | None = None,
) -> Run:
    """Train by the plan in its folder and finish: test, export, measure, report.

    story: what fit has to tell (candidates, race). probe: a linear classifier that fit has made already. learnt:
    weights to begin with, those of the race. Where several processes train together, all but rank 0 end when training
    does; their Run has no summary.
    """
    main = ranks.rank() == 0
    with folder_lock(folder) if main else contextlib.nullcontext(), nothing_half_made(folder, main):
        plan, job, progress, seconds = train_in(
            folder, plan, dataset, listener, resume=resume, story=story, probe=probe, learnt=learnt
        )
        return finish(folder, plan, dataset, job, progress, seconds, listener) if main else Run(folder, {})


def train_in(
    folder: Path,
    plan: Plan,
    dataset: Dataset,
    listener: Listener,
    *,
    resume: bool = False,
    story: Mapping[str, Any] | None = None,
    probe: Probe | None = None,
    learnt: Mapping[str, torch.Tensor] | None = None,
) -> tuple[Plan, Job, Progress, float]:
    """Training alone, in a folder that the caller has locked: best/, last/, metrics.jsonl and the checkpoints.

    Returns the plan with what the probe chose, what was trained on what, how it went, and the seconds.
    """
    config = config_from(plan.architecture, "recipe.json: architecture")
    if not resume:
        size, recipe = plan.recipe.resolution or plan.preprocess.resolution, foldable(plan.recipe, config)
        if ranks.rank() == 0:
            recipe, _ = settle(trained(config, recipe), recipe, size, torch.device(plan.device))
        plan = replace(plan, recipe=ranks.agreed(recipe))
        if ranks.rank() == 0:
            write_json(folder / "recipe.json", plan)
            write_json(folder / "env.json", environment())
            write_json(folder / "story.json", story or {})
    with stop_on_signals() as stop, cpu_threads(plan.recipe.threads):
        begun = time.monotonic()
        job = make_job(plan, config, dataset, listener)
        state = fresh(trained(config, plan.recipe), plan.recipe, plan.device)
        if plan.recipe.loss.teacher:
            state.teacher = load_teacher(plan.recipe.loss.teacher, job.classes, plan.device)
        if learnt is not None:
            state.model.load_state_dict(learnt)
            state.follow()
        elif plan.weights is None and plan.recipe.init and not resume:
            listener("stage", {"text": f"preparing the first weights: {', '.join(plan.recipe.init)}"})
            begin(state, job.train, job.preprocess, plan.recipe, len(job.classes))
        if plan.weights is not None and not resume:
            start(state, plan, config, job, probe, listener)
            if plan.recipe.blend and ranks.rank() == 0:
                write_bytes(folder / START, tensor_bytes(state.model.state_dict()))
        progress = run_training(folder, state, job, listener, stop, resume=resume)
        if ranks.rank() == 0:
            blended(folder, job, listener)
        return plan, job, progress, time.monotonic() - begun


def blended(folder: Path, job: Job, listener: Listener) -> None:
    """Put the best point between the start and best/ into best/, where the recipe wants it and it is not done yet."""
    from foveate.train.artefact import Metric, ModelCard, load_model, model_files
    from foveate.train.blend import blend

    if not (folder / START).exists():
        return
    model, card = load_model(folder / "best")
    if "blend" in card.provenance:
        return
    listener("stage", {"text": "trying weights between the start and the end"})
    tensors = read_tensors(folder / START)
    share, value, _ = blend(model, tensors, job.recipe.blend, job.val, job.preprocess)
    data, seed = str(job.provenance["data"]), job.recipe.seed
    metric = Metric(name="accuracy", value=value, n=len(job.val), split="val", data=data, seed=seed)
    card = ModelCard(card.architecture, card.classes, card.preprocess, {**card.provenance, "blend": share}, (metric,))
    write_folder(folder / "best", model_files(card, model.state_dict()))


@contextlib.contextmanager
def nothing_half_made(folder: Path, ours: bool = True) -> Iterator[None]:
    """Remove a run folder that failed before its first checkpoint: there is nothing in it to go on with."""
    try:
        yield
    except BaseException:
        if ours and not (folder / "state").exists():
            shutil.rmtree(folder, ignore_errors=True)
        raise


@contextlib.contextmanager
def cpu_threads(threads: int) -> Iterator[None]:
    """torch on this many threads within the block. Sums depend on the number: a resumed run must have the same."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def make_job(plan: Plan, config: Any, dataset: Dataset, listener: Listener) -> Job:
    """The pictures of a plan, in memory where they fit."""
    side = store_side(plan.recipe.resolution or plan.preprocess.resolution, dataset)
    listener("stage", {"text": f"reading {len(dataset.splits['train']):,} pictures"})
    training = read(squares(dataset.splits["train"], plan, side), plan.bad_files, listener)
    if noise := plan.recipe.loss.label_noise:
        noisy = noisy_labels(training.split.labels, len(dataset.classes), noise, plan.recipe.seed)
        training.labels = torch.from_numpy(noisy)
    val = read(evaluation_pictures(dataset.splits["val"], plan.preprocess), plan.bad_files, listener)
    provenance = {
        "data": dataset.name,
        "fingerprint": dataset.fingerprint,
        "model": plan.model,
        "weights": plan.weights,
        "version": __version__,
    }
    label = f"{plan.model} ({plan.preprocess.resolution} px)"
    return Job(label, training, val, plan.preprocess, plan.recipe, dataset.classes, provenance)


def squares(split: Split, plan: Plan, side: int) -> Pictures:
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
            listener("warning", {"text": f"left out {path}: {reason}"})
    return pictures


def start(state: State, plan: Plan, config: Any, job: Job, probe: Probe | None, listener: Listener) -> None:
    """Put the published weights into a fresh State, a linear classifier fitted on top, folded where the recipe says."""
    from foveate.deploy.features import feature_session, features
    from foveate.train.evaluate import labels_of
    from foveate.train.head import linear_probe, start_head
    from foveate.zoo.fold import fold
    from foveate.zoo.weights import load_weights

    source = build(config)
    load_weights(source, str(plan.weights), except_head=True)
    if plan.head_start:
        if probe is None:
            listener("stage", {"text": "fitting a linear classifier on the published features"})
            session = feature_session(source, plan.preprocess, os.cpu_count() or 1)
            pictures = read(evaluation_pictures(job.train.split, plan.preprocess), plan.bad_files, listener)
            found = (features(session, pictures), labels_of(pictures), features(session, job.val), labels_of(job.val))
            probe = linear_probe(*found, len(job.classes))
        start_head(source, FAMILIES[config.family].head[0].rstrip("."), probe)
    state.model.load_state_dict(fold(source) if plan.recipe.fold_norms else source.state_dict())
    state.follow()


def foldable(recipe: Recipe, config: Any) -> Recipe:
    """The recipe as it can be for this network: frozen norms in place of folded ones where they do not fold."""
    from foveate.zoo.fold import can_fold

    if recipe.fold_norms and not can_fold(config):
        return replace(recipe, fold_norms=False, frozen_norms=True)
    return recipe


def trained(config: Any, recipe: Recipe) -> Any:
    """The config of the network that is trained: without norms where the recipe folds them."""
    from foveate.zoo.fold import folded

    return folded(config) if recipe.fold_norms else config


def fresh(config: Any, recipe: Recipe, device: str) -> State:
    """A State with the weights that the recipe's seed gives."""
    torch.manual_seed(recipe.seed)
    model = build(config)
    return State(model, build(config) if averages(recipe) else None, recipe, FAMILIES[config.family].head, device)


def announce(dataset: Dataset, listener: Listener) -> Dataset:
    """Tell the listener what was found."""
    listener("data", data_summary(dataset))
    return dataset


def data_summary(dataset: Dataset) -> dict[str, Any]:
    """Names and counts of the data, as the closing text and --json give them."""
    counts = {name: len(dataset.splits[name]) if name in dataset.splits else 0 for name in ("train", "val", "test")}
    return {"name": dataset.name, **counts, "classes": len(dataset.classes), "left_out": len(dataset.left_out)}


def environment() -> dict[str, Any]:
    """env.json: versions and device, for whoever repeats the run."""
    import numpy
    import onnxruntime

    from foveate.cost.latency import device_name

    return {
        "foveate": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "onnxruntime": onnxruntime.__version__,
        "system": platform.platform(),
        "device": device_name(),
        "cuda": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
        "threads": torch.get_num_threads(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def evaluate_model(
    folder: str | Path,
    data: str | Path,
    *,
    split: str = "test",
    bad_files: str = "stop",
    views: str = "one",
    resolution: int | None = None,
) -> dict[str, Any]:
    """A model folder on one split of data: accuracy with its interval, classes, confusion. Classes are matched by name.

    views: "mirror" or "shifts" average over several views of each picture. resolution: pixels in place of the model's
    own; often a little more than in training is better (arXiv:1906.06423).
    Raises DataError for a class that the model does not know, and for a split that the data has not.
    """
    from foveate.train.artefact import load_model
    from foveate.train.evaluate import labels_of, metrics, shared_logits

    with ranks.joined("cpu"):
        model, card = load_model(Path(folder))
        dataset = open_data(data, bad_files=bad_files)
        if split not in dataset.splits:
            raise DataError(f'{data}: no split "{split}"; there is {", ".join(dataset.splits)}')
        if unknown := sorted(set(dataset.classes) - set(card.classes)):
            raise DataError(f'{data}: class "{unknown[0]}" is not one of the model\'s {len(card.classes)} classes')
        place = [card.classes.index(name) for name in dataset.classes]
        preprocess = at_resolution(card.preprocess, resolution) if resolution else card.preprocess
        pictures = read(evaluation_pictures(dataset.splits[split], preprocess), bad_files, silent)
        logits = shared_logits(model, pictures, preprocess, views=views)
        found = metrics(logits, np.array(place)[labels_of(pictures)], card.classes, split)
        main = ranks.rank() == 0
    how = {"views": views, "resolution": preprocess.resolution}
    about = {"model": str(folder), "data": dataset.name, "fingerprint": dataset.fingerprint, **how}
    return {**about, **found} if main else {}
