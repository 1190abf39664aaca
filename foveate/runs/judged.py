"""An exported file judged on labelled pictures, without torch; and what is said of the pictures of any judgement."""

from pathlib import Path
from typing import Any

import numpy as np

from foveate.config import near
from foveate.data.gate.walk import some
from foveate.data.labelled import Labelled, open_labelled
from foveate.data.read.formats import BadImage, shown
from foveate.deploy.exported import load_exported
from foveate.errors import DataError
from foveate.train.measures import metrics
from foveate.trust.scores import scores_of

NAMED = 12  # classes of the first line; of more the range of their counts is told


def evaluate_file(
    file: str | Path,
    data: str | Path,
    *,
    split: str | None = None,
    bad_files: str = "stop",
    follow_links: bool = False,
    resolution: int | None = None,
    threads: int = 1,
) -> dict[str, Any]:
    """A .onnx or .xml file that foveate exported on labelled pictures: what evaluate_model says of a model folder.

    The file does the preprocessing itself, so what is judged is what is deployed. A file does not know what it learned
    from: DATA without a test split is taken whole. Arguments, and what is raised: as for evaluate_model.
    """
    model = load_exported(file, threads=threads, resolution=resolution)
    labelled = open_labelled(data, split, bad_files=bad_files, follow_links=follow_links)
    check_classes(labelled, model.classes, data)
    samples, rows, kept, bad = labelled.samples, list[np.ndarray](), list[int](), 0
    for i, path in enumerate(samples.paths):
        try:
            rows.append(model.predict_logits([path if samples.pixels is None else samples.pixels[i]])[0])
        except BadImage:
            if bad_files == "stop":
                raise
            bad += 1
        else:
            kept.append(model.classes.index(labelled.classes[samples.labels[i]]))
    if not rows:
        raise DataError(f"{shown(str(data))}: no picture can be read")
    logits, labels = np.stack(rows), np.array(kept)
    counts = dict(zip(model.classes, np.bincount(labels, minlength=len(model.classes)).tolist(), strict=True))
    trust = model.trust
    about = {
        "judged": sentence(labelled, counts),
        "model": str(file),
        "data": labelled.name,
        "fingerprint": labelled.fingerprint,
        "views": "one",
        "crops": 1,
        "resolution": model.preprocess.resolution,
        "temperature": trust.temperature,
        "classes_missing": [name for name in model.classes if not counts.get(name)],
        "notes": [n for n in labelled.notes if "bad files" in n] + ([f"{bad:,} bad files left out"] if bad else []),
    }
    return (
        about | metrics(trust.scaled(logits), labels, model.classes, labelled.split) | scores_of(logits, labels, trust)
    )


def check_classes(labelled: Labelled, known: tuple[str, ...], data: str | Path) -> None:
    """DataError where the data has classes that the model does not know."""
    unknown = [name for name in labelled.classes if name not in known]
    if not unknown:
        return
    text = f"{shown(str(data))}: class{'es' if len(unknown) > 1 else ''} {some(unknown)} "
    text += f"{'are' if len(unknown) > 1 else 'is'} not among the model's {len(known):,}"
    raise DataError(f"{text}; {shown(near(unknown[0], known))}")


def sentence(labelled: Labelled, counts: dict[str, int]) -> str:
    """ "judged 30 pictures of 2 classes: all of data (ant 15, bee 15)"."""
    held = {name: n for name, n in counts.items() if n}
    total, each = sum(held.values()), sorted(held.values())
    named = ", ".join(f"{shown(name)} {n:,}" for name, n in held.items())
    if len(held) > NAMED:
        named = f"{each[0]:,} to {each[-1]:,} a class"
    pictures, classes = ("picture" if total == 1 else "pictures"), ("class" if len(held) == 1 else "classes")
    return f"judged {total:,} {pictures} of {len(held):,} {classes}: {shown(labelled.what)} ({named})"
