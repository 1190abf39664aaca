"""How a network answers when its pictures change, by chance or on purpose, and how much each layer can amplify.

FGSM: Goodfellow, Shlens, Szegedy, arXiv:1412.6572. PGD: Madry and others, arXiv:1706.06083. Both move every pixel by at
most `reach` in the largest norm, and read gradients in evaluation mode: white-box attacks of the network as it is.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from foveate.analysis.products import Batch
from foveate.errors import ConfigError, FoveateError
from foveate.layers.traits import is_norm

Forward = Callable[[torch.Tensor], torch.Tensor]  # pictures (N, 3, H, W) from 0 to 1 -> logits
REACH, PGD_STEP, PGD_STEPS = 8 / 255, 2 / 255, 10
CHAIN = (nn.Flatten, nn.Identity, nn.ReLU, nn.LeakyReLU, nn.Tanh, nn.ELU, nn.Dropout, nn.AdaptiveAvgPool2d)


def fgsm(forward: Forward, x: torch.Tensor, y: torch.Tensor, reach: float = REACH) -> torch.Tensor:
    """One step of `reach` along the sign of the gradient; pictures from 0 to 1."""
    return (x + reach * _slope(forward, x, y).sign()).clamp(0, 1)


def pgd(
    forward: Forward,
    x: torch.Tensor,
    y: torch.Tensor,
    reach: float = REACH,
    *,
    step: float = PGD_STEP,
    steps: int = PGD_STEPS,
    seed: int = 0,
) -> torch.Tensor:
    """Several steps from a random place within reach, brought back after each."""
    generator = torch.Generator().manual_seed(seed)
    start = (torch.rand(x.shape, generator=generator).to(x) * 2 - 1) * reach
    moved = (x + start).clamp(0, 1)
    for _ in range(steps):
        moved = moved + step * _slope(forward, moved, y).sign()
        moved = torch.maximum(torch.minimum(moved, x + reach), x - reach).clamp(0, 1)
    return moved


def _slope(forward: Forward, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The gradient of the loss by the pictures. FoveateError where it is not finite, or there is none."""
    with torch.enable_grad():
        z = x.detach().clone().requires_grad_()
        (slope,) = torch.autograd.grad(F.cross_entropy(forward(z), y, reduction="sum"), z, allow_unused=True)
    if slope is None or not bool(torch.isfinite(slope).all()):
        raise FoveateError("the gradient by the pictures is missing, NaN or infinite: attacks need a finite one")
    return slope


@torch.no_grad()
def batch_dependence(model: nn.Module, x: torch.Tensor) -> float:
    """How much the answer to a picture depends on the others of its batch, in prediction: the largest difference
    between all at once and one at a time, relative to the deviation of the logits. 0 but for rounding in most networks.
    """
    together = model(x)
    alone = torch.cat([model(x[i : i + 1]) for i in range(len(x))])
    return float((together - alone).abs().max() / together.std().clamp_min(1e-12))


@dataclass(frozen=True)
class LayerNorm:
    """The largest factor by which a layer can stretch its input."""

    name: str
    kind: str
    norm: float


def spectral_norms(model: nn.Module, x: torch.Tensor, *, steps: int = 30, seed: int = 0) -> list[LayerNorm]:
    """Of every convolution and linear layer, at the size of map that it sees when the model looks at x; of batch norms
    the largest |gain| / deviation, in evaluation mode.

    Power iteration on the layer itself (padding, stride and groups as they are), from below; in float64.
    """
    inputs = dict[str, torch.Size]()
    chosen = {n: m for n, m in model.named_modules() if stretches(m)}

    def keep(name: str) -> Callable[[nn.Module, tuple[torch.Tensor, ...], object], None]:
        def hook(module: nn.Module, given: tuple[torch.Tensor, ...], output: object) -> None:
            inputs[name] = given[0].shape[1:]

        return hook

    handles = [m.register_forward_hook(keep(n)) for n, m in chosen.items()]
    try:
        with torch.no_grad():
            model(x[:2])
    finally:
        for handle in handles:
            handle.remove()
    return [
        LayerNorm(name, type(chosen[name]).__name__, stretch(chosen[name], shape, steps, seed))
        for name, shape in inputs.items()
    ]


