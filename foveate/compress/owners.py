"""Which width of a config decides which axis of which tensor, read from shapes on the meta device."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from torch import nn

from foveate.compress.explicit import LARGEST, assign
from foveate.errors import ConfigError
from foveate.zoo import FAMILIES
from foveate.zoo.family import Config
from foveate.zoo.meta import shapes_only

Shapes = dict[str, tuple[int, ...]]
At = tuple[str, int]  # key, axis

MOST = 12  # a width grows by 0 to 12 times itself when many change at once


def on_meta(config: Config) -> nn.Module:
    """The network without weights, in evaluation mode."""
    with shapes_only():
        model: nn.Module = FAMILIES[config.family].make(config).eval()
    return model


def shapes_of(model: nn.Module) -> Shapes:
    """Key of the state dict -> shape, for parameters and buffers; the device does not matter."""
    return {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}


def steps_of(config: Config, found: Mapping[str, int]) -> dict[str, dict[str, int]]:
    """Path -> a change of its width that gives a valid config: upwards, and far, so that no two widths become equal.

    A width that can only change together with an equal one beside it is there with that one; the other is left out.
    """
    steps: dict[str, dict[str, int]] = {}
    for path, width in found.items():
        if any(path in changes for changes in steps.values()):
            continue
        beside = [q for q in found if q != path and found[q] == width and parent(q) == parent(path)]
        for together in ((path,), *((path, q) for q in beside)):
            if change := step(config, together, width):
                steps[path] = dict.fromkeys(together, change)
                break
    return steps


def parent(path: str) -> str:
    """The path of what holds a number."""
    return path.rpartition(".")[0]


def step(config: Config, paths: Sequence[str], width: int) -> int:
    """A change of these equal widths that the config allows; 0 where there is none."""
    small = sorted({width // 2, width // 4, width // 8, *range(1, min(width // 2, 64) + 1)} - {0}, reverse=True)
    for change in (MOST * width, 6 * width, 2 * width, width, *small, *(-n for n in small if n < width)):
        if width + change <= LARGEST:
            try:
                assign(config, dict.fromkeys(paths, width + change))
            except ConfigError:
                continue
            return change
    return 0


def axis_owners(config: Config, found: Mapping[str, int], steps: Mapping[str, Mapping[str, int]]) -> dict[At, str]:
    """(key, axis) -> the one path that it follows channel for channel. Axes that follow no path, a part of one or
    several are left out. steps: as steps_of gives them.

    Most widths of a config can be any: they change at once, each by its own number of times itself, build by build, so
    that the changes of an axis spell the number of its width. The others change one at a time.
    """
    before = shapes_of(on_meta(config))
    free = [path for path, changes in steps.items() if changes == {path: MOST * found[path]}]
    owners: dict[At, set[str | None]] = defaultdict(set)
    try:
        spelt = _spelt(config, found, free, before)
    except ConfigError:  # together they can not be any
        free, spelt = [], {}
    for at, path in spelt.items():
        owners[at].add(path)
    for path in steps.keys() - set(free):
        for at, change in changes_of(config, {p: found[p] + n for p, n in steps[path].items()}, before).items():
            owners[at].add(path if change == steps[path][path] and before[at[0]][at[1]] == found[path] else None)
    return {at: path for at, by in owners.items() if len(by) == 1 and (path := next(iter(by))) is not None}


def changes_of(config: Config, new: Mapping[str, int], before: Shapes) -> dict[At, int]:
    """(key, axis) -> by how many channels it grows when widths change; axes that stay are left out.

    new: path -> the width that it gets; other paths stay. before: shapes_of the network of `config`. Tensors that only
    one of the two networks has do not count. Empty where the config refuses these widths.
    """
    try:
        after = shapes_of(on_meta(assign(config, new)))
    except ConfigError:
        return {}
    lengths = {(key, axis): n for key, shape in before.items() if key in after for axis, n in enumerate(shape)}
    return {(key, axis): after[key][axis] - n for (key, axis), n in lengths.items() if after[key][axis] != n}


def _spelt(config: Config, found: Mapping[str, int], free: Sequence[str], before: Shapes) -> dict[At, str | None]:
    """axis_owners for widths that can be any, in few builds. None: more than one, or a part of one."""
    codes = dict[tuple[int, ...], str]()
    places = 1
    while (MOST + 1) ** places <= len(free):
        places += 1
    for number, path in enumerate(free, start=1):
        digits = [number // (MOST + 1) ** k % (MOST + 1) for k in range(places)]
        codes[(*digits, number * number % MOST + 1)] = path  # no two numbers' mean spells a third
    spelt: dict[At, list[float]] = defaultdict(lambda: [0.0] * (places + 1))
    for k in range(places + 1):
        new = {path: found[path] * (1 + code[k]) for code, path in codes.items() if code[k]}
        after = shapes_of(on_meta(assign(config, new)))
        for key, shape in before.items():
            for axis, n in enumerate(shape):
                if key in after and after[key][axis] != n:
                    spelt[key, axis][k] = after[key][axis] / n - 1
    owners: dict[At, str | None] = {}
    for (key, axis), digits in spelt.items():
        named = codes.get(tuple(int(d) if d.is_integer() else -1 for d in digits))
        owners[key, axis] = named if named is not None and found[named] == before[key][axis] else None
    return owners
