"""Which sub-networks a config has, and the record of each: widths, depth, kernels and resolution, as a search space.

Once-for-All (arXiv:1908.09791), for any net of the zoo whose widths foveate.compress can slice. Deliberate differences:
widths are shares of the coupled widths of a stage in place of three expansions, and the outer widths are searched too.
"""

import functools
import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import nn

from foveate.compress.couple import Coupling, couple, width_of
from foveate.compress.narrow import lost, narrow, new_widths, with_widths
from foveate.compress.owners import on_meta, shapes_of
from foveate.compress.plan import pick
from foveate.compress.structure import other_structure, structure
from foveate.config import replace
from foveate.errors import ConfigError, FoveateError
from foveate.search.space import Choice, Space, Tokens, Value
from foveate.zoo.family import Config

SHARES = (1.0, 0.75, 0.5)  # of a width
SIZES = (1.0, 0.875, 0.75, 0.625)  # of the resolution, in multiples of STEP pixels
STEP, LEAST_SIZE, THUMBNAIL = 16, 64, 64
FLOOR = 0.5  # of the blocks of a stage that stay, at least
TRIED = 3  # random nets that are looked at whole before a space is taken
STAGE = re.compile(r"stages\.(\d+)\.(?:blocks\.\d+\.)?(width|mid)(?:\.\d+)?$")

Scores = Mapping[str, Sequence[float]]  # group of widths -> what each of its units is worth
Kept = Mapping[str, Sequence[int]]


