"""What the pictures of a data set call for: how large they are, how they are stored and prepared."""

from typing import Any

from foveate.config import override, replace
from foveate.data.index import Dataset, Split
from foveate.data.preprocess import Preprocess


def default_preprocess(config: Any, dataset: Dataset, weights: str | None) -> Preprocess:
    """What published weights want; else the network's resolution: whole small pictures, centre crops of photographs."""
    from foveate.zoo.weights import weights_info

    if weights is not None and (info := weights_info(config, weights)):
        return Preprocess(**info)
    size = config.resolution
    if is_small(dataset):
        return Preprocess(resolution=size, resize=size, fit="squash")
    return Preprocess(resolution=size, resize=round(size * 8 / 7))


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
