"""A copy of a network for one score: norms see the statistics of the batch, nothing is dropped at random."""

import copy
import math

import torch
from torch import nn

WEIGHTED = (nn.modules.conv._ConvNd, nn.Linear)  # the layers that scores add up over


def copied(model: nn.Module) -> nn.Module:
    """The copy: float32 or what the model has, norms in training mode, all else (dropout, drop path) in evaluation."""
    out = copy.deepcopy(model)
    out.eval()
    for module in norms(out):
        module.training = True
    for p in out.parameters():
        p.requires_grad_(True)
        p.grad = None
    return out


def norms(model: nn.Module) -> list[nn.Module]:
    """Every layer that normalises: torch's batch, group and layer norms, and all that keep running statistics."""
    kinds = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)
    return [
        m
        for m in model.modules()
        if isinstance(m, kinds) or any(n.startswith("running_") for n, _ in m.named_buffers(recurse=False))
    ]


def weights(model: nn.Module) -> list[nn.Parameter]:
    """The weights of convolutions and linear layers; biases and gains are none."""
    return [m.weight for m in model.modules() if isinstance(m, WEIGHTED) and isinstance(m.weight, nn.Parameter)]


def log_of(value: torch.Tensor, least: float) -> float:
    """log(value), at least log(least)."""
    return math.log(max(float(value), least))