def stretches(module: nn.Module) -> bool:
    """Whether a layer is linear and its factor is looked for."""
    return isinstance(module, (nn.Conv2d, nn.Linear)) or (is_norm(module) and hasattr(module, "running_var"))


def stretch(module: nn.Module, shape: Sequence[int], steps: int = 30, seed: int = 0) -> float:
    """The spectral norm of a linear layer for inputs of one shape, without its bias. FoveateError where not finite."""
    if not isinstance(module, (nn.Conv2d, nn.Linear)):
        return _gain(module)
    import copy

    layer = copy.deepcopy(module).double()
    layer.bias = None
    generator = torch.Generator().manual_seed(seed)
    v = torch.randn(1, *shape, generator=generator, dtype=torch.float64)
    return power_iteration(layer, v, steps)


def power_iteration(function: Forward, v: torch.Tensor, steps: int) -> float:
    """The largest singular value of a linear map, or of the derivative of another at v = 0, from below."""
    norm = 0.0
    for _ in range(steps):
        v = (v / torch.linalg.vector_norm(v).clamp_min(1e-300)).detach().requires_grad_()
        with torch.enable_grad():
            y = function(v)
            norm = float(torch.linalg.vector_norm(y.detach()))
            if not math.isfinite(norm):
                raise FoveateError("a layer gives NaN or infinity: its weights are damaged")
            (v,) = torch.autograd.grad(y, v, y.detach())
    return norm


def _gain(norm: nn.Module) -> float:
    """max |gain| / sqrt(variance + eps) of a batch norm; 0 variance is what it is."""
    variance = norm.running_var
    assert isinstance(variance, torch.Tensor)
    own = getattr(norm, "weight", None)
    gain = own if isinstance(own, torch.Tensor) else torch.ones_like(variance)
    eps = float(getattr(norm, "eps", 1e-5))
    if gain.shape != variance.shape:
        return math.nan  # a norm that mixes channels: no factor a channel
    return float((gain.detach().abs() / (variance + eps).sqrt()).max())


def lipschitz_bound(model: nn.Module, x: torch.Tensor) -> float | None:
    """The product of the spectral norms where a network is a plain chain of linear layers, batch norms and activations
    that stretch nothing: no input can change the logits by more than this factor. None for any other network.
    """
    leaves = [m for m in model.modules() if not list(m.children())]
    chain = all(isinstance(m, nn.Sequential) for m in model.modules() if list(m.children()))
    if not chain or not all(stretches(m) or isinstance(m, CHAIN) for m in leaves):
        return None
    return math.prod(row.norm for row in spectral_norms(model, x))


def local_stretch(model: nn.Module, batches: Iterable[Batch], *, steps: int = 10) -> float:
    """The largest factor by which a small change of one of the pictures changes the logits: below any Lipschitz bound.

    The top singular value of the Jacobian of each picture, by power iteration; all pictures of a batch at once.
    """
    most = 0.0
    for x, _ in batches:
        generator = torch.Generator().manual_seed(0)
        v = torch.randn(x.shape, generator=generator).to(x)
        for _ in range(steps):
            v = v / v.flatten(1).norm(dim=1).clamp_min(1e-30).view(-1, *(1,) * (x.ndim - 1))
            with torch.enable_grad():
                z = x.detach().requires_grad_()
                logits = model(z)
                u = torch.zeros_like(logits, requires_grad=True)
                (pulled,) = torch.autograd.grad(logits, z, u, create_graph=True)
                (jv,) = torch.autograd.grad(pulled, u, v, retain_graph=True)
                (v,) = torch.autograd.grad(logits, z, jv)
        found = float(jv.detach().norm(dim=1).max())
        most = max(most, found) if math.isfinite(found) else math.nan
    if not math.isfinite(most):
        raise FoveateError("the derivative of the logits is NaN or infinite: the weights are damaged")
    return most


def check_pictures(x: torch.Tensor) -> None:
    """ConfigError for pictures that attacks can not move within 0 to 1."""
    if not len(x) or float(x.min()) < 0 or float(x.max()) > 1:
        raise ConfigError("attacks take pictures with values from 0 to 1, at least one")
