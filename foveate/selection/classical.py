"""Classical pipelines in a fit: one beside the networks as a baseline, or they alone by --models "classic:*"."""

import dataclasses
import time as clock
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from foveate.classic.fit import fit, vectors_of
from foveate.config import near
from foveate.data.index import Dataset, subset
from foveate.data.load import Pictures, evaluation_pictures
from foveate.errors import ConfigError, DataError
from foveate.events import Listener, StageEvent
from foveate.files import write_json
from foveate.report.units import percent
from foveate.runs.baselines import CLASSIC
from foveate.runs.made import Made, write_made
from foveate.runs.plan import Plan
from foveate.runs.request import Asked
from foveate.runs.run import Run
from foveate.runs.setup import read
from foveate.runs.time_budget import TimeBudget
from foveate.selection.pipelines import (
    MACHINE_MOST,
    PREFIX,
    Fitted,
    Trial,
    choose_pipelines,
    compare,
    config_of,
    named,
    pick_preprocess,
    scaled,
)
from foveate.train.evaluate import accuracy, labels_of
from foveate.train.recipe import Recipe
from foveate.train.signals import Stop
from foveate.trust.calibration import fit_temperature
from foveate.zoo import build, list_models
from foveate.zoo.composed.classic import Classic, ClassicConfig

TASTE = 24  # training pictures by which the time of one is estimated
KERNEL_S = 1e-9  # seconds of a kernel machine, by pictures squared and numbers of a vector
PART = 0.4  # of the time for pictures, and for the machine; the rest is kept
LEAST = 2  # training pictures a class, below which nothing is learnt


class OutOfTime(Exception):
    """The baseline took its share."""


def is_classical(models: str | None) -> bool:
    """Whether a pattern of --models is of pipelines."""
    return models is not None and models.startswith(PREFIX)


def check_names(models: str | None) -> None:
    """ConfigError for a pattern that no network has; pipelines are known once the pictures are."""
    if models is not None and not is_classical(models) and not list_models(models):
        known = [*list_models(), f"{PREFIX}*"]
        raise ConfigError(f'--models "{models}" matches no model: {near(models, known)}')


def fit_classical(folder: Path, asked: Asked, dataset: Dataset, time: TimeBudget, listener: Listener) -> Run:
    """The best pipeline that the pattern names within budget and time, finished in the folder, which is held."""
    if asked.search is not None or asked.compress:
        raise ConfigError(f'--models "{asked.models}": --search and --compress are of networks; leave them out')
    preprocess = pick_preprocess(dataset, None, None)
    base = ClassicConfig(num_classes=len(dataset.classes), resolution=preprocess.resolution)
    wanted = named(choose_pipelines(dataset, preprocess.resolution, None, None, None, None), asked.models or "")
    train = read(evaluation_pictures(dataset.splits["train"], preprocess), asked.bad_files, listener)
    val = read(evaluation_pictures(dataset.splits["val"], preprocess), asked.bad_files, listener)
    facts = (base, None, train, val, asked.seed, asked.metric, dataset.classes)
    trial = Trial(*facts, listener, Stop(), preprocess, asked.threads, asked.runtime)
    budget = asked.budget(time.run_s)
    limit = clock.monotonic() + time.left_s - time.end_s
    best, rows = compare(trial, wanted, limit, budget)
    plan = Plan(
        data=asked.data,
        model=best.pipeline.name,
        architecture=best.model.config,
        recipe=Recipe(epochs=1, seed=asked.seed, metric=asked.metric),
        preprocess=preprocess,
        bad_files=asked.bad_files,
        follow_links=asked.follow_links,
        threads=asked.threads,
        budget=budget,
        fingerprint=dataset.fingerprint,
        command=asked.command,
    )
    begun = clock.monotonic() - time.spent_s
    return write_best(folder, plan, dataset, trial, best, rows, begun, time.whole_s)


