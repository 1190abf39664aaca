"""One trial of an ablation: a row with a seed, trained in a folder of its own and tested. Many processes share them.

A trial is taken by a lock that the kernel drops with its process, so a killed one leaves nothing to clean up: the
next process goes on from the trial's newest checkpoint, to the same bits.
"""

import shutil
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from foveate.config import from_dict, parse_json, replace
from foveate.cost.latency import device_name
from foveate.data.index import Dataset, open_data
from foveate.data.load import evaluation_pictures
from foveate.errors import CheckpointError, ConfigError, DataError, FoveateError, Interrupted, WriteError
from foveate.events import Listener, StageEvent, WarningEvent
from foveate.files import crashpoint, sweep, write_json, write_text
from foveate.runs.plan import Plan
from foveate.runs.setup import read
from foveate.runs.training import train_in
from foveate.train.artefact import load_model
from foveate.train.engine import Job
from foveate.train.evaluate import labels_of, metrics, predict_logits
from foveate.train.signals import stop_on_signals
from foveate.workflows.ablate.design import Ablation

RESULT, TIMING, FAILURE = "result.json", "timing.json", "failure.txt"


def run_trial(folder: Path, ablation: Ablation, row: int, place: int, listener: Listener) -> None:
    """Train and test one trial in its folder, which the caller has claimed; writes result.json.

    A failure of the training itself (a loss of NaN, no memory, a layer that can not be computed) is a result too.
    Raises Interrupted with everything saved, DataError, and FoveateError where nothing can be written any more.
    """
    plan, seed = ablation.rows[row].plan, ablation.seeds[place]
    plan = replace(plan, recipe=replace(plan.recipe, seed=seed), fingerprint=ablation.fingerprints[place])
    about = {"row": ablation.rows[row].label, "seed": seed, "fingerprint": plan.fingerprint}
    with stop_on_signals() as stop, stop.at_once():
        dataset = open_data(plan.data, seed=seed, bad_files=plan.bad_files, follow_links=plan.follow_links)
    if dataset.fingerprint != plan.fingerprint:
        raise DataError(f"{plan.data}: the pictures changed since the ablation began; start a new one")
    begun = time.monotonic()
    try:
        found = trained_and_tested(folder, plan, dataset, ablation.rows[row].views, listener)
    except (Interrupted, DataError, ConfigError, WriteError, OSError):
        raise
    except Exception as error:
        text = str(error) if isinstance(error, FoveateError) else f"{type(error).__name__}: {error}"
        write_text(folder / FAILURE, traceback.format_exc())
        found = {"failed": " ".join(text.split())[:300]}
    seconds = spent_before(folder) + time.monotonic() - begun
    write_json(folder / TIMING, {"train_and_test_s": seconds, "device": device_name()})
    crashpoint("trial.before_result")
    write_json(folder / RESULT, {**about, **found})
    crashpoint("trial.after_result")
    tidy(folder)


def trained_and_tested(folder: Path, plan: Plan, dataset: Dataset, views: str, listener: Listener) -> dict[str, Any]:
    """Train (or go on), select the best epoch on val, test it: what result.json says. No times: bytes can be compared.

    Where the data has no test split, the validation pictures are tested again, and the split is named so.
    """
    begun = time.monotonic()
    try:
        plan, job = _train(folder, plan, dataset, listener)
    except Interrupted:
        write_json(folder / TIMING, {"train_and_test_s": spent_before(folder) + time.monotonic() - begun})
        raise
    model, card = load_model(folder / "best")
    split = "test" if "test" in dataset.splits else "val"
    with stop_on_signals() as stop, stop.at_once():
        pictures = read(evaluation_pictures(dataset.splits[split], plan.preprocess), plan.bad_files, listener)
        logits = predict_logits(model.to(plan.device), pictures, job.preprocess, views=views)
    tested = metrics(logits, labels_of(pictures), job.classes, split)
    val = next(m for m in reversed(card.metrics) if m.name == "accuracy" and m.split == "val")
    steps = job.recipe.epochs * job.train.steps(min(job.recipe.batch, len(job.train)))
    return {
        "failed": None,
        "epochs": job.recipe.epochs,
        "steps": steps,
        "batch": min(job.recipe.batch, len(job.train)),
        "best_epoch": card.provenance.get("epoch"),
        "val_accuracy": val.value,
        "val_n": val.n,
        "split": split,
        **{name: tested[name] for name in ("accuracy", "correct", "n", "top5", "macro_f1", "ece")},
    }


def _train(folder: Path, plan: Plan, dataset: Dataset, listener: Listener) -> tuple[Plan, Job]:
    """train_in from the newest checkpoint, from the start where there is none."""
    sweep(folder)
    if any((folder / "state").glob("step-*")):
        known: Plan = from_dict(Plan, parse_json((folder / "recipe.json").read_bytes(), "recipe.json"))
        try:
            return train_in(folder, known, dataset, listener, resume=True)[:2]
        except CheckpointError as error:
            listener(WarningEvent(f"{error}: this trial begins again"))
    for name in ("state", "best", "last"):
        shutil.rmtree(folder / name, ignore_errors=True)
    return train_in(folder, plan, dataset, listener)[:2]


def spent_before(folder: Path) -> float:
    """Seconds of earlier sessions of a trial that were told; a killed session tells none."""
    path = folder / TIMING
    return float(parse_json(path.read_bytes(), str(path))["train_and_test_s"]) if path.exists() else 0.0


def tidy(folder: Path) -> None:
    """Drop what only going on needs: the checkpoints and the last epoch's weights. best/ stays."""
    for name in ("state", "last", ".best.old"):
        shutil.rmtree(folder / name, ignore_errors=True)
    (folder / "start.safetensors").unlink(missing_ok=True)


def result(folder: Path) -> Mapping[str, Any] | None:
    """What a trial came to; None while it has not."""
    path = folder / RESULT
    if not path.exists():
        return None
    found: Mapping[str, Any] = parse_json(path.read_bytes(), str(path))
    return found


def give_up(folder: Path, ablation: Ablation, row: int, place: int, text: str) -> None:
    """Write the result of a trial that can not be finished."""
    about = {"row": ablation.rows[row].label, "seed": ablation.seeds[place]}
    write_json(folder / RESULT, {**about, "fingerprint": ablation.fingerprints[place], "failed": text})


def forget(folder: Path) -> bool:
    """Remove all that a failed trial left, so that it runs again; False where it did not fail."""
    found = result(folder)
    if found is None or found["failed"] is None:
        return False
    shutil.rmtree(folder)
    return True


def name_of(ablation: Ablation, trial: tuple[int, int]) -> str:
    """ "3/20 + mixup, seed 1"."""
    number = ablation.trials.index(trial) + 1
    return f"{number}/{len(ablation.trials)} {ablation.rows[trial[0]].label}, seed {ablation.seeds[trial[1]]}"


def tell(listener: Listener, folder: Path, ablation: Ablation, trial: tuple[int, int]) -> None:
    """One line for a finished trial."""
    found = result(folder / "trials" / ablation.folder(*trial)) or {"failed": "no result"}
    if found["failed"] is not None:
        listener(WarningEvent(f"{name_of(ablation, trial)}  failed: {found['failed']}"))
        return
    numbers = f"val {100 * found['val_accuracy']:.2f} %  {found['split']} {100 * found['accuracy']:.2f} %"
    listener(StageEvent(f"{name_of(ablation, trial)}  {numbers}"))
