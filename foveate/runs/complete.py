"""A run: data, a network and a recipe in; a run folder with a trained, exported, measured model and its report out."""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from foveate.config import from_dict, parse_json
from foveate.data.index import Dataset, open_data
from foveate.errors import ConfigError, DataError
from foveate.events import Listener, StageEvent, WarningEvent, silent
from foveate.files import check_writable, crashpoint, folder_lock, free_name
from foveate.report.progress import hear
from foveate.runs.devices import check_device, describe_device
from foveate.runs.finish import finish
from foveate.runs.plan import Plan, prepare
from foveate.runs.resume import Asked, finished, refuse_other_settings
from foveate.runs.run import Run, announce
from foveate.runs.training import Start, nothing_half_made, train_in
from foveate.train import ranks
from foveate.train.recipe import Recipe


def train(
    data: str | Path,
    model: str,
    *,
    recipe: str | Recipe | None = None,
    overrides: Sequence[str] = (),
    weights: str | None = None,
    name: str | None = None,
    runs: str | Path | None = None,
    resume: str | Path | None = None,
    seed: int | None = None,
    device: Literal["auto", "cpu", "cuda", "mps"] | None = None,
    bad_files: Literal["stop", "skip"] | None = None,
    follow_links: bool | None = None,
    listener: Listener | None = None,
    progress: bool = True,
) -> Run:
    """Train one named model on data and finish the run (test, ONNX, latency, report).

    recipe: a name of RECIPES, a .json or .toml file or a value; None: the one that fit would take for these pictures.
    weights: a source for load_weights; "none": from scratch; "auto" or None: for photographs, without a recipe of one's
    own, what is on this machine of this very network, else from scratch; "hub": the network's public ones.
    overrides: "optim.lr=0.01"; "model.layers.norm=group_norm" changes the architecture; "preprocess.resolution=128"
    the input.
    runs, seed, device, bad_files: None is "runs", 0, "auto" (CUDA, then MPS, then the CPU), "stop". resume: a run
    folder, which goes on as it began: what else is given ("" and None are nothing) must be as it has it. A finished one
    is left as it is (Run.before).
    listener: hears the events of foveate.events; None: lines on stderr, or nothing where progress is False.
    Raises ConfigError, DataError, WriteError, Interrupted.
    """
    listener = hear(listener, progress)
    if resume is not None:
        asked = Asked(data, model, recipe, overrides, weights, seed, device, bad_files, name, runs)
        device = read_plan(Path(resume)).device
    place = check_device(device or "auto")
    with ranks.joined(place):
        listener = listener if ranks.rank() == 0 else silent
        if resume is not None:
            return resume_run(resume, listener, asked)
        if ranks.rank() == 0:
            check_writable(runs or "runs")
        plan, dataset = prepare(
            data,
            model,
            recipe=recipe,
            overrides=overrides,
            weights=weights or "auto",
            seed=seed or 0,
            device=place,
            bad_files=bad_files or "stop",
            follow_links=follow_links or False,
        )
        announce(dataset, listener)
        origin = f"from {plan.weights}" if plan.weights is not None else "from scratch"
        listener(StageEvent(f"training {plan.model} {origin}, on {describe_device(plan.device)}"))
        for note in plan.notes:
            listener(StageEvent(note))
        folder = free_name(runs or "runs", name or dataset.name) if ranks.rank() == 0 else None
        return complete(Path(ranks.agreed(folder)), plan, dataset, listener)


def read_plan(folder: Path) -> Plan:
    """recipe.json of a run folder. ConfigError where there is none."""
    path = folder / "recipe.json"
    if not path.is_file():
        raise ConfigError(f"{folder}: no recipe.json here; expected a run folder such as runs/photos-1")
    plan: Plan = from_dict(Plan, parse_json(path.read_bytes(), str(path)))
    return plan


def resume_run(folder: str | Path, listener: Listener, asked: Asked | None = None) -> Run:
    """Go on with an interrupted run from its newest checkpoint; a finished one is left as it is.

    ConfigError where what was asked for is not what the run has.
    """
    folder = Path(folder)
    plan = read_plan(folder)
    refuse_other_settings(folder, plan, asked or Asked())
    if (summary := finished(folder)) is not None:
        return Run(folder, summary if ranks.rank() == 0 else {}, before=True)
    check_writable(folder)
    found = open_data(plan.data, seed=plan.recipe.seed, bad_files=plan.bad_files, follow_links=plan.follow_links)
    dataset = announce(found, listener)
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
    start: Start | None = None,
) -> Run:
    """Train by the plan in its folder and finish: test, export, measure, report.

    start: what the training begins with; resume: it goes on instead. Where several processes train together, all but
    rank 0 end when training does; their Run has no summary. Raises what train_in and finish raise.
    """
    main = ranks.rank() == 0
    held = folder_lock(folder, notice=lambda text: listener(WarningEvent(text)))
    with held if main else contextlib.nullcontext(), nothing_half_made(folder, main):
        return complete_held(folder, plan, dataset, listener, resume=resume, start=start)


def complete_held(
    folder: Path,
    plan: Plan,
    dataset: Dataset,
    listener: Listener,
    *,
    resume: bool = False,
    start: Start | None = None,
) -> Run:
    """complete in a folder that the caller has locked; what fails leaves the folder as it is."""
    trained = train_in(folder, plan, dataset, listener, resume=resume, start=start)
    crashpoint("run.trained")
    return finish(folder, dataset, trained, listener) if ranks.rank() == 0 else Run(folder, {})
