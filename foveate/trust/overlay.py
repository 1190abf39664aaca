"""A heat map laid on the picture as a person sees it: resize, crop and bars undone."""

import numpy as np

from foveate.data.preprocess import Preprocess, crop_box, resized_size

LONGEST = 640  # pixels of the overlay's long side
OPACITY = 0.7


def on_picture(values: np.ndarray, width: int, height: int, p: Preprocess) -> tuple[np.ndarray, np.ndarray]:
    """(map, whether the network saw it), both (height, width), of a map (h, w) over the network's square input.

    Bilinear with the same middles of pixels. width, height: the picture's, or of a smaller copy of the same shape.
    """
    w, h = resized_size(width, height, p)
    left, top, _, _ = crop_box(w, h, p)
    rows = (np.arange(height) + 0.5) * h / height - top  # in pixels of the network's input
    columns = (np.arange(width) + 0.5) * w / width - left
    seen = ((rows >= 0) & (rows < p.resolution))[:, None] & ((columns >= 0) & (columns < p.resolution))[None]
    grown = _along(_along(values.astype(np.float64), rows / p.resolution, 0), columns / p.resolution, 1)
    return np.where(seen, grown, 0.0), seen


def _along(values: np.ndarray, at: np.ndarray, axis: int) -> np.ndarray:
    """Linear interpolation along an axis at places from 0 to 1; beyond the middles of the outermost cells, these."""
    n = values.shape[axis]
    place = np.clip(at * n - 0.5, 0, n - 1)
    low = np.minimum(place.astype(int), max(n - 2, 0))
    part = (place - low).reshape([-1 if i == axis else 1 for i in range(2)])
    below, above = np.take(values, low, axis), np.take(values, np.minimum(low + 1, n - 1), axis)
    grown: np.ndarray = below + part * (above - below)
    return grown


def overlay(pixels: np.ndarray, values: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """uint8 (H, W, 3): the picture in grey, what speaks for the class in colour (purple little, yellow most, told apart
    by lightness too), what the network did not see darkened.

    values: (H, W), shown from 0 to their 99 % quantile; without any above 0 there is no colour.
    """
    from matplotlib import colormaps

    positive = values[values > 0]
    top = float(np.quantile(positive, 0.99)) if positive.size else 1.0
    share = np.clip(values / max(top, 1e-12), 0, 1)
    grey = pixels.astype(np.float64) @ (0.299, 0.587, 0.114)
    colour = colormaps["plasma"](share)[..., :3] * 255
    strength = OPACITY * np.sqrt(share)[..., None] * (share > 0)[..., None]
    mixed = grey[..., None] * (1 - strength) + colour * strength
    return np.rint(np.where(seen[..., None], mixed, 0.4 * mixed)).astype(np.uint8)
