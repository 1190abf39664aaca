"""The end of a run: test the best model, export it, check parity on real pictures, measure it, and write model folder
and report.
"""

import dataclasses
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from foveate.config import parse_json, to_dict, to_json
from foveate.data.index import Dataset
from foveate.data.load import Pictures, evaluation_pictures
from foveate.data.sample import is_small, some_pictures
from foveate.deploy.targets import float_files, opened, with_trust_in
from foveate.errors import BudgetError
from foveate.events import Listener, StageEvent, WarningEvent
from foveate.files import crashpoint, read_lines, write_folder, write_json
from foveate.runs.advice import Facts, advise, majority, warn
from foveate.runs.baselines import make_baselines
from foveate.runs.gallery import shown_pictures
from foveate.runs.plan import Plan
from foveate.runs.result import (
    Result,
    SplitPart,
    TrainingPart,
    make_budget_part,
    make_cost_part,
    make_data_part,
    make_only_candidate,
    summarise,
)
from foveate.runs.run import Run
from foveate.runs.setup import read
from foveate.runs.training import Trained
from foveate.runs.trust import Fitted, features_of, fit_model, fit_session, make_trust_part, session_outputs
from foveate.train.artefact import Metric, ModelCard, load_model, model_files
from foveate.train.evaluate import labels_of, metrics
from foveate.train.metric import score

if TYPE_CHECKING:
    from foveate.cost.latency import Latency
    from foveate.deploy.runtime import Session

PARITY_PICTURES = 32  # real pictures on which the exported file must agree with torch
INT8 = "model_int8"  # the int8 form in a model folder: .onnx, or .xml and .bin


@dataclass(frozen=True)
class Tested:
    """Logits of the test pictures (of the validation pictures where there are none) and what they say."""

    pictures: Pictures
    logits: np.ndarray
    features: np.ndarray | None  # (N, D), by which strangers are told
    report: SplitPart


@dataclass(frozen=True)
class Exported:
    """The float32 form of a model: as ONNX, as the files (by suffix) of the runtime that counts, and opened there."""

    onnx: bytes
    files: Mapping[str, bytes]
    session: "Session"


