"""RMSProp as TensorFlow writes it, the optimiser of MobileNet and EfficientNet (arXiv:1905.11946 section 5)."""

from typing import Any

import torch

from foveate.train.optimizers.slots import Grouped, Groups, Tensors, gradients, pieces, refuse, slots
from foveate.train.recipe import Optim

DECAYS = ("added", "decoupled", "corrected")


class RMSpropTF(Grouped):
    """s <- alpha s + (1 - alpha) g^2, b <- momentum b + lr g / sqrt(s + eps), w <- w - b.

    What differs from torch.optim.RMSprop: eps stands inside the root, s starts at one (not zero: the first steps are
    short), and the buffer holds steps, so that a change of the rate reaches them slowly. lr_inside=False: the buffer
    holds g / sqrt(s + eps) and lr multiplies it, as PyTorch does. centered: s less the square of the mean gradient.
    decay: "added" to the gradient (TensorFlow, PyTorch); "decoupled": w <- (1 - lr * decay) w first; "corrected": lr
    * decay * lr / peak (arXiv:2506.02285), peak the rate that the group came with.
    """

    def __init__(
        self,
        groups: Groups,
        *,
        lr: float,
        momentum: float,
        alpha: float,
        eps: float,
        centered: bool,
        decay: str,
        lr_inside: bool,
    ):
        options = {"momentum": momentum, "alpha": alpha, "eps": eps, "centered": centered, "lr_inside": lr_inside}
        super().__init__(groups, {"lr": lr, "decay": decay, **options})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """PyTorch's; the peak of a group is the rate that it comes with, or that of the optimiser times its factor."""
        peak = param_group.get("lr", self.defaults["lr"] * param_group.get("factor", 1.0))
        super().add_param_group({"peak": peak, **param_group})

    def _move(self, group: dict[str, Any], params: Tensors) -> None:
        lr, momentum, share = group["lr"], group["momentum"], 1 - group["alpha"]
        decay, form = group["weight_decay"], group["decay"]
        squares = slots(self, params, "square_avg", 1.0)
        means = slots(self, params, "grad_avg") if group["centered"] else squares
        buffers = slots(self, params, "momentum_buffer") if momentum else params
        for p, g, s, mean, b in pieces(params, gradients(params), squares, means, buffers):
            if decay and form == "added":
                g = [*torch._foreach_add(g, p, alpha=decay)]
            elif decay:
                torch._foreach_mul_(p, 1 - lr * decay * (lr / group["peak"] if form == "corrected" and lr else 1.0))
            torch._foreach_lerp_(s, torch._foreach_mul(g, g), share)
            if group["centered"]:
                torch._foreach_lerp_(mean, g, share)
                below = torch._foreach_addcmul(s, mean, mean, value=-1)
                torch._foreach_add_(below, group["eps"])
            else:
                below = torch._foreach_add(s, group["eps"])
            torch._foreach_sqrt_(below)
            if not momentum:
                torch._foreach_addcdiv_(p, g, below, value=-lr)
                continue
            torch._foreach_mul_(b, momentum)
            torch._foreach_addcdiv_(b, g, below, value=lr if group["lr_inside"] else 1.0)
            torch._foreach_add_(p, b, alpha=-1.0 if group["lr_inside"] else -lr)


def make_rmsprop_tf(
    groups: Groups,
    optim: Optim,
    *,
    alpha: float = 0.9,
    eps: float = 1e-10,
    centered: bool = False,
    decay: str = "added",
    lr_inside: bool = True,
) -> torch.optim.Optimizer:
    """RMSProp with optim's momentum (0: no buffer). EfficientNet: alpha 0.9, momentum 0.9, eps 1e-3.

    alpha: TensorFlow's default; MobileNetV3 and EfficientNet state 0.9, too. "corrected" takes optim.lr as the peak.
    Raises ConfigError for numbers out of range and an unknown decay.
    """
    what = f'rmsprop_tf(alpha={alpha}, eps={eps}, decay="{decay}")'
    refuse(what, "alpha from 0 to below 1, eps at least 0", 0 <= alpha < 1 and eps >= 0)
    refuse(what, f"decay is one of {', '.join(DECAYS)}", decay in DECAYS)
    options: dict[str, Any] = {"alpha": alpha, "eps": eps, "centered": centered, "decay": decay}
    return RMSpropTF(groups, lr=optim.lr, momentum=optim.momentum, lr_inside=lr_inside, **options)
