"""What gates do: activation by class and picture, which of them are constant, what leaving them out saves and costs.

A gate here is a layer that says so (traits, kind "gate") and multiplies its input by something that is not negative:
squeeze-and-excitation, ECA, CBAM, coordinate attention, masks; what it multiplies by is read from output and input,
so that a new layer needs no line here. Also the selection of selective kernels (its share of the last, widest path)
and the mask branch of residual attention networks. Additive blocks (non-local) are no gates in this sense.
Hu, Shen, Albanie, Sun, Wu, arXiv:1709.01507 section 6.4: the activations of late gates hardly differ between classes.
"""

import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from foveate.analysis.products import Batch
from foveate.errors import ConfigError
from foveate.layers.sk import Selection
from foveate.layers.traits import traits_of
from foveate.zoo.families.attention.network import Mask

IDLE = 0.02  # of its mean: a gate that varies less from picture to picture is a constant
Hook = Callable[[nn.Module, tuple[torch.Tensor, ...], torch.Tensor], torch.Tensor | None]


@dataclass(frozen=True, eq=False)
class Gate:
    """One gate on some pictures."""

    name: str
    kind: str  # of the layer: SqueezeExcite, ECA, ...
    stage: str  # the first part of its name that has a number, "layer4"
    params: int
    means: np.ndarray  # (C,) activation of each channel over all pictures
    by_class: np.ndarray  # (K, C); NaN where there is no picture of a class
    spread: float  # deviation between pictures, mean over channels
    class_spread: float  # deviation between the means of classes, mean over channels

    @property
    def mean(self) -> float:
        """Over channels and pictures."""
        return float(self.means.mean())

    @property
    def idle(self) -> bool:
        """Whether it gives the same for every picture, so that the layer before it could do its work."""
        return self.spread < IDLE * max(abs(self.mean), 1e-12)


def gate_modules(model: nn.Module) -> dict[str, nn.Module]:
    """The gates of a model by name, outer ones only."""
    found = dict[str, nn.Module]()
    for name, module in model.named_modules():
        traits = traits_of(module)
        gate = isinstance(module, (Selection, Mask)) or (traits is not None and traits.kind == "gate")
        if gate and not any(name.startswith(f"{outer}.") for outer in found):
            found[name] = module
    return found