def finish(
    folder: Path, dataset: Dataset, trained: Trained, listener: Listener, int8: Mapping[str, bytes] | None = None
) -> Run:
    """Everything after the last step: test, export, check, measure; best/ gets its exported forms, the folder its
    result.json, summary.json and report.

    Nothing here changes the weights. int8: files of an int8 form by suffix, which then is what is tested and timed.
    Raises FoveateError where the exported file does not say what the model says (no model.onnx is left behind), and
    BudgetError where the finished file takes longer than the budget allows (everything is written then).
    """
    from foveate.cost.count import cost
    from foveate.deploy.measure import time_session
    from foveate.deploy.parity import check_parity, require_parity
    from foveate.report.page import write_report

    listener(StageEvent("testing, exporting and measuring"))
    plan, job = trained.plan, trained.job
    budget, size = plan.budget, plan.preprocess.resolution
    threads = plan.threads or torch.get_num_threads()
    model, card = load_model(folder / "best")
    quick = None if int8 is None else opened(int8, budget.runtime, "int8", threads)
    fitted = fit_model(model, dataset, job.val, plan, listener)
    card = dataclasses.replace(card, trust=fitted.trust, known=fitted.known)
    answered = fitted if quick is None else fit_session(quick, job.val, fitted.known)
    tested = test_model(model, quick, plan, dataset, job.classes, listener, answered)
    exported = export_model(model, card, plan, threads)
    if int8 is not None:
        int8 = trusted_int8(int8, answered, budget.max_size_bytes)
        quick = opened(int8, budget.runtime, "int8", threads)
    some = some_pictures(dataset.splits[tested.report.split], PARITY_PICTURES)
    parity = check_parity(model, plan.preprocess, exported.session, some)
    require_parity(parity)
    session, precision = (exported.session, "float32") if quick is None else (quick, "int8")
    latency = measure_last(
        lambda: time_session(session, plan.preprocess, budget.runtime, precision=precision), budget.max_latency_ms
    )
    weights_bytes = write_best(
        folder / "best", model, card, make_metric(tested, plan, quick is not None), exported, int8
    )
    counted = cost(card.architecture, resolution=size)
    story = parse_json((folder / "story.json").read_bytes(), "story.json")
    facts = parse_json((folder / "env.json").read_bytes(), "env.json")
    best_accuracy = trained.progress.best_accuracy
    result = Result(
        title=folder.name,
        command=plan.command,
        created=facts["created"],
        version=plan.version,
        seed=plan.recipe.seed,
        device=latency.device,
        threads=threads,
        environment=facts,
        data=make_data_part(dataset, job),
        budget=make_budget_part(budget, threads, latency),
        candidates=story.get("candidates")
        or [make_only_candidate(plan, latency, len(exported.onnx), counted, best_accuracy)],
        training=make_training_part(trained),
        test=tested.report,
        cost=make_cost_part(counted, sum(map(len, (int8 or {"": exported.onnx}).values())), weights_bytes),
        latency=latency,
        parity=parity,
        alternatives=story.get("alternatives", []),
        trust=make_trust_part(
            answered, tested.logits, tested.features, labels_of(tested.pictures), tested.report.split
        ),
        baselines=make_baselines(folder, dataset, trained, (tested.pictures, tested.report.accuracy), card, model),
        warnings=[],
        next_steps=[],
    )
    epochs = len(read_lines(folder / "metrics.jsonl"))
    told = facts_for_advice(folder, dataset, trained, result, epochs)
    warnings = warn(told)
    for warning in warnings:
        listener(WarningEvent(warning.text))
    result = dataclasses.replace(result, warnings=warnings, next_steps=advise(told, warnings))
    summary = summarise(
        folder,
        plan,
        result,
        story,
        epochs,
        test_score=score(plan.recipe.metric, tested.logits, labels_of(tested.pictures), job.classes),
        time_s=trained.asked_s,
        seconds=None if math.isnan(trained.begun) else time.monotonic() - trained.begun,
    )
    crashpoint("run.tested")
    write_json(folder / "result.json", result.to_dict())
    shown = shown_pictures(model, dataset.root, tested.pictures, tested.logits, job.classes, plan.preprocess)
    write_report(folder, result.to_dict(), shown)
    write_json(folder / "summary.json", summary)
    if (limit := budget.max_latency_ms) is not None and latency.median_ms > limit:
        raise BudgetError(
            f"{folder}: trained and kept, but it now takes {latency.median_ms:.3g} ms (budget {limit:g} ms): the "
            "device is busier than when the network was chosen; measure again with foveate profile, or allow more"
        )
    return Run(folder, to_dict(summary))


def test_model(
    model: nn.Module,
    quick: "Session | None",
    plan: Plan,
    dataset: Dataset,
    classes: tuple[str, ...],
    listener: Listener,
    fitted: Fitted,
) -> Tested:
    """The accuracy of the model, or of its int8 form where that is what is used (quick). fitted: of the same form."""
    split = "test" if "test" in dataset.splits else "val"
    pictures = read(evaluation_pictures(dataset.splits[split], plan.preprocess), plan.bad_files, listener)
    logits, features = features_of(model, pictures, plan) if quick is None else session_outputs(quick, pictures)
    found = metrics(fitted.trust.scaled(logits), labels_of(pictures), classes, split)
    return Tested(pictures, logits, features, SplitPart(**found))


def export_model(model: nn.Module, card: ModelCard, plan: Plan, threads: int) -> Exported:
    """The model in float32, as the runtime of the budget takes it, with what is known of its answers.

    What would make it larger than the budget allows stays out: the known features, then all of it.
    """
    from foveate.deploy.export import export_trusted

    metadata, limit = {"architecture": to_json(card.architecture)}, plan.budget.max_size_bytes
    onnx = export_trusted(model, plan.preprocess, card.classes, card.trust, card.known, metadata=metadata)
    if limit and len(onnx) > limit and card.known is not None:
        onnx = export_trusted(model, plan.preprocess, card.classes, card.trust, metadata=metadata)
    if limit and len(onnx) > limit:
        onnx = export_trusted(model, plan.preprocess, card.classes, metadata=metadata)
    files = float_files(onnx, plan.budget.runtime)
    return Exported(onnx, files, opened(files, plan.budget.runtime, "fp32", threads))