def write_best(
    folder: Path,
    plan: Plan,
    dataset: Dataset,
    trial: Trial,
    best: Fitted,
    rows: Sequence[Mapping[str, Any]],
    begun: float,
    time_s: float,
) -> Run:
    """A learnt pipeline, calibrated on the validation pictures, as a finished run in a folder that is held."""
    best.model.sharpness.data.fill_(fit_temperature(best.logits, labels_of(trial.val)).scale[0])
    made = Made(best.model, best.logits * float(best.model.sharpness), trial.train, trial.val, rows)
    about = {"pipeline": dataclasses.asdict(best.pipeline)}
    return write_made(folder, plan, dataset, made, trial.listener, begun, time_s, about)


def learn_beside(folder: Path, dataset: Dataset, time: TimeBudget, asked: Asked, listener: Listener) -> None:
    """Learn one pipeline in its share of a fit's time, and write its row for the report; once a run.

    Of so many training pictures as the time has room for. What fails here costs the run its row, nothing else.
    """
    if (folder / CLASSIC).exists() or not (share := time.classic_s):
        return
    until = clock.monotonic() + share
    row: dict[str, Any] = {}
    try:
        row = baseline(dataset, share, until, asked)
        listener(StageEvent(f"  against {row['name']}  val {percent(row['val_accuracy'])} %"))
    except OutOfTime:
        listener(StageEvent("  a classical pipeline beside: left out, there was no time for it"))
    except (ConfigError, DataError) as error:
        listener(StageEvent(f"  a classical pipeline beside: left out: {error}"))
    write_json(folder / CLASSIC, row)


def baseline(dataset: Dataset, share: float, until: float, asked: Asked) -> dict[str, Any]:
    """The row of one pipeline. OutOfTime where `until`, on the monotonic clock, comes first."""

    def stop() -> None:
        if clock.monotonic() > until:
            raise OutOfTime

    begun = clock.monotonic()
    preprocess = pick_preprocess(dataset, None, None)
    pipeline = choose_pipelines(dataset, preprocess.resolution, None, None, None, "rbf")[1]
    base = ClassicConfig(num_classes=len(dataset.classes), resolution=preprocess.resolution)
    config = config_of(base, pipeline)
    order = np.random.default_rng(asked.seed).permutation(len(dataset.splits["train"]))[:MACHINE_MOST]
    one_s, width = taste(config, evaluation_pictures(subset(dataset.splits["train"], order[:TASTE]), preprocess))
    held = {name: dataset.splits[name] for name in ("val", "test") if name in dataset.splits}
    room = int(PART * share / one_s) - sum(map(len, held.values()))
    most = int(min(room, (PART * share / (KERNEL_S * width)) ** 0.5, len(order)))
    if most < min(len(order), LEAST * len(dataset.classes)):
        raise OutOfTime
    train = evaluation_pictures(subset(dataset.splits["train"], np.sort(order[:most])), preprocess)
    model = fit(config, pipeline.classifier, lambda: scaled(train), labels_of(train), seed=asked.seed, stop=stop)
    found = {name: judge(model, evaluation_pictures(split, preprocess), stop) for name, split in held.items()}
    part = "" if most == len(dataset.splits["train"]) else f", of {most:,} pictures"
    return {
        "name": f"{pipeline.name}{part}",
        "val_accuracy": found["val"],
        "test_accuracy": found.get("test", found["val"]),
        "seconds": clock.monotonic() - begun,
    }


def taste(config: ClassicConfig, pictures: Pictures) -> tuple[float, int]:
    """Seconds that a picture takes until its vector is there, and the numbers of that."""
    model = cast(Classic, build(config)).eval()
    for _ in range(2):  # the first time warms up
        begun = clock.monotonic()
        vectors_of(model, lambda: scaled(pictures))
    return (clock.monotonic() - begun) / len(pictures), model.num_features


def judge(model: Classic, pictures: Pictures, stop: Callable[[], None]) -> float:
    """The accuracy on some pictures."""
    logits = []
    with torch.inference_mode():
        for x in scaled(pictures):
            stop()
            logits.append(model(x).numpy())
    return accuracy(np.concatenate(logits), labels_of(pictures))
