"""A look at a few pictures of a data set: how large they are, whether they have colour."""

import numpy as np

from foveate.data.index import Dataset, Split
from foveate.errors import DataError


def store_side(size: int, dataset: Dataset) -> int:
    """Side of the stored training squares: the training size where pictures are small, a margin of 1/7 for crops
    where they are large.
    """
    return size if is_small(dataset) else round(size * 8 / 7)


def is_small(dataset: Dataset) -> bool:
    """Whether the pictures are thumbnails (64 pixels or less): judged on the first ones of the training split."""
    return max(max(side for side in shape) for shape in sample_shapes(dataset.splits["train"])) <= 64


def sample_shapes(split: Split, count: int = 8) -> list[tuple[int, int]]:
    """(width, height) of a few pictures, from their headers."""
    if split.pixels is not None:
        return [(split.pixels.shape[2], split.pixels.shape[1])]
    from foveate.data.read.formats import probe

    step = max(1, len(split) // count)
    headers = [probe(path) for path in split.paths[::step][:count]]
    return [(h.width, h.height) for h in headers]


def is_grey(dataset: Dataset) -> bool:
    """Whether the first pictures have no colour: scans of digits or letters, which must not be mirrored."""
    return all(
        (p[..., 0] == p[..., 1]).all() and (p[..., 1] == p[..., 2]).all()
        for p in some_pictures(dataset.splits["train"], 8)
    )


def some_pictures(split: Split, count: int) -> list[np.ndarray]:
    """Some pictures of a split as they are, uint8 (H, W, 3), spread evenly; a file that can not be read any more is
    passed over.
    """
    from foveate.data.read.decode import decode

    found = []
    for i in range(0, len(split), max(1, len(split) // count)):
        try:
            found.append(split.pixels[i] if split.pixels is not None else decode(split.paths[i]))
        except DataError:
            continue
    return found[:count]
