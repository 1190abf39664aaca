"""Coupled widths: which channels of which tensors a width of a config decides, for any family and any plug-in layers.

Two readings of the network on the meta device, no weight and no picture: widths are changed, to see which shapes change
with them (which path of the config decides an axis); and one run on labels (foveate.compress.labels: which
positions belong to one channel, through sums, concatenations, splits and shuffles).
"""

import functools
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from foveate.compress.explicit import assign, explicit, widths
from foveate.compress.labels import Trace
from foveate.compress.owners import Shapes, axis_owners, on_meta, shapes_of, steps_of
from foveate.compress.rules import trace
from foveate.compress.structure import Structure, counts, structure
from foveate.config import get_path, near
from foveate.errors import ConfigError
from foveate.zoo.family import Config

Place = tuple[str, int, int]  # key, axis, part: which group of a convolution


@dataclass(frozen=True)
class Unit:
    """Channels that can only go together: one, or those that a grouped layer or a cheap operation ties."""

    channels: Mapping[str, tuple[int, ...]]  # path -> which of its channels
    classes: frozenset[int]  # in the trace

    def sizes(self) -> dict[str, int]:
        """By how much each path shrinks with this unit."""
        return {path: len(channels) for path, channels in self.channels.items()}


@dataclass(frozen=True)
class Group:
    """Widths that shrink together. Its units are what a plan keeps or removes, counted in the order of channels."""

    name: str  # the path that a plan names
    paths: tuple[str, ...]
    units: tuple[Unit, ...]


@dataclass(frozen=True)
class Coupling:
    """All that is known of a config's widths."""

    config: Config  # explicit(config): the one that shrinks
    trace: Trace
    shapes: Shapes
    follows: frozenset[str]
    fixed: tuple[int | None, ...]
    layers: Structure
    parts: Mapping[str, int]  # key -> groups of a convolution, where they do not grow with the width
    places: Mapping[int, tuple[Place, ...]]  # class -> where it stands, once for each position
    counts: bool  # whether some layer depends on the number of its channels
    groups: Mapping[str, Group]  # name -> group, in the order of the network
    refused: Mapping[str, str]  # path -> why it can not shrink
    free: frozenset[int]  # classes that no width counts one by one: squeezes, ranks

    def group(self, name: str) -> Group:
        """The group of a name; ConfigError with the reason, or with near names."""
        if name in self.groups:
            return self.groups[name]
        together = next((g.name for g in self.groups.values() if name in g.paths), None)
        if together is not None:
            raise ConfigError(f"{name}: shrinks together with others; plan it as {together}")
        if name in self.refused:
            raise ConfigError(f"{name}: can not be narrowed, for {self.refused[name]}")
        raise ConfigError(f"{name}: no width of this config; {near(name, self.groups)}")


@functools.lru_cache(maxsize=8)
def couple(config: Config) -> Coupling:
    """The coupled widths of a config. Takes a fraction of a second for most networks, some seconds for the deepest."""
    config = explicit(config)
    found = widths(config)
    model = on_meta(config)
    shapes = shapes_of(model)
    follows, fixed = growth(config, found, model)
    layers, counting = structure(model, frozenset(follows)), counts(model)
    parts = {
        f"{name}.weight": m.groups
        for name, m in model.named_modules()
        if isinstance(m, nn.Conv2d) and m.groups > 1 and name not in follows
    }
    seen = trace(model, config.in_chans, sorted(follows), fixed)
    steps = steps_of(config, found)
    owners = axis_owners(config, found, steps)
    units = units_of(steps, seen, owners)
    groups, refused = assemble(found, units, seen)
    counted = {label for unit in units for label in unit.classes}
    return Coupling(
        config=config,
        trace=seen,
        shapes=shapes,
        follows=frozenset(follows),
        fixed=tuple(fixed),
        layers=layers,
        parts=parts,
        places=places_of(seen, parts),
        counts=counting,
        groups=groups,
        refused=refused,
        free=frozenset(i for axis in seen.axes.values() for i in axis.labels if i and i not in seen.reasons) - counted,
    )


