"""Scale-invariant parameters: which they are, how fast they turn, and the three regimes of a fixed effective rate.

For F(c w) = F(w): <w, g> = 0 and g(c w) = g(w) / c. So a step turns w by about ELR * effective gradient, with
ELR = lr / |w|^2 the effective rate and |w| |g| the effective gradient, whatever the length of w. With a fixed ELR on
the sphere training converges (low), keeps a level of loss that the ELR sets (middle: chaotic equilibrium) or walks at
random (high). Kodryan, Lobacheva, Nakhodnov, Vetrov, NeurIPS 2022, arXiv:2209.03695.
"""

import copy
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import nn

from foveate.analysis.products import Batch, Loss, trained
from foveate.errors import ConfigError, FoveateError

Regime = Literal["convergence", "equilibrium", "divergence"]
NUMBER: dict[Regime, int] = {"convergence": 1, "equilibrium": 2, "divergence": 3}
FACTORS = (3.0, 0.25)  # what a tensor is multiplied by
SAME = 1e-6  # of the outputs' deviation, in float64 with the eps of norms lowered
EPS = 1e-12
CONVERGED = 0.02  # of chance: a loss below is converged, whatever its slope


@dataclass(frozen=True)
class Turn:
    """A scale-invariant tensor at one step of SGD."""

    name: str
    length: float  # |w|
    elr: float  # lr / |w|^2
    gradient: float  # effective: |w| |g|
    angle: float  # radians a step, elr * gradient to first order
    radial: float  # <w, g>, 0 but for eps of norms and rounding


@dataclass(frozen=True)
class Trained:
    """One run at a fixed effective rate."""

    elr: float
    losses: tuple[float, ...]  # mean of each epoch
    gradient: float  # effective gradient, mean of the last epoch
    regime: Regime


def invariant_names(model: nn.Module, batches: Iterable[Batch]) -> tuple[str, ...]:
    """The trained parameters whose scale does not matter while training, found by test: each is scaled, the outputs
    stay.

    Tested on a copy in float64, in training mode without dropout, with the eps of norms at 1e-12 (with 1e-5 invariance
    is approximate, and breaks for short weights), and near the point where the network stands, not at it: there a gain
    in front of a convolution and a norm looks invariant while its bias is 0. What the outputs do not depend on at all
    (a bias in front of a norm) is not counted. Costs up to three forward passes a tensor.
    """
    x = _inputs(batches)
    net = _testable(model)
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    params = dict(net.named_parameters())
    with torch.no_grad(), batch_statistics(net):
        for i, p in enumerate(params.values()):
            if p.ndim < 2:
                p.add_(0.1 * _noise(p, i + 1) * max(float(p.square().mean().sqrt()), 0.1))
        base = net(x)
        if not bool(torch.isfinite(base).all()):
            raise FoveateError("the network answers NaN or infinity in training mode: its weights are damaged")
        room = SAME * max(float(base.std()), 1e-12)

        def moved(p: torch.Tensor, change: torch.Tensor) -> bool:
            kept = p.clone()
            p.copy_(change)
            far = float((net(x) - base).abs().max())
            p.copy_(kept)
            return not far <= room

        found = []
        for name in names:
            p = params[name]
            if not float(p.norm()) or any(moved(p, p * factor) for factor in FACTORS):
                continue
            noise = _noise(p, 0)
            if moved(p, p + noise * (p.norm() / noise.norm())):
                found.append(name)
    return tuple(found)


