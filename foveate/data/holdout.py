"""Cutting val and test from pictures: stratified, seeded, whole groups only.

Rare classes first, as in iterative stratification (Sechidis et al., ECML 2011), so that groups with several classes
fit too. scikit-learn's stratified splitters refuse classes of one picture, and know either groups or free shares.
"""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence

import numpy as np

from foveate.errors import ConfigError


def check_fractions(val: float, test: float) -> None:
    """ConfigError unless val and test are shares that leave something to train on."""
    for name, share in (("val", val), ("test", test)):
        if not 0.0 <= share <= 0.9:
            raise ConfigError(f"{name} = {share}: expected a share from 0 to 0.9")
    if val + test > 0.9:
        raise ConfigError(f"val + test = {val + test:g}: expected at most 0.9, the rest is for training")


def units(count: int, same: Iterable[Sequence[int]]) -> list[int]:
    """The unit of each of count samples, where all members of each set in `same` belong together (union-find)."""
    parent = list(range(count))

    def find(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for members in same:
        for other in members[1:]:
            a, b = find(members[0]), find(other)
            parent[max(a, b)] = min(a, b)
    return [find(i) for i in range(count)]


def alike(keys: Iterable[Hashable]) -> list[list[int]]:
    """The sets of two or more positions that share a key; a false key ("", None) shares with nobody."""
    places: dict[Hashable, list[int]] = defaultdict(list)
    for i, key in enumerate(keys):
        if key:
            places[key].append(i)
    return [members for members in places.values() if len(members) > 1]


def hold_out(labels: Sequence[int], unit: Sequence[int], shares: Mapping[str, float], seed: int) -> list[str]:
    """The split of every sample: "train" or a key of shares.

    Every class keeps a unit in train. A class with fewer units than splits stays in train as a whole; any other gets
    about its share of pictures, at least one unit, in every split. Depends on the arguments alone.
    """
    rng = np.random.default_rng(seed)
    sizes: dict[int, dict[int, int]] = defaultdict(lambda: defaultdict(int))  # class -> unit -> pictures
    for label, u in zip(labels, unit, strict=True):
        sizes[label][u] += 1
    order = sorted(sizes, key=lambda c: (len(sizes[c]), c))
    shuffled = {c: rng.permutation(sorted(sizes[c])).tolist() for c in order}
    place: dict[int, str] = {}
    for c in order:  # first of all every class is sure of a place in train
        if len(shuffled[c]) <= len(shares):
            place.update(dict.fromkeys(shuffled[c], "train"))
        elif not any(u in place for u in shuffled[c]):
            place[shuffled[c][0]] = "train"
    have: dict[tuple[str, int], int] = defaultdict(int)
    for c in order:
        total = sum(sizes[c].values())
        for split, share in shares.items():
            have[split, c] = sum(n for u, n in sizes[c].items() if place.get(u) == split)
            for u in shuffled[c]:
                n, gap = sizes[c][u], share * total - have[split, c]
                if u not in place and abs(gap - n) < gap:
                    place[u] = split
                    have[split, c] += n
            free = [u for u in shuffled[c] if u not in place]
            if share and not have[split, c] and free:
                smallest = min(free, key=lambda u: sizes[c][u])  # the first of the smallest: still by the seed
                place[smallest] = split
    return [place.get(u, "train") for u in unit]
