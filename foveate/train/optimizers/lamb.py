"""LAMB: Adam's direction, scaled a tensor by the ratio of norms. arXiv:1904.00962."""

from typing import Any

import torch

from foveate.train.optimizers.slots import (
    Groups,
    Ours,
    Tensors,
    counted,
    gradients,
    pieces,
    portions,
    refuse,
    slots,
)
from foveate.train.recipe import Optim


class Lamb(Ours):
    """w <- w - lr * r * u, u = m^ / (sqrt(v^) + eps) + decay * w, r = ||w|| / ||u|| of the tensor (1 where one is 0).

    m <- b1 m + (1 - b1) g and v <- b2 v + (1 - b2) g^2, m^ = m / (1 - b1^t), v^ = v / (1 - b2^t) (Algorithm 2, with
    phi the identity). Groups of decay 0 (norms, biases) are not scaled: r = 1, plain Adam, as is usual.
    clip: r is at most 1. correct=False leaves the bias of m and v as it is, as later versions of the paper do.
    Unlike other implementations it does not clip the global gradient norm: that is Optim.clip_norm.
    """

    def __init__(self, groups: Groups, *, lr: float, betas: tuple[float, float], eps: float, clip: bool, correct: bool):
        super().__init__(groups, {"lr": lr, "betas": betas, "eps": eps, "clip": clip, "correct": correct})

    def _step_group(self, group: dict[str, Any]) -> None:
        for count, params in counted(self, group):
            for part in portions(params) if group["weight_decay"] else [params]:
                self._move(group, count, part)

    def _move(self, group: dict[str, Any], count: int, params: Tensors) -> None:
        (b1, b2), lr, decay = group["betas"], group["lr"], group["weight_decay"]
        correct = (1 - b1**count, 1 - b2**count) if group["correct"] else (1.0, 1.0)
        root = correct[1] ** 0.5
        scale = root / correct[0]  # m^ / (sqrt(v^) + eps) = scale * m / (sqrt(v) + eps * root)
        grads, firsts = gradients(params), slots(self, params, "exp_avg")
        seconds = slots(self, params, "exp_avg_sq")
        moves = [torch.empty_like(p) for p in params] if decay else params
        for p, g, m, v, u in pieces(params, grads, firsts, seconds, moves):
            torch._foreach_lerp_(m, g, 1 - b1)
            torch._foreach_mul_(v, b2)
            torch._foreach_addcmul_(v, g, g, value=1 - b2)
            below = torch._foreach_sqrt(v)
            torch._foreach_add_(below, group["eps"] * root)
            if not decay:
                torch._foreach_addcdiv_(p, m, below, value=-lr * scale)
                continue
            torch._foreach_copy_(u, m)
            torch._foreach_div_(u, below)
            torch._foreach_add_(u, p, alpha=decay / scale)  # the whole move is this times scale
        if decay:
            ratios = trust_ratios(params, moves, scale, group["clip"])
            torch._foreach_addcmul_(params, moves, list((ratios * (-lr * scale)).unbind()))


def trust_ratios(params: Tensors, moves: Tensors, scale: float = 1.0, clip: bool = False) -> torch.Tensor:
    """||w|| / ||scale * u|| of each pair, 1 where one of the norms is 0; (number of pairs,)."""
    w, u = torch.stack(torch._foreach_norm(params)), torch.stack(torch._foreach_norm(moves)) * scale
    ratios = torch.where((w > 0) & (u > 0), w / u, 1.0)
    return ratios.clamp(max=1.0) if clip else ratios


def make_lamb(
    groups: Groups, optim: Optim, *, eps: float = 1e-6, clip: bool = False, correct: bool = True
) -> torch.optim.Optimizer:
    """LAMB with b1 = optim.momentum and b2 = optim.beta2. Raises ConfigError for one of them at 1, or eps below 0."""
    what = f"lamb(eps={eps}) with optim.momentum = {optim.momentum}, optim.beta2 = {optim.beta2}"
    refuse(what, "momentum and beta2 below 1, eps at least 0", optim.momentum < 1 and optim.beta2 < 1 and eps >= 0)
    return Lamb(groups, lr=optim.lr, betas=(optim.momentum, optim.beta2), eps=eps, clip=clip, correct=correct)
