"""SGD with a fixed effective rate: kernels stay on the sphere that they begin on. arXiv:2209.03695."""

import math
from collections.abc import Callable
from typing import Any

import torch

from foveate.train.optimizers.slots import Groups, Ours, evaluate, gradients, moving, refuse
from foveate.train.recipe import Optim

RESTS = ("sgd", "frozen")


class SphereSgd(Ours):
    """w <- rho (w - elr rho^2 g) / |w - elr rho^2 g|, w all kernels but the classifier's as one vector, rho = |w| at
    the first step.

    elr does not follow the schedule: it is what is held fixed, and momentum and decay, which would blur it, are left
    out. rest: what moves gains, biases and the classifier: plain SGD at the group's rate, or nothing (the paper
    freezes the classifier and has norms without gains). Kernels are taken to be scale-invariant, as those in front of
    a norm are; others are held at their length all the same (foveate analyse --what sphere says which are).
    """

    def __init__(self, groups: Groups, *, lr: float, elr: float, rest: str):
        super().__init__(groups, {"lr": lr, "elr": elr, "rest": rest})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Evaluate the closure, where one is given, then turn the kernels and move the rest; returns the loss."""
        loss = evaluate(closure)
        kernels = [p for g in self.param_groups for p in g["params"] if on_sphere(p, g)]
        turned = moving({"params": kernels})
        if kernels and "radius" not in self.state[kernels[0]]:
            radius = length(kernels)
            for p in kernels:  # on each, so that a checkpoint holds it to the last bit
                self.state[p]["radius"] = radius
        for group in self.param_groups:
            if group["rest"] == "sgd":
                for params in moving({"params": [p for p in group["params"] if not on_sphere(p, group)]}):
                    torch._foreach_add_(params, gradients(params), alpha=-group["lr"])
        if turned:
            radius = float(self.state[kernels[0]]["radius"])
            for params in turned:
                torch._foreach_add_(params, gradients(params), alpha=-self.param_groups[0]["elr"] * radius * radius)
            torch._foreach_mul_(kernels, radius / length(kernels))
        return loss


def on_sphere(p: torch.Tensor, group: dict[str, Any]) -> bool:
    """Whether a tensor is a kernel of the backbone."""
    return p.ndim > 1 and not group["head"]


def length(tensors: list[torch.Tensor]) -> float:
    """Of tensors as one vector."""
    return math.sqrt(sum(float(n) ** 2 for n in torch._foreach_norm(tensors)))


def make_sphere_sgd(groups: Groups, optim: Optim, *, elr: float = 1e-3, rest: str = "sgd") -> torch.optim.Optimizer:
    """elr: effective rate, radians a step per unit of effective gradient; 1e-3 converges in most networks.

    Raises ConfigError for elr or rest out of range.
    """
    what = f'sphere_sgd(elr={elr}, rest="{rest}")'
    refuse(what, f"elr above 0 and finite, rest one of {', '.join(RESTS)}", 0 < elr < math.inf and rest in RESTS)
    return SphereSgd(groups, lr=optim.lr, elr=elr, rest=rest)
