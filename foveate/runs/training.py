"""Training of a run: a plan in, best/, last/, metrics.jsonl and the checkpoints out. What follows is the caller's."""

import contextlib
import math
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch

from foveate.config import parse_json, replace
from foveate.data.index import Dataset
from foveate.errors import Interrupted, Terminated
from foveate.events import Listener, StageEvent
from foveate.files import write_bytes, write_folder, write_json
from foveate.runs.plan import Plan
from foveate.runs.run import environment
from foveate.runs.setup import apply_folding, cpu_threads, load_published, make_job, make_state, settle_folding
from foveate.train import ranks
from foveate.train.artefact import Metric, ModelCard, load_model, model_files
from foveate.train.begin import begin
from foveate.train.blend import blend
from foveate.train.checkpoint import Progress
from foveate.train.engine import Job, run_training
from foveate.train.form import settle
from foveate.train.head import Probe
from foveate.train.metric import score
from foveate.train.pace import Pace
from foveate.train.signals import code_of, stop_on_signals
from foveate.train.state import State
from foveate.train.teacher import load_teacher
from foveate.zoo.tensors import read_tensors, tensor_bytes

# of a run folder: the weights before the first step, where the recipe needs them at the end
START = "start.safetensors"
LINEAR = "linear.json"  # what is known of them, where they are a linear classifier on frozen features


@dataclass(frozen=True)
class Start:
    """What a new training begins with, beside its plan.

    story: what chose the network has to tell; written as story.json, shown in the report (candidates, race_seconds).
    probe: a linear classifier on the published features, where one is fitted already. initial_weights: a state dict of
    the network that is trained, in place of the recipe's own first weights. left: seconds that training may still
    take, by whose clock it ends; None: the recipe alone does. begun: time.monotonic() when the command began; asked_s:
    the time that it was given.
    """

    story: Mapping[str, Any] = field(default_factory=dict)
    probe: Probe | None = None
    initial_weights: Mapping[str, torch.Tensor] | None = None
    left: Callable[[], float] | None = None
    begun: float | None = None
    asked_s: float | None = None


class Trained(NamedTuple):
    """What a training made."""

    plan: Plan  # with its form settled
    job: Job
    progress: Progress
    seconds: float  # wall time, of this session
    begun: float = math.nan  # time.monotonic() when the command began
    asked_s: float | None = None  # that the command was given


def train_in(
    folder: Path, plan: Plan, dataset: Dataset, listener: Listener, *, resume: bool = False, start: Start | None = None
) -> Trained:
    """Training alone, in a folder that the caller has locked: best/, last/, metrics.jsonl and the checkpoints.

    resume: from the newest checkpoint in the folder, with the plan that lies there; of start its times alone count.
    Raises
    DataError, FoveateError (a loss that is not finite, no usable checkpoint) and Interrupted.
    """
    start = start or Start()
    if not resume:
        plan = settle_plan(plan)
        write_beginning(folder, plan, start)
    with stop_on_signals() as stop, cpu_threads(plan.recipe.threads):
        begun = time.monotonic()
        with stop.at_once():  # there is nothing to save yet
            job = make_job(plan, plan.architecture, dataset, listener)
            state = make_state(apply_folding(plan.architecture, plan.recipe), plan.recipe, plan.device)
            if plan.recipe.loss.teacher:
                state.teacher = load_teacher(plan.recipe.loss.teacher, job.classes, plan.device)
            if not resume:
                set_first_weights(folder, state, plan, job, start, listener)
        pace = None
        if start.left is not None:
            ratio = 0.5 * len(job.val) / min(plan.recipe.batch, len(job.train))  # a forward pass is a third of a step
            points = 2 + len(plan.recipe.blend) if plan.weights is not None else 0
            most = plan.most_epochs * job.train.steps(min(plan.recipe.batch, len(job.train)))
            pace = Pace(start.left, ratio=ratio, after=points, most=most)
        progress = run_training(folder, state, job, listener, stop, resume=resume, pace=pace)
        if ranks.rank() == 0:
            with stop.at_once():
                blend_best(folder, job, listener, None if pace is None else pace.points)
        now = time.monotonic()
        return Trained(plan, job, progress, now - begun, begun if start.begun is None else start.begun, start.asked_s)