def trusted_int8(files: Mapping[str, bytes], answered: Fitted, limit: int | None) -> Mapping[str, bytes]:
    """The int8 files with as much of what is known of their answers as the budget has room for."""
    for known in (answered.known, None):
        made = with_trust_in(files, answered.trust, known)
        if not limit or sum(map(len, made.values())) <= limit:
            return made
    return files


def make_metric(tested: Tested, plan: Plan, int8: bool) -> Metric:
    """The accuracy on the test pictures, as the model's card tells it."""
    low, high = tested.report.interval
    return Metric(
        name="accuracy of the int8 file" if int8 else "accuracy",
        value=tested.report.accuracy,
        n=tested.report.n,
        split=tested.report.split,
        low=low,
        high=high,
        seed=plan.recipe.seed,
    )


def write_best(
    folder: Path,
    model: nn.Module,
    card: ModelCard,
    metric: Metric,
    exported: Exported,
    int8: Mapping[str, bytes] | None,
) -> int:
    """Write the model folder with its exported forms and one metric more; returns the bytes of its weights file."""
    before = tuple(m for m in card.metrics if (m.name, m.split) != (metric.name, metric.split))  # of an end cut off
    card = dataclasses.replace(card, metrics=(*before, metric))
    files = model_files(card, model.state_dict())
    forms = {"model.onnx": exported.onnx, **named("model", exported.files), **named(INT8, int8 or {})}
    write_folder(folder, {**files, **forms})
    return len(files["model.safetensors"])


def make_training_part(trained: Trained) -> TrainingPart:
    """How the training went."""
    recipe, progress = trained.plan.recipe, trained.progress
    steps = trained.job.train.steps(min(recipe.batch, len(trained.job.train)))
    epochs = -(-progress.steps // steps) or recipe.epochs
    statistics, notes = progress.best_statistics, trained.plan.notes
    return TrainingPart(recipe, progress.rows, trained.seconds, epochs, progress.best_epoch, statistics, notes)


def facts_for_advice(folder: Path, dataset: Dataset, trained: Trained, result: Result, epochs: int) -> Facts:
    """What advice looks at, of a run whose numbers are there."""
    plan, progress = trained.plan, trained.progress
    counts = np.bincount(dataset.splits["train"].labels, minlength=len(dataset.classes)).tolist()
    val = np.array(dataset.splits["val"].labels)
    best = next((row for row in progress.rows if row.get("epoch") == progress.best_epoch), {})
    steps = trained.job.train.steps(min(plan.recipe.batch, len(trained.job.train)))
    return Facts(
        data=plan.data,
        best=str(folder / "best"),
        test=to_dict(result.test),
        classes=dataset.classes,
        train_counts=counts,
        train_accuracy=best.get("train_accuracy"),
        val_accuracy=progress.best_accuracy,
        val_n=len(val),
        val_majority=float((val == majority(counts)).mean()),
        weights=plan.weights,
        small=is_small(dataset),
        epochs=epochs,
        cut=progress.over and bool(progress.rows) and progress.rows[-1].get("step", steps) < steps,
        short=progress.over or 0 < progress.steps < plan.recipe.epochs * steps,
        time_s=trained.asked_s,
        balance=plan.recipe.balance,
        metric=plan.recipe.metric,
        steps=int(progress.rows[-1].get("step", 0)) if progress.rows else None,
    )


def named(stem: str, files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Files of a form, which come by suffix, by name."""
    return {f"{stem}{suffix}": data for suffix, data in files.items()}


def session_logits(session: "Session", pictures: Pictures) -> np.ndarray:
    """Logits float32 (N, K) of a split's pictures as an exported file sees them: decoded, of any size."""
    from foveate.data.read.decode import decode

    split = pictures.split
    raw = (split.pixels[i] if split.pixels is not None else decode(split.paths[i]) for i in pictures.keep)
    return np.concatenate([session.run(picture[None]) for picture in raw])


def measure_last(measure: Callable[[], "Latency"], limit: float | None) -> "Latency":
    """The latency of the finished file. One over the limit is measured twice more, and the lowest counts: another
    process can only add to it.
    """
    found = []
    for _ in range(3):
        found.append(measure())
        if limit is None or found[-1].median_ms <= limit:
            break
    return min(found, key=lambda latency: latency.median_ms)
