"""Products of a loss's Hessian, and of its Gauss-Newton part, with a vector: neither matrix is ever written down.

H = d2 loss / d theta2, over all parameters that are trained, as one vector in the order of model.parameters().
G = J^T (d2 loss / d outputs2) J drops what the curvature of the network itself adds; it has no negative eigenvalues
where the loss is convex in the outputs. Schraudolph, Neural Computation 14 (2002), section 3.
"""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import nn

from foveate.analysis.lanczos import Product
from foveate.errors import ConfigError

Batch = tuple[torch.Tensor, torch.Tensor]  # pictures (N, C, H, W) as the network takes them, labels or rows of targets
Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # logits, targets -> their mean over the pictures
Maker = Callable[[nn.Module, Iterable[Batch], Loss], Product]


def trained(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that a Hessian is over. ConfigError where there are none, or of half precision."""
    params = [p for p in model.parameters() if p.requires_grad]
    if not params:
        raise ConfigError("no parameter is trained: there is no curvature to look at")
    if low := {str(p.dtype).removeprefix("torch.") for p in params if p.dtype not in (torch.float32, torch.float64)}:
        raise ConfigError(f"parameters in {', '.join(sorted(low))}: second derivatives need float32; use model.float()")
    return params


def flat(tensors: Sequence[torch.Tensor | None], like: Sequence[torch.Tensor]) -> torch.Tensor:
    """Tensors as one vector; None (the loss does not depend on it) is zeros."""
    pairs = zip(tensors, like, strict=True)
    return torch.cat([(torch.zeros_like(p) if t is None else t).reshape(-1) for t, p in pairs])


def parts(vector: torch.Tensor, like: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """One vector as tensors of the shapes of others."""
    split = vector.split([p.numel() for p in like])
    return [piece.view_as(p) for piece, p in zip(split, like, strict=True)]


def gradient(model: nn.Module, batches: Iterable[Batch], loss: Loss) -> torch.Tensor:
    """The gradient of the mean loss over all pictures, as one vector."""
    params, total, count = trained(model), None, 0
    for x, y in batches:
        g = flat(torch.autograd.grad(loss(model(x), y), params, allow_unused=True), params) * len(x)
        total, count = g if total is None else total + g, count + len(x)
    if total is None:
        raise ConfigError("no batch: give at least one")
    return total / count


def hessian(model: nn.Module, batches: Iterable[Batch], loss: Loss) -> Product:
    """v -> H v of the mean loss over all pictures of the batches, which are kept. Each counts by its pictures.

    The model stays in the mode that it is in: in training mode batch norm ties the pictures of a batch together, so
    that batches are not additive; in evaluation mode they are. Costs two to three gradients.
    """
    params, kept = trained(model), list(batches)

    def one(x: torch.Tensor, y: torch.Tensor, v: list[torch.Tensor]) -> torch.Tensor:
        grads = torch.autograd.grad(loss(model(x), y), params, create_graph=True, allow_unused=True)
        pairs = [(g, d) for g, d in zip(grads, v, strict=True) if g is not None and g.requires_grad]
        if not pairs:
            return torch.zeros_like(flat(v, params))
        slope = torch.stack([(g * d).sum() for g, d in pairs]).sum()
        return flat(torch.autograd.grad(slope, params, allow_unused=True), params)

    return _averaged(one, kept, params)


def gauss_newton(model: nn.Module, batches: Iterable[Batch], loss: Loss) -> Product:
    """v -> J^T H_out J v of the mean loss over all pictures: J the derivative of the outputs, H_out the loss's Hessian.

    J v comes from two backward passes: the derivative of J^T u by u, in the direction of v.
    """
    params, kept = trained(model), list(batches)

    def one(x: torch.Tensor, y: torch.Tensor, v: list[torch.Tensor]) -> torch.Tensor:
        outputs = model(x)
        u = torch.zeros_like(outputs, requires_grad=True)
        pulled = torch.autograd.grad(outputs, params, u, create_graph=True, allow_unused=True)
        pairs = [(g, d) for g, d in zip(pulled, v, strict=True) if g is not None]
        (jv,) = torch.autograd.grad([g for g, _ in pairs], u, [d for _, d in pairs], retain_graph=True)
        z = outputs.detach().requires_grad_()
        (slope,) = torch.autograd.grad(loss(z, y), z, create_graph=True)
        (hjv,) = torch.autograd.grad((slope * jv.detach()).sum(), z)
        return flat(torch.autograd.grad(outputs, params, hjv, allow_unused=True), params)

    return _averaged(one, kept, params)


def _averaged(
    one: Callable[[torch.Tensor, torch.Tensor, list[torch.Tensor]], torch.Tensor],
    batches: Sequence[Batch],
    params: Sequence[torch.Tensor],
) -> Product:
    """The product over several batches, each weighted by its pictures."""
    count = sum(len(x) for x, _ in batches)
    if not count:
        raise ConfigError("no batch: give at least one")

    def product(vector: torch.Tensor) -> torch.Tensor:
        v, total = parts(vector, params), torch.zeros_like(vector)
        for x, y in batches:
            total += one(x, y, v) * (len(x) / count)
        return total

    return product
