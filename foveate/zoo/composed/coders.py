"""Coders: a field of descriptors (N, D, h, w) -> a vector of a picture (N, size), pooled over a pyramid of cells.

What they hold (words, mixtures) is learnt by foveate.classic; here is how it is used, the same in torch and in a file.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn

EPS = 1e-12
NEAR_ZERO = 1e-5  # below it a signed root is a line: there rounding would be magnified


def regions(height: int, width: int, grids: Sequence[int], like: torch.Tensor) -> torch.Tensor:
    """(h w, regions): the share of each place in the mean of each cell of grids 1 x 1, 2 x 2, ..."""
    columns = []
    for grid in grids:
        rows, cells = (torch.arange(n, device=like.device) * grid // n for n in (height, width))
        place = (rows.view(-1, 1) * grid + cells).view(-1, 1)
        hot = (place == torch.arange(grid * grid, device=like.device)).to(like.dtype)
        columns.append(hot / hot.sum(0).clamp(min=1))
    return torch.cat(columns, 1)


def places_of(height: int, width: int, grids: Sequence[int]) -> list[list[int]]:
    """The places of each region, row by row; the last place where a cell has none."""
    found = []
    for grid in grids:
        cell = [(y * grid // height) * grid + x * grid // width for y in range(height) for x in range(width)]
        found += [[i for i, c in enumerate(cell) if c == k] or [len(cell) - 1] for k in range(grid * grid)]
    return found


class Coder(nn.Module):
    """A coder of fields of `width` numbers a place. size: of what comes out, for so many regions."""

    def __init__(self, width: int, grids: Sequence[int]):
        super().__init__()
        self.width, self.grids = width, tuple(grids)
        self.count = sum(grid * grid for grid in grids)

    @property
    def size(self) -> int:
        raise NotImplementedError

    def share(self, field: torch.Tensor) -> torch.Tensor:
        return regions(field.shape[2], field.shape[3], self.grids, field)


class Mean(Coder):
    """No coding: the mean of each number over each region."""

    @property
    def size(self) -> int:
        return self.width * self.count

    def forward(self, field: torch.Tensor) -> torch.Tensor:
        return (field.flatten(2) @ self.share(field)).flatten(1)


class Words(Coder):
    """Against k-means words, after whitening (x - centre) @ whiten. A subclass says what a place gives."""

    centre: torch.Tensor
    whiten: torch.Tensor
    dictionary: torch.Tensor

    def __init__(self, width: int, grids: Sequence[int], words: int = 400):
        super().__init__(width, grids)
        self.words = words
        self.register_buffer("centre", torch.zeros(width))
        self.register_buffer("whiten", torch.eye(width))
        self.register_buffer("dictionary", torch.zeros(words, width))

    @property
    def size(self) -> int:
        return self.words * self.count

    def squares(self, field: torch.Tensor) -> torch.Tensor:
        """Squared distances to all words: (N, places, words)."""
        x = (field.flatten(2).transpose(1, 2) - self.centre) @ self.whiten
        lengths = x.square().sum(2, keepdim=True) + self.dictionary.square().sum(1)
        return (lengths - 2 * (x @ self.dictionary.T)).clamp(min=0)

    def codes(self, squares: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    def forward(self, field: torch.Tensor) -> torch.Tensor:
        codes = self.codes(self.squares(field)).transpose(1, 2)  # (N, words, places)
        return (codes @ self.share(field)).flatten(1)


class Triangle(Words):
    """max(0, mean distance - distance): Coates, Lee and Ng, AISTATS 2011, section 3.2.2."""

    def codes(self, squares: torch.Tensor) -> torch.Tensor:
        z = (squares + EPS).sqrt()
        return (z.mean(2, keepdim=True) - z).clamp(min=0)


class Hard(Words):
    """1 for the nearest word: a bag of visual words."""

    def codes(self, squares: torch.Tensor) -> torch.Tensor:
        nearest = squares.argmin(2, keepdim=True)
        return (nearest == torch.arange(self.words, device=squares.device)).to(squares.dtype)


class Soft(Words):
    """exp(-beta distance^2) over its sum: van Gemert et al., IEEE TPAMI 32 (2010)."""

    def __init__(self, width: int, grids: Sequence[int], words: int = 400, beta: float = 1.0):
        super().__init__(width, grids, words)
        self.beta = beta

    def codes(self, squares: torch.Tensor) -> torch.Tensor:
        return (-self.beta * squares).softmax(2)


class Llc(Words):
    """Locality-constrained linear coding by the nearest words: Wang et al., CVPR 2010, section 3 (fast form).

    The codes of the `nearest` words sum to 1 and rebuild the descriptor best; ridge: times the trace (the authors' code
    has 1e-4). Each region keeps the largest code of each word; the vector has length 1.
    """

    def __init__(self, width: int, grids: Sequence[int], words: int = 400, nearest: int = 5, ridge: float = 1e-4):
        super().__init__(width, grids, words)
        self.nearest, self.ridge = nearest, ridge

    def places(self, field: torch.Tensor) -> torch.Tensor:
        """(N, places, words): the codes."""
        x = (field.flatten(2).transpose(1, 2) - self.centre) @ self.whiten
        squares = self.squares(field)
        index = squares.topk(self.nearest, dim=2, largest=False).indices
        near = self.dictionary[index] - x.unsqueeze(2)  # (N, places, nearest, width)
        gram = near @ near.transpose(2, 3)
        trace = near.square().sum((2, 3)).view(*gram.shape[:2], 1, 1)
        gram = gram + (self.ridge * trace + EPS) * torch.eye(self.nearest, device=x.device, dtype=x.dtype)
        codes = solve_ones(gram)
        codes = codes / codes.sum(2, keepdim=True)
        return (squares * 0).scatter(2, index, codes)  # zeros whose size a file knows

    def forward(self, field: torch.Tensor) -> torch.Tensor:
        codes = self.places(field).transpose(1, 2)
        pooled = [codes[:, :, members].amax(2) for members in places_of(field.shape[2], field.shape[3], self.grids)]
        out = torch.stack(pooled, 2).flatten(1)
        return out / out.square().sum(1, keepdim=True).sqrt().clamp(min=EPS)


def solve_ones(gram: torch.Tensor) -> torch.Tensor:
    """The solution of gram @ c = 1 for positive matrices (..., k, k), k small: elimination written out, for a file."""
    k = gram.shape[-1]
    rows = [torch.cat([gram[..., i, :], gram[..., i, :1] * 0 + 1], -1) for i in range(k)]
    for i in range(k):
        rows[i] = rows[i] / rows[i][..., i : i + 1]
        rows = [row if j == i else row - row[..., i : i + 1] * rows[i] for j, row in enumerate(rows)]
    return torch.cat([row[..., k:] for row in rows], -1)


class Fisher(Coder):
    """Improved Fisher vectors of a mixture of Gaussians: Sanchez et al., IJCV 105 (2013), equations 16 to 18.

    First and second moments (2 components x pca numbers a region), the weights' part is left out. Signed roots, then
    length 1. pca: descriptors are projected to so many numbers first.
    """

    centre: torch.Tensor
    basis: torch.Tensor
    weights: torch.Tensor
    means: torch.Tensor
    deviations: torch.Tensor

    def __init__(self, width: int, grids: Sequence[int], components: int = 32, pca: int = 32):
        super().__init__(width, grids)
        pca = min(pca, width)
        self.components, self.pca = components, pca
        self.register_buffer("centre", torch.zeros(width))
        self.register_buffer("basis", torch.zeros(width, pca))
        self.register_buffer("weights", torch.full((components,), 1 / components))
        self.register_buffer("means", torch.zeros(components, pca))
        self.register_buffer("deviations", torch.ones(components, pca))

    @property
    def size(self) -> int:
        return 2 * self.components * self.pca * self.count

    def moments(self, field: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """First and second part, (N, regions, components, pca) each, before roots."""
        x = (field.flatten(2).transpose(1, 2) - self.centre) @ self.basis  # (N, places, pca)
        inverse = 1 / self.deviations.square()
        apart = x.square() @ inverse.T - 2 * (x @ (self.means * inverse).T) + (self.means.square() * inverse).sum(1)
        q = (self.weights.log() - self.deviations.log().sum(1) - apart / 2).softmax(2)  # (N, places, components)
        share, first, second = self.share(field), [], []
        for r in range(self.count):
            weighed = (q * share[:, r : r + 1]).transpose(1, 2)  # (N, components, places)
            zero, one, two = weighed.sum(2, keepdim=True), weighed @ x, weighed @ x.square()
            centred = one - zero * self.means
            spread = two - 2 * one * self.means + zero * self.means.square()
            root = self.weights.sqrt().view(1, -1, 1)
            first.append(centred / self.deviations / root)
            second.append((spread / self.deviations.square() - zero) / (root * 2**0.5))
        return torch.stack(first, 1), torch.stack(second, 1)

    def forward(self, field: torch.Tensor) -> torch.Tensor:
        out = torch.stack(self.moments(field), 2).flatten(1)
        out = out / (out.abs() + NEAR_ZERO).sqrt()  # the signed root
        return out / out.square().sum(1, keepdim=True).sqrt().clamp(min=EPS)


CODERS: Mapping[str, Callable[..., Coder]] = {
    "mean": Mean,
    "triangle": Triangle,
    "hard": Hard,
    "soft": Soft,
    "llc": Llc,
    "fisher": Fisher,
}
