"""Classical pipelines as candidates: which suit some pictures, learnt and compared on the validation pictures."""

import fnmatch
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from foveate.classic.fit import BATCH, fit
from foveate.config import near, replace
from foveate.cost.count import cost
from foveate.data.index import Dataset
from foveate.data.load import Pictures
from foveate.data.preprocess import Preprocess, at_resolution
from foveate.data.sample import is_grey, is_small, sample_shapes
from foveate.deploy.export import export_for_timing
from foveate.deploy.measure import measure_latency
from foveate.errors import BudgetError, ConfigError, Interrupted
from foveate.events import Listener, StageEvent
from foveate.report.units import milliseconds, percent
from foveate.report.units import size as size_text
from foveate.runs.plan import Budget
from foveate.train.evaluate import labels_of
from foveate.train.intervals import wilson
from foveate.train.metric import score
from foveate.train.signals import Stop, exit_code
from foveate.zoo.composed.classic import HOST, Classic, ClassicConfig
from foveate.zoo.family import Config

PREFIX = "classic:"
PHOTO = 128  # pixels that photographs are made to
MACHINE_MOST = 10_000  # pictures for which a machine with kernels is learnt; more take a linear classifier
SAMPLE = 1_000  # pictures on which pipelines are compared first
NO_LIMIT = Budget()


@dataclass(frozen=True)
class Pipeline:
    """Parts by their calls."""

    features: tuple[str, ...]
    coding: str
    grids: tuple[int, ...]
    classifier: str

    @property
    def name(self) -> str:
        coding = "" if self.coding == "mean" else f", {self.coding}"
        return f"{'+'.join(self.features)}{coding}, {self.classifier}"

    @property
    def short(self) -> str:
        """How --models of fit names it: "classic:hog+lbp"."""
        return PREFIX + "+".join(text.partition("(")[0] for text in self.features)


@dataclass(frozen=True)
class Host:
    """The network whose last maps are descriptors."""

    config: Config
    weights: Mapping[str, torch.Tensor]
    preprocess: Preprocess


@dataclass(frozen=True)
class Fitted:
    """A learnt pipeline and how it does on the validation pictures."""

    pipeline: Pipeline
    model: Classic
    logits: np.ndarray
    score: float
    seconds: float


@dataclass(frozen=True)
class Trial:
    """What every pipeline is learnt and judged with."""

    base: ClassicConfig
    host: Mapping[str, torch.Tensor] | None
    train: Pictures
    val: Pictures
    seed: int
    metric: str
    classes: tuple[str, ...]
    listener: Listener
    stop: Stop
    preprocess: Preprocess
    threads: int
    runtime: str

    def raise_if_stopped(self) -> None:
        """Raise Interrupted where a signal came."""
        if self.stop.signal:
            raise Interrupted("stopped; a pipeline takes seconds and is learnt whole", exit_code(self.stop.signal))

    def measure(self, model: Classic) -> dict[str, Any]:
        """What a picture costs, as a row of candidates says it."""
        onnx = export_for_timing(model, self.preprocess)
        latency = measure_latency(onnx, self.preprocess, self.threads, runtime=self.runtime)
        counted = cost(model.config, resolution=self.preprocess.resolution)
        spread = {"latency_p10_ms": latency.p10_ms, "latency_p90_ms": latency.p90_ms}
        sizes = {"size_bytes": len(onnx), "macs": counted.macs, "params": counted.params}
        return {"latency_ms": latency.median_ms, **spread, **sizes}

    def fit(self, pipeline: Pipeline, picks: np.ndarray | None = None) -> Fitted:
        """Learnt from all training pictures, or from some of them."""
        begun = time.monotonic()
        labels = labels_of(self.train)
        labels = labels if picks is None else labels[picks]
        batches = lambda: scaled(self.train, picks)  # noqa: E731
        model = fit(
            config_of(self.base, pipeline),
            pipeline.classifier,
            batches,
            labels,
            seed=self.seed,
            host=self.host,
            stop=self.raise_if_stopped,
        )
        with torch.inference_mode():
            logits = np.concatenate([model(x).numpy() for x in scaled(self.val)])
        found = score(self.metric, logits, labels_of(self.val), self.classes)
        return Fitted(pipeline, model, logits, found, time.monotonic() - begun)