class Subnets:
    """The sub-networks of one config.

    config   the net itself, inner widths written out; every other one is made of it by leaving things out
    space    the choices, the largest value of each first: "stages.2.width" (the outer width of a stage, with all that
             is coupled to it), "stages.2.mid" (its inner widths), "stages.2.depth" (blocks, the last ones go),
             "stages.2.kernel" (at most; larger ones are cut to their centre), "resolution"; others have the name of
             their width. Values are shares of the width, but for depth, kernel and resolution.
    """

    def __init__(self, config: Config, name: str):
        """ConfigError, with the reason, for a net whose channels can not be put into an order and sliced."""
        self.name = name
        try:
            self.coupling = couple(config)
        except (ConfigError, FoveateError) as error:
            raise ConfigError(f"subnets(of={name!r}): its channels can not be sorted: {error}") from None
        self.config: Any = self.coupling.config
        check_norms(on_meta(self.config), name)
        self.groups: dict[str, list[str]] = {}
        for group in self.coupling.groups:
            self.groups.setdefault(choice_of(group), []).append(group)
        plain = {
            group: [float(i) for i in range(len(held.units))][::-1] for group, held in self.coupling.groups.items()
        }
        self.counts = Counts(self, plain)
        self.space = Space(self.choices(), name=f"subnets of {name}", make=self.child)
        self.space = Space(self.without_conflicts(), name=self.space.name, make=self.child)
        self.try_some()

    def choices(self) -> list[Choice]:
        """Every choice with more than one value."""
        sizes = resolutions(self.config.resolution)
        made = [Choice("resolution", sizes)] if len(sizes) > 1 else []
        for name, groups in self.groups.items():
            values: list[float] = []
            seen: list[list[int]] = []
            for share in SHARES:
                left = [len(self.counts.kept(group, share)) for group in groups]
                if left not in seen:
                    seen.append(left)
                    values.append(share)
            if len(values) > 1:
                made.append(Choice(name, tuple(values)))
        for i, stage in enumerate(getattr(self.config, "stages", ())):
            depths = tuple(d for d in range(depth_of(stage), 0, -1) if self.allows(i, d))
            if len(depths) > 1:
                made.append(Choice(f"stages.{i}.depth", depths))
            kernels = tuple(range(largest_kernel(stage), 2, -2))
            if len(kernels) > 1:
                made.append(Choice(f"stages.{i}.kernel", kernels))
        if not made:
            raise ConfigError(f"subnets(of={self.name!r}): nothing of it can be left out; {self.refusals()}")
        return made

    def without_conflicts(self) -> list[Choice]:
        """The choices without shares at which a width would equal the one before it, where that makes another net: a
        shortcut that comes in or goes.
        """
        taken: set[tuple[str, Value]] = set()
        outer = [c for c in self.space.choices if c.name in self.groups and not c.name.endswith(".mid")]
        for before, after in itertools.pairwise(outer):
            for values in itertools.product(before.values, after.values):
                pair = dict(zip((before.name, after.name), values, strict=True))
                if taken.isdisjoint(pair.items()) and self.changes_structure(pair):
                    name = before.name if pair[before.name] != 1 else after.name
                    taken.add((name, pair[name]))
        left = ((c, tuple(v for v in c.values if (c.name, v) not in taken)) for c in self.space.choices)
        return [replace(c, values=values) for c, values in left if len(values) > 1]

    def changes_structure(self, values: Mapping[str, Value]) -> bool:
        """Whether two widths that become equal make a net of other layers."""
        plan = self.counts.plan(values)
        if not plan:
            return False
        widths = [
            width_of(self.config, group) - lost(self.coupling.groups[group], gone(self.coupling, group, plan))[group]
            for name in values
            for group in self.groups[name]
        ]
        if len(set(widths)) == len(widths):
            return False
        made = structure(on_meta(self.child(values)), self.coupling.follows)
        return other_structure(self.coupling.layers, made) is not None

    def refusals(self) -> str:
        """Why its widths can not be narrowed."""
        path, reason = next(iter(self.coupling.refused.items()), ("its widths", "there are none"))
        return f"{path}: {reason}"

    def allows(self, stage: int, depth: int) -> bool:
        """Whether a stage may end after so many blocks: all other tensors stay as they are."""
        whole = depth_of(self.config.stages[stage])
        if depth == whole:
            return True
        if depth < FLOOR * whole:
            return False
        try:
            left = shapes_of(on_meta(with_stage(self.config, stage, shallower(self.config.stages[stage], depth))))
        except ConfigError:
            return False
        return all(self.coupling.shapes.get(key) == shape for key, shape in left.items())

    def try_some(self) -> None:
        """ConfigError where nets of the space are none: widths that do not fit together, a head that changes."""
        rng = np.random.default_rng(0)
        last = self.space.complete([len(c.values) - 1 for c in self.space.choices])
        try:
            for net in (last, *(self.space.sample(rng) for _ in range(TRIED))):
                self.check(net)
        except ConfigError as error:
            raise ConfigError(f"subnets(of={self.name!r}): its channels can not be sorted: {error}") from None

    @functools.cached_property
    def parts(self) -> dict[str, int]:
        """Weight of a convolution -> its groups."""
        model = on_meta(self.config)
        return {f"{name}.weight": m.groups for name, m in model.named_modules() if isinstance(m, nn.Conv2d)}

    def check(self, net: Tokens) -> None:
        """ConfigError where a net is no part of the whole one."""
        values = self.space.decode(net)
        if plan := self.counts.plan(values):
            narrow(self.config, plan)
        on_meta(self.child(values))

    def child(self, values: Mapping[str, Value]) -> Any:
        """The record of a net."""
        plan = self.counts.plan(values)
        made = with_widths(self.coupling, new_widths(self.coupling, plan)) if plan else self.config
        for i, stage in enumerate(getattr(made, "stages", ())):
            new = stage
            if (depth := values.get(f"stages.{i}.depth")) is not None:
                new = shallower(new, int(depth))
            if (kernel := values.get(f"stages.{i}.kernel")) is not None:
                new = with_kernel(new, int(kernel))
            if new is not stage:
                made = with_stage(made, i, new)
        return replace(made, resolution=int(values["resolution"])) if "resolution" in values else made


