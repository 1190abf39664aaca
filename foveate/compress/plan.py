"""Plans that a network allows: which units go, given a score for each and how many are wanted gone."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from foveate.compress.couple import Coupling, Group, Place, couple, width_of
from foveate.compress.narrow import Plan, lost, narrow, new_widths, removed_units, with_widths
from foveate.compress.owners import on_meta, shapes_of
from foveate.compress.structure import other_structure, structure
from foveate.errors import ConfigError
from foveate.zoo.family import Config

MOST_BUILDS = 32  # numbers that are tried for a width, from the wanted one downwards
MOST_NODES = 2_000  # of the search for units that fit all parts of a group


def pick(
    config: Config, name: str, scores: Sequence[float], remove: int, *, multiple: int = 1, given: Plan | None = None
) -> list[int]:
    """The units of a width that stay when about `remove` go, those of the least scores; at most that many, at least 1
    stays, and the number of channels left is a multiple of `multiple`. All stay where no smaller number is allowed.

    Where a width is split into parts (groups of a convolution, branches, halves of a reduction) each part loses what
    the smaller network's parts have less: the least scores go part by part. given: what else is planned, with which
    the choice has to agree.
    """
    coupling = couple(config)
    group = coupling.group(name)
    if len(scores) != len(group.units) or multiple < 1:
        raise ConfigError(f"{name}: {len(scores)} scores, multiple {multiple}; takes {len(group.units)} and at least 1")
    order = sorted(range(len(scores)), key=lambda i: (scores[i], i))
    widths = None if given is None else new_widths(coupling, given) if given else {}
    spread = places(coupling, group)
    tried: list[dict[str, int]] = []
    for count in range(min(remove, len(order) - 1), 0, -1):
        for less in losses(coupling, group, count):
            left = {path: width_of(coupling.config, path) - n for path, n in less.items()}
            if less in tried or min(left.values()) < 1 or left[group.name] % multiple:
                continue
            if fits(coupling, widths or {}, less) is None:
                continue
            tried.append(less)
            gone = fitting(coupling, spread, order, less, widths)
            if gone is not None and lost(group, gone) == less:
                return sorted(set(order) - set(gone))
            if len(tried) == MOST_BUILDS:
                return sorted(order)
    return sorted(order)


def losses(coupling: Coupling, group: Group, count: int) -> list[dict[str, int]]:
    """By how much the paths may shrink when about `count` units go: all units alike, or paths in proportion to their
    widths, in multiples up to 8.
    """
    sizes = Counter(tuple(sorted(unit.sizes().items())) for unit in group.units).most_common()
    if all(len(size) == len(group.paths) for size, _ in sizes):
        return [{path: count * n for path, n in sizes[0][0]}]
    share = count / len(group.units)
    whole = {path: width_of(coupling.config, path) for path in group.paths}
    return [{path: int(share * n) // by * by for path, n in whole.items()} for by in range(1, 9)]


def fits(coupling: Coupling, widths: Mapping[str, int], less: Mapping[str, int]) -> Any | None:
    """The config with the planned widths, and these paths less; None where it is none."""
    new = dict(widths)
    for path, n in less.items():
        new[path] = new.get(path, width_of(coupling.config, path)) - n
    try:
        return with_widths(coupling, new)
    except ConfigError:
        return None


def fitting(
    coupling: Coupling,
    spread: Sequence[Counter[Place]],
    order: Sequence[int],
    less: Mapping[str, int],
    widths: Mapping[str, int] | None,
) -> list[int] | None:
    """Units to remove so that paths shrink by `less` and the network's parts lose what they must; None: there are none.

    spread: where each unit stands; order: all units, the first to go first; widths: of other paths,
    planned before; None: others do not matter.
    """
    alike = all(at == spread[0] for at in spread)
    if alike and not coupling.counts and widths is None:  # nothing that could not fit; narrow looks again at the whole
        return list(order[: next(iter(less.values())) // spread[0][next(iter(less)), -1, 0]])
    try:
        narrowed = fits(coupling, widths or {}, less)
        if narrowed is None:
            return None
        smaller = on_meta(narrowed)
    except ConfigError:  # a layer that these widths leave nothing to do
        return None
    if other_structure(coupling.layers, structure(smaller, coupling.follows)) is not None:
        return None
    base = shapes_of(on_meta(with_widths(coupling, widths))) if widths else coupling.shapes
    shapes, wanted = shapes_of(smaller), dict[Place, int]()
    for key, axis, part in {place for at in spread for place in at}:
        if axis < 0:
            wanted[key, axis, part] = less[key]
        else:
            lost_here = base[key][axis] - shapes[key][axis]
            wanted[key, axis, part] = lost_here // coupling.parts.get(key, 1) if axis == 0 else lost_here
    found = forced(spread, order, wanted)
    return cheapest(spread, order, wanted) if found is None else found


def forced(spread: Sequence[Counter[Place]], order: Sequence[int], wanted: Mapping[Place, int]) -> list[int] | None:
    """The units to remove where each kind of unit has a place of its own, which says how many go; None elsewhere."""
    kinds: dict[frozenset[tuple[Place, int]], list[int]] = defaultdict(list)
    for i in order:
        kinds[frozenset(spread[i].items())].append(i)
    users = Counter(place for kind in kinds for place, _ in kind)
    gone: list[int] = []
    for kind, units in kinds.items():
        own = next(((place, n) for place, n in kind if users[place] == 1), None)
        if own is None:
            return None
        gone += units[: wanted[own[0]] // own[1]]
    total = Counter[Place]()
    for i in gone:
        total.update(spread[i])
    return gone if all(total[place] == n for place, n in wanted.items()) else None


def cheapest(spread: Sequence[Counter[Place]], order: Sequence[int], wanted: Mapping[Place, int]) -> list[int] | None:
    """The units of which every place loses what is wanted, with the least sum of ranks in `order`: an integer program.

    None where there are none, or the search for them is long.
    """
    import numpy as np
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import csr_array

    rows: dict[tuple[tuple[int, int], ...], set[int]] = defaultdict(set)  # places that ask the same of the same units
    held: dict[Place, list[tuple[int, int]]] = defaultdict(list)
    for i, at in enumerate(spread):
        for place, n in at.items():
            held[place].append((i, n))
    for place, entries in held.items():
        rows[tuple(entries)].add(wanted[place])
    if any(len(values) > 1 for values in rows.values()):
        return None
    triples = [(r, i, n) for r, row in enumerate(rows) for i, n in row]
    row_of, unit_of, numbers = (np.array(column) for column in zip(*triples, strict=True))
    matrix = csr_array((numbers, (row_of, unit_of)), shape=(len(rows), len(spread)))
    target = np.array([next(iter(values)) for values in rows.values()])
    costs = np.empty(len(spread))
    costs[np.array(order)] = 1 + np.arange(len(spread)) / len(spread)
    found = milp(
        costs,
        integrality=np.ones(len(spread)),
        bounds=Bounds(0, 1),
        constraints=LinearConstraint(matrix, target, target),
        options={"node_limit": MOST_NODES},
    )
    return None if found.x is None else [int(u) for u in np.flatnonzero(found.x > 0.5)]


def places(coupling: Coupling, group: Group) -> list[Counter[Place]]:
    """For every unit how often it stands where; (path, -1, 0): how many channels of that path it has."""
    found = []
    for unit in group.units:
        at = Counter(place for label in unit.classes for place in coupling.places[label])
        at.update({(path, -1, 0): n for path, n in unit.sizes().items()})
        found.append(at)
    return found


def random_plan(config: Config, seed: int, share: float = 0.5, multiple: int = 1) -> dict[str, list[int]]:
    """A plan that removes about `share` of the units of every width that can shrink, chosen by chance."""
    if not 0 < share < 1:
        raise ConfigError(f"share = {share}: above 0 and below 1")
    generator = torch.Generator().manual_seed(seed)
    groups = couple(config).groups
    scores = {name: torch.rand(len(group.units), generator=generator).tolist() for name, group in groups.items()}
    return planned(config, scores, {name: max(1, round(share * len(own))) for name, own in scores.items()}, multiple)


def planned(
    config: Config, scores: Mapping[str, Sequence[float]], remove: Mapping[str, int], multiple: int = 1
) -> dict[str, list[int]]:
    """The plan that removes about so many units of every width, those of the least scores: pick, width by width.

    Widths that fit one by one may not fit together (two that become equal call for a shortcut): then each is chosen
    beside those before it. Widths of which nothing can go are left out.
    """
    groups, plan = couple(config).groups, dict[str, list[int]]()
    for careful in (False, True):
        plan = {}
        for name, count in remove.items():
            kept = pick(config, name, scores[name], count, multiple=multiple, given=plan if careful else None)
            if len(kept) < len(groups[name].units):
                plan[name] = kept
        try:
            if plan:
                narrow(config, plan)
            return plan
        except ConfigError:
            if careful:
                raise
    return plan


def rounded(config: Config, plan: Plan, multiple: int) -> dict[str, list[int]]:
    """The plan with widths that are multiples of `multiple` (8 or 16 for a runtime): some removed units come back."""
    gone = removed_units(couple(config), plan)
    made = {}
    for name, units in gone.items():
        scores = [0.0 if i in set(units) else 1.0 for i in range(len(units) + len(plan[name]))]
        made[name] = pick(config, name, [s - i * 1e-9 for i, s in enumerate(scores)], len(units), multiple=multiple)
    return made
