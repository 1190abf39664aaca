"""result.json and summary.json of a run, as records: what is in them, in this order (docs/report.md says it in words).

Shares are 0 to 1, intervals (low, high) are Wilson's at 95 %, and every other number has its unit in its name.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from foveate import config
from foveate.config import record
from foveate.cost.count import Cost
from foveate.cost.latency import Latency
from foveate.data.index import Dataset
from foveate.deploy.parity import Parity
from foveate.events import DataEvent
from foveate.report.units import count, milliseconds, plural, size
from foveate.runs.advice import NextStep, Warned
from foveate.runs.plan import Budget, Plan
from foveate.runs.trust import TrustPart
from foveate.train.engine import Job
from foveate.train.recipe import Recipe


class CandidateRow(TypedDict, total=False):
    """A network that could have been chosen. What was not measured is absent; compress adds what its steps tell."""

    model: str
    resolution: int  # pixels, square
    weights: str | None  # source of published weights
    latency_ms: float
    latency_p10_ms: float
    latency_p90_ms: float
    size_bytes: int  # of the exported file
    macs: int  # of one picture
    params: int
    memory_bytes: int  # weights and maps of one picture; only where the budget limits it
    fits: bool  # the budget
    val_accuracy: float | None  # these four: of those that were trained
    val_interval: Sequence[float]
    rounds: Sequence[Mapping[str, float]]  # {round, val_accuracy}
    seconds: float
    chosen: bool


class BaselineRow(TypedDict):
    """What simpler ways reach on the same pictures, and the winner, with the wall time of each."""

    name: str
    val_accuracy: float | None
    test_accuracy: float
    seconds: float | None


@dataclass(frozen=True)
class DataPart:
    """The pictures: how many a split and class, and which files were left out, by [path, reason]."""

    name: str
    train: int
    val: int | None  # absent where the data has no such split
    test: int | None
    classes: tuple[str, ...]
    counts: Mapping[str, Mapping[str, int]]  # split -> class -> pictures
    left_out: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    fingerprint: str


@record
class BudgetPart(Budget):
    """The limits, and all of them as one line."""

    text: str = ""


@dataclass(frozen=True)
class TrainingPart:
    """The recipe and how the training went."""

    recipe: Recipe
    curves: Sequence[Mapping[str, Any]]  # rows of metrics.jsonl, an epoch each
    seconds: float  # wall time
    epochs: int
    best_epoch: int  # the one that is in best/, from 1
    norm_statistics: str  # of best/: running averages, or taken anew from training pictures (train/settled.py)
    notes: Sequence[str]  # how the recipe follows the data


@dataclass(frozen=True)
class SplitPart:
    """The accuracy on one split (train/evaluate.metrics)."""

    split: str
    n: int
    correct: int
    accuracy: float
    interval: tuple[float, float]
    top5: float
    macro_f1: float
    balanced_accuracy: float  # mean of the classes' accuracies
    ece: float  # expected calibration error
    per_class: Sequence[Mapping[str, Any]]  # {class, n, correct, accuracy, interval, precision}
    confusion: Sequence[Sequence[int]]  # rows true, columns predicted, in the order of the data's classes


@dataclass(frozen=True)
class LayerPart:
    """A row of the table of layers."""

    name: str
    kind: str
    params: int
    macs: int
    output: tuple[int, ...]


@dataclass(frozen=True)
class CostPart:
    """What one picture costs by count, and how large the files are."""

    params: int
    macs: int
    resolution: int
    layers: tuple[LayerPart, ...]
    size_bytes: int  # of the exported file; of the int8 form where that is what is used
    weights_bytes: int


@dataclass(frozen=True)
class Result:
    """result.json."""

    title: str
    command: str
    created: str  # ISO 8601, UTC
    version: str
    seed: int
    device: str
    threads: int  # of the latency
    environment: Mapping[str, Any]  # env.json
    data: DataPart
    budget: BudgetPart
    candidates: Sequence[CandidateRow]
    training: TrainingPart
    test: SplitPart
    cost: CostPart
    latency: Latency
    parity: Parity
    trust: TrustPart
    alternatives: Sequence[Mapping[str, Any]]  # what was tried and was not better
    baselines: Sequence[BaselineRow]
    warnings: Sequence[Warned]  # the worst first
    next_steps: Sequence[NextStep]  # at most three, the most helpful first

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON data, without the splits that the data has not."""
        plain: dict[str, Any] = config.to_dict(self)
        plain["data"] = {key: value for key, value in plain["data"].items() if value is not None}
        return plain


