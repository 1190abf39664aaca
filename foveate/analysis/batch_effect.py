"""How the curvature that a step sees grows as its batch shrinks, and the learning rates that follow from it.

The Hessian of a batch is the full one plus noise with edges at 2 s sqrt(P / b), b = B N / (N - B): s^2 the variance
of one picture's Hessian in an entry, P parameters, N pictures. The extremes of the sum (Granziol, Zohren, Roberts,
JMLR 2022, arXiv:2006.09092; Benaych-Georges and Nadakuditi 2011), with w = s^2 P / b:

    top' = top + w / top where top > sqrt(w), else 2 sqrt(w); the bottom likewise, downwards

The noise of a network is not the same in all directions: it is largest along the steepest ones. Noise.along_top is
E |H_i u|^2 - |H u|^2 along the top eigenvector u, and takes the place of s^2 P for the top: w / top is then the
second-order perturbation, whatever the noise. What follows:

    SGD: largest rate 2 / top', linear in B while the noise rules, flat above B = s^2 P / top^2
    Adam: largest rate as sqrt(B); damping of a second-order step: at least in proportion to rate / B

The model is a coarse one: direction and size, not digits.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from foveate.analysis.lanczos import Ritz, Spectrum, lanczos
from foveate.analysis.products import Batch, Loss, Maker, flat, hessian, trained
from foveate.errors import ConfigError, FoveateError

WEIGHT_FLOOR = 1e-4  # a Ritz value that holds less of its vector is noise of the run


@dataclass(frozen=True)
class Extremes:
    """The largest and the smallest eigenvalue, or what is expected of them."""

    top: float
    bottom: float


@dataclass(frozen=True)
class Noise:
    """s^2 P of one picture's Hessian, with 95 % of Student's t over the vectors that it was taken along."""

    power: float
    interval: tuple[float, float]
    pictures: int
    along_top: float | None = None  # the same along the top eigenvector of the full Hessian

    def share(self, batch: float) -> float:
        """1 / b of a batch of this size out of all pictures; 0 for all of them."""
        if not 0 < batch <= self.pictures:
            raise ConfigError(f"batch {batch:g}: above 0 and at most the {self.pictures} pictures")
        return 1 / batch - 1 / self.pictures


@dataclass(frozen=True)
class Measured:
    """Extremes of several batches of one size: means, and 95 % of Student's t over the batches."""

    batch: int
    draws: int
    top: float
    top_interval: tuple[float, float]
    bottom: float
    bottom_interval: tuple[float, float]


def noise_of(
    model: nn.Module,
    batches: Iterable[Batch],
    loss: Loss,
    *,
    vectors: int = 3,
    seed: int = 0,
    top: torch.Tensor | None = None,
) -> Noise:
    """s^2 P = E |H_i v|^2 - |H v|^2 over random unit vectors v, without bias, from small batches.

    For M batches of b_m pictures, sum b_m |h_m - h|^2 / (M - 1) is the variance of one picture (h_m = H_m v, h their
    mean weighted by b_m): a plain difference of squares would be too small by the variance of h itself. The batches
    are independent samples; small ones cost as much and say more. Cost: `vectors` products with the full Hessian.
    top: the top eigenvector, of length 1 (lanczos.leading), for one product more. In training mode batch norm makes a
    small batch another network: use evaluation mode, or say so.
    ConfigError with fewer than two batches; FoveateError where a product is not finite.
    """
    kept, params = list(batches), trained(model)
    if len(kept) < 2 or vectors < 1:
        raise ConfigError(f"noise of the Hessian from {len(kept)} batches and {vectors} vectors: at least 2 and 1")
    like = flat(params, params).detach()
    found = [_variance(model, kept, loss, v) for v in unit_vectors(like, vectors, seed)]
    along = None if top is None else _variance(model, kept, loss, top)
    if not np.isfinite([*found, along or 0.0]).all():
        raise FoveateError("a product with the Hessian is not finite: the loss or its gradient is NaN or infinite here")
    return Noise(float(np.mean(found)), interval(found), sum(len(x) for x, _ in kept), along)


def _variance(model: nn.Module, batches: Sequence[Batch], loss: Loss, v: torch.Tensor) -> float:
    """The variance of one picture's H_i v, summed over its entries, from the spread between batches.

    One pass: sum b |h|^2 - N |h|^2, in float64, for both are large and their difference may be small.
    """
    total, square = sum(len(x) for x, _ in batches), 0.0
    mean = torch.zeros_like(v, dtype=torch.float64)
    for x, y in batches:
        h = hessian(model, [(x, y)], loss)(v).double()
        square += len(x) * float(h @ h)
        mean += h * (len(x) / total)
    return (square - total * float(mean @ mean)) / (len(batches) - 1)


def predict(noise: Noise, full: Extremes, batch: float) -> Extremes:
    """The extremes of the Hessian of a batch, from those of all pictures and the noise."""
    part = noise.share(batch)

    def grown(value: float, power: float) -> float:
        noise_here = max(power, 0.0) * part
        return value + noise_here / value if value > math.sqrt(noise_here) else 2 * math.sqrt(noise_here)

    along = noise.power if noise.along_top is None else noise.along_top
    return Extremes(grown(full.top, along), -grown(-full.bottom, noise.power))


