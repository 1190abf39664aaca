"""The deterministic fills behind the golden values, shared by the tests of the layers."""

import torch


def fill(shape, scale=None):
    """Float64 in row-major order: inputs without scale, weights with."""
    i = torch.arange(torch.Size(shape).numel(), dtype=torch.float64)
    values = (0.37 * i).sin() + 0.3 * (1.7 * i).cos() if scale is None else scale * (0.1 * (i + 1)).sin()
    return values.reshape(shape)


def filled(layer):
    """Filled weights; batch norm in evaluation mode with gain 1, bias 0 and eps 1e-5."""
    layer = layer.double().eval()
    for name, p in layer.named_parameters():
        p.data = torch.full_like(p, name.endswith("weight")) if "bn" in name else fill(p.shape, 0.5)
    return layer
