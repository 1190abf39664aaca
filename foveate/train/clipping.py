"""Adaptive gradient clipping, unit by unit. arXiv:2102.06171 section 4.1. Clipping by the global norm is PyTorch's."""

from collections.abc import Iterable

import torch


@torch.no_grad()
def clip_adaptive(params: Iterable[torch.Tensor], ratio: float, eps: float = 1e-3) -> None:
    """g_i <- g_i * ratio * max(||w_i||, eps) / ||g_i|| where ||g_i|| is larger than that, in place.

    i is a unit: what makes one output (a row of a linear weight, the kernel of one output channel); a vector or number
    (bias, gain) is one unit, also where it is written as (C, 1, 1, 1), as in the authors' code. eps lets weights that
    start at zero move. ratio, the paper's lambda: 0.01 at batch 4096, larger for smaller batches. The classifier is to
    be left out by the caller: the paper clips everything else.
    """
    chosen = [(p, p.grad) for p in params if p.grad is not None]
    if not chosen:
        return
    weights, grads = [unit_norm(p) for p, _ in chosen], [unit_norm(g) for _, g in chosen]
    torch._foreach_clamp_min_(weights, eps)
    torch._foreach_mul_(weights, ratio)
    torch._foreach_clamp_min_(grads, 1e-6)  # no division by zero
    torch._foreach_div_(weights, grads)
    torch._foreach_clamp_max_(weights, 1.0)
    for (_, g), factor in zip(chosen, weights, strict=True):
        g.mul_(factor)


def unit_norm(x: torch.Tensor) -> torch.Tensor:
    """The Euclidean norm of each unit: (c_out, ...) -> (c_out, 1, ...); a vector or number, whose sides but one are 1,
    -> ().
    """
    if sum(side > 1 for side in x.shape) < 2:
        return torch.linalg.vector_norm(x)
    return torch.linalg.vector_norm(x, dim=tuple(range(1, x.ndim)), keepdim=True)
