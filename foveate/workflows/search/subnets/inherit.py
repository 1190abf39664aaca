"""The shared weights of a net's sub-networks, and each of these as a function of them.

Channels are put into an order once (a criterion of foveate.compress); a sub-net has the best of every width, the first
blocks of a stage, the centre of a larger kernel. Nothing is moved: a sub-net's tensors are picked out by index, which
is what moving the channels to the front and slicing gives, for coupled widths of every kind.
"""

import functools
import math
from collections.abc import Iterable, Mapping

import torch
import torch.nn.functional as F
from torch import nn

from foveate.compress.narrow import removed_classes
from foveate.compress.slice import weights as class_weights
from foveate.errors import ConfigError
from foveate.search.space import Tokens
from foveate.search.supernet import STATISTICS, Supernet, Tensors
from foveate.workflows.search.subnets.choices import Counts, Scores, Subnets
from foveate.zoo import build

KEPT = 32  # nets whose indices are kept


class Cut:
    """Where a sub-net's tensor stands in the whole one."""

    def __init__(self, axes: Mapping[int, torch.Tensor], flat: torch.Tensor | None, shape: tuple[int, ...]):
        self.axes, self.flat, self.shape = axes, flat, shape

    def __call__(self, whole: torch.Tensor) -> torch.Tensor:
        if self.flat is not None:
            out = whole.flatten()[self.flat.to(whole.device)]
        else:
            out = whole
            for axis, index in self.axes.items():
                out = out.index_select(axis, index.to(whole.device))
        for axis in range(2, len(self.shape)):
            out = out.narrow(axis, (out.shape[axis] - self.shape[axis]) // 2, self.shape[axis])
        return out


class Children(Supernet):
    """Supernet whose largest net is a given one, with its weights; the interface is Supernet's.

    A net's pictures are brought to its resolution (bilinear, antialiased) before it sees them.
    """

    def __init__(
        self,
        subnets: Subnets,
        state: Mapping[str, torch.Tensor],
        scores: Scores,
        free: Mapping[int, float] | None = None,
    ):
        """state: of build(subnets.config). scores: what each unit of a width is worth. free: what the channels that no
        width counts (squeezes, ranks) are worth, by their class; None: the squares of their weights in the state.
        """
        nn.Module.__init__(self)
        self.space, self.config = subnets.space, subnets.space.config
        self.subnets, self.counts = subnets, Counts(subnets, scores)
        with torch.device("meta"):
            learnt = dict(build(subnets.config).named_parameters())
        self.weights = nn.ParameterDict({_name(key): nn.Parameter(state[key].detach().clone()) for key in learnt})
        self.others = {
            key: value.detach().clone()
            for key, value in state.items()
            if key not in learnt and key.rpartition(".")[2] not in STATISTICS
        }
        self.free = dict(free) if free is not None else {}
        if free is None and subnets.coupling.free:
            found = class_weights(subnets.coupling, state, set())
            self.free = {label: value for label, value in found.items() if label in subnets.coupling.free}
        self._skeleton = functools.lru_cache(maxsize=KEPT)(self._made)
        self._cuts = functools.lru_cache(maxsize=KEPT)(self._cut_all)

    def slices(self, net: Tokens) -> Tensors:
        """The net's parameters by their keys in the zoo, picked out of the shared ones."""
        return {key: cut(self.weights[_name(key)]) for key, cut in self._cuts(tuple(net)).items()}

    def forward(
        self, x: torch.Tensor, net: Tokens, statistics: Tensors | None = None, regularised: bool = True
    ) -> torch.Tensor:
        """Supernet.forward, at the net's own resolution."""
        return super().forward(self.at_size(x, net), net, statistics, regularised)

    def statistics(self, net: Tokens, batches: Iterable[torch.Tensor]) -> Tensors:
        """Supernet.statistics, at the net's own resolution."""
        return super().statistics(net, (self.at_size(x, net) for x in batches))

    def at_size(self, x: torch.Tensor, net: Tokens) -> torch.Tensor:
        """(N, C, H, W) at the resolution of a net."""
        size = int(self.config(net).resolution)
        return x if x.shape[-1] == size else F.interpolate(x, size=(size, size), mode="bilinear", antialias=True)

    def _blank(self, model: nn.Module, device: torch.device) -> Tensors:
        made = super()._blank(model, device)
        return {key: self.others[key].to(device) if key in self.others else value for key, value in made.items()}

    def _cut_all(self, net: Tokens) -> dict[str, Cut]:
        coupling, values = self.subnets.coupling, self.space.decode(net)
        plan = self.counts.plan(values)
        model, _ = self._skeleton(tuple(net))
        shapes = {key: tuple(p.shape) for key, p in model.named_parameters()}
        gone = set(removed_classes(coupling, plan)) if plan else set()
        self._remove_free(gone, shapes)
        made = {}
        for key, shape in shapes.items():
            cut = cut_of(self.subnets, key, gone, shape)
            with torch.device("meta"):
                found = tuple(cut(torch.empty(coupling.shapes[key])).shape)
            if found != shape:
                raise ConfigError(f"{self.space.name}: {key} comes out as {found} for {shape}; report this")
            made[key] = cut
        return made

    def _remove_free(self, gone: set[int], shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Add the classes of squeezes and ranks that a net lacks, those of the least weights in the whole net."""
        for (key, axis), seen in self.subnets.coupling.trace.axes.items():
            if key not in shapes or not self.subnets.coupling.free.issuperset(seen.labels):
                continue
            less = len(seen.labels) - shapes[key][axis] * (seen.groups if axis == 1 else 1)
            less -= sum(label in gone for label in seen.labels)
            left = sorted(set(seen.labels) - gone, key=lambda i: (self.free.get(i, 0.0), -i))
            for label in left:
                if less <= 0:
                    break
                gone.add(label)
                less -= seen.labels.count(label)


def cut_of(subnets: Subnets, key: str, gone: set[int], shape: tuple[int, ...]) -> Cut:
    """Where a tensor stands in the whole one, without the classes that are gone."""
    axes: dict[int, torch.Tensor] = {}
    whole = subnets.coupling.shapes[key]
    for axis in (1, 0):
        seen = subnets.coupling.trace.axes.get((key, axis))
        if seen is None or gone.isdisjoint(seen.labels):
            continue
        stay = torch.tensor([label not in gone for label in seen.labels], device="cpu")
        if axis == 1 and seen.groups > 1:
            parts = stay.chunk(subnets.parts[key])
            index = torch.arange(math.prod(whole), device="cpu").view(whole)
            rows = zip(index.chunk(seen.groups), parts, strict=True)
            kept = torch.cat([part[:, own] for part, own in rows])
            out = subnets.coupling.trace.axes.get((key, 0))
            if out is not None and not gone.isdisjoint(out.labels):
                kept = kept[torch.tensor([label not in gone for label in out.labels], device="cpu")]
            return Cut({}, kept, shape)
        axes[axis] = stay.nonzero().flatten()
    return Cut(axes, None, shape)


def _name(key: str) -> str:
    """A key of a state dict as a name in a ParameterDict."""
    return key.replace(".", "/")
