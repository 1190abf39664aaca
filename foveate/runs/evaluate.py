"""A model folder judged on labelled pictures."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np

from foveate.config import parse_json, replace
from foveate.data.labelled import Labelled, open_labelled
from foveate.data.load import evaluation_pictures
from foveate.data.preprocess import Preprocess, at_resolution
from foveate.deploy.classifier import find_folder
from foveate.deploy.effort import check_effort, warn
from foveate.errors import ConfigError
from foveate.events import silent
from foveate.runs.judged import check_classes, sentence
from foveate.runs.setup import read
from foveate.train import ranks
from foveate.train.trusted import PLAIN
from foveate.train.views import Viewer, ten_crops
from foveate.trust.scores import scores_of


@dataclass(frozen=True)
class Evaluation:
    """How good a model is on labelled pictures. Shares are 0 to 1, intervals (low, high) are Wilson's at 95 %."""

    judged: str  # which pictures, in a sentence
    model: str  # its folder
    data: str
    split: str
    n: int  # pictures
    correct: int
    accuracy: float
    interval: tuple[float, float]
    top5: float
    macro_f1: float
    balanced_accuracy: float  # mean of the classes' accuracies
    ece: float  # expected calibration error of the scaled probabilities
    brier: float  # 0 to 2, less is better
    per_class: Sequence[Mapping[str, object]]  # {class, n, correct, accuracy, interval, precision}
    confusion: Sequence[Sequence[int]]  # rows true, columns predicted, in the order of the model's classes
    notes: Sequence[str]
    as_json: Mapping[str, object] = field(repr=False)  # all that `foveate eval --json` prints

    def __repr__(self) -> str:
        low, high = self.interval
        return f"<Evaluation {self.accuracy:.4f} ({low:.4f} to {high:.4f}), n = {self.n:,}: {self.judged}>"


def evaluate(
    model: str | Path,
    data: str | Path,
    *,
    split: str | None = None,
    bad_files: Literal["stop", "skip"] = "stop",
    follow_links: bool = False,
    views: Literal["one", "mirror", "shifts"] = "one",
    resolution: int | None = None,
    tell: Callable[[str], None] = warn,
) -> Evaluation:
    """How good a model is on labelled pictures: accuracy with its interval, every class, confusion.

    model: a model folder, or a run folder (then its best/). Everything else, and what is raised: evaluate_model.
    Under torchrun every process gets the result.

        fv.eval("runs/photos-1", "photos", split="test").accuracy   # 0.97
    """
    folder = find_folder(model)
    options: dict[str, Any] = {"bad_files": bad_files, "follow_links": follow_links, "views": views}
    with ranks.joined("cpu"):
        found = ranks.agreed(evaluate_model(folder, data, split=split, resolution=resolution, tell=tell, **options))
    typed = {f.name: found[f.name] for f in fields(Evaluation) if f.name != "as_json"}
    return Evaluation(**{**typed, "interval": tuple(found["interval"])}, as_json=found)


def evaluate_model(
    folder: str | Path,
    data: str | Path,
    *,
    split: str | None = None,
    bad_files: str = "stop",
    follow_links: bool = False,
    views: str = "one",
    crops: int = 1,
    resolution: int | None = None,
    tell: Callable[[str], None] = warn,
) -> dict[str, Any]:
    """A model folder on labelled pictures: accuracy with its interval, classes, confusion. Classes go by name.

    split: train, val, test (and their other names) or all; None: what open_labelled chooses, told under "judged".
    views: "mirror" or "shifts" average over several views of each picture. resolution: pixels in place of the model's
    own; often a little more than in training is better (arXiv:1906.06423). crops: 10 averages over the corners and the
    middle of the resized picture and their mirror images (train/views.py); such a result is not to be compared with
    those of one crop. tell: hears what a picture costs where that
    is much; else a warning.
    Raises DataError for a class that the model does not know, and for a split that the data has not.
    """
    from foveate.deploy.predictor import require_finite
    from foveate.train.artefact import load_model
    from foveate.train.evaluate import labels_of, metrics, shared_logits

    with ranks.joined("cpu"):
        model, card = load_model(Path(folder))
        seeds = [metric.seed for metric in card.metrics if metric.seed is not None]
        trained_on = str(card.provenance.get("fingerprint") or "")
        labelled = open_labelled(
            data, split, bad_files=bad_files, follow_links=follow_links, trained_on=trained_on, seeds=seeds
        )
        check_classes(labelled, card.classes, data)
        place = [card.classes.index(name) for name in labelled.classes]
        preprocess = at_resolution(card.preprocess, resolution) if resolution else card.preprocess
        named = resolution is not None
        check_effort(model, card.architecture, preprocess, str(folder), named=named, tell=tell)
        whole, seen = wider(preprocess, crops, views)
        pictures = read(evaluation_pictures(labelled.samples, whole), bad_files, silent)
        logits = shared_logits(model, pictures, preprocess, views=seen)
        require_finite(logits, preprocess, str(folder))
        labels = np.array(place)[labels_of(pictures)]
        trust = card.trust or PLAIN
        found = metrics(trust.scaled(logits), labels, card.classes, labelled.split) | scores_of(logits, labels, trust)
        main = ranks.rank() == 0
    counts = dict(zip(card.classes, np.bincount(labels, minlength=len(card.classes)).tolist(), strict=True))
    about = {
        "judged": sentence(labelled, counts),
        "model": str(folder),
        "data": labelled.name,
        "fingerprint": labelled.fingerprint,
        "views": views,
        "crops": crops,
        "resolution": preprocess.resolution,
        "temperature": trust.temperature,
        "classes_missing": [name for name in card.classes if not counts.get(name)],
        "notes": [note for note in labelled.notes if "bad files" in note]
        + _same_place(folder, labelled, trained_on, data),
    }
    return {**about, **found} if main else {}


def wider(preprocess: Preprocess, crops: int, views: str) -> tuple[Preprocess, str | Viewer]:
    """How pictures are prepared for so many crops, and what is then seen of them.

    ConfigError for another number than 1 or 10, for crops and views at once, and where there is nothing to cut from.
    """
    if crops == 1:
        return preprocess, views
    if crops != 10:
        raise ConfigError(f"--crops {crops}: expected 1 or 10")
    if views != "one":
        raise ConfigError(f"--crops 10 holds mirror images already: leave out --views {views}")
    if preprocess.fit != "crop" or preprocess.resize <= preprocess.resolution:
        raise ConfigError(
            f"--crops 10: this model sees the whole picture ({preprocess.fit}, {preprocess.resize} to"
            f" {preprocess.resolution} pixels), so there are no corners to cut; leave it out"
        )
    return replace(preprocess, resolution=preprocess.resize), ten_crops(preprocess.resolution)


def _same_place(folder: str | Path, labelled: Labelled, trained_on: str, data: str | Path) -> list[str]:
    """A note where the run took its pictures from this very place, which has changed since."""
    recipe = Path(folder).absolute().parent / "recipe.json"
    if labelled.fingerprint == trained_on or not recipe.is_file():
        return []
    source = parse_json(recipe.read_bytes(), str(recipe)).get("data")
    if not isinstance(source, str) or os.path.realpath(source) != os.path.realpath(data):
        return []
    return ["the model learned from this place, which has changed since: training pictures may be among these"]