@dataclass(frozen=True)
class Summary:
    """summary.json: what --json prints and the closing text is made of."""

    run: str  # folder
    model: str
    resolution: int
    test_accuracy: float
    test_interval: tuple[float, float]
    test_n: int
    test_split: str
    latency_ms: float
    size_bytes: int
    macs: int
    params: int
    report: str  # path of report.html
    data: DataEvent
    budget: BudgetPart
    race: Sequence[CandidateRow]  # those that were trained
    race_seconds: float
    epochs: int  # that were trained
    threads: int
    runtime: str
    seed: int
    parity: Parity
    metric: str  # that chose the network and the epoch
    test_score: float  # of that metric, on the test pictures
    weights: str | None  # what the winner started from
    baselines: Sequence[BaselineRow]
    warnings: Sequence[Warned]
    next_steps: Sequence[NextStep]
    time_s: float | None  # asked for
    seconds: float  # taken


def make_data_part(dataset: Dataset, job: Job) -> DataPart:
    """Counts by split and class; left out: while the files were scanned and while the pictures were read."""
    counts = {
        name: dict(
            zip(dataset.classes, np.bincount(split.labels, minlength=len(dataset.classes)).tolist(), strict=True)
        )
        for name, split in dataset.splits.items()
    }
    sizes = {name: len(split) for name, split in dataset.splits.items()}
    left_out = (*dataset.left_out, *job.train.left_out, *job.val.left_out)
    return DataPart(
        dataset.name,
        sizes["train"],
        sizes.get("val"),
        sizes.get("test"),
        dataset.classes,
        counts,
        left_out,
        dataset.notes,
        dataset.fingerprint,
    )


def make_cost_part(counted: Cost, size_bytes: int, weights_bytes: int) -> CostPart:
    """The part of a Cost that the report shows."""
    layers = tuple(LayerPart(x.name, x.kind, x.params, x.macs, x.output) for x in counted.layers)
    return CostPart(counted.params, counted.macs, counted.resolution, layers, size_bytes, weights_bytes)


def make_only_candidate(plan: Plan, latency: Latency, size_bytes: int, counted: Cost, accuracy: float) -> CandidateRow:
    """The row of a run without a race. accuracy: on the validation split."""
    return {
        "model": plan.model,
        "resolution": plan.preprocess.resolution,
        "weights": plan.weights,
        "latency_ms": latency.median_ms,
        "latency_p10_ms": latency.p10_ms,
        "latency_p90_ms": latency.p90_ms,
        "size_bytes": size_bytes,
        "macs": counted.macs,
        "params": counted.params,
        "fits": True,
        "val_accuracy": accuracy,
        "chosen": True,
    }


def make_budget_part(budget: Budget, threads: int, latency: Latency) -> BudgetPart:
    """The limits with what the latency was measured on."""
    b = budget
    parts = [
        f"<= {milliseconds(b.max_latency_ms, exact=True)}" if b.max_latency_ms else "",
        f"<= {size(b.max_size_bytes, exact=True)}" if b.max_size_bytes else "",
        f"<= {count(b.max_macs, exact=True)} multiply-adds" if b.max_macs else "",
        f"<= {size(b.max_memory_bytes, exact=True)} in memory" if b.max_memory_bytes else "",
    ]
    limits = " and ".join(p for p in parts if p) or "no limit"
    name = latency.runtime.replace("onnxruntime", "ONNX Runtime").replace("openvino", "OpenVINO")
    short, precision = ".".join(name.split(".")[:2]), latency.precision.replace("float", "fp")
    text = f"{limits} on this device ({plural(threads, 'thread')}, {short}, {precision})"
    return BudgetPart(**config.to_dict(budget), text=text)


def summarise(
    folder: Path,
    plan: Plan,
    result: Result,
    story: Mapping[str, Any],
    epochs: int,
    *,
    test_score: float | None = None,
    time_s: float | None = None,
    seconds: float | None = None,
) -> Summary:
    """The summary of a result. story: story.json, which knows of the race. epochs: that were trained. test_score: of
    the recipe's metric; None: the accuracy. time_s, seconds: of the whole command, asked and taken.
    """
    data = result.data
    found = DataEvent(
        data.name, data.train, data.val or 0, data.test or 0, len(data.classes), left_out=len(data.left_out)
    )
    return Summary(
        run=str(folder),
        model=plan.model,
        resolution=plan.preprocess.resolution,
        test_accuracy=result.test.accuracy,
        test_interval=result.test.interval,
        test_n=result.test.n,
        test_split=result.test.split,
        latency_ms=result.latency.median_ms,
        size_bytes=result.cost.size_bytes,
        macs=result.cost.macs,
        params=result.cost.params,
        report=str(folder / "report.html"),
        data=found,
        budget=result.budget,
        race=[row for row in story.get("candidates", []) if row.get("val_accuracy") is not None],
        race_seconds=story.get("race_seconds", 0.0),
        epochs=epochs,
        threads=result.threads,
        runtime=result.latency.runtime,
        seed=plan.recipe.seed,
        parity=result.parity,
        metric=plan.recipe.metric,
        test_score=result.test.accuracy if test_score is None else test_score,
        weights=plan.weights,
        baselines=result.baselines,
        warnings=result.warnings,
        next_steps=result.next_steps,
        time_s=plan.budget.time_s if time_s is None else time_s,
        seconds=result.training.seconds if seconds is None else seconds,
    )
