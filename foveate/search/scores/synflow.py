"""synflow: the strength of all paths through a network, in logarithms. arXiv:2006.05467 section 5."""

import math
from typing import Any

import torch
from torch import nn

from foveate.search.scores.copied import copied, norms, weights
from foveate.search.scores.signal import Signal

LEAST = -708.0  # the result for a network without a path: about the logarithm of the smallest float64


def synflow(model: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> float:
    """log of sum over weights of w dR/dw, R the sum of the outputs for a picture of ones, with |w| for every w.

    Norms are left out (their gains would cancel what is measured) and biases are 0, so R is a sum of products of
    weights, one product a path. It is computed in float64 with the size of every map kept apart (see Signal): no depth
    overflows, where float32 does at some 1e38. The result has the order of the plain sum.
    Activations count as the identity, which is what ReLU is to positive numbers; gates (sigmoids) are computed.
    Only the shape of the batch is used. Of the authors: one score a weight, for pruning; the sum over weights as the
    score of a net is from arXiv:2101.08134, where norms are left out likewise.
    """
    x = batch[0]
    net = copied(model).double()
    for norm in norms(net):
        norm.forward = passed
    held = weights(net)
    with torch.no_grad():
        for p in net.parameters():
            p.abs_()
        for module in net.modules():
            if isinstance(bias := getattr(module, "bias", None), torch.Tensor):
                bias.zero_()
    with torch.enable_grad():
        ones: Any = Signal(torch.ones(1, *x.shape[1:], dtype=torch.float64, device=x.device), 0.0)
        out: Signal = net(ones)
        total = out.values.sum()
        if float(total.detach()) == 0.0:
            return LEAST
        found = torch.autograd.grad(total, held, allow_unused=True)
    flow = math.fsum(float((w.detach() * g).sum()) for w, g in zip(held, found, strict=True) if g is not None)
    return max(LEAST, math.log(flow) + out.log) if flow > 0 else LEAST


def passed(x: Any) -> Any:
    """The norm that leaves its input as it is."""
    return x
