"""Activations. Each maker takes the number of channels; most ignore it."""

import math

import torch
from torch import nn

from foveate.errors import ConfigError

# For x from N(0, 1), GAMMA[act] * act(x) has variance 1 (arXiv:2101.08692). The constants of DeepMind's nfnets code,
# which were sampled: the exact one of ReLU is sqrt(2 / (1 - 1 / pi)) = 1.71286.
GAMMA = {
    "relu": 1.7139588594436646,
    "relu6": 1.7131484746932983,
    "leaky_relu": 1.70590341091156,
    "silu": 1.7881293296813965,
    "gelu": 1.7015043497085571,
    "gelu_tanh": 1.7015043497085571,
    "elu": 1.2716004848480225,
    "selu": 1.0008515119552612,
}


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


def elu(_: int, alpha: float = 1.0) -> nn.Module:
    """x where positive, alpha * (exp(x) - 1) elsewhere; smooth at 0 for alpha = 1 only. arXiv:1511.07289."""
    if not 0 < alpha < math.inf:
        raise ConfigError(f"elu(alpha={alpha}): must be positive and finite")
    return nn.ELU(alpha, inplace=True)


def selu(_: int) -> nn.Module:
    """1.0507 * elu(x, alpha=1.6733): keeps mean 0 and variance 1 of a Gaussian. arXiv:1706.02515."""
    return nn.SELU(inplace=True)


def silu(_: int) -> nn.Module:
    """x * sigmoid(x), also called swish. arXiv:1710.05941."""
    return nn.SiLU(inplace=True)


def gelu(_: int) -> nn.Module:
    """x * Phi(x). arXiv:1606.08415."""
    return nn.GELU()


def gelu_tanh(_: int) -> nn.Module:
    """The tanh approximation of gelu, off by 0.0005 at most: JAX's gelu unless told otherwise."""
    return nn.GELU(approximate="tanh")


def hard_swish(_: int) -> nn.Module:
    """x * relu6(x + 3) / 6. arXiv:1905.02244."""
    return nn.Hardswish(inplace=True)


def hard_sigmoid(_: int) -> nn.Module:
    """relu6(x + 3) / 6, from 0 to 1: rather a gate than an activation. arXiv:1905.02244."""
    return nn.Hardsigmoid(inplace=True)


class Scaled(nn.Module):
    """gamma * act(x)."""

    def __init__(self, act: nn.Module, gamma: float):
        super().__init__()
        self.act = act
        self.gamma = gamma

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # any shape -> same
        return self.act(x) * self.gamma

    def extra_repr(self) -> str:
        return f"gamma={self.gamma:g}"


def scaled(channels: int, act: str = "relu") -> nn.Module:
    """An activation times its constant GAMMA: variance 1 stays 1. For networks without norms, arXiv:2102.06171."""
    makers = {
        "relu": relu,
        "relu6": relu6,
        "leaky_relu": leaky_relu,
        "silu": silu,
        "gelu": gelu,
        "gelu_tanh": gelu_tanh,
        "elu": elu,
        "selu": selu,
    }
    if act not in makers:
        raise ConfigError(f'scaled(act="{act}"): act is one of {", ".join(makers)}')
    return Scaled(makers[act](channels), GAMMA[act])
