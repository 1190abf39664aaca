"""What is read from a finished training for a table: the table MEASURES, (folder, result.json) -> a number.

A training whose loss became infinite counts as guessing: it is a result of the setting that was tried, not a gap. None:
there is no such number, and the seed is left out of the contrast.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from foveate.config import parse_json
from foveate.files import read_lines
from foveate.workflows.papers.table import POINTS

Epochs = Sequence[Mapping[str, Any]]


class Measure(NamedTuple):
    """read: of result.json and the epochs. guess: what a training that broke off counts as, of so many classes."""

    unit: str
    read: Callable[[Mapping[str, Any], Epochs], float]
    guess: Callable[[int], float | None]


def chance(classes: int) -> float:
    """Accuracy of guessing, in points."""
    return 100 / classes


MEASURES: Mapping[str, Measure] = {
    "accuracy": Measure(POINTS, lambda r, e: 100 * r["accuracy"], chance),
    "last_epoch": Measure(POINTS, lambda r, e: 100 * e[-1]["val_accuracy"], chance),
    "first_epoch": Measure(POINTS, lambda r, e: 100 * e[0]["val_accuracy"], chance),
    "train_loss": Measure("nats", lambda r, e: e[-1]["loss"], lambda classes: math.log(classes)),
    "calibration_error": Measure(POINTS, lambda r, e: 100 * r["ece"], lambda classes: None),
    "val_loss": Measure("nats", lambda r, e: e[-1]["val_loss"], lambda classes: math.log(classes)),
}


def read(name: str, folder: Path, result: Mapping[str, Any], classes: int) -> float | None:
    """The measure of one trial; None where it failed for another reason than its loss."""
    measure = MEASURES[name]
    if result["failed"] is not None:
        return measure.guess(classes) if "not finite" in result["failed"] else None
    epochs = [parse_json(line, "metrics.jsonl") for line in read_lines(folder / "metrics.jsonl")]
    epochs = [e for e in epochs if "val_accuracy" in e or name == "train_loss"]
    if not epochs and name not in ("accuracy", "calibration_error"):
        return None
    return float(measure.read(result, epochs))
