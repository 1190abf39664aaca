"""One rung of a ladder of smaller nets: made from the one above, fine-tuned, measured, saved as a model folder."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from foveate.compress.criteria import CRITERIA
from foveate.compress.criteria.score import Criterion
from foveate.compress.low_rank import low_rank_stage
from foveate.compress.ranks import Ranking
from foveate.compress.schedule import Draw, Schedule, shrink
from foveate.config import from_dict, make, parse_json, record, replace, to_json
from foveate.cost.count import cost
from foveate.cost.latency import Timing
from foveate.data.index import Dataset
from foveate.data.load import Pictures
from foveate.deploy.beside import Yardstick
from foveate.errors import ConfigError, Interrupted
from foveate.files import crashpoint, recover_folder, write_folder
from foveate.plan import Plan
from foveate.run import cpu_threads
from foveate.train.artefact import Metric, ModelCard, load_model, model_files
from foveate.train.checkpoint import Progress
from foveate.train.draw import drawer
from foveate.train.engine import Job, Listener, run_epochs
from foveate.train.evaluate import cross_entropy, labels_of, metrics, predict_logits
from foveate.train.loop import train
from foveate.train.recipe import Loss, Recipe
from foveate.train.recipe import Schedule as Rates
from foveate.train.signals import Stop, exit_code
from foveate.train.state import State
from foveate.train.statistics import refresh
from foveate.train.teacher import load_teacher
from foveate.zoo import FAMILIES

STEPS = "steps"  # of a run folder: one model folder a rung
SAMPLE = 1024  # validation pictures that auto compares criteria on
REFRESHED = 8  # batches that running statistics are taken from anew
BETWEEN = 30  # training steps between two rounds of one rung (arXiv:1906.10771 prunes every 30 minibatches)
RATE = 0.3  # of the first training's peak learning rate
SEEN, TAKEN = (
    2**31 + 2,
    2**31 + 3,
)  # stand where an epoch does: batches that criteria see, and statistics are taken from
EMPTY: Mapping[str, bytes] = {}
AUTO = ("taylor", "norm", "bn_scale", "taylor2", "redundancy")
PICK_SHARE = 0.1  # of the time, after which auto tries no further criterion


@record
class Goal:
    """compress.json: what a ladder of smaller nets is to reach."""

    source: str  # the model folder that it began with
    kind: str = "macs"  # of `target`: macs, params, latency_ms, size_bytes
    target: float | None = None  # None: only max_drop counts
    method: str = "auto"
    max_drop: float | None = None  # points of validation accuracy
    steps: int = 0  # rungs; 0: as many as make each about STEP of the one above
    rounds: int = 1  # of pruning in a rung, with BETWEEN training steps after each
    multiple: int = 1
    split_seed: int = 0  # of the data


@dataclass
class Bench:
    """What all rungs of a run share."""

    folder: Path
    goal: Goal
    plan: Plan
    dataset: Dataset
    job: Job
    test: Pictures
    cost: Callable[[Any], float]  # of a config, in the goal's kind
    yardstick: Callable[[], Yardstick]  # the original, once it was measured
    extra_bytes: int  # of the final file over the one that rungs are timed with, where the size counts
    listener: Listener
    stop: Stop

    def draw(self, stream: int) -> Draw:
        """Training batches, augmented: the i-th of a stream."""
        device, recipe = torch.device(self.plan.device), self.plan.recipe
        return drawer(self.job.train, self.plan.preprocess, recipe, len(self.job.classes), device, stream)

    def stopped(self) -> None:
        """Raise Interrupted where a signal came; what is finished is saved."""
        if self.stop.signal:
            text = f"stopped; finished steps are saved; go on with: foveate compress --resume {self.folder}"
            raise Interrupted(text, exit_code(self.stop.signal))


Method = Callable[[Bench, nn.Module, float], nn.Module]  # the model above, the cost to reach -> a smaller model


def pruning(name: str, **options: Any) -> Method:
    """Removal of channels by a criterion, layers fitted anew; in rounds with a little training between."""
    criterion: Criterion = CRITERIA[name](**options)

    def method(bench: Bench, model: nn.Module, target: float) -> nn.Module:
        schedule = Schedule(rounds=bench.goal.rounds, multiple=bench.goal.multiple)
        found = shrink(model, criterion, bench.draw(SEEN), bench.cost, target, partial(between, bench), schedule)
        for step in found:
            model = step.model
        return model

    return method


def factoring(train: bool, **options: Any) -> Method:
    """Convolutions in two factors, those pairs that are faster. train: half of the epochs projected before (LRPET)."""
    ranking = Ranking(**{"form": "best", "merged": train, **options})

    def method(bench: Bench, model: nn.Module, target: float) -> nn.Module:
        from foveate.deploy.layer_time import layer_timer

        model = low_rank_stage(
            model,
            bench.cost,
            target,
            ranking=replace(ranking, multiple=bench.goal.multiple),
            tune=partial(projected, bench) if train else None,
            every=bench.job.train.steps(min(bench.plan.recipe.batch, len(bench.job.train))),
            time_ms=layer_timer(bench.plan.threads or 1),
        )
        draw = bench.draw(TAKEN)
        refresh(model, (draw(i)[0] for i in range(REFRESHED)))
        return model

    return method


def projected(bench: Bench, model: nn.Module, after_step: Callable[[], None]) -> None:
    """Half of the recipe's epochs at the peak rate, the kernels held near their ranks."""
    rates = Rates(kind="constant", warmup=0.0)
    recipe = replace(bench.plan.recipe, schedule=rates, epochs=max(1, bench.plan.recipe.epochs // 2))
    with cpu_threads(recipe.threads):
        state = new_state(bench, model, recipe)
        for _ in train(state, bench.job.train, bench.plan.preprocess, recipe, len(bench.job.classes)):
            after_step()
            bench.stopped()


# name -> maker of a method; what turns a model into a smaller one in another way is one more line
METHODS: Mapping[str, Callable[..., Method]] = {
    **{name: partial(pruning, name) for name in CRITERIA},
    "lrpet": partial(factoring, True),
    "svd": partial(factoring, False),
}


def make_method(text: str) -> Method:
    """The method that a call string names: "taylor(form='additive')"."""
    return make(METHODS, text, "method")


def between(bench: Bench, model: nn.Module, number: int) -> nn.Module:
    """Statistics taken anew, and after all rounds but the last BETWEEN steps of training at the peak rate."""
    draw = bench.draw(TAKEN)
    refresh(model, (draw(i)[0] for i in range(REFRESHED)))
    if number + 1 < bench.goal.rounds:
        recipe = replace(bench.plan.recipe, schedule=Rates(kind="constant", warmup=0.0), seed=number)
        state = new_state(bench, model, recipe)
        with cpu_threads(recipe.threads):
            for step in train(state, bench.job.train, bench.plan.preprocess, recipe, len(bench.job.classes)):
                if step.number == BETWEEN:
                    break
        bench.stopped()
    return model


def new_state(bench: Bench, model: nn.Module, recipe: Recipe) -> State:
    """A State with a fresh optimiser: slots of removed channels mean nothing, and momentum would revive others."""
    state = State(model, None, recipe, FAMILIES[bench.plan.architecture["family"]].head, bench.plan.device)
    if recipe.loss.teacher:
        state.teacher = load_teacher(recipe.loss.teacher, bench.job.classes, bench.plan.device)
    return state


def tuning(base: Recipe, epochs: int, teacher: str, seed: int) -> Recipe:
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
        schedule=Rates(warmup=0.25),
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


def fine_tune(bench: Bench, model: nn.Module, label: str) -> Progress:
    """Train a model by the plan's recipe, in place; it is evaluated at the end. Raises Interrupted."""
    progress, job = Progress(), replace_label(bench.job, label)
    with cpu_threads(bench.plan.recipe.threads):
        run_epochs(new_state(bench, model, bench.plan.recipe), job, progress, bench.listener, bench.stopped)
    return progress


def replace_label(job: Job, label: str) -> Job:
    """The job under another name."""
    return Job(label, job.train, job.val, job.preprocess, job.recipe, job.classes, job.provenance, job.workers)


def climb(bench: Bench, number: int, method: str, goal: float | None) -> dict[str, Any]:
    """Make the next rung from the last one and save it; returns its row. goal None: the original as it is."""
    begun = time.monotonic()
    above = bench.goal.source if goal is None else rungs(bench.folder)[-1]["run"]
    model, _ = load_model(above)
    progress = Progress()
    if goal is not None:
        bench.listener("stage", {"text": f"step {number}: {method}"})
        model = make_method(method)(bench, model, goal)
        progress = fine_tune(bench, model, f"step {number}")
    row = {**measured(bench, model, goal is None), "seconds": time.monotonic() - begun, "curves": progress.rows}
    return save(bench, model, number, method, row)


def save(
    bench: Bench, model: nn.Module, number: int, method: str, row: dict[str, Any], files: Mapping[str, bytes] = EMPTY
) -> dict[str, Any]:
    """Write the folder of a model with its row and further files; it is there whole or not at all."""
    name = "original" if number == 0 else method.partition("(")[0]
    folder = bench.folder / STEPS / f"{number:02d}-{name}"
    row = {"step": number, "method": method, "run": str(folder), **row}
    facts = {**bench.job.provenance, "compressed_from": bench.goal.source, "method": method, "step": number}
    low, high = row["val_interval"]
    data, seed = bench.dataset.name, bench.plan.recipe.seed
    metric = Metric("accuracy", row["val_accuracy"], low, high, n=row["val_n"], split="val", data=data, seed=seed)
    card = ModelCard(model.config, bench.job.classes, bench.plan.preprocess, facts, (metric,))
    crashpoint("step.before")
    write_folder(folder, {**model_files(card, model.state_dict()), **files, "step.json": to_json(row).encode()})
    crashpoint("step.after")
    return row


def measured(bench: Bench, model: nn.Module, original: bool) -> dict[str, Any]:
    """Accuracy on validation (to choose) and test pictures (to report) with 95 % intervals; exact cost; latency and
    size of the exported file. The latency of all but the original is its share of the original's, timed in turns.
    """
    from foveate.deploy.export import export_for_timing
    from foveate.deploy.measure import measure_latency

    plan = bench.plan
    row = judged(bench, lambda pictures: predict_logits(model, pictures, plan.preprocess))
    counted, onnx = cost(model.config, resolution=plan.preprocess.resolution), export_for_timing(model, plan.preprocess)
    timing: Timing
    if original:
        timing = measure_latency(onnx, plan.preprocess, plan.threads, runtime=plan.budget.runtime)
    else:
        timing = bench.yardstick().time(onnx)
    return row | {
        "macs": counted.macs,
        "params": counted.params,
        "latency_ms": timing.median_ms,
        "latency_p10_ms": timing.p10_ms,
        "latency_p90_ms": timing.p90_ms,
        "size_bytes": len(onnx) + bench.extra_bytes,
    }


def judged(bench: Bench, logits_of: Callable[[Pictures], np.ndarray]) -> dict[str, Any]:
    """Accuracy, interval and n on validation and on test pictures."""
    row: dict[str, Any] = {}
    for split, pictures in (("val", bench.job.val), ("test", bench.test)):
        found = metrics(logits_of(pictures), labels_of(pictures), bench.job.classes, split)
        row |= {f"{split}_{key}": found[key] for key in ("accuracy", "interval", "n")}
    return row


def rungs(folder: Path) -> list[dict[str, Any]]:
    """The rows of the finished rungs of a run, the original first."""
    for half in (folder / STEPS).glob(".*"):
        recover_folder(half.with_name(half.name.split(".")[1]))
    found = []
    for number, path in enumerate(sorted((folder / STEPS).glob("[0-9]*"))):
        row = parse_json((path / "step.json").read_bytes(), str(path / "step.json"))
        if row["step"] != number:
            raise ConfigError(f"{path}: step {number} is missing before it; start a new run")
        found.append({**row, "run": str(path)})
    return found


def read_goal(folder: Path) -> Goal:
    """compress.json of a run."""
    path = folder / "compress.json"
    if not path.is_file():
        raise ConfigError(f"{folder}: no compress.json here; expected a run folder that foveate compress made")
    goal: Goal = from_dict(Goal, parse_json(path.read_bytes(), str(path)))
    return goal


def pick_method(bench: Bench, goal: float) -> str:
    """auto: one shot of each criterion down to a goal, statistics taken anew, no training; the least validation loss
    on a sample. Where there is a time, those that come before a tenth of it is over.
    """
    begun, limit = time.monotonic(), bench.plan.budget.time_s
    source, _ = load_model(bench.goal.source)
    picks = np.arange(0, len(bench.job.val), max(1, len(bench.job.val) // SAMPLE))
    found: dict[str, float] = {}
    for name in AUTO:
        if found and limit is not None and time.monotonic() - begun > PICK_SHARE * limit:
            bench.listener("stage", {"text": f"  {name}: left out, there is no time to try it"})
            continue
        tried = Bench(**{**vars(bench), "goal": replace(bench.goal, rounds=1)})
        try:
            model = make_method(name)(tried, source, goal)
        except ConfigError as error:  # a criterion that this network does not allow
            bench.listener("stage", {"text": f"  {name}: {error}"})
            continue
        logits = predict_logits(model, bench.job.val, bench.plan.preprocess, only=picks)
        found[name] = cross_entropy(logits, labels_of(bench.job.val)[picks])
        bench.listener("stage", {"text": f"  {name:<12} validation loss {found[name]:.3f} before training"})
        bench.stopped()
    return min(found, key=lambda name: found[name])


def line(row: Mapping[str, Any]) -> str:
    """A row as one line of JSON: what --json prints."""
    keys = ("step", "method", "val_accuracy", "test_accuracy", "test_interval", "macs", "params", "latency_ms")
    return json.dumps({k: row[k] for k in (*keys, "size_bytes", "run", "chosen")}, allow_nan=False)