def compare(
    trial: Trial, wanted: Sequence[Pipeline], limit: float, budget: Budget = NO_LIMIT
) -> tuple[Fitted, list[dict[str, Any]]]:
    """The best of some pipelines, learnt from all training pictures, and a row for each that was tried.

    Of many pictures all are first learnt from SAMPLE of them, and the better half from all. What the time (until
    `limit` on the monotonic clock) has no room for is left out; one is always learnt. BudgetError where none that was
    learnt is within the budget.
    """
    count, n = len(trial.train.keep), len(trial.val.keep)
    rows: dict[Pipeline, dict[str, Any]] = {}
    order = list(wanted)

    def note(found: Fitted, shown: int) -> None:
        low, high = wilson(round(found.score * n), n)
        rows[found.pipeline] = {
            "model": found.pipeline.name,
            "resolution": trial.base.resolution,
            "val_accuracy": found.score,
            "val_interval": [low, high],
            "seconds": rows.get(found.pipeline, {}).get("seconds", 0.0) + found.seconds,
            "fits": True,
            "chosen": False,
        }
        trial.listener(StageEvent(f"  {found.pipeline.name}  {shown:,} pictures  val {percent(found.score)} %"))

    if len(order) > 1 and count > 1.5 * SAMPLE:
        picks = np.sort(np.random.default_rng(trial.seed).permutation(count)[:SAMPLE])
        tried: list[Fitted] = []
        for pipeline in order:
            if tried and time.monotonic() + max(f.seconds for f in tried) > limit:
                break
            tried.append(trial.fit(pipeline, picks))
            note(tried[-1], len(picks))
        tried.sort(key=lambda f: -f.score)
        order = [f.pipeline for f in tried[: (len(tried) + 1) // 2]]
        estimate = {f.pipeline: f.seconds * count / len(picks) for f in tried}
    else:
        estimate = {}
    best: Fitted | None = None
    for pipeline in order:
        guess = estimate.get(pipeline, 0.0 if best is None else best.seconds)
        if best is not None and time.monotonic() + guess > limit:
            trial.listener(StageEvent(f"  {pipeline.name}: left out, there is no time for it"))
            continue
        found = trial.fit(pipeline)
        note(found, count)
        rows[pipeline].update(trial.measure(found.model))
        rows[pipeline]["fits"] = within(rows[pipeline], budget)
        if rows[pipeline]["fits"] and (best is None or found.score > best.score):
            best = found
    if best is None:
        raise BudgetError(too_dear([row for row in rows.values() if "latency_ms" in row]))
    rows[best.pipeline]["chosen"] = True
    return best, [row for row in rows.values() if "latency_ms" in row]


def within(row: Mapping[str, Any], budget: Budget) -> bool:
    """Whether a measured row is within the limits."""
    most = {"latency_ms": budget.max_latency_ms, "size_bytes": budget.max_size_bytes, "macs": budget.max_macs}
    return all(limit is None or row[key] <= limit for key, limit in most.items())


def too_dear(rows: Sequence[Mapping[str, Any]]) -> str:
    """The line of a budget that no pipeline fits."""
    least = min(rows, key=lambda row: float(row["latency_ms"]))
    cost = f"{milliseconds(least['latency_ms'])}, {size_text(least['size_bytes'])}"
    return f"no classical pipeline fits the budget; the quickest is {least['model']}: {cost}; allow more"


def named(wanted: Sequence[Pipeline], pattern: str) -> list[Pipeline]:
    """Those that a pattern such as "classic:*" or "classic:hog" names. ConfigError where it names none."""
    found = [p for p in wanted if fnmatch.fnmatch(p.short, pattern)]
    if not found:
        raise ConfigError(f'--models "{pattern}" matches no pipeline: {near(pattern, [p.short for p in wanted])}')
    return found


def scaled(pictures: Pictures, picks: np.ndarray | None = None) -> Iterator[torch.Tensor]:
    """Pictures (N, 3, R, R) of 0 to 1, in order."""
    for item in pictures.in_order(BATCH, only=picks):
        yield item.pictures.float() / 255


def config_of(base: ClassicConfig, pipeline: Pipeline) -> ClassicConfig:
    """The record of a pipeline, its classifier still open."""
    host = {} if HOST in pipeline.features else {"host": ""}
    return replace(base, features=pipeline.features, coding=pipeline.coding, grids=pipeline.grids, **host)


def pick_preprocess(dataset: Dataset, host: Host | None, resolution: int | None) -> Preprocess:
    """How pictures are seen, as 0 to 1: whole, at their own size where they are thumbnails, else at PHOTO; with a host
    network as that wants them.
    """
    plain: dict[str, Any] = {"mean": (0.0,) * 3, "std": (1.0,) * 3}
    if host is not None:
        return replace(host.preprocess if resolution is None else at_resolution(host.preprocess, resolution), **plain)
    small = is_small(dataset)
    own = max(8, max(max(shape) for shape in sample_shapes(dataset.splits["train"]))) if small else PHOTO
    size = resolution or own
    return Preprocess(resolution=size, resize=size, fit="squash", kernel="bilinear" if small else "bicubic", **plain)


def choose_pipelines(
    dataset: Dataset,
    size: int,
    features: Sequence[str] | None,
    coding: str | None,
    grids: Sequence[int] | None,
    classifier: str | None,
) -> list[Pipeline]:
    """What was asked for, or the pipelines that suit these pictures, the quickest first."""
    machine = classifier or ("linear" if len(dataset.splits["train"]) > MACHINE_MOST else "rbf")
    plane = classifier or "linear"
    if features is not None:
        fields = [text for text in features if text.startswith((HOST, "sift", "patches"))]
        code = coding or ("mean" if not fields or HOST in features else "triangle")
        levels = tuple(grids or ((1, 2) if fields and HOST not in features else (1,)))
        return [Pipeline(tuple(features), code, levels, plane if fields else machine)]
    if coding is not None or grids is not None:
        raise ConfigError("coding and grids are of features: name them, e.g. --features 'sift()'")
    hog = "hog(cell=4, size=16, pad=4)" if size < 16 else f"hog(cell={max(4, size // 8 if size > 64 else size // 4)})"
    joined = [hog, "lbp(grid=2)"] if size >= 16 else [hog, f"pixels(size={size})"]
    if not is_grey(dataset):
        joined.append("colour()")
    found = [Pipeline((hog,), "mean", (1,), machine), Pipeline(tuple(joined), "mean", (1,), machine)]
    if size >= 24:
        found.append(Pipeline(("sift(cell=4, step=4)",), "fisher(components=32, pca=48)", (1, 2), plane))
    if 24 <= size <= 64:
        found.append(Pipeline(("patches(side=6)",), "triangle(words=400)", (2,), classifier or "linear(c=0.3)"))
    return found