def saturation(noise: Noise, top: float) -> float:
    """The batch above which a larger one allows no larger rate of SGD: s^2 P / top^2. inf where top <= 0."""
    power = noise.power if noise.along_top is None else noise.along_top
    return max(power, 0.0) / top**2 if top > 0 else math.inf


def sgd_rate(top: float) -> float:
    """The rate above which gradient descent without momentum is unstable in the steepest direction: 2 / top."""
    return 2 / top if top > 0 else math.inf


def adam_rate(rate: float, batch: float, other: float) -> float:
    """A rate of Adam that was good at a batch, for another batch: it grows as the root."""
    return rate * math.sqrt(other / batch)


def least_damping(damping: float, rate: float, batch: float, other_rate: float, other: float) -> float:
    """The damping of a second-order step that was enough, for another rate and batch: in proportion to rate / batch."""
    return damping * (other_rate / rate) * (batch / other)


def polyak(runs: Sequence[Ritz]) -> tuple[float, float]:
    """(rate, momentum) of heavy ball for a quadratic whose curvature spans the positive Ritz values.

    rate = (2 / (sqrt L + sqrt mu))^2, at most 2 (1 + momentum) / L; momentum = ((sqrt L - sqrt mu) / (their sum))^2,
    L the largest Ritz value, mu the smallest positive one that holds WEIGHT_FLOOR of its vector (Polyak 1964).
    FoveateError where no direction curves upwards.
    """
    nodes = np.concatenate([run.nodes for run in runs])
    weights = np.concatenate([run.weights for run in runs])
    # float32 products blur what lies near zero: less than a millionth of the largest is not told from it
    positive = nodes[(nodes > 1e-6 * abs(nodes).max()) & (weights >= WEIGHT_FLOOR)]
    if not len(positive):
        raise FoveateError("no direction in which the loss curves upwards: no rate follows from its curvature")
    root_top, root_low = math.sqrt(nodes.max()), math.sqrt(positive.min())
    momentum = ((root_top - root_low) / (root_top + root_low)) ** 2
    return min((2 / (root_top + root_low)) ** 2, 2 * (1 + momentum) / float(nodes.max())), momentum


def measure(
    model: nn.Module,
    pictures: Batch,
    loss: Loss,
    batch: int,
    *,
    steps: int = 15,
    draws: int = 3,
    seed: int = 0,
    product: Maker = hessian,
) -> Measured:
    """Extremes of the matrix of `draws` random batches of one size out of the pictures, each by one Lanczos run.

    product: hessian or gauss_newton. The batch of all pictures is always the same: one draw is as good as three.
    """
    x, y = pictures
    if not 1 <= batch <= len(x) or draws < 1:
        raise ConfigError(f"{draws} batches of {batch}: at least one, of 1 to {len(x)} pictures")
    params = trained(model)
    like = flat(params, params).detach()
    tops, bottoms = list[float](), list[float]()
    for draw in range(draws):
        generator = torch.Generator().manual_seed(seed * 1_000_003 + draw)
        picks = torch.randperm(len(x), generator=generator)[:batch].to(x.device)
        v = next(unit_vectors(like, 1, seed * 1_000_003 + draw))
        run = Spectrum(like.numel(), (lanczos(product(model, [(x[picks], y[picks])], loss), v, steps),))
        tops.append(run.top)
        bottoms.append(run.bottom)
    return Measured(batch, draws, *_told(tops), *_told(bottoms))


def sharpness(model: nn.Module, batches: Iterable[Batch], loss: Loss) -> float:
    """The mean over batches of g^T H g / |g|^2, g and H of the batch: what settles at 2 / rate under SGD.

    arXiv:2412.20553, the edge of stochastic stability. NaN where each gradient is zero.
    """
    found, params = [], trained(model)
    for x, y in batches:
        g = flat(torch.autograd.grad(loss(model(x), y), params, allow_unused=True), params)
        if (square := float(g @ g)) > 0:
            found.append(float(g @ hessian(model, [(x, y)], loss)(g)) / square)
    return float(np.mean(found)) if found else math.nan


def unit_vectors(like: torch.Tensor, count: int, seed: int) -> Iterator[torch.Tensor]:
    """Vectors of random signs of length 1, of the kind of `like` (P,)."""
    for i in range(count):
        generator = torch.Generator().manual_seed(seed * 1_000_003 + i)
        signs = torch.randint(0, 2, (like.numel(),), generator=generator) * 2 - 1
        yield signs.to(like) / math.sqrt(like.numel())


def interval(values: Sequence[float]) -> tuple[float, float]:
    """95 % of Student's t about the mean; the whole line for a single value."""
    from scipy.stats import t

    n = len(values)
    if n < 2:
        return -math.inf, math.inf
    half = float(t.ppf(0.975, n - 1)) * float(np.std(values, ddof=1)) / math.sqrt(n)
    return float(np.mean(values)) - half, float(np.mean(values)) + half


def _told(values: Sequence[float]) -> tuple[float, tuple[float, float]]:
    return float(np.mean(values)), interval(values)


def micro_batches(pictures: Batch, size: int) -> list[Batch]:
    """A batch as neighbouring small ones."""
    x, y = pictures
    return list(zip(x.split(size), y.split(size), strict=True))
