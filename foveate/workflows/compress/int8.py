"""A step in int8: the network of the step above as a quantised file, kept only where it is faster and loses little."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from foveate.data.sample import some_pictures
from foveate.deploy.beside import beside, in_turns, own_ms
from foveate.deploy.compare import MARGIN
from foveate.deploy.measure import session_in
from foveate.deploy.subject import Subject
from foveate.deploy.targets import TARGETS, target_of
from foveate.errors import FoveateError
from foveate.events import StageEvent, WarningEvent
from foveate.runs.finish import INT8, named, session_logits
from foveate.train.artefact import load_model
from foveate.workflows.compress.compression_run import CompressionRun
from foveate.workflows.compress.goal import INT8_METHOD
from foveate.workflows.compress.step import evaluate_splits, save

CALIBRATION = 200  # training pictures
MAX_DROP = 1.0  # points of validation accuracy that int8 may lose, where --max-drop says nothing
COUNTS = ("macs", "params")  # what int8 does not change


def why_missing(runtime: str) -> str | None:
    """Why int8 can not be made for a runtime here, with the extra to install."""
    return TARGETS[target_of(runtime, INT8_METHOD)].missing()


def quantise_step(run: CompressionRun, above: Mapping[str, Any], number: int) -> dict[str, Any]:
    """The int8 form of a step, measured as a file and saved beside the float weights; returns its row.

    `kept` of the row: whether it is faster than the step above by more than MARGIN and within the accuracy that may be
    lost; `why` says by what it failed. FoveateError where the runtime can not quantise the network.
    """
    begun, plan, goal = time.monotonic(), run.plan, run.goal
    run.listener(StageEvent(f"step {number}: int8 of step {above['step']}"))
    model, _ = load_model(above["run"])
    allowed = MAX_DROP if goal.max_drop is None else goal.max_drop
    target = TARGETS[target_of(plan.budget.runtime, INT8_METHOD)]
    subject = Subject(
        model,
        plan.preprocess,
        run.job.classes,
        plan.threads or 1,
        calibration=some_pictures(run.dataset.splits["train"], CALIBRATION),
        min_agreement=1 - allowed / 100,
        features=True,
        told=lambda text: run.listener(StageEvent(f"  {text}")),
    )
    files = target.make(subject)
    session = target.open(files, subject.threads)
    row = evaluate_splits(run, lambda pictures: session_logits(session, pictures))
    exact = session_in(plan.budget.runtime, subject.onnx, subject.threads)
    before, after = in_turns(exact, session, subject)
    quick = beside(above["latency_ms"], before, after, subject.threads)
    row |= {
        "macs": above["macs"],
        "params": above["params"],
        "latency_ms": quick.median_ms,
        "latency_p10_ms": quick.p10_ms,
        "latency_p90_ms": quick.p90_ms,
        "size_bytes": sum(map(len, files.values())),
    }
    lost = 100 * (above["val_accuracy"] - row["val_accuracy"])
    why = ""
    exact_ms, quick_ms = (own_ms(timing, subject.threads) for timing in (before, after))
    if quick_ms > (1 - MARGIN) * exact_ms:
        why = f"not faster: {quick_ms:.3g} against {exact_ms:.3g} ms, in turns"
    elif lost > allowed + 1e-9:
        why = f"loses {lost:.2g} points of validation accuracy, {allowed:g} may go"
    row |= {"kept": not why, "why": why, "seconds": time.monotonic() - begun, "curves": []}
    return save(run, model, number, INT8_METHOD, row, named(INT8, files))


def try_int8(run: CompressionRun, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The int8 form of the last step, on the way to a latency or a size by method auto; None where it has one already,
    or none can be made, which is said.
    """
    goal, last = run.goal, rows[-1]
    if goal.method != "auto" or goal.target is None or goal.kind in COUNTS or last["method"] == INT8_METHOD:
        return None
    if why_missing(run.plan.budget.runtime) is not None:
        return None
    try:
        row = quantise_step(run, last, len(rows))
    except FoveateError as error:
        run.listener(WarningEvent(f"no int8 of step {last['step']}: {error}"))
        return None
    if row["why"]:
        run.listener(StageEvent(f"  int8 is not kept: {row['why']}"))
    return row
