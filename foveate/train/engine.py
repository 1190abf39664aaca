"""The engine of a run: steps, epochs, evaluation, best and last model folders, checkpoints, signals."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foveate.config import to_json
from foveate.data.load import Pictures
from foveate.data.preprocess import Preprocess
from foveate.errors import FoveateError, Interrupted
from foveate.events import EpochEvent, Listener, StepEvent, WarningEvent
from foveate.files import crashpoint, recover_folder, sweep, write_folder, write_text
from foveate.train import checkpoint, ranks
from foveate.train.artefact import Metric, ModelCard, model_files
from foveate.train.best import ready_best
from foveate.train.checkpoint import Progress
from foveate.train.evaluate import accuracy, cross_entropy, labels_of
from foveate.train.loop import Step, train
from foveate.train.metric import score
from foveate.train.pace import EARLY, EARLY_STEPS, Pace
from foveate.train.recipe import Recipe
from foveate.train.settled import settle_statistics
from foveate.train.signals import Stop, exit_code
from foveate.train.state import State

ALONE = (
    "a picture was alone in its part of a batch (the others could not be read, or the memory is small): norms took"
    " their running statistics for it, as they do whenever that comes again"
)


@dataclass(frozen=True)
class Job:
    """What is trained on what; pictures are read only."""

    label: str  # shown beside the progress bar
    train: Pictures
    val: Pictures
    preprocess: Preprocess
    recipe: Recipe
    classes: tuple[str, ...]
    provenance: Mapping[str, Any]
    workers: int = 2  # threads that decode ahead where the pictures do not fit into memory


def run_epochs(
    state: State,
    job: Job,
    progress: Progress,
    listener: Listener,
    after_step: Callable[[], None],
    stop_at: int = 0,
    pace: Pace | None = None,
) -> None:
    """Train to the end of the recipe (or to epoch stop_at), adding a row to progress after every epoch.

    Rows hold no times, so that a resumed run writes the same bytes as one that never stopped. pace: where time ends
    the training: soon after the start and after every epoch it is shortened to what fits, or lengthened, so that the
    learning rate still falls to its end; a last epoch may be cut, and any where the time is over.
    """
    while not progress.over and train_epochs(state, job, progress, listener, after_step, stop_at, pace):
        pass


def train_epochs(
    state: State,
    job: Job,
    progress: Progress,
    listener: Listener,
    after_step: Callable[[], None],
    stop_at: int,
    pace: Pace | None,
) -> bool:
    """run_epochs until the number of steps changes: True, and is to be called again; False at the end."""
    per_epoch = job.train.steps(min(job.recipe.batch, len(job.train)))
    begun, first, parts, alone = time.monotonic(), state.step, state.parts, state.alone
    total = progress.steps or job.recipe.epochs * per_epoch
    last = stop_at * per_epoch if stop_at and not progress.steps else total
    early = max(min(EARLY_STEPS, total // 2), round(EARLY * total))
    if state.step >= last:
        return False
    for step in train(state, job.train, job.preprocess, job.recipe, len(job.classes), job.workers, total):
        if step.skipped:
            progress.skipped += 1
            listener(WarningEvent(_skipped(job, step)))
        else:
            progress.loss_sum += float(step.loss)
            progress.correct += int(step.correct)
            progress.count += step.count
        if state.parts != parts:
            parts = state.parts
            listener(WarningEvent(f"not enough memory for a whole batch: from now on in {parts} parts"))
        if state.alone and not alone:
            alone = state.alone
            listener(WarningEvent(f"step {step.number}: {ALONE}"))
        rate = (step.number - first) / max(time.monotonic() - begun, 1e-9)  # steps/s
        listener(_step_event(job, step, progress, per_epoch, last, rate))
        ends, changed = step.number == last, False
        if pace is not None and not ends:
            pace.stepped()
            if ranks.highest(int(pace.over()), state.device):
                ends = progress.over = True
            elif step.number % per_epoch == 0 or step.number == early:
                fitting = -ranks.highest(-pace.fitting(step.number, per_epoch), state.device)  # of the slowest process
                length = pace.length(step.number, last, per_epoch, fitting)
                changed = length != last
                ends = progress.over = length <= step.number
                progress.steps = max(length, step.number) if changed else progress.steps
        if step.number % per_epoch == 0 or ends:
            until = progress.steps or last
            evaluated = ends or step.number > job.recipe.evaluate_from * until
            row = _row(state, job, progress, step, per_epoch, evaluated)
            progress.rows.append(row)
            progress.loss_sum, progress.correct, progress.count, progress.skipped = 0.0, 0, 0, 0
            progress.judge(row)
            listener(EpochEvent(job.label, epochs=-(-until // per_epoch), images_per_s=rate * step.count, **row))
        after_step()
        if pace is not None and (step.number % per_epoch == 0 or ends):
            pace.evaluated()
        if ends:
            return False
        if changed:
            return True
    return False


def _step_event(job: Job, step: Step, progress: Progress, per_epoch: int, last: int, rate: float) -> StepEvent:
    return StepEvent(
        job.label,
        step=step.number,
        steps=last,
        epoch=(step.number - 1) // per_epoch + 1,
        epochs=-(-last // per_epoch),
        images_per_s=rate * step.count,
        loss=progress.loss_sum / max(1, (step.number - 1) % per_epoch + 1 - progress.skipped),
        accuracy=progress.correct / max(1, progress.count),
        seconds_left=(last - step.number) / rate,
    )


def _skipped(job: Job, step: Step) -> str:
    """Which step was passed over, and the first pictures that it held."""
    samples = [] if step.samples is None else step.samples[:3].tolist()
    names = ", ".join(job.train.split.paths[i] for i in samples)
    return f"the loss of step {step.number} is not finite: passed over ({names}, ...)"


def _row(state: State, job: Job, progress: Progress, step: Step, per_epoch: int, evaluated: bool) -> dict[str, Any]:
    """One row of metrics.jsonl; the validation numbers are null in an epoch that was not evaluated."""
    crashpoint("epoch.before_evaluate")
    val_accuracy = val_loss = val_score = None
    if evaluated:
        best = ready_best(state, job.train, job.preprocess, job.recipe, len(job.classes))
        found = settle_statistics(
            best, state.quiet_norms, state.model, job.train, job.val, job.preprocess, job.recipe, len(job.classes)
        )
        logits, labels, progress.statistics = found.logits.numpy(), labels_of(job.val), found.statistics
        val_accuracy, val_loss = accuracy(logits, labels), cross_entropy(logits, labels)
        val_score = score(job.recipe.metric, logits, labels, job.classes)
        if not math.isfinite(val_loss):
            text = f"the validation loss is {val_loss} after step {step.number}; lower optim.lr"
            raise FoveateError(f"{text} (now {job.recipe.optim.lr:g})")
    crashpoint("epoch.after_evaluate")
    steps = (step.number - 1) % per_epoch + 1  # of this epoch, which the time may have cut
    return {
        "epoch": -(-step.number // per_epoch),
        "step": step.number,
        "lr": step.lr,
        "loss": progress.loss_sum / max(1, steps - progress.skipped),
        "train_accuracy": progress.correct / max(1, progress.count),
        "val_accuracy": val_accuracy,
        "val_loss": val_loss,
        **({} if job.recipe.metric == "accuracy" else {"val_score": val_score}),
    }


def run_training(
    folder: Path,
    state: State,
    job: Job,
    listener: Listener,
    stop: Stop,
    *,
    resume: bool,
    every_s: float = 60.0,
    pace: Pace | None = None,
) -> Progress:
    """Train in a run folder: best/ and last/ model folders, metrics.jsonl, state/ checkpoints.

    A checkpoint is written at the start, after every epoch, every `every_s` seconds, and when a signal asks to stop
    (then Interrupted is
    raised). pace: see run_epochs. resume continues from the newest whole one, bit-identically on the CPU.
    """
    saved, main = folder / "state", ranks.rank() == 0
    if main:
        sweep(folder)
        for name in ("best", "last"):
            recover_folder(folder / name)
    warn = lambda text: listener(WarningEvent(text))  # noqa: E731
    progress = checkpoint.restore(saved, state, warn) if resume else Progress()
    if main and not resume:
        saved.mkdir(exist_ok=True)
        checkpoint.save(saved, state, progress)
    if main:
        _write_rows(folder, progress)
    clock = time.monotonic()

    def after_step() -> None:
        nonlocal clock
        crashpoint("step")
        rows = progress.rows
        epoch_done = bool(rows) and rows[-1]["step"] == state.step
        stopped = ranks.highest(stop.signal, state.device)
        if epoch_done and main:
            if progress.best_epoch == rows[-1]["epoch"]:
                write_folder(folder / "best", _model(state, job, rows[-1]))
            write_folder(folder / "last", _model(state, job, rows[-1]))
            _write_rows(folder, progress)
        if main and (epoch_done or stopped or time.monotonic() - clock > every_s):
            checkpoint.save(saved, state, progress)
            clock = time.monotonic()
        if stopped:
            text = f"stopped at step {state.step} and saved; go on with: foveate train --resume {folder}"
            raise Interrupted(text, exit_code(stopped))

    run_epochs(state, job, progress, listener, after_step, pace=pace)
    if progress.best_epoch == 0:
        raise FoveateError(f"{folder}: no epoch was finished")
    return progress


def _write_rows(folder: Path, progress: Progress) -> None:
    lines = (to_json(row).replace("\n", " ").replace("  ", "").strip() for row in progress.rows)
    write_text(folder / "metrics.jsonl", "".join(line + "\n" for line in lines))


def _model(state: State, job: Job, row: Mapping[str, Any]) -> dict[str, bytes]:
    model, value = state.best, row["val_accuracy"]
    data, seed = str(job.provenance["data"]), job.recipe.seed
    metrics: tuple[Metric, ...] = ()
    if value is not None:
        metrics = (Metric(name="accuracy", value=value, n=len(job.val), split="val", data=data, seed=seed),)
    card = ModelCard(model.config, job.classes, job.preprocess, {**job.provenance, "epoch": row["epoch"]}, metrics)
    return model_files(card, model.state_dict())
