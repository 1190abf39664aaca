"""The two scores that need no batch, and that every other one has to beat."""

import torch
from torch import nn

from foveate.cost.count import cost


def macs(model: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> float:
    """Multiply-adds of one picture of the batch's size."""
    x, _ = batch
    return float(cost(model, resolution=x.shape[-1], in_chans=x.shape[1]).macs)


def params(model: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> float:
    """Learnable numbers."""
    return float(sum(p.numel() for p in model.parameters()))