def activation(module: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor | None:
    """What a gate multiplied each channel by, (N, C), in the mean over pixels (weighted by |x|); None of a block that
    does not multiply.
    """
    if isinstance(module, Selection):
        return y[:, -1].flatten(2).mean(2)
    if isinstance(module, Mask):
        return y.flatten(2).mean(2)
    if y.shape != x.shape or bool((y * x < 0).any()):
        return None
    return y.abs().flatten(2).sum(2) / x.abs().flatten(2).sum(2).clamp_min(1e-12)


@torch.no_grad()
def gates(model: nn.Module, batches: Iterable[Batch], classes: int) -> list[Gate]:
    """Every gate of a model on the pictures, in the order of the network; an empty list where it has none."""
    modules, rows, labels = gate_modules(model), dict[str, list[torch.Tensor]](), list[torch.Tensor]()

    def keep(name: str) -> Hook:
        def hook(module: nn.Module, given: tuple[torch.Tensor, ...], y: torch.Tensor) -> None:
            found = activation(module, given[0], y)
            if found is not None:
                rows.setdefault(name, []).append(found.double().cpu())

        return hook

    if not modules:
        return []
    with hooked({modules[name]: keep(name) for name in modules}):
        for x, y in batches:
            model(x)
            labels.append(y.cpu())
    if not labels:
        raise ConfigError("no batch: gates are read while the network sees pictures")
    of = torch.cat(labels)
    # a block that is not a gate on every batch (an additive one may look like one by chance) is left out
    whole = {name: torch.cat(parts) for name, parts in rows.items() if len(parts) == len(labels)}
    return [_gate(name, modules[name], seen, of, classes) for name, seen in whole.items() if len(seen) == len(of)]


def _gate(name: str, module: nn.Module, seen: torch.Tensor, labels: torch.Tensor, classes: int) -> Gate:
    values, of = seen.numpy(), labels.numpy()
    means = [values[of == k].mean(0) if (of == k).any() else np.full(values.shape[1], np.nan) for k in range(classes)]
    by_class = np.stack(means)
    there = by_class[~np.isnan(by_class[:, 0])]
    return Gate(
        name,
        type(module).__name__,
        stage_of(name),
        sum(p.numel() for p in module.parameters()),
        values.mean(0),
        by_class,
        float(values.std(0).mean()),
        float(there.std(0).mean()),
    )


def stage_of(name: str) -> str:
    """ "layer4.2.se" -> "layer4", "blocks.3.1.se" -> "blocks.3"."""
    words = name.split(".")
    end = next((i for i, word in enumerate(words) if any(c.isdigit() for c in word)), 0)
    return ".".join(words[: end + 1])


@contextlib.contextmanager
def without(model: nn.Module, found: Sequence[Gate]) -> Iterator[None]:
    """Within the block these gates multiply each channel by its mean, whatever the picture: what is left when a gate
    is removed and the layer before it takes its mean in.
    """
    modules = gate_modules(model)

    def fixed(gate: Gate) -> Hook:
        means = torch.from_numpy(gate.means)

        def hook(module: nn.Module, given: tuple[torch.Tensor, ...], y: torch.Tensor) -> torch.Tensor:
            m = means.to(y)
            if isinstance(module, Selection):  # the other paths share what the last one leaves, as they did
                rest = y[:, :-1].sum(1, keepdim=True).clamp_min(1e-12)
                last = m.view(1, 1, -1, 1, 1).expand(len(y), 1, -1, 1, 1)
                return torch.cat((y[:, :-1] / rest * (1 - last), last), 1)
            m = m.view(1, -1, *(1,) * (y.ndim - 2))
            return m.expand_as(y).clone() if isinstance(module, Mask) else given[0] * m

        return hook

    with hooked({modules[gate.name]: fixed(gate) for gate in found}):
        yield


@dataclass(frozen=True)
class Removal:
    """What a network without some gates has and does, beside the one with them."""

    names: tuple[str, ...]
    params: int  # of these gates
    share: float  # of all parameters
    loss: tuple[float, float]  # cross entropy before, after
    accuracy: tuple[float, float]
    pictures: int


def remove(model: nn.Module, found: Sequence[Gate], batches: Iterable[Batch]) -> Removal:
    """Leave gates out (without()), and measure what it costs on the pictures, without any training after it."""
    kept = list(batches)
    before = judge(model, kept)
    with without(model, found):
        after = judge(model, kept)
    saved, whole = sum(gate.params for gate in found), sum(p.numel() for p in model.parameters())
    count = sum(len(x) for x, _ in kept)
    return Removal(
        tuple(g.name for g in found), saved, saved / whole, (before[0], after[0]), (before[1], after[1]), count
    )


@torch.no_grad()
def judge(model: nn.Module, batches: Iterable[Batch]) -> tuple[float, float]:
    """(mean cross entropy, accuracy) over the pictures."""
    loss, hits, count = 0.0, 0, 0
    for x, y in batches:
        z = model(x)
        loss += float(F.cross_entropy(z, y, reduction="sum"))
        hits += int((z.argmax(1) == y).sum())
        count += len(x)
    return loss / max(1, count), hits / max(1, count)


@torch.no_grad()
def by_zoom(
    model: nn.Module, batches: Iterable[Batch], zooms: Sequence[float] = (1.0, 1.5, 2.0)
) -> dict[str, list[float]]:
    """Of each selection: the mean share of the path with the widest reach, when the middle of the pictures is enlarged.

    Li, Wang, Hu, Yang, arXiv:1903.06586 section 4.4: the larger the object, the more of it.
    """
    chosen = {name: m for name, m in gate_modules(model).items() if isinstance(m, Selection)}
    kept, shares = list(batches), {name: list[float]() for name in chosen}
    for zoom in zooms:
        sums = dict.fromkeys(chosen, 0.0)

        def keep(name: str, sums: dict[str, float] = sums) -> Hook:
            def hook(module: nn.Module, given: tuple[torch.Tensor, ...], y: torch.Tensor) -> None:
                sums[name] += float(y[:, -1].mean()) * len(y)

            return hook

        with hooked({m: keep(name) for name, m in chosen.items()}):
            for x, _ in kept:
                model(enlarged(x, zoom))
        for name in chosen:
            shares[name].append(sums[name] / max(1, sum(len(x) for x, _ in kept)))
    return shares


def enlarged(x: torch.Tensor, zoom: float) -> torch.Tensor:
    """The middle of the pictures, 1 / zoom of each side, at the size of the whole."""
    sides = [max(1, round(s / zoom)) for s in x.shape[-2:]]
    top, left = ((s - cut) // 2 for s, cut in zip(x.shape[-2:], sides, strict=True))
    part = x[..., top : top + sides[0], left : left + sides[1]]
    return F.interpolate(part, size=x.shape[-2:], mode="bilinear", align_corners=False, antialias=True)


@torch.no_grad()
def masks(model: nn.Module, x: torch.Tensor) -> dict[str, torch.Tensor]:
    """Of each gate that tells pixels apart: its mask (N, h, w), the mean over channels, for pictures x."""
    found, modules = dict[str, torch.Tensor](), gate_modules(model)

    def keep(name: str) -> Hook:
        def hook(module: nn.Module, given: tuple[torch.Tensor, ...], y: torch.Tensor) -> None:
            if isinstance(module, Selection) or y.ndim != 4 or min(y.shape[-2:]) < 2:
                return
            own = y if isinstance(module, Mask) else y.abs() / given[0].abs().clamp_min(1e-12)
            seen = torch.ones_like(y) if isinstance(module, Mask) else (given[0].abs() > 1e-6).to(y)
            mask = (own * seen).sum(1) / seen.sum(1).clamp_min(1)
            used = seen.sum(1) > 0
            if bool((own.amax((2, 3)) - own.amin((2, 3)) > 1e-4).any()) and not _flat(own, seen):
                found[name] = torch.where(used, mask, mask.mean())

        return hook

    with hooked({m: keep(name) for name, m in modules.items()}):
        model(x)
    return found


def _flat(own: torch.Tensor, seen: torch.Tensor) -> bool:
    """Whether every channel has one value at all pixels where it can be read."""
    high = torch.where(seen > 0, own, -torch.inf).amax((2, 3))
    low = torch.where(seen > 0, own, torch.inf).amin((2, 3))
    there = torch.isfinite(high) & torch.isfinite(low)
    return not bool(((high - low)[there] > 1e-3).any())


def share_of_parameters(model: nn.Module, names: Collection[str] = ()) -> tuple[int, float]:
    """(parameters of all gates but those named, their ratio to the parameters of the network without any gate)."""
    counts = {name: sum(p.numel() for p in m.parameters()) for name, m in gate_modules(model).items()}
    bare = sum(p.numel() for p in model.parameters()) - sum(counts.values())
    left = sum(count for name, count in counts.items() if name not in names)
    return left, left / bare


@contextlib.contextmanager
def hooked(hooks: Mapping[nn.Module, Hook]) -> Iterator[None]:
    """Forward hooks within the block."""
    handles = [module.register_forward_hook(hook) for module, hook in hooks.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
