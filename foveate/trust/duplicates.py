"""Near duplicates by features, behind the hash of thumbnails: crops, light, small turns.

Features propose pairs, and a pair is told only where the one picture can be laid on the other (align.py): features of
two white shirts are as near as those of a shirt and its crop.
"""

import itertools
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from foveate.trust.align import correlation
from foveate.trust.suspects import principal, unit_rows

WIDTH = 128  # numbers a picture that are compared with all others
ROWS, COLUMNS = 512, 4096  # of a block: 8 MB
SLACK = 0.05  # what a projection may take from a cosine
LEAST = 0.6  # cosine from which on a pair is looked at
PASSING = 2.0  # by number of pictures, the share of pairs of two classes that may reach it: about one a picture
MOST = 20  # candidates a picture that are looked at, the nearest first
SAME = 0.76  # correlation of details from which on two pictures are one
CUT = 0.8  # no two pictures of a group have a lower cosine, so that a chain of neighbours does not make one


@dataclass(frozen=True)
class Group:
    """Pictures (their places, in order) that are one. similarity: the lowest cosine of two of them, up to 1."""

    places: tuple[int, ...]
    similarity: float


def passing_cosine(
    features: np.ndarray, labels: Sequence[int] | np.ndarray, least: float = LEAST, seed: int = 0
) -> float:
    """The cosine that about as many pairs of two classes reach as there are pictures, and at least `least`: tighter
    where all pictures are alike.
    """
    rng, n, labels = np.random.default_rng(seed), len(features), np.asarray(labels)
    if n < 2:
        return least
    left, right = rng.integers(0, n, (2, 200_000))
    apart = (labels[left] != labels[right]) if len(np.unique(labels)) > 1 else left != right
    left, right = left[apart], right[apart]
    if not len(left):
        return least
    return max(least, float(np.quantile(_cosines(features, left, right), max(0.0, 1 - PASSING / n))))


def close_pairs(features: np.ndarray, cosine: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(left, right, cosine) of all pairs left < right at or above a cosine, nearest first, at most MOST * N of them.

    Every picture is compared with every other along the 128 strongest directions, in blocks; what survives, at full
    width. N^2 / 2 products: 100,000 pictures take half a minute of one core.
    """
    n = len(features)
    if n < 2:
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)
    left, right = np.concatenate([np.stack(p) for p in _blocks(features, cosine, seed)] or [np.zeros((2, 0), int)], 1)
    found = _cosines(features, left, right)
    order = np.argsort(-found, kind="stable")
    order = order[found[order] >= cosine][: MOST * n]
    return left[order], right[order], found[order]


def _blocks(features: np.ndarray, cosine: float, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs (left < right) that may reach the cosine, block by block."""
    flat = features.reshape(len(features), -1)
    if flat.shape[1] > WIDTH:  # directions of the features as they are: a mean that all share is kept by one of them
        flat = _projected(flat, seed)
        cosine = cosine - SLACK
    x = unit_rows(flat)
    for start in range(0, len(x), ROWS):
        rows = x[start : start + ROWS]
        for column in range(start, len(x), COLUMNS):
            block = rows @ x[column : column + COLUMNS].T
            if column <= start + ROWS:  # itself, and those that came before
                places = (
                    np.arange(column, column + block.shape[1])[None] <= np.arange(start, start + len(rows))[:, None]
                )
                block[places] = -2
            if block.max(initial=-2) >= cosine:
                i, j = np.nonzero(block >= cosine)
                yield i + start, j + column


def _projected(flat: np.ndarray, seed: int) -> np.ndarray:
    """Unit rows along the strongest directions, with the length of their mean as one more: (N, WIDTH)."""
    mean = np.mean([unit_rows(flat[i : i + 4096]).mean(0) for i in range(0, len(flat), 4096)], 0)
    x = principal(flat, WIDTH - 1, seed)
    return np.concatenate((x, np.full((len(x), 1), np.linalg.norm(mean), np.float32)), 1)


def _cosines(features: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    flat = np.asarray(features).reshape(len(features), -1)
    parts = [slice(i, i + 8192) for i in range(0, len(left), 8192)]
    rows = [(unit_rows(flat[left[p]]) * unit_rows(flat[right[p]])).sum(1, dtype=np.float64) for p in parts]
    return np.concatenate(rows) if rows else np.zeros(0)


def duplicate_groups(
    features: np.ndarray,
    copies: np.ndarray,
    labels: Sequence[int] | np.ndarray,
    known: Sequence[Sequence[int]] = (),
    proposed: Sequence[Sequence[int]] | None = (),
) -> list[Group]:
    """The sets of pictures that are one, the surest first.

    copies: uint8 (N, SIDE, SIDE), align.small of each. known: sets that are told without a look, such as equal
    thumbnails. proposed: sets whose pairs are looked at, whatever their features; None: nothing is, and `known` is all.
    """
    if proposed is None:
        told = set(_pairs(known))
        return clusters(features, sorted(told), told)
    left, right, _ = close_pairs(features, passing_cosine(features, labels))
    pairs = set(zip(left.tolist(), right.tolist(), strict=True)) | set(_pairs(proposed))
    sure = set(_pairs(known))
    looked = np.array(sorted(pairs - sure), np.int64).reshape(-1, 2)
    one = correlation(copies[looked[:, 0]], copies[looked[:, 1]]) >= SAME
    joined = [*sorted(sure), *map(tuple, looked[one].tolist())]
    return clusters(features, joined, sure)


def _pairs(sets: Sequence[Sequence[int]]) -> Iterator[tuple[int, int]]:
    """The first with all, and neighbours: as many pairs as join a set, for those of thousands too."""
    for members in sets:
        ordered = sorted(members)
        yield from ((ordered[0], other) for other in ordered[1:])
        yield from itertools.pairwise(ordered[1:])


def clusters(
    features: np.ndarray, pairs: Sequence[tuple[int, ...]], sure: set[tuple[int, int]] | None = None
) -> list[Group]:
    """Pairs joined to groups, nearest first, and not where two members would be further apart than CUT; a pair in
    `sure` joins whatever its cosine.
    """
    if not pairs:
        return []
    table = np.array(pairs, np.int64)
    cosines = _cosines(features, table[:, 0], table[:, 1])
    first = np.array([0 if sure and pair in sure else 1 for pair in pairs])
    member: dict[int, int] = {}
    held: dict[int, list[int]] = defaultdict(list)
    for i in np.lexsort((-cosines, first)):
        a, b = (member.setdefault(int(p), int(p)) for p in table[i])
        for one in (a, b):
            held[one] = held[one] or [one]
        if a == b or (first[i] and _lowest(features, held[a], held[b]) < CUT and cosines[i] >= CUT):
            continue
        if len(held[a]) < len(held[b]):
            a, b = b, a
        for place in held[b]:
            member[place] = a
        held[a] += held.pop(b)
    groups = [Group(tuple(sorted(g)), round(_lowest(features, g, g), 6)) for g in held.values() if len(g) > 1]
    return sorted(groups, key=lambda g: (-g.similarity, g.places))


def _lowest(features: np.ndarray, one: list[int], other: list[int]) -> float:
    """The lowest cosine between two sets; of large ones, between the first 500 of each."""
    a, b = (unit_rows(np.asarray(features)[places[:500]]) for places in (one, other))
    return float(min(1.0, (a @ b.T).min()))
