"""The pictures of an experiment: all of a data set, or a part of a large one as a list (CSV) in the run's folder."""

from pathlib import Path

import numpy as np

from foveate.data.index import Dataset, Split
from foveate.data.sample import sample_shapes
from foveate.data.split import csv_bytes
from foveate.files import write_bytes
from foveate.recipes.adapt import mirrored_differs
from foveate.workflows.papers.scale import MOST_VAL, Pool, Scale

LIST = "pictures.csv"


def pool_of(dataset: Dataset) -> Pool:
    """How many pictures there are. A part of built-in pictures can not be listed, for they are no files."""
    train, val, test = (len(dataset.splits[n]) if n in dataset.splits else 0 for n in ("train", "val", "test"))
    return Pool(train, val, test or val, cut=dataset.splits["train"].pixels is None)


def side_of(dataset: Dataset) -> int:
    """The longer side of the pictures, in pixels, judged on the first ones."""
    return max(max(shape) for shape in sample_shapes(dataset.splits["train"]))


def mirrored(dataset: Dataset) -> bool:
    """Whether a mirrored picture is of the same class, as far as the names of the classes tell."""
    return not mirrored_differs(dataset.classes)


def write_part(dataset: Dataset, scale: Scale, folder: Path) -> str:
    """DATA for the trainings: the list of a part of the pictures, the same for every seed, or the data as it was given.

    Every class keeps its share. The pictures are drawn with a fixed number: a larger part holds the smaller one.
    """
    wanted = {"train": scale.pictures, "val": min(MOST_VAL, len(dataset.splits["val"])), "test": scale.test}
    rows = []
    for name, split in dataset.splits.items():
        for i in drawn(split, wanted.get(name, 0)):
            rows.append((split.paths[i], dataset.classes[split.labels[i]], name, ""))
    write_bytes(folder / LIST, csv_bytes(rows, folder))
    return str(folder / LIST)


def drawn(split: Split, count: int) -> list[int]:
    """Indices of about so many samples, the same share of every class; 0: all."""
    if not 0 < count < len(split):
        return list(range(len(split)))
    labels, random = np.array(split.labels), np.random.default_rng(0)
    chosen: list[int] = []
    for label in np.unique(labels):
        of_class = random.permutation(np.flatnonzero(labels == label))
        chosen += of_class[: max(1, round(count * len(of_class) / len(split)))].tolist()
    return sorted(chosen)
