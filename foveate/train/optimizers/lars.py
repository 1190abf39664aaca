"""LARS: SGD whose gradients are scaled a tensor to a share of the weight's norm. arXiv:1708.03888."""

from typing import Any

import torch

from foveate.train.optimizers.slots import Grouped, Groups, Tensors, gradients, pieces, refuse, slots
from foveate.train.recipe import Optim


class Lars(Grouped):
    """b <- momentum * b + r (g + decay * w), w <- w - lr * b; Nesterov: w <- w - lr * (r (...) + momentum * b).

    r = trust * ||w|| / (||g|| + decay * ||w|| + eps) of the tensor, 1 where ||w|| or ||g|| is 0. Groups of decay 0
    (norms, biases) are not scaled: r = 1, plain SGD, as is usual.
    clip: r is at most lr, divided by lr (LARC): the scaled rate of a tensor is never above lr.
    The paper puts lr into the buffer, here it multiplies it, as in PyTorch's SGD: the same while lr is constant.
    """

    def __init__(
        self, groups: Groups, *, lr: float, momentum: float, nesterov: bool, trust: float, eps: float, clip: bool
    ):
        options = {"momentum": momentum, "nesterov": nesterov, "trust": trust, "eps": eps, "clip": clip}
        super().__init__(groups, {"lr": lr, **options})

    def _move(self, group: dict[str, Any], params: Tensors) -> None:
        lr, momentum, decay, grads = group["lr"], group["momentum"], group["weight_decay"], gradients(params)
        buffers = slots(self, params, "momentum_buffer") if momentum else params
        scales = list(trust_ratios(params, grads, group).unbind()) if decay else params
        for p, g, b, r in pieces(params, grads, buffers, scales):
            if decay:
                g = [*torch._foreach_add(g, p, alpha=decay)]
                torch._foreach_mul_(g, r)
            if momentum:
                torch._foreach_mul_(b, momentum)
                torch._foreach_add_(b, g)
            if not momentum or group["nesterov"]:
                torch._foreach_add_(p, g, alpha=-lr)
            if momentum:
                torch._foreach_add_(p, b, alpha=-lr * momentum if group["nesterov"] else -lr)


def trust_ratios(params: Tensors, grads: Tensors, group: dict[str, Any]) -> torch.Tensor:
    """r of each tensor, (number of tensors,)."""
    w, g = torch.stack(torch._foreach_norm(params)), torch.stack(torch._foreach_norm(grads))
    ratios = group["trust"] * w / (g + group["weight_decay"] * w + group["eps"])
    ratios = torch.where((w > 0) & (g > 0), ratios, 1.0)
    return (ratios / group["lr"]).clamp(max=1.0) if group["clip"] and group["lr"] > 0 else ratios


def make_lars(
    groups: Groups, optim: Optim, *, trust: float = 1e-3, eps: float = 1e-8, clip: bool = False
) -> torch.optim.Optimizer:
    """LARS with optim's momentum and nesterov. Raises ConfigError for trust or eps out of range."""
    refuse(f"lars(trust={trust}, eps={eps})", "trust above 0, eps at least 0", trust > 0 and eps >= 0)
    nesterov = optim.nesterov and optim.momentum > 0
    return Lars(groups, lr=optim.lr, momentum=optim.momentum, nesterov=nesterov, trust=trust, eps=eps, clip=clip)
