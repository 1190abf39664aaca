"""Pictures that are in memory, with their labels, as the data set that training works on."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from foveate.data.holdout import hold_out
from foveate.data.index import Dataset, Split, subset
from foveate.data.picture import Picture, as_pixels
from foveate.errors import DataError

VAL = 0.1  # of the pictures, for the best epoch


@dataclass(frozen=True)
class Pictures:
    """What an X of scikit-learn became."""

    pictures: list[Picture]
    pixels: np.ndarray | None  # uint8 (n, h, w, 3), of arrays
    range: tuple[float, float] | None  # of the numbers that became 0 and 255; None: they were bytes
    features: int  # numbers a picture; 0 for pictures of any size
    side: int  # the longer side in pixels of arrays; of others that of the first


def pictures_of(
    x: Any,
    estimator: object,
    *,
    shape: tuple[int, int] | None,
    fitting: bool,
    scale: tuple[float, float] | None = None,
) -> Pictures:
    """X as pictures. ValueError, as scikit-learn words it, for what is none. scale: the range of an earlier fit."""
    if is_pictures(x):
        found = list(x)
        try:
            first = as_pixels(found[0]).shape[:2]
        except (DataError, OSError) as error:
            raise ValueError(f"FoveateClassifier: {error}") from error
        return Pictures(found, None, None, 0, max(first))
    from sklearn.utils.validation import check_array, validate_data

    if deep(x):
        array = check_array(x, allow_nd=True, estimator=estimator)
    else:
        array = validate_data(estimator, x, reset=fitting)
    features = int(np.prod(array.shape[1:]))
    if array.ndim > 2 and not fitting and getattr(estimator, "n_features_in_", features) != features:
        expected = getattr(estimator, "n_features_in_", features)
        raise ValueError(f"X has {features} features, but FoveateClassifier is expecting {expected} features as input")
    if np.iscomplexobj(array):
        raise ValueError("Complex data not supported: a picture has real numbers")
    bounds = None
    if array.dtype != np.uint8:  # before rows are filled up: what fills them is not of the pictures
        bounds = (float(array.min()), float(array.max())) if fitting or scale is None else scale
        low, high = bounds
        unit = (array.astype(np.float64) - low) / ((high - low) or 1.0)
        array = (unit * 255).round().clip(0, 255).astype(np.uint8)
    if array.ndim == 2:
        array = as_squares(array, shape)
    if array.ndim == 3:
        array = array[..., None]
    if array.ndim != 4 or array.shape[3] not in (1, 3):
        raise ValueError(f"X of shape {np.shape(x)}: expected (n, h, w), (n, h, w, 3) or rows (n, features)")
    pixels = np.ascontiguousarray(np.repeat(array, 3, axis=3) if array.shape[3] == 1 else array)
    return Pictures(list(pixels), pixels, bounds, features, max(pixels.shape[1:3]))


def deep(x: Any) -> bool:
    """Whether an array, or a list of arrays of one shape, has more than rows and columns."""
    if isinstance(x, (list, tuple)):
        return bool(x) and getattr(x[0], "ndim", 0) > 1
    return getattr(x, "ndim", 0) > 2


def is_pictures(x: Any) -> bool:
    """Whether it is a list (or an array of texts) of paths, bytes, arrays of their own size, or PIL images."""
    if isinstance(x, np.ndarray) and x.dtype.kind == "U":
        return x.ndim == 1 and len(x) > 0
    if not isinstance(x, (list, tuple)) or not len(x):
        return False
    first = x[0]
    if isinstance(first, (str, Path, bytes)) or hasattr(first, "getbands"):
        return True
    return isinstance(first, np.ndarray) and first.ndim > 1 and len({np.shape(p) for p in x}) > 1


def as_squares(rows: np.ndarray, shape: tuple[int, int] | None) -> np.ndarray:
    """Bytes (n, features) -> (n, h, w): of `shape`, else the smallest square, filled up with 0."""
    n, features = rows.shape
    if shape is not None:
        if shape[0] * shape[1] != features:
            raise ValueError(f"X has {features} features a row; shape {shape} takes {shape[0] * shape[1]}")
        return rows.reshape(n, *shape)
    side = int(np.ceil(np.sqrt(features)))
    filled = np.zeros((n, side * side), rows.dtype)
    filled[:, :features] = rows
    return filled.reshape(n, side, side)


def dataset_of(seen: Pictures, index: np.ndarray, classes: tuple[str, ...], seed: int, scratch: Path) -> Dataset:
    """Train and val, stratified by the seed; where there are too few pictures for val, train stands for it.

    index: class of each picture, from 0. scratch: an empty folder, for pictures that are in no file.
    """
    labels = tuple(int(i) for i in index)
    paths = tuple(f"arrays/{i:06d}" for i in range(len(labels)))
    if seen.pixels is None:
        paths = tuple(stored(picture, scratch / f"{i:06d}.png") for i, picture in enumerate(seen.pictures))
    whole = Split(paths, labels, seen.pixels)
    places = np.array(hold_out(list(labels), range(len(labels)), {"val": VAL}, seed))
    train, val = (np.flatnonzero(places == name) for name in ("train", "val"))
    if not len(val) or len(set(index[train].tolist())) < len(classes):
        splits = {"train": whole, "val": whole}
    else:
        splits = {"train": subset(whole, train), "val": subset(whole, val)}
    return Dataset("arrays", "", classes, splits, (), "", ())


def stored(picture: Picture, place: Path) -> str:
    """The path of a picture: its own, or of a PNG file that is written now."""
    if isinstance(picture, (str, Path)):
        return str(Path(picture).absolute())
    from PIL import Image

    Image.fromarray(as_pixels(picture)).save(place, compress_level=1)
    return str(place)
