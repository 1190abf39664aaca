"""Whether two pictures are one: the correlation of small grey copies after the one was laid upon the other.

Lucas and Kanade, 1981: an affine map and a gain are found by Gauss-Newton steps from coarse to fine, from the identity
and from the mirror image. Crops, small turns, shifts, other sizes and light are undone by it; another picture of a
similar thing is not.
"""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL import Image

SIDE = 64  # pixels of the copies
_COARSE, _FINE = ((8, 8), (4, 8)), ((2, 8),)  # (pixels averaged, steps)
_AT_ONCE = 128  # pairs: what they need stays in a processor's cache
_TURN = 0.087  # radians: the maps are looked for from no turn, and from five degrees either way
DETAIL = 6  # binomial blurs, a deviation of 1.7 pixels: what is taken away before two copies are compared
MIDDLE = 0.85  # of the way from the middle to the edge: beyond it a turned picture has corners of one colour
MOST_GROWTH = 1.6  # of an area; what is laid on more differently is no copy
LEAST_SHARED = 0.6  # share of the picture that lies on the other
DAMPING = 0.01  # of the steps, against running away
FLAT = 1.0  # square levels of contrast below which nothing is alike
ALIKE = 0.6  # coarse correlation from which on it is looked at more closely


def small(picture: "np.ndarray | Image.Image") -> np.ndarray:
    """An RGB image, or uint8 (H, W, 3) -> uint8 (SIDE, SIDE), the luminance, squashed by an antialiased kernel."""
    from PIL import Image

    image = Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BILINEAR, reducing_gap=4.0).convert("L"))


