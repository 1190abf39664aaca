"""Where a network looks: class activation maps of the last feature map.

A = features (N, C, h, w), y = the logit of a class, g = dy / dA, Z = h * w.
cam         Z * sum_c g A where the head is linear on the mean of A: its mean and the bias are the logit, so it is exact
            (Zhou et al., arXiv:1512.04150)
hirescam    sum_c g A: the same but for the factor Z there, and faithful elsewhere too (arXiv:2011.08891)
gradcam     relu(sum_c mean(g) A) (arXiv:1610.02391)
gradcam++   relu(sum_c w A), w = sum_xy a relu(g), a = g^2 / (2 g^2 + g^3 sum_xy A), 0 where g = 0
            (arXiv:1710.11063)
layercam    relu(sum_c relu(g) A) (Jiang et al., 2021)
cam and hirescam are signed: what speaks against the class is negative.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

EXACT = 1e-3  # of the largest logit: how far the sum may be off where a head counts as linear on the mean


@dataclass(frozen=True)
class Heat:
    """values: float32 (N, h, w), one map a picture. logits: (N, K). exact: the mean of a map and offset are the logit.

    offset: (N,), the logit without any feature, where exact; else zeros.
    """

    values: torch.Tensor
    logits: torch.Tensor
    method: str
    exact: bool
    offset: torch.Tensor


def heat(model: nn.Module, x: torch.Tensor, classes: torch.Tensor | None = None, method: str = "auto") -> Heat:
    """The map of a class for each picture.

    x: normalised input (N, C, R, R). classes: int64 (N,); None: the most likely.

    method: a name of METHODS; "auto": cam where the head is linear on the mean, else gradcam++. The model is one of the
    zoo (forward_features and forward_head), in evaluation mode; its parameters get no gradients.
    """
    with torch.no_grad():
        features = model.forward_features(x)  # type: ignore[operator]  # every zoo module has it
    features = features.detach().requires_grad_(True)
    with torch.enable_grad():
        logits = model.forward_head(features)  # type: ignore[operator]
        classes = logits.argmax(1) if classes is None else classes
        own = logits.gather(1, classes[:, None])[:, 0]
        gradient = torch.autograd.grad(own.sum(), features)[0]
    activation, own = features.detach(), own.detach()
    with torch.no_grad():
        offset = model.forward_head(torch.zeros_like(activation)).gather(1, classes[:, None])[:, 0]  # type: ignore[operator]
    exact = is_linear_on_mean(activation, gradient, own, offset)
    if method == "auto":
        method = "cam" if exact else "gradcam++"
    if method == "cam" and not exact:
        method = "hirescam"
    values = METHODS[method](activation, gradient)
    return Heat(values, logits.detach(), method, exact, offset if exact else torch.zeros_like(offset))


def is_linear_on_mean(
    activation: torch.Tensor, gradient: torch.Tensor, own: torch.Tensor, offset: torch.Tensor
) -> bool:
    """Whether logits are linear in the mean over positions: equal gradients everywhere, and they explain the logit."""
    spread = (gradient - gradient.mean((2, 3), keepdim=True)).abs().amax()
    rest = ((gradient * activation).sum((1, 2, 3)) + offset - own).abs().amax()
    size = own.abs().amax().clamp_min(1e-6)
    return bool(spread <= EXACT * gradient.abs().amax() and rest <= EXACT * size)


def _cam(activation: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    return (gradient * activation).sum(1) * activation[0, 0].numel()


def _hirescam(activation: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    return (gradient * activation).sum(1)


def _gradcam(activation: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    return (gradient.mean((2, 3), keepdim=True) * activation).sum(1).relu()


def _gradcam_plus_plus(activation: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    square = gradient.square()
    below = 2 * square + activation.sum((2, 3), keepdim=True) * square * gradient
    share = torch.where(below != 0, square / torch.where(below != 0, below, torch.ones_like(below)), below)
    weight = (share * gradient.relu()).sum((2, 3), keepdim=True)
    return (weight * activation).sum(1).relu()


def _layercam(activation: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    return (gradient.relu() * activation).sum(1).relu()


METHODS: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "cam": _cam,
    "gradcam": _gradcam,
    "gradcam++": _gradcam_plus_plus,
    "hirescam": _hirescam,
    "layercam": _layercam,
}
