"""What the pictures of a data set call for: how large they are, how they are stored and prepared."""

from typing import Any

import numpy as np

from foveate.config import override, replace
from foveate.data.index import Dataset, Split
from foveate.data.preprocess import Preprocess
from foveate.errors import DataError


def default_preprocess(name: str, config: Any, dataset: Dataset, weights: str | None) -> Preprocess:
    """What published weights want; else the network's resolution: whole small pictures, centre crops of photographs.

    name: the variant that config is of, if any. A file of weights is taken for the public ones of it (Published).
    """
    from foveate.zoo import list_models
    from foveate.zoo.catalogue import published
    from foveate.zoo.weights import weights_info

    if weights is not None and (info := weights_info(config, weights)):
        return Preprocess(**info)
    size, small = config.resolution, is_small(dataset)
    if small:
        ours = Preprocess(resolution=size, resize=size, fit="squash")
    else:
        ours = Preprocess(resolution=size, resize=round(size * 8 / 7))
    if weights is None or name not in list_models() or (known := published(name)) is None:
        return ours
    theirs = replace(ours, kernel=known.interpolation, mean=known.mean, std=known.std)
    if small:
        return theirs
    return at_resolution(replace(theirs, resolution=known.resolution, resize=known.resize), size)


def at_resolution(p: Preprocess, size: int) -> Preprocess:
    """The same preprocessing at another resolution; a centre crop keeps the same share of the picture."""
    resize = max(size, round(p.resize * size / p.resolution)) if p.fit == "crop" else size
    return replace(p, resolution=size, resize=resize)


def with_change(p: Preprocess, text: str) -> Preprocess:
    """One "key=value"; a new resolution takes its resize along."""
    key, _, value = text.partition("=")
    return at_resolution(p, int(value)) if key == "resolution" and value.isdigit() else override(p, [text])


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
    from foveate.data.formats import probe

    step = max(1, len(split) // count)
    headers = [probe(path) for path in split.paths[::step][:count]]
    return [(h.width, h.height) for h in headers]


def recipe_name(dataset: Dataset, weights: str | None) -> str:
    """Which recipe these pictures call for."""
    if weights is not None:
        return "finetune"
    if not is_small(dataset):
        return "baseline"
    return "small_pictures" if is_grey(dataset) else "cifar_standard"


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
    from foveate.data.decode import decode

    found = []
    for i in range(0, len(split), max(1, len(split) // count)):
        try:
            found.append(split.pixels[i] if split.pixels is not None else decode(split.paths[i]))
        except DataError:
            continue
    return found[:count]
