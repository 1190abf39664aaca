"""Near duplicates: the same picture re-encoded, resized or mirrored.

Two pictures are the same when their 16 x 16 colour thumbnails differ by at most MAX_RMS levels and MAX_SHARE of their
contrast. All such pairs are found, without comparing all: a pair that close is as close in any orthonormal projection,
and a k-d tree holds twelve of them (the ten lowest cosine frequencies of grey, two of colour). A hash of signs (pHash)
would lose symmetric pictures, half of whose frequencies are zero and change sign with every encoding.
Crops, turns by 90 degrees and other shots of the same thing are not found.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from foveate.data.holdout import alike

if TYPE_CHECKING:
    from PIL import Image

SIDE = 16  # pixels of a thumbnail
# Different pictures begin at 7.7 levels in 3,781 photos of clothes and at 7.5 in 1,797 scanned digits. Copies of 150
# photos in half to an eighth of the size stay below 3.3 levels, those at JPEG quality 10 below 4.7 and mostly 0.12.
MAX_RMS, MAX_SHARE = 5.0, 0.12
MIN_CONTRAST = 4.0  # below this a thumbnail is of one colour and like all others of that colour
_CHUNK, _BLOCK = 256, 8192  # pictures asked for, pairs compared at a time


def thumbnail(picture: "np.ndarray | Image.Image") -> np.ndarray:
    """An RGB image, or uint8 (H, W, 3) -> uint8 (SIDE, SIDE, 3), squashed by an antialiased kernel."""
    from PIL import Image

    image = Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture
    # the gap lets PIL shrink large pictures by whole blocks first: as exact as needed here, and much faster
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BILINEAR, reducing_gap=4.0))


def contrasts(thumbnails: np.ndarray) -> np.ndarray:
    """uint8 (N, SIDE, SIDE, 3) -> float32 (N,): the standard deviation of the strongest channel, in levels."""
    return thumbnails.reshape(-1, SIDE * SIDE, 3).std(axis=1, dtype=np.float32).max(axis=1)


def near_groups(thumbnails: np.ndarray) -> list[list[int]]:
    """The sets of two or more thumbnails uint8 (N, SIDE, SIDE, 3) that are joined by pairs of the same picture."""
    seen = np.flatnonzero(contrasts(thumbnails) >= MIN_CONTRAST)
    thumbs = thumbnails[seen]
    limit = np.minimum(MAX_RMS, MAX_SHARE * contrasts(thumbs)) ** 2
    group = np.arange(len(seen))
    for left, right, flip in _candidates(thumbs):
        apart = group[left] != group[right]  # in a video all are joined soon, and few are compared
        left, right = left[apart], right[apart]
        other = thumbs[right][:, :, ::-1] if flip else thumbs[right]
        gap = np.square(thumbs[left].astype(np.float32) - other).mean(axis=(1, 2, 3))
        same = gap <= np.minimum(limit[left], limit[right])
        if same.any():
            group = _joined(group[left[same]], group[right[same]], len(seen))[group]
    return [seen[members].tolist() for members in alike(int(number) + 1 for number in group)]


def _joined(left: np.ndarray, right: np.ndarray, n: int) -> np.ndarray:
    """Pairs of n nodes -> (n,): the number of the connected component of each node."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(len(left), np.int8), (left, right)), shape=(n, n))
    return connected_components(graph, directed=False)[1]


def _candidates(thumbs: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, bool]]:
    """Pairs (left < right, right is mirrored) that may be the same, in blocks. No pair that is the same is missing."""
    from sklearn.neighbors import KDTree

    if len(thumbs) < 2:
        return
    tree = KDTree(_projections(thumbs))
    for flip in (False, True):
        points = _projections(thumbs[:, :, ::-1] if flip else thumbs)
        for start in range(0, len(points), _CHUNK):
            found = tree.query_radius(points[start : start + _CHUNK], MAX_RMS * np.sqrt(3) * SIDE)
            left = np.repeat(np.arange(start, start + len(found)), [len(f) for f in found])
            right = np.concatenate(found)
            left, right = left[left < right], right[left < right]
            for block in range(0, len(left), _BLOCK):
                yield left[block : block + _BLOCK], right[block : block + _BLOCK], flip


def _projections(thumbs: np.ndarray) -> np.ndarray:
    """uint8 (N, SIDE, SIDE, 3) -> float32 (N, 12): coordinates along twelve orthonormal vectors."""
    k, x = np.arange(4)[:, None], np.arange(SIDE)[None, :]
    cosines = np.cos(np.pi * k * (2 * x + 1) / (2 * SIDE)) * np.where(k, np.sqrt(2 / SIDE), np.sqrt(1 / SIDE))  # DCT-II
    u, v = np.nonzero(np.add.outer(np.arange(4), np.arange(4)) <= 3)
    grey = np.ones(3) / np.sqrt(3)
    colour = np.array([[1, 0, -1], [1, -2, 1]]) / np.sqrt([[2], [6]])
    out = np.empty((len(thumbs), 12), np.float32)
    for start in range(0, len(thumbs), 4096):
        part = thumbs[start : start + 4096].astype(np.float64)
        out[start : start + 4096, :10] = (cosines @ (part @ grey) @ cosines.T)[:, u, v]
        out[start : start + 4096, 10:] = part.sum(axis=(1, 2)) / SIDE @ colour.T
    return out