class Counts:
    """Which units of a width stay at a share, by scores; asked for once each."""

    def __init__(self, subnets: Subnets, scores: Scores):
        self.subnets, self.scores = subnets, scores
        self.kept = functools.cache(self._kept)

    def _kept(self, group: str, share: float) -> tuple[int, ...]:
        held = self.subnets.coupling.groups[group]
        if share == 1:
            return tuple(range(len(held.units)))
        width = len(held.units) * max(held.units[0].sizes().values())
        multiple = next((m for m in (8, 4, 2) if width >= 8 * m and width % m == 0), 1)
        remove = round((1 - share) * len(held.units))
        return tuple(pick(self.subnets.config, group, self.scores[group], remove, multiple=multiple))

    def plan(self, values: Mapping[str, Value]) -> Kept:
        """The plan for foveate.compress.narrow of a net's choices; empty where no width is cut."""
        plan = {}
        for name, groups in self.subnets.groups.items():
            for group in groups if float(values.get(name, 1.0)) < 1 else ():
                kept = self.kept(group, float(values[name]))
                if len(kept) < len(self.subnets.coupling.groups[group].units):
                    plan[group] = kept
        return plan


def gone(coupling: Coupling, group: str, plan: Kept) -> list[int]:
    """The units of a width that a plan leaves out."""
    stay = set(plan.get(group, range(len(coupling.groups[group].units))))
    return [i for i in range(len(coupling.groups[group].units)) if i not in stay]


def choice_of(group: str) -> str:
    """The choice that a width belongs to: "stages.2.mid.1" -> "stages.2.mid"."""
    found = STAGE.match(group)
    return f"stages.{found[1]}.{found[2]}" if found else re.sub(r"\.\d+$", "", group)


def check_norms(model: nn.Module, name: str) -> None:
    """ConfigError unless batch norms are the only layers with a state of their own."""
    from foveate.search.supernet import STATISTICS

    for key, buffer in model.named_buffers():
        if buffer.ndim and key.rpartition(".")[2] not in STATISTICS:
            raise ConfigError(
                f"subnets(of={name!r}): {key} is a state that sub-nets can not share; take a net with batch norms"
            )
    if not any(isinstance(m, nn.BatchNorm2d) for m in model.modules()):
        raise ConfigError(
            f"subnets(of={name!r}): it has no batch norms, and sub-nets need their statistics; take another net"
        )


def resolutions(size: int) -> tuple[int, ...]:
    """The sizes that are tried, the given one first; thumbnails are taken as they are."""
    if size < THUMBNAIL:
        return (size,)
    smaller = (round(share * size / STEP) * STEP for share in SIZES[1:])
    return tuple(dict.fromkeys((size, *(s for s in smaller if LEAST_SIZE <= s < size))))


def depth_of(stage: Any) -> int:
    """Blocks of a stage; 1 where that is no matter of choice."""
    for field in ("blocks", "depth", "mid"):
        held = getattr(stage, field, None)
        if isinstance(held, tuple) and held:
            return len(held)
        if isinstance(held, int) and field == "depth":
            return held
    return 1


def shallower(stage: Any, depth: int) -> Any:
    """The first blocks of a stage."""
    changes: dict[str, Any] = {
        f: held[:depth] for f in ("blocks", "mid") if isinstance(held := getattr(stage, f, None), tuple)
    }
    if isinstance(getattr(stage, "depth", None), int):
        changes["depth"] = depth
    return replace(stage, **changes)


def largest_kernel(stage: Any) -> int:
    """Side of the largest kernel of a stage that is a matter of choice; 0 where none is."""
    held = [getattr(part, "kernel", 0) for part in (stage, *getattr(stage, "blocks", ()))]
    return max((k for k in held if isinstance(k, int)), default=0)


def with_kernel(stage: Any, most: int) -> Any:
    """A stage whose kernels are no larger."""
    if isinstance(getattr(stage, "kernel", None), int):
        stage = replace(stage, kernel=min(most, stage.kernel))
    blocks = getattr(stage, "blocks", ())
    if any(isinstance(getattr(b, "kernel", None), int) for b in blocks):
        stage = replace(stage, blocks=tuple(replace(b, kernel=min(most, b.kernel)) for b in blocks))
    return stage


def with_stage(config: Any, number: int, stage: Any) -> Any:
    """The config with another stage."""
    return replace(config, stages=(*config.stages[:number], stage, *config.stages[number + 1 :]))
