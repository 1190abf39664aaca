"""What the maps of a network hold: rank, correlation of channels, dead units, saturation; and its norms after training.

A stage's map (N, C, H, W) is read as N H W samples of C channels. Sums are kept in float64, nothing of the pictures:
memory C^2 a stage. The network stays in the mode that it is in.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from foveate.analysis.products import Batch
from foveate.errors import ConfigError, FoveateError
from foveate.layers.traits import is_norm

Hook = Callable[[nn.Module, object, object], None]
PreHook = Callable[[nn.Module, tuple[object, ...]], None]

ALIKE = 0.9  # |correlation| of two channels from which one could be made of the other by a cheap operation
FLAT = 0.01  # a derivative below which an activation lets no gradient through
LARGE = 5.0  # deviations: of a million normal values 0.6 are larger
STILL = 1e-6  # of a stage's deviation: a channel that moves less is dead


@dataclass(frozen=True)
class Stage:
    """Of one map: numbers over all pictures and pixels."""

    name: str
    channels: int
    samples: int
    rank: int  # of the centred channels, singular values above C eps of float32 of the largest
    effective_rank: float  # exp of the entropy of the singular values' shares (Roy and Vetterli, EUSIPCO 2007)
    correlation: float  # mean |r| over the pairs of channels that are not dead
    alike: float  # share of these pairs with |r| > ALIKE: what GhostNet (arXiv:1911.11907) makes by cheap operations
    mean: float
    std: float
    dead: int  # channels that give the same for every picture and pixel


@dataclass(frozen=True)
class NormScale:
    """A norm after training: its gains, and its values before gain and shift."""

    name: str
    mean: float  # of |gain|
    least: float
    most: float
    large: float  # share of normalised values beyond LARGE deviations
    largest: float  # |normalised value|


@dataclass(frozen=True)
class Saturation:
    """An activation layer: the share of its inputs where its derivative is below FLAT."""

    name: str
    kind: str
    share: float


@dataclass(frozen=True)
class Features:
    """Of a network on some pictures."""

    stages: tuple[Stage, ...]
    norms: tuple[NormScale, ...]
    saturations: tuple[Saturation, ...]


class Moments:
    """Sums over samples (rows) of C channels; add rows, then ask."""

    def __init__(self, channels: int):
        self.count = 0
        self.sum = torch.zeros(channels, dtype=torch.float64)
        self.outer = torch.zeros(channels, channels, dtype=torch.float64)
        self.shift: torch.Tensor | None = None  # of the first rows: without it small deviations drown in a large mean

    def add(self, rows: torch.Tensor) -> None:
        """rows: (n, C), any floating type."""
        rows = rows.double().cpu()
        if self.shift is None:
            self.shift = rows.mean(0)
        rows = rows - self.shift
        self.count += len(rows)
        self.sum += rows.sum(0)
        self.outer += rows.T @ rows

    @property
    def mean(self) -> torch.Tensor:
        """(C,)"""
        shift = torch.zeros_like(self.sum) if self.shift is None else self.shift
        return shift + self.sum / max(1, self.count)

    @property
    def covariance(self) -> torch.Tensor:
        """(C, C), of the samples themselves (divided by n)."""
        mean = self.sum / max(1, self.count)
        return self.outer / max(1, self.count) - torch.outer(mean, mean)


@torch.no_grad()
def features(model: nn.Module, batches: Iterable[Batch]) -> Features:
    """Read a network while it sees pictures. ConfigError without a batch, FoveateError where a map is not finite."""
    moments, norms, flats = dict[str, Moments](), dict[str, list[float]](), dict[str, list[float]]()
    modules = dict(model.named_modules())
    watched = {n: m for n, m in modules.items() if has_gains(m)}
    acting = {n: m for n, m in modules.items() if is_activation(m)}
    handles = [m.register_forward_hook(_norm_hook(n, norms)) for n, m in watched.items()]
    handles += [m.register_forward_pre_hook(_activation_hook(n, m, flats)) for n, m in acting.items()]
    try:
        for x, _ in batches:
            for name, found in stage_maps(model, x).items():
                if not bool(torch.isfinite(found).all()):
                    raise FoveateError(f"{name}: the map is NaN or infinite: the weights or the pictures are damaged")
                moments.setdefault(name, Moments(found.shape[1])).add(found.movedim(1, -1).flatten(0, -2))
    finally:
        for handle in handles:
            handle.remove()
    if not moments:
        raise ConfigError("no batch, or no map in the network: features need both")
    return Features(
        tuple(stage_of(name, m) for name, m in moments.items()),
        tuple(_norm_of(name, watched[name], row) for name, row in norms.items()),
        tuple(Saturation(n, type(acting[n]).__name__, row[0] / row[1]) for n, row in flats.items()),
    )


def stage_of(name: str, moments: Moments) -> Stage:
    """The numbers of one map."""
    covariance, mean = moments.covariance, moments.mean
    variance = covariance.diagonal().clamp_min(0)
    deviation = math.sqrt(float(variance.mean() + mean.var(unbiased=False)))
    alive = variance.sqrt() > STILL * max(deviation, 1e-30)
    values = torch.linalg.eigvalsh(covariance).clamp_min(0)
    singular = values.sqrt()
    floor = float(singular.max()) * len(values) * torch.finfo(torch.float32).eps
    kept = singular[singular > floor]
    shares = kept / kept.sum()
    live = covariance[alive][:, alive]
    scale = live.diagonal().sqrt()
    pairs = (live / torch.outer(scale, scale)).abs()
    upper = pairs[tuple(torch.triu_indices(len(live), len(live), 1))]
    return Stage(
        name,
        channels=len(values),
        samples=moments.count,
        rank=len(kept),
        effective_rank=float(torch.exp(-(shares * shares.log()).sum())) if len(kept) else 0.0,
        correlation=float(upper.mean()) if len(upper) else 0.0,
        alike=float((upper > ALIKE).double().mean()) if len(upper) else 0.0,
        mean=float(mean.mean()),
        std=deviation,
        dead=int((~alive).sum()),
    )


def stage_maps(model: nn.Module, x: torch.Tensor) -> dict[str, torch.Tensor]:
    """Name -> map (N, C, H, W): what feature_maps gives, or what each block of any other module gives (hooks).

    The blocks of a module are its children; a Sequential that is the only one stands for its own.
    """
    if callable(found := getattr(model, "feature_maps", None)):
        return {f"stride {round(x.shape[-1] / m.shape[-1])}": m for m in found(x)}
    maps = dict[str, torch.Tensor]()

    def keep(name: str) -> Hook:
        def hook(module: nn.Module, inputs: object, output: object) -> None:
            if isinstance(output, torch.Tensor) and output.ndim in (2, 4) and output.is_floating_point():
                maps[name] = output

        return hook

    handles = [block.register_forward_hook(keep(name)) for name, block in blocks(model).items()]
    try:
        model(x)
    finally:
        for handle in handles:
            handle.remove()
    return maps


def blocks(model: nn.Module, prefix: str = "") -> Mapping[str, nn.Module]:
    """The children of a module by name, those of the only one where there is only one."""
    children = dict(model.named_children())
    if len(children) == 1:
        (name, only), *_ = children.items()
        return blocks(only, f"{prefix}{name}.") or {f"{prefix}{name}": only}
    return {prefix + name: child for name, child in children.items()}


def has_gains(module: nn.Module) -> bool:
    """Whether a layer is a norm with a gain a channel that its output was multiplied by."""
    gain = getattr(module, "weight", None)
    return is_norm(module) and isinstance(gain, torch.Tensor) and gain.ndim == 1


def is_activation(module: nn.Module) -> bool:
    """Whether a layer works on each number alone, by where it comes from."""
    home = type(module).__module__
    own = home in ("torch.nn.modules.activation", "foveate.layers.act")
    return own and not isinstance(module, (nn.MultiheadAttention, nn.Softmax, nn.Softmax2d, nn.LogSoftmax))


def _norm_hook(name: str, rows: dict[str, list[float]]) -> Hook:
    """Sums of normalised values: how many are large, how many there are, the largest."""

    def hook(module: nn.Module, inputs: object, output: object) -> None:
        if not isinstance(output, torch.Tensor):
            return
        gain, shift = module.weight, getattr(module, "bias", None)
        assert isinstance(gain, torch.Tensor)  # has_gains
        shape = (1, -1, *(1,) * (output.ndim - 2))
        used = gain.abs() > 1e-12
        if len(gain) != output.shape[1] or not bool(used.any()):
            return
        z = output if shift is None else output - shift.view(shape)
        z = (z[:, used] / gain[used].view(shape)).abs()
        row = rows.setdefault(name, [0.0, 0.0, 0.0])
        row[0] += float((z > LARGE).sum())
        row[1] += z.numel()
        row[2] = max(row[2], float(z.max()))

    return hook


def _activation_hook(name: str, module: nn.Module, rows: dict[str, list[float]]) -> PreHook:
    """Counts of inputs whose derivative is small, and of all."""

    def hook(module_: nn.Module, inputs: tuple[object, ...]) -> None:
        x = inputs[0]
        if not isinstance(x, torch.Tensor):
            return
        with torch.enable_grad():
            z = x.detach().clone().requires_grad_()
            # forward, not a call: the hook must not hear itself
            (slope,) = torch.autograd.grad(module.forward(z * 1.0).sum(), z)
        row = rows.setdefault(name, [0.0, 0.0])
        row[0] += float((slope.abs() < FLAT).sum())
        row[1] += slope.numel()

    return hook


def _norm_of(name: str, module: nn.Module, row: list[float]) -> NormScale:
    assert isinstance(module.weight, torch.Tensor)  # has_gains
    gains = module.weight.detach().abs().double()
    return NormScale(
        name, float(gains.mean()), float(gains.min()), float(gains.max()), row[0] / max(1.0, row[1]), row[2]
    )
