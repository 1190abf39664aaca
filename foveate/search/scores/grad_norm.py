"""grad_norm: how strong the gradient of one batch is. arXiv:2101.08134 section 3.1."""

import torch
import torch.nn.functional as F
from torch import nn

from foveate.search.scores.copied import copied, weights


def grad_norm(model: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> float:
    """sum over convolutions and linear layers of |dL/dW|_2, L the mean cross-entropy of the batch.

    Norms use the batch's statistics, as in the authors' code; dropout is off (there it is as the net has it). Every
    layer counts alike, so a deeper net has more. A layer that the loss does not reach counts 0.
    """
    x, labels = batch
    net = copied(model)
    held = weights(net)
    with torch.enable_grad():
        loss = F.cross_entropy(net(x), labels)
        found = torch.autograd.grad(loss, held, allow_unused=True)
    return sum(float(g.norm()) for g in found if g is not None)
