"""Schedule-free SGD and AdamW: a running average takes the place of the falling rate. arXiv:2405.15682."""

from typing import Any

import torch
from torch import nn

from foveate.train.optimizers.slots import Groups, Ours, Tensors, gradients, moving, pieces, refuse, slots
from foveate.train.recipe import Optim

CORRECTIONS = ("adam", "paper")


class ScheduleFree(Ours):
    """z <- z - lr d(y), x <- (1 - c) x + c z, y = (1 - beta) z + beta x. The parameters hold y, a slot z.

    d = g + decay * y for SGD; g / (sqrt(v^) + eps) + decay * y for AdamW, v <- b2 v + (1 - b2) g^2 and
    v^ = v / (1 - b2^t). correction="paper": v^ = v, and lr is multiplied by sqrt(1 - b2^t) (the authors' package left
    that form for Adam's, which is the steadier one).
    c = w_t / (w_1 + ... + w_t), w_t = t^power * (the largest lr so far)^2: warm-up counts little. lr is what the loop
    sets: warm-up, then constant. Rates are larger than usual: 10 to 50 times for SGD, 1 to 10 times for AdamW.
    x, where the network is evaluated and saved, is not kept but follows from y and z: average(). Its norm statistics
    have to be taken anew (train/statistics.py), for those of training are y's.
    """

    def __init__(
        self,
        groups: Groups,
        *,
        lr: float,
        beta: float,
        power: float,
        beta2: float | None = None,
        eps: float = 0.0,
        correction: str = "adam",
    ):
        options = {"beta": beta, "power": power, "beta2": beta2, "eps": eps, "correction": correction}
        super().__init__(groups, {"lr": lr, **options})

    def _step_group(self, group: dict[str, Any]) -> None:
        for alike in moving(group):
            parts: dict[tuple[int, float, float], Tensors] = {}
            for p in alike:
                parts.setdefault(self._count(group, p), []).append(p)
            for (count, rate, share), params in parts.items():
                self._move(group, params, count, rate, share)

    def _count(self, group: dict[str, Any], p: torch.Tensor) -> tuple[int, float, float]:
        """Steps of p with this one, its rate and the share c of the new z; the sums are slots of p."""
        state, rate = self.state[p], group["lr"]
        count = state["step"] = state.get("step", 0) + 1
        if group["beta2"] is not None and group["correction"] == "paper":
            rate = rate * (1 - group["beta2"] ** count) ** 0.5
        state["lr_max"] = max(rate, state.get("lr_max", 0.0))
        weight = count ** group["power"] * state["lr_max"] ** 2
        state["weight_sum"] = state.get("weight_sum", 0.0) + weight
        return count, rate, weight / state["weight_sum"] if weight else 0.0

    def _move(self, group: dict[str, Any], params: Tensors, count: int, rate: float, share: float) -> None:
        beta, beta2, decay = group["beta"], group["beta2"], group["weight_decay"]
        ends = slots(self, params, "z", start=None)
        squares = slots(self, params, "exp_avg_sq") if beta2 is not None else ends
        root = (1 - beta2**count) ** 0.5 if beta2 is not None and group["correction"] == "adam" else 1.0
        for y, d, z, v in pieces(params, gradients(params), ends, squares):
            if beta2 is not None:
                torch._foreach_mul_(v, beta2)
                torch._foreach_addcmul_(v, d, d, value=1 - beta2)
                below = torch._foreach_sqrt(v)
                torch._foreach_add_(below, group["eps"] * root)
                d = [*torch._foreach_div(d, below)]  # g / (sqrt(v^) + eps), over root
                if decay:
                    torch._foreach_add_(d, y, alpha=decay / root)
            elif decay:
                d = [*torch._foreach_add(d, y, alpha=decay)]
            # y = (1 - beta) z' + beta ((1 - c) x + c z') with z' = z - lr d, and x = (y - (1 - beta) z) / beta
            torch._foreach_lerp_(y, z, share)
            torch._foreach_add_(y, d, alpha=rate * root * (beta * (1 - share) - 1))
            torch._foreach_add_(z, d, alpha=-rate * root)

    @torch.no_grad()
    def average(self) -> dict[nn.Parameter, torch.Tensor]:
        """x of every parameter, new tensors: x = y + (y - z) (1 - beta) / beta. Before its first step, the start."""
        found = {}
        for group in self.param_groups:
            for p in group["params"]:
                z = self.state[p].get("z", p) if p in self.state else p
                found[p] = torch.lerp(p.detach(), z, 1 - 1 / group["beta"])
        return found


def make_schedule_free_sgd(groups: Groups, optim: Optim, *, power: float = 0.0) -> torch.optim.Optimizer:
    """Schedule-free SGD with beta = optim.momentum, which must lie between 0 and 1. power: of t in the average."""
    check("schedule_free_sgd", optim, power)
    return ScheduleFree(groups, lr=optim.lr, beta=optim.momentum, power=power)


def make_schedule_free_adamw(
    groups: Groups, optim: Optim, *, eps: float = 1e-8, power: float = 0.0, correction: str = "adam"
) -> torch.optim.Optimizer:
    """Schedule-free AdamW with beta = optim.momentum (between 0 and 1) and b2 = optim.beta2."""
    check("schedule_free_adamw", optim, power)
    what = f"schedule_free_adamw(eps={eps}) with optim.beta2 = {optim.beta2}"
    refuse(what, "eps at least 0, beta2 below 1", eps >= 0 and optim.beta2 < 1)
    refuse(f'correction="{correction}"', f"one of {', '.join(CORRECTIONS)}", correction in CORRECTIONS)
    options: dict[str, Any] = {"eps": eps, "power": power, "correction": correction}
    return ScheduleFree(groups, lr=optim.lr, beta=optim.momentum, beta2=optim.beta2, **options)


def check(name: str, optim: Optim, power: float) -> None:
    """ConfigError for settings that leave the method without its average.

    optim.momentum is beta: only y and z are stored and x = (y - (1 - beta) z) / beta, so 0 is refused; at 1 no
    gradient is taken off the average. power, of the step's number in the weights of the average, is at least 0.
    """
    given = f"{name}(power={power}) with optim.momentum = {optim.momentum}"
    refuse(given, "momentum between 0 and 1, both excluded; power at least 0", 0 < optim.momentum < 1 and power >= 0)
