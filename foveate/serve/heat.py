"""Where an exported model looks: cells of the picture are covered one by one, and the probability drops or does not.

Occlusion needs nothing of the network but its answers (Zeiler and Fergus, arXiv 1311.2901, section 4.1; here with the
mean colour of the picture in place of grey). It costs GRID * GRID runs of the model.
"""

import numpy as np

from foveate.data.preprocess import Preprocess, crop_box, resized_size, sized

GRID = 7  # cells a side


def covered(pixels: np.ndarray, p: Preprocess) -> np.ndarray:
    """Copies of a framed picture uint8 (S, S, 3), each with one cell of what the network sees at its mean colour:
    (GRID * GRID, S, S, 3), cells in rows.
    """
    side = sized(p)
    left, top, right, bottom = crop_box(side, side, p) if p.fit == "crop" else (0, 0, side, side)
    xs, ys = (
        np.linspace(left, right, GRID + 1).round().astype(int),
        np.linspace(top, bottom, GRID + 1).round().astype(int),
    )
    mean = pixels[top:bottom, left:right].reshape(-1, 3).mean(0).round().astype(np.uint8)
    copies = np.repeat(pixels[None], GRID * GRID, axis=0)
    for n in range(GRID * GRID):
        i, j = divmod(n, GRID)
        copies[n, ys[i] : ys[i + 1], xs[j] : xs[j + 1]] = mean
    return copies


def drops(whole: float, covered_p: np.ndarray) -> list[list[float]]:
    """How much the probability falls for each cell, (GRID, GRID); what makes it rise counts as 0."""
    fall = np.maximum(whole - covered_p, 0.0).reshape(GRID, GRID)
    return [[round(float(v), 6) for v in row] for row in fall]


def seen_box(width: int, height: int, p: Preprocess) -> list[float]:
    """(left, top, width, height) of what the network sees, as shares of the upright picture; bars go beyond."""
    if p.fit == "squash":
        return [0.0, 0.0, 1.0, 1.0]
    w, h = resized_size(width, height, p)
    left, top, right, bottom = crop_box(w, h, p)
    return [round(v, 6) for v in (left / w, top / h, (right - left) / w, (bottom - top) / h)]