def settle_plan(plan: Plan) -> Plan:
    """The plan with precision, layout and threads as they suit the network on the machine of rank 0."""
    size, recipe = plan.recipe.resolution or plan.preprocess.resolution, settle_folding(plan.recipe, plan.architecture)
    if ranks.rank() == 0:
        recipe = settle(apply_folding(plan.architecture, recipe), recipe, size, torch.device(plan.device))
    return replace(plan, recipe=ranks.agreed(recipe))


def write_beginning(folder: Path, plan: Plan, start: Start) -> None:
    """recipe.json, env.json and story.json, by rank 0."""
    if ranks.rank() == 0:
        write_json(folder / "recipe.json", plan)
        write_json(folder / "env.json", environment())
        write_json(folder / "story.json", start.story)


def set_first_weights(folder: Path, state: State, plan: Plan, job: Job, start: Start, listener: Listener) -> None:
    """The weights before the first step: given ones, published ones, or the recipe's initialisers over fresh ones."""
    if start.initial_weights is not None:
        state.model.load_state_dict(start.initial_weights)
        state.follow()
    elif plan.weights is None and plan.recipe.init:
        listener(StageEvent(f"preparing the first weights: {', '.join(plan.recipe.init)}"))
        begin(state, job.train, job.preprocess, plan.recipe, len(job.classes))
    if plan.weights is not None:
        begun = time.monotonic()
        started = load_published(state, plan, job, start.probe, listener)
        if ranks.rank() == 0 and (plan.recipe.blend or started):
            write_bytes(folder / START, tensor_bytes(state.model.state_dict()))
            seconds = start.story.get("probe_seconds", time.monotonic() - begun)
            write_json(folder / LINEAR, {"linear": started, "seconds": seconds})


def blend_best(folder: Path, job: Job, listener: Listener, most: int | None = None) -> None:
    """Put the best point between the start and best/ into best/, where it is not done yet.

    Where the start is the linear classifier on frozen features it is one of the points: what is shipped is then not
    below it on the validation pictures by more than their noise, and its accuracy is written down. The other points are
    the recipe's.
    most: points that there is time for, the end included; the linear one comes first, then those nearest to the end.
    """
    if not (folder / START).exists():
        return
    model, card = load_model(folder / "best")
    if "blend" in card.provenance:
        return
    listener(StageEvent("trying weights between the start and the end"))
    tensors, linear = read_tensors(folder / START), read_linear(folder)
    wanted = [0.0] * bool(linear.get("linear")) + sorted({*job.recipe.blend} - {0.0}, reverse=True)
    shares = tuple(wanted if most is None else wanted[: max(1, most - 1)])
    metric = lambda logits, labels: score(job.recipe.metric, logits, labels, job.classes)  # noqa: E731
    share, value, _, found = blend(model, tensors, shares, job.val, job.preprocess, metric)
    if 0.0 in found and linear.get("linear"):
        write_json(folder / LINEAR, {**linear, "val_accuracy": found[0.0], "shipped": share == 0.0})
        if share == 0.0:
            listener(StageEvent("the linear classifier on frozen features is the better one on validation: it is kept"))
    data, seed = str(job.provenance["data"]), job.recipe.seed
    kept = Metric(name="accuracy", value=value, n=len(job.val), split="val", data=data, seed=seed)
    card = ModelCard(card.architecture, card.classes, card.preprocess, {**card.provenance, "blend": share}, (kept,))
    write_folder(folder / "best", model_files(card, model.state_dict()))


def read_linear(folder: Path) -> dict[str, Any]:
    """What is written of the linear classifier on frozen features that a run started from; empty where it did not.

    linear: whether the start is one. seconds: wall time of its making. val_accuracy, shipped: after the training.
    """
    if not (folder / LINEAR).exists():
        return {}
    found: dict[str, Any] = parse_json((folder / LINEAR).read_bytes(), LINEAR)
    return found


@contextlib.contextmanager
def nothing_half_made(folder: Path, ours: bool = True) -> Iterator[None]:
    """Remove a run folder that failed before its first checkpoint: there is nothing in it to go on with.

    Where there is a checkpoint, a signal that is obeyed at once becomes Interrupted: it says how to go on.
    """
    try:
        yield
    except (KeyboardInterrupt, Terminated) as error:
        if (folder / "state").exists():
            text = f"stopped; training is saved; go on with: foveate train --resume {folder}"
            raise Interrupted(text, code_of(error)) from None
        if ours:
            shutil.rmtree(folder, ignore_errors=True)
        raise
    except BaseException:
        if ours and not any((folder / name).exists() for name in ("state", "request.json")):
            shutil.rmtree(folder, ignore_errors=True)
        raise
