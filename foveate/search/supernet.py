"""A weight-sharing supernet: one set of weights of which every net of a space takes its slices.

As in Once-for-All (arXiv:1908.09791) and BigNAS (arXiv:2003.11142): a smaller kernel is the middle of a larger one,
a narrower layer has the first channels of a wider one, a shallower stage the first layers of a deeper one. It is made
for the spaces mnasnet and mobilenet and works for every space whose nets are nested so; another is refused in one line.
"""

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import nn
from torch.func import functional_call

from foveate.errors import ConfigError, FoveateError
from foveate.search.space import UNUSED, Space, Tokens
from foveate.zoo import build

Tensors = dict[str, torch.Tensor]
KEPT = 64  # nets whose modules (without numbers) are kept
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


class Supernet(nn.Module):
    """The shared weights of a space, and its nets as functions of them.

    A net runs as the zoo's own module of its config, with slices in place of its parameters, so that there is no second
    description of any block. Two nets share a weight where the same key stands in modules of the same kinds: of a
    searched operation every kind has its own. The shared tensor is as large as in the largest net, and starts as the
    zoo starts that. Once-for-All's matrices between kernels are left out, as in BigNAS.
    Batch norms share gains and biases. Running statistics belong to one net and are taken anew: see statistics().
    space.config has to give records of the zoo with batch norms or none; ConfigError for others.
    """

    def __init__(self, space: Space, config: Callable[[Tokens], Any] | None = None):
        """config: net -> record, in place of space.config."""
        super().__init__()
        self.space, self.config = space, config or space.config
        self.weights = nn.ParameterDict()
        for net in corners(space):
            model = build(self.config(net))
            for name, buffer in model.named_buffers():
                if name.rpartition(".")[2] not in STATISTICS:
                    raise ConfigError(
                        f"space {space.name}: {name} {tuple(buffer.shape)}; a supernet has batch norms only"
                    )
            names = shared_names(model)
            for key, value in model.named_parameters():
                self._hold(names[key], value.detach())
        self._skeleton = functools.lru_cache(maxsize=KEPT)(self._made)

    def _hold(self, name: str, value: torch.Tensor) -> None:
        """Take a weight's first values from a net that has it; of two, the larger one's."""
        known = self.weights.get(name)
        if known is None or (known.numel() < value.numel() and all(map(int.__le__, known.shape, value.shape))):
            self.weights[name] = nn.Parameter(value.clone())

    def _made(self, net: Tokens) -> tuple[nn.Module, dict[str, str]]:
        with torch.device("meta"):
            model = build(self.config(net))
        return model, shared_names(model)

    def keys(self, net: Tokens) -> list[str]:
        """The keys of a net's state dict."""
        return list(self._skeleton(tuple(net))[0].state_dict())

    def slices(self, net: Tokens) -> Tensors:
        """The net's parameters by their keys in the zoo, as views of the shared ones."""
        model, names = self._skeleton(tuple(net))
        return {key: self._slice(names[key], tuple(p.shape)) for key, p in model.named_parameters()}

    def _slice(self, name: str, shape: tuple[int, ...]) -> torch.Tensor:
        if name not in self.weights:
            raise ConfigError(f"space {self.space.name}: {name} is in no corner of the space; its nets are not nested")
        out: torch.Tensor = self.weights[name]
        if out.ndim != len(shape) or any(have < want for have, want in zip(out.shape, shape, strict=True)):
            raise ConfigError(
                f"space {self.space.name}: {name} has {shape}, in the largest net {tuple(out.shape)}; not nested"
            )
        for axis, (have, want) in enumerate(zip(out.shape, shape, strict=True)):
            middle = len(shape) == 4 and axis > 1  # the taps of a kernel; all else are channels
            out = out.narrow(axis, (have - want) // 2 if middle else 0, want)
        return out

    def forward(
        self, x: torch.Tensor, net: Tokens, statistics: Tensors | None = None, regularised: bool = True
    ) -> torch.Tensor:
        """(N, C, H, W) -> (N, classes) of a net.

        In training mode norms use the batch's statistics, and dropout and drop path work where regularised. In
        evaluation the statistics are needed.
        """
        if not self.training and statistics is None:
            raise FoveateError(
                "a sub-net has no running statistics of its own; take them with statistics(net, batches)"
            )
        model, _ = self._skeleton(tuple(net))
        state = {**self.slices(net), **(statistics or self._blank(model, x.device))}
        for module in model.modules():
            module.training = self.training and (regularised or isinstance(module, nn.BatchNorm2d))
        out: torch.Tensor = functional_call(model, state, (x,), strict=True)
        return out

    def _blank(self, model: nn.Module, device: torch.device) -> Tensors:
        """Statistics of norms that have seen nothing."""
        kind = next(iter(self.weights.values())).dtype
        return {
            key: torch.zeros(b.shape, dtype=b.dtype, device=device)
            if key.endswith("tracked")
            else torch.full(b.shape, float(key.endswith("var")), dtype=kind, device=device)
            for key, b in model.named_buffers()
        }

    @torch.no_grad()
    def statistics(self, net: Tokens, batches: Iterable[torch.Tensor]) -> Tensors:
        """Running statistics of a net: the plain mean over the batches of what its norms see. FoveateError for none.

        Shared weights were trained with many nets' statistics, so no running mean of theirs fits any one (the trap of
        every supernet): score a net only with these. A few hundred to 2,000 pictures, as training sees them.
        """
        model, _ = self._skeleton(tuple(net))
        own, seen, weights = self._blank(model, next(iter(self.weights.values())).device), 0, self.slices(net)
        norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
        momenta = [norm.momentum for norm in norms]
        try:
            for module in model.modules():
                module.training = isinstance(module, nn.BatchNorm2d)
            for norm in norms:
                norm.momentum = None  # torch's sign for the plain mean
            for x in batches:
                functional_call(model, {**weights, **own}, (x,), strict=True)
                seen += 1
        finally:
            for norm, momentum in zip(norms, momenta, strict=True):
                norm.momentum = momentum
        if not seen:
            raise FoveateError("no batch to take running statistics from; give at least one")
        return own


def extract(supernet: Supernet, net: Tokens, statistics: Mapping[str, torch.Tensor]) -> Tensors:
    """The state dict of a net: build(space.config(net)).load_state_dict(...) then computes what the supernet does."""
    whole = {**supernet.slices(net), **statistics}
    return {key: whole[key].detach().clone(memory_format=torch.contiguous_format) for key in supernet.keys(net)}


def shared_names(model: nn.Module) -> dict[str, str]:
    """Parameter key -> name of the shared weight: the key, and the kinds of the modules that it stands in."""
    kinds = {name: type(module).__name__ for name, module in model.named_modules()}
    out = {}
    for key, _ in model.named_parameters():
        parts = key.split(".")
        within = [kinds[".".join(parts[:i])] for i in range(1, len(parts))]
        out[key] = "/".join([*(f"{p}:{k}" for p, k in zip(parts, within, strict=False)), parts[-1]])
    return out


def largest(space: Space) -> Tokens:
    """The net with the largest of every number and every switch on; of words, the one that asks for most choices."""
    return _extreme(space, 1)


def smallest(space: Space) -> Tokens:
    """The net with the smallest of every number and every switch off; of words, the one that asks for fewest."""
    return _extreme(space, -1)


def corners(space: Space) -> list[Tokens]:
    """Nets in which every weight of the space is as large as it gets: the largest, with every word in turn."""
    return list(dict.fromkeys((largest(space), *(_extreme(space, 1, forced) for forced in _turns(space)))))


def edges(space: Space) -> list[Tokens]:
    """The corners, and what they become where one word is changed: every word in all company that it can have."""
    changed = (
        {**forced, i: value}
        for forced in _turns(space)
        for i in forced
        for value in range(len(space.choices[i].values))
    )
    return list(dict.fromkeys((*corners(space), *(_extreme(space, 1, forced) for forced in changed))))


def _turns(space: Space) -> list[dict[int, int]]:
    """Tokens of all words: every first value, every second value, and so on."""
    words = {i: len(c.values) - 1 for i, c in enumerate(space.choices) if isinstance(c.values[0], str)}
    return [{i: min(turn, last) for i, last in words.items()} for turn in range(1 + max(words.values(), default=-1))]


def _extreme(space: Space, sign: int, forced: Mapping[int, int] | None = None) -> Tokens:
    def token(i: int) -> int:
        values: tuple[Any, ...] = space.choices[i].values
        if isinstance(values[0], str):
            rank = [
                sum(space.choices[i].name == name and v in vs for c in space.choices for name, vs in c.when)
                for v in values
            ]
        else:
            rank = list(values)
        order = range(len(values))
        return max(order, key=lambda t: (sign * rank[t], -t))

    start = [UNUSED] * len(space.choices)
    for i, value in (forced or {}).items():
        start[i] = value
    return space.canonical(space.complete(start, token))
