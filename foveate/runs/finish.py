"""The end of a run: test the best model, export it, check parity on real pictures, measure it, and write model folder
and report.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from foveate.config import parse_json, to_dict, to_json
from foveate.data.index import Dataset
from foveate.data.load import Pictures, evaluation_pictures
from foveate.data.sample import some_pictures
from foveate.errors import BudgetError
from foveate.events import Listener, StageEvent
from foveate.files import write_folder, write_json
from foveate.runs.plan import Plan
from foveate.runs.result import budget_text, cost_dict, data_report, environment_of, only_candidate, summarise
from foveate.runs.run import Run
from foveate.runs.setup import read
from foveate.train.checkpoint import Progress
from foveate.train.engine import Job
from foveate.train.evaluate import labels_of, log_softmax, metrics, predict_logits

if TYPE_CHECKING:
    from foveate.cost.latency import Latency
    from foveate.deploy.runtime import Session

PARITY_PICTURES = 32  # real pictures on which the exported file must agree with torch
MISTAKES = 24  # shown in the report
INT8 = "model_int8"  # the int8 form in a model folder: .onnx, or .xml and .bin


@dataclass(frozen=True)
class Tested:
    """Test logits and what they were computed on."""

    pictures: Pictures
    logits: np.ndarray
    report: dict[str, Any]


def finish(
    folder: Path,
    plan: Plan,
    dataset: Dataset,
    job: Job,
    progress: Progress,
    seconds: float,
    listener: Listener,
    int8: Mapping[str, bytes] | None = None,
) -> Run:
    """Everything after the last step. Nothing here changes the weights; a parity failure leaves no model.onnx
    behind. int8: files of an int8 form by suffix, which then is what is tested and timed.
    """
    import torch

    from foveate.cost.count import cost
    from foveate.deploy.export import export_onnx
    from foveate.deploy.measure import time_session
    from foveate.deploy.parity import check_parity, require_parity
    from foveate.deploy.targets import float_files, opened
    from foveate.report.page import write_report
    from foveate.train.artefact import Metric, ModelCard, load_model, model_files

    listener(StageEvent("testing, exporting and measuring"))
    model, card = load_model(folder / "best")
    split = "test" if "test" in dataset.splits else "val"
    threads, runtime = plan.threads or torch.get_num_threads(), plan.budget.runtime
    quick = None if int8 is None else opened(int8, runtime, "int8", threads)
    pictures = read(evaluation_pictures(dataset.splits[split], plan.preprocess), plan.bad_files, listener)
    logits = predict_logits(model, pictures, plan.preprocess) if quick is None else session_logits(quick, pictures)
    tested = Tested(pictures, logits, metrics(logits, labels_of(pictures), job.classes, split))
    onnx = export_onnx(model, plan.preprocess, job.classes, metadata={"architecture": to_json(card.architecture)})
    exact = float_files(onnx, runtime)
    session = opened(exact, runtime, "fp32", threads)
    parity = check_parity(model, plan.preprocess, session, some_pictures(dataset.splits[split], PARITY_PICTURES))
    require_parity(parity)
    precision = "float32" if quick is None else "int8"
    latency = last_latency(
        lambda: time_session(quick or session, plan.preprocess, runtime, precision=precision),
        plan.budget.max_latency_ms,
    )
    low, high = tested.report["interval"]
    metric = Metric(
        name="accuracy" if quick is None else "accuracy of the int8 file",
        value=tested.report["accuracy"],
        n=tested.report["n"],
        split=split,
        low=low,
        high=high,
        seed=plan.recipe.seed,
    )
    card = ModelCard(card.architecture, card.classes, card.preprocess, dict(card.provenance), (*card.metrics, metric))
    files = model_files(card, model.state_dict())
    forms = {"model.onnx": onnx, **named("model", exact), **named(INT8, int8 or {})}
    write_folder(folder / "best", {**files, **forms})
    counted = cost(card.architecture, resolution=plan.preprocess.resolution)
    story = parse_json((folder / "story.json").read_bytes(), "story.json")
    result = {
        "title": folder.name,
        "command": plan.command,
        "created": environment_of(folder)["created"],
        "version": plan.version,
        "seed": plan.recipe.seed,
        "device": latency.device,
        "threads": threads,
        "environment": environment_of(folder),
        "data": data_report(dataset, job),
        "budget": {**to_dict(plan.budget), "text": budget_text(plan, threads, latency)},
        "candidates": story.get("candidates") or [only_candidate(plan, latency, len(onnx), counted, progress)],
        "training": {
            "recipe": to_dict(plan.recipe),
            "curves": progress.rows,
            "seconds": seconds,
            "epochs": plan.recipe.epochs,
            "best_epoch": progress.best_epoch,
        },
        "test": tested.report,
        "cost": {
            **to_dict(cost_dict(counted)),
            "size_bytes": sum(map(len, (int8 or {"": onnx}).values())),
            "weights_bytes": len(files["model.safetensors"]),
        },
        "latency": to_dict(latency),
        "parity": vars(parity),
        "alternatives": story.get("alternatives", []),
    }
    write_json(folder / "result.json", result)
    report = write_report(folder, result, worst_mistakes(tested, job.classes))
    summary = summarise(folder, plan, result, story, report)
    write_json(folder / "summary.json", summary)
    if (limit := plan.budget.max_latency_ms) is not None and latency.median_ms > limit:
        raise BudgetError(
            f"{folder}: trained and kept, but it now takes {latency.median_ms:.3g} ms (budget {limit:g} ms): the "
            "device is busier than when the network was chosen; measure again with foveate profile, or allow more"
        )
    return Run(folder, summary)


def named(stem: str, files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Files of a form, which come by suffix, by name."""
    return {f"{stem}{suffix}": data for suffix, data in files.items()}


def session_logits(session: "Session", pictures: Pictures) -> np.ndarray:
    """Logits float32 (N, K) of a split's pictures as an exported file sees them: decoded, of any size."""
    from foveate.data.read.decode import decode

    split = pictures.split
    raw = (split.pixels[i] if split.pixels is not None else decode(split.paths[i]) for i in pictures.keep)
    return np.concatenate([session.run(picture[None]) for picture in raw])


def last_latency(measure: Callable[[], "Latency"], limit: float | None) -> "Latency":
    """The latency of the finished file. One over the limit is measured twice more, and the lowest counts: another
    process can only add to it.
    """
    found = []
    for _ in range(3):
        found.append(measure())
        if limit is None or found[-1].median_ms <= limit:
            break
    return min(found, key=lambda latency: latency.median_ms)


def worst_mistakes(tested: Tested, classes: tuple[str, ...]) -> list[Any]:
    """The wrong answers that were most certain, as pictures."""
    from foveate.report.page import Mistake

    labels = labels_of(tested.pictures)
    sure = np.exp(log_softmax(tested.logits))
    guess = sure.argmax(1)
    wrong = np.flatnonzero(guess != labels)
    wrong = wrong[np.argsort(-sure[wrong, guess[wrong]])][:MISTAKES]
    batch = tested.pictures.gather(wrong) if len(wrong) else None
    return [
        Mistake(
            path=tested.pictures.split.paths[tested.pictures.keep[i]],
            pixels=batch.pictures[j].numpy().transpose(1, 2, 0),
            true=classes[labels[i]],
            predicted=classes[guess[i]],
            probability=float(sure[i, guess[i]]),
        )
        for j, i in enumerate(wrong)
        if batch is not None
    ]