def _noise(like: torch.Tensor, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(like.shape, generator=generator, dtype=torch.float64).to(like)


def turns(model: nn.Module, names: Sequence[str], batches: Iterable[Batch], loss: Loss, lr: float) -> list[Turn]:
    """How far a step of SGD at rate lr would turn each tensor, with the mean gradient of the batches.

    Training mode, batch by batch; running statistics stay as they are. FoveateError where a gradient is not finite.
    """
    params = dict(model.named_parameters())
    chosen = [params[name] for name in names]
    total, count = [torch.zeros_like(p) for p in chosen], 0
    with batch_statistics(model):
        for x, y in batches:
            grads = torch.autograd.grad(loss(model(x), y), chosen)
            torch._foreach_add_(total, torch._foreach_mul(grads, len(x)))
            count += len(x)
    if not count:
        raise ConfigError("no batch: give at least one")
    rows = []
    for name, p, g in zip(names, chosen, torch._foreach_div(total, count), strict=True):
        w = p.detach()
        length, slope = float(w.norm()), float(g.norm())
        if not math.isfinite(slope):
            raise FoveateError(f"{name}: its gradient is NaN or infinite; effective rates need a finite one")
        elr = lr / length**2
        step = torch.atan2(lr * g.norm(), w.norm())
        rows.append(Turn(name, length, elr, length * slope, float(step), float((w * g).sum())))
    return rows


def train_at(
    model: nn.Module,
    names: Sequence[str],
    pictures: Batch,
    loss: Loss,
    elr: float,
    *,
    epochs: int,
    batch: int,
    classes: int,
    seed: int = 0,
    go_on: Callable[[], bool] = lambda: True,
) -> Trained:
    """Train a copy at a fixed effective rate: the named tensors as one vector on its sphere, all else frozen.

    w <- rho (w - ELR rho^2 g) / |...|, rho = |w| at the start; no momentum, no decay, no schedule, no augmentation. A
    run ends early where a loss is not finite (divergence). go_on: asked before every epoch but the first.
    """
    net = copy.deepcopy(model).train()
    chosen = [dict(net.named_parameters())[name] for name in names]
    if not chosen:
        raise ConfigError("no scale-invariant parameter: nothing turns on a sphere")
    for p in net.parameters():
        p.requires_grad_(False)
    for p in chosen:
        p.requires_grad_(True)
    x, y = pictures
    rho = length_of(chosen)
    losses, slope = list[float](), math.nan
    for epoch in range(epochs):
        if epoch and not go_on():
            break
        generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
        order = torch.randperm(len(x), generator=generator).to(x.device)
        seen, slopes = list[float](), list[float]()
        for picks in order.split(batch):
            if len(picks) < min(batch, 2):
                continue
            found = loss(net(x[picks]), y[picks])
            grads = torch.autograd.grad(found, chosen)
            seen.append(float(found.detach()))
            slopes.append(rho * length_of(grads))
            step_on_sphere(chosen, grads, elr, rho)
        losses.append(float(np.mean(seen)))
        slope = float(np.mean(slopes))
        if not math.isfinite(losses[-1]):
            break
    return Trained(elr, tuple(losses), slope, regime_of(losses, classes))


@torch.no_grad()
def step_on_sphere(params: Sequence[torch.Tensor], grads: Sequence[torch.Tensor], elr: float, rho: float) -> None:
    """One step at an effective rate, and back to the length rho. In place."""
    torch._foreach_add_(list(params), list(grads), alpha=-elr * rho * rho)
    torch._foreach_mul_(list(params), rho / length_of(params))


def length_of(tensors: Sequence[torch.Tensor]) -> float:
    """The length of tensors as one vector."""
    return float(torch.linalg.vector_norm(torch.stack(torch._foreach_norm([t.detach() for t in tensors]))))


def regime_of(losses: Sequence[float], classes: int) -> Regime:
    """The regime of a run by the mean losses of its epochs, chance being ln(classes).

    divergence: the last quarter is at chance or above, or not finite. convergence: it is below 0.02 of chance, or the
    log loss of the last half still falls: a line through it falls by more than 0.01 and by three of its own standard
    errors. Else equilibrium: the level stays.
    """
    values, chance = np.array(losses, float), math.log(classes)
    if len(values) < 4:
        raise ConfigError(f"{len(values)} epochs: a regime shows in 4 or more")
    last, half = values[-max(1, len(values) // 4) :], np.log(np.maximum(values[len(values) // 2 :], 1e-30))
    if not np.isfinite(values).all() or last.mean() >= chance:
        return "divergence"
    if np.median(last) < CONVERGED * chance:
        return "convergence"
    at = np.arange(len(half)) - (len(half) - 1) / 2
    slope = float(at @ half / (at @ at))
    rest = half - half.mean() - slope * at
    error = math.sqrt(float(rest @ rest) / max(1, len(half) - 2) / float(at @ at))
    fall = -slope * (len(half) - 1)
    return "convergence" if fall > 0.01 and -slope > 3 * error else "equilibrium"


def borders(runs: Sequence[Trained]) -> dict[str, tuple[float, float]]:
    """Between which effective rates one regime gives way to the next, of runs in order of their rate."""
    rows = sorted(runs, key=lambda run: run.elr)
    return {
        f"{a.regime} to {b.regime}": (a.elr, b.elr)
        for a, b in itertools.pairwise(rows)
        if NUMBER[a.regime] < NUMBER[b.regime]
    }


@contextmanager
def batch_statistics(model: nn.Module) -> Iterator[None]:
    """Training mode without dropout and drop path, in which running statistics and other buffers do not change."""
    modes = [(m, m.training) for m in model.modules()]
    kept = [(b, b.clone()) for b in model.buffers()]
    model.train()
    for m in model.modules():
        if "drop" in type(m).__name__.lower():
            m.eval()
    try:
        yield
    finally:
        for m, mode in modes:
            m.training = mode
        with torch.no_grad():
            for b, value in kept:
                b.copy_(value)


def _testable(model: nn.Module) -> nn.Module:
    """A copy in float64 whose norms have an eps of 1e-12."""
    trained(model)  # refuses half precision and frozen networks
    net = copy.deepcopy(model).double()
    for m in net.modules():
        if isinstance(getattr(m, "eps", None), float):
            m.eps = EPS  # type: ignore[assignment]  # a plain attribute of a norm
    return net


def _inputs(batches: Iterable[Batch]) -> torch.Tensor:
    """The pictures of the first batch, in float64. ConfigError with fewer than two: batch norm needs them."""
    x = next((x for x, _ in batches), None)
    if x is None or len(x) < 2:
        raise ConfigError(f"{0 if x is None else len(x)} pictures: scale invariance is tested on two or more")
    return x.double()
