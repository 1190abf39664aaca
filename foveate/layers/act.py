"""Activations. Each maker takes the number of channels; most ignore it."""

from torch import nn


def relu(_: int) -> nn.Module:
    """max(x, 0)."""
    return nn.ReLU(inplace=True)


def relu6(_: int) -> nn.Module:
    """min(max(x, 0), 6). EfficientNet-Lite, MobileNet."""
    return nn.ReLU6(inplace=True)


def leaky_relu(_: int, slope: float = 0.01) -> nn.Module:
    """x where positive, slope * x elsewhere."""
    return nn.LeakyReLU(slope, inplace=True)


def prelu(channels: int) -> nn.Module:
    """Leaky ReLU with one learned slope a channel, starting at 0.25. arXiv:1502.01852."""
    return nn.PReLU(channels)


def silu(_: int) -> nn.Module:
    """x * sigmoid(x), also called swish. arXiv:1710.05941."""
    return nn.SiLU(inplace=True)


def gelu(_: int) -> nn.Module:
    """x * Phi(x). arXiv:1606.08415."""
    return nn.GELU()


def hard_swish(_: int) -> nn.Module:
    """x * relu6(x + 3) / 6. arXiv:1905.02244."""
    return nn.Hardswish(inplace=True)
