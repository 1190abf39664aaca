"""Generated pictures of circles, squares and triangles on a textured ground: every truth about them is known exactly.

For classes, boxes, masks and label maps at once, where no data set is at hand: a small check that a detector learns.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from foveate.data.random import uniforms
from foveate.errors import ConfigError

SHAPES = ("circle", "square", "triangle")
_CORNERS = {"square": 4, "triangle": 3}
_MOST, _TRIES = 4, 20  # shapes a picture; places tried for each
_GROUND, _NOISE, _SHAPE = 0, 1, 2  # streams of random numbers; shape i has _SHAPE + i


@dataclass(frozen=True)
class Scene:
    """One picture and the truth about it. No two shapes overlap; each lies inside the picture as a whole."""

    picture: np.ndarray  # uint8 (side, side, 3)
    labels: np.ndarray  # int64 (N,): places in SHAPES
    boxes: np.ndarray  # float32 (N, 4): x1, y1, x2, y2 in pixels around the mask; x2 and y2 are exclusive
    masks: np.ndarray  # bool (N, side, side)

    @property
    def label_map(self) -> np.ndarray:
        """int64 (side, side): 0 for the background, 1 + place in SHAPES for a shape."""
        return np.asarray(np.einsum("nhw,n->hw", self.masks.astype(np.int64), self.labels + 1))


def scene(seed: int, index: int, *, side: int = 64, shapes: int | None = None) -> Scene:
    """Picture `index` of an endless set, a function of (seed, index, side, shapes) alone.

    shapes: how many there are, 1 to 4; None draws 1 to 4. One that finds no free place in 20 tries is left out; the
    first always has one. A shape lies in a circle whose diameter is 3/16 to 7/16 of the side, turned at random. Its
    colour differs from the background's by 0.3 to 0.7 of the range in each channel, before texture (two gratings, at
    most 0.06 each) and noise (at most 0.05) are added.
    Raises ConfigError for a side below 16 pixels or another number of shapes.
    """
    if side < 16 or not (shapes is None or 1 <= shapes <= _MOST):
        raise ConfigError(f"scene(side={side}, shapes={shapes}): at least 16 pixels, 1 to {_MOST} shapes")
    ground = uniforms(seed, _GROUND, [index], 16)[0]
    count = shapes or 1 + int(_MOST * ground[15])
    colour = ground[:3]
    pixels = colour + _gratings(ground[3:15], side)
    circles: list[tuple[float, float, float]] = []
    labels, masks = [], []
    for i in range(count):
        u = uniforms(seed, _SHAPE + i, [index], 6 + 2 * _TRIES)[0]
        radius = side * (3 + 4 * u[0]) / 32
        centre = _free_place(radius, side, u[6:].reshape(_TRIES, 2), circles)
        if centre is None:
            continue
        label = int(len(SHAPES) * u[1])
        mask = inside(SHAPES[label], centre, radius, 2 * math.pi * u[2], side)
        pixels[mask] = (colour + 0.3 + 0.4 * u[3:6]) % 1.0
        circles.append((*centre, radius))
        labels.append(label)
        masks.append(mask)
    pixels += 0.1 * uniforms(seed, _NOISE, [index], pixels.size).reshape(pixels.shape) - 0.05
    picture = np.clip(np.rint(255 * pixels), 0, 255).astype(np.uint8)
    boxes = np.array([_box(mask) for mask in masks], np.float32)
    return Scene(picture, np.array(labels, np.int64), boxes, np.stack(masks))


def labelled(seed: int, indices: Sequence[int], *, side: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Pictures of one shape each, for a classifier: uint8 (N, side, side, 3) and int64 (N,), places in SHAPES."""
    scenes = [scene(seed, i, side=side, shapes=1) for i in indices]
    return np.stack([s.picture for s in scenes]), np.array([s.labels[0] for s in scenes])


def inside(shape: str, centre: tuple[float, float], radius: float, angle: float, side: int) -> np.ndarray:
    """Which pixels have their middle in a shape: bool (side, side). centre: x, y; radius: of the circle around it.

    Circle: |p - c| <= r. Regular polygon with n corners: max over k of (p - c) . u_k <= r cos(pi / n), where u_k points
    to the middle of side k. Areas: pi r^2, 2 r^2 (square), 3 sqrt(3) / 4 r^2 (triangle).
    """
    y, x = np.mgrid[:side, :side] + 0.5
    dx, dy = x - centre[0], y - centre[1]
    if shape == "circle":
        return np.asarray(dx**2 + dy**2 <= radius**2)
    corners = _CORNERS[shape]
    turns = angle + 2 * math.pi * np.arange(corners) / corners
    reach = np.max([dx * math.cos(t) + dy * math.sin(t) for t in turns], axis=0)
    return np.asarray(reach <= radius * math.cos(math.pi / corners))


def _free_place(
    radius: float, side: int, places: np.ndarray, taken: Sequence[tuple[float, float, float]]
) -> tuple[float, float] | None:
    """The first of the places (in [0, 1)) where the circle is a pixel or more away from all others."""
    for x, y in radius + (side - 2 * radius) * places:
        if all(math.hypot(x - a, y - b) >= radius + r + 1 for a, b, r in taken):
            return float(x), float(y)
    return None


def _gratings(u: np.ndarray, side: int) -> np.ndarray:
    """Two plane waves, 1 to 6 of them across the picture, of random direction, phase and tint: (side, side, 3)."""
    y, x = np.mgrid[:side, :side] / side
    total = np.zeros((side, side, 3))
    for turn, waves, phase, *tint in u.reshape(2, 6):
        along = x * math.cos(math.pi * turn) + y * math.sin(math.pi * turn)
        wave = np.sin(2 * math.pi * ((1 + 5 * waves) * along + phase))
        total += 0.06 * wave[..., None] * tint
    return total


def _box(mask: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