def correlation(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(N, SIDE, SIDE) twice -> float64 (N,), up to 1: of the details, the one laid on the other as well as can be.

    0 for pictures of one colour, and for those that are unlike at first sight.
    """
    found = np.zeros(len(first))
    for start in range(0, len(first), _AT_ONCE):
        a, b = (x[start : start + _AT_ONCE].astype(np.float32) for x in (first, second))
        found[start : start + _AT_ONCE] = _aligned(a, b)
    return found


def _aligned(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The correlation of pairs under the best map that is found."""
    found = np.zeros(len(a))
    for other in (b, b[:, :, ::-1]):  # clothes are nearly symmetric: only the details tell which it is
        best, warp = _laid_on(a, other)
        if len(left := np.flatnonzero(best >= ALIKE)):
            fine = _refined(a[left], other[left], warp[left], _FINE)
            detail = _detail(a[left]), _detail(other[left])
            for last in (fine, np.zeros_like(fine)):  # as they lie may be better than what the steps made of it
                found[left] = np.maximum(found[left], _agreement(*detail, last))
    return found


def _laid_on(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(coarse correlation, map) of pairs, the best of three starts."""
    n = len(a)
    best, warp = np.full(n, -1.0), np.zeros((n, 6), np.float32)
    small_a, small_b = (_blurred(_pooled(x, _COARSE[-1][0])) for x in (a, b))
    for turn in (0.0, _TURN, -_TURN):
        start = _start(n, turn)
        for tried in (start, _refined(a, b, start, _COARSE)):  # on plain pictures the steps may go astray
            score = _agreement(small_a, small_b, tried)
            better = score > best
            best, warp = np.where(better, score, best), np.where(better[:, None], tried, warp)
    return best, warp


def _start(n: int, turn: float) -> np.ndarray:
    """Maps (N, 6) that turn: (x, y) -> (x + w0 x + w1 y + w2, y + w3 x + w4 y + w5), the sides from -1 to 1."""
    c, s = np.cos(turn) - 1, np.sin(turn)
    return np.tile(np.array([c, -s, 0, s, c, 0], np.float32), (n, 1))


def _refined(a: np.ndarray, b: np.ndarray, warp: np.ndarray, stages: tuple[tuple[int, int], ...]) -> np.ndarray:
    for pool, steps in stages:
        coarse_a, coarse_b = _blurred(_pooled(a, pool)), _blurred(_pooled(b, pool))
        for _ in range(steps):
            warp = warp + _step(coarse_a, coarse_b, warp)
    return warp


def _pooled(x: np.ndarray, pool: int) -> np.ndarray:
    n, side = len(x), x.shape[1] // pool
    small: np.ndarray = x.reshape(n, side, pool, side, pool).mean((2, 4))
    return small


def _blurred(x: np.ndarray) -> np.ndarray:
    """Binomial 1-2-1 both ways, edges repeated: gradients that hold for a pixel around."""
    for axis in (1, 2):
        pad = np.pad(x, [(0, 0)] + [(1, 1) if i == axis else (0, 0) for i in (1, 2)], mode="edge")
        left, right = np.take(pad, range(x.shape[axis]), axis), np.take(pad, range(2, x.shape[axis] + 2), axis)
        x = (left + right + 2 * x) / 4
    return x


def _detail(x: np.ndarray) -> np.ndarray:
    """What is finer than a few pixels: outlines of like things are alike, their details are not."""
    wide = x
    for _ in range(DETAIL):
        wide = _blurred(wide)
    return x - wide


def _grid(side: int) -> tuple[np.ndarray, np.ndarray]:
    """x and y of the middles of the pixels, flat, from -1 to 1."""
    line = ((np.arange(side) + 0.5) * (2 / side) - 1).astype(np.float32)
    return np.tile(line, side), np.repeat(line, side)


def _sampled(b: np.ndarray, warp: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """b at the mapped places, bilinear: (values, slope in x, slope in y, whether inside), each (N, side * side)."""
    n, side = len(b), b.shape[1]
    x, y = _grid(side)
    px = (x + warp[:, 0:1] * x + warp[:, 1:2] * y + warp[:, 2:3] + 1) * (side / 2) - 0.5
    py = (y + warp[:, 3:4] * x + warp[:, 4:5] * y + warp[:, 5:6] + 1) * (side / 2) - 0.5
    inside = (px > -0.5) & (px < side - 0.5) & (py > -0.5) & (py < side - 0.5)
    px, py = np.clip(px, 0, side - 1.001), np.clip(py, 0, side - 1.001)
    ix, iy = px.astype(np.int32), py.astype(np.int32)
    fx, fy = px - ix, py - iy
    at = np.arange(n, dtype=np.int32)[:, None] * (side * side) + iy * side + ix
    flat = b.reshape(-1)
    v00, v01, v10, v11 = flat[at], flat[at + 1], flat[at + side], flat[at + side + 1]
    top, bottom = v00 + fx * (v01 - v00), v10 + fx * (v11 - v10)
    slope_x = ((v01 - v00) * (1 - fy) + (v11 - v10) * fy) * (side / 2)
    return top + fy * (bottom - top), slope_x, (bottom - top) * (side / 2), inside


def _step(a: np.ndarray, b: np.ndarray, warp: np.ndarray) -> np.ndarray:
    """A Gauss-Newton step of the map (N, 6), with gain and offset free; bounded, so that no start runs away."""
    n, side = len(a), a.shape[1]
    x, y = _grid(side)
    value, sx, sy, inside = _sampled(b, warp)
    target = (a.reshape(n, -1) - value) * inside
    off = target - target.mean(1, keepdims=True)  # corners of one colour, and what else is in one of the two only
    weight = inside / (1 + off * off / (2 * (off * off).mean(1, keepdims=True) + 1.0))
    columns = (sx * x, sx * y, sx, sy * x, sy * y, sy, value, np.ones_like(value))
    jacobian = np.stack([c * weight for c in columns], 1)  # (N, 8, P)
    square = np.matmul(jacobian, np.stack(columns, 2))  # (N, 8, 8)
    scale = np.maximum(np.einsum("nii->ni", square), 1e-3)
    square[:, range(8), range(8)] += DAMPING * scale + 1e-3
    move = np.linalg.solve(square, np.matmul(jacobian, target[:, :, None]))[:, :6, 0]
    return np.clip(move, -0.1, 0.1).astype(np.float32)


def _agreement(a: np.ndarray, b: np.ndarray, warp: np.ndarray) -> np.ndarray:
    """The correlation over what lies on the other; 0 where the map is no copy's."""
    value, _, _, inside = _sampled(b, warp)
    x, y = _grid(a.shape[1])
    weight = (inside & (np.abs(x) < MIDDLE) & (np.abs(y) < MIDDLE)).astype(np.float32)
    count = np.maximum(weight.sum(1), 1)
    one, two = a.reshape(len(a), -1), value
    one = (one - ((one * weight).sum(1) / count)[:, None]) * weight
    two = (two - ((two * weight).sum(1) / count)[:, None]) * weight
    spread = np.sqrt((one * one).sum(1) * (two * two).sum(1)) / count
    found = (one * two).sum(1) / count / np.maximum(spread, FLAT)
    area = (1 + warp[:, 0]) * (1 + warp[:, 4]) - warp[:, 1] * warp[:, 3]
    fits = (area < MOST_GROWTH) & (area > 1 / MOST_GROWTH) & (inside.mean(1) >= LEAST_SHARED)
    result: np.ndarray = np.where(fits, found, 0.0)
    return result
