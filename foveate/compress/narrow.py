"""Smaller configs: narrow(config, plan), which refuses what could not be sliced exactly.

A plan maps a width (a path of the config, the name of a group of foveate.compress.couple) to the units that stay,
counted from 0. A unit is a channel; or the channels that only go together: a channel and its ghosts, a group of a
convolution whose groups have a fixed width (RegNet), a column of a shuffle, the channels of a group of a norm.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from foveate.compress.couple import Coupling, Group, couple, width_of
from foveate.compress.explicit import assign
from foveate.compress.labels import Axis
from foveate.compress.owners import on_meta, shapes_of
from foveate.compress.rules import trace
from foveate.compress.structure import other_structure, structure
from foveate.errors import ConfigError
from foveate.zoo.family import Config

Plan = Mapping[str, Sequence[int]]


def narrow(config: Config, plan: Plan) -> Any:
    """The config of the smaller network. Inner widths that were multiples are written out (explicit).

    Only the widths of the plan change, and what the config derives from them (the squeeze of a gate whose ratio refers
    to a width). The classifier keeps its classes. ConfigError for an empty plan, unknown widths, units that are not
    there, no unit left, and for a choice that the network's structure does not allow, with the reason.
    """
    coupling = couple(config)
    smaller = with_widths(coupling, new_widths(coupling, plan))
    model = on_meta(smaller)
    verify(coupling, plan, model)
    return smaller


def removed_units(coupling: Coupling, plan: Plan) -> dict[str, list[int]]:
    """Name of a group -> the units that go. ConfigError for a plan that names what is not there, or leaves nothing."""
    if not plan:
        raise ConfigError("plan: empty; name at least one width and the channels that stay")
    removed = {}
    for name, kept in plan.items():
        count = len(coupling.group(name).units)
        chosen = set(kept)
        if odd := [i for i in kept if type(i) is not int or not 0 <= i < count]:
            raise ConfigError(f"plan: {name} keeps {odd[0]!r}; it has units 0 to {count - 1}")
        if not chosen or len(chosen) != len(kept):
            raise ConfigError(
                f"plan: {name} keeps {len(kept)} units, {len(chosen)} different ones; at least 1, each once"
            )
        removed[name] = [i for i in range(count) if i not in chosen]
    return removed


def removed_classes(coupling: Coupling, plan: Plan) -> frozenset[int]:
    """The classes of channels, in the trace, that go."""
    gone = removed_units(coupling, plan)
    return frozenset(c for name, units in gone.items() for i in units for c in coupling.groups[name].units[i].classes)


def new_widths(coupling: Coupling, plan: Plan) -> dict[str, int]:
    """Path -> width, for all widths that shrink."""
    widths: dict[str, int] = {}
    for name, units in removed_units(coupling, plan).items():
        for path, size in lost(coupling.groups[name], units).items():
            widths[path] = widths.get(path, width_of(coupling.config, path)) - size
    return widths


def lost(group: Group, units: Sequence[int]) -> dict[str, int]:
    """Path -> by how much it shrinks with these units."""
    sizes = [group.units[i].sizes() for i in units]
    return {path: sum(size.get(path, 0) for size in sizes) for path in group.paths}


def with_widths(coupling: Coupling, widths: Mapping[str, int]) -> Any:
    """The config with other widths; ConfigError where it is none."""
    try:
        return assign(coupling.config, widths)
    except ConfigError as error:
        raise ConfigError(f"plan: the widths that it leaves are no config: {error}") from None


def verify(coupling: Coupling, plan: Plan, smaller: nn.Module) -> None:
    """ConfigError unless the smaller network is the larger one without the plan's channels: the same layers, and on
    every axis of every tensor the channels that stay, in the same order.
    """
    if (fault := other_structure(coupling.layers, structure(smaller, coupling.follows))) is not None:
        raise ConfigError(f"plan: {fault}; leave another number of channels")
    lengths = shapes_of(smaller)
    seen = trace(smaller, coupling.config.in_chans, sorted(coupling.follows), coupling.fixed)
    gone = removed_classes(coupling, plan)
    forth: dict[int, int] = {}
    back: dict[int, int] = {}
    for (key, axis), before in coupling.trace.axes.items():
        if coupling.free.issuperset(before.labels):
            continue
        after, stay = seen.axes[key, axis], [label for label in before.labels if label not in gone]
        if len(stay) != len(after.labels) or not even(before, after, gone):
            wanted = lengths[key][axis]
            raise ConfigError(
                f"plan: {key} would keep {len(stay)} of {len(before.labels)} channels on axis {axis} in other parts "
                f"than a network of these widths has ({wanted}); choose channels with foveate.compress.plan.pick"
            )
        for old, new in zip(stay, after.labels, strict=True):
            if forth.setdefault(old, new) != new or back.setdefault(new, old) != old:
                raise ConfigError(
                    f"plan: the channels of {key} would change places; choose them with foveate.compress.plan.pick"
                )


def even(before: Axis, after: Axis, gone: frozenset[int]) -> bool:
    """Whether every group of a convolution's inputs loses as many."""
    size = len(before.labels) // before.groups
    parts = [before.labels[start : start + size] for start in range(0, len(before.labels), size)]
    left = {sum(label not in gone for label in part) for part in parts}
    return left == {len(after.labels) // after.groups} and before.groups == after.groups