def places_of(seen: Trace, parts: Mapping[str, int]) -> dict[int, tuple[Place, ...]]:
    """Class -> where it stands."""
    found: dict[int, list[Place]] = defaultdict(list)
    for (key, axis), held in seen.axes.items():
        size = len(held.labels) // (held.groups if axis == 1 else parts.get(key, 1))
        for position, label in enumerate(held.labels):
            found[label].append((key, axis, position // size))
    return {label: tuple(at) for label, at in found.items()}


def growth(config: Config, found: Mapping[str, int], model: nn.Module) -> tuple[set[str], list[int | None]]:
    """The convolutions whose groups grow when all widths double, and which side of each shuffle does not."""
    twin = larger(config, found)
    before = {name: m.groups for name, m in model.named_modules() if isinstance(m, nn.Conv2d)}
    after = {name: m.groups for name, m in twin.named_modules() if isinstance(m, nn.Conv2d)}
    follows = {name for name, groups in before.items() if after.get(name, groups) > groups}
    swaps = trace(on_meta(config), config.in_chans).shuffles
    wide = trace(twin, config.in_chans).shuffles if swaps else ()
    return follows, [0 if a[0] == b[0] else 1 if a[1] == b[1] else None for a, b in zip(swaps, wide, strict=False)]


def larger(config: Config, found: Mapping[str, int]) -> nn.Module:
    """The network with all widths some times as large."""
    reason: ConfigError | None = None
    for times in (2, 3, 4):
        try:
            return on_meta(assign(config, {path: times * width for path, width in found.items()}))
        except ConfigError as error:
            reason = error
    raise ConfigError(f"{config.family}: the network can not be widened evenly, to see what its widths do: {reason}")


def units_of(
    steps: Mapping[str, Mapping[str, int]],
    seen: Trace,
    owners: Mapping[tuple[str, int], str],
) -> list[Unit]:
    """The channels of all widths, those that only go together as one, in the order of the network."""
    members: dict[tuple[str, int], set[int]] = defaultdict(set)  # (path, channel) -> classes
    for path, sequences in _sequences(seen, owners).items():
        for sequence in sequences:
            for c, label in enumerate(sequence):
                for p in steps[path]:
                    members[p, c].add(label)
    return list(_units(members))


def assemble(found: Mapping[str, int], units: Sequence[Unit], seen: Trace) -> tuple[dict[str, Group], dict[str, str]]:
    """Units into groups; and why other widths can not shrink."""
    order = {path: i for i, path in enumerate(dict.fromkeys(p for unit in units for p in unit.channels))}
    refused = {path: "no tensor follows it channel for channel" for path in found if path not in order}
    kinds: dict[frozenset[str], list[Unit]] = defaultdict(list)
    for unit in units:
        reason = next((seen.reasons[i] for i in sorted(unit.classes) if i in seen.reasons), None)
        if 0 in unit.classes:
            reason = "some of its channels are zeros"
        if reason is not None:
            refused |= dict.fromkeys(unit.channels, reason)
        else:
            kinds[frozenset(unit.channels)].append(unit)
    groups: dict[str, Group] = {}
    for held in sorted(_joint(kinds, seen), key=lambda units: len(_paths(units, order))):
        paths = _paths(held, order)
        name = next((p for p in paths if p not in groups), None)
        if len(held) == 1 or name is None:
            refused |= {p: "all of its channels go together" for p in paths if p not in refused}
        else:
            ordered = sorted(held, key=lambda u: min((order[p], channels) for p, channels in u.channels.items()))
            groups[name] = Group(name, paths, tuple(ordered))
    taken = {p for group in groups.values() for p in group.paths}
    names = sorted(groups, key=order.__getitem__)
    return {name: groups[name] for name in names}, {p: r for p, r in refused.items() if p not in taken}


def _paths(units: Sequence[Unit], order: Mapping[str, int]) -> tuple[str, ...]:
    """The paths of some units, in the order of the network."""
    return tuple(sorted({p for unit in units for p in unit.channels}, key=order.__getitem__))


def _joint(kinds: Mapping[frozenset[str], list[Unit]], seen: Trace) -> list[list[Unit]]:
    """Units of the same paths together; and those that one convolution in groups reads, for all its groups stay equal
    (ShuffleNet: what a stage adds and what it passes on).
    """
    held = list(kinds.values())
    home = {label: i for i, units in enumerate(held) for unit in units for label in unit.classes}
    for axis in seen.axes.values():
        met = sorted({home[label] for label in axis.labels if label in home}) if axis.groups > 1 else []
        for other in met[1:]:
            held[met[0]] += held[other]
            held[other] = []
            home |= {label: met[0] for label, i in home.items() if i == other}
    return [units for units in held if units]


def _sequences(seen: Trace, owners: Mapping[tuple[str, int], str]) -> dict[str, list[tuple[int, ...]]]:
    """For every path the classes of its channels, in order: once for each set of classes that it decides."""
    sequences: dict[str, list[tuple[int, ...]]] = defaultdict(list)
    sets: dict[str, set[frozenset[int]]] = defaultdict(set)
    for at, axis in seen.axes.items():
        path = owners.get(at)
        if path is not None and axis.groups == 1:
            classes = frozenset(axis.labels)
            if classes not in sets[path]:  # the same ones in another order: a shuffle
                sets[path].add(classes)
                sequences[path].append(axis.labels)
    return sequences


def _units(members: Mapping[tuple[str, int], set[int]]) -> Iterator[Unit]:
    """The connected parts of channels and classes."""
    holders: dict[int, list[tuple[str, int]]] = defaultdict(list)
    for at, classes in members.items():
        for label in classes:
            holders[label].append(at)
    order = {path: i for i, path in enumerate(dict.fromkeys(path for path, _ in members))}
    done: set[tuple[str, int]] = set()
    for start in members:
        if start in done:
            continue
        part, todo, classes = [], [start], set()
        done.add(start)
        while todo:
            at = todo.pop()
            part.append(at)
            for label in members[at] - classes:
                classes.add(label)
                fresh = [other for other in holders[label] if other not in done]
                done.update(fresh)
                todo += fresh
        channels: dict[str, list[int]] = defaultdict(list)
        for path, c in sorted(part, key=lambda at: (order[at[0]], at[1])):
            channels[path].append(c)
        yield Unit({path: tuple(cs) for path, cs in channels.items()}, frozenset(classes))


def width_of(config: Config, path: str) -> int:
    """The number at a path."""
    return int(get_path(config, path))
