"""A model folder judged on one split of some data."""

from pathlib import Path
from typing import Any

import numpy as np

from foveate.data.index import open_data
from foveate.data.load import evaluation_pictures
from foveate.data.preprocess import at_resolution
from foveate.errors import DataError
from foveate.events import silent
from foveate.runs.setup import read
from foveate.train import ranks


def evaluate_model(
    folder: str | Path,
    data: str | Path,
    *,
    split: str = "test",
    bad_files: str = "stop",
    follow_links: bool = False,
    views: str = "one",
    resolution: int | None = None,
) -> dict[str, Any]:
    """A model folder on one split of data: accuracy with its interval, classes, confusion. Classes are matched by name.

    views: "mirror" or "shifts" average over several views of each picture. resolution: pixels in place of the model's
    own; often a little more than in training is better (arXiv:1906.06423).
    Raises DataError for a class that the model does not know, and for a split that the data has not.
    """
    from foveate.train.artefact import load_model
    from foveate.train.evaluate import labels_of, metrics, shared_logits

    with ranks.joined("cpu"):
        model, card = load_model(Path(folder))
        dataset = open_data(data, bad_files=bad_files, follow_links=follow_links)
        if split not in dataset.splits:
            raise DataError(f'{data}: no split "{split}"; there is {", ".join(dataset.splits)}')
        if unknown := sorted(set(dataset.classes) - set(card.classes)):
            raise DataError(f'{data}: class "{unknown[0]}" is not one of the model\'s {len(card.classes)} classes')
        place = [card.classes.index(name) for name in dataset.classes]
        preprocess = at_resolution(card.preprocess, resolution) if resolution else card.preprocess
        pictures = read(evaluation_pictures(dataset.splits[split], preprocess), bad_files, silent)
        logits = shared_logits(model, pictures, preprocess, views=views)
        found = metrics(logits, np.array(place)[labels_of(pictures)], card.classes, split)
        main = ranks.rank() == 0
    how = {"views": views, "resolution": preprocess.resolution}
    about = {"model": str(folder), "data": dataset.name, "fingerprint": dataset.fingerprint, **how}
    return {**about, **found} if main else {}
