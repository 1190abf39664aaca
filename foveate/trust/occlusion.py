"""Does the marked region matter? It is covered, and so are random regions of its size."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

QUARTER = 0.25  # share of the cells that is covered
DRAWS = 20
LEAST_SIDE = 4  # cells a side below which a map says nothing of where


@dataclass(frozen=True)
class Check:
    """How far the probability drops: with the marked quarter covered, and on average over random ones."""

    marked: float
    random: float

    @property
    def matters(self) -> bool:
        """Whether the marked region matters more than one chosen by chance."""
        return self.marked > self.random


def check(
    model: nn.Module, x: torch.Tensor, cls: int, values: torch.Tensor, seed: int = 0, draws: int = DRAWS
) -> Check:
    """Cover the quarter of the cells with the largest values, and random connected quarters, by the mean colour.

    x: one picture as the network sees it, (C, R, R). values: its map (h, w). A map of fewer than 4 x 4 cells is
    resampled to 4 x 4, which can mark no less than a quarter.
    """
    grid = values.detach().float().cpu()
    if min(grid.shape) < LEAST_SIDE:
        grid = nn.functional.interpolate(grid[None, None], (LEAST_SIDE, LEAST_SIDE), mode="bilinear")[0, 0]
    cells = max(1, round(QUARTER * grid.numel()))
    masks = [marked_cells(grid.numpy(), cells)]
    rng = np.random.default_rng(seed)
    masks += [random_block(tuple(grid.shape), cells, rng) for _ in range(draws)]  # type: ignore[arg-type]
    with torch.no_grad():
        p = torch.softmax(model(torch.cat((x[None], covered(x, np.stack(masks))))), 1)[:, cls].double().cpu()
    drops = (p[0] - p[1:]).tolist()
    return Check(drops[0], float(np.mean(drops[1:] or [0.0])))


def covered(x: torch.Tensor, masks: np.ndarray) -> torch.Tensor:
    """x (C, R, R) with the cells of each mask bool (M, h, w) at the mean colour of the picture: (M, C, R, R)."""
    over = torch.from_numpy(masks.astype(np.float32)).to(x.device)[:, None]
    over = nn.functional.interpolate(over, x.shape[1:], mode="nearest")
    return x * (1 - over) + x.mean((1, 2), keepdim=True) * over


def marked_cells(values: np.ndarray, cells: int) -> np.ndarray:
    """The `cells` cells (bool) with the largest values; ties go to the first."""
    mask = np.zeros(values.size, bool)
    mask[np.argsort(-values.ravel(), kind="stable")[:cells]] = True
    return mask.reshape(values.shape)


def random_block(shape: tuple[int, int], cells: int, rng: np.random.Generator) -> np.ndarray:
    """A connected set of cells, grown from a random one by random neighbours."""
    mask = np.zeros(shape, bool)
    edge = [(int(rng.integers(shape[0])), int(rng.integers(shape[1])))]
    while cells and edge:
        i, j = edge.pop(int(rng.integers(len(edge))))
        if mask[i, j]:
            continue
        mask[i, j] = True
        cells -= 1
        near = ((i + 1, j), (i - 1, j), (i, j + 1), (i, j - 1))
        edge += [(a, b) for a, b in near if 0 <= a < shape[0] and 0 <= b < shape[1] and not mask[a, b]]
    return mask
