"""A run whose network was not trained by gradients: learnt otherwise, or made of others. It ends as every run does."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from foveate import __version__
from foveate.data.index import Dataset
from foveate.data.load import Pictures
from foveate.events import Listener
from foveate.files import write_folder, write_json, write_text
from foveate.runs.finish import finish
from foveate.runs.plan import Plan
from foveate.runs.run import Run, environment
from foveate.runs.training import Trained
from foveate.train.artefact import ModelCard, model_files
from foveate.train.checkpoint import Progress
from foveate.train.engine import Job
from foveate.train.evaluate import accuracy, cross_entropy, labels_of


@dataclass(frozen=True)
class Made:
    """A network, its logits of the validation pictures (N, K), and the candidates that it was chosen from."""

    model: nn.Module
    logits: np.ndarray
    train: Pictures
    val: Pictures
    rows: Sequence[Mapping[str, Any]]


def write_made(
    folder: Path,
    plan: Plan,
    dataset: Dataset,
    made: Made,
    listener: Listener,
    begun: float,
    time_s: float | None,
    about: Mapping[str, Any],
) -> Run:
    """best/ and what finish() makes of it. begun: time.monotonic() of the command's start; about: added to the summary.

    The caller has locked the folder.
    """
    facts = {"data": dataset.name, "fingerprint": dataset.fingerprint, "model": plan.model, "weights": None}
    provenance = {**facts, "version": __version__}
    labels = labels_of(made.val)
    found = accuracy(made.logits, labels)
    row = {"epoch": 1, "step": 1, "val_accuracy": found, "val_loss": cross_entropy(made.logits, labels)}
    write_json(folder / "recipe.json", plan)
    write_json(folder / "env.json", environment())
    seconds = sum(float(r.get("seconds", 0.0)) for r in made.rows)
    write_json(folder / "story.json", {"candidates": made.rows, "race_seconds": seconds})
    card = ModelCard(plan.architecture, dataset.classes, plan.preprocess, provenance)
    write_folder(folder / "best", model_files(card, made.model.state_dict()))
    write_text(folder / "metrics.jsonl", json.dumps(row) + "\n")
    job = Job(plan.model, made.train, made.val, plan.preprocess, plan.recipe, dataset.classes, provenance)
    progress = Progress(rows=[row], best_epoch=1, best_accuracy=found)
    run = finish(folder, dataset, Trained(plan, job, progress, time.monotonic() - begun, begun, time_s), listener)
    summary = {**run.summary, **about}
    write_json(folder / "summary.json", summary)
    return Run(folder, summary)
