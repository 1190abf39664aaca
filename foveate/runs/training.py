"""A run: data, a network and a recipe in; a run folder with a trained, exported, measured model and its report out."""

import contextlib
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from foveate.config import from_dict, parse_json, replace
from foveate.data.index import Dataset, open_data
from foveate.errors import ConfigError, DataError
from foveate.events import Listener, StageEvent, silent
from foveate.files import folder_lock, free_name, write_bytes, write_folder, write_json
from foveate.runs.finish import finish
from foveate.runs.plan import Plan, prepare
from foveate.runs.run import Run, announce, environment
from foveate.runs.setup import cpu_threads, foldable, fresh, make_job, start, trained
from foveate.train import ranks
from foveate.train.begin import begin
from foveate.train.checkpoint import Progress
from foveate.train.engine import Job, run_training
from foveate.train.head import Probe
from foveate.train.probe import settle
from foveate.train.recipe import Recipe
from foveate.train.signals import stop_on_signals
from foveate.train.teacher import load_teacher
from foveate.zoo.tensors import read_tensors, tensor_bytes

START = (
    "start.safetensors"  # of a run folder: the weights before the first step, where the recipe needs them at the end
)


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
    initial_weights: Mapping[str, torch.Tensor] | None = None,
) -> Run:
    """Train by the plan in its folder and finish: test, export, measure, report.

    story: what fit has to tell (candidates, race). probe: a linear classifier that fit has made already. learnt:
    weights to begin with, those of the race. Where several processes train together, all but rank 0 end when training
    does; their Run has no summary.
    """
    main = ranks.rank() == 0
    with folder_lock(folder) if main else contextlib.nullcontext(), nothing_half_made(folder, main):
        plan, job, progress, seconds = train_in(
            folder, plan, dataset, listener, resume=resume, story=story, probe=probe, initial_weights=initial_weights
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
    initial_weights: Mapping[str, torch.Tensor] | None = None,
) -> tuple[Plan, Job, Progress, float]:
    """Training alone, in a folder that the caller has locked: best/, last/, metrics.jsonl and the checkpoints.

    Returns the plan with what the probe chose, what was trained on what, how it went, and the seconds.
    """
    config = plan.architecture
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
        if initial_weights is not None:
            state.model.load_state_dict(initial_weights)
            state.follow()
        elif plan.weights is None and plan.recipe.init and not resume:
            listener(StageEvent(f"preparing the first weights: {', '.join(plan.recipe.init)}"))
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
    listener(StageEvent("trying weights between the start and the end"))
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
