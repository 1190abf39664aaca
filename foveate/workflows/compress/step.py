"""One step of a compression: made from the one above, fine-tuned, measured, saved as a model folder."""

import json
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from foveate.config import parse_json, to_json
from foveate.cost.count import cost
from foveate.cost.latency import Timing
from foveate.data.load import Pictures
from foveate.errors import ConfigError
from foveate.events import StageEvent
from foveate.files import crashpoint, recover_folder, write_folder
from foveate.train.artefact import Metric, ModelCard, load_model, model_files
from foveate.train.checkpoint import Progress
from foveate.train.evaluate import labels_of, metrics, predict_logits
from foveate.workflows.compress.compression_run import CompressionRun
from foveate.workflows.compress.methods import make_method
from foveate.workflows.compress.targets import MOST
from foveate.workflows.compress.tuning import fine_tune
from foveate.zoo.family import get_config

STEPS = "steps"  # of a run folder: one model folder a step
EMPTY: Mapping[str, bytes] = {}


def make_step(run: CompressionRun, number: int, method: str, goal: float | None) -> dict[str, Any]:
    """Make the next step from the last one and save it; returns its row. goal None: the original as it is."""
    begun = time.monotonic()
    above = run.goal.source if goal is None else step_rows(run.folder)[-1]["run"]
    model, _ = load_model(above)
    progress = Progress()
    if goal is not None:
        run.listener(StageEvent(f"step {number}: {method}"))
        model = make_method(method)(run, model, goal)
        progress = fine_tune(run, model, f"step {number}", seconds_for(run, number))
    row = {**measure_step(run, model, goal is None), "seconds": time.monotonic() - begun, "curves": progress.rows}
    return save(run, model, number, method, row)


def seconds_for(run: CompressionRun, number: int) -> float:
    """For the fine-tuning of a step that begins now: its part of the time that is left without the end and without
    what measuring takes, by the original's; infinite without a time.
    """
    if math.isinf(run.time.whole_s):
        return math.inf
    one_s = float(step_rows(run.folder)[0]["seconds"])
    following = max(1, (run.goal.steps or MOST) - number + 1)
    return max(0.0, (run.time.left_s - run.time.kept_s(one_s)) / following - one_s)


def save(
    run: CompressionRun,
    model: nn.Module,
    number: int,
    method: str,
    row: dict[str, Any],
    files: Mapping[str, bytes] = EMPTY,
) -> dict[str, Any]:
    """Write the folder of a model with its row and further files; it is there whole or not at all."""
    name = "original" if number == 0 else method.partition("(")[0]
    folder = run.folder / STEPS / f"{number:02d}-{name}"
    row = {"step": number, "method": method, "run": str(folder), **row}
    facts = {**run.job.provenance, "compressed_from": run.goal.source, "method": method, "step": number}
    low, high = row["val_interval"]
    data, seed = run.dataset.name, run.plan.recipe.seed
    metric = Metric("accuracy", row["val_accuracy"], low, high, n=row["val_n"], split="val", data=data, seed=seed)
    card = ModelCard(model.config, run.job.classes, run.plan.preprocess, facts, (metric,))
    crashpoint("step.before")
    write_folder(folder, {**model_files(card, model.state_dict()), **files, "step.json": to_json(row).encode()})
    crashpoint("step.after")
    return row


def measure_step(run: CompressionRun, model: nn.Module, original: bool) -> dict[str, Any]:
    """Accuracy on validation (to choose) and test pictures (to report) with 95 % intervals; exact cost; latency and
    size of the exported file. The latency of all but the original is its share of the original's, timed in turns.
    """
    from foveate.deploy.export import export_for_timing
    from foveate.deploy.measure import measure_latency

    plan = run.plan
    row = evaluate_splits(run, lambda pictures: predict_logits(model, pictures, plan.preprocess))
    counted, onnx = (
        cost(get_config(model), resolution=plan.preprocess.resolution),
        export_for_timing(model, plan.preprocess),
    )
    timing: Timing
    if original:
        timing = measure_latency(onnx, plan.preprocess, plan.threads, runtime=plan.budget.runtime)
    else:
        timing = run.yardstick().time(onnx)
    return row | {
        "macs": counted.macs,
        "params": counted.params,
        "latency_ms": timing.median_ms,
        "latency_p10_ms": timing.p10_ms,
        "latency_p90_ms": timing.p90_ms,
        "size_bytes": len(onnx) + run.extra_bytes,
    }


def evaluate_splits(run: CompressionRun, logits_of: Callable[[Pictures], np.ndarray]) -> dict[str, Any]:
    """Accuracy, interval and n on validation and on test pictures."""
    row: dict[str, Any] = {}
    for split, pictures in (("val", run.job.val), ("test", run.test)):
        found = metrics(logits_of(pictures), labels_of(pictures), run.job.classes, split)
        row |= {f"{split}_{key}": found[key] for key in ("accuracy", "interval", "n")}
    return row


def step_rows(folder: Path) -> list[dict[str, Any]]:
    """The rows of the finished steps of a run, the original first."""
    for half in (folder / STEPS).glob(".*"):
        recover_folder(half.with_name(half.name.split(".")[1]))
    found = []
    for number, path in enumerate(sorted((folder / STEPS).glob("[0-9]*"))):
        row = parse_json((path / "step.json").read_bytes(), str(path / "step.json"))
        if row["step"] != number:
            raise ConfigError(f"{path}: step {number} is missing before it; start a new run")
        found.append({**row, "run": str(path)})
    return found


def line(row: Mapping[str, Any]) -> str:
    """A row as one line of JSON: what --json prints."""
    keys = ("step", "method", "val_accuracy", "test_accuracy", "test_interval", "macs", "params", "latency_ms")
    return json.dumps({k: row[k] for k in (*keys, "size_bytes", "run", "chosen")}, allow_nan=False)
