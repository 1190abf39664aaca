"""Gates: a factor for every removable unit, at 1, where its channels pass. What the loss does when a gate moves is what
the unit is worth (arXiv:1906.10771 section 3).

A unit may pass at several places: on every branch of a residual stream, in every reader of a concatenation. All of them
share its gate, so that the gate's derivative is the sum over places, and a gate at 0 is the unit removed.
"""

import contextlib
from collections.abc import Iterable, Iterator
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from foveate.compress.couple import Coupling, couple
from foveate.errors import ConfigError
from foveate.layers.traits import is_norm, traits_of
from foveate.zoo.family import find_config

Batch = tuple[torch.Tensor, torch.Tensor]  # normalised pictures (N, C, H, W); classes (N,) or shares of them (N, K)
At = Literal["norm", "input"]


class Gates:
    """The gates of a model of the zoo, numbered group by group; the last number, `count`, stands for no gate.

    at "norm": after the norms, before the activation. Units that no norm carries, and those that a depthwise
    convolution filters between two norms (two gates in series would count twice), get theirs as "input": where a
    convolution or the classifier reads them. For networks of ReLU without depthwise convolutions both are equal,
    because relu(z x) = z relu(x).
    """

    def __init__(self, model: nn.Module, at: At = "norm"):
        self.coupling = coupling_of(model)
        self.starts, self.count = starts(self.coupling)
        self.home = homes(self.coupling)
        modules = dict(model.named_modules())
        readers, inside = self._readers(modules)
        outputs = self._norms(modules) if at == "norm" else {}
        normed = {i for index in outputs.values() for i in index} - inside
        self.places: list[tuple[nn.Module, bool, torch.Tensor]] = []  # module, whether its output, gate by channel
        for kind, found in ((True, outputs), (False, readers)):
            for name, index in found.items():
                kept = [i if (i in normed) == (kind and at == "norm") else self.count for i in index]
                if any(i < self.count for i in kept):
                    self.places.append((modules[name], kind, torch.tensor(kept)))

    def _readers(self, modules: dict[str, nn.Module]) -> tuple[dict[str, list[int]], set[int]]:
        """Module -> the gate of each input that it mixes with others; and the units that some layer filters alone."""
        found: dict[str, list[int]] = {}
        inside: set[int] = set()
        axes = self.coupling.trace.axes
        for (key, axis), seen in axes.items():
            if axis != 1:
                continue
            inputs = [self.home.get(label, self.count) for label in seen.labels]
            out = [self.home.get(label, self.count) for label in axes[key, 0].labels]
            size, rows = len(inputs) // seen.groups, max(1, len(out) // seen.groups)
            for i, unit in enumerate(inputs):
                g = i // size
                if set(out[g * rows : (g + 1) * rows]) == {unit} and unit < self.count:
                    inside.add(unit)
                    inputs[i] = self.count
            found.setdefault(owner(key, modules), inputs)
        for key in self.coupling.follows:  # groups that go as a whole have no axis of inputs
            inside |= {self.home[i] for i in axes[f"{key}.weight", 0].labels if i in self.home}
        return found, inside

    def _norms(self, modules: dict[str, nn.Module]) -> dict[str, list[int]]:
        """Norm -> the gate of each of its channels."""
        found = {}
        for (key, axis), seen in self.coupling.trace.axes.items():
            name = key.rpartition(".")[0]
            if axis == 0 and is_norm(modules[name]) and len(self.coupling.shapes[key]) == 1:  # not a matrix a block
                found[name] = [self.home.get(label, self.count) for label in seen.labels]
        return found

    @contextlib.contextmanager
    def opened(self, z: torch.Tensor) -> Iterator[None]:
        """Within the block the model multiplies by z: (units,) for all pictures alike, or (N, units)."""
        padded = torch.cat((z, z.new_ones(*z.shape[:-1], 1)), -1)

        def scaled(x: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
            factors = padded[..., index.to(padded.device)]  # (C,) or (N, C)
            return x * factors.reshape(*(factors.shape if z.ndim > 1 else (1, -1)), *(1,) * (x.ndim - 2)).to(x.dtype)

        handles = [
            module.register_forward_hook(lambda _, given, y, i=index: scaled(y, i))
            if output
            else module.register_forward_pre_hook(lambda _, given, i=index: (scaled(given[0], i), *given[1:]))
            for module, output, index in self.places
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def split(self, values: torch.Tensor) -> dict[str, torch.Tensor]:
        """(..., units) by group."""
        return {
            name: values[..., start : start + len(self.coupling.groups[name].units)]
            for name, start in self.starts.items()
        }


def coupling_of(model: nn.Module) -> Coupling:
    """The coupled widths of a model; ConfigError where it is not of the zoo, or nothing in it can shrink."""
    config = find_config(model)
    if config is None:
        raise ConfigError(
            f"{type(model).__name__}: not a network of the zoo (it has no config), so a smaller one can not be built; "
            "take a model folder, or build(config)"
        )
    coupling = couple(config)
    if not coupling.groups:
        reason = next(iter(coupling.refused.items()), ("it", "it has no widths"))
        raise ConfigError(f"{config.family}: no width of it can shrink: {reason[0]}: {reason[1]}")
    return coupling


def starts(coupling: Coupling) -> tuple[dict[str, int], int]:
    """Where the units of each group begin when all are numbered, and how many there are."""
    begin, count = {}, 0
    for name, group in coupling.groups.items():
        begin[name] = count
        count += len(group.units)
    return begin, count


def homes(coupling: Coupling) -> dict[int, int]:
    """Class of channels -> number of its unit."""
    begin, _ = starts(coupling)
    groups = coupling.groups.items()
    return {label: begin[name] + i for name, g in groups for i, unit in enumerate(g.units) for label in unit.classes}


def owner(key: str, modules: dict[str, nn.Module]) -> str:
    """The module that is called with the channels that a tensor reads."""
    name = key.rpartition(".")[0]
    parents = [name[:i] for i, c in enumerate(name) if c == "."]
    return next((p for p in parents if (traits := traits_of(modules[p])) is not None and traits.uncalled), name)


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode and gradients within the block. (With norms in training mode units rank otherwise.)"""
    if torch.is_inference_mode_enabled():
        raise ConfigError("this criterion needs gradients, and inference mode allows none; leave inference mode")
    modes = [(m, m.training) for m in model.modules()]
    model.eval()
    try:
        with torch.enable_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training


def loss_of(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Cross entropy, summed over the pictures. ConfigError where no gradient would come of it."""
    loss = F.cross_entropy(model(x), y, reduction="sum")
    if not loss.requires_grad:
        raise ConfigError(
            "this criterion needs gradients, and the model gives none (frozen, or it runs without autograd); "
            "take norm, bn_scale or random, or call model.requires_grad_(True)"
        )
    return loss


def by_picture(model: nn.Module, gates: Gates, batches: Iterable[Batch]) -> Iterator[torch.Tensor]:
    """For each batch the derivative of every picture's own loss by every gate: (N, units), float64.

    One backward pass a batch: each picture has gates of its own. Exact in evaluation mode, where pictures do not
    meet. ConfigError where there is no batch, where a number is not finite, and where all are 0.
    """
    most = 0.0
    with evaluating(model):
        for x, y in batches:
            z = torch.ones(len(x), gates.count, dtype=x.dtype, device=x.device, requires_grad=True)
            with gates.opened(z):
                (found,) = torch.autograd.grad(loss_of(model, x, y), z)
            most = max(most, float(found.abs().max()))
            yield found.double()
    check_size(most)


def check_size(most: float) -> None:
    """ConfigError where gradients say nothing. most: the largest one, 0 where there was no batch."""
    if not most < float("inf"):
        raise ConfigError(f"this criterion needs gradients, and the largest one is {most}; the model is not trained")
    if most == 0:
        raise ConfigError("this criterion needs gradients, and all are 0 (or there was no picture); give it pictures")
