"""The deterministic fills behind the golden values, shared by the tests of the layers."""

import pytest
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


def noise(*shape, dtype=torch.float32):
    """Always the same."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)


def check_golden(y, first, squares):
    """The first three values, and the sum of all squares."""
    assert y.flatten()[:3].tolist() == pytest.approx(first, rel=1e-6)
    assert y.square().sum().item() == pytest.approx(squares, rel=1e-9)


def check_finite(norm, x):
    """The outputs, the gradients and the statistics of a training step."""
    x.requires_grad_()
    y = norm(x)
    (y * torch.randn(x.shape)).sum().backward()
    assert y.isfinite().all() and x.grad.isfinite().all()
    assert all(p.grad.isfinite().all() for p in norm.parameters())
    assert all(b.isfinite().all() for b in norm.buffers())


@torch.no_grad()
def check_alone(layer):
    """Pictures do not see each other in evaluation. layer: filled, of 8 channels."""
    layer, x = layer.float(), noise(3, 8, 5, 5)
    assert torch.allclose(layer(x)[1:2], layer(x[1:2]), atol=1e-6)


@torch.no_grad()
def check_precision(layer):
    """bfloat16 and channels-last stay near float32. layer: filled, of 8 channels."""
    layer, x = layer.float(), noise(3, 8, 5, 5)
    y = layer(x)
    assert torch.allclose(layer(x.contiguous(memory_format=torch.channels_last)), y, atol=1e-6)
    low = layer.bfloat16()(x.bfloat16())
    assert low.dtype == torch.bfloat16
    assert (low.float() - y).abs().max() < 0.02 * y.abs().max()
